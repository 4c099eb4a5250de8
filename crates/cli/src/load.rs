//! From a path to an engine.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use autarky_cpu::{Cpu, CpuOptions};
use autarky_engine::{Engine, Options, memory};
use autarky_family::Model;
use autarky_format::Source;
use autarky_graph::reference::Reference;
use autarky_graph::{CacheDType, Device, MemoryUse, Tensor, WeightError, Weights};
use autarky_quant::DType;
use autarky_text::{Spec, Tokenizer, TokenizerError};

use crate::args::{DeviceArgs, DeviceName, KvName};
use crate::builtin;
use crate::exit::Usage;
use crate::terminal::{Progress, warn};

/// The context that a chat has unless told otherwise: enough for long talks, without the gigabytes of KV cache that
/// the whole trained context of some models takes.
pub(crate) const DEFAULT_CONTEXT: usize = 4096;

/// Opens a model, and says what of the file it does not use.
pub(crate) fn model(path: &Path) -> Result<Model> {
    let path = &*builtin::resolve(path)?;
    let model = Model::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    model.warnings().iter().for_each(|text| warn(text));
    Ok(model)
}

/// The same with an adapter beside its weights.
pub(crate) fn model_with(path: &Path, adapter: Option<&Path>) -> Result<Model> {
    let model = model(path)?;
    match adapter {
        None => Ok(model),
        Some(adapter) => model
            .with_adapter(adapter)
            .with_context(|| format!("cannot use {} beside {}", adapter.display(), path.display())),
    }
}

/// The model's tokenizer.
pub(crate) fn tokenizer(model: &Model) -> Result<Tokenizer> {
    let path = model.path();
    tokenizer_of(model.source(), path)
        .with_context(|| format!("cannot use the tokenizer of {}", path.display()))
}

/// The model's tokenizer, with another chat template than its own.
pub(crate) fn tokenizer_with(model: &Model, chat_template: String) -> Result<Tokenizer> {
    let path = model.path();
    let build = || {
        let own = match model.source().metadata() {
            Some(metadata) => Spec::from_gguf(metadata)?,
            None => folder_spec(path)?,
        };
        Tokenizer::new(&Spec { chat_template: Some(chat_template), ..own })
    };
    build().with_context(|| format!("cannot use the tokenizer of {}", path.display()))
}

/// Whether the model comes with a chat template.
pub(crate) fn has_chat_template(model: &Model) -> bool {
    match model.source().metadata() {
        Some(metadata) => metadata.get("tokenizer.chat_template").is_some(),
        None => folder_spec(model.path()).is_ok_and(|spec| spec.chat_template.is_some()),
    }
}

/// The tokenizer that belongs to the tensors at `path`, whether or not their family is known.
pub(crate) fn tokenizer_of(source: &Source, path: &Path) -> Result<Tokenizer, TokenizerError> {
    match source.metadata() {
        Some(metadata) => Tokenizer::from_gguf(metadata),
        None => Tokenizer::new(&folder_spec(path)?),
    }
}

/// What a Hugging Face folder says of its tokenizer; `path` is the folder, or a file in it.
pub(crate) fn folder_spec(path: &Path) -> Result<Spec, TokenizerError> {
    Spec::from_hugging_face(if path.is_dir() { path } else { path.parent().unwrap_or(path) })
}

/// How a model's keys and values are kept: as asked for, else f32 beside f32 weights (whose user wants exactness)
/// and f16 beside others.
pub(crate) fn cache_dtype(model: &Model, asked: Option<KvName>) -> CacheDType {
    match asked {
        Some(name) => name.into(),
        None if model.dtypes().iter().all(|t| t.dtype == DType::F32) => CacheDType::F32,
        None => CacheDType::F16,
    }
}

/// The context that was asked for, with a warning beyond the trained one, or a moderate default.
pub(crate) fn context(model: &Model, asked: Option<usize>) -> Result<usize, Usage> {
    let trained = model.config().context;
    match asked {
        Some(0) => Err(Usage("--context 0: must be at least 1".to_owned())),
        Some(n) => {
            if n > trained {
                warn(&format!("the model was trained on {trained} tokens; beyond them it gets worse"));
            }
            Ok(n)
        }
        None => Ok(trained.min(DEFAULT_CONTEXT)),
    }
}

/// Bytes that a device will hold of the model's weights.
pub(crate) fn weight_bytes(model: &Model, device: DeviceName) -> u64 {
    match device {
        DeviceName::Cpu => model.dtypes().iter().map(|t| t.bytes).sum::<u64>() + model.adapter_bytes(),
        DeviceName::Reference => 4 * model.graph().parameters(),
    }
}

/// An engine, and what it runs on.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) device: String,
    pub(crate) instruction_set: String,
    pub(crate) threads: usize,
    pub(crate) load_time: Duration,
}

/// Makes the model ready to run, unless the memory for it is not there.
pub(crate) fn engine(model: &Model, args: &DeviceArgs, options: Options) -> Result<Loaded> {
    with_progress(model, args, options, &AtomicBool::new(false))
}

/// Makes the model ready to run while another thread does something else, such as building the tokenizer, which
/// takes as long as packing the weights of a small model. If that fails, its error is the one that is told, and soon.
pub(crate) fn engine_beside<T: Send>(
    model: &Model,
    args: &DeviceArgs,
    options: Options,
    other: impl FnOnce() -> Result<T> + Send,
) -> Result<(Loaded, T)> {
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = || {
            let result = other();
            failed.store(result.is_err(), Ordering::Relaxed);
            result
        };
        let other = thread::Builder::new().spawn_scoped(scope, other).context("cannot start a thread")?;
        let loaded = with_progress(model, args, options, &failed);
        let other = other.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok((loaded?, other))
    })
}

/// Shows on the terminal how far it is.
fn with_progress(model: &Model, args: &DeviceArgs, options: Options, stopped: &AtomicBool) -> Result<Loaded> {
    let progress = RefCell::new(Progress::new("loading"));
    engine_telling(model, args, options, stopped, &|done, all| progress.borrow_mut().set(done, all, ""))
}

/// Memory that an engine of this model will take.
///
/// # Errors
/// When the options make no sense.
pub(crate) fn memory_of(model: &Model, device: DeviceName, options: &Options) -> Result<MemoryUse> {
    Ok(memory::estimate(model.graph(), weight_bytes(model, device), &options.limits()?))
}

/// Makes the model ready to run, unless `stopped` says otherwise on the way; tells `report` how many bytes of how many
/// are done.
pub(crate) fn engine_telling(
    model: &Model,
    args: &DeviceArgs,
    options: Options,
    stopped: &AtomicBool,
    report: &dyn Fn(u64, u64),
) -> Result<Loaded> {
    let start = Instant::now();
    let graph = model.graph();
    let need = memory_of(model, args.device, &options)?;
    memory::admit(need, options.context, memory::available())?;
    let (device, threads) = device(args)?;
    let (bytes, taken) = (model.file_bytes(), Cell::new(0));
    let weights = Watched { weights: model.weights(), bytes, taken, report, stopped };
    let engine = Engine::new(&*device, Arc::clone(graph), &weights, options)
        .with_context(|| format!("cannot load {}", model.path().display()))?;
    Ok(Loaded {
        engine,
        device: device.name().to_owned(),
        instruction_set: device.abilities().instruction_set,
        threads,
        load_time: start.elapsed(),
    })
}

/// A model's weights while a device takes them: tells how far it is, and ends it when something else has failed.
struct Watched<'a> {
    weights: &'a dyn Weights,
    /// Of the file, and of the weights that were taken.
    bytes: u64,
    taken: Cell<u64>,
    report: &'a dyn Fn(u64, u64),
    stopped: &'a AtomicBool,
}

impl Weights for Watched<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        if self.stopped.load(Ordering::Relaxed) {
            let what = "loading was broken off".to_owned();
            return Err(WeightError::Data { name: name.to_owned(), what });
        }
        (self.report)(self.taken.get(), self.bytes);
        let tensor = self.weights.get(name)?;
        self.taken.set(self.taken.get() + tensor.bytes() as u64);
        Ok(tensor)
    }

    fn release(&self, name: &str) {
        self.weights.release(name);
    }
}

/// The device that was asked for, and its threads.
pub(crate) fn device(args: &DeviceArgs) -> Result<(Box<dyn Device>, usize)> {
    if args.device == DeviceName::Cpu {
        let cpu = cpu(args, false)?;
        let threads = cpu.threads();
        return Ok((Box::new(cpu), threads));
    }
    match args.threads()?.is_some() || args.isa()?.is_some() {
        true => Err(Usage("--threads and --isa are for --device cpu".to_owned()).into()),
        false => Ok((Box::new(Reference), 1)),
    }
}

/// The CPU device as it was asked for, and whether it counts where its time goes.
pub(crate) fn cpu(args: &DeviceArgs, profile: bool) -> Result<Cpu> {
    let options = CpuOptions { threads: args.threads()?, isa: args.isa()?, profile, ..CpuOptions::default() };
    Ok(Cpu::new(options).map_err(|e| Usage(format!("--isa: {e}")))?)
}
