//! `autarky inspect`

mod metadata;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use autarky_engine::{Options, memory};
use autarky_family::{FamilyError, Model};
use autarky_format::Source;
use autarky_graph::MemoryUse;
use autarky_text::{Tokenizer, TokenizerError};
use serde_json::{Map, Value, json};

use super::{count, print, print_json};
use crate::args::{DeviceName, InspectArgs};
use crate::load;
use crate::terminal::{Style, printable};

pub(super) fn run(args: &InspectArgs) -> Result<()> {
    // A file of an unknown family is still worth looking into, so the model may fail to open, but not the file.
    let (known, why_not) = match Model::open(&args.model) {
        Ok(model) => (Some(model), None),
        Err(FamilyError::Format(e)) => {
            return Err(e).with_context(|| format!("cannot open {}", args.model.display()));
        }
        Err(e) => (None, Some(e.to_string())),
    };
    let opened;
    let source = match &known {
        Some(model) => model.source(),
        None => {
            opened =
                Source::open(&args.model).with_context(|| format!("cannot open {}", args.model.display()))?;
            &opened
        }
    };
    let tokenizer = load::tokenizer_of(source, &args.model);
    let mut report = Report::default();
    report.file(args, source);
    report.sizes(args, source, known.as_ref())?;
    report.tokenizer(source, &tokenizer);
    report.verdict(known.as_ref(), why_not.as_deref(), &tokenizer);
    match args.json {
        true => {
            let mut json = report.json;
            if args.metadata {
                json.insert("metadata".to_owned(), metadata::json(source, &args.model));
            }
            if args.tensors {
                json.insert("tensors".to_owned(), tensors(source).iter().map(TensorLine::json).collect());
            }
            print_json(&Value::Object(json))
        }
        false => {
            let mut text = report.text(args);
            if args.metadata {
                text += &metadata::text(source, &args.model);
            }
            if args.tensors {
                text += "\n";
                tensors(source).iter().for_each(|t| text += &t.text());
            }
            print(&text)
        }
    }
}

/// What is found, for people and for programs.
#[derive(Default)]
struct Report {
    lines: Vec<(&'static str, String)>,
    json: Map<String, Value>,
    /// What it takes at a context.
    need: Option<(MemoryUse, usize)>,
}

impl Report {
    fn say(&mut self, label: &'static str, text: impl Into<String>) {
        self.lines.push((label, text.into()));
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.json.insert(key.to_owned(), value.into());
    }

    fn text(&self, args: &InspectArgs) -> String {
        let style = Style::stdout();
        let mut text = style.bold(&args.model.display().to_string()) + "\n";
        for (label, line) in &self.lines {
            text += &format!("  {} {}\n", style.dim(&format!("{label:<14}")), printable(line));
        }
        text
    }

    fn file(&mut self, args: &InspectArgs, source: &Source) {
        let format = match source {
            Source::Gguf(file) => format!("GGUF version {}", file.version()),
            _ => "safetensors".to_owned(),
        };
        self.set("path", args.model.display().to_string());
        self.set("format", format.clone());
        self.set("file_bytes", source.file_bytes());
        self.say("format", format!("{format}, {}", memory::human(source.file_bytes())));
        if let Some(metadata) = source.metadata() {
            if let Ok(name) = metadata.get_str("general.name") {
                self.set("name", name);
                self.say("name", name);
            }
            if let Ok(architecture) = metadata.get_str("general.architecture") {
                self.set("architecture", architecture);
            }
        }
    }

    fn sizes(&mut self, args: &InspectArgs, source: &Source, model: Option<&Model>) -> Result<()> {
        let Some(model) = model else {
            let tensors = tensors(source);
            let elements: u64 = tensors.iter().map(|t| t.elements).sum();
            self.set("family", Value::Null);
            self.set("parameters", elements);
            self.say("parameters", count(elements));
            self.types(tensors.iter().map(|t| (t.dtype.clone(), t.elements, t.bytes)));
            return Ok(());
        };
        let c = model.config();
        let parameters = model.graph().parameters();
        self.set("family", model.family());
        self.set("parameters", parameters);
        self.say("family", model.family());
        self.say("parameters", count(parameters));
        let types: Vec<_> =
            model.dtypes().iter().map(|t| (t.dtype.to_string(), t.elements, t.bytes)).collect();
        self.types(types);
        let heads = match c.latent {
            Some(_) => format!("{} heads over latent keys and values", c.heads),
            None => format!("{} heads ({} for keys and values)", c.heads, c.kv_heads),
        };
        self.say("layers", format!("{} of width {}, {heads}", c.layers, c.width));
        self.set("layers", c.layers);
        self.set("width", c.width);
        self.set("heads", c.heads);
        self.set("kv_heads", c.kv_heads);
        if let Some(e) = &c.experts {
            self.say("experts", format!("{} a layer, {} for each token", e.count, e.per_token));
            self.set("experts", e.count);
            self.set("experts_per_token", e.per_token);
        }
        self.say("context", format!("{} tokens", c.context));
        self.set("context", c.context);
        self.set("vocabulary", c.vocabulary);

        let context = load::context(model, args.kv.context)?;
        let cache = load::cache_dtype(model, args.kv.kv);
        let limits = Options::single(context, cache).limits()?;
        let need = memory::estimate(model.graph(), load::weight_bytes(model, DeviceName::Cpu), &limits);
        self.need = Some((need, context));
        let kept = cache.name();
        let [total, weights, cached, arena] =
            [need.total(), need.weights, need.cache, need.arena].map(memory::human);
        let line = format!(
            "{total} at context {context}: weights {weights}, KV cache ({kept}) {cached}, activations {arena}"
        );
        self.say("memory", line);
        let detail = json!({
            "context": context,
            "kv": kept,
            "weights_bytes": need.weights,
            "cache_bytes": need.cache,
            "arena_bytes": need.arena,
            "total_bytes": need.total(),
        });
        self.set("memory", detail);
        Ok(())
    }

    fn types(&mut self, types: impl IntoIterator<Item = (String, u64, u64)>) {
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (dtype, elements, bytes) in types {
            let sum = sums.entry(dtype).or_default();
            *sum = (sum.0 + elements, sum.1 + bytes);
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        let line: Vec<String> =
            sums.iter().map(|(name, (_, bytes))| format!("{name} {}", memory::human(*bytes))).collect();
        self.say("stored as", line.join(", "));
        let json = |(name, (elements, bytes)): &(String, (u64, u64))| json!({"type": name, "elements": elements, "bytes": bytes});
        self.set("types", sums.iter().map(json).collect::<Value>());
    }

    fn tokenizer(&mut self, source: &Source, tokenizer: &Result<Tokenizer, TokenizerError>) {
        let kind = tokenizer_kind(source);
        match tokenizer {
            Ok(t) => {
                let template = t.chat_template().is_some();
                self.say("vocabulary", format!("{} tokens, {}", t.vocab_size(), kind));
                self.say("chat template", if template { "yes" } else { "no: `run` continues text" });
                self.set("tokenizer", json!({"kind": kind, "tokens": t.vocab_size()}));
                self.set("chat_template", template);
            }
            Err(e) => {
                self.say("vocabulary", format!("cannot be used: {e}"));
                self.set("tokenizer", Value::Null);
                self.set("chat_template", Value::Null);
            }
        }
    }

    /// Whether it runs here, and if not, everything that speaks against it.
    fn verdict(
        &mut self,
        model: Option<&Model>,
        why_not: Option<&str>,
        tokenizer: &Result<Tokenizer, TokenizerError>,
    ) {
        let mut reasons: Vec<String> = why_not.iter().map(|&r| r.to_owned()).collect();
        reasons.extend(tokenizer.as_ref().err().map(|e| format!("its tokenizer cannot be used: {e}")));
        if let Some((need, context)) = self.need {
            reasons.extend(memory::admit(need, context, memory::available()).err().map(|e| e.to_string()));
        }
        for warning in model.map(Model::warnings).unwrap_or_default() {
            self.say("note", warning.clone());
        }
        self.set("runs_here", reasons.is_empty());
        self.set("why_not", reasons.clone());
        match reasons.is_empty() {
            true => self.say("runs here", "yes"),
            false => self.say("runs here", format!("no: {}", reasons.join("; "))),
        }
    }
}

/// The tokenizer's algorithm, and which of its pre-tokenizers.
fn tokenizer_kind(source: &Source) -> String {
    let Some(metadata) = source.metadata() else { return "tokenizer.json".to_owned() };
    let model = match metadata.get_str("tokenizer.ggml.model") {
        Ok("gpt2") => "byte-level BPE",
        Ok("llama") => "SentencePiece BPE",
        Ok("t5") => "SentencePiece unigram",
        Ok("bert") => "WordPiece",
        Ok(other) => other,
        Err(_) => "unknown",
    };
    match metadata.get_str("tokenizer.ggml.pre") {
        Ok(pre) => format!("{model} ({pre})"),
        Err(_) => model.to_owned(),
    }
}

struct TensorLine {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    elements: u64,
    bytes: u64,
}

impl TensorLine {
    fn text(&self) -> String {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = shape.join(" × ");
        format!(
            "{:<8} {:>10}  {shape:<20} {}\n",
            self.dtype,
            memory::human(self.bytes),
            printable(&self.name)
        )
    }

    fn json(&self) -> Value {
        json!({"name": self.name, "type": self.dtype, "shape": self.shape, "bytes": self.bytes})
    }
}

fn tensors(source: &Source) -> Vec<TensorLine> {
    let line = |name: &str, dtype: &str, shape: &[usize], bytes: usize| TensorLine {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
        shape: shape.to_vec(),
        elements: shape.iter().map(|&n| n as u64).product(),
        bytes: bytes as u64,
    };
    match source {
        Source::Gguf(file) => {
            file.tensors().iter().map(|t| line(&t.name, t.dtype.name(), &t.shape, t.range.len())).collect()
        }
        Source::SafeTensors(file) => {
            file.tensors().iter().map(|t| line(&t.name, t.dtype.name(), &t.shape, t.range.len())).collect()
        }
        _ => Vec::new(),
    }
}
