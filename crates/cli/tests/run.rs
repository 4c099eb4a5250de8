//! `autarky run`: stories, prompts, sampling.

mod support;

use std::io::Read;
use std::process::Stdio;

use support::{STORY, autarky, autarky_with, command, llama2c, ran, rewrite, stories};

#[test]
fn a_llama2c_checkpoint_converted_tells_the_published_story() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("stories.gguf");
    let (checkpoint, tokenizer) = llama2c();
    autarky(args!["convert", checkpoint, "--tokenizer", tokenizer, "-o", model]).ok();
    for device in ["reference", "cpu"] {
        let told =
            autarky(args!["run", model, "-p", "", "--temperature", "0", "-n", "120", "--device", device])
                .ok();
        assert!(told.starts_with(STORY), "on {device}: {told}");
    }
}

#[test]
fn without_a_model_the_one_in_the_program_answers() {
    let cache = tempfile::tempdir().unwrap();
    let answer = |more: &[&str]| {
        let mut command = command(args!["run", "-p", "Who are you?", "-t", "0", "-n", "60"]);
        ran(command.args(more).env("XDG_CACHE_HOME", cache.path()).output().unwrap()).ok()
    };
    let said = answer(&[]);
    assert!(said.contains("Autarky"), "{said}");
    assert_eq!(answer(&[]), said, "from the cache");
    assert_eq!(answer(&["default"]), said);
    let json: serde_json::Value = serde_json::from_str(&answer(&["--json"])).unwrap();
    assert_eq!(json["stop_reason"], "end", "an answer has an end: {json}");
}

#[test]
fn the_makers_of_a_model_say_how_it_draws_unless_a_flag_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("greedy.gguf");
    rewrite(&stories(), &model, |metadata| {
        metadata.insert("general.sampling.temp", 0.0f32);
    });
    let tell = |more: &[&str]| {
        let common = args!["run", model, "-p", "", "-n", "60", "--seed", "1"];
        autarky(common.into_iter().chain(more.iter().map(Into::into))).ok()
    };
    assert!(STORY.starts_with(tell(&[]).trim_end()), "the most probable tokens");
    assert!(!STORY.starts_with(tell(&["--temperature", "2"]).trim_end()));
}

#[test]
fn a_prompt_comes_from_the_flag_or_from_standard_input() {
    let common = args!["run", stories(), "--temperature", "0", "-n", "30"];
    let flag = autarky(common.iter().cloned().chain(args!["-p", "Once upon a time"])).ok();
    assert!(STORY.starts_with(&format!("Once upon a time{}", flag.trim_end())), "{flag}");
    let piped = autarky_with(&common, b"Once upon a time").ok();
    assert_eq!(flag, piped);
}

#[test]
fn kernels_threads_and_cache_types_tell_the_same_story() {
    let tell = |more: &[&str]| {
        let common = args!["run", stories(), "-p", "", "--temperature", "0", "-n", "60"];
        autarky(common.into_iter().chain(more.iter().map(Into::into))).ok()
    };
    let expected = tell(&[]);
    for more in [
        &["--isa", "scalar"][..],
        &["--threads", "1"],
        &["--threads", "3"],
        &["--kv", "f16"],
        &["--context", "200"],
        &["--speculate", "off"],
        &["--speculate", "always"],
    ] {
        assert_eq!(tell(more), expected, "{more:?}");
    }
}

#[test]
fn a_seed_repeats_its_answer_and_another_does_not() {
    let tell =
        |seed: &str| autarky(args!["run", stories(), "-p", "", "-n", "60", "-t", "1", "--seed", seed]).ok();
    assert_eq!(tell("1"), tell("1"));
    assert_ne!(tell("1"), tell("2"));
}

#[test]
fn json_says_what_was_generated_and_why_it_ended() {
    let common = args!["run", stories(), "-p", "Once upon a time", "-t", "0", "--json"];
    let run = |more: &[&str]| autarky(common.iter().cloned().chain(more.iter().map(Into::into))).json();
    let cut = run(&["-n", "7"]);
    assert_eq!(cut["stop_reason"], "max_tokens");
    assert_eq!((&cut["generated_tokens"], &cut["tokens"].as_array().unwrap().len()), (&7.into(), &7));
    assert!(
        cut["prompt_tokens"].as_u64().unwrap() > 1 && cut["decode_tokens_per_second"].as_f64().unwrap() > 0.0
    );
    let stopped = run(&["--stop", "Lily"]);
    assert_eq!(stopped["stop_reason"], "stop_string");
    assert_eq!(stopped["text"], ", there was a little girl named ");
    let full = run(&["--context", "40"]);
    assert_eq!(full["stop_reason"], "context_full");
    assert_eq!(full["prompt_tokens"].as_u64().unwrap() + full["generated_tokens"].as_u64().unwrap(), 41);
}

#[test]
fn penalties_see_the_prompt() {
    let run = |penalty: &str| {
        autarky(args![
            "run",
            stories(),
            "-p",
            "Lily Lily Lily",
            "-t",
            "0",
            "-n",
            "40",
            "--repetition-penalty",
            penalty
        ])
        .ok()
    };
    assert_ne!(run("1"), run("1.5"));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let wrong =
        |more: &[&str]| autarky(args!["run", stories()].into_iter().chain(more.iter().map(Into::into)));
    assert!(wrong(&["-p", "x", "--temperature", "-1"]).fails(2).contains("temperature"));
    assert!(wrong(&["-p", "x", "--top-p", "2"]).fails(2).contains("top-p"));
    assert!(wrong(&["-p", "x", "--isa", "sse9"]).fails(2).contains("scalar"));
    assert!(wrong(&["-p", "x", "--threads", "0"]).fails(2).contains("--threads"));
    assert!(wrong(&["-p", "x", "--device", "reference", "--threads", "2"]).fails(2).contains("--device cpu"));
    assert!(wrong(&["-p", "x", "--context", "0"]).fails(2).contains("--context"));
    assert!(wrong(&["-p", "x", "--system", "y"]).fails(2).contains("chat template"));
    assert!(wrong(&["-p", "a long prompt", "--context", "3"]).fails(2).contains("context"));
    assert!(wrong(&["-p", "x", "--colour"]).fails(2).contains("--colour"));
    assert!(wrong(&["-i", "-p", "x"]).fails(2).contains("--prompt"));
}

#[test]
fn a_cache_that_cannot_be_had_is_refused_before_it_is_taken() {
    let message = autarky(args!["run", stories(), "-p", "x", "--context", "2000000000"]).fails(4);
    assert!(message.contains("--context") && message.contains("fits"), "{message}");
}

#[test]
fn nobody_listening_is_no_error() {
    let mut child = command(args!["run", stories(), "-p", "", "-t", "0"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(ran(child.wait_with_output().unwrap()).ok(), "");
}

/// Sends a signal to a child that has begun to answer, and gives what it then still says.
#[cfg(unix)]
fn interrupt(args: Vec<std::ffi::OsString>, input: &[u8]) -> support::Ran {
    use std::io::Write;
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    // The input stays open until the child was interrupted, as a terminal's does.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    drop(stdin);
    ran(child.wait_with_output().unwrap())
}

/// An answer of a million tokens, which the pipe alone keeps from coming to its end.
#[cfg(unix)]
const ENDLESS: [&str; 4] = ["--context", "1000000", "--temperature", "0"];

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_single_answer_with_its_exit_code() {
    let mut args = args!["run", stories(), "-p", "", "--raw"].to_vec();
    args.extend(ENDLESS.map(Into::into));
    let ended = interrupt(args, b"");
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    // The first letter was read before the signal.
    assert!(ended.out.starts_with("nce"), "what was said stays: {}", ended.out);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_not_the_chat() {
    let mut args = args!["run", stories(), "-i"].to_vec();
    args.extend(ENDLESS.map(Into::into));
    let ended = interrupt(args, b"Once upon a time\n/stats\n").ok();
    assert!(ended.contains("stopped]"), "{ended}");
}
