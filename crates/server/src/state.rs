//! What every handler can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::FromRef;

use crate::health::STALLED;

use crate::registry::Registry;
use crate::runs::Runs;
use crate::store::Store;

/// What every handler can reach. Cloning is cheap.
#[derive(Clone)]
pub struct AppState {
    /// The models.
    pub registry: Arc<Registry>,
    /// Runs of training; none unless given.
    pub runs: Arc<Runs>,
    /// Keys, conversations and responses.
    pub store: Store,
    /// Bounds on what one request may ask for.
    pub limits: RequestLimits,
    /// What the server says of itself.
    pub about: Arc<About>,
    /// An engine that shows no sign of life for so long is reported.
    pub stalled: Duration,
    draining: Arc<AtomicBool>,
}

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What models run on, such as `cpu (avx512_vnni)`.
    pub device: String,
    /// Threads that it uses.
    pub threads: usize,
}

/// Bounds on what one request may ask for, checked before anything is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of a body.
    pub body: usize,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// Messages of a conversation.
    pub messages: usize,
    /// Tools that may be offered.
    pub tools: usize,
    /// Nesting of JSON within a request, schemas included.
    pub depth: usize,
    /// Stop strings.
    pub stops: usize,
    /// Inputs of one embedding request.
    pub inputs: usize,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            body: 16 << 20,
            body_time: Duration::from_secs(30),
            messages: 20_000,
            tools: 128,
            depth: 64,
            stops: 16,
            inputs: 2048,
        }
    }
}

impl AppState {
    /// A state of these models with the usual bounds.
    pub fn new(registry: Arc<Registry>, store: Store, about: About) -> AppState {
        let (limits, runs, draining) = (RequestLimits::default(), Arc::default(), Arc::default());
        AppState { registry, runs, store, limits, about: Arc::new(about), stalled: STALLED, draining }
    }

    /// With these runs of training to show.
    #[must_use]
    pub fn with_runs(self, runs: Runs) -> AppState {
        AppState { runs: Arc::new(runs), ..self }
    }

    /// Whether requests need an API key.
    pub fn needs_key(&self) -> bool {
        // A store that cannot be read lets nobody in.
        self.store.has_keys().unwrap_or(true)
    }

    /// Takes no more jobs; those that run go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.registry.loaded().iter().for_each(|(_, model)| model.service.drain());
    }

    /// Whether the server is about to stop.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl FromRef<AppState> for Store {
    fn from_ref(state: &AppState) -> Store {
        state.store.clone()
    }
}
