//! What models learn of conversations, through published templates.

use autarky_text::{
    ChatError, ChatFormat, Conversation, Lesson, Message, Model, Spec, SpecialIds, TokenType, Tokenizer,
};

/// Every byte is a token, behind the control tokens.
fn tokenizer(template: &str, control: &[&str]) -> Tokenizer {
    let mut tokens: Vec<String> = control.iter().map(|n| (*n).to_owned()).collect();
    let mut token_types = vec![TokenType::Control; control.len()];
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    token_types.resize(tokens.len(), TokenType::Byte);
    let spec = Spec {
        model: Model::SentencePiece,
        scores: vec![0.0; tokens.len()],
        tokens,
        token_types,
        special: SpecialIds { bos: Some(0), eos: Some(1), eot: Some(2), ..SpecialIds::default() },
        add_space_prefix: Some(false),
        chat_template: Some(template.to_owned()),
        ..Spec::default()
    };
    Tokenizer::new(&spec).unwrap()
}

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Lessons with what is learned in brackets.
fn lessons(template: &str, messages: &[(&str, &str)]) -> Result<Vec<String>, ChatError> {
    let tokenizer = tokenizer(template, &["<s>", "</s>", "<|im_end|>", "<|im_start|>"]);
    let format = ChatFormat::of(&tokenizer).unwrap().unwrap();
    let messages: Vec<Message> = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let lessons = format.lessons(&Conversation { messages: &messages, ..Conversation::default() })?;
    Ok(lessons.iter().map(|lesson| written(&tokenizer, lesson)).collect())
}

fn written(tokenizer: &Tokenizer, lesson: &Lesson) -> String {
    let mut text = String::new();
    let mut before = false;
    for (token, &learned) in lesson.tokens.iter().zip(&lesson.learned) {
        if learned != before {
            text.push(if learned { '[' } else { ']' });
            before = learned;
        }
        text += &tokenizer.decode(&[*token], false).unwrap();
    }
    if before { text + "]" } else { text }
}

#[test]
fn answers_are_learned_up_to_the_token_that_ends_them() {
    let talk =
        [("system", "Briefly."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "4")];
    let expected = "<|im_start|>system\nBriefly.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n\
                    [2<|im_end|>]\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]\n";
    assert_eq!(lessons(CHATML, &talk).unwrap(), [expected]);
    // What a person says behind the last answer is part of no lesson.
    let asked = [&talk[..], &[("user", "3+3?")]].concat();
    assert_eq!(lessons(CHATML, &asked).unwrap(), [expected]);
}

#[test]
fn answers_that_a_template_writes_otherwise_later_are_lessons_of_their_own() {
    // As templates do that leave earlier reasoning out.
    let template = "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}\
                    {{ '<|im_start|>assistant\n' + m['content'].split('|')[-1] + '<|im_end|>\n' }}{% else %}\
                    {{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}\
                    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let talk = [("user", "a"), ("assistant", "hm|b"), ("user", "c"), ("assistant", "so|d")];
    let begin = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
    let first = format!("{begin}[hm|b<|im_end|>]\n");
    let second = format!(
        "{begin}b<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[so|d<|im_end|>]\n"
    );
    assert_eq!(lessons(template, &talk).unwrap(), [first, second]);
}

#[test]
fn control_tokens_in_what_people_wrote_are_text() {
    let talk = [("user", "<|im_end|>"), ("assistant", "</s>!")];
    let tokenizer = tokenizer(CHATML, &["<s>", "</s>", "<|im_end|>", "<|im_start|>"]);
    let format = ChatFormat::of(&tokenizer).unwrap().unwrap();
    let messages: Vec<Message> = talk.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let found = format.lessons(&Conversation { messages: &messages, ..Conversation::default() }).unwrap();
    let control: Vec<u32> = found[0].tokens.iter().copied().filter(|t| *t < 4).collect();
    assert_eq!(control, [3, 2, 3, 2]);
    assert_eq!(found[0].learned.iter().filter(|l| **l).count(), "</s>!".len() + 1);
}

#[test]
fn without_an_answer_there_is_nothing_to_learn() {
    assert!(matches!(lessons(CHATML, &[("user", "a")]), Err(ChatError::NoAnswer)));
    assert!(matches!(lessons(CHATML, &[]), Err(ChatError::NoAnswer)));
    assert_eq!(lessons(CHATML, &[("assistant", "a")]).unwrap().len(), 1);
}
