//! A run of training, from files to a model that others read.
//!
//! Its folder holds all of it: `run.toml` (what was asked for), `tokenizer/` where one was learned, `data/` (tokens),
//! `checkpoints/`, `metrics.jsonl`, and in the end `model/` and `model.gguf`. Started again, it goes on from its last
//! whole checkpoint, and every later loss has the same bits as without the break.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use autarky_engine::{EngineError, memory};
use autarky_graph::Device;
use autarky_text::Spec;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::adapter::{Overlay, is_update};
use crate::batches::{Batches, Packing, Rows};
use crate::checkpoint::{self, CheckpointError, Position};
use crate::config::{Config, ConfigError};
use crate::data::ReadOptions;
use crate::encode::Encoder;
use crate::evaluate::{Evaluation, evaluate};
use crate::export::{self, ExportError};
use crate::metrics::{Metric, Metrics};
use crate::objective::{self, Objective, Place, Taken};
use crate::plan::{self, RunPlan};
use crate::prepare::{PrepareError, Report, Sources};
use crate::ranks::{self, Alone, Group, Ranks, RanksError};
use crate::reward::RewardError;
use crate::sample;
use crate::step::parts;
use crate::subject::{Subject, SubjectError, tokenizer_of, with_template};
use crate::tokens::Tokens;
use crate::trainer::{Example, StepReport, TrainError, Trainer, TrainerOptions};

/// Tokens of a tokenizer that is learned, unless said otherwise.
const VOCABULARY: usize = 4096;

/// So many steps in a row without a number end the run.
const MOST_DROPPED: u32 = 10;

/// Why a run ended early, or did not begin.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no data.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// There is no model.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A checkpoint cannot be written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model cannot be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Answers cannot be drawn.
    #[error("cannot draw answers: {0}")]
    Draw(#[from] EngineError),
    /// Answers cannot be judged.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The result cannot be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The ranks do not go on together.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// A file of the run's folder cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder has another run.
    #[error("{path} has another run's {differing}: give another folder, or delete this one to begin again")]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// The keys that differ.
        differing: String,
    },
    /// The data has no row.
    #[error("the training data has {0} tokens: there is no text to learn from")]
    NoRows(u64),
    /// The run needs more memory than there is.
    #[error(
        "the weights, their gradients and the optimizer's state take {need}, and {available} are free: train a smaller model, or \
         an adapter beside it"
    )]
    Memory {
        /// What it takes at least, before what steps read.
        need: String,
        /// What there is.
        available: String,
    },
    /// No number came out of many steps.
    #[error(
        "{0} steps in a row had a loss or a gradient that is not a number: lower optimizer.learning-rate and start again"
    )]
    Diverged(u32),
}

/// What is told on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// Data is read: files done, of how many, and bytes of text so far.
    Reading(&'static str, usize, usize, u64),
    /// Data was read.
    Read(&'a Report),
    /// A damaged checkpoint was passed over.
    Damaged(&'a CheckpointError),
    /// All is ready. The run goes on after so many steps.
    Begin(&'a RunPlan, &'a Subject, u64),
    /// A line of the metrics.
    Metric(&'a Metric),
    /// A step had no number, and was dropped.
    Dropped(u64, &'a TrainError),
    /// A checkpoint is written.
    Checkpoint(&'a Path),
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps that are done.
    pub steps: u64,
    /// Whether all are: otherwise it was stopped.
    pub finished: bool,
    /// The last evaluation.
    pub validation: Option<f64>,
    /// The results: a Hugging Face folder and a GGUF file.
    pub models: Vec<PathBuf>,
}

/// A run: what, where, and on which device.
pub struct Run<'a> {
    /// What is asked for.
    pub config: &'a Config,
    /// Its folder.
    pub folder: &'a Path,
    /// What it runs on.
    pub device: &'a dyn Device,
    /// Set from elsewhere to end the run after the step that it is at, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// The texts of a run.
struct Texts {
    train: Tokens,
    validation: Option<Tokens>,
    held_out: f64,
}

impl Texts {
    /// The documents to learn from, and the held-out ones.
    fn documents(&self, packing: Packing) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let all = self.train.documents();
        if self.validation.is_some() || self.held_out == 0.0 {
            return (all, Vec::new());
        }
        let (mut train, mut held) = (Vec::new(), Vec::new());
        let mut rest = &all[..];
        for &count in &self.train.about().documents {
            let (file, later) = rest.split_at((count as usize).min(rest.len()));
            rest = later;
            let tokens: usize = file.iter().map(Range::len).sum();
            let Some(last) = file.last() else { continue };
            let mut cut = last.end - (tokens as f64 * self.held_out) as usize;
            if packing == Packing::Whole {
                // The document that the cut is in is learned from, unless it is the only one.
                cut = file.iter().map(|d| d.end).find(|&end| end >= cut).unwrap_or(cut);
            }
            for document in file {
                train.extend((document.start < cut).then(|| document.start..document.end.min(cut)));
                held.extend((document.end > cut).then(|| document.start.max(cut)..document.end));
            }
        }
        (train, held)
    }
}

impl Run<'_> {
    /// Runs to the end, or until it is stopped.
    ///
    /// # Errors
    /// Whatever keeps it from that. What was done is in its checkpoints.
    pub fn go(&self, listener: &mut dyn FnMut(Event<'_>)) -> Result<Summary, RunError> {
        self.go_among(&Alone, listener)
    }

    /// The same as one of several ranks, each of which calls it with the same configuration and folder.
    ///
    /// # Errors
    /// As [`Run::go`]. The others wait for this rank then, or say that it is gone: the caller ends them.
    pub fn go_among(
        &self,
        ranks: &dyn Ranks,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let group = Group::new(ranks);
        self.config.check()?;
        let begun = checkpoint::latest_run(&self.folder.join("checkpoints"))?;
        let shards = ranks::shards(self.config, begun.as_ref(), group.size())?;
        let mut config = self.config.clone();
        // One is as good as none, and as it was before there were shards.
        config.training.shards = Some(shards).filter(|&n| n > 1);
        let run = Run { config: &config, ..*self };
        // Before anything in the folder is changed.
        if let Some(begun) = begun {
            run.refuse_other(begun.get("config").unwrap_or(&Json::Null), &run.identity_of_config())?;
        }
        if config.preference.is_some() || config.grpo.is_some() {
            if shards > 1 {
                let key = if config.grpo.is_some() { "grpo" } else { "preference" };
                let problem =
                    "processes cannot share its steps yet: start one, with no training.shards".to_owned();
                return Err(ConfigError::Value { key, problem }.into());
            }
            return objective::go(&run, listener);
        }
        if !group.writes() {
            group.wait()?;
        }
        let prepared = run.texts(!group.writes(), listener)?;
        if group.writes() {
            group.wait()?;
        }
        run.learn(&group, prepared, shards, listener)
    }

    /// Goes on with the tokenizer and the texts.
    fn learn(
        &self,
        group: &Group<'_>,
        (spec, texts): (Spec, Texts),
        shards: usize,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let config = self.config;
        let mut subject = Subject::open(config, spec)?;
        let context = subject.context;
        if let Some(adapter) = &config.adapter {
            subject = subject.with_adapter(adapter, config.seed)?;
        }
        let conversations = texts.train.about().conversations > 0;
        let packing = plan::packing(config, conversations);
        let (documents, held_out) = texts.documents(packing);
        let tokens = documents.iter().map(Range::len).sum::<usize>() as u64;
        let plan = RunPlan::new(config, subject.trained(), context, tokens, conversations)?;
        ranks::refuse_rows(plan.rows, shards)?;
        self.admit(&subject, group.size() as u64)?;
        let rows = Rows::new(&texts.train, documents, plan.context, plan.packing, config.seed);
        let validation = match &texts.validation {
            Some(tokens) => Rows::new(tokens, tokens.documents(), plan.context, plan.packing, config.seed),
            None => Rows::new(&texts.train, held_out, plan.context, plan.packing, config.seed),
        };
        let validation = self.validation(&validation);
        let source = Source::Texts(&rows, validation);
        let data = texts.train.about().hash.clone();
        self.train((group, shards), &subject, &plan, source, data, listener)
    }

    /// Trains a model that is there on data that is there, of which `data` is a hash.
    pub(crate) fn train(
        &self,
        (group, shards): (&Group<'_>, usize),
        subject: &Subject,
        plan: &RunPlan,
        source: Source<'_>,
        data: String,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let (rows, validation, objective) = match source {
            Source::Texts(rows, validation) => (Some(rows), validation, None),
            Source::Objective(objective) => (None, Vec::new(), Some(objective)),
        };
        let mut training =
            Training { run: self, group, shards, subject, plan, validation, objective, metrics: None };
        training.go(rows, data, listener)
    }

    /// Refuses a run that cannot fit into memory, before anything is made for it.
    pub(crate) fn admit(&self, subject: &Subject, ranks: u64) -> Result<(), RunError> {
        // Of the optimizer's state each rank has its part.
        let elsewhere = 8 * subject.trained() / ranks * (ranks - 1);
        let need = subject.least_memory(self.config.training.precision).saturating_sub(elsewhere);
        match memory::available() {
            Some(available) if need > available.bytes => {
                Err(RunError::Memory { need: memory::human(need), available: memory::human(available.bytes) })
            }
            _ => Ok(()),
        }
    }

    /// What of the configuration every later loss depends on.
    fn identity_of_config(&self) -> Json {
        let mut config = serde_json::to_value(self.config).unwrap_or_default();
        if let Some(config) = config.as_object_mut() {
            for key in ["evaluation", "checkpoints"] {
                config.remove(key);
            }
        }
        config
    }

    fn refuse_other(&self, theirs: &Json, ours: &Json) -> Result<(), RunError> {
        let mut differing = Vec::new();
        differences(theirs, ours, "", &mut differing);
        match differing.is_empty() {
            true => Ok(()),
            false => {
                Err(RunError::OtherRun { path: self.folder.to_owned(), differing: differing.join(", ") })
            }
        }
    }

    /// The tokenizer, and the data as its tokens.
    fn texts(&self, prepared: bool, listener: &mut dyn FnMut(Event<'_>)) -> Result<(Spec, Texts), RunError> {
        let (data, model) = (&self.config.data, &self.config.model);
        let usual = ReadOptions::default();
        let options = ReadOptions {
            text_field: data.text_field.clone(),
            separators: data.separators.clone().unwrap_or_else(|| usual.separators.clone()),
            ..usual
        };
        let sources = Sources::find(&data.train, options.clone(), data.strict)?.prepared(prepared);
        let spec = match model.from.as_ref().or(model.tokenizer.as_ref()) {
            Some(path) => tokenizer_of(path)?,
            None => {
                let vocabulary = model.vocabulary.unwrap_or(VOCABULARY);
                let folder = self.folder.join("tokenizer");
                sources.tokenizer(&folder, vocabulary, &mut reading(listener, "learning a vocabulary"))?
            }
        };
        let spec = with_template(spec, model)?;
        let tokenizer = autarky_text::Tokenizer::new(&spec).map_err(PrepareError::from)?;
        let encoder = Encoder::new(&tokenizer).map_err(PrepareError::from)?;
        let folder = self.folder.join("data");
        let (train, report) =
            sources.tokens(&folder, "train", &spec, &encoder, &mut reading(listener, "reading"))?;
        listener(Event::Read(&report));
        let validation = match data.validation.is_empty() {
            true => None,
            false => {
                let sources = Sources::find(&data.validation, options, data.strict)?.prepared(prepared);
                let (tokens, report) = sources.tokens(
                    &folder,
                    "validation",
                    &spec,
                    &encoder,
                    &mut reading(listener, "reading"),
                )?;
                listener(Event::Read(&report));
                Some(tokens)
            }
        };
        Ok((spec, Texts { train, validation, held_out: data.held_out }))
    }

    /// The held-out texts that evaluations read: as many as were asked for, from all over.
    fn validation(&self, rows: &Rows<'_>) -> Vec<Example> {
        let all = rows.pass(Some(0));
        let (mut examples, mut tokens) = (Vec::new(), 0);
        for row in &all {
            if tokens >= self.config.evaluation.tokens {
                break;
            }
            for example in rows.examples(row) {
                tokens += example.learned();
                examples.push(example);
            }
        }
        examples
    }
}

/// Tells a listener how far reading is.
pub(crate) fn reading<'a>(
    listener: &'a mut dyn FnMut(Event<'_>),
    what: &'static str,
) -> impl FnMut(usize, usize, u64) + 'a {
    move |done, of, bytes| listener(Event::Reading(what, done, of, bytes))
}

/// What a run learns from.
pub(crate) enum Source<'a> {
    /// Texts, and those that are held out.
    Texts(&'a Rows<'a>, Vec<Example>),
    /// Something else.
    Objective(Box<dyn Objective>),
}

/// A run whose data and model are there.
struct Training<'a> {
    run: &'a Run<'a>,
    group: &'a Group<'a>,
    shards: usize,
    subject: &'a Subject,
    plan: &'a RunPlan,
    validation: Vec<Example>,
    objective: Option<Box<dyn Objective>>,
    metrics: Option<Metrics>,
}

impl<'a> Training<'a> {
    fn go(
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
            precision: config.training.precision,
            recompute: config.training.recompute,
        };
        let (device, subject) = (self.run.device, self.subject);
        let mut trainer = match &subject.adapter {
            None => Trainer::new(device, &subject.graph, subject.weights(), options)?,
            Some(adapter) => {
                let weights = adapter.initial(subject.weights());
                Trainer::of(device, &adapter.graph, &weights, options, is_update)?
            }
        };
        if self.shards > 1 {
            trainer.share(device, self.group.rank(), self.group.size())?;
        }
        let identity = self.identity(&data);
        let checkpoints = folder.join("checkpoints");
        let place = self.place();
        if let Some(objective) = &mut self.objective {
            objective.begin(&place, &mut trainer)?;
        }
        let mut step = self.restore(&checkpoints, &identity, &mut trainer, listener)?;
        self.group.refuse_others(&Sha256::digest(format!("{step} {identity}")))?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Io { path, source }
        };
        if self.group.writes() {
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
            validation = self.evaluate(&mut trainer, step, listener)?;
        }
        let mut saved = step;
        while step < plan.steps && !self.stops()? {
            let start = Instant::now();
            let before = self.group.sent();
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
                Err(RunError::Train(error @ TrainError::NotANumber(_))) => {
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
            let sent = self.group.sent_since(before, plan.parameters)?;
            let metric = Metric::Step { step, loss, norm, learning_rate: rate, tokens, epoch, seconds, sent };
            self.tell(&metric, listener)?;
            if let Some(metric) = &taken.metric {
                self.tell(metric, listener)?;
            }
            if self.group.writes() && (step.is_multiple_of(plan.evaluate_every) || step == plan.steps) {
                validation = self.evaluate(&mut trainer, step, listener)?.or(validation);
                self.sample(&trainer, step, listener)?;
            }
            if step.is_multiple_of(plan.checkpoint_every) || step == plan.steps {
                self.save(&checkpoints, &trainer, step, &identity, listener)?;
                saved = step;
            }
        }
        let finished = step >= plan.steps;
        if saved != step {
            self.save(&checkpoints, &trainer, step, &identity, listener)?;
        }
        let models = match finished && self.group.writes() {
            true => export::write(self.subject, trainer, config.training.precision, folder)?,
            false => Vec::new(),
        };
        Ok(Summary { steps: step, finished, validation, models })
    }

    fn place(&self) -> Place<'a> {
        let Run { config, folder, device, .. } = *self.run;
        Place { config, device, subject: self.subject, plan: self.plan, folder }
    }

    /// The model as it is now: what is trained, and what stays beside it.
    fn now<'b>(&'b self, trainer: &'b Trainer) -> Overlay<'b, &'b Trainer> {
        Overlay { over: trainer, under: self.subject.weights() }
    }

    /// Whether any rank is told to stop. All ranks ask together.
    fn stops(&self) -> Result<bool, RunError> {
        Ok(self.group.any(self.run.stop.load(Ordering::Relaxed))?)
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
        let learned = |rows: &[Vec<Example>]| -> Vec<Example> {
            rows.iter().flatten().filter(|e| e.learned() > 0).cloned().collect()
        };
        let taken = |report: StepReport| {
            let StepReport { loss, norm, tokens } = report;
            Taken { loss: Some(loss), norm: Some(norm), tokens, ..Taken::default() }
        };
        if self.shards > 1 {
            let shard = |i| learned(&rows[ranks::cut(rows.len(), i, self.shards)]);
            let shards: Vec<Vec<Example>> = (0..self.shards).map(shard).collect();
            return trainer.step_in_shards(self.group, &shards, rate).map(taken);
        }
        let examples = learned(rows);
        let tokens: usize = examples.iter().map(Example::learned).sum();
        if tokens == 0 {
            return Err(TrainError::Nothing);
        }
        let mut sum = 0.0;
        for part in parts(&examples, self.plan.at_once, self.plan.sequences()) {
            sum += trainer.gather(part, tokens)?;
        }
        let norm = trainer.update(rate)?;
        Ok(taken(StepReport { loss: (sum / tokens as f64) as f32, norm, tokens }))
    }

    fn tell(&mut self, metric: &Metric, listener: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        if let Some(metrics) = &mut self.metrics {
            let added = metrics.add(metric);
            added.map_err(|source| RunError::Io { path: metrics.path().to_owned(), source })?;
        }
        listener(Event::Metric(metric));
        Ok(())
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
        let precision = self.run.config.training.precision;
        let found = match &self.subject.adapter {
            None => evaluate(self.run.device, &self.subject.graph, trainer, precision, &self.validation)?,
            // There may be no room for the model a second time.
            Some(_) => {
                let mut found = Evaluation::default();
                for part in parts(&self.validation, self.plan.at_once, self.plan.sequences()) {
                    found.sum += trainer.losses(part)?;
                    found.tokens += part.iter().map(Example::learned).sum::<usize>();
                }
                found
            }
        };
        let Some(loss) = found.loss() else { return Ok(None) };
        let bytes = |token: u32| self.subject.tokenizer.token_bytes(token).map_or(0, <[u8]>::len);
        let learned = self
            .validation
            .iter()
            .flat_map(|e| e.predicted().filter(|(_, learned)| *learned).map(|(i, _)| e.tokens[i]));
        let text: usize = learned.filter(|t| !self.subject.tokenizer.is_special(*t)).map(bytes).sum();
        let bits_per_byte = found.sum / std::f64::consts::LN_2 / text.max(1) as f64;
        let tokens = found.tokens;
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
        trainer: &Trainer,
        step: u64,
        identity: &Json,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RunError> {
        let position = Position { step, taken: trainer.steps(), run: identity.clone() };
        let path = checkpoint::save_among(self.group, folder, trainer, &position)?;
        if !self.group.writes() {
            return Ok(());
        }
        checkpoint::tidy(folder, self.run.config.checkpoints.keep)?;
        listener(Event::Checkpoint(&path));
        Ok(())
    }
}

/// The keys at which two values differ.
fn differences(a: &Json, b: &Json, key: &str, out: &mut Vec<String>) {
    let (Json::Object(x), Json::Object(y)) = (a, b) else {
        if a != b {
            out.push(key.to_owned());
        }
        return;
    };
    let mut keys: Vec<&String> = x.keys().chain(y.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for k in keys {
        let inner = if key.is_empty() { k.clone() } else { format!("{key}.{k}") };
        differences(x.get(k).unwrap_or(&Json::Null), y.get(k).unwrap_or(&Json::Null), &inner, out);
    }
}
