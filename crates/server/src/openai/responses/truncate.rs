//! Truncation: the oldest items go where the context is too small for all.

use std::collections::HashSet;

use autarky_text::Message;

use super::conversation::messages;
use super::items::{Item, Placed, Role};
use super::request::Parsed;
use crate::error::ApiError;
use crate::generation::{Ask, Conversation, Input, count_tokens};
use crate::state::AppState;

/// Tokens that are kept free for an answer whose length is not given.
const ANSWER: usize = 1024;

/// The messages of as many of the newest `items` as fit, with all instructions and the user's last message.
///
/// # Errors
/// When the items cannot be answered, or there is no such model.
pub(super) async fn fit(
    state: &AppState,
    parsed: &Parsed,
    items: &[Placed],
) -> Result<Vec<Message>, ApiError> {
    let context = state.registry.info(&parsed.ask.model)?.context;
    let answer = parsed.ask.max_tokens.unwrap_or(ANSWER).min(context / 4);
    let room = context.saturating_sub(answer);
    let cuts = cuts(items);
    let attempt = async |at: usize| -> Result<(Vec<Message>, bool), ApiError> {
        let kept = kept(items, cuts.get(at).copied().unwrap_or(0));
        let messages = messages(parsed.instructions.as_deref(), &kept)?;
        let tokens = count_tokens(state, asked(parsed, messages.clone())).await?;
        Ok((messages, tokens <= room))
    };
    let (all, fits) = attempt(0).await?;
    let last = cuts.len() - 1;
    if fits || last == 0 {
        return Ok(all);
    }
    // If even the least is too much, there is nothing to look for, and the service says so.
    let (mut best, fits) = attempt(last).await?;
    if !fits {
        return Ok(best);
    }
    // The first cut that fits is after `low` and not after `high`.
    let (mut low, mut high) = (0, last);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match attempt(middle).await? {
            (messages, true) => (best, high) = (messages, middle),
            (_, false) => low = middle,
        }
    }
    Ok(best)
}

/// A request with these messages.
pub(super) fn asked(parsed: &Parsed, messages: Vec<Message>) -> Ask {
    let conversation = Conversation { messages, ..parsed.conversation.clone() };
    Ask { input: Input::Conversation(Box::new(conversation)), ..parsed.ask.clone() }
}

fn user(placed: &Placed) -> bool {
    matches!(placed.item, Item::Message { role: Role::User, .. })
}

fn instructs(placed: &Placed) -> bool {
    matches!(placed.item, Item::Message { role, .. } if role.instructs())
}

/// Where `items` may begin: with a message of the user's, or, behind the last of those, with a turn of the model's.
fn cuts(items: &[Placed]) -> Vec<usize> {
    let last_user = items.iter().rposition(user);
    let begins = |(index, pair): (usize, &[Placed])| {
        let [before, placed] = pair else { return None };
        let output = |placed: &Placed| matches!(placed.item, Item::Output { .. });
        let turn = last_user.is_none_or(|last| index + 1 > last)
            && output(before)
            && !output(placed)
            && !instructs(placed);
        (user(placed) || turn).then_some(index + 1)
    };
    std::iter::once(0).chain(items.windows(2).enumerate().filter_map(begins)).collect()
}

/// `items` from `cut` on, with the instructions, the user's last message, and no results whose calls are gone.
fn kept(items: &[Placed], cut: usize) -> Vec<Placed> {
    let last_user = items.iter().rposition(user);
    let mut calls = HashSet::new();
    let mut gone = HashSet::new();
    let mut kept = Vec::new();
    for (index, placed) in items.iter().enumerate() {
        let stays = index >= cut || instructs(placed) || Some(index) == last_user;
        match &placed.item {
            Item::Call(call) if stays => {
                calls.insert(call.id.as_str());
            }
            Item::Call(call) => {
                gone.insert(call.id.as_str());
            }
            Item::Output { call, .. } if gone.contains(call.as_str()) && !calls.contains(call.as_str()) => {
                continue;
            }
            _ => {}
        }
        if stays {
            kept.push(placed.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::responses::items::Call;

    /// `s`ystem, `u`ser, `a`ssistant, a `c`all or an output of the call before it.
    fn items(pattern: &str) -> Vec<Placed> {
        let mut call = 0;
        let item = |c: char| match c {
            's' => Placed::message(Role::System, "s").item,
            'u' => Placed::message(Role::User, "u").item,
            'a' => Placed::message(Role::Assistant, "a").item,
            'c' => {
                call += 1;
                let (name, input) = ("f".to_owned(), "{}".to_owned());
                Item::Call(Call { id: call.to_string(), name, input, custom: false })
            }
            _ => Item::Output { call: call.to_string(), texts: vec![String::new()], custom: false },
        };
        pattern.chars().map(item).map(|item| Placed { id: None, index: None, item }).collect()
    }

    fn pattern(items: &[Placed]) -> String {
        let letter = |placed: &Placed| match &placed.item {
            Item::Message { role: Role::User, .. } => 'u',
            Item::Message { role: Role::Assistant, .. } => 'a',
            Item::Message { .. } => 's',
            Item::Call(_) => 'c',
            _ => 'o',
        };
        items.iter().map(letter).collect()
    }

    #[test]
    fn the_oldest_go_and_what_is_left_is_a_conversation() {
        let all = items("suauacoasucocoaco");
        let kept: Vec<String> = cuts(&all).iter().map(|cut| pattern(&kept(&all, *cut))).collect();
        let expected =
            ["suauacoasucocoaco", "suauacoasucocoaco", "suacoasucocoaco", "ssucocoaco", "ssucoaco", "ssuaco"];
        assert_eq!(kept, expected);
        for kept in cuts(&all).iter().map(|cut| super::kept(&all, *cut)) {
            messages(None, &kept).expect("each result has its call");
        }
    }

    #[test]
    fn a_result_goes_with_its_call() {
        let mut all = items("uco");
        all.insert(2, Placed::message(Role::User, "u"));
        assert_eq!(pattern(&kept(&all, 2)), "u");
    }
}
