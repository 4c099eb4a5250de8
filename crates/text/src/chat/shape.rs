//! In which forms a template takes messages: found by trying.
//!
//! Templates are written for clients that their authors knew. Some want a message's text as a string, some as a list
//! of parts; most want a call's arguments as an object, some as a string of JSON.

use serde_json::{Value as Json, json};

use super::template::{ChatTemplate, RenderOptions};

/// Two texts that no template has.
const PROBES: [&str; 2] = ["qXj1vZ", "kWq2yB"];

/// In which forms a role's content is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) text: bool,
    pub(super) parts: bool,
}

/// What a template takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// It takes the simplest conversation.
    pub(super) works: bool,
    pub(super) system: Contents,
    pub(super) user: Contents,
    pub(super) assistant: Contents,
    pub(super) tool: Contents,
    /// Beside calls, it takes null for no content.
    pub(super) null: bool,
    /// It wants a call's arguments as a string of JSON.
    pub(super) text_arguments: bool,
    /// It tells the model which tools there are.
    pub(super) tools: bool,
}

impl Shape {
    /// Tries a template. `options` are those of later renderings.
    pub(super) fn of(template: &ChatTemplate, options: &RenderOptions) -> Self {
        let probe = Probe { template, options };
        let user = probe.contents(|content| json!([{"role": "user", "content": content}]));
        if !(user.text || user.parts) {
            let unknown = Contents { text: true, parts: false };
            return Self {
                works: false,
                system: unknown,
                user: unknown,
                assistant: unknown,
                tool: unknown,
                null: true,
                text_arguments: false,
                tools: false,
            };
        }
        let hello = if user.text { json!("Hi") } else { json!([{"type": "text", "text": "Hi"}]) };
        let ask = json!({"role": "user", "content": hello});
        let call = |content: &Json, arguments: &Json| {
            json!({"role": "assistant", "content": content, "tool_calls": [
                {"id": "aaaaaaaa1", "type": "function", "function": {"name": "f", "arguments": arguments}},
            ]})
        };
        let [object, null, blank] = [json!({PROBES[0]: PROBES[1]}), Json::Null, json!("")];
        let string = Json::String(object.to_string());
        // The first form that shows the arguments as JSON, or between tags, and no null by Python's word for it.
        let nones = |text: &str| text.matches("None").count();
        let before = probe.renders(&json!([ask]), None).map_or(0, |text| nones(&text));
        let quoted = [format!("'{}'", PROBES[0]), format!("\\\"{}", PROBES[0])];
        let forms = [(&null, &object), (&blank, &object), (&null, &string), (&blank, &string)];
        let form = forms.into_iter().find(|(content, arguments)| {
            probe.renders(&json!([ask, call(content, arguments)]), None).is_some_and(|text| {
                text.contains(PROBES[0]) && nones(&text) == before && !quoted.iter().any(|q| text.contains(q))
            })
        });
        let (no_content, arguments) = form.unwrap_or((&null, &object));
        let text_arguments = arguments.is_string();
        let called = call(no_content, &if text_arguments { json!("{}") } else { json!({}) });
        let function =
            json!({"name": PROBES[0], "description": "", "parameters": {"type": "object", "properties": {}}});
        let tools = json!([{"type": "function", "function": function}]);
        Self {
            works: true,
            system: probe.contents(|content| json!([{"role": "system", "content": content}, ask])),
            user,
            assistant: probe.contents(|content| json!([ask, {"role": "assistant", "content": content}, ask])),
            tool: probe.contents(|content| {
                json!([ask, called, {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": content}])
            }),
            null: no_content.is_null(),
            text_arguments,
            tools: probe.renders(&json!([ask]), Some(tools)).is_some_and(|text| text.contains(PROBES[0])),
        }
    }

    /// The forms for a role.
    pub(super) fn contents(&self, role: &str) -> Contents {
        match role {
            "system" | "developer" => self.system,
            "assistant" => self.assistant,
            "tool" | "function" => self.tool,
            _ => self.user,
        }
    }
}

struct Probe<'a> {
    template: &'a ChatTemplate,
    options: &'a RenderOptions,
}

impl Probe<'_> {
    fn renders(&self, messages: &Json, tools: Option<Json>) -> Option<String> {
        let options = RenderOptions { tools, ..self.options.clone() };
        self.template.render_json(messages, &options).ok()
    }

    /// Tries both forms of a content.
    fn contents(&self, conversation: impl Fn(Json) -> Json) -> Contents {
        let [first, second] = PROBES;
        let text = self.renders(&conversation(json!(first)), None);
        let parts = json!([{"type": "text", "text": first}, {"type": "text", "text": second}]);
        let parts = self.renders(&conversation(parts), None);
        // A list that was printed as a list was not understood.
        let printed =
            |text: &str| PROBES.iter().any(|p| ['\'', '"'].iter().any(|q| text.contains(&format!("{p}{q}"))));
        Contents {
            text: text.is_some_and(|text| text.contains(first)),
            parts: parts.is_some_and(|text| PROBES.iter().all(|p| text.contains(p)) && !printed(&text)),
        }
    }
}
