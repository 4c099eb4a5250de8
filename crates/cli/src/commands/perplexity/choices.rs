//! `autarky perplexity --choices`: how often the right answer is the likeliest.

use anyhow::Result;
use autarky_engine::quality::{self, Mean};
use autarky_family::Model;
use autarky_text::{EncodeOptions, Tokenizer};
use serde::Deserialize;
use serde_json::json;

use super::{engine, merge, text};
use crate::args::PerplexityArgs;
use crate::commands::{print, print_json};
use crate::exit::Input;
use crate::load;
use crate::terminal::Progress;

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    prompt: String,
    choices: Vec<String>,
    /// Which of `choices` is right, from 0.
    answer: usize,
}

/// A question in tokens.
struct Encoded {
    /// What all choices are scored after.
    prompt: Vec<u32>,
    /// What differs, and the bytes of the choice.
    choices: Vec<(Vec<u32>, usize)>,
}

pub(super) fn run(args: &PerplexityArgs, model: &Model) -> Result<()> {
    let path = args.text.display().to_string();
    let questions = questions(&text(args)?, &path)?;
    let tokenizer = load::tokenizer(model)?;
    let mut loaded = engine(args, args.kv, model)?;

    let mut progress = Progress::new("questions");
    let (mut right, mut right_by_byte) = (Vec::new(), Vec::new());
    for (i, (line, question)) in questions.iter().enumerate() {
        let at = |e: String| Input(format!("{path}, line {line}: {e}"));
        let Encoded { prompt, choices } = encode(&tokenizer, question).map_err(at)?;
        let tokens: Vec<&[u32]> = choices.iter().map(|(tokens, _)| &tokens[..]).collect();
        let scores = quality::choices(&mut loaded.engine, &prompt, &tokens).map_err(|e| at(e.to_string()))?;
        let by_byte: Vec<f64> = scores.iter().zip(&choices).map(|(s, (_, n))| s / *n as f64).collect();
        right.push(f64::from(likeliest(&scores) == Some(question.answer)));
        right_by_byte.push(f64::from(likeliest(&by_byte) == Some(question.answer)));
        progress.set(i as u64 + 1, questions.len() as u64, &shown(Mean::of(&right)));
    }
    drop(progress);

    let (right, right_by_byte) = (Mean::of(&right), Mean::of(&right_by_byte));
    let chance: Vec<f64> = questions.iter().map(|(_, q)| 1.0 / q.choices.len() as f64).collect();
    let chance = Mean::of(&chance).value;
    if !args.json {
        return print(&format!(
            "right by chance       {:>5.1} %  ({} questions)\n\
             likeliest is right    {} %\n\
             likeliest by bytes    {} %\n",
            100.0 * chance,
            questions.len(),
            shown(right),
            shown(right_by_byte),
        ));
    }
    let mut json = json!({
        "model": args.model.display().to_string(),
        "questions": questions.len(),
        "chance": chance,
    });
    for (name, mean) in [("right", right), ("right_by_byte", right_by_byte)] {
        merge(&mut json, json!({ name: mean.value, format!("{name}_error"): mean.error }));
    }
    print_json(&json)
}

fn shown(share: Mean) -> String {
    format!("{:>5.1} ± {:.1}", 100.0 * share.value, 100.0 * share.error)
}

/// The questions with their lines.
fn questions(text: &str, path: &str) -> Result<Vec<(usize, Question)>, Input> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let questions = lines.map(|(text, line)| {
        let at = |e: String| Input(format!("{path}, line {line}: {e}"));
        let question: Question = serde_json::from_str(text).map_err(|e| {
            at(format!(r#"{e}. A line is {{"prompt": "...", "choices": ["...", "..."], "answer": 0}}"#))
        })?;
        if question.choices.len() < 2 || question.choices.iter().any(String::is_empty) {
            return Err(at("`choices` must have two texts or more, and none empty".to_owned()));
        }
        if question.answer >= question.choices.len() {
            let (answer, count) = (question.answer, question.choices.len());
            return Err(at(format!("`answer` is {answer}, and there are {count} choices, counted from 0")));
        }
        Ok((line, question))
    });
    let questions = questions.collect::<Result<Vec<_>, _>>()?;
    match questions.is_empty() {
        true => Err(Input(format!("{path} has no questions"))),
        false => Ok(questions),
    }
}

/// Tokens may reach across the end of the prompt: all choices are scored from where the first of them leaves the
/// prompt's own tokens, so that they are scored on the same text.
fn encode(tokenizer: &Tokenizer, question: &Question) -> Result<Encoded, String> {
    let tokens = |text: &str| {
        let options = EncodeOptions { add_special: true, parse_special: false };
        tokenizer.encode(text, options).map_err(|e| e.to_string())
    };
    let mut prompt = tokens(&question.prompt)?;
    let whole = question.choices.iter().map(|choice| tokens(&format!("{}{choice}", question.prompt)));
    let whole = whole.collect::<Result<Vec<_>, _>>()?;
    let shared = |whole: &Vec<u32>| whole.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
    let from = whole.iter().map(shared).min().unwrap_or(0);
    prompt.truncate(from);
    if prompt.is_empty() {
        // What stands before a text that nothing stands before.
        let first = tokenizer.bos().or(tokenizer.eos());
        prompt.push(first.ok_or("a prompt is needed: this tokenizer has no token that begins a text")?);
    }
    let sizes = question.choices.iter().map(String::len);
    Ok(Encoded { prompt, choices: whole.iter().map(|w| w[from..].to_vec()).zip(sizes).collect() })
}

/// The largest; none where two are, since a tie is not an answer.
fn likeliest(scores: &[f64]) -> Option<usize> {
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
    (scores.iter().filter(|&&s| s == scores[best]).count() == 1).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_questions_are_named() {
        let good = r#"{"prompt": "1 + 1 =", "choices": [" 2", " 3"], "answer": 0}"#;
        assert_eq!(questions(&format!("\n{good}\n\n{good}"), "f").unwrap()[1].0, 4);
        for (line, said) in [
            ("{", "f, line 2"),
            (r#"{"prompt": "a", "choices": ["b", "c"]}"#, "missing field `answer`"),
            (r#"{"prompt": "a", "choices": ["b", "c"], "answer": 2}"#, "there are 2 choices"),
            (r#"{"prompt": "a", "choices": ["b", ""], "answer": 0}"#, "none empty"),
            (r#"{"prompt": "a", "choices": ["b"], "answer": 0}"#, "two texts or more"),
            (r#"{"prompt": "a", "choice": ["b"], "answer": 0}"#, "unknown field `choice`"),
        ] {
            let error = questions(&format!("{good}\n{line}"), "f").unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(questions(" \n", "f").unwrap_err().to_string().contains("no questions"));
    }

    #[test]
    fn a_tie_is_no_answer() {
        assert_eq!(likeliest(&[-3.0, -1.0, -2.0]), Some(1));
        assert_eq!(likeliest(&[-3.0, -1.0, -1.0]), None);
    }
}
