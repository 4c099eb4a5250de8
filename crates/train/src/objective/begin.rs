//! From files to the first step of a run that learns from preferences or rewards.

use super::Objective;
use super::config::{GrpoConfig, PreferenceConfig};
use super::dpo::{Dpo, Pairs};
use super::grpo::{self, Grpo};
use super::{draw, prompts};
use crate::batches::Packing;
use crate::config::{Config, ConfigError};
use crate::data::ReadOptions;
use crate::encode::Encoder;
use crate::plan::{RunPlan, Unit};
use crate::prepare::{PrepareError, Sources};
use crate::ranks::Shards;
use crate::reward::Rewards;
use crate::run::{Event, Run, RunError, Source, Summary, reading};
use crate::subject::{Subject, tokenizer_of, with_template};

/// The highest learning rate: that of GRPO in Shao et al. 2024 (arXiv:2402.03300, section 4.2), about that of DPO in Tunstall
/// et al. 2023 (arXiv:2310.16944).
const RATE: f32 = 1e-6;

/// The same for an adapter.
const ADAPTER: f32 = 1e-5;

/// Runs what the configuration asks for in place of learning texts.
pub(crate) fn go(
    run: &Run<'_>,
    shards: Shards<'_>,
    listener: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    let config = run.config;
    let from = config.model.from.as_deref().unwrap_or("".as_ref());
    let spec = with_template(tokenizer_of(from)?, &config.model)?;
    let tokenizer = autarky_text::Tokenizer::new(&spec).map_err(PrepareError::from)?;
    let encoder = Encoder::new(&tokenizer).map_err(PrepareError::from)?;
    let mut subject = Subject::open(config, spec)?;
    if let Some(adapter) = &config.adapter {
        subject = subject.with_adapter(adapter, config.seed)?;
    }
    let ranks = shards.group.size();
    let drawing = config.grpo.as_ref().map(|grpo| {
        let answers = (grpo.prompts * grpo.answers).div_ceil(ranks);
        let precision = config.training.precision;
        draw::memory(&subject, precision, (answers, grpo.answer_tokens))
            + grpo::memory(grpo, &subject, precision)
    });
    run.admit(&subject, ranks as u64, drawing)?;
    match (&config.preference, &config.grpo) {
        (_, Some(grpo)) => rewards((run, shards), grpo, &subject, &encoder, listener),
        (Some(preference), _) => preferences((run, shards), preference, &subject, encoder, listener),
        (None, None) => Err(RunError::NoRows(0)),
    }
}

fn preferences(
    (run, shards): (&Run<'_>, Shards<'_>),
    preference: &PreferenceConfig,
    subject: &Subject,
    encoder: Encoder,
    listener: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    let (config, data) = (run.config, &run.config.data);
    let encoder = encoder.for_pairs();
    let folder = run.folder.join("data");
    let (pairs, hash, validation) = shards.group.one_writes(|written| {
        let mut read = |paths, name, held_out| {
            let sources = Sources::find(paths, ReadOptions::default(), data.strict)?.prepared(written);
            let (tokens, report) =
                sources.tokens(&folder, name, &subject.spec, &encoder, &mut reading(listener, "reading"))?;
            listener(Event::Read(&report));
            let hash = tokens.about().hash.clone();
            Ok::<_, RunError>((Pairs::new(tokens, subject.context, held_out), hash))
        };
        let validation = match data.validation.is_empty() {
            true => None,
            false => Some(read(&data.validation, "validation", 0.0)?.0),
        };
        let held_out = if validation.is_some() { 0.0 } else { data.held_out };
        let (pairs, hash) = read(&data.train, "train", held_out)?;
        Ok::<_, RunError>((pairs, hash, validation))
    })?;
    let plan = plan(config, subject, (Unit::Pairs, pairs.count(), preference.pairs))?;
    shards.refuse_few(plan.rows, "preference.pairs")?;
    let objective: Box<dyn Objective> = Box::new(Dpo::new(preference, pairs, validation, config.seed));
    run.train(shards, subject, &plan, Source::Objective(objective), hash, listener)
}

fn rewards(
    (run, shards): (&Run<'_>, Shards<'_>),
    grpo: &GrpoConfig,
    subject: &Subject,
    encoder: &Encoder,
    listener: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    let (config, data) = (run.config, &run.config.data);
    let rewards = Rewards::new(&config.reward)?;
    let Some(room) = subject.context.checked_sub(grpo.answer_tokens).filter(|room| *room > 0) else {
        let (context, most) = (subject.context, grpo.answer_tokens);
        let problem =
            format!("answers of {most} tokens leave nothing of the context of {context} for a prompt");
        return Err(ConfigError::Value { key: "grpo.answer-tokens", problem }.into());
    };
    let options = ReadOptions { prompts: true, ..ReadOptions::default() };
    let mut read = |paths| {
        let sources = Sources::find(paths, options.clone(), data.strict)?;
        let (prompts, report) =
            prompts::read(&sources, encoder, room + 1, &mut reading(listener, "reading"))?;
        listener(Event::Read(&report));
        Ok::<_, RunError>(prompts)
    };
    let mut asked = read(&data.train)?;
    let held_out = match data.validation.is_empty() {
        true => prompts::held_out(&mut asked, data.held_out),
        false => read(&data.validation)?,
    };
    let hash = prompts::hash(&asked);
    // Whoever learns from texts made it for their tokens.
    let made = std::fs::create_dir_all(run.folder);
    made.map_err(|source| RunError::Io { path: run.folder.to_owned(), source })?;
    let plan = plan(config, subject, (Unit::Prompts, asked.len(), grpo.prompts))?;
    shards.refuse_few(plan.rows, "grpo.prompts")?;
    let objective: Box<dyn Objective> = Box::new(Grpo::new(grpo, rewards, asked, held_out, config.seed));
    run.train(shards, subject, &plan, Source::Objective(objective), hash, listener)
}

/// The numbers of a run that takes `each` of `count` units in a step.
fn plan(
    config: &Config,
    subject: &Subject,
    (unit, count, each): (Unit, usize, usize),
) -> Result<RunPlan, RunError> {
    if count == 0 {
        return Err(RunError::NoRows(0));
    }
    let (t, context) = (&config.training, subject.context);
    let at_once = t.at_once.unwrap_or(RunPlan::AT_ONCE.max(context));
    if at_once < context {
        let problem = format!("{at_once} tokens are no text of {context} (training.context)");
        return Err(ConfigError::Value { key: "training.at-once", problem }.into());
    }
    let passes = t.epochs.unwrap_or(1.0);
    let steps = t.steps.unwrap_or((passes * count as f64 / each as f64).ceil() as u64).max(1);
    let twentieth = (steps / 20).max(1);
    let rate = if config.adapter.is_some() { ADAPTER } else { RATE };
    Ok(RunPlan {
        parameters: subject.trained(),
        unit,
        context,
        rows: each,
        at_once,
        packing: Packing::Whole,
        steps,
        data: count as u64,
        learning_rate: config.optimizer.learning_rate.unwrap_or(rate),
        warmup: config.schedule.warmup.unwrap_or(steps / 50),
        evaluate_every: config.evaluation.every.unwrap_or(twentieth),
        checkpoint_every: config.checkpoints.every.unwrap_or(twentieth),
    })
}
