//! From a request to a job: the prompt's tokens, and how its answer is to be read.

use autarky_engine::service::Job;
use autarky_text::{
    AnswerFormat, AnswerOptions, ChatError, ChatFormat, DateTime, EncodeOptions, Fault, Prompt,
};

use super::ask::{Ask, Conversation, Input};
use super::{constrain, teach};
use crate::error::ApiError;
use crate::model::LoadedModel;
use crate::store::UnixTime;

/// A job, and how its answers are to be read.
pub(crate) struct Prepared {
    pub(crate) job: Job,
    /// Whether an answer may have one call at most.
    pub(crate) single_call: bool,
    /// `None`: all text is content.
    pub(crate) format: Option<(AnswerFormat, AnswerOptions)>,
}

/// Makes the prompt of `ask` for `model`, and the job.
pub(crate) fn prepare(model: &LoadedModel, ask: Ask) -> Result<Prepared, ApiError> {
    let (prompt, format) = prompt(model, &ask.input)?;
    let sampling = ask.sampling.of(model.tokenizer.sampling());
    let mut job = Job::new(prompt, sampling);
    job.choices = ask.choices;
    job.bias = ask.bias;
    job.logprobs = ask.logprobs;
    job.max_tokens = ask.max_tokens;
    job.stop = ask.stop;
    // OpenAI's penalties see the answer only; the repetition penalty of Keskar et al. sees the prompt, too.
    job.penalize_prompt = sampling.repetition_penalty != 1.0;
    if !ask.ignore_eos {
        job.end = model.tokenizer.eog().to_vec();
    }
    if let Some((format, _)) = &format {
        let shown = format.markers().into_iter().filter_map(|text| model.tokenizer.special_id(text));
        job.shown = shown.collect();
    }
    if let Some(constraint) = constrain::constraint(model, &ask.input, &ask.output, format.as_ref())? {
        job.constraint = Some(constraint);
        // The constraint says where the answer ends.
        job.end = model.tokenizer.eog().to_vec();
        job.constraint_after = format.as_ref().and_then(|(format, options)| {
            format.reasoning.filter(|_| options.starts_in_reasoning).map(|r| r.close().to_owned())
        });
    }
    job.continues = match &ask.input {
        Input::Conversation(conversation) => conversation.continue_last,
        Input::Text(_) | Input::Tokens(_) => true,
    };
    let single_call = matches!(&ask.input, Input::Conversation(c) if !c.parallel);
    Ok(Prepared { job, format, single_call })
}

/// Tokens of the prompt of `ask`.
pub(crate) fn count(model: &LoadedModel, ask: &Ask) -> Result<usize, ApiError> {
    prompt(model, &ask.input).map(|(tokens, _)| tokens.len())
}

type Format = Option<(AnswerFormat, AnswerOptions)>;

fn prompt(model: &LoadedModel, input: &Input) -> Result<(Vec<u32>, Format), ApiError> {
    let conversation = match input {
        Input::Tokens(tokens) => return Ok((tokens.clone(), None)),
        Input::Text(text) => {
            let options = EncodeOptions { add_special: true, parse_special: true };
            let tokens = model.tokenizer.encode(text, options);
            return Ok((tokens.map_err(|e| ApiError::parameter("prompt", e.to_string()))?, None));
        }
        Input::Conversation(conversation) => conversation,
    };
    let chat = chat(model)?;
    let tools = conversation.offered();
    let prompt = if chat.takes_tools() || !conversation.speaks_of_tools() {
        render(chat, conversation, tools.as_ref())?
    } else {
        let taught = teach::tools(conversation, chat.answer_format());
        render(chat, &taught, None)?
    };
    let options =
        AnswerOptions { tools, keep_reasoning: false, starts_in_reasoning: prompt.starts_in_reasoning };
    Ok((prompt.tokens, Some((chat.answer_format(), options))))
}

fn chat(model: &LoadedModel) -> Result<&ChatFormat, ApiError> {
    match model.chat() {
        Ok(Some(chat)) => Ok(chat),
        Ok(None) => {
            let what = "the model has no chat template, so it cannot answer messages: use /v1/completions, or serve it \
                        with a template";
            Err(ApiError::parameter("model", what).code("no_chat_template"))
        }
        Err(problem) => {
            Err(ApiError::internal(format!("the model's chat template cannot be used: {problem}")))
        }
    }
}

fn render(
    chat: &ChatFormat,
    conversation: &Conversation,
    tools: Option<&serde_json::Value>,
) -> Result<Prompt, ApiError> {
    let now = i64::try_from(UnixTime::now().seconds()).unwrap_or(i64::MAX);
    let said = autarky_text::Conversation {
        messages: &conversation.messages,
        tools,
        variables: Some(&conversation.variables),
        date: Some(DateTime::from_unix(now)),
        continue_last: conversation.continue_last,
    };
    chat.prompt(&said).map_err(|error: ChatError| match error.fault() {
        Fault::Conversation => ApiError::invalid(error.to_string()).about("messages"),
        Fault::Model => ApiError::internal(format!("the model's chat template cannot be used: {error}")),
    })
}
