//! Which models there are, and which of them are in memory: loaded when somebody asks, unloaded when nobody does.

mod adapters;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;

use crate::folder;
use crate::model::{LoadError, LoadedModel, Loader, ModelFiles, ModelInfo};
use crate::stamp::Stamp;
use crate::sync::lock;

/// What a registry may hold.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// The folder whose files may be added and loaded by name.
    pub folder: Option<PathBuf>,
    /// The folder whose adapters may be added by name; `None`: that of the models.
    pub adapters: Option<PathBuf>,
    /// Bytes that loaded models may take together; `None`: what the machine has free.
    pub memory: Option<u64>,
    /// A model that nobody asked for so long is unloaded; `None`: never.
    pub idle: Option<Duration>,
    /// For how long a look at a model's files is good: when somebody asks after that, they are looked at again.
    pub look: Duration,
}

/// Why a model cannot be had.
#[derive(Clone, Debug, Error)]
pub enum ModelError {
    /// No model has that name.
    #[error("the model `{name}` does not exist; {}", list(.known))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It cannot be loaded.
    #[error("the model `{name}` cannot be loaded: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Other models that are in use take the memory.
    #[error("the model `{name}` needs {} and {} are left beside the models that are in use; try again when they are idle", human(*.needed), human(*.left))]
    Memory {
        /// Its name.
        name: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that there are.
        left: u64,
    },
    /// A path that may not be added.
    #[error("{0}")]
    Path(String),
    /// An adapter that cannot be served, or is none.
    #[error("the adapter `{name}`: {reason}")]
    Adapter {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

fn human(bytes: u64) -> String {
    autarky_engine::memory::human(bytes)
}

fn list(known: &[String]) -> String {
    match known {
        [] => "no model is served: put one into the models folder, or name its file when starting the server"
            .to_owned(),
        names => format!("there are: {}", names.join(", ")),
    }
}

/// A model in use: it is not unloaded while somebody holds this.
pub struct Lease {
    /// Its name.
    pub name: String,
    model: Arc<LoadedModel>,
    entry: Arc<Entry>,
}

impl std::ops::Deref for Lease {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.entry.used).clone_from(&Instant::now());
    }
}

/// How far a model is.
#[derive(Clone)]
enum State {
    Unloaded,
    Loading,
    Ready(Arc<LoadedModel>),
    Failed(String),
}

struct Entry {
    files: ModelFiles,
    /// Of an adapter, the name of the model that it is applied to.
    parent: Option<String>,
    /// The files as they were before anything of them was read.
    stamp: Stamp,
    looked: Mutex<Instant>,
    /// Why what was written since has not taken its place.
    problem: Mutex<Option<String>>,
    info: ModelInfo,
    state: watch::Sender<State>,
    /// Thousandths that are loaded.
    progress: AtomicU32,
    used: Mutex<Instant>,
    /// Unloaded while somebody had a lease of it: in memory until they are done.
    leaving: Mutex<Vec<Weak<LoadedModel>>>,
}

/// What is told of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// Its name in requests.
    pub id: String,
    /// Its file or folder; of an adapter, the adapter's.
    pub path: String,
    /// Of an adapter, the name of the model that it is applied to.
    pub parent: Option<String>,
    /// Its family.
    pub family: String,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Positions that one sequence may have.
    pub context: usize,
    /// `unloaded`, `loading`, `ready` or `failed`.
    pub state: &'static str,
    /// The part that is loaded, from 0 to 1.
    pub progress: f32,
    /// Why it failed; of a model that is ready, why what was written since is not.
    pub error: Option<String>,
    /// Whether it answers messages.
    pub chat: bool,
}

/// The models that a server knows.
pub struct Registry {
    loader: Box<dyn Loader>,
    options: RegistryOptions,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    /// Entries that others took the place of, for as long as somebody has a lease of their models.
    retired: Mutex<Vec<Weak<Entry>>>,
    /// Held while a model is chosen to be loaded or unloaded, so that two loads do not count the same free memory.
    deciding: Mutex<()>,
}

impl Registry {
    /// A registry without models.
    pub fn new(loader: Box<dyn Loader>, options: RegistryOptions) -> Arc<Registry> {
        let (entries, retired, deciding) = (Mutex::default(), Mutex::default(), Mutex::new(()));
        Arc::new(Registry { loader, options, entries, retired, deciding })
    }

    /// What it may hold.
    pub fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Adds the model at `path`, which is not loaded yet, and gives its name: that of the file or folder, with a number
    /// where it is taken.
    ///
    /// # Errors
    /// When there is no model that runs here.
    pub fn add(&self, path: &Path) -> Result<String, ModelError> {
        let path = path.canonicalize().map_err(|e| ModelError::Path(format!("{}: {e}", path.display())))?;
        let taken = |entries: &BTreeMap<String, Arc<Entry>>| {
            entries
                .iter()
                .find(|(_, e)| e.files.path == path && e.parent.is_none())
                .map(|(name, _)| name.clone())
        };
        if let Some(name) = taken(&lock(&self.entries)) {
            return Ok(name);
        }
        let stem = folder::name_of(&path);
        let entry = self.inspect(ModelFiles { path, adapter: None }, None);
        let entry = entry.map_err(|e| ModelError::Path(e.to_string()))?;
        let mut entries = lock(&self.entries);
        let mut name = stem.clone();
        let mut number = 2;
        while entries.contains_key(&name) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        entries.insert(name.clone(), Arc::new(entry));
        Ok(name)
    }

    /// The entry of a model that is not loaded yet.
    fn inspect(&self, files: ModelFiles, parent: Option<String>) -> Result<Entry, LoadError> {
        Ok(Entry {
            stamp: Stamp::of(&files),
            looked: Mutex::new(Instant::now()),
            problem: Mutex::default(),
            info: self.loader.inspect(&files)?,
            files,
            parent,
            state: watch::Sender::new(State::Unloaded),
            progress: AtomicU32::new(0),
            used: Mutex::new(Instant::now()),
            leaving: Mutex::default(),
        })
    }

    /// Adds a file or folder within the models folder, named relative to it or in full.
    ///
    /// # Errors
    /// When it lies outside of the folder, or as [`Registry::add`].
    pub fn add_from_folder(&self, path: &str) -> Result<String, ModelError> {
        let Some(folder) = &self.options.folder else {
            let what = "the server has no models folder; start it with --models FOLDER";
            return Err(ModelError::Path(what.to_owned()));
        };
        let full = folder::within(folder, path).map_err(ModelError::Path)?;
        self.add(&full)
    }

    /// Adds what is new in the models folder. What cannot be opened is left out, and told with its reason.
    pub fn scan(&self) -> Vec<ModelError> {
        let Some(folder) = &self.options.folder else { return Vec::new() };
        let files = folder::models(folder);
        files.iter().filter_map(|file| self.add(&folder.join(&file.path)).err()).collect()
    }

    /// The names of all models.
    pub fn names(&self) -> Vec<String> {
        lock(&self.entries).keys().cloned().collect()
    }

    /// How every model is.
    pub fn status(&self) -> Vec<ModelStatus> {
        let entries = lock(&self.entries).clone();
        let status = |(id, entry): (String, Arc<Entry>)| {
            let state = entry.state.borrow().clone();
            let (state, progress, error) = match state {
                State::Unloaded => ("unloaded", 0.0, None),
                State::Loading => ("loading", entry.progress.load(Ordering::Relaxed) as f32 / 1000.0, None),
                State::Ready(_) => ("ready", 1.0, lock(&entry.problem).clone()),
                State::Failed(reason) => ("failed", 0.0, Some(reason)),
            };
            let ModelInfo { family, parameters, bytes, context, chat, .. } = entry.info.clone();
            let path = entry.files.adapter.as_ref().unwrap_or(&entry.files.path).display().to_string();
            let parent = entry.parent.clone();
            ModelStatus { id, path, parent, family, parameters, bytes, context, state, progress, error, chat }
        };
        entries.into_iter().map(status).collect()
    }

    /// The models that are in memory.
    pub fn loaded(&self) -> Vec<(String, Arc<LoadedModel>)> {
        let entries = lock(&self.entries).clone();
        let ready = |(name, entry): (String, Arc<Entry>)| match &*entry.state.borrow() {
            State::Ready(model) => Some((name, Arc::clone(model))),
            _ => None,
        };
        entries.into_iter().filter_map(ready).collect()
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>, ModelError> {
        let entries = lock(&self.entries);
        let unknown = || ModelError::Unknown {
            name: name.chars().take(100).collect(),
            known: entries.keys().take(20).cloned().collect(),
        };
        entries.get(name).cloned().ok_or_else(unknown)
    }

    /// What is known of a model without loading it.
    ///
    /// # Errors
    /// When no model has that name.
    pub fn info(&self, name: &str) -> Result<ModelInfo, ModelError> {
        Ok(self.entry(name)?.info.clone())
    }

    /// The entry of that name: another than before where its files have changed.
    async fn current(self: &Arc<Self>, name: &str) -> Result<Arc<Entry>, ModelError> {
        let entry = self.entry(name)?;
        if !entry.has_changed(self.options.look) {
            return Ok(entry);
        }
        let (registry, theirs) = (Arc::clone(self), name.to_owned());
        // Reads the head of a file, which may lie on a slow disk. What went wrong is in the entry.
        let _ = tokio::task::spawn_blocking(move || registry.renew(&theirs, &entry)).await;
        self.entry(name)
    }

    /// Puts an entry of the same files, as they are now, in the place of `entry`. That stays where they cannot be used, or
    /// while it is in use and there is no room for both.
    fn renew(&self, name: &str, entry: &Arc<Entry>) {
        let fresh = self.inspect(entry.files.clone(), entry.parent.clone()).map_err(|e| e.to_string());
        let _deciding = lock(&self.deciding);
        let ready = matches!(&*entry.state.borrow(), State::Ready(_));
        let done = fresh.and_then(|fresh| {
            if ready && !entry.is_idle() {
                self.make_room(name, fresh.info.memory).map_err(|e| e.to_string())?;
            }
            match lock(&self.entries).get_mut(name) {
                Some(there) if Arc::ptr_eq(there, entry) => *there = Arc::new(fresh),
                // It was replaced or removed just now.
                _ => return Ok(()),
            }
            self.retire(entry);
            Ok(())
        });
        *lock(&entry.problem) =
            done.err().map(|why| format!("its files have changed since it was loaded: {why}"));
    }

    /// The model of that name, loaded if it is not, or if its files have changed since: others that are idle make room for
    /// it.
    ///
    /// # Errors
    /// When there is none, it cannot be loaded, or the memory is taken by models in use.
    pub async fn get(self: &Arc<Self>, name: &str) -> Result<Lease, ModelError> {
        let mut entry = self.current(name).await?;
        let mut states = entry.state.subscribe();
        let mut tried = false;
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Ready(model) if model.service.is_alive() => {
                    *lock(&entry.used) = Instant::now();
                    return Ok(Lease { name: name.to_owned(), model, entry });
                }
                State::Loading => {}
                // Told to those who waited for it; whoever asks next makes another attempt.
                State::Failed(reason) if tried => {
                    return Err(ModelError::Failed { name: name.to_owned(), reason });
                }
                State::Unloaded | State::Ready(_) | State::Failed(_) => {
                    // What was unloaded may have been replaced.
                    entry = self.begin(name)?;
                    states = entry.state.subscribe();
                    tried = true;
                    continue;
                }
            }
            tried = true;
            if states.changed().await.is_err() {
                let reason = "the server is about to stop".to_owned();
                return Err(ModelError::Failed { name: name.to_owned(), reason });
            }
        }
    }

    /// Begins to load a model, unless it is loaded or being loaded; does not wait for it.
    ///
    /// # Errors
    /// When there is none of that name, or the memory is taken by models in use.
    pub async fn load(self: &Arc<Self>, name: &str) -> Result<(), ModelError> {
        self.current(name).await?;
        self.begin(name).map(drop)
    }

    /// Begins to load a model, as [`Registry::load`], and gives its entry.
    fn begin(self: &Arc<Self>, name: &str) -> Result<Arc<Entry>, ModelError> {
        let deciding = lock(&self.deciding);
        let entry = self.entry(name)?;
        match &*entry.state.borrow() {
            State::Loading => return Ok(Arc::clone(&entry)),
            State::Ready(model) if model.service.is_alive() => return Ok(Arc::clone(&entry)),
            _ => {}
        }
        self.make_room(name, entry.info.memory)?;
        entry.progress.store(0, Ordering::Relaxed);
        entry.state.send_replace(State::Loading);
        drop(deciding);
        let registry = Arc::clone(self);
        let theirs = Arc::clone(&entry);
        let load = move || {
            let progress = |part: f32| {
                theirs.progress.store((part.clamp(0.0, 1.0) * 1000.0) as u32, Ordering::Relaxed);
            };
            let state = match registry.loader.load(&theirs.files, &progress) {
                Ok(model) => State::Ready(Arc::new(model)),
                Err(error) => State::Failed(error.to_string()),
            };
            *lock(&theirs.used) = Instant::now();
            theirs.state.send_replace(state);
        };
        if let Err(error) = thread::Builder::new().name("load".to_owned()).spawn(load) {
            entry.state.send_replace(State::Failed(format!("no thread to load it: {error}")));
        }
        Ok(entry)
    }

    /// Unloads a model when its last request is done. Says whether it was loaded.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn unload(&self, name: &str) -> Result<bool, ModelError> {
        let entry = self.entry(name)?;
        let _deciding = lock(&self.deciding);
        Ok(entry.unload())
    }

    /// Unloads what nobody used for as long as the options say; gives the names.
    pub fn unload_idle(&self) -> Vec<String> {
        let Some(most) = self.options.idle else { return Vec::new() };
        let _deciding = lock(&self.deciding);
        let idle = |entry: &Arc<Entry>| entry.is_idle() && lock(&entry.used).elapsed() >= most;
        let entries = lock(&self.entries).clone();
        let gone = entries.into_iter().filter(|(_, e)| idle(e) && e.unload());
        gone.map(|(name, _)| name).collect()
    }

    /// Unloads idle models, the least recently used first, until `needed` bytes are free.
    fn make_room(&self, name: &str, needed: u64) -> Result<(), ModelError> {
        loop {
            let left = self.left();
            if needed <= left {
                return Ok(());
            }
            let entries = lock(&self.entries).clone();
            let idle = entries.values().filter(|e| e.is_idle()).min_by_key(|e| *lock(&e.used));
            let freed = idle.is_some_and(|entry| entry.unload());
            if !freed {
                let name = name.to_owned();
                return Err(ModelError::Memory { name, needed, left });
            }
        }
    }

    /// Bytes that models may still take.
    fn left(&self) -> u64 {
        let of = |entry: &Entry| entry.info.memory * entry.copies();
        let used: u64 = lock(&self.entries).values().map(|e| of(e)).sum();
        let retired: u64 = lock(&self.retired).iter().filter_map(Weak::upgrade).map(|e| of(&e)).sum();
        let used = used + retired;
        match self.options.memory {
            Some(most) => most.saturating_sub(used),
            None => autarky_engine::memory::available().map_or(u64::MAX, |a| a.bytes - a.bytes / 32),
        }
    }
}

impl Entry {
    /// Whether it is loaded and has nothing to do.
    fn is_idle(&self) -> bool {
        match &*self.state.borrow() {
            // The entry itself holds one.
            State::Ready(model) => Arc::strong_count(model) == 1 && model.service.is_idle(),
            _ => false,
        }
    }

    /// Whether its files are others than they were; looks at them when the last look is older than `look`.
    fn has_changed(&self, look: Duration) -> bool {
        let mut looked = lock(&self.looked);
        if looked.elapsed() < look {
            return false;
        }
        *looked = Instant::now();
        drop(looked);
        Stamp::of(&self.files) != self.stamp
    }

    /// How often it is in memory, or about to be.
    fn copies(&self) -> u64 {
        let here = matches!(&*self.state.borrow(), State::Loading | State::Ready(_));
        let leaving = lock(&self.leaving).iter().filter(|model| model.strong_count() > 0).count();
        u64::from(here) + leaving as u64
    }

    fn unload(&self) -> bool {
        if !matches!(&*self.state.borrow(), State::Ready(_) | State::Failed(_)) {
            return false;
        }
        if let State::Ready(model) = self.state.send_replace(State::Unloaded) {
            let mut leaving = lock(&self.leaving);
            leaving.retain(|model| model.strong_count() > 0);
            leaving.push(Arc::downgrade(&model));
        }
        true
    }
}
