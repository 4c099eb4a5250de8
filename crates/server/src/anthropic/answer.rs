//! Whole messages.

use serde_json::{Value, json};

use super::Head;
use super::pieces::{Piece, Pieces};
use crate::error::ApiError;
use crate::generation::{Finish, Generation, Update};
use crate::ids;

/// Waits for the answer and gives the message.
pub(super) async fn whole(mut generation: Generation, head: Head) -> Result<Value, ApiError> {
    let (mut pieces, mut content) = (Pieces::default(), Vec::new());
    let mut finish = Finish::Length;
    let totals = loop {
        match generation.next().await? {
            Update::Started { .. } => {}
            Update::Piece { parts, .. } => {
                parts
                    .into_iter()
                    .filter_map(|part| pieces.take(part))
                    .for_each(|piece| add(&mut content, piece));
            }
            Update::Ended { finish: why, .. } => finish = why,
            Update::Finished(totals) => break totals,
        }
    };
    if content.is_empty() {
        // Clients look at the first block, so that there is one.
        content.push(Piece::Text(String::new()));
    }
    let (reason, sequence) = pieces.stop(finish);
    let content: Vec<Value> = content.into_iter().map(|piece| block(piece, head.thinking)).collect();
    Ok(message(&head, json!(content), json!(reason), json!(sequence), totals.anthropic()))
}

/// A message; what is not known yet is null.
pub(super) fn message(head: &Head, content: Value, reason: Value, sequence: Value, usage: Value) -> Value {
    json!({
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    })
}

/// Adds a piece: text to the text that it goes on.
fn add(content: &mut Vec<Piece>, piece: Piece) {
    match (content.last_mut(), piece) {
        (Some(Piece::Thinking(before)), Piece::Thinking(text))
        | (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
        (_, piece) => content.push(piece),
    }
}

/// A whole content block. There is nothing that a signature could prove here.
fn block(piece: Piece, thinking: bool) -> Value {
    match piece {
        Piece::Thinking(text) => {
            let text = if thinking { text } else { String::new() };
            json!({"type": "thinking", "thinking": text, "signature": ""})
        }
        Piece::Text(text) => json!({"type": "text", "text": text}),
        Piece::Call { name, input } => {
            json!({"type": "tool_use", "id": ids::name("toolu_"), "name": name, "input": input})
        }
    }
}

#[cfg(test)]
mod tests {
    use autarky_text::AnswerPart;

    use super::*;

    #[test]
    fn parts_become_blocks_in_their_order() {
        let call = |index, json: &str| {
            [
                AnswerPart::ToolCallStart { index, name: "f".to_owned() },
                AnswerPart::ToolCallArguments { index, json: json.to_owned() },
            ]
        };
        let mut parts = vec![
            AnswerPart::Reasoning("Hm".to_owned()),
            AnswerPart::Reasoning(".".to_owned()),
            AnswerPart::Content("I ".to_owned()),
            AnswerPart::Content("look.".to_owned()),
        ];
        parts.extend(call(0, "{\"a\": [1, \"x\"]}"));
        parts.push(AnswerPart::ToolCallEnd { index: 0 });
        parts.push(AnswerPart::Content("And".to_owned()));
        parts.extend(call(1, "{\"a\": "));
        parts.push(AnswerPart::ToolCallAborted { index: 1 });
        parts.push(AnswerPart::Content(" <tool_call>".to_owned()));
        parts.extend(call(2, "{\"a\": 1e999}"));
        parts.push(AnswerPart::ToolCallEnd { index: 2 });
        let (mut pieces, mut content) = (Pieces::default(), Vec::new());
        for part in parts {
            pieces.take(part).into_iter().for_each(|piece| add(&mut content, piece));
        }
        let blocks: Vec<Value> = content.iter().map(|piece| block(piece.clone(), true)).collect();
        assert_eq!(blocks[0], json!({"type": "thinking", "thinking": "Hm.", "signature": ""}));
        assert_eq!(blocks[1], json!({"type": "text", "text": "I look."}));
        assert_eq!((&blocks[2]["name"], &blocks[2]["input"]), (&json!("f"), &json!({"a": [1, "x"]})));
        assert!(blocks[2]["id"].as_str().unwrap().starts_with("toolu_"));
        assert_eq!(blocks[3], json!({"type": "text", "text": "And <tool_call>{\"a\": 1e999}"}));
        assert_eq!(blocks.len(), 4);
        assert_eq!(block(content.remove(0), false)["thinking"], "", "display is omitted");
        assert_eq!(pieces.stop(Finish::ToolCalls), ("tool_use", None));
        assert_eq!(pieces.stop(Finish::Length), ("max_tokens", None));
        let sequence = Finish::StopString("END".to_owned());
        assert_eq!(pieces.stop(sequence), ("stop_sequence", Some("END".to_owned())));
        assert_eq!(Pieces::default().stop(Finish::ToolCalls), ("end_turn", None));
    }
}
