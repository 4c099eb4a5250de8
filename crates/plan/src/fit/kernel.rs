//! How much two jobs have in common.

use serde::{Deserialize, Serialize};

use super::sample::{Labels, Sample};

/// The scales of the covariance of two jobs' corrections. Amplitudes are standard deviations of the logarithm.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Mean and spread of each feature over the runs that were fitted.
    pub center: Vec<(f64, f64)>,
    /// Logarithm of the sharpness of each feature.
    pub sharpness: Vec<f64>,
    /// Logarithms of the parts' amplitudes, in the order in which `covariance` adds them.
    pub amplitudes: Vec<f64>,
    /// Logits of how much jobs have in common that differ in a label, where sizes matter by label.
    pub mixing: Vec<f64>,
    /// Logarithms of how much each efficiency varies: everywhere, by chip, by software, by chip and format.
    pub everywhere: Vec<f64>,
    /// By chip.
    pub by_chip: Vec<f64>,
    /// By software.
    pub by_stack: Vec<f64>,
    /// By chip and format.
    pub by_format: Vec<f64>,
    /// Logarithm of the spread of one run about its kind.
    pub noise: f64,
}

/// What is expected of a kernel before its scales are searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scales {
    /// Standard deviation of each part.
    pub(crate) spread: f64,
    /// How much efficiencies vary, against what is expected of each.
    pub(crate) slopes: f64,
    /// Sharpness of features in units of their spread.
    pub(crate) sharpness: f64,
    /// Standard deviation of a run about its kind.
    pub(crate) noise: f64,
}

/// How many amplitudes there are.
const PARTS: usize = 13;
/// How many mixing logits there are.
const MIXES: usize = 8;

impl Kernel {
    /// Where a search starts.
    pub(crate) fn start(features: &[Vec<f64>], spreads: &[f64], scales: Scales) -> Kernel {
        let Scales { spread, slopes, sharpness, noise } = scales;
        let width = features.first().map_or(0, Vec::len);
        let n = features.len().max(1) as f64;
        let center = (0..width)
            .map(|k| {
                let values = || features.iter().filter_map(|f| f.get(k));
                let mean = values().sum::<f64>() / n;
                let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                (mean, variance.sqrt().max(1e-6))
            })
            .collect();
        let vary = |share: f64| spreads.iter().map(|s| (s * share * slopes).ln()).collect();
        Kernel {
            center,
            sharpness: vec![sharpness.ln(); width],
            amplitudes: vec![spread.ln(); PARTS],
            mixing: vec![-1.0; MIXES],
            everywhere: vary(0.6),
            by_chip: vary(1.0),
            by_stack: vary(1.0),
            by_format: vary(0.6),
            noise: noise.ln(),
        }
    }

    /// The scales as they are multiplied with.
    pub(crate) fn ready(&self) -> Ready {
        let squares = |logs: &[f64]| logs.iter().map(|l| (2.0 * l).exp()).collect::<Vec<_>>();
        let mut amplitude = [0.0; PARTS];
        for (a, l) in amplitude.iter_mut().zip(&self.amplitudes) {
            *a = (2.0 * l).exp();
        }
        let mut mix = [0.0; MIXES];
        for (m, l) in mix.iter_mut().zip(&self.mixing) {
            *m = 1.0 / (1.0 + (-l).exp());
        }
        Ready {
            center: self.center.clone(),
            sharpness: self.sharpness.iter().map(|l| l.exp()).collect(),
            amplitude,
            mix,
            everywhere: squares(&self.everywhere),
            by_chip: squares(&self.by_chip),
            by_stack: squares(&self.by_stack),
            by_format: squares(&self.by_format),
            noise: (2.0 * self.noise).exp(),
        }
    }

    /// How far the scales are from `other`'s: the sum of squares of logarithms.
    pub(crate) fn distance(&self, other: &Kernel) -> f64 {
        let (mut a, mut b) = (self.clone(), other.clone());
        let pairs = a.groups().into_iter().zip(b.groups()).map(|(x, y)| (x.to_vec(), y.to_vec()));
        pairs.flat_map(|(x, y)| x.into_iter().zip(y)).map(|(x, y)| (x - y) * (x - y)).sum()
    }

    /// All scales that a search may move, by group.
    pub(crate) fn groups(&mut self) -> [&mut [f64]; 8] {
        [
            &mut self.sharpness,
            &mut self.amplitudes,
            &mut self.mixing,
            &mut self.everywhere,
            &mut self.by_chip,
            &mut self.by_stack,
            &mut self.by_format,
            std::slice::from_mut(&mut self.noise),
        ]
    }
}

/// A kernel with its exponentials taken.
pub(crate) struct Ready {
    center: Vec<(f64, f64)>,
    sharpness: Vec<f64>,
    amplitude: [f64; PARTS],
    mix: [f64; MIXES],
    everywhere: Vec<f64>,
    by_chip: Vec<f64>,
    by_stack: Vec<f64>,
    by_format: Vec<f64>,
    /// Variance of one run.
    pub(crate) noise: f64,
}

/// How alike two chips are: 1 for the same, less for those of one vendor, class and software.
fn chip_likeness(a: &Labels, b: &Labels) -> f64 {
    if a.chip == b.chip {
        return 1.0;
    }
    let vendor = a.vendor == b.vendor;
    let class = a.class == b.class;
    let software = vendor && class && a.software == b.software;
    0.35 * f64::from(u8::from(vendor))
        + 0.2 * f64::from(u8::from(class))
        + 0.2 * f64::from(u8::from(software))
}

impl Ready {
    /// A sample's features in units of their spread and sharpness.
    pub(crate) fn place(&self, sample: &Sample) -> Vec<f64> {
        let scales = self.center.iter().zip(&self.sharpness);
        sample.features.iter().zip(scales).map(|(f, ((mean, spread), s))| (f - mean) / spread * s).collect()
    }

    /// The covariance of two corrections. `at_a` and `at_b` are the samples' places.
    pub(crate) fn covariance(&self, a: &Sample, at_a: &[f64], b: &Sample, at_b: &[f64]) -> f64 {
        let (la, lb) = (&a.labels, &b.labels);
        let same = |x: u64, y: u64| f64::from(u8::from(x == y));
        let chip = chip_likeness(la, lb);
        let stack = same(la.stack, lb.stack);
        let model = same(la.model, lb.model);
        let format = same(la.format, lb.format);
        let kind = same(la.kind, lb.kind);
        let client = same(la.client, lb.client);
        let [
            one,
            by_chip,
            by_stack,
            chip_stack,
            manner,
            manner_stack,
            by_model,
            format_chip,
            model_chip,
            near,
            near_alike,
            close,
            close_stack,
        ] = self.amplitude;
        let [m0, m1, m2, m3, m4, m5, m6, m7] = self.mix;
        let mix = |s: f64, w: f64| w + (1.0 - w) * s;
        // Prompts, answers and serving deviate each in its own way, and a little alike.
        let mut sum = mix(kind, m2) * (one + by_chip * chip + by_stack * stack + chip_stack * chip * stack)
            + kind * client * (manner + manner_stack * stack)
            + by_model * model
            + format * chip * (format_chip + model_chip * model);
        let distance: f64 = at_a.iter().zip(at_b).map(|(x, y)| (x - y) * (x - y)).sum();
        let r = (-0.5 * distance).exp();
        sum += r
            * (near
                + near_alike
                    * mix(chip, m0)
                    * mix(stack, m1)
                    * mix(kind, m2)
                    * mix(client, m3)
                    * mix(format, m7));
        sum += kind
            * r
            * r
            * r
            * r
            * mix(chip, m4)
            * mix(model, m6)
            * (close * mix(stack, m5) + close_stack * stack);
        let slopes = a.slopes.iter().zip(&b.slopes);
        let vary = self.everywhere.iter().zip(&self.by_chip).zip(&self.by_stack).zip(&self.by_format);
        sum + slopes
            .zip(vary)
            .map(|((x, y), (((e, c), s), f))| x * y * (e + c * chip + s * stack + f * format * chip))
            .sum::<f64>()
    }
}
