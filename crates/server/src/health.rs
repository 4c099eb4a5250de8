//! Whether the server works, and how much: `/health`, `/metrics`, `/api/stats`.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use autarky_engine::service::Counters;
use autarky_engine::service::latency::{BOUNDS, Histogram, Latencies};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::state::AppState;

/// A service whose step takes longer than this is thought to hang.
pub const STALLED: Duration = Duration::from_secs(120);

/// `GET /health`: 200 while every loaded model's engine goes on, else 503. It is the engine's own sign of life, not
/// the listener's: an engine that hangs in a step for longer than [`STALLED`], or whose thread has died, is reported.
pub async fn health(State(state): State<AppState>) -> Response {
    let mut healthy = true;
    let mut models = Vec::new();
    for (id, model) in state.registry.loaded() {
        let (alive, silence) = (model.service.is_alive(), model.service.silence());
        let counters = model.service.counters();
        let good = alive && silence < state.stalled;
        healthy &= good;
        let status = match (alive, good) {
            (_, true) => "ok",
            (true, false) => "stalled",
            (false, _) => "dead",
        };
        models.push(json!({
            "id": id,
            "status": status,
            "silence_ms": silence.as_millis() as u64,
            "running": counters.running,
            "waiting": counters.waiting,
        }));
    }
    let (code, status) = match (healthy, state.draining()) {
        (true, false) => (StatusCode::OK, "ok"),
        (true, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    (code, Json(json!({"status": status, "models": models}))).into_response()
}

/// `GET /api/stats`: counters of every loaded model, for the page.
pub async fn stats(State(state): State<AppState>) -> Json<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let models = state.registry.loaded();
    let models = models.into_iter().map(|(id, model)| {
        let c = model.service.counters();
        json!({
            "id": id,
            "device": model.device,
            "running": c.running,
            "waiting": c.waiting,
            "steps": c.steps,
            "prefill_tokens": c.prefilled,
            "decode_tokens": c.generated,
            "cached_tokens": c.cached,
            "blocks_total": c.blocks,
            "blocks_used": c.blocks_used,
            "blocks_cached": c.blocks_cached,
            "memory_bytes": model.info.memory,
            "requests": c.finished,
            "failed": c.failed,
            "cancelled": c.cancelled,
            "refused": c.refused,
            "preempted": c.preempted,
        })
    });
    let models: Vec<Value> = models.collect();
    Json(json!({"time": now.as_secs_f64(), "models": models, "process_bytes": resident()}))
}

/// Bytes of memory that this process has in use, where the system tells (Linux).
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(4096)
}

/// `GET /metrics`: the same and latencies, as Prometheus reads them (text format 0.0.4).
pub async fn metrics(State(state): State<AppState>) -> Response {
    let text = exposition(&state);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A counter or gauge: its name, kind, help, and how it is read.
type Metric = (&'static str, &'static str, &'static str, fn(&Counters) -> u64);

const METRICS: [Metric; 14] = [
    ("requests_running", "gauge", "Requests that are being computed", |c| c.running as u64),
    ("requests_waiting", "gauge", "Requests that wait for a place", |c| c.waiting as u64),
    ("kv_blocks", "gauge", "Blocks of the KV cache", |c| c.blocks as u64),
    ("kv_blocks_used", "gauge", "Blocks that answers hold", |c| c.blocks_used as u64),
    ("kv_blocks_cached", "gauge", "Blocks kept for prompts that begin alike", |c| c.blocks_cached as u64),
    ("steps_total", "counter", "Steps of the engine", |c| c.steps),
    ("prompt_tokens_total", "counter", "Tokens of prompts that were computed", |c| c.prefilled),
    ("prompt_tokens_cached_total", "counter", "Tokens of prompts that were found in the cache", |c| c.cached),
    ("generated_tokens_total", "counter", "Tokens that were chosen", |c| c.generated),
    ("requests_finished_total", "counter", "Requests that ended well", |c| c.finished),
    ("requests_failed_total", "counter", "Requests that ended in an error", |c| c.failed),
    ("requests_cancelled_total", "counter", "Requests whose client went away", |c| c.cancelled),
    ("requests_refused_total", "counter", "Requests that found the queue full", |c| c.refused),
    ("preemptions_total", "counter", "Answers that gave their cache to others for a while", |c| c.preempted),
];

fn exposition(state: &AppState) -> String {
    let loaded = state.registry.loaded();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP autarky_{name} {help}\n# TYPE autarky_{name} {kind}");
    };
    let names: Vec<String> = loaded.iter().map(|(id, _)| label(id)).collect();
    let counters: Vec<Counters> = loaded.iter().map(|(_, m)| m.service.counters()).collect();
    for (name, kind, help, read) in METRICS {
        head(&mut out, name, kind, help);
        for (id, c) in names.iter().zip(&counters) {
            let _ = writeln!(out, "autarky_{name}{{model=\"{id}\"}} {}", read(c));
        }
    }
    head(&mut out, "model_memory_bytes", "gauge", "Memory of a loaded model with its KV cache");
    for (id, (_, model)) in names.iter().zip(&loaded) {
        let _ = writeln!(out, "autarky_model_memory_bytes{{model=\"{id}\"}} {}", model.info.memory);
    }
    if let Some(bytes) = resident() {
        head(&mut out, "process_resident_memory_bytes", "gauge", "Memory of the process");
        let _ = writeln!(out, "autarky_process_resident_memory_bytes {bytes}");
    }
    let latencies: Vec<_> = loaded.iter().map(|(_, m)| m.service.latencies()).collect();
    let kinds: [Kind; 3] = [
        ("queue_seconds", "Time that requests waited", |l| l.queue),
        ("time_to_first_token_seconds", "Time from a request to its first token", |l| l.first_token),
        ("time_per_output_token_seconds", "Time from a token to the next", |l| l.per_token),
    ];
    for (name, help, read) in kinds {
        head(&mut out, name, "histogram", help);
        for (id, latencies) in names.iter().zip(&latencies) {
            histogram(&mut out, name, id, &read(latencies));
        }
    }
    out
}

/// A histogram: its name, help, and how it is read.
type Kind = (&'static str, &'static str, fn(&Latencies) -> Histogram);

fn histogram(out: &mut String, name: &str, id: &str, h: &Histogram) {
    let mut below = 0;
    for (bound, count) in BOUNDS.iter().zip(&h.counts) {
        below += count;
        let _ = writeln!(out, "autarky_{name}_bucket{{model=\"{id}\",le=\"{bound}\"}} {below}");
    }
    let count = h.count();
    let _ = writeln!(out, "autarky_{name}_bucket{{model=\"{id}\",le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "autarky_{name}_sum{{model=\"{id}\"}} {}", h.sum);
    let _ = writeln!(out, "autarky_{name}_count{{model=\"{id}\"}} {count}");
}

/// A label's value, escaped as the text format wants it.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
