//! What a run writes, and whether there is room for it: asked before anything is begun.

use std::fs;
use std::path::{Path, PathBuf};

use autarky_engine::memory::human;
use thiserror::Error;

use crate::config::Config;
use crate::optimizer;
use crate::plan::RunPlan;
use crate::subject::Subject;

/// The file system has less room than a run is to write.
#[derive(Debug, Error)]
#[error("{what} will take {need} in {folder}, and its file system has {free} free: {advice}")]
pub struct NoRoom {
    /// What is to be written.
    pub what: String,
    /// What that takes.
    pub need: String,
    /// Where.
    pub folder: PathBuf,
    /// What there is.
    pub free: String,
    /// What to do.
    pub advice: &'static str,
}

/// The bytes that a run writes after its data is read, estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    /// Checkpoints that are there at the same time: those that are kept, and the one that is written.
    pub checkpoints: u64,
    /// Bytes of each.
    pub checkpoint: u64,
    /// Bytes of all models and adapters.
    pub models: u64,
}

impl Writes {
    /// Those of a run.
    pub fn of(config: &Config, subject: &Subject, plan: &RunPlan) -> Writes {
        let muon = config.optimizer.muon(config.training.precision).is_some();
        let averages = u64::from(config.optimizer.ema.is_some());
        // The numbers, and the running means beside them.
        let state = subject.trained_weights().map(|spec| {
            let kinds = if muon && optimizer::is_muons(&spec.name, &spec.shape) { 2 } else { 3 };
            let numbers: u64 = spec.shape.iter().map(|&n| n as u64).product();
            4 * numbers.saturating_mul(kinds + averages)
        });
        let whole = |parameters: u64| config.training.precision.bytes() * parameters;
        let forms = 1 + u64::from(subject.object.is_some());
        let models = match &subject.adapter {
            None => forms * whole(plan.parameters),
            // An adapter in two forms.
            Some(adapter) => {
                let merged = if adapter.config.merge { forms * whole(adapter.base.parameters()) } else { 0 };
                merged + 2 * 4 * plan.parameters
            }
        };
        // One is written while the one before it is still there.
        let beside = match &subject.adapter {
            _ if !config.checkpoints.model => 0,
            None => whole(plan.parameters),
            Some(_) => 4 * plan.parameters,
        };
        let most = (config.checkpoints.keep.max(1) as u64).saturating_add(1);
        Writes {
            checkpoints: most.min(plan.steps.div_ceil(plan.checkpoint_every.max(1))),
            checkpoint: state.sum(),
            models: models + beside,
        }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.checkpoints.saturating_mul(self.checkpoint).saturating_add(self.models)
    }

    /// Refuses what has no room in a run's folder; what the run has written there before is room, too.
    ///
    /// # Errors
    /// When there is too little.
    pub(crate) fn admit(&self, folder: &Path) -> Result<(), NoRoom> {
        let written = ["checkpoints", "model", "model.gguf", "adapter", "adapter.gguf"];
        let written: u64 = written.iter().map(|name| bytes_of(&folder.join(name))).sum();
        let what = format!(
            "{} checkpoints of {} and models of {}",
            self.checkpoints,
            human(self.checkpoint),
            human(self.models)
        );
        let advice = "keep fewer checkpoints (checkpoints.keep), write them less often (checkpoints.every), or give another folder";
        admit(folder, self.bytes().saturating_sub(written), free(folder), what, advice)
    }
}

/// Refuses so many bytes of tokens where a folder has no room for them.
///
/// # Errors
/// When it has too little.
pub(crate) fn admit_tokens(folder: &Path, bytes: u64) -> Result<(), NoRoom> {
    let what = "the data as tokens".to_owned();
    admit(folder, bytes, free(folder), what, "free some, learn from less, or give another folder")
}

fn admit(
    folder: &Path,
    need: u64,
    free: Option<u64>,
    what: String,
    advice: &'static str,
) -> Result<(), NoRoom> {
    match free {
        Some(free) if need > free => {
            let (need, free) = (human(need), human(free));
            Err(NoRoom { what, need, folder: folder.to_owned(), free, advice })
        }
        _ => Ok(()),
    }
}

/// Bytes that may still be written to the file system of a folder that need not be there yet. `None` where the system does not
/// say, and then nothing is refused.
fn free(folder: &Path) -> Option<u64> {
    let there = |path: &&Path| path.as_os_str().is_empty() || path.exists();
    let nearest = folder.ancestors().find(there)?;
    free_at(if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest })
}

#[cfg(unix)]
fn free_at(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    about.f_bavail.checked_mul(about.f_frsize)
}

#[cfg(not(unix))]
fn free_at(_: &Path) -> Option<u64> {
    None
}

/// Bytes of a file, or of all files in a folder; 0 where there is none.
fn bytes_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| bytes_of(&entry.path())).sum()
        }
        Ok(about) => about.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_refused_with_what_to_do() {
        let folder = Path::new("runs/a");
        let writes = Writes { checkpoints: 3, checkpoint: 5 << 30, models: 2 << 30 };
        assert_eq!(writes.bytes(), 17 << 30);
        let told = |free| {
            admit(folder, writes.bytes(), free, "models".to_owned(), "give another folder")
                .map_err(|e| e.to_string())
        };
        assert!(told(Some(17 << 30)).is_ok() && told(None).is_ok());
        let error = told(Some((17 << 30) - 1)).unwrap_err();
        for part in ["17.0 GiB", "runs/a", "free", "give another folder"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn room_is_that_of_the_nearest_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        if cfg!(unix) {
            assert!(free(&deep).unwrap() > 0);
            assert!(free(Path::new("nowhere/at/all")).unwrap() > 0);
        }
        let error = Writes { checkpoints: u64::MAX, checkpoint: 9, models: 1 }.admit(&deep);
        assert_eq!(error.is_err(), cfg!(unix));
        assert!(admit_tokens(&deep, 1).is_ok());
        // What is there already needs no room.
        fs::create_dir_all(deep.join("checkpoints/step-1")).unwrap();
        fs::write(deep.join("checkpoints/step-1/state"), [0; 100]).unwrap();
        assert_eq!(bytes_of(&deep), 100);
    }
}
