//! The chat on a terminal, or line by line from a pipe.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use autarky_engine::{Engine, StopReason};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::session::{Session, Turn};
use super::slash::{self, HELP, Slash};
use crate::exit::say_error;
use crate::terminal::{CtrlC, Style, printable, say};

/// Makes an engine of the model with an adapter of this path, or with none.
pub(crate) type Adapt<'a> = dyn Fn(Option<&Path>) -> Result<Engine> + 'a;

/// Talks until the user leaves.
pub(crate) fn interactive(session: &mut Session, about: &str, adapt: &Adapt<'_>) -> Result<()> {
    let mut lines = Lines::open()?;
    let style = Style::stderr();
    if lines.is_terminal() {
        say(&style.dim(&format!("{about}. /help lists the commands, Ctrl-D leaves.")));
        if !session.is_chat() {
            let what = "This model has no chat template: it continues what you type. An empty line goes on.";
            say(&style.dim(what));
        }
    }
    let mut last = None;
    while let Some(line) = lines.next()? {
        match Slash::parse(&line) {
            Some(Slash::Exit) => break,
            Some(command) => obey(session, command, last.as_ref(), adapt)?,
            None => {
                let text = line.strip_prefix('/').filter(|_| line.starts_with("//")).unwrap_or(&line);
                let goes_on = text.is_empty() && !session.is_chat();
                if text.is_empty() && (session.is_chat() || last.is_none()) {
                    continue;
                }
                match stream(session, if goes_on { None } else { Some(text) })? {
                    Ok(turn) => {
                        if io::stderr().is_terminal() {
                            say(&style.dim(&stats(&turn)));
                        }
                        last = Some(turn);
                    }
                    // What is wrong with one message does not end the conversation.
                    Err(error) => say_error(&format!("{error:#}")),
                }
            }
        }
    }
    Ok(())
}

/// Shows an answer as it comes. The outer error ends the program (nobody reads the output), the inner one the turn.
pub(crate) fn stream(session: &mut Session, text: Option<&str>) -> Result<Result<Turn>> {
    let interrupt = CtrlC::watch();
    let terminal = io::stdout().is_terminal();
    let mut out = io::stdout().lock();
    let (mut failed, mut shown) = (None, false);
    let mut show = |piece: &str| {
        let safe;
        let piece = match terminal {
            true => {
                safe = printable(piece);
                &safe
            }
            false => piece,
        };
        shown |= !piece.is_empty();
        if !piece.is_empty()
            && let Err(error) = out.write_all(piece.as_bytes()).and_then(|()| out.flush())
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        if interrupt.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let turn = match text {
        Some(text) => session.answer(text, &mut show),
        None => session.go_on(&mut show),
    };
    if let Some(error) = failed {
        return Err(error).context("cannot write to standard output");
    }
    if shown || turn.is_ok() {
        writeln!(out).context("cannot write to standard output")?;
    }
    Ok(turn)
}

/// One line about an answer.
pub(crate) fn stats(turn: &Turn) -> String {
    let g = &turn.generated;
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |r| format!(" at {r:.1} tokens/s"));
    let cached = if turn.cached > 0 { format!(" ({} cached)", turn.cached) } else { String::new() };
    let right = |right| format!(", {right} of {} guesses right", g.guessed);
    let guesses = Some(g.right).filter(|_| g.guessed > 0).map_or(String::new(), right);
    let why = match &g.reason {
        StopReason::End { .. } | StopReason::Complete | StopReason::StopString(_) => "",
        StopReason::MaxTokens => ", cut at --max-tokens",
        StopReason::ContextFull => ", the context is full (--context)",
        StopReason::Cancelled => ", stopped",
    };
    format!(
        "[prompt {} tokens{cached}{}; answer {} tokens{}{guesses}{why}]",
        turn.prompt,
        rate(g.prefill_rate()),
        g.tokens,
        rate(g.decode_rate())
    )
}

fn obey(session: &mut Session, command: Slash, last: Option<&Turn>, adapt: &Adapt<'_>) -> Result<()> {
    let said = match command {
        Slash::Help => HELP.to_owned(),
        Slash::Clear => {
            session.clear();
            "forgotten".to_owned()
        }
        Slash::System(text) => {
            let said = if text.is_empty() { "no system message" } else { "system message set" };
            session.set_system(Some(text).filter(|t| !t.is_empty()));
            format!("{said}; the conversation begins anew")
        }
        Slash::Set(None) => {
            let mut text: Vec<String> = slash::settings(session.sampling(), session.max_tokens())
                .iter()
                .map(|(name, value)| format!("{name:<20}{value}"))
                .collect();
            text.push(format!("{:<20}{}", "system", session.system().unwrap_or("none")));
            text.join("\n")
        }
        Slash::Set(Some((name, value))) => {
            let (mut sampling, mut max) = (*session.sampling(), session.max_tokens());
            match slash::set(&name, &value, &mut sampling, &mut max) {
                Ok(()) => {
                    session.set_sampling(sampling);
                    session.set_max_tokens(max);
                    format!("{name} is {value}")
                }
                Err(problem) => problem,
            }
        }
        Slash::Adapter(path) => {
            let path = Some(path).filter(|p| !p.is_empty());
            match adapt(path.as_deref().map(Path::new)) {
                Ok(engine) => {
                    session.set_engine(engine);
                    format!("adapter: {}", path.as_deref().unwrap_or("none"))
                }
                Err(error) => format!("{error:#}"),
            }
        }
        Slash::Stats => {
            let (used, context) = session.fill();
            let turn = last.map_or("no answer yet".to_owned(), stats);
            format!("{turn}\n{used} of {context} tokens of context used")
        }
        Slash::Save(file) => match save(session, Path::new(&file)) {
            Ok(()) => format!("written to {file}"),
            Err(error) => format!("{error:#}"),
        },
        Slash::Wrong(problem) => problem,
        Slash::Exit => return Ok(()),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{said}").context("cannot write to standard output")
}

fn save(session: &Session, path: &Path) -> Result<()> {
    let text = format!("{:#}\n", session.to_json());
    let cannot = || format!("cannot write {}", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)
}

/// Where messages come from.
enum Lines {
    Terminal(Box<DefaultEditor>),
    Pipe(io::StdinLock<'static>),
}

impl Lines {
    fn open() -> Result<Lines> {
        match io::stdin().is_terminal() {
            true => {
                let editor = DefaultEditor::new().context("cannot use the terminal; pipe text in instead")?;
                Ok(Lines::Terminal(Box::new(editor)))
            }
            false => Ok(Lines::Pipe(io::stdin().lock())),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal(_))
    }

    /// The next message, without the blanks around it; `None` when there are no more. Lines that end with a
    /// backslash are joined with what follows.
    fn next(&mut self) -> Result<Option<String>> {
        let mut message = String::new();
        loop {
            let Some(line) = self.line(if message.is_empty() { "> " } else { ". " })? else {
                return Ok(Some(message).filter(|m| !m.is_empty()));
            };
            match line.strip_suffix('\\') {
                Some(part) => {
                    message.push_str(part);
                    message.push('\n');
                }
                None => {
                    message.push_str(&line);
                    return Ok(Some(message.trim().to_owned()));
                }
            }
        }
    }

    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        match self {
            Lines::Pipe(input) => {
                let mut line = String::new();
                let read =
                    input.read_line(&mut line).context("cannot read text (UTF-8) from standard input")?;
                Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
            }
            Lines::Terminal(editor) => {
                let mut interrupted = false;
                loop {
                    match editor.readline(prompt) {
                        Ok(line) => {
                            // History is a courtesy: without it the chat goes on.
                            let _ = editor.add_history_entry(&line);
                            return Ok(Some(line));
                        }
                        Err(ReadlineError::Eof) => return Ok(None),
                        Err(ReadlineError::Interrupted) if interrupted => return Ok(None),
                        Err(ReadlineError::Interrupted) => {
                            interrupted = true;
                            say(&Style::stderr().dim("(Ctrl-C again or Ctrl-D leaves)"));
                        }
                        Err(error) => return Err(error).context("cannot read from the terminal"),
                    }
                }
            }
        }
    }
}
