//! A run's folder: its lines, read as they are added, and how many steps are planned.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use super::RunsError;
use super::curve::Curve;

/// The file with a run's lines.
pub(super) const METRICS: &str = "metrics.jsonl";
/// Bytes of a line at most; a longer one is skipped.
const LINE: u64 = 1 << 20;
/// Bytes of the line before the place where reading goes on, by which it is told that the file is still the same.
const MARK: usize = 512;
/// Bytes of what a checkpoint says of itself.
const ABOUT: u64 = 1 << 20;
/// Checkpoints that are looked at.
const CHECKPOINTS: usize = 1000;
/// A run that has written nothing for so long, or for so many of its steps, has stopped.
const SILENCE: (Duration, f64) = (Duration::from_secs(120), 20.0);

/// What was read of a run so far.
#[derive(Debug, Default)]
pub(super) struct RunFile {
    curve: Curve,
    /// Bytes that were read: whole lines.
    offset: u64,
    /// The last bytes before `offset`.
    mark: Vec<u8>,
    /// Whether the file's last line has no end yet.
    unfinished: bool,
    planned: Option<u64>,
    written: Option<SystemTime>,
}

impl RunFile {
    /// Reads what is new in the file at `path`, or all of it where it is another one than before.
    pub(super) fn update(&mut self, path: &Path) -> Result<(), RunsError> {
        let failed = |source| RunsError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if self.offset > 0 && !self.goes_on(&mut file, metadata.len()).map_err(failed)? {
            *self = RunFile::default();
        }
        if metadata.len() > self.offset {
            file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
            // No further than the file was when it was opened: a writer cannot keep a reader for ever.
            let new = BufReader::with_capacity(1 << 16, file.take(metadata.len() - self.offset));
            self.lines(new).map_err(failed)?;
        }
        self.written = metadata.modified().ok();
        if self.planned.is_none() {
            self.planned = path.parent().and_then(planned);
        }
        Ok(())
    }

    /// Whether the file still has what was read of it. A run that goes on from a checkpoint writes it anew.
    fn goes_on(&self, file: &mut File, length: u64) -> std::io::Result<bool> {
        if length < self.offset {
            return Ok(false);
        }
        let mut bytes = vec![0; self.mark.len()];
        file.seek(SeekFrom::Start(self.offset - self.mark.len() as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes == self.mark)
    }

    fn lines(&mut self, mut file: impl BufRead) -> std::io::Result<()> {
        let mut line = Vec::new();
        self.unfinished = false;
        loop {
            line.clear();
            let mut read = (&mut file).take(LINE).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(());
            }
            let whole = line.last() == Some(&b'\n');
            let long = !whole && read == LINE;
            if long {
                match skip_line(&mut file)? {
                    Some(more) => read += more,
                    None => read = 0,
                }
            }
            if read == 0 || !(whole || long) {
                self.unfinished = true;
                return Ok(());
            }
            match whole {
                true => self.curve.read(&line),
                false => self.curve.skip(),
            }
            self.offset += read;
            // Of a long line its beginning: what was read of it last is gone. Such lines are no work of ours.
            self.mark = if whole {
                line.get(line.len().saturating_sub(MARK)..).unwrap_or_default().to_vec()
            } else {
                Vec::new()
            };
        }
    }

    fn finished(&self) -> bool {
        self.planned.is_some_and(|planned| self.curve.steps >= planned)
    }

    /// The numbers of a list of runs.
    pub(super) fn summary(&self, name: &str, now: SystemTime) -> Value {
        let per_step = self.curve.seconds_per_step();
        let slow = per_step.and_then(|s| Duration::try_from_secs_f64(s * SILENCE.1).ok());
        let patience = slow.unwrap_or_default().max(SILENCE.0);
        // A time in the future is that of a clock that was set.
        let silence = self.written.map(|written| now.duration_since(written).unwrap_or_default());
        let going = !self.finished() && silence.is_some_and(|silence| silence < patience);
        let left = self.planned.map(|planned| planned.saturating_sub(self.curve.steps) as f64);
        let written = self.written.and_then(|w| w.duration_since(UNIX_EPOCH).ok()).map(|w| w.as_secs_f64());
        let mut summary = self.curve.summary();
        let own = json!({
            "name": name,
            "planned": self.planned,
            "going": going,
            "written": written,
            "seconds_left": left.zip(per_step).filter(|_| going).map(|(steps, seconds)| steps * seconds),
            "unfinished": self.unfinished,
        });
        if let (Some(summary), Value::Object(own)) = (summary.as_object_mut(), own) {
            summary.extend(own);
        }
        summary
    }

    /// The numbers of a list of runs, and what there is, of steps above `after` where that is given.
    pub(super) fn json(&self, name: &str, after: Option<u64>, now: SystemTime) -> Value {
        json!({"run": self.summary(name, now), "curve": self.curve.json(after)})
    }
}

/// Passes over the rest of a line and its end, and gives its bytes; `None` where it has no end yet.
fn skip_line(file: &mut impl BufRead) -> std::io::Result<Option<u64>> {
    let mut passed = 0;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        file.consume(used);
        passed += used as u64;
        if end.is_some() {
            return Ok(Some(passed));
        }
    }
}

/// The steps that a run has to do, from its latest checkpoint; unknown before the first one.
fn planned(folder: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    struct About {
        run: Run,
    }
    #[derive(Deserialize)]
    struct Run {
        plan: Plan,
    }
    #[derive(Deserialize)]
    struct Plan {
        steps: u64,
    }
    let entries = fs::read_dir(folder.join("checkpoints")).ok()?.flatten().take(CHECKPOINTS);
    let is_step = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|n| n.starts_with("step-"));
    // Their numbers have as many digits, so the latest has the greatest name.
    let latest: PathBuf = entries.filter(is_step).map(|entry| entry.path()).max()?;
    let about = latest.join("checkpoint.json");
    if !fs::symlink_metadata(&about).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(about).ok()?.take(ABOUT).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<About>(&text).ok().map(|about| about.run.plan.steps)
}
