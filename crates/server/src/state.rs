//! What every handler can reach.

use std::sync::Arc;

use crate::registry::Registry;

/// What every handler can reach. Cloning is cheap.
#[derive(Clone)]
pub struct AppState {
    /// The models.
    pub registry: Arc<Registry>,
    /// Bounds on what one request may ask for.
    pub limits: RequestLimits,
}

/// Bounds on what one request may ask for, checked before anything is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of a body.
    pub body: usize,
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
        RequestLimits { body: 16 << 20, messages: 20_000, tools: 128, depth: 64, stops: 16, inputs: 2048 }
    }
}
