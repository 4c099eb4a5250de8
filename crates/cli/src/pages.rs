//! What is made from the definitions of commands and flags: completions, man pages, `docs/cli.md`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

/// Prints the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    // Into memory first: clap_complete panics when a write fails, as on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "autarky", &mut script);
    io::stdout().write_all(&script).context("cannot write to standard output")
}

/// Writes `autarky.1` and a page for each command into `folder`.
pub(crate) fn man(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("cannot write man pages into {}", folder.display()))
}

/// `docs/cli.md`: every command's help.
#[cfg(test)]
fn markdown() -> String {
    let mut cli = Cli::command().term_width(100);
    cli.build();
    let mut text = String::from(
        "# The `autarky` command\n\nMade from the flag definitions by `AUTARKY_UPDATE_DOCS=1 cargo test -p autarky \
         docs`; a test fails when this page is behind them.\n\n",
    );
    text += &help(&cli);
    sections(&cli, "", &mut text);
    text
}

/// A section for each command below `command`, each followed by its own.
#[cfg(test)]
fn sections(command: &clap::Command, path: &str, text: &mut String) {
    for command in command.get_subcommands() {
        let name = format!("{path}{}", command.get_name());
        *text += &format!("\n## {name}\n\n{}", help(command));
        sections(command, &format!("{name} "), text);
    }
}

#[cfg(test)]
fn help(command: &clap::Command) -> String {
    let help = command.clone().term_width(100).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("```text\n{}\n```\n", lines.join("\n").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_are_what_the_definitions_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
        let expected = markdown();
        if std::env::var_os("AUTARKY_UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "docs/cli.md is behind: AUTARKY_UPDATE_DOCS=1 cargo test -p autarky docs");
    }
}
