//! `autarky train`

mod ranks;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use autarky_cpu::{Isa, Pool, matmul::peak};
use autarky_train::Precision;
use autarky_train::config::{Config, Method};
use autarky_train::metrics::{Metric, Sent};
use autarky_train::plan::{RunPlan, Unit};
use autarky_train::run::{Event, Run, Summary};
use autarky_train::subject::Subject;
use serde_json::json;

use self::ranks::OverMpi;
use super::{count, print};
use crate::args::{DeviceName, TrainingArgs};
use crate::builtin;
use crate::exit::{Input, Interrupted, Usage};
use crate::load;
use crate::terminal::{CtrlC, Progress, printable, say, warn};

/// In a log that is no terminal, steps are told so often.
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(args: &TrainingArgs) -> Result<()> {
    let joined = OverMpi::join()?;
    match (train(args, joined.as_ref()), joined) {
        (Err(error), Some(mpi)) if !error.is::<Interrupted>() => mpi.end(error),
        (outcome, _) => outcome,
    }
}

/// Trains, as one of several processes or alone.
fn train(args: &TrainingArgs, joined: Option<&OverMpi>) -> Result<()> {
    let mut config = match &args.run {
        None => Config::default(),
        Some(file) => {
            let text = fs::read_to_string(file)
                .map_err(|e| Input(format!("cannot read {}: {e}", file.display())))?;
            let mut config = Config::from_toml(&text, &file.display().to_string())?;
            config.relative_to(file);
            config
        }
    };
    args.apply(&mut config);
    if let Some(from) = &mut config.model.from {
        *from = builtin::resolve(from)?.into_owned();
    }
    let named = args.run.as_ref().map(|file| file.with_extension(""));
    let folder = args.out.clone().or(named);
    let folder = folder.ok_or_else(|| Usage("--out FOLDER: say where the run is to be".to_owned()))?;
    let ranks = ranks::ranks(joined);
    let mut on = args.device.clone();
    if let (Some(mpi), None, DeviceName::Cpu) = (joined, on.threads, on.device) {
        on.threads = Some(mpi.threads());
    }
    let (device, threads) = load::device(&on)?;
    let interrupt = CtrlC::watch();
    let tells = ranks.rank() == 0;
    let peak = (args.device.device == DeviceName::Cpu && !args.json && tells).then(|| {
        let isa = device.abilities().instruction_set.parse().unwrap_or_else(|_| Isa::detect());
        peak_of(config.training.precision, isa, threads) * ranks.size() as f64
    });
    let processes = joined.map_or(String::new(), OverMpi::describe);
    let isa = device.abilities().instruction_set;
    let computing = format!("{}, {isa}, {threads} threads{processes}", device.name());
    let mut view = View { json: args.json, computing, peak, ..View::default() };
    let run = Run { config: &config, folder: &folder, device: &*device, stop: interrupt.flag() };
    let outcome = run.go_among(ranks, &mut |event| {
        if tells {
            view.hear(&event, &config);
        }
    });
    view.progress = None;
    let summary = outcome.with_context(|| format!("cannot train in {}", folder.display()))?;
    if tells { view.end(&summary, &folder) } else { Ok(()) }
}

/// Operations that this machine does in a second in a precision.
pub(super) fn peak_of(precision: Precision, isa: Isa, threads: usize) -> f64 {
    let pool = Pool::new(threads);
    match precision {
        Precision::F32 => peak::f32_flops(isa, &pool),
        Precision::Bf16 => peak::bf16_flops(isa, &pool),
        Precision::Int8 => peak::int8_ops(isa, &pool),
    }
}

/// What is shown of a run.
#[derive(Default)]
struct View {
    json: bool,
    computing: String,
    /// Operations that this machine does in a second.
    peak: Option<f64>,
    plan: Option<RunPlan>,
    /// Operations for a token that is learned.
    operations: f64,
    progress: Option<Progress>,
    losses: Vec<f32>,
    rate: Option<f64>,
    /// What else the last step came to.
    beside: String,
    logged: Option<Instant>,
    /// What ranks sent for the last step.
    sent: Option<Sent>,
}

impl View {
    fn hear(&mut self, event: &Event<'_>, config: &Config) {
        if self.json {
            return self.as_json(event);
        }
        match event {
            Event::Reading(what, done, of, bytes) => {
                let note = format!("{:.0} MB", *bytes as f64 / 1e6);
                let progress = self.progress.get_or_insert_with(|| Progress::new(what));
                progress.set(*done as u64, *of as u64, &note);
            }
            Event::Read(report) => {
                self.progress = None;
                for problem in report.broken.first() {
                    warn(&problem.to_string());
                }
                let more = report.broken.count() as usize - report.broken.first().len();
                if more > 0 {
                    warn(&format!("{more} more records cannot be read"));
                }
                report.unfit.iter().for_each(|text| warn(text));
                let more = report.unfit_count as usize - report.unfit.len();
                if more > 0 {
                    warn(&format!("{more} more records cannot be learned from"));
                }
                if !report.skipped.is_empty() {
                    warn(&format!("{} files of other kinds are left out", report.skipped.len()));
                }
            }
            Event::Damaged(error) => warn(&format!("{error}; the one before it is used")),
            Event::Begin(plan, subject, step) => self.begin(plan, subject, *step, config),
            Event::Metric(metric) => self.metric(metric),
            Event::Dropped(step, error) => self.say(&format!("step {step} is dropped: {error}")),
            Event::Checkpoint(_) => {}
        }
    }

    /// A line that stays, above the one that changes.
    fn say(&mut self, line: &str) {
        self.progress = None;
        say(&printable(line));
    }

    fn begin(&mut self, plan: &RunPlan, subject: &Subject, step: u64, config: &Config) {
        let batch = plan.batch() as u64;
        let tokens = plan.steps * batch;
        let passes = tokens as f64 / plan.data.max(1) as f64;
        let precision = match config.training.precision {
            Precision::Bf16 => "BF16",
            Precision::F32 => "F32",
            Precision::Int8 => "INT8",
        };
        let sizes = &subject.sizes;
        // Two operations a parameter forward and two back; two more for the gradients of those that are trained.
        let trained = plan.parameters as f64;
        self.operations = match &subject.adapter {
            None => 6.0 * trained,
            Some(adapter) => 4.0 * adapter.base.parameters() as f64 + 6.0 * trained,
        };
        let parameters = subject.adapter.as_ref().map_or(plan.parameters, |a| a.base.parameters());
        self.say(&format!(
            "model      {}, {} parameters, {} layers, width {}, vocabulary {}",
            sizes.family,
            count(parameters),
            sizes.layers,
            sizes.width,
            sizes.vocabulary
        ));
        if let Some(adapter) = &subject.adapter {
            let (rank, dora) = (adapter.config.rank, adapter.config.dora);
            let kind = if dora { "DoRA" } else { "LoRA" };
            self.say(&format!("adapter    {kind} of rank {rank}, {} parameters", count(plan.parameters)));
            if dora {
                self.say(
                    "           written for PEFT only: llama.cpp's adapters have no place for its magnitudes",
                );
            }
        }
        let (data, units) = match plan.unit {
            Unit::Rows => ("tokens", ""),
            Unit::Pairs => ("pairs", " pairs"),
            Unit::Prompts => ("prompts", " prompts"),
        };
        self.say(&format!("data       {} {data} to learn from", count(plan.data)));
        match (&config.grpo, plan.unit) {
            (_, Unit::Rows) => self.say(&format!(
                "run        {} steps of {} x {} tokens: {} tokens, {passes:.2} passes",
                plan.steps,
                plan.rows,
                plan.context,
                count(tokens)
            )),
            (grpo, _) => {
                let passes = (plan.steps * plan.rows as u64) as f64 / plan.data.max(1) as f64;
                let answers = grpo.as_ref().map_or(String::new(), |g| format!(" x {} answers", g.answers));
                let (steps, rows) = (plan.steps, plan.rows);
                self.say(&format!("run        {steps} steps of {rows}{units}{answers}, {passes:.2} passes"));
            }
        }
        self.say(&format!(
            "optimizer  {}, learning rate {:.3e} after {} steps, then {:?}",
            match config.optimizer.method {
                Method::Adamw => "AdamW",
                Method::Muon => "Muon and AdamW",
            },
            plan.learning_rate,
            plan.warmup,
            config.schedule.decay
        ));
        if let Some(decay) = config.optimizer.ema {
            self.say(&format!(
                "average    of the weights, decay {decay}: it is evaluated, gives the samples, and is the result"
            ));
        }
        self.say(&format!("computing  {precision} on {}", self.computing));
        if step > 0 {
            self.say(&format!("going on after step {step}"));
        }
        self.plan = Some(plan.clone());
    }

    fn metric(&mut self, metric: &Metric) {
        let Some(plan) = self.plan.clone() else { return };
        match metric {
            Metric::Step { step, loss, learning_rate, tokens, seconds, sent, .. } => {
                self.sent = *sent;
                self.losses.extend(loss);
                let rate = *tokens as f64 / seconds.max(1e-9);
                // A mean that forgets, so that the number can be read.
                let rate = self.rate.map_or(rate, |old| 0.9 * old + 0.1 * rate);
                self.rate = Some(rate);
                let share =
                    self.peak.filter(|_| plan.unit == Unit::Rows).map(|peak| self.operations * rate / peak);
                // A peak that was measured while others kept the processors busy is none.
                let share = share.filter(|share| *share <= 1.0);
                let share = share.map_or(String::new(), |s| format!(" ({:.0}% of peak)", 100.0 * s));
                let loss = loss.map_or("none".to_owned(), |l| format!("{l:.4}"));
                let beside = &self.beside;
                let note =
                    format!("loss {loss}{beside}  rate {learning_rate:.2e}  {rate:.0} tokens/s{share}");
                if io::stderr().is_terminal() {
                    let curve = curve(&self.losses, 16);
                    let progress = self.progress.get_or_insert_with(|| Progress::new("training"));
                    progress.set(*step, plan.steps, &format!("{curve} {note}"));
                } else if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) || *step == plan.steps {
                    self.logged = Some(Instant::now());
                    say(&format!("step {step}/{}  {note}", plan.steps));
                }
            }
            Metric::Evaluation { step, loss, bits_per_byte, .. } => {
                self.say(&format!(
                    "step {step}/{}  held-out loss {loss:.4}, {bits_per_byte:.4} bits a byte",
                    plan.steps
                ));
            }
            Metric::Pairs { step, held_out: true, loss, accuracy, margin, .. } => self.say(&format!(
                "step {step}/{}  held-out loss {loss:.4}, {:.1}% of pairs right, margin {margin:.3}",
                plan.steps,
                100.0 * accuracy
            )),
            Metric::Pairs { accuracy, .. } => self.beside = format!("  {:.0}% right", 100.0 * accuracy),
            Metric::Rewards { step, held_out: true, reward, length, .. } => self.say(&format!(
                "step {step}/{}  held-out reward {reward:.4}, answers of {length:.1} tokens",
                plan.steps
            )),
            Metric::Rewards { reward, .. } => self.beside = format!("  reward {reward:.3}"),
            Metric::Sample { prompt, text, .. } => self.say(&format!("  {prompt}|{text}")),
        }
    }

    fn as_json(&mut self, event: &Event<'_>) {
        if let Event::Begin(plan, ..) = event {
            self.plan = Some((*plan).clone());
        }
        let value = match event {
            Event::Reading(..) => return,
            Event::Read(report) => json!({
                "kind": "data",
                "broken": report.broken.count(),
                "unfit": report.unfit_count,
                "first": report.broken.first().iter().map(ToString::to_string)
                    .chain(report.unfit.iter().cloned()).collect::<Vec<_>>(),
                "skipped": report.skipped,
            }),
            Event::Damaged(error) => json!({"kind": "damaged", "error": error.to_string()}),
            Event::Begin(plan, subject, step) => json!({
                "kind": "begin",
                "step": step,
                "family": subject.sizes.family,
                "plan": plan,
                "computing": self.computing,
            }),
            Event::Metric(metric) => json!(metric),
            Event::Dropped(step, error) => {
                json!({"kind": "dropped", "step": step, "error": error.to_string()})
            }
            Event::Checkpoint(path) => json!({"kind": "checkpoint", "path": path}),
        };
        // Nobody who listens is no reason to end the run.
        let _ = print(&format!("{value}\n"));
    }

    fn end(&mut self, summary: &Summary, folder: &Path) -> Result<()> {
        if self.json {
            let models: Vec<&PathBuf> = summary.models.iter().collect();
            let rewarded = self.plan.as_ref().is_some_and(|plan| plan.unit == Unit::Prompts);
            let validation = if rewarded { "validation_reward" } else { "validation_loss" };
            print(&format!(
                "{}\n",
                json!({"kind": "end", "step": summary.steps, "finished": summary.finished,
                    validation: summary.validation, "models": models})
            ))?;
        } else if summary.finished {
            let sent = self.sent.filter(|sent| sent.least_bytes > 0.0);
            if let Some(Sent { ranks, bytes_sent, least_bytes }) = sent {
                let (megabytes, over) = (bytes_sent / 1e6, bytes_sent / least_bytes);
                self.say(&format!(
                    "ranks      {ranks}, each sent {megabytes:.3} MB a step: {over:.4} of the least possible"
                ));
            }
            for model in &summary.models {
                print(&format!("{} written\n", model.display()))?;
            }
        }
        if !summary.finished {
            say(&format!(
                "stopped after step {}: the same command goes on from there ({})",
                summary.steps,
                folder.display()
            ));
            return Err(Interrupted.into());
        }
        Ok(())
    }
}

/// The course of some numbers in so many characters.
fn curve(numbers: &[f32], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let each = numbers.len().div_ceil(width).max(1);
    let means: Vec<f32> = numbers.chunks(each).map(|c| c.iter().sum::<f32>() / c.len() as f32).collect();
    let (low, high) = means.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let bar = |x: &f32| {
        let height = if high > low { (x - low) / (high - low) } else { 0.0 };
        BARS[((height * 7.0).round() as usize).min(7)]
    };
    means.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::curve;

    #[test]
    fn a_curve_falls_as_its_numbers_do() {
        assert_eq!(curve(&[], 4), "");
        assert_eq!(curve(&[2.0], 4), "▁");
        assert_eq!(curve(&[8.0, 1.0], 4), "█▁");
        assert_eq!(curve(&[7.0, 7.0, 3.5, 3.5, 0.0, 0.0], 3), "█▅▁");
    }
}
