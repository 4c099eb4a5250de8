//! Responses as the API tells them, whole.

use autarky_engine::service::Chosen;
use autarky_text::Tokenizer;
use serde_json::{Map, Value, json};

use super::output::Output;
use super::record::Record;
use super::store::Responses;
use crate::body::apart;
use crate::error::ApiError;
use crate::generation::{Finish, Generation, Totals, Update};
use crate::openai::chat::logprob_entries;
use crate::store::UnixTime;

/// What is known of a response before the model writes it.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// What it says of the request.
    pub(super) told: Map<String, Value>,
    /// Whether log probabilities are told.
    pub(super) logprobs: bool,
    /// Where it is kept, if it is.
    pub(super) keeper: Option<Keeper>,
}

/// Keeps a response.
pub(super) struct Keeper {
    pub(super) store: Responses,
    /// The items that are answered, as the API tells them.
    pub(super) input: Vec<Value>,
}

impl Head {
    /// The response while it is `status`, with what else is known of it.
    pub(super) fn response(&self, status: &str, output: Vec<Value>, usage: Value) -> Map<String, Value> {
        let mut response = self.told.clone();
        let known = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "output": output,
            "usage": usage,
        });
        if let Value::Object(known) = known {
            response.extend(known);
        }
        response
    }

    /// The response when the model has written it, kept if it is to be.
    ///
    /// # Errors
    /// When keeping it panicked.
    pub(super) async fn finished(
        &mut self,
        output: Output,
        finish: &Finish,
        totals: &Totals,
    ) -> Result<Value, ApiError> {
        let cut = *finish == Finish::Length;
        let status = if cut { "incomplete" } else { "completed" };
        let mut response = self.response(status, output.into_items(), totals.responses());
        if cut {
            response.insert("incomplete_details".to_owned(), json!({"reason": "max_output_tokens"}));
        } else {
            response.insert("completed_at".to_owned(), json!(UnixTime::now().seconds()));
        }
        response.insert("timings".to_owned(), totals.timings());
        let response = Value::Object(response);
        let Some(keeper) = self.keeper.take() else { return Ok(response) };
        let id = self.id.clone();
        apart(true, move || {
            let mut record = Record { response, input: keeper.input };
            let kept = serde_json::to_string(&record).is_ok_and(|text| keeper.store.put(&id, &text).is_ok());
            // The answer is worth more than keeping it: it says that it is not kept.
            if let (false, Some(map)) = (kept, record.response.as_object_mut()) {
                map.insert("store".to_owned(), json!(false));
            }
            record.response
        })
        .await
    }
}

/// Log probabilities as items have them.
pub(super) fn told(head: &Head, tokenizer: &Tokenizer, tokens: &[Chosen]) -> Vec<Value> {
    if head.logprobs { logprob_entries(tokenizer, tokens) } else { Vec::new() }
}

/// Waits for the answer and gives the response.
pub(super) async fn whole(
    mut generation: Generation,
    mut head: Head,
    mut output: Output,
) -> Result<Value, ApiError> {
    let mut finish = Finish::End;
    loop {
        match generation.next().await? {
            Update::Started { .. } => {}
            Update::Piece { parts, tokens, .. } => {
                output.push(parts, told(&head, &generation.model().tokenizer, &tokens));
            }
            Update::Ended { finish: why, .. } => {
                output.finish(&why);
                finish = why;
            }
            Update::Finished(totals) => return head.finished(output, &finish, &totals).await,
        }
    }
}
