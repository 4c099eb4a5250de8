//! Colours, progress and Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exit::INTERRUPTED;

/// Colours for one stream: none when it is not a terminal, `NO_COLOR` is set (<https://no-color.org>), or the
/// terminal says that it knows none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    pub(crate) fn stdout() -> Style {
        Style { colours: io::stdout().is_terminal() && wanted() }
    }

    pub(crate) fn stderr() -> Style {
        Style { colours: io::stderr().is_terminal() && wanted() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn bold_red(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

fn wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb")
}

/// Characters that a terminal would obey (from a model file, say) made visible, so that no file can drive the
/// terminal. Line breaks and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// Prints a line on stderr. Where nobody listens, or the disk behind it is full, it is lost: `eprintln!` would end the
/// program with a panic.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a warning on stderr, in place of a note that stands there.
pub(crate) fn warn(text: &str) {
    let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    say(&format!("{clear}{}", Style::stderr().dim(&format!("warning: {}", printable(text)))));
}

/// A line on stderr that shows how far something is. It appears after a second, and only on a terminal.
pub(crate) struct Progress {
    what: &'static str,
    start: Instant,
    drawn: Option<Instant>,
    enabled: bool,
}

impl Progress {
    const DELAY: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(what: &'static str) -> Progress {
        Progress { what, start: Instant::now(), drawn: None, enabled: io::stderr().is_terminal() }
    }

    /// Shows that `done` of `total` is done, with a note of what is being done.
    pub(crate) fn set(&mut self, done: u64, total: u64, note: &str) {
        let due = match self.drawn {
            None => self.start.elapsed() >= Progress::DELAY,
            Some(last) => last.elapsed() >= Progress::INTERVAL,
        };
        if !self.enabled || !due {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = bar(self.what, done, total, self.start.elapsed(), note);
        // Progress is a courtesy: that it cannot be shown is no error.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A line on stderr while something goes on that cannot say how far it is. Only on a terminal.
pub(crate) struct Note {
    shown: bool,
}

impl Note {
    pub(crate) fn new(text: &str) -> Note {
        let shown = io::stderr().is_terminal();
        if shown {
            let _ = write!(io::stderr(), "{}", Style::stderr().dim(text));
        }
        Note { shown }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(what: &str, done: u64, total: u64, elapsed: Duration, note: &str) -> String {
    const WIDTH: usize = 24;
    let share = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (share * WIDTH as f64) as usize;
    let left = match share > 0.0 {
        true => {
            let seconds = (elapsed.as_secs_f64() * (1.0 - share) / share).round() as u64;
            format!("{}:{:02} left", seconds / 60, seconds % 60)
        }
        false => String::new(),
    };
    let bar = "█".repeat(full) + &"░".repeat(WIDTH - full);
    format!("{what} {bar} {:3.0}% {left} {note}", share * 100.0).trim_end().to_owned()
}

static STOP: AtomicBool = AtomicBool::new(false);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// While it lives, Ctrl-C asks for a stop instead of ending the program. A second Ctrl-C ends it all the same.
pub(crate) struct CtrlC {
    _private: (),
}

impl CtrlC {
    pub(crate) fn watch() -> CtrlC {
        static HANDLER: OnceLock<()> = OnceLock::new();
        HANDLER.get_or_init(|| {
            let handler = || {
                if !WATCHED.load(Ordering::SeqCst) || STOP.swap(true, Ordering::SeqCst) {
                    // Terminals draw the next prompt where the cursor stands.
                    let _ = writeln!(io::stderr());
                    std::process::exit(INTERRUPTED.into());
                }
            };
            // Without a handler Ctrl-C ends the program, which is what it did before.
            let _ = ctrlc::set_handler(handler);
        });
        STOP.store(false, Ordering::SeqCst);
        WATCHED.store(true, Ordering::SeqCst);
        CtrlC { _private: () }
    }

    /// What Ctrl-C sets, for work that looks at it by itself.
    pub(crate) fn flag(&self) -> &'static AtomicBool {
        &STOP
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn pressed(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl Drop for CtrlC {
    fn drop(&mut self) {
        WATCHED.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_file_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}31m\r\n\té"), "a\\u{1b}[2Jb\\u{9b}31m\\r\n\té");
    }

    #[test]
    fn the_bar_shows_share_and_time_left() {
        let line = bar("convert", 1, 4, Duration::from_secs(30), "blk.0");
        assert_eq!(line, format!("convert {}{}  25% 1:30 left blk.0", "█".repeat(6), "░".repeat(18)));
        assert!(bar("x", 0, 0, Duration::ZERO, "").contains("100%"), "nothing to do is done");
    }
}
