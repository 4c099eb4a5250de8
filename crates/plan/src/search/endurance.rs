//! Long runs: failures, and how often to write checkpoints.

/// Where the default mean time between failures is from.
pub const MTBF_SOURCE: &str = "Llama 3 (arXiv:2407.21783, section 3.3.4): 419 unexpected interruptions of 16,384 H100 in 54 days, 50,677 hours a chip";

/// What is known of failures and of the storage that checkpoints go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reliability {
    /// Mean hours between failures that stop the run, a chip ([`MTBF_SOURCE`]).
    pub mtbf_hours: f64,
    /// Bytes/s of storage, a chip. Default: 2·10¹² bytes/s for 16,384 chips (arXiv:2407.21783, section 3.3.1).
    pub storage_bytes_per_s: f64,
    /// Seconds from a failure until the run goes on from its checkpoint. Default: 10 minutes.
    pub restart_s: f64,
    /// Bytes of checkpoint a weight. Default: 14, weights in half precision, FP32 weights and Adam's moments.
    pub bytes_per_weight: f64,
}

impl Default for Reliability {
    fn default() -> Reliability {
        Reliability {
            mtbf_hours: 16_384.0 * 54.0 * 24.0 / 419.0,
            storage_bytes_per_s: 2e12 / 16_384.0,
            restart_s: 600.0,
            bytes_per_weight: 14.0,
        }
    }
}

/// A long run with its failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Endurance {
    /// Mean seconds between failures of the whole run.
    pub mtbf_s: f64,
    /// Seconds to write a checkpoint.
    pub checkpoint_s: f64,
    /// Seconds of work between two checkpoints.
    pub interval_s: f64,
    /// Failures that are to be expected.
    pub failures: f64,
    /// Expected seconds from start to end.
    pub wall_s: f64,
    /// Work as a share of that.
    pub goodput: f64,
}

impl Reliability {
    /// A run of `work_s` seconds of computing on `chips` chips, of a model of `weights` weights, that stops computing
    /// while a checkpoint is written.
    ///
    /// The interval is Young's and Daly's optimum, sqrt(2 δ M) - δ, and the expected time Daly's
    /// M e^(R/M) (e^((τ+δ)/M) - 1) T/τ (J. T. Daly, A higher order estimate of the optimum checkpoint interval, FGCS 22,
    /// 2006, equations 9 and 20), with δ a checkpoint's time, M the time between failures, R that of a restart.
    pub fn run(&self, work_s: f64, chips: f64, weights: f64) -> Endurance {
        let mtbf = self.mtbf_hours * 3600.0 / chips.max(1.0);
        let delta = weights * self.bytes_per_weight / (self.storage_bytes_per_s * chips.max(1.0));
        let optimum = if delta < mtbf / 2.0 { (2.0 * delta * mtbf).sqrt() - delta } else { mtbf };
        // A run shorter than its interval writes one checkpoint, at its end.
        let interval = optimum.max(1.0).min(work_s.max(1.0));
        let rounds = work_s / interval;
        let wall = mtbf * (self.restart_s / mtbf).exp() * ((interval + delta) / mtbf).exp_m1() * rounds;
        Endurance {
            mtbf_s: mtbf,
            checkpoint_s: delta,
            interval_s: interval,
            failures: wall / mtbf,
            wall_s: wall,
            goodput: work_s / wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_best_near_the_optimum() {
        let r = Reliability::default();
        let run = r.run(30.0 * 86400.0, 16_384.0, 405e9);
        // Llama 3 405B: more than 90 % of the time was training, in 54 days with 419 interruptions.
        assert!((0.85..0.99).contains(&run.goodput), "{run:?}");
        assert!((run.failures / (run.wall_s / 86400.0) - 419.0 / 54.0).abs() < 0.1, "{run:?}");
        let by = |interval: f64| {
            let delta = run.checkpoint_s;
            let wall = ((interval + delta) / run.mtbf_s).exp_m1() / interval;
            1.0 / wall
        };
        assert!(
            by(run.interval_s) > by(run.interval_s * 1.3) && by(run.interval_s) > by(run.interval_s / 1.3)
        );
    }

    #[test]
    fn one_chip_for_an_hour_hardly_fails() {
        let run = Reliability::default().run(3600.0, 1.0, 1e9);
        assert!(run.goodput > 0.9 && run.failures < 1e-3, "{run:?}");
        let hopeless = Reliability { mtbf_hours: 1.0, ..Reliability::default() }.run(1e6, 1e5, 1e12);
        assert!(hopeless.goodput < 0.01);
    }
}
