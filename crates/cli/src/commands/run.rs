//! `autarky run`

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use autarky_engine::{Options, Request, Speculation, StopReason};
use autarky_text::{ChatFormat, SamplingHints};
use serde_json::json;

use super::{print, print_json, read_text};
use crate::args::RunArgs;
use crate::builtin;
use crate::chat::{Session, interactive, stats, stream};
use crate::exit::{Interrupted, Usage};
use crate::load;
use crate::terminal::{CtrlC, Note, Style, printable, say};

pub(super) fn run(args: &RunArgs) -> Result<()> {
    let sampling = |hints: &SamplingHints| args.sampling.options(hints).map_err(|e| Usage(e.to_string()));
    // What is wrong with a flag is said before a model is loaded.
    sampling(&SamplingHints::default())?;
    let chatting = args.interactive || (args.prompt.is_none() && io::stdin().is_terminal());
    if chatting && args.json {
        return Err(Usage("--json needs a prompt: -p TEXT, or text on standard input".to_owned()).into());
    }
    let prompt = match (&args.prompt, chatting) {
        (Some(prompt), _) => Some(prompt.clone()),
        (None, true) => None,
        (None, false) => Some(read_text(io::stdin().lock(), "standard input")?),
    };

    let note = Note::new(&format!("loading {} ...", args.model.display()));
    let model = load::model_with(&args.model, args.adapter.as_deref())?;
    let context = load::context(&model, args.kv.context)?;
    let speculation = Speculation::from(args.speculate);
    let outputs = if speculation == Speculation::Off { 1 } else { 1 + Speculation::MOST };
    let options = Options { outputs, ..Options::single(context, load::cache_dtype(&model, args.kv.kv)) };
    let text = || {
        let tokenizer = load::tokenizer(&model)?;
        let what = "the model's chat template cannot be used; --raw continues the prompt without it";
        let format = if args.raw { None } else { ChatFormat::of(&tokenizer).context(what)? };
        if args.system.is_some() && format.is_none() {
            let what = "--system needs a model with a chat template, which this one has not; put the text into the prompt";
            return Err(Usage(what.to_owned()).into());
        }
        Ok((tokenizer, format))
    };
    let (loaded, (tokenizer, format)) = load::engine_beside(&model, &args.device, options, text)?;
    let mut about = format!(
        "{} ({}, {} parameters) on {} ({}, {} threads)",
        args.model.display(),
        model.family(),
        super::count(model.graph().parameters()),
        loaded.device,
        loaded.instruction_set,
        loaded.threads
    );
    if builtin::is_builtin(&args.model) {
        about = format!("{about}. {}", builtin::ABOUT);
    }
    let request = Request {
        max_tokens: args.max_tokens,
        end: tokenizer.eog().to_vec(),
        stop: args.stop.clone(),
        vocabulary: Some(tokenizer.vocab_size()),
        speculation,
    };
    drop(note);
    let sampling = sampling(tokenizer.sampling())?;
    let mut session = Session::new(loaded.engine, tokenizer, format, sampling, request, args.system.clone());

    let Some(prompt) = prompt else {
        let adapt = |adapter: Option<&Path>| {
            let model = load::model_with(&args.model, adapter)?;
            Ok(load::engine(&model, &args.device, options)?.engine)
        };
        return interactive(&mut session, &about, &adapt);
    };
    if args.json {
        return answer_json(args, &mut session, &prompt);
    }
    if !session.is_chat() && io::stdout().is_terminal() {
        print(&Style::stdout().dim(&printable(&prompt)))?;
    }
    let turn = stream(&mut session, Some(&prompt))??;
    if io::stderr().is_terminal() {
        say(&Style::stderr().dim(&stats(&turn)));
    }
    match turn.generated.reason {
        StopReason::Cancelled => Err(Interrupted.into()),
        _ => Ok(()),
    }
}

fn answer_json(args: &RunArgs, session: &mut Session, prompt: &str) -> Result<()> {
    let interrupt = CtrlC::watch();
    let mut listen =
        |_: &str| if interrupt.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let turn = session.answer(prompt, &mut listen)?;
    let g = &turn.generated;
    print_json(&json!({
        "model": args.model.display().to_string(),
        "text": turn.text,
        "tokens": turn.tokens,
        "stop_reason": g.reason.name(),
        "prompt_tokens": turn.prompt,
        "generated_tokens": g.tokens,
        "prefill_seconds": g.prefill.as_secs_f64(),
        "decode_seconds": g.decode.as_secs_f64(),
        "prefill_tokens_per_second": g.prefill_rate(),
        "decode_tokens_per_second": g.decode_rate(),
        "guessed_tokens": g.guessed,
        "right_guesses": g.right,
        "seed": session.sampling().seed,
    }))?;
    match g.reason {
        StopReason::Cancelled => Err(Interrupted.into()),
        _ => Ok(()),
    }
}
