//! Files that are wrong, as a user meets them: whatever is done to a model, the commands answer with an error that names
//! the file and the field (and the byte, where there is one), and neither panic nor fill the memory.
//!
//! `cases` and its neighbours (`gguf_bytes`, `gguf_models`, `tokenizers`, `folders`) are the corpus, made from the tiny
//! valid `models`; `answer` is what the commands do with a file; `command` runs the program itself. How long the
//! slowest answer takes is measured by `cargo run --release -p autarky --example slowest_answer`.

mod answer;
mod cases;
mod command;
mod damage;
mod folders;
mod gguf_bytes;
mod gguf_models;
#[allow(unreachable_pub)] // Shared with the fuzz targets, which are binaries of another crate.
mod memory;
#[allow(unreachable_pub)]
mod models;
mod tokenizers;

use answer::{Answer, MEMORY, answer};
use cases::{Case, Each, Expect};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// What is wrong with the answer, if anything.
fn verdict(case: &Case, name: &str, answer: &Answer) -> Result<(), String> {
    let Answer { error, peak } = answer;
    if *peak >= MEMORY {
        return Err(format!("{peak} bytes allocated"));
    }
    let Some(error) = error else {
        return match case.expect {
            Expect::Accepted | Expect::Any => Ok(()),
            _ => Err("no error".to_owned()),
        };
    };
    // The message of an error is shown on one screen.
    if error.len() > 2000 {
        return Err(format!("an error of {} bytes: {:.200}...", error.len(), error));
    }
    if !error.contains(name) {
        return Err(format!("the file is not named: {error}"));
    }
    match &case.expect {
        Expect::Accepted => Err(format!("refused: {error}")),
        Expect::Any => Ok(()),
        Expect::Refused(words) => match words.iter().find(|w| !error.contains(*w)) {
            Some(word) => Err(format!("{word:?} is not said: {error}")),
            None => Ok(()),
        },
        Expect::RefusedFor(words) => match words.iter().any(|w| error.contains(w)) {
            true => Ok(()),
            false => Err(format!("none of {words:?} is said: {error}")),
        },
    }
}

/// Answers every case, and says at the end which answers were wrong.
fn check(cases: fn(&mut Each<'_>)) {
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    cases(&mut |case| {
        let path = case.write(scratch.path());
        let answer = answer(&case.what, &path);
        count += 1;
        if let Err(what) = verdict(&case, &path.file_name().unwrap().to_string_lossy(), &answer) {
            wrong.push(format!("{}: {what}", case.what));
        }
    });
    assert!(count > 50, "there are cases");
    assert!(wrong.is_empty(), "{} of {count} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn gguf_files_damaged_byte_by_byte() {
    check(gguf_bytes::each);
}

#[test]
fn gguf_models_that_make_no_sense() {
    check(gguf_models::each);
}

#[test]
fn tokenizers_and_templates_that_make_no_sense() {
    check(tokenizers::each);
}

#[test]
fn hugging_face_folders_that_make_no_sense() {
    check(folders::each);
}

/// The seeds from which the fuzz target `gguf_model` starts. After a change write them anew with
/// `AUTARKY_BLESS=1 cargo test -p autarky --test bad_input seeds`.
#[test]
fn the_fuzz_seeds_are_the_valid_models() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/gguf_model"));
    for (name, model) in cases::valid() {
        let path = folder.join(name).with_extension("gguf");
        let bytes = model.bytes().unwrap();
        if std::env::var_os("AUTARKY_BLESS").is_some() {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|b| b == bytes), "{} is not up to date", path.display());
    }
}
