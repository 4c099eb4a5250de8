//! Answers of models: whatever the text and the pieces it comes in, the same parts, whose calls are JSON.
//!
//! An input is two bytes, for format and options, then the text.
#![no_main]

use autarky_fuzz::bounded;
use autarky_text::{
    Answer, AnswerFormat, AnswerOptions, AnswerParser, AnswerPart, CallFormat, ReasoningFormat,
};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const CALLS: [CallFormat; 9] = [
    CallFormat::Hermes,
    CallFormat::QwenXml,
    CallFormat::Glm,
    CallFormat::Llama,
    CallFormat::Mistral,
    CallFormat::MistralArgs,
    CallFormat::DeepSeek,
    CallFormat::DeepSeekPlain,
    CallFormat::Harmony,
];

fn read(format: AnswerFormat, options: &AnswerOptions, pieces: &[&str]) -> (Answer, usize) {
    let mut parser = AnswerParser::new(format, options);
    let mut parts: Vec<AnswerPart> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let aborted = parts.iter().filter(|part| matches!(part, AnswerPart::ToolCallAborted { .. })).count();
    let mut answer = Answer::default();
    answer.extend(parts);
    (answer, aborted)
}

fuzz_target!(|bytes: &[u8]| {
    let [form, flags, text @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(text);
    let calls = CALLS[usize::from(form % 9)];
    let reasoning = match form / 9 % 3 {
        _ if calls == CallFormat::Harmony => Some(ReasoningFormat::Harmony),
        0 => None,
        1 => Some(ReasoningFormat::Think),
        _ => Some(ReasoningFormat::BracketThink),
    };
    let format = AnswerFormat { calls, reasoning };
    let tools = serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {
        "properties": {"s": {"type": "string"}, "n": {"type": ["number", "null"]}, "b": {"type": "boolean"}},
    }}}]);
    let options = AnswerOptions {
        tools: (flags & 1 == 0).then_some(tools),
        keep_reasoning: flags & 2 != 0,
        starts_in_reasoning: flags & 4 != 0,
    };
    bounded(|| {
        let whole = read(format, &options, &[&text]);
        let characters: Vec<&str> = text.split("").collect();
        assert_eq!(whole, read(format, &options, &characters), "pieces do not matter");
        for call in &whole.0.calls {
            assert!(!call.name.is_empty() && call.arguments.starts_with('{'));
            serde_json::from_str::<IgnoredAny>(&call.arguments).expect("arguments are JSON");
        }
        if options.tools.is_none() {
            assert!(whole.0.calls.is_empty() && whole.1 == 0);
        }
        if whole.0.calls.is_empty() && options.keep_reasoning && calls != CallFormat::Harmony {
            assert_eq!(whole.0.content, text, "no text is lost");
        }
    });
});
