//! The engines as programs: how each is started, and how it is asked for a round.
//!
//! Each takes the sizes as flags, prints `{"ready": true}` when it is loaded and warm, then a line of JSON for each line
//! that it is sent, and a report when there are no more. Between rounds it waits for the next line.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::processor_time::ProcessorTime;
use super::record::{Engine, Turn};
use super::table::{Peer, Phase, Row};

/// Where the engines are.
pub(super) struct Engines {
    /// The repository's root.
    pub(super) root: PathBuf,
    pub(super) autarky: PathBuf,
    /// The commit that it was built from.
    pub(super) revision: String,
    /// Folder of models and of what peers make of them.
    pub(super) models: PathBuf,
    pub(super) threads: usize,
}

impl Engines {
    /// The model that OpenVINO runs.
    fn openvino_model(&self) -> PathBuf {
        self.models.join("llama3.2-1b-openvino-int4")
    }

    /// The environment's Python for a peer; made first where it, or a model of the peer's own, is missing.
    fn python(&self, peer: Peer) -> Result<PathBuf> {
        let python = self.root.join("target/peers").join(peer.environment()).join("bin/python");
        if !python.exists() || (peer == Peer::OpenVino && !self.openvino_model().exists()) {
            let mut setup = Command::new("bash");
            match peer {
                Peer::OpenVino => setup.arg("bench/peers/setup_openvino.sh").arg(&self.models),
                _ => setup.arg("bench/peers/setup.sh").args(peer.instruction_set()),
            };
            run_shown(setup.current_dir(&self.root))?;
        }
        Ok(python)
    }

    /// The row's model file; written first where a made one is missing.
    pub(super) fn model(&self, row: &Row) -> Result<PathBuf> {
        let path = row.model.path(&self.models);
        if path.is_file() {
            return Ok(path);
        }
        match &row.model {
            super::table::Model::File(path) => bail!("{} is not a file", path.display()),
            super::table::Model::Made(shape, quantization) => {
                std::fs::create_dir_all(&self.models)?;
                let mut make = Command::new(self.python(Peer::LlamaCpp)?);
                make.arg("bench/make_model.py").args([shape, quantization]).arg(&path);
                run_shown(make.current_dir(&self.root))?;
                Ok(path)
            }
        }
    }

    /// How to start an engine for a row.
    fn command(&self, engine: Engine, row: &Row, model: &Path) -> Result<Command> {
        let first_token = row.measures.iter().any(|m| m.phase == Phase::FirstToken);
        let mut command = match engine {
            Engine::Autarky => {
                let mut command = Command::new(&self.autarky);
                if first_token {
                    command.args(["run", "--raw", "--temperature", "0", "-n", "1", "-p", "Once upon a time"]);
                } else {
                    command.args(["bench", "--turns"]);
                }
                if let Some(isa) = row.peer.instruction_set() {
                    command.args(["--isa", isa]);
                }
                command.arg(model);
                command
            }
            Engine::Peer => {
                let mut command = Command::new(self.python(row.peer)?);
                command.current_dir(&self.root);
                match row.peer {
                    Peer::OpenVino => command.arg("bench/peers/openvino_bench.py").arg(self.openvino_model()),
                    _ => command.arg("bench/peers/llama_cpp_bench.py").arg(std::path::absolute(model)?),
                };
                if first_token {
                    command.arg("--first-token");
                }
                command.args(row.peer_flags);
                command
            }
        };
        if !(first_token && engine == Engine::Autarky) {
            let sizes = [
                ("--prompt", row.prompt),
                ("--generate", row.generate),
                ("--depth", row.depth),
                ("--sequences", row.sequences),
            ];
            for (flag, size) in sizes {
                command.args([flag, &size.to_string()]);
            }
        }
        command.args(["--threads", &self.threads.to_string()]);
        Ok(command)
    }

    /// Loads an engine and waits until it is ready.
    pub(super) fn start(&self, engine: Engine, row: &Row, model: &Path) -> Result<Live> {
        let mut command = self.command(engine, row, model)?;
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.with_context(|| format!("cannot start {command:?}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.context("no standard output")?;
        let mut live = Live { engine, child, input, output: BufReader::new(output).lines(), command };
        let ready = live.line()?;
        if ready["ready"] != true {
            bail!("{:?} is not ready: {ready}", live.command);
        }
        Ok(live)
    }

    /// Starts an engine anew, has it compute one token, and times that.
    pub(super) fn first_token(&self, engine: Engine, row: &Row, model: &Path) -> Result<(Turn, Value)> {
        let mut command = self.command(engine, row, model)?;
        let (before, start) = (ProcessorTime::now(&[]), Instant::now());
        let printed = crate::output_of(command.stderr(Stdio::null()))?;
        let seconds = start.elapsed().as_secs_f64();
        let others = ProcessorTime::now(&[]).others_since(before);
        let (seconds, report) = match engine {
            // Everything counts: the program's start, the tokenizer, the answer.
            Engine::Autarky => (seconds, json!({"threads": self.threads})),
            Engine::Peer => {
                let report: Value = serde_json::from_str(printed.trim()).context("its report is not JSON")?;
                (
                    report["first_token_seconds"]
                        .as_f64()
                        .context("its report has no `first_token_seconds`")?,
                    report,
                )
            }
        };
        Ok((Turn { engine, first_token: Some(seconds), others, ..Turn::default() }, report))
    }
}

/// An engine that is loaded and waits.
pub(super) struct Live {
    engine: Engine,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    command: Command,
}

impl Live {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// One round. `alive` are all engines that are loaded, this one too.
    pub(super) fn turn(&mut self, alive: &[u32]) -> Result<Turn> {
        let before = ProcessorTime::now(alive);
        let input = self.input.as_mut().context("it has been told that there are no more rounds")?;
        input
            .write_all(b"\n")
            .and_then(|()| input.flush())
            .with_context(|| format!("{:?} ended", self.command))?;
        let line = self.line()?;
        let others = ProcessorTime::now(alive).others_since(before);
        turn(self.engine, others, &line)
    }

    /// Ends it, and returns its report.
    pub(super) fn finish(mut self) -> Result<Value> {
        self.input = None;
        let report = self.line()?;
        let status = self.child.wait()?;
        if status.success() { Ok(report) } else { bail!("{:?} failed: {status}", self.command) }
    }

    fn line(&mut self) -> Result<Value> {
        let Some(line) = self.output.next().transpose()? else {
            bail!("{:?} ended before it answered: {}", self.command, self.child.wait()?);
        };
        serde_json::from_str(&line).with_context(|| format!("{:?} printed no JSON: {line}", self.command))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Where it has ended, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what an engine printed of a round.
fn turn(engine: Engine, others: f64, line: &Value) -> Result<Turn> {
    let speed = |key: &str| match line[key].as_f64() {
        Some(speed) if speed > 0.0 => Ok(Some(speed)),
        Some(speed) => bail!("`{key}` is {speed}"),
        None => Ok(None),
    };
    let turn = Turn {
        engine,
        prefill: speed("prefill_tokens_per_second")?,
        decode: speed("decode_tokens_per_second")?,
        read_bandwidth: speed("read_bandwidth")?,
        peak_ops: speed("peak_ops")?,
        others,
        ..Turn::default()
    };
    if turn.prefill.is_none() {
        bail!("no `prefill_tokens_per_second` in {line}");
    }
    Ok(turn)
}

/// Runs a command whose output goes to the terminal.
fn run_shown(command: &mut Command) -> Result<()> {
    println!("running {command:?}");
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} failed: {status}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_a_turn() {
        let line =
            json!({"prefill_tokens_per_second": 100.5, "decode_tokens_per_second": null, "peak_ops": 1e12});
        let turn = turn(Engine::Autarky, 0.25, &line).expect("a turn");
        assert_eq!(
            (turn.prefill, turn.decode, turn.peak_ops, turn.others),
            (Some(100.5), None, Some(1e12), 0.25)
        );
    }

    #[test]
    fn a_line_without_speeds_is_an_error_that_says_so() {
        for line in [json!({"decode_tokens_per_second": 1.0}), json!({"prefill_tokens_per_second": 0.0})] {
            let error = turn(Engine::Peer, 0.0, &line).expect_err("no speed").to_string();
            assert!(error.contains("prefill_tokens_per_second"), "{error}");
        }
    }

    #[test]
    fn an_engine_that_ends_early_is_an_error_that_names_it() {
        let engines = Engines {
            root: ".".into(),
            autarky: "true".into(),
            revision: String::new(),
            models: ".".into(),
            threads: 1,
        };
        let row = &crate::peers::table::rows()[0];
        let error =
            engines.start(Engine::Autarky, row, Path::new("m.gguf")).err().expect("it ended").to_string();
        assert!(error.contains("m.gguf") && error.contains("ended before"), "{error}");
    }
}
