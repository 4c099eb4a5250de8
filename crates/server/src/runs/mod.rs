//! `/api/runs`: runs of training, for the page to draw. They are files that `autarky train` writes; nothing here trains.
//!
//! | Route | Answer |
//! | --- | --- |
//! | `GET /api/runs` | `{"folder": ..., "runs": [...]}`, the one that was written last first |
//! | `GET /api/runs/{id}` | `{"run": ..., "curve": ...}` |
//! | `GET /api/runs/{id}?after=STEP` | the same, with what there is of later steps alone |
//!
//! A curve's series are thinned to some hundred points at most. Losses are in nats a token, times in seconds, `written` is Unix time.

mod curve;
mod file;
mod thin;

use std::collections::HashMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::error::ApiError;
use crate::state::AppState;
use crate::sync::lock;
use file::{METRICS, RunFile};

/// Runs that are listed at most.
const MOST: usize = 200;
/// Entries of the folder that are looked at.
const ENTRIES: usize = 10_000;

/// Why a run cannot be shown.
#[derive(Debug, Error)]
pub enum RunsError {
    /// There is none of this name in the folder.
    #[error("there is no run `{name}` in {folder}; GET /api/runs lists those that there are")]
    Missing {
        /// What was asked for.
        name: String,
        /// Where runs are.
        folder: PathBuf,
    },
    /// No folder with runs is known.
    #[error("this server was not told of runs; start it with --runs FOLDER")]
    NoFolder,
    /// The system does not give a run's lines.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> ApiError {
        let message = error.to_string();
        match error {
            RunsError::Missing { .. } | RunsError::NoFolder => {
                ApiError::new(StatusCode::NOT_FOUND, message).code("not_found")
            }
            RunsError::Read { .. } => ApiError::internal(message).code("run_unreadable"),
        }
    }
}

/// The runs of a folder, and what was read of them: only what they add is read again.
#[derive(Debug, Default)]
pub struct Runs {
    folder: Option<PathBuf>,
    known: Mutex<HashMap<String, Arc<Mutex<RunFile>>>>,
}

impl Runs {
    /// The runs in `folder`, each a folder in it. It may come later, as runs do.
    pub fn new(folder: Option<PathBuf>) -> Runs {
        Runs { folder, known: Mutex::default() }
    }

    /// What a list has of each run, the one that was written last first.
    fn list(&self) -> Value {
        let mut found = self.names();
        found.truncate(MOST);
        lock(&self.known).retain(|name, _| found.contains(name));
        let now = SystemTime::now();
        let read = |name: &String| {
            let run = self.read(name).ok()?;
            Some(lock(&run).summary(name, now))
        };
        let runs: Vec<Value> = found.iter().filter_map(read).collect();
        json!({"folder": self.folder, "runs": runs})
    }

    /// The names of the runs, the one that was written last first.
    fn names(&self) -> Vec<String> {
        let Some(entries) = self.folder.as_deref().and_then(|folder| folder.read_dir().ok()) else {
            return Vec::new();
        };
        let names = entries.flatten().take(ENTRIES).filter_map(|entry| entry.file_name().into_string().ok());
        let dated = names.filter_map(|name| {
            let written = self.path(&name).ok()?.metadata().and_then(|m| m.modified()).ok();
            Some((written, name))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.cmp(y)));
        dated.into_iter().map(|(_, name)| name).collect()
    }

    /// A run with all that its file has now.
    fn read(&self, name: &str) -> Result<Arc<Mutex<RunFile>>, RunsError> {
        let path = self.path(name)?;
        let run = Arc::clone(lock(&self.known).entry(name.to_owned()).or_default());
        lock(&run).update(&path)?;
        Ok(run)
    }

    /// The file of a run, which lies within the folder, links followed.
    fn path(&self, name: &str) -> Result<PathBuf, RunsError> {
        let folder = self.folder.as_deref().ok_or(RunsError::NoFolder)?;
        let missing =
            || RunsError::Missing { name: name.chars().take(200).collect(), folder: folder.to_owned() };
        let mut parts = FilePath::new(name).components();
        let one =
            matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
        if !one || name.starts_with('.') {
            return Err(missing());
        }
        let root = folder.canonicalize().map_err(|_| missing())?;
        let path = root.join(name).join(METRICS).canonicalize().map_err(|_| missing())?;
        match path.starts_with(&root) && path.is_file() {
            true => Ok(path),
            false => Err(missing()),
        }
    }
}

/// The routes.
pub fn router() -> Router<AppState> {
    Router::new().route("/api/runs", get(list)).route("/api/runs/{id}", get(one))
}

async fn list(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || state.runs.list()).await;
    listed.map(Json).map_err(|_| ApiError::internal("the runs could not be read"))
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

async fn one(
    State(state): State<AppState>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = name.map_err(|e| ApiError::invalid(e.to_string()))?;
    let Query(After { after }) = query.map_err(|_| {
        ApiError::parameter("after", "must be the number of a step, from 0; later steps are given")
    })?;
    let read = tokio::task::spawn_blocking(move || {
        let run = state.runs.read(&name)?;
        let json = lock(&run).json(&name, after, SystemTime::now());
        Ok::<Value, RunsError>(json)
    });
    let read = read.await.map_err(|_| ApiError::internal("the run could not be read"))?;
    Ok(Json(read?))
}
