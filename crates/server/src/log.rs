//! A line for each request, for people or for machines.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

/// How requests are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Not at all.
    #[default]
    Off,
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What is told of a request. Never what it says: prompts and answers are nobody's business but their owner's.
pub struct Line<'a> {
    /// Its number.
    pub id: &'a str,
    /// The trace that it belongs to.
    pub trace: Option<&'a str>,
    /// Where it came from.
    pub client: Option<SocketAddr>,
    /// Its method.
    pub method: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// The status of its answer.
    pub status: u16,
    /// Time until the answer began.
    pub time: Duration,
}

impl Log {
    /// Writes a line. Where nobody listens it is lost, which is no reason to refuse requests.
    pub fn write(self, line: &Line<'_>) {
        let ms = line.time.as_secs_f64() * 1e3;
        let text = match self {
            Log::Off => return,
            Log::Text => {
                let Line { id, method, path, status, .. } = line;
                let path = path.escape_debug();
                format!("{status} {method} {path} {ms:.1} ms {id}\n")
            }
            Log::Json => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let object = json!({
                    "time": now.as_secs_f64(),
                    "request": line.id,
                    "trace": line.trace,
                    "client": line.client.map(|c| c.ip().to_string()),
                    "method": line.method,
                    "path": line.path,
                    "status": line.status,
                    "ms": ms,
                });
                format!("{object}\n")
            }
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
