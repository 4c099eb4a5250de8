//! From a path to a model that answers many at once.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use autarky_engine::service::{Service, ServiceOptions};
use autarky_engine::{Options, Speculation, memory};
use autarky_family::Model;
use autarky_graph::{BLOCK, CacheDType};
use autarky_server::model::{LoadError, LoadedModel, Loader, ModelFiles, ModelInfo};
use autarky_text::ChatTemplate;

use crate::args::{DeviceArgs, ServerArgs};
use crate::commands::read_text;
use crate::exit::{Input, Usage};
use crate::load;

/// The context that a served model has unless told otherwise.
const DEFAULT_CONTEXT: usize = 8192;

/// Loads models as the command line says.
pub(super) struct EngineLoader {
    device: DeviceArgs,
    context: Option<usize>,
    cache_tokens: Option<usize>,
    kv: Option<crate::args::KvName>,
    service: ServiceOptions,
    /// Takes the place of the models' own.
    chat_template: Option<String>,
}

/// The template that was asked for: one of ours by name, or a file's text.
fn chat_template(asked: &str) -> Result<String> {
    let found = ChatTemplate::builtin(asked).or_else(|unknown| match Path::new(asked).is_file() {
        true => Ok(ChatTemplate::new(&read_text(File::open(asked)?, asked)?)?),
        false => Err(anyhow::Error::new(unknown)),
    });
    let what = || Input(format!("--chat-template {asked}: neither a template's name nor a file with one"));
    Ok(found.with_context(what)?.source().to_owned())
}

impl EngineLoader {
    pub(super) fn new(args: &ServerArgs) -> Result<EngineLoader> {
        let s = &args.sharing;
        let counts = [
            ("--parallel", s.parallel, 1..=1024),
            ("--prefill-beside", s.prefill_beside, 1..=65536),
            ("--queue", s.queue, 0..=1_000_000),
            ("--context", s.context.unwrap_or(1), 1..=1 << 26),
        ];
        for (flag, value, range) in counts {
            if !range.contains(&value) {
                return Err(
                    Usage(format!("{flag} {value}: must be {} to {}", range.start(), range.end())).into()
                );
            }
        }
        Ok(EngineLoader {
            device: args.device.clone(),
            context: s.context,
            cache_tokens: s.cache_tokens,
            kv: s.kv,
            service: ServiceOptions { sequences: s.parallel, waiting: s.queue, beside: s.prefill_beside },
            chat_template: args.chat_template.as_deref().map(chat_template).transpose()?,
        })
    }

    /// How large an engine of this model is.
    fn options(&self, model: &Model) -> Options {
        let context = self.context.unwrap_or_else(|| model.config().context.min(DEFAULT_CONTEXT)).max(1);
        let cache = load::cache_dtype(model, self.kv);
        let sequences = self.service.sequences;
        let chunk = Options::CHUNK.min(context);
        let outputs = sequences.max(1 + Speculation::MOST);
        let most = context.saturating_mul(sequences);
        let positions = self.cache_tokens.unwrap_or_else(|| affordable(model, cache)).clamp(context, most);
        Options { context, sequences, positions: Some(positions), chunk, outputs, cache }
    }

    fn info(&self, model: &Model) -> Result<ModelInfo> {
        let options = self.options(model);
        Ok(ModelInfo {
            family: model.family().to_owned(),
            parameters: model.graph().parameters(),
            bytes: model.file_bytes(),
            context: options.context,
            chat: self.chat_template.is_some() || load::has_chat_template(model),
            memory: load::memory_of(model, self.device.device, &options)?.total(),
        })
    }

    fn make(&self, files: &ModelFiles, progress: &(dyn Fn(f32) + Sync)) -> Result<LoadedModel> {
        let model = open(files)?;
        let info = self.info(&model)?;
        let tokenizer = Arc::new(match &self.chat_template {
            Some(template) => load::tokenizer_with(&model, template.clone())?,
            None => load::tokenizer(&model)?,
        });
        let report = |done: u64, all: u64| progress(done as f32 / all.max(1) as f32);
        let never = AtomicBool::new(false);
        let loaded = load::engine_telling(&model, &self.device, self.options(&model), &never, &report)?;
        let device = format!("{} ({})", loaded.device, loaded.instruction_set);
        let service = Service::start(loaded.engine, Arc::clone(&tokenizer), self.service)?;
        Ok(LoadedModel::new(service, tokenizer, info, device))
    }
}

/// Positions whose keys and values fit a quarter of the memory that is free beside the weights.
fn affordable(model: &Model, cache: CacheDType) -> usize {
    let position: usize = model.graph().caches().iter().map(|spec| cache.position_bytes(spec)).sum();
    let free = memory::available().map_or(u64::MAX, |a| a.bytes.saturating_sub(model.file_bytes()) / 4);
    let positions = free / position.max(1) as u64;
    usize::try_from(positions).unwrap_or(usize::MAX) / BLOCK * BLOCK
}

fn open(files: &ModelFiles) -> Result<Model> {
    let model = Model::open(&files.path)?;
    match &files.adapter {
        None => Ok(model),
        Some(adapter) => Ok(model.with_adapter(adapter)?),
    }
}

/// All causes in one line.
fn told(error: &anyhow::Error) -> LoadError {
    LoadError(format!("{error:#}"))
}

impl Loader for EngineLoader {
    fn inspect(&self, files: &ModelFiles) -> Result<ModelInfo, LoadError> {
        let inspect = || self.info(&open(files)?);
        inspect().map_err(|e| told(&e))
    }

    fn load(&self, files: &ModelFiles, progress: &(dyn Fn(f32) + Sync)) -> Result<LoadedModel, LoadError> {
        self.make(files, progress).map_err(|e| told(&e))
    }
}
