//! Exit codes, and the last words before them.

use std::io;
use std::process::ExitCode;

use autarky_engine::{EngineError, SamplingError};
use autarky_family::FamilyError;
use autarky_graph::{CompileError, RunError, WeightError};

use crate::terminal::{Style, printable, say};

/// What `--help` says about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed for another reason
  2    wrong usage
  3    a file or model is missing, damaged or not of a kind that is known
  4    not enough memory
  130  stopped with Ctrl-C";

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const INPUT: u8 = 3;
const MEMORY: u8 = 4;
pub(crate) const INTERRUPTED: u8 = 130;

/// Flags that contradict each other or the model: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A file that is not what the command needs: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Input(pub(crate) String);

/// The user pressed Ctrl-C: exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub(crate) struct Interrupted;

/// Prints clap's message and gives its exit code.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to complain: nobody is listening.
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(USAGE),
        false => ExitCode::SUCCESS,
    }
}

/// Prints the chain of causes on one line and gives the exit code.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let code = code(error);
    if code == INTERRUPTED {
        return ExitCode::from(code);
    }
    say_error(&one_line(error));
    ExitCode::from(code)
}

/// Prints what is wrong on stderr. Parts of it may be from a file, which must not drive the terminal.
pub(crate) fn say_error(text: &str) {
    say(&format!("{} {}", Style::stderr().bold_red("error:"), printable(text)));
}

/// The causes, outermost first, without those that the one before repeats, and without line breaks.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// A reader like `head` that has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|c| c.downcast_ref::<io::Error>().is_some_and(broken))
}

/// The exit code of an error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let stopped = matches!(cause.downcast_ref::<FamilyError>(), Some(FamilyError::Stopped));
        if cause.is::<Interrupted>() || stopped {
            return INTERRUPTED;
        }
        if cause.is::<Usage>()
            || cause.is::<autarky_train::config::ConfigError>()
            || cause.is::<autarky_plan::FindError>()
        {
            return USAGE;
        }
        if let Some(e) = cause.downcast_ref::<EngineError>() {
            match e {
                EngineError::Memory { .. } | EngineError::Compile(CompileError::Memory { .. }) => {
                    return MEMORY;
                }
                EngineError::Compile(CompileError::Weight(_)) | EngineError::Text(_) => return INPUT,
                // The tokenizer made an id that the model has not: they do not belong together.
                EngineError::Run(RunError::Token { .. }) | EngineError::TextTooShort { .. } => return INPUT,
                EngineError::Options(_)
                | EngineError::ContextFull { .. }
                | EngineError::Vocabulary(_)
                | EngineError::Sampling(SamplingError::Option { .. }) => return USAGE,
                _ => {}
            }
        }
        if matches!(cause.downcast_ref::<CompileError>(), Some(CompileError::Memory { .. })) {
            return MEMORY;
        }
        if let Some(e) = cause.downcast_ref::<autarky_train::run::RunError>() {
            match e {
                autarky_train::run::RunError::Config(_) | autarky_train::run::RunError::OtherRun { .. } => {
                    return USAGE;
                }
                autarky_train::run::RunError::Memory { .. } => return MEMORY,
                autarky_train::run::RunError::Prepare(_) | autarky_train::run::RunError::Subject(_) => {
                    return INPUT;
                }
                _ => {}
            }
        }
        let input = cause.is::<Input>()
            || cause.is::<autarky_format::Error>()
            || cause.is::<FamilyError>()
            || cause.is::<autarky_text::TokenizerError>()
            || cause.is::<autarky_text::TemplateError>()
            || cause.is::<autarky_plan::DataError>()
            || cause.is::<WeightError>();
        if input {
            return INPUT;
        }
    }
    FAILURE
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use autarky_graph::WeightError;

    use super::*;

    #[test]
    fn causes_decide_the_code_however_deep_they_lie() {
        let missing = WeightError::Missing { name: "w".into(), hint: "h".into() };
        let deep =
            anyhow::Error::from(EngineError::from(CompileError::from(missing))).context("cannot load m.gguf");
        assert_eq!(code(&deep), INPUT);
        let memory = CompileError::Memory { what: "a".into(), bytes: 1, hint: "b".into() };
        assert_eq!(code(&EngineError::from(memory).into()), MEMORY);
        assert_eq!(code(&anyhow::Error::from(Usage("x".into())).context("y")), USAGE);
        assert_eq!(code(&Interrupted.into()), INTERRUPTED);
        assert_eq!(code(&anyhow!("anything else")), FAILURE);
    }

    #[test]
    fn the_chain_is_one_line_that_says_nothing_twice() {
        let inner: Result<(), _> = Err(io::Error::other("disk\n full"));
        let error = inner.context("cannot write: disk full").context("cannot convert").unwrap_err();
        assert_eq!(one_line(&error), "cannot convert: cannot write: disk full");
    }
}
