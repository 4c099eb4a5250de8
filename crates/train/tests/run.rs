//! Whole runs: they learn, go on where they were broken off, and refuse what is damaged or another's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use autarky_cpu::{Cpu, CpuOptions};
use autarky_family::Model;
use autarky_graph::reference::Reference;
use autarky_graph::{BLOCK, CacheDType, Device, Limits, SequenceStep, Step};
use autarky_train::checkpoint;
use autarky_train::config::Config;
use autarky_train::disk::Writes;
use autarky_train::metrics::{Metric, read};
use autarky_train::run::{Event, Run, RunError, Summary};
use tempfile::TempDir;

/// A small text that has something to be learned.
fn text() -> String {
    let animals = ["cat", "dog", "fox", "hen"];
    let places = ["house", "garden", "forest"];
    let line = |i: usize| {
        format!(
            "The {} went to the {} and saw the {}.\n",
            animals[i % 4],
            places[i % 3],
            animals[(i * 7 + 1) % 4]
        )
    };
    (0..400).map(line).collect()
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("text.txt"), text()).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, more: &str) -> Config {
        let base = format!(
            "[model]\ndepth = 1\nvocabulary = 300\n[data]\ntrain = [{:?}]\nheld-out = 0.1\n[training]\ncontext = 32\n\
             batch = 128\nat-once = 64\nsteps = 12\n[checkpoints]\nevery = 3\n[evaluation]\nevery = 6\n{more}",
            self.path("text.txt")
        );
        Config::from_toml(&base, "test").unwrap()
    }

    /// A trained model in Q8_0.
    fn quantized(&self) -> PathBuf {
        let summary = self.run(&self.config(""), "first", |_| false).unwrap();
        let gguf = summary.models.into_iter().find(|m| m.ends_with("model.gguf")).unwrap();
        let options = autarky_family::convert::Options {
            dtype: Some(autarky_quant::DType::Q8_0),
            ..Default::default()
        };
        let quantized = self.path("q8.gguf");
        autarky_family::convert(&Model::open(&gguf).unwrap(), &quantized, &options, &mut |_| {}).unwrap();
        quantized
    }

    /// Runs until `stop` says so of a step.
    fn run(&self, config: &Config, name: &str, stop: impl Fn(u64) -> bool) -> Result<Summary, RunError> {
        self.run_telling(config, name, &mut |event, flag| {
            if let Event::Metric(Metric::Step { step, .. }) = event {
                flag.store(stop(*step), Ordering::Relaxed);
            }
        })
    }

    fn run_telling(
        &self,
        config: &Config,
        name: &str,
        hear: &mut dyn FnMut(&Event<'_>, &AtomicBool),
    ) -> Result<Summary, RunError> {
        let device = Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).unwrap();
        let flag = AtomicBool::new(false);
        let run = Run { config, folder: &self.path(name), device: &device, stop: &flag };
        run.go(&mut |event| hear(&event, &flag))
    }

    /// What the run wrote down of losses: of steps and of evaluations, as bits.
    fn losses(&self, name: &str) -> Vec<(u64, u64)> {
        let bits = |metric: &Metric| match metric {
            Metric::Step { step, loss, .. } => Some((*step, u64::from(loss.unwrap().to_bits()))),
            Metric::Evaluation { step, loss, .. } => Some((*step, loss.to_bits())),
            _ => None,
        };
        read(&self.path(name).join("metrics.jsonl")).unwrap().iter().filter_map(bits).collect()
    }
}

#[test]
fn a_run_learns_and_gives_a_model_that_others_read() {
    let place = Place::new();
    let config =
        place.config("samples = ['The cat']\nsample-tokens = 4\n[optimizer]\nlearning-rate = 0.02\n");
    let summary = place.run(&config, "a", |_| false).unwrap();
    assert!(summary.finished && summary.steps == 12);
    let metrics = read(&place.path("a").join("metrics.jsonl")).unwrap();
    let losses: Vec<f32> =
        metrics.iter().filter_map(|m| if let Metric::Step { loss, .. } = m { *loss } else { None }).collect();
    assert_eq!(losses.len(), 12);
    assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
    let samples = metrics.iter().filter(|m| matches!(m, Metric::Sample { .. })).count();
    assert_eq!(samples, 2);
    // The same weights in both forms, and in the trained model.
    let [folder, gguf] = &summary.models[..] else { panic!("{:?}", summary.models) };
    let (one, other) = (Model::open(folder).unwrap(), Model::open(gguf).unwrap());
    assert_eq!(one.config().width, 64);
    for spec in one.graph().weights() {
        let numbers = |model: &Model| model.weights().get(&spec.name).unwrap().to_f32(&spec.name).unwrap();
        let turned = spec.name.contains("attn_q.") || spec.name.contains("attn_k.");
        let (mut a, mut b) = (numbers(&one), numbers(&other));
        if spec.shape.len() == 1 {
            // GGUF's vectors are not rounded.
            b.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        if turned {
            // GGUF's rows of queries and keys are in another order.
            a.sort_by(f32::total_cmp);
            b.sort_by(f32::total_cmp);
        }
        assert!(a == b, "{}", spec.name);
    }
}

#[test]
fn a_run_that_is_stopped_goes_on_with_the_same_bits() {
    let place = Place::new();
    for more in [
        "",
        "[optimizer]\nlearning-rate = 0.02\n[schedule]\ndecay = 'wsd'\nwarmup = 2\n",
        "[optimizer]\nmethod = 'muon'\n",
        "[optimizer]\nlearning-rate = 0.02\nema = 0.8\n",
    ] {
        let config = place.config(more);
        place.run(&config, "whole", |_| false).unwrap();
        let whole = place.losses("whole");
        assert_eq!(whole.len(), 14);
        // Stopped after steps that have a checkpoint, and after others.
        for stops in [1, 3, 7, 11] {
            let summary = place.run(&config, "parts", |step| step == stops).unwrap();
            assert!(!summary.finished && summary.steps == stops);
        }
        let summary = place.run(&config, "parts", |_| false).unwrap();
        assert!(summary.finished);
        assert_eq!(place.losses("parts"), whole);
        let model = |name: &str| fs::read(place.path(name).join("model.gguf")).unwrap();
        assert!(model("parts") == model("whole"));
        for name in ["whole", "parts"] {
            fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn the_averaged_weights_are_evaluated_and_written_and_change_no_step() {
    let place = Place::new();
    let config = |ema: &str| place.config(&format!("[optimizer]\nlearning-rate = 0.02\n{ema}"));
    place.run(&config(""), "plain", |_| false).unwrap();
    place.run(&config("ema = 0.8"), "averaged", |_| false).unwrap();
    let (steps, evaluations): (Vec<_>, Vec<_>) =
        place.losses("averaged").into_iter().partition(|(_, bits)| *bits <= u64::from(u32::MAX));
    let (plain_steps, plain_evaluations): (Vec<_>, Vec<_>) =
        place.losses("plain").into_iter().partition(|(_, bits)| *bits <= u64::from(u32::MAX));
    assert_eq!(steps, plain_steps);
    assert_eq!(evaluations.len(), 2);
    assert!(evaluations.iter().zip(&plain_evaluations).all(|(a, b)| a != b));
    let state = |name: &str| {
        let (_, last) = checkpoint::list(&place.path(name).join("checkpoints")).unwrap().remove(0);
        autarky_format::safetensors::File::open(last.join("state.safetensors")).unwrap()
    };
    let (plain, averaged) = (state("plain"), state("averaged"));
    let model = Model::open(place.path("averaged/model.gguf")).unwrap();
    let numbers = |file: &autarky_format::safetensors::File, name: &str| {
        file.require(name).unwrap().f32s().unwrap().into_owned()
    };
    for spec in model.graph().weights() {
        let name = &spec.name;
        assert!(numbers(&averaged, name) == numbers(&plain, name), "{name}");
        let mut average = numbers(&averaged, &format!("{name}.average"));
        assert!(average != numbers(&plain, name), "{name}");
        let mut written = model.weights().get(name).unwrap().to_f32(name).unwrap();
        if spec.shape.len() > 1 {
            average.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        // GGUF's rows of queries and keys are in another order.
        average.sort_by(f32::total_cmp);
        written.sort_by(f32::total_cmp);
        assert!(written == average, "{name}");
    }
}

#[test]
fn a_run_without_room_on_the_disk_does_not_begin() {
    let place = Place::new();
    let mut config = place.config("");
    (config.training.steps, config.checkpoints.every) = (Some(1 << 50), Some(1));
    config.checkpoints.keep = 1 << 40;
    let error = place.run(&config, "a", |_| true).unwrap_err();
    assert!(matches!(error, RunError::Disk(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("checkpoints.keep") && told.contains("free"), "{told}");
    assert!(!place.path("a/checkpoints").exists());
}

#[test]
fn what_a_run_writes_is_what_was_estimated() {
    for more in ["", "[optimizer]\nema = 0.9\n", "[optimizer]\nmethod = 'muon'\n"] {
        let place = Place::new();
        let mut config = place.config(more);
        config.checkpoints.keep = 3;
        let mut writes = None;
        place
            .run_telling(&config, "a", &mut |event, _| {
                if let Event::Begin(plan, subject, _) = event {
                    writes = Some(Writes::of(&config, subject, plan));
                }
            })
            .unwrap();
        let writes = writes.unwrap();
        let size = |name: &str| fs::metadata(place.path("a").join(name)).unwrap().len();
        let about = |bytes: u64, expected: u64| {
            // Headers, and vectors that are never rounded.
            assert!(
                bytes >= expected && bytes < expected + expected / 4,
                "{bytes} of {expected}: {writes:?}"
            );
        };
        about(size("checkpoints/step-00000012/state.safetensors"), writes.checkpoint);
        about(size("model.gguf") + size("model/model.safetensors"), writes.models);
        assert_eq!(writes.checkpoints, 4);
    }
}

#[test]
fn the_model_is_there_with_every_checkpoint_where_it_is_asked_for() {
    let place = Place::new();
    let mut config = place.config("[optimizer]\nlearning-rate = 0.02\nema = 0.8\n");
    config.checkpoints.model = true;
    let mut found = Vec::new();
    place
        .run_telling(&config, "a", &mut |event, _| {
            if let Event::Checkpoint(_) = event {
                found.push(
                    place
                        .path("a/model.gguf")
                        .exists()
                        .then(|| logits(&Model::open(place.path("a/model.gguf")).unwrap())),
                );
            }
        })
        .unwrap();
    // The last checkpoint is told before the result is written.
    assert!(found.len() == 4 && found.iter().all(Option::is_some));
    assert!(found[0] != found[1] && found[1] != found[2] && found[2] == found[3]);
    // What is written on the way changes nothing later.
    config.checkpoints.model = false;
    place.run(&config, "b", |_| false).unwrap();
    assert_eq!(place.losses("a"), place.losses("b"));
    // Of an adapter it is its folder.
    let mut config = place.config("[adapter]\nrank = 4\n");
    config.checkpoints.model = true;
    let from = Some(place.path("a/model.gguf"));
    config.model = autarky_train::config::ModelConfig { from, ..Default::default() };
    place.run(&config, "c", |step| step == 3).unwrap();
    let base = || Model::open(place.path("a/model.gguf")).unwrap();
    assert!(logits(&base().with_adapter(place.path("c/adapter")).unwrap()) != logits(&base()));
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_is_used() {
    let place = Place::new();
    let config = place.config("");
    place.run(&config, "whole", |_| false).unwrap();
    place.run(&config, "a", |step| step == 7).unwrap();
    let folder = place.path("a").join("checkpoints");
    let found: Vec<u64> = checkpoint::list(&folder).unwrap().iter().map(|(step, _)| *step).collect();
    assert_eq!(found, [7, 6]);
    let state = folder.join("step-00000007/state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() - 1]).unwrap();
    let about = folder.join("step-00000007/checkpoint.json");
    let text = fs::read_to_string(&about).unwrap();
    // A damaged one does not tell of another run, either.
    fs::write(&about, text.replace("\"context\": 32", "\"context\": 33")).unwrap();
    assert_ne!(fs::read_to_string(&about).unwrap(), text);
    // What a kill leaves half written is no checkpoint.
    fs::create_dir(folder.join(".step-00000009.partial")).unwrap();
    let (mut damaged, mut begun) = (0, None);
    place
        .run_telling(&config, "a", &mut |event, _| match event {
            Event::Damaged(_) => damaged += 1,
            Event::Begin(_, _, step) => begun = Some(*step),
            _ => {}
        })
        .unwrap();
    assert_eq!((damaged, begun), (1, Some(6)));
    assert_eq!(place.losses("a"), place.losses("whole"));
    assert!(!folder.join(".step-00000009.partial").exists());
}

#[test]
fn every_change_of_a_checkpoint_is_noticed() {
    let place = Place::new();
    let config = place.config("");
    place.run(&config, "a", |step| step == 3).unwrap();
    let (_, path) = checkpoint::list(&place.path("a").join("checkpoints")).unwrap().remove(0);
    assert_eq!(checkpoint::check(&path).unwrap().step, 3);
    for name in ["state.safetensors", "checkpoint.json"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        let notices = |bytes: &[u8], what: &str| {
            fs::write(&file, bytes).unwrap();
            assert!(checkpoint::check(&path).is_err(), "{name}, {what}");
        };
        for i in 0..40 {
            let at = i * (whole.len() - 1) / 39;
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (i % 8);
            // Blanks in JSON say nothing.
            if name.ends_with("safetensors") || !whole[at].is_ascii_whitespace() {
                notices(&bytes, &format!("bit {} of byte {at}", i % 8));
            }
            notices(&whole[..at], &format!("cut at {at}"));
        }
        fs::write(&file, &whole).unwrap();
    }
    checkpoint::check(&path).unwrap();
}

#[test]
fn another_run_does_not_take_the_folder() {
    let place = Place::new();
    place.run(&place.config(""), "a", |step| step == 3).unwrap();
    let before = fs::read(place.path("a").join("tokenizer/tokenizer.json")).unwrap();
    let mut other = place.config("[optimizer]\nlearning-rate = 0.5\n");
    other.model.vocabulary = Some(310);
    let error = place.run(&other, "a", |_| false).unwrap_err().to_string();
    assert!(error.contains("model.vocabulary") && error.contains("optimizer.learning-rate"), "{error}");
    assert!(fs::read(place.path("a").join("tokenizer/tokenizer.json")).unwrap() == before);
    // How often it is looked at changes no loss.
    let mut same = place.config("");
    (same.evaluation.every, same.checkpoints.every) = (Some(4), Some(5));
    place.run(&same, "a", |step| step == 5).unwrap();
}

#[test]
fn steps_that_give_no_number_are_dropped_and_end_the_run_when_they_go_on() {
    let place = Place::new();
    let config = place.config("[optimizer]\nlearning-rate = 1e30\n");
    let mut dropped = Vec::new();
    let error = place
        .run_telling(&config, "a", &mut |event, _| {
            if let Event::Dropped(step, _) = event {
                dropped.push(*step);
            }
        })
        .unwrap_err();
    assert!(matches!(error, RunError::Diverged(10)), "{error}");
    assert_eq!(dropped.len(), 10);
}

#[test]
fn answers_alone_are_learned_from_conversations() {
    let place = Place::new();
    let line = |i: usize| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "What is {i} plus 1?"}}, {{"role": "assistant", "content": "It is {}."}}]}}"#,
            i + 1
        )
    };
    let mut lines: Vec<String> = (0..200).map(line).collect();
    lines[20] = "{\"messages\": [".to_owned();
    lines[30] = r#"{"messages": [{"role": "user", "content": "no answer"}]}"#.to_owned();
    fs::write(place.path("chats.jsonl"), lines.join("\n")).unwrap();
    let mut config = place.config("");
    config.data.train = vec![place.path("chats.jsonl")];
    let (mut broken, mut tokens) = (0, Vec::new());
    place
        .run_telling(&config, "a", &mut |event, _| match event {
            Event::Read(report) => broken = report.broken.count() + report.unfit_count,
            Event::Metric(Metric::Step { tokens: learned, .. }) => tokens.push(*learned),
            _ => {}
        })
        .unwrap();
    assert_eq!(broken, 2);
    // A row of 32 tokens has one such conversation, of which the answer is the smaller part.
    assert!(tokens.iter().all(|&t| t > 8 && t < 80), "{tokens:?}");
    config.data.strict = true;
    let error = place.run(&config, "b", |_| false).unwrap_err().to_string();
    assert!(error.contains("chats.jsonl") && error.contains("21"), "{error}");
}

#[test]
fn a_model_is_trained_further_from_both_kinds_of_files() {
    let place = Place::new();
    let first = place.run(&place.config(""), "first", |_| false).unwrap();
    for model in &first.models {
        let mut config = place.config("");
        config.model = autarky_train::config::ModelConfig { from: Some(model.clone()), ..Default::default() };
        config.optimizer.learning_rate = Some(1e-3);
        let name = format!("more-{}", model.extension().map_or("hf", |e| e.to_str().unwrap()));
        let summary = place.run(&config, &name, |_| false).unwrap();
        let (before, after) = (place.losses("first"), place.losses(&name));
        let loss = |losses: &[(u64, u64)], i: usize| f32::from_bits(losses[i].1 as u32);
        assert!(loss(&after, 0) < loss(&before, 0), "it begins where the other ended");
        assert!(summary.models.iter().any(|m| m.ends_with("model.gguf")));
        for model in &summary.models {
            Model::open(model).unwrap();
        }
    }
    let missing = Path::new("/nowhere/model.gguf");
    let mut config = place.config("");
    config.model = autarky_train::config::ModelConfig { from: Some(missing.into()), ..Default::default() };
    assert!(place.run(&config, "b", |_| false).unwrap_err().to_string().contains("/nowhere/model.gguf"));
}

#[test]
fn an_adapter_is_trained_beside_a_quantized_model_and_goes_on_where_it_was_stopped() {
    let place = Place::new();
    let quantized = place.quantized();
    let mut config = place.config("[adapter]\nrank = 4\n[optimizer]\nlearning-rate = 0.01\nema = 0.5\n");
    config.model = autarky_train::config::ModelConfig { from: Some(quantized), ..Default::default() };
    let whole = place.run(&config, "whole", |_| false).unwrap();
    place.run(&config, "parts", |step| step == 7).unwrap();
    let parts = place.run(&config, "parts", |_| false).unwrap();
    assert_eq!(place.losses("parts"), place.losses("whole"));
    let losses: Vec<f32> = place
        .losses("whole")
        .iter()
        .filter(|(_, b)| *b <= u64::from(u32::MAX))
        .map(|(_, b)| f32::from_bits(*b as u32))
        .collect();
    assert!(losses[11] < losses[0], "{losses:?}");
    let names: Vec<&str> = whole.models.iter().map(|m| m.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["adapter", "adapter.gguf", "model.gguf"]);
    for (a, b) in whole.models.iter().zip(&parts.models).filter(|(a, _)| a.is_file()) {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap());
    }
    let file =
        autarky_format::safetensors::File::open(whole.models[0].join("adapter_model.safetensors")).unwrap();
    let module = "base_model.model.model.layers.0.mlp.down_proj";
    assert_eq!(file.require(&format!("{module}.lora_A.weight")).unwrap().shape, [4, 192]);
    assert_eq!(file.require(&format!("{module}.lora_B.weight")).unwrap().shape, [64, 4]);
    let about = fs::read_to_string(whole.models[0].join("adapter_config.json")).unwrap();
    for part in [r#""r": 4"#, r#""lora_alpha": 8.0"#, r#""q_proj""#] {
        assert!(about.contains(part), "{about}");
    }
    let merged = Model::open(&whole.models[2]).unwrap();

    // It is applied from either form, to the model that it was trained beside or to that in another form.
    let [peft, file] = [0, 1].map(|i| &whole.models[i]);
    let base = || Model::open(place.path("q8.gguf")).unwrap();
    let expected = logits(&merged);
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off =
        |found: &[f32]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
    assert!(off(&logits(&base())) > 0.05);
    let applied = logits(&base().with_adapter(peft).unwrap());
    assert!(off(&applied) < 0.02, "{}", off(&applied));
    assert!(logits(&base().with_adapter(file).unwrap()) == applied);
    let folder = || Model::open(place.path("first/model")).unwrap();
    let beside_floats = logits(&folder().with_adapter(peft).unwrap());
    assert!(off(&beside_floats) < 0.05, "{}", off(&beside_floats));
    assert!(logits(&folder().with_adapter(file).unwrap()) == beside_floats);

    let refused = |path: &Path| base().with_adapter(path).unwrap_err().to_string();
    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(peft.join("adapter_model.safetensors"), other.join("adapter_model.safetensors")).unwrap();
    assert!(refused(&other).contains("adapter_config.json"));
    for (from, to, told) in [
        (r#""peft_type": "LORA""#, r#""peft_type": "IA3""#, "IA3"),
        (r#""bias": "none""#, r#""bias": "all""#, "biases"),
        (r#""use_dora": false"#, r#""use_dora": true"#, "lora_magnitude_vector"),
    ] {
        fs::write(other.join("adapter_config.json"), about.replace(from, to)).unwrap();
        assert!(refused(&other).contains(told), "{}", refused(&other));
    }
    let first = place.path("first/model.gguf");
    assert!(refused(&first).contains("general.type"), "{}", refused(&first));
}

#[test]
fn dora_goes_on_where_it_was_stopped_and_all_that_is_written_of_it_says_the_same() {
    let place = Place::new();
    let quantized = place.quantized();
    let mut config =
        place.config("[adapter]\nrank = 4\ndora = true\n[optimizer]\nlearning-rate = 0.01\nema = 0.5\n");
    config.model = autarky_train::config::ModelConfig { from: Some(quantized.clone()), ..Default::default() };
    let whole = place.run(&config, "whole", |_| false).unwrap();
    place.run(&config, "parts", |step| step == 7).unwrap();
    let parts = place.run(&config, "parts", |_| false).unwrap();
    assert_eq!(place.losses("parts"), place.losses("whole"));
    // llama.cpp's form cannot say it.
    let names: Vec<&str> = whole.models.iter().map(|m| m.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["adapter", "model.gguf"]);
    let bytes = |summary: &Summary| fs::read(summary.models[0].join("adapter_model.safetensors")).unwrap();
    assert!(bytes(&whole) == bytes(&parts));
    let file =
        autarky_format::safetensors::File::open(whole.models[0].join("adapter_model.safetensors")).unwrap();
    let module = "base_model.model.model.layers.0.mlp.down_proj";
    let magnitude = file.require(&format!("{module}.lora_magnitude_vector")).unwrap();
    assert_eq!(magnitude.shape, [64]);
    // They were trained: no longer the norms of the model's rows.
    let base = || Model::open(&quantized).unwrap();
    let name = "blk.0.ffn_down.weight";
    let w = base().weights().get(name).unwrap().to_f32(name).unwrap();
    let norms: Vec<f32> = w.chunks(192).map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
    let moved: f32 =
        magnitude.f32s().unwrap().iter().zip(&norms).map(|(m, norm)| (m / norm - 1.0).abs()).sum();
    assert!(moved / 64.0 > 1e-4, "{moved}");
    let about = fs::read_to_string(whole.models[0].join("adapter_config.json")).unwrap();
    assert!(about.contains(r#""use_dora": true"#), "{about}");

    // Applied beside the model it says what the model with it says, for files in either order of rows.
    let expected = logits(&Model::open(&whole.models[1]).unwrap());
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off =
        |found: &[f32]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
    let applied = off(&logits(&base().with_adapter(&whole.models[0]).unwrap()));
    assert!(applied < 0.02, "{applied}");
    let folder = Model::open(place.path("first/model")).unwrap();
    let beside_floats = off(&logits(&folder.with_adapter(&whole.models[0]).unwrap()));
    assert!(beside_floats < 0.05, "{beside_floats}");
    assert!(off(&logits(&base())) > 0.05);
}

/// The logits of some tokens.
fn logits(model: &Model) -> Vec<f32> {
    let tokens = [5, 60, 61, 62, 70, 71, 72, 73];
    let limits = Limits::single(BLOCK, tokens.len(), CacheDType::F32);
    let mut program =
        Reference.compile(std::sync::Arc::clone(model.graph()), model.weights(), limits).unwrap();
    let sequence = SequenceStep { position: 0, tokens: tokens.len(), blocks: &[0] };
    let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
    program
        .run(&Step { tokens: &tokens, sequences: &[sequence], outputs: &outputs, inputs: &[], weights: &[] })
        .unwrap();
    program.output(0).to_vec()
}
