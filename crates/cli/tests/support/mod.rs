//! Runs the `autarky` binary and looks at what it says.
#![allow(dead_code)] // Each test file uses its own part.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use autarky_format::gguf::{File, Metadata, Writer};
use autarky_format::{TensorSpec, TensorView};
use autarky_quant::DType;
use serde_json::Value;

/// The trained model that comes with the repository, converted.
pub(crate) fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k.gguf")
}

/// The same in llama2.c's format: checkpoint and tokenizer.
pub(crate) fn llama2c() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k");
    (folder.join("stories260K.bin"), folder.join("tok512.bin"))
}

/// Writes an adapter for `model`: updates of rank 1 beside the last products of its layers, `strength` of their like.
pub(crate) fn adapter(model: &Path, file: &Path, strength: f32) {
    let model = autarky_family::Model::open(model).expect("a model");
    let weights = model.graph().weights().iter().filter(|w| w.name.ends_with("ffn_down.weight"));
    let ends = |n: usize| (0..n).map(|i| (i % 5) as f32 - 2.0).collect::<Vec<_>>();
    let update = |name: &str, shape: &[usize]| autarky_family::Update {
        weight: name.to_owned(),
        down: ends(shape[1]),
        up: ends(shape[0]).iter().map(|x| strength * x).collect(),
        magnitude: Vec::new(),
    };
    let updates: Vec<_> = weights.map(|w| update(&w.name, &w.shape)).collect();
    let base = "model".to_owned();
    let about = autarky_family::AdapterSpec { rank: 1, alpha: 1.0, rank_stabilized: false, base };
    autarky_family::export_adapter_gguf(model.config(), &about, &updates, file).expect("it can be written");
}

/// A tiny Hugging Face folder.
pub(crate) fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../family/tests/fixtures").join(family)
}

/// What the story-teller says first when it always takes the most probable token, as llama2.c's author published it.
pub(crate) const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
                         One day, she saw a big, red ball. She wanted to play with it, but it was too high.";

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.err);
        self.out
    }

    /// The JSON output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out}"))
    }

    /// The message of a run that must have failed with `code`: one line, and nothing on standard output.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {} stderr: {}", self.out, self.err);
        assert_eq!(self.out, "", "a failure prints no result");
        let errors: Vec<&str> = self.err.lines().filter(|l| l.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one line says what is wrong: {}", self.err);
        assert!(!self.err.contains("panicked") && !self.err.contains("backtrace"), "{}", self.err);
        self.err
    }
}

/// A command that is not run yet.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autarky"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `autarky` with these arguments and an empty standard input.
pub(crate) fn autarky<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    ran(command(args).output().expect("the binary starts"))
}

/// Runs `autarky` with these arguments and this on standard input.
pub(crate) fn autarky_with<S: AsRef<std::ffi::OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // From a thread of its own, and without minding a command that fails before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    ran(output)
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// `autarky` with arguments of mixed kinds.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        [$(std::ffi::OsString::from(&$arg)),*]
    };
}

/// Writes `from` again as `to`, with its metadata changed.
pub(crate) fn rewrite(from: &Path, to: &Path, change: impl FnOnce(&mut Metadata)) {
    let file = File::open(from).expect("a GGUF file");
    let mut metadata = file.metadata().clone();
    change(&mut metadata);
    let views: Vec<TensorView<'_>> =
        file.tensors().iter().map(|t| file.tensor(&t.name).expect("listed")).collect();
    let specs: Vec<TensorSpec<DType>> =
        views.iter().map(|v| TensorSpec::new(v.name, v.dtype, v.shape)).collect();
    let mut writer = Writer::create(to, &metadata, &specs).expect("writable");
    for view in views {
        writer.append(view.name, view.data).expect("declared");
    }
    writer.finish().expect("complete");
}

/// The story-teller with a chat template that writes messages one after another, as a file in `folder`.
pub(crate) fn chat_model(folder: &Path) -> PathBuf {
    let path = folder.join("chat.gguf");
    let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[{{ m.content }}] {% else %}\
                    {{ m.content }} {% endif %}{% endfor %}";
    rewrite(&stories(), &path, |metadata| {
        metadata.insert("tokenizer.chat_template", template);
    });
    path
}
