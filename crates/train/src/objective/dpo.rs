//! Learning from pairs of answers of which one is preferred (DPO; Rafailov et al. 2023, arXiv:2305.18290).

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::config::PreferenceConfig;
use super::{Objective, Order, Place, Taken, factors, total};
use crate::metrics::Metric;
use crate::ranks::Group;
use crate::run::RunError;
use crate::tokens::Tokens;
use crate::trainer::{Example, Trainer};

/// The log probabilities of both answers, the preferred one first.
type Both = [f64; 2];

/// Pairs that are read at a time.
const AT_ONCE: usize = 128;

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

/// What the model thinks of many pairs: every rank finds a part of it, and gets all.
fn measured(
    group: &Group<'_>,
    trainer: &mut Trainer,
    count: usize,
    examples: impl Fn(Range<usize>) -> Vec<Example>,
) -> Result<Vec<Both>, RunError> {
    let each = count.div_ceil(group.size());
    let own = group.rank() * each..count.min((group.rank() + 1) * each);
    let mut found: Vec<Both> = Vec::with_capacity(each);
    for first in own.clone().step_by(AT_ONCE) {
        let examples = examples(first..own.end.min(first + AT_ONCE));
        found.extend(both(&examples, &trainer.losses(&examples)?));
    }
    // All say as much; the last ranks may have less.
    found.resize(each, Both::default());
    let mut all = group.all_say_numbers(found.as_flattened())?.as_chunks().0.to_vec();
    all.truncate(count);
    Ok(all)
}

/// When a file or folder was last changed, and its length.
fn state_of(path: &std::path::Path) -> Json {
    let about = fs::metadata(path).ok();
    let changed = about.as_ref().and_then(|m| m.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    json!([about.map(|m| m.len()), changed.map(|d| d.as_nanos().to_string())])
}

/// Sums over pairs: losses, those that are in the right order, margins.
fn sums(pairs: &[factors::Pair]) -> [f64; 3] {
    pairs.iter().fold([0.0; 3], |[loss, right, margin], pair| {
        [loss + pair.loss, right + f64::from(u8::from(pair.margin > 0.0)), margin + pair.margin]
    })
}

fn metric(step: u64, held_out: bool, pairs: usize, sums: [f64; 3]) -> Metric {
    let [loss, accuracy, margin] = sums.map(|sum| sum / pairs.max(1) as f64);
    Metric::Pairs { step, held_out, loss, accuracy, margin, pairs }
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
        let known = known.filter(|known| known.from == from && fits(known));
        let group = place.shards.group;
        if !group.any(known.is_none())? {
            self.reference = known.unwrap_or_default();
            return Ok(());
        }
        let pairs = &self.train;
        let train = measured(group, trainer, pairs.count(), |some| pairs.examples(pairs.pairs[some].iter()))?;
        let held_out = measured(group, trainer, held_out.len() / 2, |some| {
            held_out[2 * some.start..2 * some.end].to_vec()
        })?;
        self.reference = Reference { from, train, held_out };
        if !group.writes() {
            return Ok(());
        }
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
        let beta = f64::from(self.config.beta);
        let (said, norm) = trainer.step_in_shards(place.shards, rate, |trainer, shard| {
            let some = &chosen[place.shards.rows(chosen.len(), shard)];
            let examples = self.train.examples(some.iter().map(|&i| &self.train.pairs[i]));
            let policy = both(&examples, &trainer.losses(&examples)?);
            let reference = some.iter().map(|&i| self.reference.train[i]);
            let pairs: Vec<_> =
                policy.into_iter().zip(reference).map(|(p, r)| factors::pair(p, r, beta)).collect();
            let mut all = Vec::new();
            for (i, example) in examples.iter().enumerate() {
                let factor = pairs[i / 2].factor / chosen.len() as f64;
                let factor = if i % 2 == 0 { factor } else { -factor } as f32;
                all.extend(example.predicted().map(|(_, learned)| if learned { factor } else { 0.0 }));
            }
            trainer.gather_weighted(&examples, &all)?;
            let [loss, right, margin] = sums(&pairs);
            Ok([loss, right, margin, examples.iter().map(Example::learned).sum::<usize>() as f64])
        })?;
        let [loss, right, margin, tokens] = total(&said);
        Ok(Taken {
            loss: Some((loss / chosen.len() as f64) as f32),
            norm: Some(norm),
            tokens: tokens as usize,
            epoch: self.order.epochs(step + 1, self.config.pairs),
            metric: Some(metric(step + 1, false, chosen.len(), [loss, right, margin])),
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
        let policy = both(&examples, &trainer.losses(&examples)?);
        let beta = f64::from(self.config.beta);
        let pairs = policy.into_iter().zip(&self.reference.held_out);
        let pairs: Vec<factors::Pair> = pairs.map(|(p, &r)| factors::pair(p, r, beta)).collect();
        let sums = sums(&pairs);
        Ok(Some((sums[0] / pairs.len() as f64, metric(step, true, pairs.len(), sums))))
    }
}
