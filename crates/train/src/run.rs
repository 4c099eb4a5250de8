//! A run of training, from files to a model that others read.
//!
//! Its folder holds all of it: `run.toml` (what was asked for), `tokenizer/` where one was learned, `data/` (tokens),
//! `checkpoints/`, `metrics.jsonl`, and in the end `model/` and `model.gguf`. Started again, it goes on from its last
//! whole checkpoint, and every later loss has the same bits as without the break.

mod training;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use autarky_engine::{EngineError, memory};
use autarky_graph::Device;
use autarky_text::Spec;
use serde_json::Value as Json;
use thiserror::Error;

use crate::batches::{Packing, Rows};
use crate::checkpoint::{self, CheckpointError};
use crate::config::{Config, ConfigError};
use crate::data::ReadOptions;
use crate::disk::{NoRoom, Writes};
use crate::encode::Encoder;
use crate::export::ExportError;
use crate::metrics::Metric;
use crate::objective::{self, Objective};
use crate::plan::{self, RunPlan};
use crate::prepare::{PrepareError, Report, Sources};
use crate::ranks::{self, Alone, Group, Ranks, RanksError, Shards};
use crate::reward::RewardError;
use crate::subject::{Subject, SubjectError, tokenizer_of, with_template};
use crate::tokens::Tokens;
use crate::trainer::{Example, TrainError};
use training::Training;

/// Tokens of a tokenizer that is learned, unless said otherwise.
const VOCABULARY: usize = 4096;

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
        "the weights, their gradients{and} and the optimizer's state take {need}, and {available} are free: train a smaller \
         model, or an adapter beside it{or}"
    )]
    Memory {
        /// What it takes at least, before what steps read.
        need: String,
        /// What there is.
        available: String,
        /// What else it takes.
        and: &'static str,
        /// What else helps.
        or: &'static str,
    },
    /// The run writes more than there is room for.
    #[error(transparent)]
    Disk(#[from] NoRoom),
    /// No number came out of many steps.
    #[error(
        "{0} steps in a row had a loss or a gradient that is not a number, or far above what is usual: lower \
         optimizer.learning-rate and start again"
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
        self.config.training.precision.check(self.device)?;
        let begun = checkpoint::latest_run(&self.folder.join("checkpoints"))?;
        let count = ranks::shards(self.config, begun.as_ref(), group.size())?;
        let shards = Shards { group: &group, count };
        let mut config = self.config.clone();
        // One is as good as none, and as it was before there were shards.
        config.training.shards = Some(count).filter(|&n| n > 1);
        let run = Run { config: &config, ..*self };
        // Before anything in the folder is changed.
        if let Some(begun) = begun {
            run.refuse_other(begun.get("config").unwrap_or(&Json::Null), &run.identity_of_config())?;
        }
        if config.preference.is_some() || config.grpo.is_some() {
            return objective::go(&run, shards, listener);
        }
        let texts = group.one_writes(|written| run.texts(written, listener))?;
        run.learn(shards, texts, listener)
    }

    /// Goes on with the tokenizer and the texts.
    fn learn(
        &self,
        shards: Shards<'_>,
        (spec, texts): (Spec, Texts),
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        let config = self.config;
        let mut subject = Subject::open(config, spec)?;
        let context = subject.context;
        if let Some(adapter) = &config.adapter {
            subject = subject.with_adapter(adapter, config.seed)?;
        }
        let about = texts.train.about();
        let packing = plan::packing(config, about);
        let (documents, held_out) = texts.documents(packing);
        let tokens = documents.iter().map(Range::len).sum::<usize>() as u64;
        let plan = RunPlan::new(config, subject.trained(), context, tokens, about)?;
        shards.refuse_few(plan.rows, "training.batch")?;
        self.admit(&subject, shards.group.size() as u64, None)?;
        let rows = Rows::new(&texts.train, documents, plan.context, plan.packing, config.seed);
        let validation = match &texts.validation {
            Some(tokens) => Rows::new(tokens, tokens.documents(), plan.context, plan.packing, config.seed),
            None => Rows::new(&texts.train, held_out, plan.context, plan.packing, config.seed),
        };
        let validation = self.validation(&validation);
        let source = Source::Texts(&rows, validation);
        let data = texts.train.about().hash.clone();
        self.train(shards, &subject, &plan, source, data, listener)
    }

    /// Trains a model that is there on data that is there, of which `data` is a hash.
    pub(crate) fn train(
        &self,
        shards: Shards<'_>,
        subject: &Subject,
        plan: &RunPlan,
        source: Source<'_>,
        data: String,
        listener: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, RunError> {
        if shards.group.writes() {
            Writes::of(self.config, subject, plan).admit(self.folder)?;
        }
        let (rows, validation, objective) = match source {
            Source::Texts(rows, validation) => (Some(rows), validation, None),
            Source::Objective(objective) => (None, Vec::new(), Some(objective)),
        };
        let mut training =
            Training { run: self, shards, subject, plan, validation, objective, metrics: None };
        training.go(rows, data, listener)
    }

    /// Refuses a run that cannot fit into memory, before anything is made for it. `drawing` is what answers take that are drawn.
    pub(crate) fn admit(&self, subject: &Subject, ranks: u64, drawing: Option<u64>) -> Result<(), RunError> {
        // Of the optimizer's state each rank has its part; the average of the weights comes together on one of them.
        let elsewhere = 8 * subject.trained() / ranks * (ranks - 1);
        let (precision, averaged) = (self.config.training.precision, self.config.optimizer.ema.is_some());
        let need = subject.least_memory(precision, averaged).saturating_sub(elsewhere);
        let need = need.saturating_add(drawing.unwrap_or(0));
        match memory::available() {
            Some(available) if need > available.bytes => {
                let (need, available) = (memory::human(need), memory::human(available.bytes));
                let (and, or) = match drawing {
                    Some(_) => (
                        ", the answers that are drawn",
                        "; or draw shorter answers (grpo.answer-tokens), or fewer",
                    ),
                    None => ("", ""),
                };
                Err(RunError::Memory { need, available, and, or })
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
