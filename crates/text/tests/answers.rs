//! Answers of models, taken apart: every format, well and badly written, in any pieces.

use autarky_text::{
    Answer, AnswerFormat, AnswerOptions, AnswerParser, AnswerPart, CallFormat, ReasoningFormat,
};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const FORMATS: [CallFormat; 9] = [
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

fn format(calls: CallFormat) -> AnswerFormat {
    let reasoning = match calls {
        CallFormat::Mistral | CallFormat::MistralArgs => ReasoningFormat::BracketThink,
        CallFormat::Harmony => ReasoningFormat::Harmony,
        _ => ReasoningFormat::Think,
    };
    AnswerFormat { calls, reasoning: Some(reasoning) }
}

fn tools() -> Value {
    let properties = json!({
        "place": {"type": "string"}, "days": {"type": "integer"}, "list": {"type": "array"}, "now": {"type": "boolean"},
    });
    let function =
        |name: &str| json!({"name": name, "parameters": {"type": "object", "properties": properties}});
    json!([
        {"type": "function", "function": function("weather")},
        {"type": "function", "function": function("stop")},
    ])
}

fn with_tools() -> AnswerOptions {
    AnswerOptions { tools: Some(tools()), ..AnswerOptions::default() }
}

/// The answer's parts when its text comes at once.
fn parts(calls: CallFormat, options: &AnswerOptions, text: &str) -> Vec<AnswerPart> {
    let mut parser = AnswerParser::new(format(calls), options);
    let mut parts = parser.push(text);
    parts.extend(parser.finish());
    parts
}

/// Content, and name and arguments of each call.
fn read(calls: CallFormat, options: &AnswerOptions, text: &str) -> (String, Vec<(String, Value)>) {
    let mut answer = Answer::default();
    answer.extend(parts(calls, options, text));
    let call = |call: autarky_text::ToolCall| (call.name, serde_json::from_str(&call.arguments).unwrap());
    (answer.content, answer.calls.into_iter().map(call).collect())
}

#[test]
fn calls_of_every_format_are_found() {
    let zurich = || ("weather".to_owned(), json!({"place": "Zürich"}));
    let stop = || ("stop".to_owned(), json!({}));
    let two = [zurich(), stop()];
    for (calls, text, content, expected) in [
        (
            CallFormat::Hermes,
            "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Zürich\"}}\n</tool_call>\n\
             <tool_call>\n{\"arguments\": {}, \"name\": \"stop\"}\n</tool_call>\n",
            "Let me see.",
            &two[..],
        ),
        // The end is often forgotten, arguments are sometimes a string, and sometimes not there.
        (
            CallFormat::Hermes,
            r#"<tool_call>{"name": "weather", "arguments": "{\"place\": \"Z\u00fcrich\"}"}<tool_call>{"name":"stop"}"#,
            "",
            &two,
        ),
        (
            CallFormat::Hermes,
            "<tool_call>{\"name\": \"weather\", \"arguments\": {\"place\": \"Zürich\"}</tool_call>Done.",
            "Done.",
            &two[..1],
        ),
        (
            CallFormat::QwenXml,
            "I look.\n\n<tool_call>\n<function=weather>\n<parameter=place>\nZürich\n</parameter>\n</function>\n\
             </tool_call>\n<tool_call>\n<function=stop>\n</function>\n</tool_call>",
            "I look.",
            &two,
        ),
        // The outer tag is often forgotten.
        (
            CallFormat::QwenXml,
            "<function=weather>\n<parameter=place>Zürich</parameter></function></tool_call><function=stop>{}</function>",
            "",
            &two,
        ),
        (
            CallFormat::Glm,
            "Ok\n<tool_call>weather\n<arg_key>place</arg_key>\n<arg_value>Zürich</arg_value>\n</tool_call>\n\
             <tool_call>stop\n</tool_call>",
            "Ok",
            &two,
        ),
        (
            CallFormat::Glm,
            "<tool_call>weather<arg_key>place</arg_key><arg_value>Zürich</arg_value></tool_call><tool_call>stop</tool_call>",
            "",
            &two,
        ),
        (
            CallFormat::Llama,
            "{\"name\": \"weather\", \"parameters\": {\"place\": \"Zürich\"}}; {\"name\": \"stop\", \"parameters\": {}}",
            "",
            &two,
        ),
        (
            CallFormat::Llama,
            "<|python_tag|>{\"type\": \"function\", \"name\": \"weather\", \"parameters\": {\"place\": \"Zürich\"}}",
            "",
            &two[..1],
        ),
        (CallFormat::Llama, "<function=weather>{\"place\": \"Zürich\"}</function>", "", &two[..1]),
        (
            CallFormat::Mistral,
            "[TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": {\"place\": \"Zürich\"}, \"id\": \"a12345678\"}, \
             {\"name\": \"stop\", \"arguments\": {}}]",
            "",
            &two,
        ),
        (
            CallFormat::MistralArgs,
            "Sure.[TOOL_CALLS]weather[ARGS]{\"place\": \"Zürich\"}[TOOL_CALLS]stop[CALL_ID]123456789[ARGS]{}",
            "Sure.",
            &two,
        ),
        (CallFormat::MistralArgs, "[TOOL_CALLS]weather{\"place\": \"Zürich\"}[TOOL_CALLS]stop{}", "", &two),
        (
            CallFormat::DeepSeek,
            "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"place\": \"Zürich\"}\n```\
             <｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>stop\n```json\n{}\n```<｜tool▁call▁end｜>\
             <｜tool▁calls▁end｜>",
            "Hm.",
            &two,
        ),
        (
            CallFormat::DeepSeekPlain,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"place\": \"Zürich\"}<｜tool▁call▁end｜>\
             <｜tool▁call▁begin｜>stop<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "",
            &two,
        ),
    ] {
        assert_eq!(
            read(calls, &with_tools(), text),
            (content.to_owned(), expected.to_vec()),
            "{calls:?} {text}"
        );
        // Without tools, or for who does not look, it is text.
        assert_eq!(read(calls, &AnswerOptions::default(), text).0, text, "{calls:?}");
    }
}

#[test]
fn a_call_written_by_the_syntax_is_read_back() {
    let arguments = "{\"place\": \"a } ] </tool_call> \\\" \\n\", \"days\": 3}";
    for calls in FORMATS {
        let syntax = format(calls).call_syntax();
        let one = |name: &str| [syntax.before_name, name, syntax.between, arguments, syntax.after].concat();
        let expected = |name: &str| (name.to_owned(), serde_json::from_str(arguments).unwrap());
        let text = [syntax.begin, &one("weather"), syntax.end].concat();
        let first = (String::new(), vec![expected("weather")]);
        assert_eq!(read(calls, &with_tools(), &text), first, "{calls:?} {text}");
        let Some(separator) = syntax.separator else { continue };
        let text = [syntax.begin, &one("weather"), separator, &one("stop"), syntax.end].concat();
        let both = (String::new(), vec![expected("weather"), expected("stop")]);
        assert_eq!(read(calls, &with_tools(), &text), both, "{calls:?} {text}");
    }
}

#[test]
fn arguments_between_tags_have_types() {
    let text = "<tool_call><function=weather><parameter=place>\n12\n</parameter><parameter=days>\n3\n</parameter>\
                <parameter=list>[1, \"a\"]</parameter><parameter=now>True</parameter><parameter=x>1.5</parameter>\
                <parameter=y>\n two\n lines\n\n</parameter></function></tool_call>";
    let expected = json!({
        "place": "12", "days": 3, "list": [1, "a"], "now": true, "x": 1.5, "y": " two\n lines\n",
    });
    assert_eq!(read(CallFormat::QwenXml, &with_tools(), text).1, [("weather".to_owned(), expected)]);
    let text = "<tool_call>weather\n<arg_key>place</arg_key>\n<arg_value>\n\"a\" \\ </b>\t</arg_value>\n\
                <arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>";
    let expected = json!({"place": "\n\"a\" \\ </b>\t", "days": 3});
    assert_eq!(read(CallFormat::Glm, &with_tools(), text).1, [("weather".to_owned(), expected)]);
}

#[test]
fn what_is_no_call_is_content() {
    for (calls, text) in [
        (CallFormat::Hermes, "a < b, <tool_cal and <tool_call> are texts"),
        (CallFormat::Hermes, "<tool_call>\n{\"arguments\": {}}\n</tool_call>"),
        (CallFormat::Hermes, "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"),
        (CallFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>"),
        (CallFormat::Hermes, " \n<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": "),
        (CallFormat::Hermes, "<tool_call>weather\n</tool_call>"),
        (CallFormat::QwenXml, "<function=weather>\n<parameter=place>Zür"),
        (CallFormat::QwenXml, "<function=weather>\nPlace: Zürich</function>"),
        (CallFormat::QwenXml, "if a <function= b> {"),
        (CallFormat::Glm, "<tool_call>weather\n<arg_key>place</arg_key>\nZürich\n</tool_call>"),
        (CallFormat::Llama, "{\"name\": \"Bob\", \"age\": 3}"),
        (CallFormat::Llama, "{\"name\": \"Bob\", \"parameters\": {}}"),
        (CallFormat::Llama, "{\"name\": \"weather\"}"),
        (CallFormat::Llama, "See {\"name\": \"weather\", \"parameters\": {}}"),
        (CallFormat::Llama, "<|python_tag|>print(1)\n"),
        (CallFormat::Llama, "  {\"temperature\": 20}; {"),
        (CallFormat::Mistral, "[TOOL_CALLS] none"),
        (CallFormat::Mistral, "[TOOL_CALLS][]"),
        (CallFormat::MistralArgs, "[TOOL_CALLS]weather[ARGS]Zürich"),
        (CallFormat::MistralArgs, "[TOOL_CALLS][ARGS]{}"),
        (CallFormat::DeepSeek, "<｜tool▁calls▁begin｜>weather<｜tool▁call▁end｜>"),
        (CallFormat::DeepSeek, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\nno JSON"),
        (CallFormat::DeepSeek, "```json\n{}\n```<｜tool▁call▁end｜>"),
    ] {
        assert_eq!(read(calls, &with_tools(), text), (text.to_owned(), vec![]), "{calls:?}");
    }
}

#[test]
fn a_bad_call_does_not_hide_the_next() {
    let call = "<tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_call>";
    for bad in ["<tool_call>", "<tool_call><fun", "<tool_call>{\"name\": 5}", "<tool_call>\n{", "<tool_call"]
    {
        let (content, calls) = read(CallFormat::Hermes, &with_tools(), &format!("{bad}{call}"));
        assert_eq!((&*content, calls.len()), (bad, 1));
    }
    let text = "[TOOL_CALLS][{\"name\": \"stop\", \"arguments\": {}}, oops[TOOL_CALLS]stop{}";
    let (content, calls) = read(CallFormat::Mistral, &with_tools(), text);
    assert_eq!((&*content, calls.len()), (", oops", 2));
}

#[test]
fn arguments_come_as_they_are_written() {
    let index = 0;
    let mut parser = AnswerParser::new(format(CallFormat::Hermes), &with_tools());
    assert_eq!(parser.push("<tool_call>\n{\"name\": \"weather\", \"arg"), []);
    let start = AnswerPart::ToolCallStart { index, name: "weather".into() };
    assert_eq!(parser.push("uments\": "), []);
    let json = |json: &str| AnswerPart::ToolCallArguments { index, json: json.into() };
    let first = parser.push("{\"place\": \"Zür");
    assert_eq!(first, [start.clone(), json("{\"place\": \"Zür")]);
    // A raw line break is no JSON, but clear.
    assert_eq!(parser.push("\nich\"}"), [json("\\nich\"}")]);
    assert_eq!(parser.push("}"), [AnswerPart::ToolCallEnd { index }]);

    let mut parser = AnswerParser::new(format(CallFormat::QwenXml), &with_tools());
    let parts = parser.push("<tool_call>\n<function=weather>\n<parameter=place>\nZü\"r");
    assert_eq!(parts, [start, json("{\"place\": \"Zü\\\"r")]);
    // The text ended too early: what was shown is no call, and its text is content.
    let text = "<tool_call>\n<function=weather>\n<parameter=place>\nZü\"r".to_owned();
    assert_eq!(parser.finish(), [AnswerPart::ToolCallAborted { index }, AnswerPart::Content(text)]);
}

#[test]
fn reasoning_is_separated_at_the_beginning_only() {
    let read = |options: &AnswerOptions, text: &str| {
        let mut answer = Answer::default();
        answer.extend(parts(CallFormat::Hermes, options, text));
        (answer.reasoning, answer.content, answer.calls.len())
    };
    let separate = with_tools();
    let inside = AnswerOptions { starts_in_reasoning: true, ..with_tools() };
    let keep = AnswerOptions { keep_reasoning: true, ..with_tools() };
    let call = "<tool_call>{\"name\": \"stop\"}</tool_call>";
    let text = format!("<think>\nHm, {call}.\n</think>\n\nIt is <think> me.\n{call}");
    assert_eq!(read(&separate, &text), (format!("Hm, {call}."), "It is <think> me.".into(), 1));
    assert_eq!(read(&inside, "\nHm.\n</think>\n\nMe."), ("Hm.".into(), "Me.".into(), 0));
    assert_eq!(read(&inside, "Hm. </thin"), ("Hm. </thin".into(), String::new(), 0));
    assert_eq!(read(&separate, "Me. </think> a"), (String::new(), "Me. </think> a".into(), 0));
    assert_eq!(read(&separate, "\n<think>\n\n</think>\n\n a "), (String::new(), "a ".into(), 0));
    let text = format!("\n<think>\nHm {call}\n</think>\n\nMe.");
    assert_eq!(read(&keep, &text), (String::new(), text, 0));
    let unknown = AnswerFormat::default();
    let mut parser = AnswerParser::new(unknown, &inside);
    assert_eq!(parser.push("<think>"), [AnswerPart::Content("<think>".into())]);
}

#[test]
fn the_messages_of_gpt_oss_are_told_apart() {
    let read = |options: &AnswerOptions, text: &str| {
        let mut answer = Answer::default();
        answer.extend(parts(CallFormat::Harmony, options, text));
        (answer.reasoning, answer.content, answer.calls.len())
    };
    let strings = |reasoning: &str, content: &str, calls| (reasoning.to_owned(), content.to_owned(), calls);
    let text = "<|channel|>analysis<|message|>Hm < <|x|>.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.\
                <|end|><|start|>assistant<|channel|>commentary to=functions.stop <|constrain|>json<|message|>{\"days\": 1}<|call|>";
    assert_eq!(read(&with_tools(), text), strings("Hm < <|x|>.", "I look.", 1));
    let turned = "<|start|>assistant to=functions.stop<|channel|>commentary json<|message|>{}";
    assert_eq!(read(&with_tools(), turned), strings("", "", 1));
    let text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Me.\n<|return|>";
    assert_eq!(read(&AnswerOptions::default(), text), strings("Hm.", "Me.", 0));
    let inside = AnswerOptions { starts_in_reasoning: true, ..AnswerOptions::default() };
    assert_eq!(
        read(&inside, "Hm.<|end|><|start|>assistant<|channel|>final<|message|>Me."),
        strings("Hm.", "Me.", 0)
    );
    assert_eq!(read(&with_tools(), "{\"plain\": 1}"), strings("", "{\"plain\": 1}", 0));
    for none in ["<|channel|>commentary to=functions.stop<|message|>no JSON", "<|channel|>analysis"] {
        assert_eq!(read(&with_tools(), none), strings("", none, 0));
    }
    let template = "{{ '<|start|>assistant<|channel|>final<|message|>' }}";
    assert_eq!(AnswerFormat::detect(template), format(CallFormat::Harmony));
}

/// Parts with everything that belongs together joined.
fn joined(parts: impl IntoIterator<Item = AnswerPart>) -> Vec<AnswerPart> {
    let mut out: Vec<AnswerPart> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(AnswerPart::Content(a)), AnswerPart::Content(b))
            | (Some(AnswerPart::Reasoning(a)), AnswerPart::Reasoning(b))
            | (
                Some(AnswerPart::ToolCallArguments { json: a, .. }),
                AnswerPart::ToolCallArguments { json: b, .. },
            ) => a.push_str(&b),
            (_, part) => out.push(part),
        }
    }
    out
}

/// Texts with much that could be markup, for the format with this place in [`FORMATS`].
fn text(format_index: usize) -> impl Strategy<Value = String> {
    let format = format(FORMATS[format_index]);
    let syntax = format.call_syntax();
    let mut pieces: Vec<String> = format.markers().into_iter().map(str::to_owned).collect();
    pieces.extend(
        ["<function=", "<parameter=", ">", "weather", "stop", "{", "}", "[", "]", ",", ";", " ", "\n"]
            .map(str::to_owned),
    );
    pieces.extend(
        ["\"", "\\", "\"name\"", ":", "{}", "{\"place\": \"x\\ny\"}", "```json", "1", "ü", "<"]
            .map(str::to_owned),
    );
    pieces.extend(["\"arguments\": ", "\"parameters\": {", "{\"name\": \"weather\", "].map(str::to_owned));
    pieces.push(
        [syntax.begin, syntax.before_name, "stop", syntax.between, "{\"days\": 1}", syntax.after, syntax.end]
            .concat(),
    );
    pieces.push([syntax.before_name, "weather", syntax.between, "{"].concat());
    let piece = prop_oneof![4 => prop::sample::select(pieces), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn case() -> impl Strategy<Value = (usize, String)> {
    (0..FORMATS.len()).prop_flat_map(|index| (Just(index), text(index)))
}

fn options() -> impl Strategy<Value = AnswerOptions> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(offered, keep_reasoning, starts_in_reasoning)| AnswerOptions {
            tools: offered.then(tools),
            keep_reasoning,
            starts_in_reasoning,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_do_not_matter((index, text) in case(), options in options(), cuts in prop::collection::vec(0..200_usize, 0..8)) {
        let whole = joined(parts(FORMATS[index], &options, &text));
        let mut parser = AnswerParser::new(format(FORMATS[index]), &options);
        let mut pieces = Vec::new();
        let mut begin = 0;
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
        cuts.sort_unstable();
        for end in cuts.into_iter().chain([text.len()]) {
            pieces.extend(parser.push(&text[begin..end]));
            begin = end;
        }
        pieces.extend(parser.finish());
        prop_assert_eq!(joined(pieces), whole);
    }

    /// Calls are whole or taken back, one at a time, and arguments are a JSON object.
    #[test]
    fn calls_are_sound((index, text) in case(), options in options()) {
        let parts = parts(FORMATS[index], &options, &text);
        let (mut open, mut next, mut json) = (false, 0, String::new());
        for part in parts {
            match part {
                AnswerPart::ToolCallStart { index, name } => {
                    prop_assert!(!open && index == next && !name.is_empty());
                    (open, json) = (true, String::new());
                }
                AnswerPart::ToolCallArguments { index, json: more } => {
                    prop_assert!(open && index == next && !more.is_empty());
                    json += &more;
                }
                AnswerPart::ToolCallEnd { index } => {
                    prop_assert!(open && index == next);
                    prop_assert_eq!(json.chars().next(), Some('{'));
                    prop_assert!(serde_json::from_str::<IgnoredAny>(&json).is_ok(), "{}", json);
                    (open, next) = (false, next + 1);
                }
                AnswerPart::ToolCallAborted { index } => {
                    prop_assert!(open && index == next);
                    (open, next) = (false, next + 1);
                }
                _ => prop_assert!(!open),
            }
        }
        prop_assert!(!open && (options.tools.is_some() || next == 0));
    }

    /// Where there is no whole call, all text comes out, in order.
    #[test]
    fn no_text_is_lost((index, text) in case(), offered in any::<bool>(), starts_in_reasoning in any::<bool>()) {
        let options = AnswerOptions { tools: offered.then(tools), keep_reasoning: true, starts_in_reasoning };
        let mut answer = Answer::default();
        answer.extend(parts(FORMATS[index], &options, &text));
        // gpt-oss writes markup around everything.
        if answer.calls.is_empty() && FORMATS[index] != CallFormat::Harmony {
            prop_assert_eq!(&answer.content, &text);
        }
        let mut rest = text.chars();
        prop_assert!(answer.content.chars().all(|c| rest.any(|other| other == c)), "{}", answer.content);
        prop_assert!(answer.reasoning.is_empty());
    }
}
