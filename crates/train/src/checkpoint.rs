//! Checkpoints: everything that the rest of a run depends on, in a folder that appears whole or not at all.
//!
//! `step-00000400/` holds `state.safetensors` (every weight in 32-bit floats under its name, and the optimizer's running
//! means as `NAME.first` and `NAME.second`, and that of the weight as `NAME.average`) and `checkpoint.json`, which has a hash of both. A folder is written beside
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

use crate::files::{FileError, io_error, sync_folder, write};
use crate::ranks::{Alone, Group};
use crate::tokens::hex;
use crate::trainer::{TrainError, Trainer};

/// Why a checkpoint cannot be written or used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The system does not give or take the bytes.
    #[error(transparent)]
    Io(#[from] FileError),
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
    /// The norms of the last steps' gradients, oldest first, by which spikes are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub norms: Vec<f32>,
    /// The run that it is of, to refuse to go on with another.
    pub run: Json,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    position: Position,
    /// SHA-256 of `state.safetensors`.
    state: String,
    /// SHA-256 of that and of the position.
    seal: String,
}

impl Sealed {
    fn new(position: Position, state: String) -> Sealed {
        let seal = Sealed::seal(&position, &state);
        Sealed { position, state, seal }
    }

    fn seal(position: &Position, state: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(state);
        hash.update(serde_json::to_vec(position).unwrap_or_default());
        hex(&hash.finalize())
    }

    /// Reads what a checkpoint says of itself, every byte as it was written.
    fn read(checkpoint: &Path) -> Result<Sealed, String> {
        let text = fs::read(checkpoint.join(ABOUT)).map_err(|e| format!("{ABOUT} cannot be read ({e})"))?;
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|e| format!("{ABOUT} is broken ({e})"))?;
        match sealed.seal == Sealed::seal(&sealed.position, &sealed.state) {
            true => Ok(sealed),
            false => Err(format!("{ABOUT} is not what was written")),
        }
    }
}

/// SHA-256 of a file.
fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

const STATE: &str = "state.safetensors";
const ABOUT: &str = "checkpoint.json";

/// The kinds of numbers that a checkpoint has of every weight.
const KINDS: [&str; 4] = ["", ".first", ".second", ".average"];

/// Writes the state of a trainer into `folder` and gives the checkpoint's path.
///
/// # Errors
/// When it cannot be written; what the folder had is still there then.
pub fn save(folder: &Path, trainer: &Trainer, position: &Position) -> Result<PathBuf, CheckpointError> {
    save_among(&Group::new(&Alone), folder, trainer, position)
}

/// The same where several ranks share the optimizer's state: rank 0 writes what the others, which call it too, send.
///
/// # Errors
/// As [`save`], and when a rank is gone.
pub fn save_among(
    group: &Group<'_>,
    folder: &Path,
    trainer: &Trainer,
    position: &Position,
) -> Result<PathBuf, CheckpointError> {
    let name = format!("step-{:08}", position.step);
    let (path, beside) = (folder.join(&name), folder.join(format!(".{name}.partial")));
    if !group.writes() {
        trainer.each_state(group, &mut |_| Ok(()))?;
        return Ok(path);
    }
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io_error("remove", &beside))?;
    }
    fs::create_dir(&beside).map_err(io_error("create", &beside))?;
    let state = beside.join(STATE);
    let specs: Vec<_> = KINDS
        .iter()
        .enumerate()
        .flat_map(|(i, kind)| {
            let kept = trainer.kept().filter(move |(_, _, kinds)| kinds[i]);
            kept.map(move |(name, shape, _)| TensorSpec::new(format!("{name}{kind}"), SafeDType::F32, shape))
        })
        .collect();
    let mut file = safetensors::Writer::create(&state, &[("format", "autarky checkpoint 1")], &specs)?;
    trainer.each_state(group, &mut |w| {
        for (kind, numbers) in KINDS.iter().zip(w.kinds()) {
            for piece in numbers.chunks(1 << 18) {
                let bytes: Vec<u8> = piece.iter().flat_map(|x| x.to_le_bytes()).collect();
                file.append(&format!("{}{kind}", w.name), &bytes)?;
            }
        }
        Ok(())
    })?;
    file.finish()?;
    let hash = hash_of(&state).map_err(io_error("read", &state))?;
    let about = beside.join(ABOUT);
    let text = serde_json::to_vec_pretty(&Sealed::new(position.clone(), hash)).unwrap_or_default();
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
    let sealed = Sealed::read(path).map_err(damaged)?;
    match hash_of(&path.join(STATE)) {
        Ok(hash) if hash == sealed.state => Ok(sealed.position),
        Ok(_) => Err(damaged(format!("{STATE} is not what was written"))),
        Err(e) => Err(damaged(format!("{STATE} cannot be read ({e})"))),
    }
}

/// The run that the latest checkpoint in a folder says it is of. Its state may be damaged.
///
/// # Errors
/// When the folder cannot be read.
pub fn latest_run(folder: &Path) -> Result<Option<Json>, CheckpointError> {
    let sealed = list(folder)?.into_iter().find_map(|(_, path)| Sealed::read(&path).ok());
    Ok(sealed.map(|sealed| sealed.position.run))
}

/// The trainer goes on from a checkpoint that [`check`] found whole.
///
/// # Errors
/// When it cannot be read, or is another model's.
pub fn restore(path: &Path, position: &Position, trainer: &mut Trainer) -> Result<(), CheckpointError> {
    let file = safetensors::File::open(path.join(STATE))?;
    let read = |name: String| -> Result<Vec<f32>, CheckpointError> {
        if file.raw(&name).is_none() {
            // The trainer says whether it should be there.
            return Ok(Vec::new());
        }
        let view = file.require(&name)?;
        let numbers = view.f32s().ok_or_else(|| CheckpointError::Damaged {
            path: path.to_owned(),
            what: format!("{name} is not of 32-bit floats"),
        })?;
        Ok(numbers.into_owned())
    };
    trainer.restore_norms(&position.norms);
    trainer.restore(position.taken, |name| {
        let [weight, first, second, average] = KINDS.map(|kind| read(format!("{name}{kind}")));
        Ok([weight?, first?, second?, average?])
    })
}
