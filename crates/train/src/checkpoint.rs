//! Checkpoints: everything that the rest of a run depends on, in a folder that appears whole or not at all.
//!
//! `step-00000400/` holds `state.safetensors` (every weight in 32-bit floats under its name, and the optimizer's running
//! means as `NAME.first` and `NAME.second`) and `checkpoint.json`, which has a hash of both. A folder is written beside
//! its name, brought to the disk, and renamed; so a kill at any moment leaves the one before.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use autarky_format::TensorSpec;
use autarky_format::safetensors::{self, SafeDType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::files::{sync_folder, write};
use crate::tokens::hex;
use crate::trainer::{TrainError, Trainer};

/// Why a checkpoint cannot be written or used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The system does not give or take the bytes.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state cannot be written or read as safetensors.
    #[error(transparent)]
    Format(#[from] autarky_format::Error),
    /// It is not what was written.
    #[error("checkpoint {path} is damaged: {what}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// It is of another model.
    #[error(transparent)]
    Model(#[from] TrainError),
}

/// What a checkpoint says beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps of the run that are done.
    pub step: u64,
    /// Steps that the optimizer has taken: fewer where steps were dropped.
    pub taken: u32,
    /// The run that it is of, to refuse to go on with another.
    pub run: Json,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    position: Position,
    /// SHA-256 of `state.safetensors`' hash and of the position.
    hash: String,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source }
}

/// SHA-256 of a file, and of the position beside it.
fn seal(state: &Path, position: &Position) -> io::Result<String> {
    let mut file = File::open(state)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let mut both = Sha256::new();
    both.update(hash.finalize());
    both.update(serde_json::to_vec(position)?);
    Ok(hex(&both.finalize()))
}

const STATE: &str = "state.safetensors";
const ABOUT: &str = "checkpoint.json";

/// The kinds of numbers that a checkpoint has of every weight.
const KINDS: [&str; 3] = ["", ".first", ".second"];

/// Writes the state of a trainer into `folder` and gives the checkpoint's path.
///
/// # Errors
/// When it cannot be written; what the folder had is still there then.
pub fn save(folder: &Path, trainer: &Trainer, position: &Position) -> Result<PathBuf, CheckpointError> {
    let name = format!("step-{:08}", position.step);
    let (path, beside) = (folder.join(&name), folder.join(format!(".{name}.partial")));
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io_error("remove", &beside))?;
    }
    fs::create_dir(&beside).map_err(io_error("create", &beside))?;
    let state = beside.join(STATE);
    let specs: Vec<_> = KINDS
        .iter()
        .flat_map(|kind| {
            trainer
                .state()
                .map(move |w| TensorSpec::new(format!("{}{kind}", w.name), SafeDType::F32, w.shape))
        })
        .collect();
    let mut file = safetensors::Writer::create(&state, &[("format", "autarky checkpoint 1")], &specs)?;
    for w in trainer.state() {
        for (kind, numbers) in KINDS.iter().zip([w.numbers, w.first, w.second]) {
            for piece in numbers.chunks(1 << 18) {
                let bytes: Vec<u8> = piece.iter().flat_map(|x| x.to_le_bytes()).collect();
                file.append(&format!("{}{kind}", w.name), &bytes)?;
            }
        }
    }
    file.finish()?;
    let hash = seal(&state, position).map_err(io_error("read", &state))?;
    let about = beside.join(ABOUT);
    let text = serde_json::to_vec_pretty(&Sealed { position: position.clone(), hash }).unwrap_or_default();
    write(&about, &text).map_err(io_error("write", &about))?;
    if path.exists() {
        // Written before by a run that went back to an earlier one.
        fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
    }
    fs::rename(&beside, &path).map_err(io_error("put in place", &path))?;
    sync_folder(folder).map_err(io_error("write", folder))?;
    Ok(path)
}

/// The checkpoints in a folder with their steps, latest first, whole or not.
///
/// # Errors
/// When the folder cannot be read; one that is not there has none.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("read", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("read", folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        let step = name.and_then(|n| n.strip_prefix("step-")).and_then(|n| n.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// Deletes all but the latest `keep`, and what a killed run left half written.
///
/// # Errors
/// When one cannot be deleted.
pub fn tidy(folder: &Path, keep: usize) -> Result<(), CheckpointError> {
    for (_, path) in list(folder)?.into_iter().skip(keep.max(1)) {
        fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
    }
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(".step-") && name.ends_with(".partial") {
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// What a checkpoint says of itself, when every byte of it is as it was written.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn check(path: &Path) -> Result<Position, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    let missing = |file: &str| format!("it has no {file} that can be read");
    let text = fs::read(path.join(ABOUT)).map_err(|_| damaged(missing(ABOUT)))?;
    let sealed: Sealed = serde_json::from_slice(&text)
        .map_err(|e| damaged(format!("{ABOUT} is not what was written ({e})")))?;
    let hash = seal(&path.join(STATE), &sealed.position).map_err(|_| damaged(missing(STATE)))?;
    if hash != sealed.hash {
        return Err(damaged("its bytes are not those that were written".to_owned()));
    }
    Ok(sealed.position)
}

/// The run that the latest checkpoint in a folder says it is of, whether or not the checkpoint is whole.
///
/// # Errors
/// When the folder cannot be read.
pub fn latest_run(folder: &Path) -> Result<Option<Json>, CheckpointError> {
    let read =
        |path: &Path| -> Option<Sealed> { serde_json::from_slice(&fs::read(path.join(ABOUT)).ok()?).ok() };
    Ok(list(folder)?.iter().find_map(|(_, path)| read(path)).map(|sealed| sealed.position.run))
}

/// The trainer goes on from a checkpoint that [`check`] found whole.
///
/// # Errors
/// When it cannot be read, or is another model's.
pub fn restore(path: &Path, position: &Position, trainer: &mut Trainer) -> Result<(), CheckpointError> {
    let file = safetensors::File::open(path.join(STATE))?;
    let read = |name: String| -> Result<Vec<f32>, CheckpointError> {
        let view = file.require(&name)?;
        let numbers = view.f32s().ok_or_else(|| CheckpointError::Damaged {
            path: path.to_owned(),
            what: format!("{name} is not of 32-bit floats"),
        })?;
        Ok(numbers.into_owned())
    };
    trainer.restore(position.taken, |name| {
        let [weight, first, second] = KINDS.map(|kind| read(format!("{name}{kind}")));
        Ok([weight?, first?, second?])
    })
}
