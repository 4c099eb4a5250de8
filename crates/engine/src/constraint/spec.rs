//! What a client asks of the output, and the grammar that says so.

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use super::error::ConstraintError;
use super::schema;
use super::vocabulary::ConstraintVocabulary;

/// Bytes of a regular expression.
const LONGEST_REGEX: usize = 8 << 10;
/// Bytes of a grammar.
const LONGEST_GRAMMAR: usize = 64 << 10;
/// Colons in a grammar: there is one in each rule, and each rule may call the next.
const MOST_COLONS: usize = 4_096;
/// Opening braces in a grammar, each of which may be in another.
const MOST_BRACES: usize = 2_048;
/// Tools that may be called.
const MOST_TOOLS: usize = 256;
/// Bytes of a tool's name.
const LONGEST_NAME: usize = 128;
/// Bytes of each of the texts around tool calls.
const LONGEST_SYNTAX: usize = 1_024;

/// White space between the tokens of JSON: a space, or a line break and indentation. Models can write white
/// space without end where nothing stops them.
const JSON_WHITE_SPACE: &str = r" |\n {0,24}";

/// What the output shall be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConstraintSpec {
    /// A JSON object.
    Json,
    /// JSON that the schema allows, with an object's properties in the schema's order.
    ///
    /// JSON Schema 2020-12 and what is compatible of earlier drafts. `oneOf` is taken as `anyOf`, and `$ref` names
    /// places in the schema itself (`#/$defs/name`). Keywords that are not supported are errors, not ignored.
    JsonSchema(Value),
    /// Text that the regular expression matches as a whole. The syntax is that of the crate `regex`, without
    /// anchors and word boundaries.
    Regex(String),
    /// Text of the rule `start` of a grammar in Lark's syntax, as `llguidance` extends it
    /// (<https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>). It cannot name control tokens.
    Lark(String),
    /// Calls of tools, at least one.
    ToolCalls {
        /// The tools that may be called.
        tools: Vec<ToolSchema>,
        /// How a call is written.
        syntax: ToolSyntax,
        /// Whether to end after one call.
        at_most_one: bool,
    },
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSchema {
    /// The name, which goes into the text as it is: without control characters, quotes and backslashes.
    pub name: String,
    /// The JSON Schema of the arguments.
    pub arguments: Value,
}

/// How a model writes calls of tools: `before`, the tool's name, `between`, the arguments as JSON, `after`; and
/// `separator` before the next call.
///
/// Where one of these has the name of a control token, such as `<tool_call>` in some vocabularies, that token is
/// meant; all else is text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSyntax {
    /// What comes before the name, for instance `<tool_call>\n{"name": "`.
    pub before: String,
    /// What comes between name and arguments, for instance `", "arguments": `.
    pub between: String,
    /// What comes after the arguments, for instance `}\n</tool_call>`.
    pub after: String,
    /// What comes between two calls, for instance a line break.
    pub separator: String,
}

/// A grammar, and the control tokens that it names.
pub(super) struct Grammar {
    pub(super) grammar: TopLevelGrammar,
    pub(super) control: Vec<u32>,
}

impl ConstraintSpec {
    /// Checks what is asked and writes its grammar.
    pub(super) fn grammar(&self, vocabulary: &ConstraintVocabulary) -> Result<Grammar, ConstraintError> {
        let grammar = match self {
            ConstraintSpec::Json => TopLevelGrammar::from_json_schema(checked(&json!({"type": "object"}))?),
            ConstraintSpec::JsonSchema(schema) => TopLevelGrammar::from_json_schema(checked(schema)?),
            ConstraintSpec::Regex(regex) => regex_grammar(regex)?,
            ConstraintSpec::Lark(grammar) => lark_grammar(grammar)?,
            ConstraintSpec::ToolCalls { tools, syntax, at_most_one } => {
                return tool_grammar(vocabulary, tools, syntax, *at_most_one);
            }
        };
        Ok(Grammar { grammar, control: Vec::new() })
    }

    /// The error for what the compiler says of this.
    pub(super) fn compile_error(&self, vocabulary: &ConstraintVocabulary, message: &str) -> ConstraintError {
        let message = shorten(message);
        if ["too big", "too large", "too complex", "exceeded", "limit"].iter().any(|m| message.contains(m)) {
            return ConstraintError::TooComplex(message);
        }
        match self {
            ConstraintSpec::Json | ConstraintSpec::JsonSchema(_) => {
                ConstraintError::Schema { at: String::new(), what: message }
            }
            ConstraintSpec::Regex(_) => ConstraintError::Regex(message),
            ConstraintSpec::Lark(_) => ConstraintError::Grammar(message),
            ConstraintSpec::ToolCalls { tools, .. } => {
                // Which one is it?
                for tool in tools {
                    let alone = checked(&tool.arguments).map(TopLevelGrammar::from_json_schema);
                    if let Ok(Err(message)) = alone.map(|grammar| vocabulary.parser(grammar)) {
                        return ConstraintError::Tool { name: tool.name.clone(), what: shorten(&message) };
                    }
                }
                ConstraintError::Grammar(message)
            }
        }
    }
}

/// The first line of a message of the compiler, which may go on with positions in text that no client wrote.
pub(super) fn shorten(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(300).collect()
}

/// `schema`, checked, with the options that it is compiled with.
fn checked(schema: &Value) -> Result<Value, ConstraintError> {
    schema::check(schema)?;
    let mut map = match schema {
        Value::Object(map) => map.clone(),
        Value::Bool(true) => Map::new(),
        _ => {
            let what = "false: no value is allowed".to_owned();
            return Err(ConstraintError::Schema { at: String::new(), what });
        }
    };
    let options = json!({"whitespace_pattern": JSON_WHITE_SPACE, "coerce_one_of": true});
    map.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(map))
}

fn regex_grammar(regex: &str) -> Result<TopLevelGrammar, ConstraintError> {
    at_most("the regular expression", regex.len(), "bytes", LONGEST_REGEX)?;
    if regex.is_empty() {
        return Ok(TopLevelGrammar::from_lark("start: \"\"".to_owned()));
    }
    regex_syntax::parse(regex).map_err(|e| ConstraintError::Regex(e.to_string()))?;
    Ok(TopLevelGrammar::from_regex(regex))
}

fn lark_grammar(grammar: &str) -> Result<TopLevelGrammar, ConstraintError> {
    at_most("the grammar", grammar.len(), "bytes", LONGEST_GRAMMAR)?;
    at_most("the grammar", grammar.matches(':').count(), "colons", MOST_COLONS)?;
    at_most("the grammar", grammar.matches('{').count(), "opening braces", MOST_BRACES)?;
    Ok(TopLevelGrammar::from_lark(grammar.to_owned()))
}

fn at_most(what: &'static str, size: usize, unit: &'static str, limit: usize) -> Result<(), ConstraintError> {
    if size > limit { Err(ConstraintError::TooLarge { what, size, unit, limit }) } else { Ok(()) }
}

fn tool_grammar(
    vocabulary: &ConstraintVocabulary,
    tools: &[ToolSchema],
    syntax: &ToolSyntax,
    at_most_one: bool,
) -> Result<Grammar, ConstraintError> {
    if tools.is_empty() {
        return Err(ConstraintError::Grammar("a call is asked for, and there are no tools; give one".into()));
    }
    at_most("the list of tools", tools.len(), "tools", MOST_TOOLS)?;
    for text in [&syntax.before, &syntax.between, &syntax.after, &syntax.separator] {
        at_most("the text around a tool call", text.len(), "bytes", LONGEST_SYNTAX)?;
    }
    let mut control = Vec::new();
    let mut names: Vec<&str> = Vec::with_capacity(tools.len());
    let mut calls = String::new();
    let mut rules = String::new();
    for (i, tool) in tools.iter().enumerate() {
        let error =
            |what: &str| Err(ConstraintError::Tool { name: tool.name.clone(), what: what.to_owned() });
        if tool.name.is_empty() || tool.name.len() > LONGEST_NAME {
            return error("a name has 1 to 128 bytes");
        }
        if tool.name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '<' | '>')) {
            return error("a name has no control characters, quotes, backslashes and angle brackets");
        }
        names.push(&tool.name);
        let schema = checked(&tool.arguments)
            .map_err(|e| ConstraintError::Tool { name: tool.name.clone(), what: e.to_string() })?;
        let mut pieces = Pieces::default();
        pieces.syntax(vocabulary, &syntax.before);
        pieces.text(&tool.name);
        pieces.syntax(vocabulary, &syntax.between);
        let before = pieces.take(&mut control);
        pieces.syntax(vocabulary, &syntax.after);
        let after = pieces.take(&mut control);
        calls.push_str(if i == 0 { "" } else { " | " });
        calls.push_str(&format!("call{i}"));
        rules.push_str(&format!("call{i}: {before}%json {schema} {after}\n"));
    }
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        let name = pair.first().copied().unwrap_or_default().to_owned();
        return Err(ConstraintError::Tool { name, what: "two tools have this name; rename one".into() });
    }
    let mut pieces = Pieces::default();
    pieces.syntax(vocabulary, &syntax.separator);
    let separator = pieces.take(&mut control);
    let start = if at_most_one { "call".to_owned() } else { format!("call ({separator} call)*") };
    if let Some(id) = control.iter().find(|&&id| vocabulary.is_eog(id)) {
        let what = format!("the syntax of tool calls has token {id}, which ends a generation; leave it out");
        return Err(ConstraintError::Grammar(what));
    }
    control.sort_unstable();
    control.dedup();
    let grammar = format!("start: {start}\ncall: {calls}\n{rules}");
    Ok(Grammar { grammar: TopLevelGrammar::from_lark(grammar), control })
}

/// Text and control tokens, one after the other.
#[derive(Default)]
struct Pieces {
    lark: String,
    text: String,
    control: Vec<u32>,
}

impl Pieces {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Text in which names of control tokens stand for the tokens.
    fn syntax(&mut self, vocabulary: &ConstraintVocabulary, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = match vocabulary.control_at(rest) {
                Some((name, id)) => {
                    self.end_text();
                    self.lark.push_str(&format!("<[{id}]> "));
                    self.control.push(id);
                    rest.get(name.len()..).unwrap_or_default()
                }
                None => {
                    self.text.push(c);
                    rest.get(c.len_utf8()..).unwrap_or_default()
                }
            };
        }
    }

    /// One literal for all text so far: how long literals are matters to the lexer.
    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let literal =
                Value::String(std::mem::take(&mut self.text)).to_string().replace('\u{7f}', "\\u007f");
            self.lark.push_str(&literal);
            self.lark.push(' ');
        }
    }

    /// The pieces in Lark's syntax; puts their control tokens behind `control`.
    fn take(&mut self, control: &mut Vec<u32>) -> String {
        self.end_text();
        control.append(&mut self.control);
        std::mem::take(&mut self.lark)
    }
}
