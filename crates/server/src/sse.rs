//! Server-sent events (WHATWG HTML, section 9.2): an answer that is sent as it is written.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

/// A line is sent after so long without an event, so that nobody on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Events that may wait for a slow reader.
const WAITING: usize = 64;

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: mpsc::Sender<Bytes>,
}

/// The reader has gone: there is nobody to write for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Events {
    /// Sends an event of JSON, which has no line breaks as it is written here.
    pub(crate) async fn data(&self, value: &Value) -> Result<(), Gone> {
        self.send(format!("data: {value}\n\n")).await
    }

    /// Sends an event with a name.
    pub(crate) async fn event(&self, name: &str, value: &Value) -> Result<(), Gone> {
        self.send(format!("event: {name}\ndata: {value}\n\n")).await
    }

    /// Sends the end of a stream as OpenAI's API has it.
    pub(crate) async fn done(&self) -> Result<(), Gone> {
        self.send("data: [DONE]\n\n".to_owned()).await
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        self.sender.send(Bytes::from(text)).await.map_err(|_| Gone)
    }

    /// Returns when the reader has gone.
    async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// A response whose events `write` sends. The headers go out at once; `write` is dropped when the reader goes away.
pub(crate) fn respond<F>(write: impl FnOnce(Events) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let events = Events { sender };
    let watched = events.clone();
    let write = write(events);
    tokio::spawn(async move {
        tokio::select! {
            _ = write => {}
            () = watched.gone() => {}
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would hold events back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let lines = Lines { receiver, quiet: Box::pin(sleep(KEEP_ALIVE)) };
    (headers, Body::from_stream(lines)).into_response()
}

/// The bytes of a response: events, and comments while there are none.
struct Lines {
    receiver: mpsc::Receiver<Bytes>,
    quiet: Pin<Box<Sleep>>,
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.receiver.poll_recv(context) {
            Poll::Ready(next) => next,
            Poll::Pending => match self.quiet.as_mut().poll(context) {
                Poll::Ready(()) => Some(Bytes::from_static(b": keep-alive\n\n")),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(next.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let response = respond(|events| async move {
            events.data(&json!({"text": "a\nb"})).await?;
            sleep(KEEP_ALIVE * 2 + KEEP_ALIVE / 2).await;
            events.event("ping", &json!({})).await?;
            events.done().await
        });
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected = "data: {\"text\":\"a\\nb\"}\n\n: keep-alive\n\n: keep-alive\n\nevent: ping\ndata: {}\n\n\
                        data: [DONE]\n\n";
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }

    #[tokio::test]
    async fn nobody_writes_for_a_reader_who_has_gone() {
        let (dropped, heard) = oneshot::channel::<()>();
        let response = respond(|_events| async move {
            let _dropped = dropped;
            std::future::pending::<Result<(), Gone>>().await
        });
        drop(response);
        assert!(heard.await.is_err(), "the writer was dropped");
    }
}
