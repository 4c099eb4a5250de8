//! What a run of a row comes to: the ratio, the limit of the machine, and whether the bar holds.
//!
//! The limit is the roofline of the work (S. Williams, A. Waterman, D. Patterson, "Roofline", 2009): it takes at least its
//! operations over the 8-bit integer operations a second, and at least the bytes that it must read over the read
//! bandwidth. Both peaks are measured beside every round. That counts attention's floating-point operations as if they
//! were integer ones, so the true limit is lower.

use super::record::{Engine, Run, Spread};
use super::table::{Bar, Measure, Phase, Row};

/// The share of the machine, 0 to 1, that other programs may use in the middle turn, and in the worst.
const QUIET: [f64; 2] = [0.05, 0.1];
/// What marks a ratio that was measured on a busier machine, and what the mark means.
pub(super) const DISTURBED: [&str; 2] = [
    " †",
    "† Other programs used more than 5 % of the machine, or once more than 10 %: to be measured again.",
];

/// One measure of a row that was run.
pub(super) struct Verdict<'a> {
    pub(super) row: &'a Row,
    pub(super) measure: Measure,
    /// Tokens a second, or seconds.
    pub(super) own: Spread,
    pub(super) peer: Spread,
    /// How many times as fast as the peer.
    pub(super) ratio: f64,
    pub(super) limit: Option<Limit>,
    /// Other programs used so much of the machine that it is to be measured again.
    pub(super) disturbed: bool,
    /// Whether the bar holds; `None` without a bar, or where what it needs was not measured.
    pub(super) holds: Option<bool>,
}

/// What the machine allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    /// Tokens a second that it allows at most.
    pub(super) rate: f64,
    pub(super) bound: Bound,
    /// Operations, or bytes, a token.
    pub(super) per_token: f64,
    /// Operations, or bytes, a second.
    pub(super) peak: f64,
    /// The share of the read bandwidth, 0 to 1, that our median uses.
    pub(super) bandwidth_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Operations,
    Bytes,
}

impl Bound {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Bytes => "bytes",
        }
    }
}

impl<'a> Verdict<'a> {
    /// Of each measure of a row that the run has numbers for.
    pub(super) fn of_run(row: &'a Row, run: &Run) -> Vec<Self> {
        row.measures.iter().filter_map(|measure| Self::of(row, *measure, run)).collect()
    }

    fn of(row: &'a Row, measure: Measure, run: &Run) -> Option<Self> {
        let spread = |engine| {
            run.spread(engine, |turn| match measure.phase {
                Phase::Prefill => turn.prefill,
                Phase::Decode => turn.decode,
                Phase::FirstToken => turn.first_token,
            })
        };
        let (own, peer) = (spread(Engine::Autarky)?, spread(Engine::Peer)?);
        let ratio = match measure.phase {
            Phase::FirstToken => peer.median / own.median,
            Phase::Prefill | Phase::Decode => own.median / peer.median,
        };
        let limit = Limit::of(row, measure.phase, run, own.median);
        let holds = measure.bar.and_then(|bar| match bar {
            Bar::Times(times) => Some(ratio >= times),
            Bar::TimesAndBandwidth(times, share) => {
                limit.map(|limit| ratio >= times && limit.bandwidth_share >= share)
            }
            Bar::Seconds(seconds) => Some(own.median <= seconds),
        });
        let others = Spread::of(run.turns.iter().map(|turn| turn.others));
        let disturbed = others.is_some_and(|others| others.median > QUIET[0] || others.most > QUIET[1]);
        Some(Self { row, measure, own, peer, ratio, limit, disturbed, holds })
    }

    /// The ratio, with its mark.
    pub(super) fn ratio(&self) -> String {
        format!("{:.2}{}", self.ratio, if self.disturbed { DISTURBED[0] } else { "" })
    }

    /// Our share of the limit, 0 to 1.
    pub(super) fn share(&self) -> Option<f64> {
        self.limit.map(|limit| self.own.median / limit.rate)
    }

    /// Tokens a second that the bar wants, where it wants speed.
    fn wanted(&self) -> Option<f64> {
        match self.measure.bar? {
            Bar::Times(times) | Bar::TimesAndBandwidth(times, _) => Some(times * self.peer.median),
            Bar::Seconds(_) => None,
        }
    }

    /// What is measured and how it stands to the bar, in a sentence.
    pub(super) fn plainly(&self) -> String {
        let phase = self.measure.phase;
        let mut text = format!("{}, {}: ", self.row.work(phase), self.row.model.name());
        match self.measure.bar {
            Some(Bar::Seconds(seconds)) => {
                text += &format!("{} s, and the bar is {seconds} s", number(self.own.median));
            }
            bar => {
                text += &format!("{:.2} times as fast as {}", self.ratio, self.row.peer.name());
                if let Some(Bar::Times(times) | Bar::TimesAndBandwidth(times, _)) = bar {
                    text += &format!(", and the bar is {times}");
                }
            }
        }
        if let (Some(Bar::TimesAndBandwidth(_, share)), Some(limit)) = (self.measure.bar, self.limit) {
            let (used, bar) = (100.0 * limit.bandwidth_share, 100.0 * share);
            text += &format!("; {used:.0} % of the read bandwidth, and the bar is {bar:.0} %");
        }
        text
    }

    /// The numbers that say whether the bar is in reach of this machine.
    pub(super) fn reach(&self) -> Option<String> {
        let (limit, wanted) = (self.limit?, self.wanted()?);
        let (unit, scale) = match limit.bound {
            Bound::Operations => ("Tops/s", 1e12),
            Bound::Bytes => ("GB/s", 1e9),
        };
        let needed = number(wanted * limit.per_token / scale);
        let peak = number(limit.peak / scale);
        let times = limit.rate / self.peer.median;
        let verdict = if wanted > limit.rate { "**out of reach of this machine**" } else { "in reach" };
        Some(format!(
            "{verdict}: the bar is {} tokens/s, which takes {needed} {unit}; measured beside the rounds: {peak} {unit}, \
             or {} tokens/s at most, {times:.2} times {}",
            number(wanted),
            number(limit.rate),
            self.row.peer.name(),
        ))
    }
}

impl Limit {
    fn of(row: &Row, phase: Phase, run: &Run, own: f64) -> Option<Self> {
        let median =
            |of: fn(&super::record::Turn) -> Option<f64>| run.spread(Engine::Autarky, of).map(|s| s.median);
        let peak_ops = median(|t| t.peak_ops)?;
        let sequences = f64::from(row.sequences);
        let (ops, bytes, tokens) = match phase {
            Phase::Prefill => ("prefill_ops", "prefill_bytes", sequences * f64::from(row.prompt)),
            Phase::Decode => ("decode_step_ops", "decode_step_bytes", sequences),
            Phase::FirstToken => return None,
        };
        let (ops, bytes) = (run.autarky[ops].as_f64()? / tokens, run.autarky[bytes].as_f64()? / tokens);
        // Memory's speed changes between rounds on a shared machine, and ours with it: the share is each round's own.
        let tokens_a_byte = match phase {
            Phase::Prefill => median(|t| Some(t.prefill? / t.read_bandwidth?))?,
            _ => median(|t| Some(t.decode? / t.read_bandwidth?))?,
        };
        let bandwidth_share = tokens_a_byte * bytes;
        let (by_ops, by_bytes) = (peak_ops / ops, own / bandwidth_share);
        let bandwidth = by_bytes * bytes;
        Some(if by_ops < by_bytes {
            Self { rate: by_ops, bound: Bound::Operations, per_token: ops, peak: peak_ops, bandwidth_share }
        } else {
            Self { rate: by_bytes, bound: Bound::Bytes, per_token: bytes, peak: bandwidth, bandwidth_share }
        })
    }
}

/// A number with three digits or more.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::run;
    use super::super::table::Model;
    use super::*;

    fn row(phase: Phase, bar: Bar) -> Row {
        let measures = vec![Measure { phase, bar: Some(bar) }];
        Row { generate: 1, measures, ..Row::new("a", Model::Made("m", "Q4_0")) }
    }

    fn verdict<'a>(row: &'a Row, run: &Run) -> Verdict<'a> {
        Verdict::of_run(row, run).pop().expect("measured")
    }

    #[test]
    fn the_limit_is_the_scarcer_of_operations_and_bytes() {
        let run = run("a", [9.0, 11.0], [5.0, 5.0]);
        // 512 tokens take 1e12 operations at 1e12 a second, and 1e9 bytes at 50e9 a second.
        let prefill = row(Phase::Prefill, Bar::Times(1.0));
        let limit = verdict(&prefill, &run).limit.expect("peaks");
        assert_eq!((limit.bound, limit.rate.round()), (Bound::Operations, 512.0));
        // A step takes 1e9 of both.
        let decode = row(Phase::Decode, Bar::Times(1.0));
        let verdict = verdict(&decode, &run);
        let limit = verdict.limit.expect("peaks");
        assert_eq!((limit.bound, limit.rate.round()), (Bound::Bytes, 50.0));
        assert!((verdict.share().expect("a limit") - 0.2).abs() < 1e-9);
    }

    #[test]
    fn bars_hold_when_all_that_they_ask_for_is_reached() {
        // 40 tokens/s are 80 % of what the read bandwidth allows, and twice the peer.
        let run = run("a", [40.0, 40.0], [20.0, 20.0]);
        for (phase, bar, holds) in [
            (Phase::Decode, Bar::Times(2.0), true),
            (Phase::Decode, Bar::Times(2.01), false),
            (Phase::Decode, Bar::TimesAndBandwidth(2.0, 0.79), true),
            (Phase::Decode, Bar::TimesAndBandwidth(2.0, 0.9), false),
            (Phase::Decode, Bar::TimesAndBandwidth(2.1, 0.5), false),
            (Phase::FirstToken, Bar::Seconds(0.03), true),
            (Phase::FirstToken, Bar::Seconds(0.02), false),
        ] {
            assert_eq!(verdict(&row(phase, bar), &run).holds, Some(holds), "{phase:?} {bar:?}");
        }
    }

    #[test]
    fn without_peaks_a_bar_on_bandwidth_is_not_judged() {
        let mut run = run("a", [40.0, 40.0], [20.0, 20.0]);
        run.turns.iter_mut().for_each(|turn| turn.read_bandwidth = None);
        let row = row(Phase::Decode, Bar::TimesAndBandwidth(1.0, 0.5));
        assert_eq!(verdict(&row, &run).holds, None);
    }

    #[test]
    fn a_bar_above_the_limit_is_shown_to_be_so_in_numbers() {
        let run = run("a", [40.0, 40.0], [20.0, 20.0]);
        let far = row(Phase::Decode, Bar::Times(4.0));
        let reach = verdict(&far, &run).reach().expect("peaks");
        for part in ["out of reach", "80.0 tokens/s", "takes 80.0 GB/s", "50.0 GB/s", "2.50 times llama.cpp"]
        {
            assert!(reach.contains(part), "{part} is not in: {reach}");
        }
        let near = row(Phase::Decode, Bar::Times(2.2));
        assert!(verdict(&near, &run).reach().expect("peaks").starts_with("in reach"));
    }

    #[test]
    fn a_ratio_from_a_busy_machine_is_marked() {
        let mut run = run("a", [40.0, 40.0], [20.0, 20.0]);
        let row = row(Phase::Decode, Bar::Times(1.0));
        assert_eq!(verdict(&row, &run).ratio(), "2.00");
        run.turns[1].others = 0.11;
        assert_eq!(verdict(&row, &run).ratio(), "2.00 †");
        run.turns.iter_mut().for_each(|turn| turn.others = 0.06);
        assert_eq!(verdict(&row, &run).ratio(), "2.00 †");
    }

    #[test]
    fn less_time_to_the_first_token_is_faster() {
        let row = row(Phase::FirstToken, Bar::Seconds(1.0));
        assert_eq!(verdict(&row, &run("a", [4.0, 4.0], [2.0, 2.0])).ratio, 2.0);
    }
}
