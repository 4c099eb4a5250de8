//! Records as tokens, with what of them is learned.

use autarky_text::{
    ChatError, ChatFormat, Conversation, EncodeOptions, Message, TemplateError, Tokenizer, TokenizerError,
};
use serde_json::Value as Json;
use thiserror::Error;

use crate::data::Content;

/// The bit of a stored token that says that its prediction is not learned. No vocabulary has so many tokens.
pub(crate) const GIVEN: u32 = 1 << 31;

/// Why a record cannot be learned from.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The model has no chat template.
    #[error(
        "this is a conversation, and the model has no chat template: name one (model.chat-template), or train on text"
    )]
    NoTemplate,
    /// A pair of answers, which only preference training takes.
    #[error("this is a pair of answers to choose from, which is not text or a conversation")]
    Preference,
    /// Preference training takes nothing else.
    #[error(
        "this is no pair of answers to choose from: preference training takes `prompt`, `chosen` and `rejected`"
    )]
    NoPreference,
    /// Texts are given where prompts are wanted, or the other way round.
    #[error("this is a prompt to be answered, which is nothing to learn from as it stands")]
    Prompt,
    /// A prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, and the context of {context} (training.context) leaves no room for an answer"
    )]
    Long {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that may be read.
        context: usize,
    },
    /// A message is not one.
    #[error("message {0} is not an object with `role` and `content`")]
    Message(usize),
    /// The model's chat template is none.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template does not take it.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizer does not take it.
    #[error(transparent)]
    Tokens(#[from] TokenizerError),
}

/// Turns what files say into tokens.
#[derive(Clone)]
pub struct Encoder {
    tokenizer: Tokenizer,
    chat: Option<ChatFormat>,
    begin: Option<u32>,
    end: Option<u32>,
    pairs: bool,
}

impl Encoder {
    /// An encoder for the model of a tokenizer.
    ///
    /// # Errors
    /// When the model's chat template is none.
    pub fn new(tokenizer: &Tokenizer) -> Result<Encoder, EncodeError> {
        let chat = ChatFormat::of(tokenizer)?;
        let begin = tokenizer.bos().filter(|bos| tokenizer.added_ids().0.contains(bos));
        Ok(Encoder { tokenizer: tokenizer.clone(), chat, begin, end: tokenizer.eos(), pairs: false })
    }

    /// The same encoder for pairs of answers alone: each gives two documents, the preferred one and the other.
    pub fn for_pairs(self) -> Encoder {
        Encoder { pairs: true, ..self }
    }

    /// Whether it is for pairs.
    pub(crate) fn is_for_pairs(&self) -> bool {
        self.pairs
    }

    /// The documents of a record: each is tokens, with [`GIVEN`] where their prediction is not learned. A piece of a text
    /// is marked by whether it `begins` a document; where it does not, it goes on with the one before.
    ///
    /// # Errors
    /// Whatever keeps the record from being learned.
    pub(crate) fn documents(&self, content: &Content, begins: bool) -> Result<Vec<Vec<u32>>, EncodeError> {
        match content {
            Content::Preference { prompt, chosen, rejected } if self.pairs => {
                [chosen, rejected].into_iter().map(|answer| self.answer(prompt, answer)).collect()
            }
            _ if self.pairs => Err(EncodeError::NoPreference),
            Content::Text { text, ends } => {
                let mut tokens = Vec::new();
                tokens.extend(self.begin.filter(|_| begins));
                tokens.extend(self.tokenizer.encode(text, EncodeOptions::default())?);
                tokens.extend(self.end.filter(|_| *ends));
                Ok(vec![tokens])
            }
            Content::Messages { messages, tools } => self.conversation(messages, tools.as_deref()),
            Content::Preference { .. } => Err(EncodeError::Preference),
            Content::Prompt { .. } => Err(EncodeError::Prompt),
        }
    }

    fn conversation(&self, messages: &[Json], tools: Option<&[Json]>) -> Result<Vec<Vec<u32>>, EncodeError> {
        let chat = self.chat.as_ref().ok_or(EncodeError::NoTemplate)?;
        let messages = typed(messages)?;
        let tools = tools.map(|tools| Json::Array(tools.to_vec()));
        let conversation =
            Conversation { messages: &messages, tools: tools.as_ref(), ..Conversation::default() };
        let lessons = chat.lessons(&conversation)?;
        let marked = |(token, learned): (u32, bool)| if learned { token } else { token | GIVEN };
        Ok(lessons.into_iter().map(|l| l.tokens.into_iter().zip(l.learned).map(marked).collect()).collect())
    }

    /// One answer to a prompt, of which the answer alone is learned.
    fn answer(&self, prompt: &[Json], answer: &[Json]) -> Result<Vec<u32>, EncodeError> {
        let chat = self.chat.as_ref().ok_or(EncodeError::NoTemplate)?;
        let asked = self.prompt(prompt, None)?;
        let messages = typed(&[prompt, answer].concat())?;
        let lessons = chat.lessons(&Conversation { messages: &messages, ..Conversation::default() })?;
        // The last one has all of it, as the model will have to write it.
        let Some(lesson) = lessons.into_iter().next_back() else { return Ok(Vec::new()) };
        let given = asked.iter().zip(&lesson.tokens).take_while(|(a, b)| a == b).count();
        let tokens = lesson.tokens.into_iter().zip(lesson.learned).enumerate();
        Ok(tokens.map(|(i, (t, learned))| if learned && i >= given { t } else { t | GIVEN }).collect())
    }

    /// A conversation up to where the answer begins.
    ///
    /// # Errors
    /// Whatever keeps the model from being asked.
    pub fn prompt(&self, messages: &[Json], tools: Option<&[Json]>) -> Result<Vec<u32>, EncodeError> {
        let chat = self.chat.as_ref().ok_or(EncodeError::NoTemplate)?;
        let messages = typed(messages)?;
        let tools = tools.map(|tools| Json::Array(tools.to_vec()));
        let conversation =
            Conversation { messages: &messages, tools: tools.as_ref(), ..Conversation::default() };
        Ok(chat.prompt(&conversation)?.tokens)
    }
}

fn typed(messages: &[Json]) -> Result<Vec<Message>, EncodeError> {
    let message = |(i, json): (usize, &Json)| {
        serde_json::from_value::<Message>(json.clone()).map_err(|_| EncodeError::Message(i))
    };
    messages.iter().enumerate().map(message).collect()
}
