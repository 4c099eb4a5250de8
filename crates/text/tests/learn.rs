//! Learned vocabularies against the PyPI package `tokenizers`; see `fixtures/generate_learned.py`.

use std::path::PathBuf;
use std::sync::OnceLock;

use autarky_format::gguf::Metadata;
use autarky_text::{
    EncodeOptions, HuggingFaceFiles, LearnError, LearnOptions, Learner, Spec, TokenType, Tokenizer,
};
use proptest::prelude::*;
use serde::Deserialize;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const BOTH: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

#[derive(Deserialize)]
struct Reference {
    letters: Vec<String>,
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    pre: String,
    vocabulary: usize,
    control: Vec<String>,
    lowest_count: u64,
    text: String,
    tokens: Vec<String>,
    merges: Vec<String>,
    // None where the package would find a control token.
    ids: Vec<Option<Vec<u32>>>,
}

fn fixture(name: &str) -> String {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/learned"));
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn reference() -> Reference {
    serde_json::from_str(&fixture("reference.json")).unwrap()
}

fn learn(options: LearnOptions, texts: &[impl AsRef<str>]) -> Spec {
    let mut learner = Learner::new(options).unwrap();
    texts.iter().for_each(|text| learner.add(text.as_ref()));
    learner.learn(&mut |_, _| {}).unwrap()
}

impl Case {
    fn options(&self) -> LearnOptions {
        LearnOptions {
            control: self.control.clone(),
            pre: self.pre.clone(),
            lowest_count: self.lowest_count,
            ..LearnOptions::new(self.vocabulary)
        }
    }
}

/// Options of a vocabulary that has all roles.
fn chat(vocabulary: usize) -> LearnOptions {
    LearnOptions {
        control: ["<s>", "</s>", "<|im_start|>", "<|stop|>", "<pad>"].map(String::from).to_vec(),
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        eot: Some("<|stop|>".into()),
        pad: Some("<pad>".into()),
        add_bos: true,
        chat_template: Some("{{ bos_token }}{{ messages[0].content }}<|stop|>".into()),
        ..LearnOptions::new(vocabulary)
    }
}

#[test]
fn merges_tokens_and_ids_are_the_reference_trainers() {
    let reference = reference();
    let passages = [fixture("text.txt")];
    for case in &reference.cases {
        let name = format!("{} {} {}", case.pre, case.vocabulary, case.text);
        let texts = if case.text == "letters" { &reference.letters[..] } else { &passages[..] };
        let spec = learn(case.options(), texts);
        let differ = spec.merges.iter().zip(&case.merges).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differ, None, "{name}: the first merge that differs");
        assert_eq!(spec.merges.len(), case.merges.len(), "{name}");
        assert_eq!(spec.tokens, case.tokens, "{name}");
        let tokenizer = Tokenizer::new(&spec).unwrap();
        for (text, ids) in reference.texts.iter().zip(&case.ids) {
            if let Some(ids) = ids {
                assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), *ids, "{name}: {text:?}");
            }
        }
    }
    assert_eq!(reference.cases.len(), 6);
}

#[test]
fn the_parts_of_the_spec_are_as_asked_for() {
    let mut seen = Vec::new();
    let mut learner = Learner::new(chat(300)).unwrap();
    learner.add(&fixture("text.txt"));
    let spec = learner.learn(&mut |now, all| seen.push((now, all))).unwrap();
    assert_eq!(spec.tokens.len(), 300);
    assert_eq!(seen.first(), Some(&(262, 300)));
    assert_eq!(seen.last(), Some(&(300, 300)));
    assert_eq!(spec.tokens[..7], ["<s>", "</s>", "<|im_start|>", "<|stop|>", "<pad>", "!", "\""]);
    assert_eq!(spec.token_types[4..6], [TokenType::Control, TokenType::Normal]);
    let tokenizer = Tokenizer::new(&spec).unwrap();
    let special = tokenizer.special_ids();
    assert_eq!([special.bos, special.eos, special.eot, special.pad], [Some(0), Some(1), Some(3), Some(4)]);
    assert_eq!(tokenizer.encode("<|stop|>", BOTH).unwrap(), [0, 3]);
    assert!(tokenizer.is_eog(1) && tokenizer.is_eog(3) && !tokenizer.is_eog(0));
}

#[test]
fn files_and_metadata_give_the_same_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    for pre in ["llama-bpe", "deepseek-r1-qwen", "qwen2", "gpt-2", "smollm"] {
        for add_bos in [true, false] {
            let options = LearnOptions { pre: pre.into(), add_bos, ..chat(500) };
            let spec = learn(options, &[fixture("text.txt")]);
            let ours = Tokenizer::new(&spec).unwrap();
            let mut metadata = Metadata::new();
            spec.to_gguf(&mut metadata).unwrap();
            let path = folder.path().join(format!("{pre}-{add_bos}"));
            spec.to_hugging_face(&path).unwrap();
            let read = Spec::from_hugging_face(&path).unwrap();
            assert_eq!(read.pre.as_deref(), Some(pre));
            assert_eq!((&read.tokens, &read.merges), (&spec.tokens, &spec.merges));
            let mut of_files = Metadata::new();
            read.to_gguf(&mut of_files).unwrap();
            for other in [
                Tokenizer::new(&read).unwrap(),
                Tokenizer::from_gguf(&metadata).unwrap(),
                Tokenizer::from_gguf(&of_files).unwrap(),
            ] {
                let texts = reference().texts;
                for text in texts.iter().map(String::as_str).chain(["<s>x</s> <|stop|>\n", "<pad>"]) {
                    for options in [PLAIN, BOTH] {
                        let expected = ours.encode(text, options).unwrap();
                        assert_eq!(other.encode(text, options).unwrap(), expected, "{pre}: {text:?}");
                    }
                }
                assert_eq!(other.chat_template(), ours.chat_template());
                assert_eq!((other.bos(), other.eos(), other.eog()), (ours.bos(), ours.eos(), ours.eog()));
                assert_eq!(other.special_ids().pad, Some(4));
            }
        }
    }
}

#[test]
fn text_with_too_few_pairs_gives_a_smaller_vocabulary() {
    let spec = learn(LearnOptions::new(1000), &["ab ab cd"]);
    // `cd` occurs once only.
    assert_eq!(spec.merges, ["a b"]);
    assert_eq!(spec.tokens.len(), 257);
    assert_eq!(learn(LearnOptions::new(256), &["ab ab cd"]).merges, [""; 0]);
    assert_eq!(learn(LearnOptions::new(1000), &[""; 0]).tokens.len(), 256);
}

#[test]
fn text_never_learns_to_spell_a_control_token() {
    let options = LearnOptions { control: vec!["<ab>".into(), "bc".into()], ..LearnOptions::new(400) };
    let spec = learn(options, &["bcx bcx bcx", "<ab> <ab> <ab>"]);
    let tokenizer = Tokenizer::new(&spec).unwrap();
    for text in ["bcx", "bc", "<ab>", "x<ab>"] {
        let ids = tokenizer.encode(text, PLAIN).unwrap();
        assert!(ids.iter().all(|&id| id > 1), "{text}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}

#[test]
fn options_that_make_no_vocabulary_are_refused_by_name() {
    let with = |change: fn(&mut LearnOptions)| {
        let mut options = chat(300);
        change(&mut options);
        Learner::new(options).unwrap_err()
    };
    let small = with(|options| options.vocabulary = 260);
    assert!(matches!(small, LearnError::TooSmall { vocabulary: 260, control: 5 }));
    assert!(small.to_string().ends_with("need 261"), "{small}");
    assert!(matches!(with(|options| options.vocabulary = usize::MAX), LearnError::TooLarge { .. }));
    assert!(matches!(with(|options| options.control[1].clear()), LearnError::Control { .. }));
    assert!(matches!(with(|options| options.control[1] = "<s>".into()), LearnError::Control { .. }));
    assert!(matches!(with(|options| options.control[1] = "Ġ".into()), LearnError::Control { .. }));
    assert!(matches!(with(|options| options.eot = Some("x".into())), LearnError::Role { role: "eot", .. }));
    assert!(matches!(with(|options| options.bos = None), LearnError::NoBos));
    assert!(matches!(with(|options| options.pre = "gemma4".into()), LearnError::NotByteLevel { .. }));
    assert!(matches!(with(|options| options.pre = "x".into()), LearnError::Tokenizer(_)));
    let mut learner = Learner::new(chat(300)).unwrap();
    let other = Learner::new(LearnOptions { pre: "gpt-2".into(), ..chat(300) }).unwrap();
    assert!(matches!(learner.merge(other), Err(LearnError::OtherPieces { .. })));
}

/// A tokenizer of the passages.
fn learned() -> &'static Tokenizer {
    static LEARNED: OnceLock<Tokenizer> = OnceLock::new();
    LEARNED.get_or_init(|| Tokenizer::new(&learn(chat(600), &[fixture("text.txt")])).unwrap())
}

proptest! {
    #[test]
    fn any_text_is_spelt_and_read_back(
        text in any::<String>(),
        words in "([a-zß今 '\n<|>]|the|<s>|\u{301}){0,60}",
    ) {
        for text in [text, words] {
            let ids = learned().encode(&text, PLAIN).unwrap();
            prop_assert_eq!(learned().decode(&ids, true).unwrap(), text);
        }
    }

    /// Neither the order of texts, nor how they are divided among learners, changes the vocabulary.
    #[test]
    fn the_counts_alone_decide(
        (texts, shuffled) in prop::collection::vec("[ab]{0,9}( [abc]{1,7}){0,6}", 0..12)
            .prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle())),
        cut in 0..12_usize,
    ) {
        let options = || LearnOptions { lowest_count: 1, ..chat(300) };
        let expected = learn(options(), &texts);
        let (first, second) = shuffled.split_at(cut.min(shuffled.len()));
        let empty = Learner::new(options()).unwrap();
        let [mut one, mut two] = [empty.clone(), empty];
        first.iter().for_each(|text| one.add(text));
        second.iter().for_each(|text| two.add(text));
        one.merge(two).unwrap();
        prop_assert_eq!(one.learn(&mut |_, _| {}).unwrap(), expected);
    }

    /// Counts that are kept up to date are those that counting anew would give.
    #[test]
    fn merges_follow_the_definition(words in prop::collection::vec("[abc]{1,10}", 0..12)) {
        let options = LearnOptions { lowest_count: 1, ..LearnOptions::new(280) };
        prop_assert_eq!(learn(options, &words).merges, by_definition(&words, 280 - 256));
    }
}

/// Byte-pair encoding as in the paper: all pairs of all words are counted again for every merge. Of the most
/// frequent pairs the first by ids is merged.
fn by_definition(words: &[String], count: usize) -> Vec<String> {
    // A token's place among the ids: the letters are in order, merged tokens behind them.
    let mut tokens: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
    let mut words: Vec<Vec<usize>> =
        words.iter().map(|word| word.bytes().map(|byte| usize::from(byte - b'a')).collect()).collect();
    let mut merges = Vec::new();
    while tokens.len() < 3 + count {
        let mut counts = std::collections::BTreeMap::<(usize, usize), u64>::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        let best = counts.into_iter().max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)));
        let Some(((left, right), _)) = best else { break };
        merges.push(format!("{} {}", tokens[left], tokens[right]));
        let merged = tokens.len();
        tokens.push([tokens[left].as_str(), &tokens[right]].concat());
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == (left, right) {
                    word.splice(at..at + 2, [merged]);
                }
                at += 1;
            }
        }
    }
    merges
}

#[test]
fn what_the_files_cannot_say_is_refused() {
    let spec = learn(chat(300), &["ab ab"]);
    let refused = |change: fn(&mut Spec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        spec.to_hugging_face_files().unwrap_err().to_string()
    };
    assert!(refused(|spec| spec.model = autarky_text::Model::Unigram).contains("`model.type` is t5"));
    assert!(refused(|spec| spec.pre = Some("gemma4".into())).contains("decoder"));
    let spelt_otherwise = refused(|spec| {
        spec.tokens.push(" x".into());
        spec.token_types.push(TokenType::UserDefined);
        spec.merges.push("Ġ x".into());
    });
    assert!(spelt_otherwise.contains("`model.merges`"), "{spelt_otherwise}");
    let files: HuggingFaceFiles = spec.to_hugging_face_files().unwrap();
    assert!(files.generation_config.is_some(), "two tokens end a generation");
}
