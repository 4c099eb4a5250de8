//! The program itself, on paths, pipes, texts and disks that are wrong: the exit codes that `--help` documents, and one
//! line that says why.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases;
use crate::models::dense;

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const INPUT: i32 = 3;
const MEMORY: i32 = 4;

/// How a run of the program ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// Checks code and words of a refusal, and that it is one line.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not said: {self:?}");
        }
        let lines = self.err.lines().filter(|l| !l.starts_with("warning:")).count();
        assert_eq!(lines, 1, "more than a line: {self:?}");
        self.calm();
    }

    #[track_caller]
    fn calm(&self) {
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{self:?}");
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autarky"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn autarky<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    ended(program().args(args).spawn().unwrap(), None)
}

/// Waits for the end. A run that does not end would hold up all tests, so it is killed long after any honest end.
fn ended(mut child: Child, input: Option<&[u8]>) -> Ended {
    let text = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut from) = from {
                from.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = text(child.stdout.take().map(|s| Box::new(s) as _));
    let err = text(child.stderr.take().map(|s| Box::new(s) as _));
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // The program may have refused before it read everything.
        let _ = stdin.write_all(input);
    }
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > Duration::from_secs(300) => {
                child.kill().unwrap();
                panic!("the program hangs: {:?}", err.join().unwrap());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let code = status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"));
    Ended { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// A folder with a valid `model.gguf` and a valid Hugging Face folder `hf`.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        fs::write(scratch.path("model.gguf"), dense().bytes().unwrap()).unwrap();
        fs::create_dir(scratch.path("hf")).unwrap();
        for (name, bytes) in cases::folder() {
            fs::write(scratch.path("hf").join(name), bytes).unwrap();
        }
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// What every command that takes a model says of a path that holds none.
#[track_caller]
fn no_model(path: &Path, words: &[&str]) {
    let path = path.to_str().unwrap();
    let commands: [&[&str]; 5] = [
        &["inspect", path],
        &["run", path, "-p", "a"],
        &["tokenize", path],
        &["logits", path, "--ids", "1", "-o", "never.safetensors"],
        &["bench", path],
    ];
    for args in commands {
        autarky(args).refused(INPUT, words);
    }
    assert!(!Path::new("never.safetensors").exists());
}

#[test]
fn the_models_are_valid_for_the_program() {
    let scratch = Scratch::new();
    for model in ["model.gguf", "hf"] {
        let model = scratch.text(model);
        for args in
            [&["inspect", &model][..], &["run", &model, "-p", "abc", "-n", "2", "--device", "reference"]]
        {
            let ended = autarky(args);
            assert_eq!(ended.code, 0, "{ended:?}");
        }
    }
}

#[test]
fn paths_that_hold_no_model() {
    let scratch = Scratch::new();
    no_model(&scratch.path("absent.gguf"), &["absent.gguf", "No such file"]);
    fs::write(scratch.path("empty.gguf"), "").unwrap();
    no_model(&scratch.path("empty.gguf"), &["empty.gguf", "byte 0", "magic"]);
    fs::write(scratch.path("notes.txt"), "Once upon a time").unwrap();
    no_model(&scratch.path("notes.txt"), &["notes.txt", "byte 0", "Once"]);
    fs::create_dir(scratch.path("folder")).unwrap();
    no_model(&scratch.path("folder"), &["folder", "model.safetensors"]);
}

#[test]
fn folders_that_lack_something() {
    let scratch = Scratch::new();
    let hf = scratch.path("hf");
    fs::rename(hf.join("config.json"), scratch.path("config.json")).unwrap();
    autarky(["run", &scratch.text("hf"), "-p", "a"]).refused(INPUT, &["config.json"]);
    fs::rename(scratch.path("config.json"), hf.join("config.json")).unwrap();
    fs::write(hf.join("tokenizer.json"), "").unwrap();
    for args in [&["run", "-p", "a"][..], &["tokenize"]] {
        let mut args = args.to_vec();
        let folder = scratch.text("hf");
        args.insert(1, &folder);
        autarky(args).refused(INPUT, &["tokenizer.json"]);
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_and_forbidden_files() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe.gguf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    no_model(&pipe, &["pipe.gguf", "a pipe (FIFO)"]);
    no_model(Path::new("/dev/zero"), &["/dev/zero", "a device"]);
    let hf = scratch.path("hf");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::rename(hf.join(name), scratch.path("kept")).unwrap();
        assert!(Command::new("mkfifo").arg(hf.join(name)).status().unwrap().success());
        autarky(["run", &scratch.text("hf"), "-p", "a"]).refused(INPUT, &[name]);
        fs::rename(scratch.path("kept"), hf.join(name)).unwrap();
    }
    let model = scratch.path("model.gguf");
    fs::set_permissions(&model, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    if fs::File::open(&model).is_err() {
        no_model(&model, &["model.gguf", "ermission denied"]);
    }
}

#[test]
fn ids_beyond_the_vocabulary() {
    let scratch = Scratch::new();
    let (model, out) = (scratch.text("model.gguf"), scratch.text("out.safetensors"));
    for (ids, words) in
        [("999999", &["999999", "16"][..]), ("1,2,16", &["16"]), ("4294967295", &["4294967295"])]
    {
        autarky(["logits", &model, "--ids", ids, "-o", &out]).refused(USAGE, words);
    }
    for ids in ["4294967296", "-1", "x", ""] {
        let ended = autarky(["logits", &model, &format!("--ids={ids}"), "-o", &out]);
        assert_eq!(ended.code, USAGE, "{ended:?}");
        ended.calm();
    }
    assert!(!Path::new(&out).exists());
    let decode = |text: &str| {
        let child = program().args(["tokenize", &model, "--decode"]).stdin(Stdio::piped()).spawn().unwrap();
        ended(child, Some(text.as_bytes()))
    };
    decode("1 999999").refused(INPUT, &["999999", "16"]);
    decode("1 99999999999").refused(USAGE, &["99999999999"]);
}

#[test]
fn texts_that_are_not_utf8() {
    let scratch = Scratch::new();
    let model = scratch.text("model.gguf");
    for args in [&["tokenize", &model][..], &["run", &model], &["run", &model, "--raw"]] {
        let child = program().args(args).stdin(Stdio::piped()).spawn().unwrap();
        ended(child, Some(b"abc \xff\xfe")).refused(INPUT, &["standard input", "UTF-8", "4"]);
    }
    fs::write(scratch.path("text"), b"\xc3\x28").unwrap();
    autarky(["perplexity", &model, &scratch.text("text")]).refused(INPUT, &["text", "UTF-8"]);
    autarky(["perplexity", &model, &scratch.text("hf")]).refused(INPUT, &["hf", "irectory"]);
    autarky(["perplexity", &model, &scratch.text("absent")]).refused(INPUT, &["absent"]);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let prompt = std::ffi::OsStr::from_bytes(b"abc\xff");
        let ended = autarky(["run".as_ref(), model.as_ref(), "-p".as_ref(), prompt]);
        assert_eq!(ended.code, USAGE, "{ended:?}");
        ended.calm();
    }
}

#[test]
fn a_context_beyond_the_machine() {
    let scratch = Scratch::new();
    let model = scratch.text("model.gguf");
    for device in ["cpu", "reference"] {
        let ended = autarky(["run", &model, "-p", "a", "-c", "1000000000000", "--device", device]);
        // More positions than can be counted are no question of memory.
        assert!([MEMORY, USAGE].contains(&ended.code), "{ended:?}");
        let ended = autarky(["run", &model, "-p", "a", "-c", "100000000000", "--device", device]);
        ended.refused(MEMORY, &["KV cache", "--context"]);
        autarky(["run", &model, "-p", "a", "-c", "18446744073709551615", "--device", device])
            .refused(USAGE, &["18446744073709551615"]);
    }
    autarky(["run", &model, "-p", "a", "-c", "0"]).refused(USAGE, &["--context 0"]);
    let ended = autarky(["inspect", &model, "-c", "100000000000"]);
    assert!(ended.code == 0 && ended.out.contains("no:"), "{ended:?}");
}

#[test]
fn outputs_that_cannot_be() {
    let scratch = Scratch::new();
    let model = scratch.text("model.gguf");
    let there = scratch.text("there.gguf");
    fs::write(&there, "precious").unwrap();
    let commands: [&[&str]; 3] = [
        &["logits", &model, "--ids", "1", "-o", &there],
        &["quantize", &model, &there, "--type", "Q8_0"],
        &["convert", &scratch.text("hf"), "-o", &there],
    ];
    for args in commands {
        autarky(args).refused(USAGE, &["there.gguf", "--force"]);
    }
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    let nowhere = scratch.text("no/such/folder/out");
    let ended = autarky(["logits", &model, "--ids", "1", "-o", &nowhere, "--device", "reference"]);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("no/such/folder") && ended.err.lines().count() == 1, "{ended:?}");
    #[cfg(unix)]
    for device in ["/dev/null", "/dev/full"] {
        use std::os::unix::fs::FileTypeExt;
        let args = ["logits", &model, "--ids", "1", "-o", device, "--force", "--device", "reference"];
        autarky(args).refused(INPUT, &[device, "a device"]);
        assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device} was replaced");
    }
}

/// A disk that is full, as far as a test can have one: a limit on the length of files.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    let scratch = Scratch::new();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" quantize \"$1\" \"$2\" --type F32";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_autarky")]);
    command.args([scratch.path("model.gguf"), scratch.path("out.gguf")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = ended(command.spawn().unwrap(), None);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("out.gguf") && ended.err.lines().count() == 1, "{ended:?}");
    ended.calm();
    let left: Vec<_> = fs::read_dir(scratch.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "half a file is left over: {left:?}");
}

#[cfg(unix)]
#[test]
fn readers_that_have_seen_enough() {
    let scratch = Scratch::new();
    let (model, man) = (scratch.text("model.gguf"), scratch.text("man"));
    let commands: [&[&str]; 8] = [
        &["inspect", &model, "--tensors", "--metadata"],
        &["inspect", &model, "--json"],
        &["tokenize", &model],
        &["run", &model, "-p", "abc", "-n", "8", "--device", "reference"],
        &["run", &model, "-p", "abc", "-n", "8", "--device", "reference", "--json"],
        &["completions", "bash"],
        &["--help"],
        &["man", &man],
    ];
    for args in commands {
        let mut child = program().args(args).spawn().unwrap();
        drop(child.stdout.take());
        let ended = ended(child, None);
        assert!(ended.code == 0 && ended.err.is_empty(), "{args:?}: {ended:?}");

        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = crate::command::ended(program().args(args).stdout(full).spawn().unwrap(), None);
        ended.calm();
        if !["--help", "man"].contains(&args[0]) {
            assert_eq!(ended.code, FAILURE, "{args:?}: {ended:?}");
            assert!(ended.err.contains("standard output"), "{args:?}: {ended:?}");
        }
    }
}

#[test]
fn numbers_that_make_no_sense() {
    let scratch = Scratch::new();
    let model = scratch.text("model.gguf");
    for (flag, value) in [
        ("--temperature", "-1"),
        ("--temperature", "NaN"),
        ("--top-p", "2"),
        ("--min-p", "-1"),
        ("--typical", "NaN"),
        ("--repetition-penalty", "0"),
        ("--threads", "0"),
        ("--threads", "99999999999999999999"),
        ("--isa", "abacus"),
        ("--device", "abacus"),
        ("--max-tokens", "-1"),
        ("--context", "x"),
        ("--seed", "1e300"),
    ] {
        let ended = autarky(["run", &model, "-p", "a", &format!("{flag}={value}")]);
        assert_eq!(ended.code, USAGE, "{flag} {value}: {ended:?}");
        ended.calm();
    }
    for args in [
        &["bench", &model, "--prompt", "0", "--generate", "0"][..],
        &["bench", &model, "--sequences", "0"],
        &["bench", &model, "--rounds", "0"],
        &["bench", &model, "--depth", "18446744073709551615"],
        &["bench", &model, "--chunk", "0"],
        &["logits", &model, "--ids", "1", "--chunk", "0", "-o", &scratch.text("o")],
        &["perplexity", &model, &model, "--context", "0"],
        &["quantize", &model, &scratch.text("o"), "--type", "Q9"],
        &["quantize", &model, &scratch.text("o"), "--type", "Q8_0", "--threads", "0"],
    ] {
        let ended = autarky(args);
        assert!([USAGE, INPUT, MEMORY].contains(&ended.code), "{args:?}: {ended:?}");
        ended.calm();
    }
}

#[cfg(unix)]
#[test]
fn nobody_listens_to_errors() {
    let scratch = Scratch::new();
    let absent = scratch.text("absent.gguf");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let end = ended(program().args(["inspect", &absent]).stderr(full).spawn().unwrap(), None);
    assert_eq!(end.code, INPUT, "{end:?}");
    let mut child = program().args(["inspect", &absent]).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(ended(child, None).code, INPUT);
}

/// What a file says is shown, and not obeyed by the terminal.
#[test]
fn errors_do_not_drive_the_terminal() {
    let scratch = Scratch::new();
    let refusal = "{{ raise_exception('\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}1m') }}";
    let model = dense().with("tokenizer.chat_template", refusal);
    fs::write(scratch.path("model.gguf"), model.bytes().unwrap()).unwrap();
    let end = autarky(["run", &scratch.text("model.gguf"), "-p", "a", "--device", "reference"]);
    end.refused(INPUT, &["title", "refuses"]);
    assert!(!end.err.trim_end().contains(char::is_control), "{end:?}");
}

/// Weights that are no numbers are the file's right; a token cannot be chosen from what comes of them.
#[test]
fn a_model_of_nothing_but_nan() {
    let scratch = Scratch::new();
    let mut model = dense();
    model.tensor("output.weight").data.fill(0xff);
    fs::write(scratch.path("model.gguf"), model.bytes().unwrap()).unwrap();
    for device in ["cpu", "reference"] {
        let end = autarky(["run", &scratch.text("model.gguf"), "-p", "a", "--device", device]);
        end.refused(FAILURE, &["logit"]);
    }
}
