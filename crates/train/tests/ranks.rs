//! Runs on several ranks: the same bits on any number of them, with a break in between or without.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_graph::Device;
use autarky_train::checkpoint;
use autarky_train::config::Config;
use autarky_train::metrics::{Metric, Sent, read};
use autarky_train::ranks::threads::Threads;
use autarky_train::ranks::{Ranks, RanksError};
use autarky_train::run::{Event, Run, RunError, Summary};
use autarky_train::trainer::TrainError;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

/// A rank that is lost when it has exchanged so often.
struct Mortal {
    ranks: Threads,
    left: Cell<usize>,
}

impl Ranks for Mortal {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn size(&self) -> usize {
        self.ranks.size()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), RanksError> {
        if self.left.get() == 0 {
            return Err(RanksError::Exchange { peer, problem: "a cable was cut".to_owned() });
        }
        self.left.set(self.left.get() - 1);
        self.ranks.exchange(peer, send, receive)
    }
}

type Outcomes = Vec<Result<Summary, RunError>>;

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (animals, places) = (["cat", "dog", "fox", "hen"], ["house", "garden", "forest"]);
        let line = |i: usize| {
            format!("The {} saw the {} in the {}.\n", animals[i % 4], animals[(i * 7 + 1) % 4], places[i % 3])
        };
        fs::write(folder.path().join("text.txt"), (0..400).map(line).collect::<String>()).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, training: &str, more: &str) -> Config {
        let text = format!(
            "[model]\ndepth = 1\nvocabulary = 300\n[data]\ntrain = [{:?}]\nheld-out = 0.1\n[training]\ncontext = 32\n\
             batch = 256\nat-once = 64\nsteps = 8\n{training}\n[checkpoints]\nevery = 3\n[evaluation]\nevery = 4\n{more}",
            self.path("text.txt")
        );
        Config::from_toml(&text, "test").unwrap()
    }

    /// Runs on so many ranks; rank 0 is told to stop after step `stop`, and the last rank is lost after `life` exchanges.
    fn run(&self, config: &Config, name: &str, size: usize, stop: Option<u64>, life: usize) -> Outcomes {
        let folder = self.path(name);
        let folder = &folder;
        thread::scope(|scope| {
            let run = |ranks: Threads| {
                scope.spawn(move || {
                    let device = Cpu::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap();
                    let flag = AtomicBool::new(false);
                    let last = ranks.rank() + 1 == size;
                    let first = ranks.rank() == 0;
                    let ranks = Mortal { ranks, left: Cell::new(if last { life } else { usize::MAX }) };
                    let run = Run { config, folder, device: &device, stop: &flag };
                    run.go_among(&ranks, &mut |event| {
                        if let Event::Metric(Metric::Step { step, .. }) = event {
                            flag.store(first && Some(*step) == stop, Ordering::Relaxed);
                        }
                    })
                })
            };
            let running: Vec<_> = Threads::new(size).into_iter().map(run).collect();
            running.into_iter().map(|r| r.join().unwrap()).collect()
        })
    }

    fn finish(&self, config: &Config, name: &str, size: usize) {
        for outcome in self.run(config, name, size, None, usize::MAX) {
            assert!(outcome.unwrap().finished);
        }
    }

    /// Losses and norms as bits, and what was sent.
    fn found(&self, name: &str) -> (Vec<(u32, u32)>, Vec<Option<Sent>>) {
        let metrics = read(&self.path(name).join("metrics.jsonl")).unwrap();
        let step = |m: &Metric| match m {
            Metric::Step { loss, norm, sent, .. } => {
                Some(((loss.unwrap().to_bits(), norm.unwrap().to_bits()), *sent))
            }
            _ => None,
        };
        metrics.iter().filter_map(step).unzip()
    }

    /// The last checkpoint's weights and moments, and the model.
    fn results(&self, name: &str) -> [Vec<u8>; 2] {
        let last = checkpoint::list(&self.path(name).join("checkpoints")).unwrap().remove(0).1;
        [last.join("state.safetensors"), self.path(name).join("model.gguf")].map(|p| fs::read(p).unwrap())
    }
}

#[test]
fn ranks_change_no_bit() {
    let place = Place::new();
    let mut all = vec![
        ("shards = 4", "ema = 0.7"),
        ("shards = 4\nprecision = 'f32'", ""),
        ("shards = 4", "method = 'muon'\nema = 0.9"),
    ];
    if Cpu::new(CpuOptions::default()).unwrap().abilities().int8_training {
        all.push(("shards = 4\nprecision = 'int8'", ""));
    }
    for (training, optimizer) in all {
        let more = format!("[optimizer]\nlearning-rate = 0.01\n{optimizer}\n");
        let config = place.config(training, &more);
        for (size, name) in [(1, "one"), (2, "two"), (4, "four")] {
            place.finish(&config, name, size);
        }
        let (losses, sent) = place.found("one");
        assert_eq!((losses.len(), sent[0]), (8, None));
        let (first, last) = (f32::from_bits(losses[0].0), f32::from_bits(losses[7].0));
        assert!(last < 0.8 * first, "it learns: {first}, then {last}");
        for (name, ranks) in [("two", 2), ("four", 4)] {
            let (others, sent) = place.found(name);
            assert_eq!(others, losses, "{name}");
            assert!(place.results(name) == place.results("one"), "{name}");
            for sent in sent.into_iter().map(Option::unwrap) {
                // What is above the least are sums of squares, losses, and whether to stop.
                let over = sent.bytes_sent / sent.least_bytes;
                assert!(sent.ranks == ranks && (1.0..1.003).contains(&over), "{sent:?}");
            }
        }
        for name in ["one", "two", "four"] {
            fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn an_adapter_changes_no_bit_either() {
    let place = Place::new();
    let config = place.config("shards = 2", "");
    place.finish(&config, "base", 1);
    for form in ["", "dora = true\n"] {
        let more = format!("[adapter]\nrank = 4\n{form}[optimizer]\nlearning-rate = 0.01\nema = 0.9\n");
        let mut config = place.config("shards = 2", &more);
        config.model = autarky_train::config::ModelConfig {
            from: Some(place.path("base/model.gguf")),
            ..Default::default()
        };
        let [one, two] = [1, 2].map(|size| format!("{size}{}", form.len()));
        place.finish(&config, &one, 1);
        place.finish(&config, &two, 2);
        assert_eq!(place.found(&one).0, place.found(&two).0);
        assert!(place.results(&one) == place.results(&two));
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let place = Place::new();
    let config = place.config("shards = 4", "[optimizer]\nema = 0.9\n");
    place.finish(&config, "whole", 4);
    // Nobody says again how many shards there are.
    let same = place.config("", "[optimizer]\nema = 0.9\n");
    place.run(&config, "parts", 4, Some(2), usize::MAX);
    for (size, stop) in [(1, 3), (2, 5), (4, 6)] {
        for outcome in place.run(&same, "parts", size, Some(stop), usize::MAX) {
            let summary = outcome.unwrap();
            assert!(!summary.finished && summary.steps == stop, "{size}: {summary:?}");
        }
    }
    place.finish(&same, "parts", 2);
    assert_eq!(place.found("parts").0, place.found("whole").0);
    assert!(place.results("parts") == place.results("whole"));
    let error = place.run(&same, "parts", 8, None, usize::MAX).remove(0).unwrap_err().to_string();
    assert!(error.contains("8 ranks") && error.contains("4 shards"), "{error}");
    let other = place.config("shards = 8", "[optimizer]\nema = 0.9\n");
    let error = place.run(&other, "parts", 2, None, usize::MAX).remove(0).unwrap_err().to_string();
    assert!(error.contains("training.shards"), "{error}");
}

#[test]
fn a_rank_that_is_lost_ends_the_others_and_the_checkpoint_goes_on() {
    let place = Place::new();
    let config = place.config("shards = 4", "");
    place.finish(&config, "whole", 1);
    let mut begun = 0;
    for life in [0, 5, 20, 45, 50, 7, 20] {
        let mut outcomes = place.run(&config, "a", 4, None, life);
        let lost = outcomes.pop().unwrap().unwrap_err().to_string();
        assert!(lost.contains("a cable was cut"), "{lost}");
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            let gone = matches!(
                error,
                RunError::Ranks(RanksError::Gone(_))
                    | RunError::Train(TrainError::Ranks(RanksError::Gone(_)))
                    | RunError::Checkpoint(_)
            );
            assert!(gone && error.to_string().contains("has ended"), "{error}");
        }
        let folder = place.path("a/checkpoints");
        let whole = checkpoint::list(&folder).unwrap();
        whole.iter().for_each(|(_, path)| assert!(checkpoint::check(path).is_ok()));
        begun += usize::from(!whole.is_empty());
    }
    assert!(begun > 2, "some of them were lost after a checkpoint");
    place.finish(&config, "a", 2);
    assert_eq!(place.found("a").0, place.found("whole").0);
    assert!(place.results("a") == place.results("whole"));
}

#[test]
fn a_step_without_a_number_is_dropped_by_all() {
    let place = Place::new();
    let config = place.config("shards = 2", "[optimizer]\nlearning-rate = 1e30\n");
    let mut long = config.clone();
    long.training.steps = Some(20);
    for outcome in place.run(&long, "a", 2, None, usize::MAX) {
        let error = outcome.unwrap_err();
        assert!(matches!(error, RunError::Diverged(10)), "{error}");
    }
}

#[test]
fn ranks_that_are_to_do_something_else_are_refused() {
    let place = Place::new();
    let config = place.config("", "");
    let mut other = config.clone();
    other.optimizer.learning_rate = Some(0.5);
    let folder = place.path("a");
    let (folder, config, other) = (&folder, &config, &other);
    let errors: Vec<String> = thread::scope(|scope| {
        let run = |ranks: Threads| {
            scope.spawn(move || {
                let device = Cpu::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap();
                let flag = AtomicBool::new(false);
                let config = if ranks.rank() == 1 { other } else { config };
                let run = Run { config, folder, device: &device, stop: &flag };
                run.go_among(&ranks, &mut |_| {}).unwrap_err().to_string()
            })
        };
        let running: Vec<_> = Threads::new(2).into_iter().map(run).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    errors.iter().for_each(|e| assert!(e.contains("rank 1 has other settings"), "{e}"));
    // Eight rows are too few for sixteen.
    let error = place.run(config, "b", 16, None, usize::MAX).remove(0).unwrap_err().to_string();
    assert!(error.contains("8 rows") && error.contains("16 shards"), "{error}");
}
