//! Chat templates: whatever the source and the conversation, text or a typed error, at a bounded cost.
//!
//! An input is a template, then optionally a NUL and the messages as JSON.
#![no_main]

use autarky_fuzz::bounded;
use autarky_text::{ChatTemplate, DateTime, RenderOptions};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The same every time, or a find could not be reproduced.
const DATE: DateTime = DateTime { year: 2026, month: 7, day: 4, hour: 9, minute: 5, second: 7 };

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (source, messages) = text.split_once('\0').unwrap_or((&text, ""));
    let messages = serde_json::from_str(messages).unwrap_or_else(|_| {
        serde_json::json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": null, "tool_calls": []}])
    });
    bounded(|| {
        let Ok(template) = ChatTemplate::new(source) else { return };
        let tools: Value =
            serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
        let options = RenderOptions {
            add_generation_prompt: true,
            tools: Some(tools),
            bos_token: Some("<s>".into()),
            eos_token: Some("</s>".into()),
            date: Some(DATE),
            ..RenderOptions::default()
        };
        let first = template.render_json(&messages, &options);
        assert_eq!(first, template.render_json(&messages, &options), "a rendering depends on nothing else");
    });
});
