//! Learning from pairs of answers of which one is preferred (DPO; Rafailov et al. 2023, arXiv:2305.18290).

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::config::PreferenceConfig;
use super::{Objective, Order, Place, Taken, factors, gather, losses};
use crate::metrics::Metric;
use crate::run::RunError;
use crate::tokens::Tokens;
use crate::trainer::{Example, TrainError, Trainer};

/// The log probabilities of both answers, the preferred one first.
type Both = [f64; 2];

/// Pairs of some files.
pub(super) struct Pairs {
    tokens: Tokens,
    pairs: Vec<[Range<usize>; 2]>,
    held_out: Vec<[Range<usize>; 2]>,
}

impl Pairs {
    /// The pairs of a set of documents that has both answers of each one after the other, cut off at so many tokens. A part
    /// of every file, from its end, is held out. Pairs of which nothing is left to compare are left out.
    pub(super) fn new(tokens: Tokens, context: usize, held_out: f64) -> Pairs {
        let documents: Vec<Range<usize>> =
            tokens.documents().into_iter().map(|d| d.start..d.end.min(d.start + context + 1)).collect();
        let (all, _) = documents.as_chunks::<2>();
        let (mut pairs, mut held) = (Vec::new(), Vec::new());
        let mut rest = all;
        for &count in &tokens.about().documents {
            let (file, later) = rest.split_at((count as usize / 2).min(rest.len()));
            rest = later;
            let kept = file.len() - (file.len() as f64 * held_out) as usize;
            for (i, pair) in file.iter().enumerate() {
                let learned = |range: &Range<usize>| tokens.example(range.clone()).learned();
                if pair.iter().all(|range| learned(range) > 0) {
                    if i < kept { pairs.push(pair.clone()) } else { held.push(pair.clone()) }
                }
            }
        }
        Pairs { tokens, pairs, held_out: held }
    }

    /// How many are learned from.
    pub(super) fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Both answers of pairs, one after the other.
    fn examples<'a>(&self, pairs: impl Iterator<Item = &'a [Range<usize>; 2]>) -> Vec<Example> {
        pairs.flatten().map(|range| self.tokens.example(range.clone())).collect()
    }
}

/// Pairs, and what the model that the run begins with thinks of them.
pub(super) struct Dpo {
    config: PreferenceConfig,
    train: Pairs,
    validation: Option<Pairs>,
    order: Order,
    reference: Reference,
}

/// Log probabilities under the model that the run begins with, computed once and kept in the run's folder.
#[derive(Default, Serialize, Deserialize)]
struct Reference {
    /// What they are of.
    from: Json,
    train: Vec<Both>,
    held_out: Vec<Both>,
}

impl Dpo {
    pub(super) fn new(config: &PreferenceConfig, train: Pairs, validation: Option<Pairs>, seed: u64) -> Dpo {
        let order = Order::new(train.count(), seed);
        Dpo { config: config.clone(), train, validation, order, reference: Reference::default() }
    }

    /// The pairs that are held out, at most so many tokens of them.
    fn held_out(&self, most: usize) -> Vec<Example> {
        let examples = match &self.validation {
            Some(pairs) => pairs.examples(pairs.pairs.iter()),
            None => self.train.examples(self.train.held_out.iter()),
        };
        let mut read = 0;
        let pairs = examples.chunks(2).take_while(|pair| {
            read += pair.iter().map(Example::read).sum::<usize>();
            read <= most
        });
        pairs.flatten().cloned().collect()
    }
}

/// The log probability of what is learned of each example, two by two.
fn both(examples: &[Example], losses: &[f32]) -> Vec<Both> {
    let mut rest = losses;
    let sums: Vec<f64> = examples
        .iter()
        .map(|example| {
            let own;
            (own, rest) = rest.split_at(example.read());
            let learned = own.iter().zip(example.predicted()).filter(|(_, (_, learned))| *learned);
            -learned.map(|(&loss, _)| f64::from(loss)).sum::<f64>()
        })
        .collect();
    sums.as_chunks::<2>().0.to_vec()
}

/// Losses of many pairs, some at a time.
fn measured(place: &Place<'_>, trainer: &mut Trainer, examples: &[Example]) -> Result<Vec<Both>, TrainError> {
    let mut all = Vec::with_capacity(examples.len() / 2);
    for some in examples.chunks(256) {
        all.extend(both(some, &losses(trainer, place.plan, some)?));
    }
    Ok(all)
}

/// When a file or folder was last changed, and its length.
fn state_of(path: &std::path::Path) -> Json {
    let about = fs::metadata(path).ok();
    let changed = about.as_ref().and_then(|m| m.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    json!([about.map(|m| m.len()), changed.map(|d| d.as_nanos().to_string())])
}

/// What a set of pairs comes to.
#[derive(Default)]
struct Sum {
    loss: f64,
    right: usize,
    margin: f64,
    pairs: usize,
}

impl Sum {
    fn of(pairs: &[factors::Pair]) -> Sum {
        let mut sum = Sum::default();
        for pair in pairs {
            sum.loss += pair.loss;
            sum.right += usize::from(pair.margin > 0.0);
            sum.margin += pair.margin;
            sum.pairs += 1;
        }
        sum
    }

    fn mean(&self, x: f64) -> f64 {
        x / self.pairs.max(1) as f64
    }

    fn metric(&self, step: u64, held_out: bool) -> Metric {
        let (loss, margin) = (self.mean(self.loss), self.mean(self.margin));
        let accuracy = self.mean(self.right as f64);
        Metric::Pairs { step, held_out, loss, accuracy, margin, pairs: self.pairs }
    }
}

impl Objective for Dpo {
    fn begin(&mut self, place: &Place<'_>, trainer: &mut Trainer) -> Result<(), RunError> {
        let held_out = self.held_out(place.config.evaluation.tokens);
        let hash = |pairs: &Pairs| pairs.tokens.about().hash.clone();
        let from = json!({
            "data": hash(&self.train), "validation": self.validation.as_ref().map(hash),
            "context": place.plan.context, "pairs": [self.train.count(), held_out.len() / 2],
            "precision": place.config.training.precision,
            "model": [&place.config.model.from, state_of(place.config.model.from.as_deref().unwrap_or("".as_ref()))],
        });
        let path: PathBuf = place.folder.join("data/reference.json");
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Reference>(&text).ok());
        let fits =
            |r: &Reference| r.train.len() == self.train.count() && r.held_out.len() == held_out.len() / 2;
        if let Some(known) = known.filter(|known| known.from == from && fits(known)) {
            self.reference = known;
            return Ok(());
        }
        let mut train = Vec::with_capacity(self.train.count());
        for pairs in self.train.pairs.chunks(128) {
            train.extend(measured(place, trainer, &self.train.examples(pairs.iter()))?);
        }
        let held_out = measured(place, trainer, &held_out)?;
        trainer.discard();
        self.reference = Reference { from, train, held_out };
        let text = serde_json::to_vec(&self.reference).unwrap_or_default();
        crate::files::write(&path, &text).map_err(|source| RunError::Io { path, source })
    }

    fn step(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
        rate: f32,
    ) -> Result<Taken, RunError> {
        let chosen = self.order.of(step, self.config.pairs);
        let examples = self.train.examples(chosen.iter().map(|&i| &self.train.pairs[i]));
        let policy = both(&examples, &losses(trainer, place.plan, &examples)?);
        let beta = f64::from(self.config.beta);
        let pairs: Vec<factors::Pair> = policy
            .iter()
            .zip(&chosen)
            .map(|(&policy, &i)| factors::pair(policy, self.reference.train[i], beta))
            .collect();
        let mut all = Vec::new();
        for (i, example) in examples.iter().enumerate() {
            let factor = pairs[i / 2].factor / pairs.len() as f64;
            let factor = if i % 2 == 0 { factor } else { -factor } as f32;
            all.extend(example.predicted().map(|(_, learned)| if learned { factor } else { 0.0 }));
        }
        gather(trainer, place.plan, &examples, &all)?;
        let norm = trainer.update(rate)?;
        let sum = Sum::of(&pairs);
        Ok(Taken {
            loss: Some(sum.mean(sum.loss) as f32),
            norm: Some(norm),
            tokens: examples.iter().map(Example::learned).sum(),
            epoch: self.order.epochs(step + 1, self.config.pairs),
            metric: Some(sum.metric(step + 1, false)),
        })
    }

    fn evaluate(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
    ) -> Result<Option<(f64, Metric)>, RunError> {
        let examples = self.held_out(place.config.evaluation.tokens);
        if examples.is_empty() {
            return Ok(None);
        }
        let policy = measured(place, trainer, &examples)?;
        trainer.discard();
        let beta = f64::from(self.config.beta);
        let pairs = policy.into_iter().zip(&self.reference.held_out);
        let pairs: Vec<factors::Pair> = pairs.map(|(p, &r)| factors::pair(p, r, beta)).collect();
        let sum = Sum::of(&pairs);
        Ok(Some((sum.mean(sum.loss), sum.metric(step, true))))
    }
}
