//! `autarky convert`

mod llama2c;

use anyhow::{Context, Result};
use autarky_engine::memory::human;
use autarky_family::convert::{self, Options, Progress as Written};
use autarky_format::gguf::Metadata;
use autarky_format::llama2c::{Checkpoint, Tokenizer};
use autarky_text::Spec;
use serde_json::json;

use super::{may_write, print, print_json};
use crate::args::ConvertArgs;
use crate::exit::Usage;
use crate::load;
use crate::terminal::{CtrlC, Progress};

pub(super) fn run(args: &ConvertArgs) -> Result<()> {
    may_write(&args.output, args.force)?;
    let source = &args.source;
    let is_llama2c = source.is_file() && source.extension().is_some_and(|e| e == "bin");
    if is_llama2c != args.tokenizer.is_some() {
        let what = match is_llama2c {
            true => "a llama2.c checkpoint needs --tokenizer FILE, the vocabulary that it was trained with",
            false => "--tokenizer is for llama2.c checkpoints (.bin); a Hugging Face folder has its own",
        };
        return Err(Usage(what.to_owned()).into());
    }
    let interrupt = CtrlC::watch();
    let mut options =
        Options { dtype: args.dtype.map(Into::into), stop: Some(interrupt.flag()), ..Options::default() };
    let mut progress = Progress::new("convert");
    let mut show = |w: Written<'_>| progress.set(w.written, w.total, w.weight);
    let cannot = || format!("cannot convert {}", source.display());
    let written = match &args.tokenizer {
        Some(tokenizer) => {
            let vocabulary = Checkpoint::read(source).with_context(cannot)?.config().vocab_size;
            let tokenizer = Tokenizer::read(tokenizer, vocabulary)
                .with_context(|| format!("cannot use the tokenizer {}", tokenizer.display()))?;
            describe(&mut options.metadata, &llama2c::spec(&tokenizer)?, source.file_stem())?;
            convert::convert_llama2c(source, &args.output, &options, &mut show).with_context(cannot)?
        }
        None => {
            let model = load::model(source)?;
            if model.source().metadata().is_none() && !args.no_tokenizer {
                let what = || {
                    format!("cannot use the tokenizer of {} (--no-tokenizer leaves it out)", source.display())
                };
                let spec = load::folder_spec(source).with_context(what)?;
                describe(&mut options.metadata, &spec, source.file_name())?;
            }
            convert::convert(&model, &args.output, &options, &mut show).with_context(cannot)?
        }
    };
    drop(progress);
    match args.json {
        true => print_json(&json!({
            "output": args.output.display().to_string(),
            "bytes": written.bytes,
            "fallbacks": written.instead.iter().map(|(name, t)| json!({"name": name, "type": t.name()})).collect::<Vec<_>>(),
        })),
        false => {
            let mut text =
                format!("{} written: {} of tensors\n", args.output.display(), human(written.bytes));
            for (name, dtype) in &written.instead {
                text += &format!(
                    "{name} is stored as {dtype}: its rows are not whole blocks of the wanted type\n"
                );
            }
            print(&text)
        }
    }
}

/// The metadata that the checkpoint's tensors do not say.
fn describe(metadata: &mut Metadata, spec: &Spec, name: Option<&std::ffi::OsStr>) -> Result<()> {
    if let Some(name) = name.and_then(|n| n.to_str()) {
        metadata.insert("general.name", name);
    }
    spec.to_gguf(metadata)?;
    Ok(())
}
