//! Paths that are no model file: every opener answers at once, by a typed error that names the path.

use std::fs;
use std::path::Path;

use autarky_format::{Error, Source, gguf, llama2c, safetensors};

/// What each opener says of a path.
fn answers(path: &Path) -> Vec<Error> {
    vec![
        gguf::File::open(path).unwrap_err(),
        safetensors::File::open(path).unwrap_err(),
        llama2c::Checkpoint::read(path).unwrap_err(),
        llama2c::Tokenizer::read(path, 1).unwrap_err(),
        Source::open(path).unwrap_err(),
    ]
}

#[test]
fn a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    for error in answers(&folder.path().join("absent.gguf")) {
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("absent.gguf") && error.to_string().contains("open"), "{error}");
    }
}

#[test]
fn an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.gguf");
    fs::write(&path, "").unwrap();
    for error in answers(&path) {
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        assert_eq!(error.place().offset, Some(0), "{error}");
        assert!(error.to_string().contains("empty.gguf"), "{error}");
    }
    let unnamed = folder.path().join("empty");
    fs::write(&unnamed, "").unwrap();
    assert!(matches!(Source::open(&unnamed), Err(Error::WrongFormat { .. })));
}

#[test]
fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut answers = answers(folder.path());
    // A folder is a good source if it holds a model.
    let source = answers.pop().unwrap();
    assert!(matches!(source, Error::Missing { .. }), "{source}");
    assert!(source.to_string().contains("model.safetensors.index.json"), "{source}");
    for error in answers {
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        assert!(error.to_string().contains("a directory"), "{error}");
    }
}

/// Opening a pipe for reading waits for a writer, for ever when there is none.
#[cfg(unix)]
#[test]
fn a_pipe_and_a_socket_and_a_device_do_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.gguf");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let socket = folder.path().join("socket.gguf");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, found) in [(&*pipe, "a pipe"), (&*socket, "a socket"), (Path::new("/dev/zero"), "a device")] {
        for error in answers(path) {
            assert!(matches!(error, Error::NotAFile { .. }), "{error}");
            assert!(error.to_string().contains(found), "{error}");
        }
    }
}

#[test]
fn files_of_other_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::write(&path, b"PK\x03\x04 a pickled model").unwrap();
    let error = Source::open(&path).unwrap_err();
    assert!(matches!(error, Error::WrongFormat { .. }), "{error}");
    assert!(error.to_string().contains("PK\\x03\\x04"), "{error}");
}

#[test]
fn formats_are_told_apart_by_content_where_the_name_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, gguf::to_bytes(&gguf::Metadata::new(), &[]).unwrap()).unwrap();
    assert!(matches!(Source::open(&path), Ok(Source::Gguf(_))));
    fs::write(&path, safetensors::to_bytes(&[], &[]).unwrap()).unwrap();
    assert!(matches!(Source::open(&path), Ok(Source::SafeTensors(_))));
}

#[test]
fn a_file_that_changed_its_length_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, gguf::to_bytes(&gguf::Metadata::new(), &[]).unwrap()).unwrap();
    let file = gguf::File::open(&path).unwrap();
    file.check_unchanged().unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5).unwrap();
    let error = file.check_unchanged().unwrap_err();
    assert!(matches!(error, Error::Changed { after: 5, .. }), "{error}");
}

/// Renaming the finished file over a device would put a file in the device's place.
#[test]
fn writers_replace_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    fs::create_dir(&path).unwrap();
    let error = gguf::Writer::create(&path, &gguf::Metadata::new(), &[]).unwrap_err();
    assert!(matches!(error, Error::NotAFile { .. }), "{error}");
    assert!(path.is_dir());
    #[cfg(unix)]
    {
        let error = safetensors::Writer::create("/dev/null", &[], &[]).unwrap_err();
        assert!(error.to_string().contains("/dev/null") && error.to_string().contains("a device"), "{error}");
        let link = folder.path().join("link.safetensors");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(matches!(safetensors::Writer::create(&link, &[], &[]), Err(Error::NotAFile { .. })));
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        if cfg!(unix) { 2 } else { 1 },
        "nothing is left over"
    );
}
