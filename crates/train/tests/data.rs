//! Training data is read from files of every form, and whatever is wrong in them is said with its place.

use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autarky_train::data::{
    At, Compression, Content, DataError, DataFile, Fault, Format, Problem, Problems, ReadOptions, Record,
    Shape, find, read, read_from,
};
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

/// `one\ntwo\n`, compressed by `zstd -19 --check`: it has a checksum.
const ZSTD_CHECKED: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x41, 0x00, 0x00, 0x6f, 0x6e, 0x65, 0x0a, 0x74, 0x77, 0x6f, 0x0a,
    0xe6, 0xa6, 0x0e, 0x40,
];
/// A frame that readers pass over, with four bytes of their own.
const ZSTD_SKIPPED: &[u8] = &[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];

fn records(
    format: Format,
    compression: Compression,
    bytes: impl Into<Vec<u8>>,
    options: &ReadOptions,
) -> Vec<Result<Record, Problem>> {
    let bytes = bytes.into();
    let file =
        DataFile { path: Arc::from(Path::new("data")), format, compression, bytes: bytes.len() as u64 };
    read_from(Box::new(Cursor::new(bytes)), &file, options).collect()
}

fn plain(format: Format, bytes: impl Into<Vec<u8>>) -> Vec<Result<Record, Problem>> {
    records(format, Compression::None, bytes, &ReadOptions::default())
}

/// Where each record begins, and what it says; panics on a problem.
fn sound(items: Vec<Result<Record, Problem>>) -> Vec<(At, Content)> {
    items.into_iter().map(|item| item.map(|r| (r.place.at, r.content)).expect("no problem")).collect()
}

fn only(line: &Value) -> Content {
    let mut all = sound(plain(Format::JsonLines, format!("{line}\n")));
    assert_eq!(all.len(), 1);
    all.remove(0).1
}

/// What is wrong with a file's one record.
fn fault(format: Format, bytes: impl Into<Vec<u8>>) -> (At, Fault) {
    let mut items = plain(format, bytes);
    assert_eq!(items.len(), 1, "{items:?}");
    let problem = items.remove(0).expect_err("a problem");
    assert!(problem.to_string().starts_with("data"), "no file is named: {problem}");
    (problem.place.at, problem.what)
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into(), ends: true }
}

fn said(messages: Value) -> Content {
    let Value::Array(messages) = messages else { panic!("no list") };
    Content::Messages { messages, tools: None }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

#[test]
fn a_separator_ends_a_document_and_blank_documents_are_none() {
    let file = "one\r\ntwo\n<|endofdoc|>\n\n  \n<|endoftext|>\nthree <|endofdoc|>\n\n<|endofbook|>\r\nfour";
    let expected = vec![
        (At::Line(1), text("one\r\ntwo\n")),
        (At::Line(7), text("three <|endofdoc|>\n\n")),
        (At::Line(10), text("four")),
    ];
    assert_eq!(sound(plain(Format::Text, file)), expected);
    let own = ReadOptions { separators: vec!["---".into()], ..ReadOptions::default() };
    let items = records(Format::Text, Compression::None, "a\n---\nb\n<|endofdoc|>\n---\n", &own);
    assert_eq!(sound(items), [(At::Line(1), text("a\n")), (At::Line(3), text("b\n<|endofdoc|>\n"))]);
}

#[test]
fn a_long_document_comes_in_pieces_cut_behind_lines() {
    let line = "Ein schöner Satz, 漢字.\n";
    let document = line.repeat((3 << 20) / line.len() + 1);
    let mut joined = String::new();
    let items = sound(plain(Format::Text, format!("{document}<|endofdoc|>\nnext\n")));
    let (last, pieces) = items.split_last().expect("records");
    assert_eq!(last.1, text("next\n"));
    assert_eq!(pieces.len(), 4);
    for (i, (at, piece)) in pieces.iter().enumerate() {
        let Content::Text { text, ends } = piece else { panic!("no text") };
        assert_eq!(*at, At::Line(1 + joined.matches('\n').count() as u64));
        assert_eq!(*ends, i == 3);
        assert!(text.len() <= 1 << 20 && text.ends_with('\n'));
        joined.push_str(text);
    }
    assert_eq!(joined, document);
}

#[test]
fn a_long_text_of_a_record_comes_in_pieces_too() {
    let document = "漢".repeat(1 << 20);
    let lines = format!("{}\n{}\n", json!({"text": document}), json!({"text": "next"}));
    let items = sound(plain(Format::JsonLines, lines));
    let ends: Vec<bool> = items.iter().map(|i| matches!(i.1, Content::Text { ends: true, .. })).collect();
    assert_eq!(ends, [false, false, false, true, true]);
    let joined: String = items
        .iter()
        .take(4)
        .map(|(at, content)| {
            assert_eq!(*at, At::Line(1));
            let Content::Text { text, .. } = content else { panic!("no text") };
            text.as_str()
        })
        .collect();
    assert!(joined == document, "the pieces are not the document");
}

#[test]
fn conversations_of_every_shape_are_messages() {
    let chat = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
    assert_eq!(only(&json!({"messages": chat, "id": 3})), said(chat.clone()));
    assert_eq!(only(&json!({"conversations": chat})), said(chat.clone()));
    let sharegpt = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]);
    assert_eq!(only(&json!({"conversations": sharegpt, "system": ""})), said(chat.clone()));
    for record in [
        json!({"instruction": "Hi", "input": "", "output": "Hello"}),
        json!({"instruction": "Hi", "output": "Hello", "text": "### Instruction: Hi ### Response: Hello"}),
        json!({"prompt": "Hi", "completion": "Hello"}),
        json!({"prompt": "Hi", "response": "Hello"}),
        json!({"prompt": "Hi", "answer": "Hello", "source": "a book"}),
        json!({"question": "Hi", "answer": "Hello"}),
        json!({"messages": null, "prompt": [chat[0]], "completion": [chat[1]]}),
    ] {
        assert_eq!(only(&record), said(chat.clone()), "{record}");
    }
    let with_system = json!([{"role": "system", "content": "Be brief."}, chat[0], chat[1]]);
    assert_eq!(only(&json!({"system": "Be brief.", "question": "Hi", "answer": "Hello"})), said(with_system));
    let asked = json!([{"role": "user", "content": "Add.\n\n1 2"}, {"role": "assistant", "content": "3"}]);
    assert_eq!(only(&json!({"instruction": "Add.", "input": "1 2", "output": "3"})), said(asked));
}

#[test]
fn messages_keep_their_fields_and_tools() {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let whole = |tools: Option<Vec<Value>>| Content::Messages {
        messages: messages.as_array().cloned().expect("a list"),
        tools,
    };
    let wanted = tools.as_array().cloned();
    assert_eq!(only(&json!({"messages": messages, "tools": tools})), whole(wanted.clone()));
    assert_eq!(only(&json!({"messages": messages, "tools": tools.to_string()})), whole(wanted));
    assert_eq!(only(&json!({"messages": messages, "tools": []})), whole(None));
}

#[test]
fn preferences_have_a_prompt_and_two_answers() {
    let user = json!({"role": "user", "content": "Hi"});
    let (good, bad) =
        (json!({"role": "assistant", "content": "Hello"}), json!({"role": "assistant", "content": "No"}));
    let wanted = Content::Preference {
        prompt: vec![user.clone()],
        chosen: vec![good.clone()],
        rejected: vec![bad.clone()],
    };
    for record in [
        json!({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}),
        json!({"prompt": [user], "chosen": [good], "rejected": [bad]}),
        json!({"prompt": "Hi", "chosen": [user, good], "rejected": [user, bad], "messages": [user, good]}),
        json!({"chosen": [user, good], "rejected": [user, bad]}),
    ] {
        assert_eq!(only(&record), wanted, "{record}");
    }
}

#[test]
fn text_comes_from_the_field_that_is_named() {
    assert_eq!(only(&json!({"text": "a", "meta": {}})), text("a"));
    assert_eq!(only(&json!({"content": "b"})), text("b"));
    let options = ReadOptions { text_field: Some("body".into()), ..ReadOptions::default() };
    let lines = "{\"body\": \"c\", \"text\": \"d\"}\n\n{\"text\": \"e\"}\n";
    let items = sound(records(Format::JsonLines, Compression::None, lines, &options));
    assert_eq!(items, [(At::Line(1), text("c")), (At::Line(3), text("e"))]);
}

#[test]
fn shapes_are_counted_by_record_and_not_by_piece() {
    let lines = format!(
        "{}\n{}\n{{\"question\": \"a\", \"answer\": \"b\"}}\n[]\n",
        json!({"text": "x".repeat(3 << 20)}),
        json!({"text": "y"})
    );
    let file = DataFile {
        path: Arc::from(Path::new("data")),
        format: Format::JsonLines,
        compression: Compression::None,
        bytes: 0,
    };
    let mut items = read_from(Box::new(Cursor::new(lines)), &file, &ReadOptions::default());
    assert_eq!(items.by_ref().count(), 6);
    let counts: Vec<_> = items.shapes().iter().map(|(shape, count)| (*shape, *count)).collect();
    assert_eq!(counts, [(Shape::Text, 2), (Shape::PromptAnswer, 1)]);
}

#[test]
fn json_files_are_arrays_or_objects() {
    let wanted = [(At::Line(2), text("a]\"}")), (At::Line(3), text("b"))];
    let array = "\u{feff}[\n{\"text\": \"a]\\\"}\"},\n{\n\"text\":\n\"b\"}]\n";
    assert_eq!(sound(plain(Format::Json, array)), wanted);
    let objects = "\n{\"text\": \"a]\\\"}\"}\n{\n\"text\":\n\"b\"}";
    assert_eq!(sound(plain(Format::Json, objects)), wanted);
}

#[test]
fn a_broken_element_of_an_array_costs_no_other() {
    let items =
        plain(Format::Json, "[{\"text\": \"a\"},\n {\"text\": oops}, 7, \"x\",\n{\"text\": \"b\"}] x");
    let seen: Vec<_> = items
        .into_iter()
        .map(|item| item.map(|r| r.content).map_err(|p| (p.place.at, p.what.to_string())))
        .collect();
    assert_eq!(seen[0], Ok(text("a")));
    assert_eq!(seen[1], Err((At::Line(2), "broken JSON at column 11: expected value".into())));
    assert!(matches!(&seen[2], Err((At::Line(2), what)) if what.contains("a number")), "{seen:?}");
    assert!(matches!(&seen[3], Err((At::Line(2), what)) if what.contains("is text")), "{seen:?}");
    assert_eq!(seen[4], Ok(text("b")));
    assert!(matches!(&seen[5], Err((At::Line(3), what)) if what.contains("column 16")), "{seen:?}");
    assert_eq!(seen.len(), 6);
}

#[test]
fn an_array_that_is_cut_ends_with_one_problem() {
    for cut in ["[{\"text\": \"a\"}", "[{\"text\": \"a\"},", "[{\"text\": \"a\"}, {\"te"] {
        let items = plain(Format::Json, cut);
        assert_eq!(items.len(), 2, "{items:?}");
        assert!(matches!(&items[1], Err(Problem { what: Fault::Json { .. }, .. })), "{items:?}");
    }
}

#[test]
fn compressed_files_are_read_over_members_and_frames() {
    let lines = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
    let wanted = [(At::Line(1), text("a")), (At::Line(2), text("b"))];
    let (first, second) = lines.as_bytes().split_at(17);
    let options = ReadOptions::default();
    let read = |compression, bytes: Vec<u8>| sound(records(Format::JsonLines, compression, bytes, &options));
    assert_eq!(read(Compression::Gzip, gzip(lines.as_bytes())), wanted);
    assert_eq!(read(Compression::Gzip, [gzip(first), gzip(b""), gzip(second)].concat()), wanted);
    assert_eq!(read(Compression::Zstd, zstd(lines.as_bytes())), wanted);
    let frames = [ZSTD_SKIPPED, &zstd(first), &zstd(b""), ZSTD_SKIPPED, &zstd(second), ZSTD_SKIPPED].concat();
    assert_eq!(read(Compression::Zstd, frames), wanted);
    let checked = records(Format::Text, Compression::Zstd, ZSTD_CHECKED, &options);
    assert_eq!(sound(checked), [(At::Line(1), text("one\ntwo\n"))]);
}

#[test]
fn corrupt_compressed_files_give_what_came_before_and_one_problem() {
    let lines = "{\"text\": \"a\"}\n".repeat(1000);
    let (gz, zst) = (gzip(lines.as_bytes()), zstd(lines.as_bytes()));
    let mut checked = ZSTD_CHECKED.to_vec();
    checked[20] ^= 1;
    let mut crc = gz.clone();
    let at = crc.len() - 6;
    crc[at] ^= 1;
    for (compression, bytes, before) in [
        (Compression::Gzip, [gz.as_slice(), &gz[..gz.len() / 2]].concat(), 1000..2000),
        (Compression::Zstd, [zst.as_slice(), &zst[..zst.len() - 3]].concat(), 1000..2000),
        (Compression::Zstd, [zst.as_slice(), b"garbage"].concat(), 1000..1001),
        (Compression::Zstd, [zst.as_slice(), &ZSTD_SKIPPED[..9]].concat(), 1000..1001),
        (Compression::Gzip, crc, 1000..1001),
        (Compression::Gzip, b"plain text".to_vec(), 0..1),
        (Compression::Zstd, b"plain text".to_vec(), 0..1),
    ] {
        let items = records(Format::JsonLines, compression, bytes, &ReadOptions::default());
        let (last, sound) = items.split_last().expect("items");
        assert!(sound.iter().all(Result::is_ok), "{sound:?}");
        assert!(before.contains(&sound.len()), "{compression}: {} records", sound.len());
        let Err(Problem { what: Fault::Corrupt { .. }, .. }) = last else { panic!("{last:?}") };
    }
    let text_file = records(Format::Text, Compression::Zstd, checked, &ReadOptions::default());
    assert!(
        matches!(&text_file[..], [.., Err(Problem { what: Fault::Corrupt { .. }, .. })]),
        "{text_file:?}"
    );
    // The text before the break is given, too.
    let cut = [zstd(b"one\ntw\xe6").as_slice(), b"garbage"].concat();
    let items = records(Format::Text, Compression::Zstd, cut, &ReadOptions::default());
    assert!(matches!(&items[..], [Ok(r), Err(_)] if r.content == text("one\ntw")), "{items:?}");
}

#[test]
fn empty_files_are_a_problem() {
    for format in [Format::Text, Format::JsonLines, Format::Json] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let items = records(format, compression, "", &ReadOptions::default());
            let [Err(Problem { place, what: Fault::EmptyFile })] = &items[..] else { panic!("{items:?}") };
            assert_eq!(place.at, At::File);
        }
        assert_eq!(fault(format, "\u{feff} \n\n"), (At::File, Fault::EmptyFile));
    }
    assert_eq!(fault(Format::Json, "[]"), (At::File, Fault::EmptyFile));
}

#[test]
fn what_is_not_utf8_is_left_out_with_its_place() {
    let items = plain(Format::Text, b"one\ntw\xffo\nthree\n".to_vec());
    let [Err(problem), Ok(record)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((problem.place.at, &problem.what), (At::Line(2), &Fault::NotUtf8 { offset: 6 }));
    assert_eq!(record.content, text("one\nthree\n"));

    let items = plain(Format::JsonLines, b"\xef\xbb\xbf{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n".to_vec());
    let [Ok(_), Err(problem)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((problem.place.at, &problem.what), (At::Line(2), &Fault::NotUtf8 { offset: 27 }));

    assert_eq!(fault(Format::Text, b"cut \xe6\xbc".to_vec()), (At::Line(1), Fault::NotUtf8 { offset: 4 }));
    for mark in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
        assert_eq!(fault(Format::Text, mark.to_vec()), (At::Line(1), Fault::Utf16));
        assert_eq!(fault(Format::Json, mark.to_vec()), (At::Line(1), Fault::Utf16));
    }
}

#[test]
fn lines_longer_than_the_limit_are_passed_over() {
    let options = ReadOptions { longest_line: 20, ..ReadOptions::default() };
    let fits = json!({"text": "12345678"}).to_string();
    assert_eq!(fits.len(), 19);
    let long = json!({"text": "x".repeat(100_000)}).to_string();
    for (format, file) in [
        (Format::JsonLines, format!("{fits} \n{long}\n{fits}\n{long}")),
        (Format::Json, format!("{fits}\n{long}\n{fits}\n{long}")),
        (Format::Json, format!("[{fits},\n{long},\n{fits},\n{long}]")),
    ] {
        let items = records(format, Compression::None, file, &options);
        let seen: Vec<_> =
            items.iter().map(|i| i.as_ref().map(|r| r.place.at).map_err(|p| p.place.at)).collect();
        let lines = [Ok(At::Line(1)), Err(At::Line(2)), Ok(At::Line(3)), Err(At::Line(4))];
        assert_eq!(seen, lines, "{format:?}");
        assert!(matches!(&items[1], Err(p) if p.what == Fault::TooLong { limit: 20 }));
    }
}

#[test]
fn each_wrong_record_says_what_is_wrong() {
    let ask = json!({"role": "user", "content": "Hi"});
    for (record, message) in [
        (json!([1]), "the record is a list and not an object"),
        (json!({}), "the fields (none) make no known record"),
        (json!({"a": 1, "b\n": 2}), "the fields (a, b\\n) make no known record"),
        (json!({"text": 3}), "text is a number; it should be text"),
        (json!({"text": " "}), "text is empty"),
        (json!({"question": "a", "answer": ["b"]}), "answer[0] is text; it should be a message"),
        (json!({"prompt": {"a": 1}, "answer": "b"}), "prompt is an object; it should be text"),
        (json!({"messages": []}), "messages is empty"),
        (json!({"messages": "Hi"}), "messages is text; it should be a list of messages"),
        (json!({"messages": [ask]}), "messages has no message of the assistant"),
        (json!({"messages": [ask, {"role": "assistant"}]}), "messages[1].content is missing"),
        (json!({"messages": [{"content": "a"}]}), "messages[0].role is missing"),
        (
            json!({"conversations": [{"from": "bob", "value": "a"}]}),
            "conversations[0].from is bob; known are",
        ),
        (json!({"conversations": [{"from": "gpt", "value": 1}]}), "conversations[0].value is a number"),
        (json!({"messages": [ask, {"role": "assistant", "content": "a"}], "tools": 1}), "tools is a number"),
        (json!({"chosen": "a", "rejected": "b"}), "prompt is empty"),
        (
            json!({"prompt": "a", "chosen": "b", "rejected": [ask]}),
            "rejected has no message of the assistant",
        ),
    ] {
        let (at, what) = fault(Format::JsonLines, format!("\n{record}"));
        assert_eq!(at, At::Line(2));
        assert!(what.to_string().starts_with(message), "{record}: {what}");
    }
    let (at, what) = fault(Format::JsonLines, "{\"text\": \"a\",}\n");
    assert_eq!((at, what.to_string()), (At::Line(1), "broken JSON at column 14: trailing comma".into()));
}

#[test]
fn problems_are_counted_and_the_first_are_kept() {
    let mut problems = Problems::new(2);
    for item in plain(Format::JsonLines, "1\n2\n{\n{}\n") {
        problems.add(item.expect_err("a problem"));
    }
    assert_eq!((problems.count(), problems.first().len()), (4, 2));
    let report = problems.to_string();
    let head = "4 problems: 1 broken JSON, 2 not an object, 1 unknown fields\ndata:1: the record is a number";
    assert!(report.starts_with(head), "{report}");
}

#[test]
fn a_file_that_the_system_cannot_read_on_ends_with_a_problem() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let file =
            DataFile { path: Arc::from(Path::new("data")), format: Format::Text, compression, bytes: 0 };
        let source = Cursor::new(if compression == Compression::None { "one\n" } else { "" }).chain(Broken);
        let items: Vec<_> = read_from(Box::new(source), &file, &ReadOptions::default()).collect();
        let Some(Err(Problem { what: Fault::Io { .. }, .. })) = items.last() else { panic!("{items:?}") };
        assert_eq!(items.len(), 1 + usize::from(compression == Compression::None));
    }
}

#[test]
fn files_are_found_in_order_and_others_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("b/deep")).expect("a folder");
    std::fs::create_dir(path(".git")).expect("a folder");
    for name in [
        "z.txt",
        "a.JSONL.gz",
        "b/deep/c.md.zst",
        "b/data.json",
        "b/x.tar",
        "b/y.txt.xz",
        ".hidden.txt",
        ".git/d.txt",
    ] {
        std::fs::write(path(name), "text\n").expect("a file");
    }
    let found = find(&[path("z.txt"), folder.path().into()]).expect("files");
    let names: Vec<&Path> =
        found.files.iter().map(|f| f.path.strip_prefix(&folder).expect("inside")).collect();
    let wanted = ["z.txt", "a.JSONL.gz", "b/data.json", "b/deep/c.md.zst", "z.txt"].map(Path::new);
    assert_eq!(names, wanted);
    let kinds: Vec<_> = found.files.iter().map(|f| (f.format, f.compression, f.bytes)).collect();
    assert_eq!(kinds[1], (Format::JsonLines, Compression::Gzip, 5));
    assert_eq!(kinds[3], (Format::Text, Compression::Zstd, 5));
    assert_eq!(found.skipped, [path("b/x.tar"), path("b/y.txt.xz")]);
    let first = read(&found.files[0], &ReadOptions::default()).expect("opens").next();
    assert!(matches!(first, Some(Ok(record)) if record.place.to_string().ends_with("z.txt:1")));
}

#[test]
fn paths_that_are_no_training_data_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["x.tar", "y.jsonl.xz", "y.txt.bz2"] {
        std::fs::write(path(name), "text\n").expect("a file");
    }
    let refused = |path: PathBuf| find(&[path]).expect_err("refused");
    let unknown = refused(path("x.tar"));
    assert!(matches!(&unknown, DataError::UnknownEnding { .. }) && unknown.to_string().contains(".jsonl"));
    assert!(refused(path("y.jsonl.xz")).to_string().contains("xz -d"));
    assert!(refused(path("y.txt.bz2")).to_string().contains("bzip2 -d"));
    assert!(matches!(refused(path("missing.txt")), DataError::Io { .. }));
    assert!(
        matches!(refused(folder.path().into()), DataError::Nothing { skipped, .. } if skipped.len() == 3)
    );
    #[cfg(unix)]
    assert!(matches!(refused("/dev/null".into()), DataError::NotAFile { .. }));
    let file = DataFile {
        path: Arc::from(folder.path()),
        format: Format::Text,
        compression: Compression::None,
        bytes: 0,
    };
    assert!(matches!(read(&file, &ReadOptions::default()), Err(DataError::NotAFile { .. })));
}

fn table(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(folder.join(name)).expect("a fixture")
}

#[test]
fn rows_of_tables_are_records() {
    let chat = |question: &str, answer: &str| {
        said(json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]))
    };
    let rows = sound(plain(Format::Parquet, table("chat.snappy.parquet")));
    let wanted = [
        (At::Row(1), chat("Hi", "Hello")),
        (At::Row(2), chat("Add 1 and 2.", "3")),
        (At::Row(3), text("plain")),
    ];
    assert_eq!(rows, wanted);
    for name in ["text.zstd.parquet", "text.gzip.parquet"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let found = find(&[path]).expect("a file");
        let mut rows: Vec<_> = read(&found.files[0], &ReadOptions::default()).expect("opens").collect();
        let problem = rows.pop().expect("four rows").expect_err("the last one has no text");
        assert_eq!(problem.place.at, At::Row(4));
        assert!(
            problem.to_string().contains("text.")
                && problem.to_string().contains(", row 4: the fields (none)")
        );
        let wanted = [(At::Row(1), text("one")), (At::Row(2), text("zwei")), (At::Row(3), text("三"))];
        assert_eq!(sound(rows), wanted);
    }
}

#[test]
fn tables_that_are_not_read_say_why() {
    let (at, what) = fault(Format::Parquet, table("other.parquet"));
    assert_eq!((at, what), (At::Row(1), Fault::UnknownShape { fields: "id".into() }));
    let (at, what) = fault(Format::Parquet, table("text.brotli.parquet"));
    assert_eq!(at, At::Row(1));
    assert!(what.to_string().contains("BROTLI compression is not read"), "{what}");
    for bytes in [b"PAR1".to_vec(), b"no table at all".to_vec(), table("other.parquet")[..100].to_vec()] {
        assert!(matches!(fault(Format::Parquet, bytes).1, Fault::Parquet { .. }));
    }
    assert_eq!(fault(Format::Parquet, ""), (At::File, Fault::EmptyFile));
    let options = ReadOptions { longest_line: 4, ..ReadOptions::default() };
    let items = records(Format::Parquet, Compression::None, table("chat.snappy.parquet"), &options);
    assert!(items.iter().all(|i| matches!(i, Err(p) if p.what == Fault::TooLong { limit: 4 })), "{items:?}");
    assert_eq!(items.len(), 3);
}

#[test]
fn a_damaged_table_is_read_or_a_problem() {
    for name in ["chat.snappy.parquet", "text.zstd.parquet", "text.gzip.parquet"] {
        let sound = table(name);
        for at in 0..sound.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= damage;
                let file = DataFile {
                    path: Arc::from(Path::new("data")),
                    format: Format::Parquet,
                    compression: Compression::None,
                    bytes: bytes.len() as u64,
                };
                let items = read_from(Box::new(Cursor::new(bytes)), &file, &ReadOptions::default());
                // A damaged count of rows may promise any number of them.
                assert!(items.take(10_000).count() > 0);
            }
        }
    }
}
