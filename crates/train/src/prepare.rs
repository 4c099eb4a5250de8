//! From files to tokens: data is read once, with all processors, and kept for the next start of the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use autarky_text::{LearnError, LearnOptions, Learner, Spec, TokenizerError};

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::data::{
    self, Compression, Content, DataError, DataFile, Format, Problem, Problems, ReadOptions, Record,
};
use crate::disk::{self, NoRoom};
use crate::encode::{EncodeError, Encoder};
use crate::parallel;
use crate::tokens::{Tokens, TokensError, TokensWriter, hex};

/// Why data cannot be had.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// Files cannot be found or opened.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record cannot be read, and the run is strict about that.
    #[error("{0} (data.strict)")]
    Strict(String),
    /// No record could be learned from.
    #[error("{files} have nothing that can be learned from{first}")]
    Nothing {
        /// The files.
        files: String,
        /// The first thing that is wrong with them.
        first: String,
    },
    /// The tokens cannot be kept.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// There is no room for the tokens.
    #[error(transparent)]
    Disk(#[from] NoRoom),
    /// Another rank was to prepare the data, and this one finds something else.
    #[error(
        "{0} has not what rank 0 prepared: start all ranks with the same command, on files that all of them see by the same names"
    )]
    Unprepared(PathBuf),
    /// The model's chat template is none.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// No vocabulary can be learned.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The learned tokenizer cannot be kept.
    #[error("cannot keep the learned tokenizer: {0}")]
    Keep(String),
    /// The learned tokenizer cannot be read again.
    #[error("the learned tokenizer cannot be used: {0}")]
    Tokenizer(#[from] TokenizerError),
}

/// What was read, and what was wrong with it.
#[derive(Debug)]
pub struct Report {
    /// Records that cannot be read.
    pub broken: Problems,
    /// Records that cannot be learned from, and why the first of them cannot.
    pub unfit: Vec<String>,
    /// How many these are.
    pub unfit_count: u64,
    /// Files in folders whose kind is not known.
    pub skipped: Vec<PathBuf>,
}

/// How many of each kind of trouble are told one by one.
const TOLD: usize = 5;

/// How far reading is: files done, of how many, and bytes of text so far.
pub type Progress<'a> = dyn FnMut(usize, usize, u64) + 'a;

/// Takes records of a file, by its number.
pub(crate) type Take<'a> = dyn FnMut(usize, Vec<Record>, &mut Report) -> Result<(), PrepareError> + 'a;

/// Text and conversations that are taken at a time, for all processors.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_RECORDS: usize = 4096;

/// Files of data, and how they are read.
#[derive(Debug)]
pub struct Sources {
    files: Vec<DataFile>,
    skipped: Vec<PathBuf>,
    options: ReadOptions,
    strict: bool,
    /// Whether what is there is all that may be used.
    prepared: bool,
}

impl Sources {
    /// The files under `paths`.
    ///
    /// # Errors
    /// For paths that are not there, or of files that cannot be read.
    pub fn find(paths: &[PathBuf], options: ReadOptions, strict: bool) -> Result<Sources, PrepareError> {
        let data::Found { files, skipped } = data::find(paths)?;
        Ok(Sources { files, skipped, options, strict, prepared: false })
    }

    /// The same, but nothing is written: somebody else has prepared all.
    pub fn prepared(self, prepared: bool) -> Sources {
        Sources { prepared, ..self }
    }

    /// Bytes of the files, as they are on disk.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Bytes that they take as tokens, about: a token is some four bytes of text, and four bytes on disk. What is compressed
    /// is some four times as much text.
    fn tokens_bytes(&self) -> u64 {
        let of = |file: &DataFile| match (file.format, file.compression) {
            (Format::Parquet, _) | (_, Compression::Gzip | Compression::Zstd) => file.bytes.saturating_mul(4),
            _ => file.bytes,
        };
        self.files.iter().map(of).sum()
    }

    /// What tells whether the files are still the same.
    pub(crate) fn identity(&self) -> Json {
        let of = |file: &DataFile| {
            let changed = fs::metadata(&file.path).and_then(|m| m.modified()).ok();
            let changed =
                changed.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_nanos().to_string());
            json!([file.path.display().to_string(), file.bytes, changed])
        };
        json!({
            "format": 1,
            "files": self.files.iter().map(of).collect::<Vec<_>>(),
            "text_field": self.options.text_field,
            "separators": self.options.separators,
        })
    }

    /// Calls `take` with the records, many at a time, and each file's number.
    pub(crate) fn read(
        &self,
        report: &mut Report,
        progress: &mut Progress<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), PrepareError> {
        let mut total = 0;
        for (number, file) in self.files.iter().enumerate() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for record in data::read(file, &self.options)? {
                match record {
                    Ok(record) => {
                        bytes += size(&record.content);
                        batch.push(record);
                    }
                    Err(problem) if self.strict => return Err(PrepareError::Strict(problem.to_string())),
                    Err(problem) => report.broken.add(problem),
                }
                if bytes >= BATCH_BYTES || batch.len() >= BATCH_RECORDS {
                    total += std::mem::take(&mut bytes) as u64;
                    take(number, std::mem::take(&mut batch), report)?;
                    progress(number, self.files.len(), total);
                }
            }
            total += bytes as u64;
            take(number, batch, report)?;
            progress(number + 1, self.files.len(), total);
        }
        Ok(())
    }

    /// The tokens of all records, in the files' order. What the folder has of these files is used as it is.
    ///
    /// # Errors
    /// When files cannot be read, nothing in them can be learned from, or the tokens cannot be kept.
    pub fn tokens(
        &self,
        folder: &Path,
        name: &str,
        spec: &Spec,
        encoder: &Encoder,
        progress: &mut Progress<'_>,
    ) -> Result<(Tokens, Report), PrepareError> {
        let mut report = self.report();
        let mut from = json!({ "tokenizer": identity_of(spec), "data": self.identity() });
        if encoder.is_for_pairs() {
            from["records"] = json!("pairs");
        }
        if Tokens::contents(folder, name).is_some_and(|contents| contents.from == from)
            && let Ok(tokens) = Tokens::open(folder, name)
        {
            return Ok((tokens, report));
        }
        if self.prepared {
            return Err(PrepareError::Unprepared(folder.to_owned()));
        }
        disk::admit_tokens(folder, self.tokens_bytes())?;
        let mut writer = TokensWriter::create(folder, name, from)?;
        let (mut file, mut begins) = (None, true);
        self.read(&mut report, progress, &mut |number, records, report| {
            if file != Some(number) {
                // A file that ends within a document ends it.
                writer.end_document()?;
                writer.begin_file();
                (file, begins) = (Some(number), true);
            }
            let work: Vec<(&Record, bool)> = records
                .iter()
                .map(|record| {
                    let ends = !matches!(record.content, Content::Text { ends: false, .. });
                    (record, std::mem::replace(&mut begins, ends))
                })
                .collect();
            let mut encoded: Vec<_> = work.iter().map(|_| Ok(Vec::new())).collect();
            parallel::for_each(work.iter().zip(&mut encoded).collect(), |((record, begins), out)| {
                *out = encoder.documents(&record.content, *begins);
            });
            for ((record, _), documents) in work.into_iter().zip(encoded) {
                let documents = match documents {
                    Ok(documents) => documents,
                    Err(error) => {
                        self.unfit(record, &error, report)?;
                        continue;
                    }
                };
                writer.count_record(matches!(record.content, Content::Messages { .. }));
                let bytes = size(&record.content);
                for (i, document) in documents.iter().enumerate() {
                    writer.add(document, if i == 0 { bytes } else { 0 })?;
                    if !matches!(record.content, Content::Text { ends: false, .. }) {
                        writer.end_document()?;
                    }
                }
            }
            Ok(())
        })?;
        let tokens = writer.finish()?;
        if tokens.about().tokens == 0 {
            return Err(self.nothing(&report));
        }
        Ok((tokens, report))
    }

    /// Takes down a record that cannot be learned from.
    pub(crate) fn unfit(
        &self,
        record: &Record,
        error: &EncodeError,
        report: &mut Report,
    ) -> Result<(), PrepareError> {
        let text = format!("{}: {error}", record.place);
        if self.strict {
            return Err(PrepareError::Strict(text));
        }
        report.unfit_count += 1;
        if report.unfit.len() < TOLD {
            report.unfit.push(text);
        }
        Ok(())
    }

    /// The error for files of which no record is left.
    pub(crate) fn nothing(&self, report: &Report) -> PrepareError {
        let first = report.broken.first().first().map(Problem::to_string).or(report.unfit.first().cloned());
        let files: Vec<String> = self.files.iter().take(3).map(|f| f.path.display().to_string()).collect();
        let first = first.map_or(String::new(), |first| format!(": {first}"));
        PrepareError::Nothing { files: files.join(", "), first }
    }

    pub(crate) fn report(&self) -> Report {
        Report {
            broken: Problems::new(TOLD),
            unfit: Vec::new(),
            unfit_count: 0,
            skipped: self.skipped.clone(),
        }
    }

    /// A tokenizer of `vocabulary` tokens that is learned from the text of all records. What the folder has is used as it is.
    ///
    /// # Errors
    /// When files cannot be read, or the vocabulary is none.
    pub fn tokenizer(
        &self,
        folder: &Path,
        vocabulary: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Spec, PrepareError> {
        let from = json!({ "vocabulary": vocabulary, "data": self.identity() });
        let about = folder.join("from.json");
        let known = fs::read(&about).ok().and_then(|text| serde_json::from_slice::<Json>(&text).ok());
        if known.as_ref() == Some(&from) {
            return Ok(Spec::from_hugging_face(folder)?);
        }
        let keep = |e: &dyn std::fmt::Display| PrepareError::Keep(e.to_string());
        if self.prepared {
            return Err(PrepareError::Unprepared(folder.to_owned()));
        }
        let [end, begin_turn, end_turn] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned);
        let options = LearnOptions {
            control: vec![end.clone(), begin_turn, end_turn.clone()],
            eos: Some(end),
            eot: Some(end_turn),
            chat_template: Some(CHAT.to_owned()),
            ..LearnOptions::new(vocabulary)
        };
        let mut all = Learner::new(options)?;
        let empty = all.clone();
        self.read(&mut self.report(), progress, &mut |_, records, _| {
            let each = records.len().div_ceil(64).max(1);
            let mut counted: Vec<(&[Record], Learner)> =
                records.chunks(each).map(|records| (records, empty.clone())).collect();
            parallel::for_each(counted.iter_mut().collect(), |(records, learner)| {
                for record in *records {
                    texts(&record.content, &mut |text| learner.add(text));
                }
            });
            for (_, learner) in counted {
                all.merge(learner)?;
            }
            Ok(())
        })?;
        let spec = all.learn(&mut |_, _| {})?;
        fs::create_dir_all(folder).map_err(|e| keep(&e))?;
        spec.to_hugging_face(folder).map_err(|e| keep(&e))?;
        crate::files::write(&about, from.to_string().as_bytes()).map_err(|e| keep(&e))?;
        // As the next start of the run reads it.
        Ok(Spec::from_hugging_face(folder)?)
    }
}

/// The chat template of tokenizers that are learned: ChatML.
const CHAT: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn identity_of(spec: &Spec) -> String {
    hex(&Sha256::digest(format!("{spec:?}")))
}

/// Bytes of text in a record.
fn size(content: &Content) -> usize {
    let mut size = 0;
    texts(content, &mut |text| size += text.len());
    size
}

/// Calls `take` with every text that a record has.
fn texts(content: &Content, take: &mut dyn FnMut(&str)) {
    let mut messages = |messages: &[Json]| {
        messages.iter().filter_map(|m| m.get("content")?.as_str()).for_each(&mut *take);
    };
    match content {
        Content::Text { text, .. } => take(text),
        Content::Messages { messages: all, .. } => messages(all),
        Content::Preference { prompt, chosen, rejected } => {
            [prompt, chosen, rejected].into_iter().for_each(|all| messages(all));
        }
        Content::Prompt { messages: all, .. } => messages(all),
    }
}
