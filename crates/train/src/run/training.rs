//! The steps of a run whose data and model are there: from the latest checkpoint to the result.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::{Event, Run, RunError, Summary};
use crate::adapter::{Overlay, is_update};
use crate::batches::{Batches, Rows};
use crate::checkpoint::{self, Position};
use crate::export;
use crate::metrics::{Metric, Metrics};
use crate::objective::{Objective, Place, Taken};
use crate::plan::RunPlan;
use crate::ranks::Shards;
use crate::sample;
use crate::step::parts;
use crate::subject::Subject;
use crate::trainer::{Example, TrainError, Trainer, TrainerOptions};

/// So many steps in a row without a number end the run.
const MOST_DROPPED: u32 = 10;

/// A run whose data and model are there.
pub(super) struct Training<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) shards: Shards<'a>,
    pub(super) subject: &'a Subject,
    pub(super) plan: &'a RunPlan,
    pub(super) validation: Vec<Example>,
    pub(super) objective: Option<Box<dyn Objective>>,
    pub(super) metrics: Option<Metrics>,
}

impl<'a> Training<'a> {
    pub(super) fn go(
        &mut self,
        rows: Option<&Rows<'_>>,
        data: String,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let (config, plan, folder) = (self.run.config, self.plan, self.run.folder);
        let options = TrainerOptions {
            tokens: plan.at_once,
            sequences: plan.sequences(),
            adamw: config.optimizer.adamw(),
            muon: config.optimizer.muon(config.training.precision),
            largest_norm: Some(config.optimizer.largest_norm).filter(|n| *n > 0.0),
            largest_jump: Some(config.optimizer.largest_jump).filter(|n| *n > 0.0),
            precision: config.training.precision,
            recompute: config.training.recompute,
            ema: config.optimizer.ema,
        };
        let (device, subject) = (self.run.device, self.subject);
        let mut trainer = match &subject.adapter {
            None => Trainer::new(device, &subject.graph, subject.weights(), options)?,
            Some(adapter) => {
                let weights = adapter.initial(subject.weights());
                Trainer::of(device, &adapter.graph, &weights, options, is_update)?
            }
        };
        if let Some(adapter) = subject.adapter.as_ref().filter(|adapter| adapter.config.dora)
            && let Some(model) = subject.stored()
        {
            trainer.with_magnitudes(model, adapter.config.scale())?;
        }
        if self.shards.count > 1 {
            trainer.share(device, self.shards.group.rank(), self.shards.group.size())?;
        }
        let identity = self.identity(&data);
        let checkpoints = folder.join("checkpoints");
        let place = self.place();
        if let Some(objective) = &mut self.objective {
            objective.begin(&place, &mut trainer)?;
        }
        let mut step = self.restore(&checkpoints, &identity, &mut trainer, listener)?;
        self.shards.group.refuse_others(&Sha256::digest(format!("{step} {identity}")))?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Io { path, source }
        };
        if self.shards.group.writes() {
            let asked = folder.join("run.toml");
            let text = toml::to_string(config).unwrap_or_default();
            crate::files::write(&asked, text.as_bytes()).map_err(io(&asked))?;
            let path = folder.join("metrics.jsonl");
            self.metrics = Some(Metrics::open(&path, step).map_err(io(&path))?);
        }
        let batches = |rows| Batches::new(rows, plan.rows, step).ok_or(RunError::NoRows(plan.data));
        let mut batches = rows.map(batches).transpose()?;
        listener(Event::Begin(plan, self.subject, step));
        let schedule = plan.schedule(config);
        let (mut dropped, mut validation) = (0, None);
        if step == 0 && self.objective.is_some() {
            // What the model could do before.
            validation = self.look(&mut trainer, step, listener)?;
        }
        let mut saved = step;
        while step < plan.steps && !self.stops()? {
            let start = Instant::now();
            let before = (self.shards.group.sent(), trainer.steps());
            let rate = schedule.rate(step);
            let taken = match (&mut batches, &mut self.objective) {
                (Some(batches), _) => self.step(&mut trainer, &batches.step(), rate).map_err(RunError::from),
                (None, Some(objective)) => objective.step(&place, &mut trainer, step, rate),
                (None, None) => Err(RunError::NoRows(plan.data)),
            };
            let taken = match taken {
                Ok(taken) => {
                    dropped = 0;
                    taken
                }
                Err(RunError::Train(error @ (TrainError::NotANumber(_) | TrainError::Spike { .. }))) => {
                    listener(Event::Dropped(step + 1, &error));
                    dropped += 1;
                    if dropped == MOST_DROPPED {
                        return Err(RunError::Diverged(dropped));
                    }
                    Taken::default()
                }
                // Long conversations may be cut off before their answers.
                Err(RunError::Train(TrainError::Nothing)) => Taken::default(),
                Err(error) => return Err(error),
            };
            step += 1;
            let Taken { loss, norm, tokens, .. } = taken;
            let epoch = batches.as_ref().map_or(taken.epoch, Batches::epochs);
            let seconds = start.elapsed().as_secs_f64();
            let changed = plan.parameters * u64::from(trainer.steps() - before.1);
            let sent = self.shards.group.sent_since(before.0, changed)?;
            let metric = Metric::Step { step, loss, norm, learning_rate: rate, tokens, epoch, seconds, sent };
            self.tell(&metric, listener)?;
            if let Some(metric) = &taken.metric {
                self.tell(metric, listener)?;
            }
            if step.is_multiple_of(plan.evaluate_every) || step == plan.steps {
                validation = self.look(&mut trainer, step, listener)?.or(validation);
            }
            if step.is_multiple_of(plan.checkpoint_every) || step == plan.steps {
                self.save(&checkpoints, &mut trainer, step, &identity, listener)?;
                saved = step;
            }
        }
        let finished = step >= plan.steps;
        if saved != step {
            self.save(&checkpoints, &mut trainer, step, &identity, listener)?;
        }
        if finished {
            trainer.take_average(self.shards.group)?;
        }
        let models = match finished && self.shards.group.writes() {
            true => export::write(self.subject, trainer, config.training.precision, folder)?,
            false => Vec::new(),
        };
        Ok(Summary { steps: step, finished, validation, models })
    }

    fn place(&self) -> Place<'a> {
        let Run { config, folder, device, .. } = *self.run;
        Place { config, device, subject: self.subject, plan: self.plan, folder, shards: self.shards }
    }

    /// The model as it is now: what is trained, and what stays beside it.
    fn now<'b>(&'b self, trainer: &'b Trainer) -> Overlay<'b, &'b Trainer> {
        Overlay { over: trainer, under: self.subject.weights() }
    }

    /// Whether any rank is told to stop. All ranks ask together.
    fn stops(&self) -> Result<bool, RunError> {
        Ok(self.shards.group.any(self.run.stop.load(Ordering::Relaxed))?)
    }

    /// What every later loss depends on.
    fn identity(&self, data: &str) -> Json {
        let config = self.run.identity_of_config();
        let plan = json!({"context": self.plan.context, "rows": self.plan.rows, "steps": self.plan.steps,
            "at-once": self.plan.at_once, "learning-rate": self.plan.learning_rate});
        json!({"config": config, "data": data, "plan": plan})
    }

    /// Goes on from the latest whole checkpoint, and gives the steps that are done.
    fn restore(
        &self,
        folder: &Path,
        identity: &Json,
        trainer: &mut Trainer,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, RunError> {
        for (_, path) in checkpoint::list(folder)? {
            let position = match checkpoint::check(&path) {
                Ok(position) => position,
                Err(error) => {
                    listener(Event::Damaged(&error));
                    continue;
                }
            };
            self.run.refuse_other(&position.run, identity)?;
            checkpoint::restore(&path, &position, trainer)?;
            return Ok(position.step);
        }
        Ok(0)
    }

    /// One step of all its rows.
    fn step(&self, trainer: &mut Trainer, rows: &[Vec<Example>], rate: f32) -> Result<Taken, TrainError> {
        let tokens: usize = rows.iter().flatten().map(Example::learned).sum();
        if tokens == 0 {
            return Err(TrainError::Nothing);
        }
        let (losses, norm) = trainer.step_in_shards(self.shards, rate, |trainer, shard| {
            let rows = rows[self.shards.rows(rows.len(), shard)].iter().flatten();
            let learned: Vec<Example> = rows.filter(|e| e.learned() > 0).cloned().collect();
            let mut sum = 0.0;
            for part in parts(&learned, self.plan.at_once, self.plan.sequences()) {
                sum += trainer.gather(part, tokens)?;
            }
            Ok([sum])
        })?;
        let loss = losses.as_flattened().iter().sum::<f64>() / tokens as f64;
        Ok(Taken { loss: Some(loss as f32), norm: Some(norm), tokens, ..Taken::default() })
    }

    fn tell(&mut self, metric: &Metric, listener: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        if let Some(metrics) = &mut self.metrics {
            let added = metrics.add(metric);
            added.map_err(|source| RunError::Io { path: metrics.path().to_owned(), source })?;
        }
        listener(Event::Metric(metric));
        Ok(())
    }

    /// How well the model does, and what it writes, with the averaged weights where an average is kept.
    fn look(
        &mut self,
        trainer: &mut Trainer,
        step: u64,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<f64>, RunError> {
        let group = self.shards.group;
        let looked = trainer.with_average(group, |trainer| {
            if !group.writes() {
                return Ok(None);
            }
            let validation = self.evaluate(trainer, step, listener)?;
            if step > 0 {
                self.sample(trainer, step, listener)?;
            }
            Ok(validation)
        });
        looked?
    }

    fn evaluate(
        &mut self,
        trainer: &mut Trainer,
        step: u64,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<f64>, RunError> {
        let place = self.place();
        if let Some(objective) = &mut self.objective {
            let Some((number, metric)) = objective.evaluate(&place, trainer, step)? else { return Ok(None) };
            self.tell(&metric, listener)?;
            return Ok(Some(number));
        }
        if self.validation.is_empty() {
            return Ok(None);
        }
        let tokenizer = &self.subject.tokenizer;
        let predicted = self.validation.iter().flat_map(|e| e.predicted().map(|(i, l)| (e.tokens[i], l)));
        let (mut sum, mut tokens, mut bytes) = (0.0, 0, 0);
        for ((token, learned), loss) in predicted.zip(trainer.losses(&self.validation)?) {
            if learned {
                sum += f64::from(loss);
                tokens += 1;
                let text = tokenizer.token_bytes(token).filter(|_| !tokenizer.is_special(token));
                bytes += text.map_or(0, <[u8]>::len);
            }
        }
        if tokens == 0 {
            return Ok(None);
        }
        let loss = sum / tokens as f64;
        let bits_per_byte = sum / std::f64::consts::LN_2 / bytes.max(1) as f64;
        self.tell(&Metric::Evaluation { step, loss, bits_per_byte, tokens }, listener)?;
        Ok(Some(loss))
    }

    /// Has the model write the texts that the configuration asks for.
    fn sample(
        &mut self,
        trainer: &Trainer,
        step: u64,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RunError> {
        let (tokens, seed) = (self.run.config.evaluation.sample_tokens, self.run.config.seed);
        for prompt in &self.run.config.evaluation.samples {
            let text =
                sample::text(self.run.device, self.subject, &self.now(trainer), prompt, (tokens, seed))
                    .unwrap_or_else(|e| format!("({e})"));
            let metric = Metric::Sample { step, prompt: prompt.clone(), text };
            self.tell(&metric, listener)?;
        }
        Ok(())
    }

    fn save(
        &self,
        folder: &Path,
        trainer: &mut Trainer,
        step: u64,
        identity: &Json,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RunError> {
        let position =
            Position { step, taken: trainer.steps(), norms: trainer.norms(), run: identity.clone() };
        let path = checkpoint::save_among(self.shards.group, folder, trainer, &position)?;
        // The last one is written as the result.
        if self.run.config.checkpoints.model && step < self.plan.steps {
            let (precision, out) = (self.run.config.training.precision, self.run.folder);
            let write = |trainer: &mut Trainer| match self.shards.group.writes() {
                true => export::write_present(self.subject, trainer, precision, out),
                false => Ok(()),
            };
            trainer.with_average(self.shards.group, write)??;
        }
        if !self.shards.group.writes() {
            return Ok(());
        }
        checkpoint::tidy(folder, self.run.config.checkpoints.keep)?;
        listener(Event::Checkpoint(&path));
        Ok(())
    }
}
