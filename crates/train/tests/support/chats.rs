//! A small model that can answer, and runs that teach it more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_train::config::{Config, TrainingConfig};
use autarky_train::metrics::{Metric, read};
use autarky_train::ranks::threads::Threads;
use autarky_train::ranks::{Alone, Ranks};
use autarky_train::run::{Event, Run, RunError, Summary};
use serde_json::Value as Json;
use tempfile::TempDir;

/// A folder with a model that was trained on answers of one letter.
pub(crate) struct Chats {
    folder: TempDir,
}

impl Chats {
    pub(crate) fn new() -> Chats {
        let chats = Chats { folder: tempfile::tempdir().unwrap() };
        let letters = ["a", "b", "c", "d"];
        let lines: String = (0..240)
            .map(|i| {
                format!("{{\"prompt\": \"{} {}\", \"completion\": \"{}\"}}\n", i % 10, i / 10, letters[i % 4])
            })
            .collect();
        fs::write(chats.path("chats.jsonl"), lines).unwrap();
        fs::write(
            chats.path("template.jinja"),
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + '=' }}{% else %}\
             {{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}",
        )
        .unwrap();
        let config = format!(
            "[model]\ndepth = 1\nvocabulary = 259\nchat-template = {:?}\n[data]\ntrain = [{:?}]\n[training]\ncontext = 32\n\
             batch = 256\nsteps = 25\n[optimizer]\nlearning-rate = 0.01\n",
            chats.path("template.jinja"),
            chats.path("chats.jsonl"),
        );
        let config = Config::from_toml(&config, "test").unwrap();
        chats.run(&config, "first", |_| false).unwrap();
        chats
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, lines: impl Iterator<Item = Json>) -> PathBuf {
        fs::write(self.path(name), lines.map(|line| line.to_string() + "\n").collect::<String>()).unwrap();
        self.path(name)
    }

    /// A run that goes on from the model.
    pub(crate) fn config(&self, data: &Path, more: &str) -> Config {
        let text = format!(
            "[model]\nfrom = {:?}\n[data]\ntrain = [{data:?}]\nheld-out = 0.2\n[checkpoints]\nevery = 2\n[evaluation]\n\
             every = 4\n{more}",
            self.path("first/model.gguf")
        );
        Config::from_toml(&text, "test").unwrap()
    }

    /// Runs until `stop` says so of a step.
    pub(crate) fn run(
        &self,
        config: &Config,
        name: &str,
        stop: impl Fn(u64) -> bool,
    ) -> Result<Summary, RunError> {
        self.run_as(&Alone, config, name, stop)
    }

    fn run_as(
        &self,
        rank: &dyn Ranks,
        config: &Config,
        name: &str,
        stop: impl Fn(u64) -> bool,
    ) -> Result<Summary, RunError> {
        let device = Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).unwrap();
        let flag = AtomicBool::new(false);
        let run = Run { config, folder: &self.path(name), device: &device, stop: &flag };
        run.go_among(rank, &mut |event| {
            if let Event::Metric(Metric::Step { step, .. }) = event {
                flag.store(stop(*step), Ordering::Relaxed);
            }
        })
    }

    /// Runs on so many ranks until `stop` says so of a step.
    fn run_on(&self, ranks: usize, config: &Config, name: &str, stop: Option<u64>) -> Vec<Summary> {
        thread::scope(|scope| {
            let run = |rank: Threads| {
                scope.spawn(move || self.run_as(&rank, config, name, |step| Some(step) == stop).unwrap())
            };
            let running: Vec<_> = Threads::new(ranks).into_iter().map(run).collect();
            running.into_iter().map(|r| r.join().unwrap()).collect()
        })
    }

    /// What the run wrote down, without times and what was sent.
    pub(crate) fn metrics(&self, name: &str) -> Vec<Metric> {
        let mut metrics = read(&self.path(name).join("metrics.jsonl")).unwrap();
        for metric in &mut metrics {
            if let Metric::Step { seconds, sent, .. } = metric {
                (*seconds, *sent) = (0.0, None);
            }
        }
        metrics
    }

    /// Runs to the end, and the same once more with breaks after these steps: both must come to the same.
    pub(crate) fn breaks_change_nothing(&self, config: &Config, stops: &[u64]) {
        self.run(config, "whole", |_| false).unwrap();
        for &stop in stops {
            let summary = self.run(config, "parts", |step| step == stop).unwrap();
            assert!(!summary.finished && summary.steps == stop);
        }
        assert!(self.run(config, "parts", |_| false).unwrap().finished);
        self.same("parts", "whole");
    }

    /// Runs to the end on any number of ranks, and with breaks in between: all must come to the same.
    pub(crate) fn ranks_change_nothing(&self, config: &Config) {
        let config = &Config {
            training: TrainingConfig { shards: Some(4), ..config.training.clone() },
            ..config.clone()
        };
        for (ranks, name) in [(1, "one"), (2, "two"), (4, "four")] {
            self.run_on(ranks, config, name, None);
            self.same(name, "one");
        }
        for (ranks, stop) in [(4, Some(1)), (1, Some(2)), (2, None)] {
            let done = self.run_on(ranks, config, "changing", stop);
            assert!(done.iter().all(|summary| summary.finished == stop.is_none()), "{done:?}");
        }
        self.same("changing", "one");
    }

    fn same(&self, one: &str, other: &str) {
        assert_eq!(self.metrics(one), self.metrics(other));
        let model = |name: &str| fs::read(self.path(name).join("model.gguf")).unwrap();
        assert!(model(one) == model(other));
    }
}
