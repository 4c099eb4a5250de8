//! Which tokens a step learns: rows of a fixed length, in an order that the seed and the number of the step decide alone.
//! So the number of the step is all that a run must know of where it was in its data.

use std::ops::Range;

use autarky_graph::conformance::Rng;
use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;
use crate::trainer::Example;

/// How documents come into rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// One after another, cut wherever a row ends; no token attends to another document.
    #[default]
    Apart,
    /// The same, but a row is one text, whatever documents it is of.
    Joined,
    /// Whole: a row has as many documents as fit, and those that are too long are cut off. For conversations.
    Whole,
}

/// The rows of a set of documents.
#[derive(Debug)]
pub struct Rows<'a> {
    tokens: &'a Tokens,
    /// Of the token file.
    documents: Vec<Range<usize>>,
    /// Tokens before each document, and of all.
    before: Vec<usize>,
    length: usize,
    packing: Packing,
    seed: u64,
}

impl<'a> Rows<'a> {
    /// Rows from which `length` tokens are read, of these documents.
    pub fn new(
        tokens: &'a Tokens,
        documents: Vec<Range<usize>>,
        length: usize,
        packing: Packing,
        seed: u64,
    ) -> Rows<'a> {
        let mut before = vec![0];
        let mut all = 0;
        for document in &documents {
            all += document.len();
            before.push(all);
        }
        Rows { tokens, documents, before, length: length.max(1), packing, seed }
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> usize {
        self.before.last().copied().unwrap_or(0)
    }

    /// The rows of one pass over the data, in the order of pass `epoch`; `None`: in the order of the documents.
    pub fn pass(&self, epoch: Option<u64>) -> Vec<Row> {
        let rng = |epoch: u64| Rng::new(self.seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if self.packing == Packing::Whole {
            let mut order: Vec<u32> = (0..self.documents.len() as u32).collect();
            if let Some(epoch) = epoch {
                rng(epoch).shuffle(&mut order);
            }
            return self.fit(&order);
        }
        // The last token of a row is predicted only, and so is the first that the next one reads.
        let rows = self.tokens().saturating_sub(1).div_ceil(self.length);
        let mut order: Vec<u32> = (0..rows as u32).collect();
        if let Some(epoch) = epoch {
            rng(epoch).shuffle(&mut order);
        }
        order.into_iter().map(|i| Row(vec![i])).collect()
    }

    /// Documents one after another into rows as long as they fit.
    fn fit(&self, order: &[u32]) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut left = 0;
        for &document in order {
            let read = self.documents[document as usize].len().saturating_sub(1).min(self.length);
            if read == 0 {
                continue;
            }
            match rows.last_mut() {
                Some(row) if read <= left => row.0.push(document),
                _ => {
                    rows.push(Row(vec![document]));
                    left = self.length;
                }
            }
            left -= read;
        }
        rows
    }

    /// The texts of a row.
    pub fn examples(&self, row: &Row) -> Vec<Example> {
        let pieces: Vec<Range<usize>> = match self.packing {
            Packing::Whole => {
                let cut = |d: &u32| {
                    let document = self.documents[*d as usize].clone();
                    document.start..document.end.min(document.start + self.length + 1)
                };
                row.0.iter().map(cut).collect()
            }
            _ => row.0.iter().flat_map(|&i| self.window(i as usize)).collect(),
        };
        if self.packing == Packing::Joined {
            let mut joined = Example::default();
            for piece in pieces {
                let Example { tokens, mut learned } = self.tokens.example(piece);
                learned.resize(tokens.len(), true);
                joined.tokens.extend(tokens);
                joined.learned.extend(learned);
            }
            return Vec::from_iter((joined.read() > 0).then_some(joined));
        }
        let examples = pieces.into_iter().map(|piece| self.tokens.example(piece));
        examples.filter(|e| e.read() > 0).collect()
    }

    /// The pieces of documents that window `index` of the documents' tokens, laid end to end, is of.
    fn window(&self, index: usize) -> Vec<Range<usize>> {
        let start = index * self.length;
        let end = (start + self.length + 1).min(self.tokens());
        let mut document = self.before.partition_point(|&b| b <= start) - 1;
        let mut pieces = Vec::new();
        let mut at = start;
        while at < end && document < self.documents.len() {
            let stop = self.before[document + 1].min(end);
            let first = self.documents[document].start + (at - self.before[document]);
            pieces.push(first..first + (stop - at));
            (at, document) = (stop, document + 1);
        }
        pieces
    }
}

/// One row of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<u32>);

/// The rows of all steps: pass after pass over the data, each in an order of its own.
#[derive(Debug)]
pub struct Batches<'a> {
    rows: &'a Rows<'a>,
    /// Rows of a step.
    each: usize,
    epoch: u64,
    pass: Vec<Row>,
    next: usize,
}

impl<'a> Batches<'a> {
    /// Steps of `each` rows, from step `step` on. `None` when the data has no row.
    pub fn new(rows: &'a Rows<'a>, each: usize, step: u64) -> Option<Batches<'a>> {
        let mut batches = Batches { rows, each, epoch: 0, pass: rows.pass(Some(0)), next: 0 };
        if batches.pass.is_empty() {
            return None;
        }
        let mut skip = step * each as u64;
        // Passes may have different numbers of rows: documents are packed anew in each.
        while skip >= batches.pass.len() as u64 {
            skip -= batches.pass.len() as u64;
            batches.turn();
        }
        batches.next = skip as usize;
        Some(batches)
    }

    fn turn(&mut self) {
        self.epoch += 1;
        self.pass = self.rows.pass(Some(self.epoch));
        self.next = 0;
    }

    /// Passes over the data so far.
    pub fn epochs(&self) -> f64 {
        self.epoch as f64 + self.next as f64 / self.pass.len() as f64
    }

    /// The rows of the next step, each with its texts.
    pub fn step(&mut self) -> Vec<Vec<Example>> {
        let mut step = Vec::with_capacity(self.each);
        for _ in 0..self.each {
            if self.next == self.pass.len() {
                self.turn();
            }
            step.push(self.rows.examples(&self.pass[self.next]));
            self.next += 1;
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::tokens::TokensWriter;

    /// A set whose tokens all differ, of documents of these lengths.
    fn tokens(lengths: &[usize]) -> (tempfile::TempDir, Tokens) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = TokensWriter::create(folder.path(), "x", Json::Null).unwrap();
        writer.begin_file();
        let mut next = 0;
        for length in lengths {
            let document: Vec<u32> = (next..next + *length as u32).collect();
            writer.add(&document, 0).unwrap();
            writer.end_document().unwrap();
            next += *length as u32;
        }
        (folder, writer.finish().unwrap())
    }

    /// How often each token is predicted in a pass.
    fn predicted(rows: &Rows<'_>, epoch: Option<u64>) -> HashMap<u32, usize> {
        let mut counts = HashMap::new();
        for row in rows.pass(epoch) {
            for example in rows.examples(&row) {
                assert!(example.read() > 0 && example.read() <= rows.length);
                for pair in example.tokens.windows(2) {
                    assert_eq!(pair[0] + 1, pair[1], "neighbours stay neighbours");
                }
                example.tokens[1..].iter().for_each(|t| *counts.entry(*t).or_default() += 1);
            }
        }
        counts
    }

    proptest! {
        #[test]
        fn a_pass_predicts_every_token_once(
            lengths in prop::collection::vec(1usize..40, 1..20),
            length in 1usize..33,
            seed: u64,
            epoch in prop::option::of(0u64..3),
        ) {
            let (_folder, tokens) = tokens(&lengths);
            let documents = tokens.documents();
            let all: usize = lengths.iter().sum();
            for packing in [Packing::Apart, Packing::Joined, Packing::Whole] {
                let rows = Rows::new(&tokens, documents.clone(), length, packing, seed);
                let counts = predicted(&rows, epoch);
                prop_assert!(counts.values().all(|&n| n == 1), "{packing:?}");
                let expected: Vec<u32> = match packing {
                    Packing::Joined => (1..all as u32).collect(),
                    // What begins a document has nothing before it.
                    Packing::Apart => documents.iter().flat_map(|d| d.clone().skip(1)).map(|t| t as u32).collect(),
                    Packing::Whole => {
                        documents.iter().flat_map(|d| d.clone().skip(1).take(length)).map(|t| t as u32).collect()
                    }
                };
                prop_assert_eq!(counts.len(), expected.len(), "{:?}", packing);
                prop_assert!(expected.iter().all(|t| counts.contains_key(t)), "{packing:?}");
            }
        }

        #[test]
        fn steps_are_the_same_from_wherever_they_are_begun(
            lengths in prop::collection::vec(1usize..40, 1..12),
            length in 1usize..33,
            each in 1usize..5,
            start in 0u64..12,
        ) {
            let (_folder, tokens) = tokens(&lengths);
            for packing in [Packing::Apart, Packing::Whole] {
                let rows = Rows::new(&tokens, tokens.documents(), length, packing, 7);
                let Some(mut through) = Batches::new(&rows, each, 0) else {
                    prop_assert!(lengths.iter().all(|&n| n == 1));
                    continue;
                };
                let steps: Vec<_> = (0..start + 3).map(|_| through.step()).collect();
                let mut later = Batches::new(&rows, each, start).unwrap();
                for step in &steps[start as usize..] {
                    prop_assert_eq!(&later.step(), step);
                }
            }
        }
    }
}
