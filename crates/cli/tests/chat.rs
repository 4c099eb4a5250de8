//! The interactive chat, line by line through a pipe.

mod support;

use support::{STORY, autarky, autarky_with, chat_model, stories};

/// What a chat says to these lines.
fn chat(model: &std::path::Path, more: &[&str], lines: &str) -> String {
    let common = args!["run", model, "-i", "--temperature", "0", "-n", "12"];
    autarky_with(common.into_iter().chain(more.iter().map(Into::into)), lines.as_bytes()).ok()
}

#[test]
fn a_conversation_is_remembered_until_it_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let first = chat(&model, &[], "Lily had a dog.\n");
    let both = chat(&model, &[], "Lily had a dog.\nThe dog was\n");
    assert!(both.starts_with(&first), "the first answer does not depend on what comes later");
    let second = &both[first.len()..];
    assert_ne!(second, chat(&model, &[], "The dog was\n"), "the second answer depends on the first message");
    let cleared = chat(&model, &[], "Lily had a dog.\n/clear\nThe dog was\n");
    assert!(cleared.ends_with(&chat(&model, &[], "The dog was\n")), "{cleared}");
}

#[test]
fn only_what_is_new_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let said = chat(&model, &[], "Lily had a dog.\n/stats\nThe dog was\n/stats\n");
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("[prompt")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(!lines[0].contains("cached"), "{}", lines[0]);
    let number = |line: &str, before: &str| -> usize {
        let at = line.find(before).unwrap() + before.len();
        line[at..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let (prompt, cached) = (number(lines[1], "prompt "), number(lines[1], "("));
    assert!(cached >= number(lines[0], "prompt ") && cached < prompt, "{}", lines[1]);
}

#[test]
fn a_single_question_uses_the_template_and_raw_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let ask = |more: &[&str]| {
        let common = args!["run", model, "-t", "0", "-n", "12", "-p", "Lily had a dog."];
        autarky(common.into_iter().chain(more.iter().map(Into::into))).ok()
    };
    assert_eq!(ask(&[]), chat(&model, &[], "Lily had a dog.\n"));
    assert_eq!(ask(&["--system", "Tim"]), chat(&model, &["--system", "Tim"], "Lily had a dog.\n"));
    assert_ne!(ask(&[]), ask(&["--system", "Tim was sad and lost in the dark"]));
    let raw = autarky(args!["run", stories(), "-t", "0", "-n", "12", "-p", "Lily had a dog."]).ok();
    assert_eq!(ask(&["--raw"]), raw);
}

#[test]
fn commands_answer_and_unknown_ones_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let saved = folder.path().join("talk.json");
    let lines = format!(
        "/help\n/nonsense\n/set\n/set temperature 0.5\n/set temperature -1\n/set colour red\n/set\n/system Be brief.\n\
         hi\n/save {0}\n/save {0}\n/stats\n/exit\nnever said\n",
        saved.display()
    );
    let said = chat(&model, &["--seed", "5"], &lines);
    for expected in [
        "/system TEXT",
        "unknown command /nonsense; /help lists them",
        "temperature         0\n",
        "temperature is 0.5",
        "temperature is -1, and must be 0 or more",
        "unknown setting \"colour\"",
        "temperature         0.5\n",
        "system message set",
        "written to",
        "cannot write",
        "of 512 tokens of context used",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert!(!said.contains("never said"));
    let talk: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&saved).unwrap()).unwrap();
    let roles: Vec<&str> =
        talk["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(talk["messages"][1]["content"], "hi");
}

#[test]
fn a_model_without_a_template_continues_text_and_an_empty_line_goes_on() {
    let said = chat(&stories(), &[], "Once upon a time\n\n\n");
    let story: String = said.split('\n').collect();
    assert!(STORY.contains(story.trim_start_matches(", ").get(..60).unwrap()), "{said}");
}

#[test]
fn lines_that_end_with_a_backslash_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    assert_eq!(chat(&model, &[], "Lily had\\\na dog.\n"), chat(&model, &[], "Lily had\\\na dog."));
    assert_ne!(chat(&model, &[], "Lily had\\\na dog.\n"), chat(&model, &[], "Lily had\na dog.\n"));
}

#[test]
fn a_message_that_does_not_fit_is_an_error_of_that_message_only() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let lines = format!("{}\nhello\n", "Lily had a dog. ".repeat(30));
    let common = args!["run", model, "-i", "-t", "0", "-n", "4", "--context", "60"];
    let ran = autarky_with(common, lines.as_bytes());
    assert!(ran.err.contains("context"), "{}", ran.err);
    assert!(ran.ok().trim().len() > 2, "the next message is answered");
}

#[test]
fn a_template_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("broken.gguf");
    support::rewrite(&stories(), &model, |m| {
        m.insert("tokenizer.chat_template", "{% for m in messages %}");
    });
    let message = autarky(args!["run", model, "-p", "hi"]).fails(3);
    assert!(message.contains("chat template") && message.contains("--raw"), "{message}");
    autarky(args!["run", model, "-p", "hi", "--raw", "-n", "3"]).ok();
}

#[test]
fn an_adapter_is_swapped_and_the_conversation_stays() {
    let place = tempfile::tempdir().unwrap();
    let model = chat_model(place.path());
    let adapter = place.path().join("strong.gguf");
    support::adapter(&model, &adapter, 0.3);
    let swap = |to: &str| format!("Lily had a dog.\n/adapter {to}\nThe dog was\n");
    let plain = chat(&model, &[], "Lily had a dog.\nThe dog was\n");
    let none = chat(&model, &[], &swap("none"));
    assert_eq!(none.replace("adapter: none\n", ""), plain, "what was said is not forgotten");
    let (path, other) = (adapter.display(), swap(&adapter.display().to_string()));
    let swapped = chat(&model, &[], &other);
    assert!(swapped.contains(&format!("adapter: {path}\n")), "{swapped}");
    assert_ne!(swapped.replace(&format!("adapter: {path}\n"), ""), plain);
    let absent = chat(&model, &[], &swap("absent.gguf"));
    assert!(absent.contains("absent.gguf"), "{absent}");
    let goes_on = absent.lines().filter(|line| !line.contains("absent.gguf"));
    assert_eq!(goes_on.collect::<Vec<_>>(), plain.lines().collect::<Vec<_>>(), "with what it had");
}
