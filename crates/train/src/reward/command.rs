//! Rewards that a program gives: it reads a line of JSON for every answer and writes a number for each.

use std::io::{Read, Write};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Answered, RewardError};
use crate::objective::config::RewardConfig;

/// Bytes of what a program writes that are read: numbers are short.
const MOST_WRITTEN: u64 = 64 << 20;
/// Characters of its complaints that are told.
const TOLD: usize = 300;

/// A program, started anew for the answers of each step.
#[derive(Debug)]
pub(super) struct Command {
    words: Vec<String>,
    timeout: Duration,
}

impl Command {
    pub(super) fn new(config: &RewardConfig) -> Command {
        Command { words: config.command.clone(), timeout: Duration::from_secs_f64(config.timeout) }
    }

    pub(super) fn judge(&self, answers: &[Answered<'_>]) -> Result<Vec<f64>, RewardError> {
        if answers.is_empty() {
            return Ok(Vec::new());
        }
        let lines: String = answers
            .iter()
            .map(|a| json!({"prompt": a.prompt, "answer": a.answer, "record": a.record}).to_string() + "\n")
            .collect();
        let written = self.run(lines)?;
        let numbers: Vec<&str> = written.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if numbers.len() != answers.len() {
            let (found, wanted) = (numbers.len(), answers.len());
            return Err(self
                .error(format!("wrote {found} lines for {wanted} answers: one number for each is wanted")));
        }
        let number = |line: &&str| {
            line.parse::<f64>()
                .ok()
                .filter(|x| x.is_finite())
                .ok_or_else(|| self.error(format!("wrote `{}`, which is not a number", shortened(line))))
        };
        numbers.iter().map(number).collect()
    }

    fn error(&self, problem: String) -> RewardError {
        RewardError::Command { command: self.words.join(" "), problem }
    }

    /// What the program writes for `input`.
    fn run(&self, input: String) -> Result<String, RewardError> {
        let deadline = Instant::now() + self.timeout;
        let (program, arguments) = self.words.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
        let started = Process::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Ended(started.map_err(|e| self.error(format!("cannot be started: {e}")))?);
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        // A program that reads less than it is given is judged by what it writes.
        thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
        let out = read(stdout);
        let complaints = read(stderr);
        let late =
            || self.error(format!("took longer than {} s (reward.timeout)", self.timeout.as_secs_f64()));
        let left = || deadline.saturating_duration_since(Instant::now());
        let written = out.recv_timeout(left()).map_err(|e| match e {
            RecvTimeoutError::Timeout => late(),
            RecvTimeoutError::Disconnected => self.error("wrote what cannot be read".to_owned()),
        })?;
        let status = loop {
            match child.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if left().is_zero() => return Err(late()),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(e) => return Err(self.error(format!("cannot be waited for: {e}"))),
            }
        };
        if !status.success() {
            let said = complaints.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(self.error(format!("failed ({status}): {}", shortened(last))));
        }
        String::from_utf8(written).map_err(|_| self.error("wrote what is not text".to_owned()))
    }
}

/// A program that does not outlive the wait for it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe to its end, beside what else happens.
fn read(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if pipe.is_some_and(|pipe| pipe.take(MOST_WRITTEN).read_to_end(&mut bytes).is_ok()) {
            let _ = sender.send(bytes);
        }
    });
    receiver
}

fn shortened(text: &str) -> String {
    text.chars().take(TOLD).collect()
}
