//! A small part beside a model that is trained in its stead: low-rank updates of its products, and lengths of their rows.

use std::sync::Arc;

use autarky_graph::adapt::{self, DOWN, MAGNITUDE, UP, adapted, row_norms, stretch};
use autarky_graph::conformance::Rng;
use autarky_graph::{Graph, Tensor, WeightError, WeightSpec, Weights};

use crate::config::AdapterConfig;
use crate::initial::seed_of;
use crate::parallel;

/// The updates beside a model, and the model that they are beside.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What they are.
    pub config: AdapterConfig,
    /// What the model computes without them.
    pub base: Arc<Graph>,
    /// What it computes with them.
    pub graph: Arc<Graph>,
    seed: u64,
}

/// Whether a weight is of an update.
pub fn is_update(spec: &WeightSpec) -> bool {
    [DOWN, UP, MAGNITUDE].iter().any(|end| spec.name.ends_with(end))
}

impl Adapter {
    /// Updates beside the products of a model.
    ///
    /// # Errors
    /// The targets that the model has, where it has none of those that are asked for.
    pub fn new(config: &AdapterConfig, base: Arc<Graph>, seed: u64) -> Result<Adapter, String> {
        // `blk.3.attn_q.weight` is an `attn_q`.
        let stem = |spec: &WeightSpec| {
            let rest = spec.name.strip_prefix("blk.")?.split_once('.')?.1;
            rest.strip_suffix(".weight").map(str::to_owned)
        };
        let wanted = |spec: &WeightSpec| {
            stem(spec).is_some_and(|stem| config.targets.as_ref().is_none_or(|t| t.contains(&stem)))
        };
        let updates = adapt::Updates { rank: config.rank, scale: config.scale(), dora: config.dora };
        let graph = Arc::new(adapted(&base, wanted, updates));
        if graph.weights().len() == base.weights().len() {
            let every = adapted(&base, |spec| stem(spec).is_some(), updates);
            let mut known: Vec<String> = every
                .weights()
                .iter()
                .filter_map(|spec| {
                    spec.name.strip_suffix(&format!(".weight{DOWN}"))?.rsplit('.').next().map(str::to_owned)
                })
                .collect();
            known.sort_unstable();
            known.dedup();
            return Err(known.join(", "));
        }
        Ok(Adapter { config: config.clone(), base, graph, seed })
    }

    /// The weights that training begins with: those of the model, and updates that change nothing yet. A is even within
    /// 1 / √in, B is 0, and magnitudes are the norms of the model's rows, as in PEFT.
    pub fn initial<'a>(&'a self, model: &'a dyn Weights) -> impl Weights + 'a {
        Overlay { over: InitialUpdates { adapter: self, model }, under: model }
    }

    /// The weights of the model with the updates in them.
    pub fn merged<'a>(&'a self, model: &'a dyn Weights, updates: &'a dyn Weights) -> impl Weights + 'a {
        Merged { adapter: self, model, updates }
    }
}

struct InitialUpdates<'a> {
    adapter: &'a Adapter,
    model: &'a dyn Weights,
}

impl Weights for InitialUpdates<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let found = self.adapter.graph.weights().iter().find(|spec| spec.name == name && is_update(spec));
        let spec = found.ok_or_else(|| missing(name))?;
        if let Some(weight) = name.strip_suffix(MAGNITUDE) {
            let tensor = self.model.get(weight)?;
            let (rows, width) = (tensor.shape[0], tensor.shape[1]);
            let norms = row_norms(&tensor, weight, (&vec![0.0; width], &vec![0.0; rows]), 1.0)?;
            return Ok(Tensor::of_f32(&spec.shape, &norms));
        }
        let n: usize = spec.shape.iter().product();
        let numbers = if name.ends_with(UP) {
            vec![0.0; n]
        } else {
            let bound = 1.0 / (spec.shape[1] as f32).sqrt();
            let mut rng = Rng::new(seed_of(name, self.adapter.seed));
            (0..n).map(|_| bound * (2.0 * rng.uniform() - 1.0)).collect()
        };
        Ok(Tensor::of_f32(&spec.shape, &numbers))
    }
}

fn missing(name: &str) -> WeightError {
    WeightError::Missing { name: name.to_owned(), hint: "it is not a weight of an adapter".to_owned() }
}

/// Weights of which some take the place of others.
pub struct Overlay<'a, O> {
    /// Those that are asked first.
    pub over: O,
    /// Those that have the rest.
    pub under: &'a dyn Weights,
}

impl<O: Weights> Weights for Overlay<'_, O> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        match self.over.get(name) {
            Err(WeightError::Missing { .. }) => self.under.get(name),
            other => other,
        }
    }

    fn release(&self, name: &str) {
        self.under.release(name);
    }
}

struct Merged<'a> {
    adapter: &'a Adapter,
    model: &'a dyn Weights,
    updates: &'a dyn Weights,
}

impl Weights for Merged<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let [down, up] = [DOWN, UP].map(|end| format!("{name}{end}"));
        let tensor = self.model.get(name)?;
        if !self.adapter.graph.weights().iter().any(|spec| spec.name == down) {
            return Ok(tensor);
        }
        let (shape, mut numbers) = (tensor.shape.clone(), tensor.to_f32(name)?);
        let a = self.updates.get(&down)?.to_f32(&down)?;
        let b = self.updates.get(&up)?.to_f32(&up)?;
        let config = &self.adapter.config;
        let (width, rank, scale) = (shape[1], config.rank, config.scale());
        let lengths = match config.dora {
            true => {
                let magnitude = format!("{name}{MAGNITUDE}");
                let magnitudes = self.updates.get(&magnitude)?.to_f32(&magnitude)?;
                let norms = row_norms(&tensor, name, (&a, &b), scale)?;
                magnitudes.iter().zip(&norms).map(|(&m, &norm)| stretch(m, norm)).collect()
            }
            false => vec![1.0; shape[0]],
        };
        let rows = numbers.chunks_mut(width).zip(b.chunks(rank)).zip(&lengths).collect();
        parallel::for_each(rows, |((row, b), length): ((&mut [f32], &[f32]), &f32)| {
            for (b, a) in b.iter().zip(a.chunks(width)) {
                row.iter_mut().zip(a).for_each(|(w, a)| *w += scale * b * a);
            }
            row.iter_mut().for_each(|w| *w *= length);
        });
        Ok(Tensor::of_f32(&shape, &numbers))
    }

    fn release(&self, name: &str) {
        self.model.release(name);
    }
}
