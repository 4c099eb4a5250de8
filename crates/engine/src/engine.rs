//! The engine: a program, its KV cache, and steps over ragged batches of sequences.

use std::sync::Arc;

use autarky_graph::{
    BLOCK, CacheDType, Device, Graph, Limits, MemoryUse, Program, SequenceStep, Step, Symbol, Weights,
};

use crate::blocks::BlockPool;
use crate::error::EngineError;
use crate::sequence::Sequence;

/// How large an engine is, fixed when it is made so that a step allocates nothing to speak of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Positions that one sequence may have.
    pub context: usize,
    /// Sequences that one step may have.
    pub sequences: usize,
    /// Positions that the KV cache holds, of all sequences together; `None`: every sequence at full context.
    pub positions: Option<usize>,
    /// Tokens in one step: a longer prompt is prefilled in chunks of this size.
    pub chunk: usize,
    /// Positions whose logits one step can give.
    pub outputs: usize,
    /// How keys and values are kept.
    pub cache: CacheDType,
}

impl Options {
    /// Tokens in one chunk of prefill, unless said otherwise.
    pub const CHUNK: usize = 512;

    /// One sequence of up to `context` positions, of which the last position's logits are wanted.
    pub fn single(context: usize, cache: CacheDType) -> Options {
        Options {
            context,
            sequences: 1,
            positions: None,
            chunk: Options::CHUNK.min(context),
            outputs: 1,
            cache,
        }
    }

    /// What a program has to be compiled for.
    ///
    /// # Errors
    /// When a size is 0 or the cache would have more blocks than can be counted.
    pub fn limits(&self) -> Result<Limits, EngineError> {
        let Options { context, sequences, positions, chunk, outputs, cache } = *self;
        let sizes = [("context", context), ("sequences", sequences), ("chunk", chunk), ("outputs", outputs)];
        if let Some((name, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return Err(EngineError::Options(format!("{name} is 0, and must be at least 1")));
        }
        let blocks = match positions {
            Some(positions) if positions < context => {
                let what = format!("a cache of {positions} positions does not hold a context of {context}");
                return Err(EngineError::Options(what));
            }
            Some(positions) => Some(positions.div_ceil(BLOCK)),
            None => context.div_ceil(BLOCK).checked_mul(sequences),
        };
        let Some(blocks) = blocks.filter(|&n| n <= u32::MAX as usize) else {
            let what = format!("{sequences} sequences of {context} positions are more than can be counted");
            return Err(EngineError::Options(what));
        };
        // Every sequence of a decode step brings a token.
        let tokens = chunk.max(sequences);
        Ok(Limits { tokens, sequences, outputs: outputs.min(tokens), blocks, cache })
    }
}

/// Which positions of a sequence's share of a step give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// None: an inner chunk of a prefill.
    None,
    /// The last.
    Last,
    /// All.
    All,
}

/// One sequence's share of a step.
#[derive(Debug)]
pub struct Work<'a> {
    /// Whose tokens.
    pub sequence: &'a mut Sequence,
    /// How many of its pending tokens, at least 1.
    pub tokens: usize,
    /// Whose logits.
    pub outputs: Outputs,
}

/// Takes the logits of some positions: the first position, and `[positions, vocabulary]` logits.
pub type EachLogits<'a, E> = dyn FnMut(usize, &[f32]) -> Result<(), E> + 'a;

/// A model ready to run, with its KV cache.
pub struct Engine {
    program: Box<dyn Program>,
    limits: Limits,
    pool: BlockPool,
    context: usize,
    chunk: usize,
    vocabulary: usize,
    /// Numbers in one position's hidden state, where the graph gives it.
    width: Option<usize>,
    /// Kept between steps so that they allocate nothing.
    tokens: Vec<u32>,
    outputs: Vec<u32>,
}

impl Engine {
    /// Compiles `graph` for `device`. Its first output is logits `[outputs, vocabulary]`; a second, if it has one, the
    /// hidden states that they were made from, `[outputs, width]`.
    ///
    /// # Errors
    /// When the options make no sense, the graph does not give logits, or the device cannot run it.
    pub fn new(
        device: &dyn Device,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        options: Options,
    ) -> Result<Engine, EngineError> {
        let limits = options.limits()?;
        let features = |output| {
            let shape = &graph.node(output).shape;
            match (shape.rows(), shape.features()) {
                (Symbol::Outputs, &[features]) => Ok(features),
                _ => Err(EngineError::Graph(format!("an output of it is {shape}"))),
            }
        };
        let (vocabulary, width) = match *graph.outputs() {
            [logits] => (features(logits)?, None),
            [logits, hidden] => (features(logits)?, Some(features(hidden)?)),
            ref other => return Err(EngineError::Graph(format!("it has {} outputs", other.len()))),
        };
        let program = device.compile(graph, weights, limits)?;
        Ok(Engine {
            program,
            limits,
            pool: BlockPool::new(limits.blocks),
            context: options.context,
            chunk: options.chunk,
            vocabulary,
            width,
            tokens: Vec::with_capacity(limits.tokens),
            outputs: Vec::with_capacity(limits.outputs),
        })
    }

    /// Numbers in one position's logits.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Positions that one sequence may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens in one chunk of prefill.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Positions whose logits one step can give.
    pub fn max_outputs(&self) -> usize {
        self.limits.outputs
    }

    /// Tokens that one step can have.
    pub fn max_tokens(&self) -> usize {
        self.limits.tokens
    }

    /// Sequences that one step can have.
    pub fn max_sequences(&self) -> usize {
        self.limits.sequences
    }

    /// Blocks of the KV cache: all, and those that nobody holds.
    pub fn blocks(&self) -> (usize, usize) {
        (self.limits.blocks, self.pool.free())
    }

    /// The memory that the program holds.
    pub fn memory(&self) -> MemoryUse {
        self.program.memory()
    }

    /// Runs one step over several sequences and returns the wanted logits, `[outputs, vocabulary]` row-major, in
    /// the order of `work` and of positions.
    ///
    /// # Errors
    /// When a sequence has fewer pending tokens than asked for or outgrows the context, the cache is full, the step
    /// is larger than the engine's options, or the device is lost. The sequences' tokens are then as before.
    pub fn step(&mut self, work: &mut [Work<'_>]) -> Result<&[f32], EngineError> {
        self.admit(work)?;
        self.tokens.clear();
        self.outputs.clear();
        for w in work.iter_mut() {
            let s = &mut *w.sequence;
            s.reserve(s.cached() + w.tokens, &self.pool)?;
            let first = self.tokens.len();
            self.tokens.extend_from_slice(&s.pending()[..w.tokens]);
            let wanted = match w.outputs {
                Outputs::None => 0,
                Outputs::Last => 1,
                Outputs::All => w.tokens,
            };
            let end = first + w.tokens;
            self.outputs.extend((end - wanted..end).map(|i| i as u32));
        }
        let part = |w: &Work<'_>| (w.sequence.cached(), w.tokens);
        // One sequence is the common case, and needs no list on the heap.
        let (single, many);
        let sequences: &[SequenceStep<'_>] = match work {
            [w] => {
                let (position, tokens) = part(w);
                single = [SequenceStep { position, tokens, blocks: w.sequence.table() }];
                &single
            }
            _ => {
                many = work
                    .iter()
                    .map(|w| {
                        let (position, tokens) = part(w);
                        SequenceStep { position, tokens, blocks: w.sequence.table() }
                    })
                    .collect::<Vec<_>>();
                &many
            }
        };
        let step =
            Step { tokens: &self.tokens, sequences, outputs: &self.outputs, inputs: &[], weights: &[] };
        self.program.run(&step)?;
        for w in work.iter_mut() {
            w.sequence.computed(w.tokens);
        }
        Ok(self.logits())
    }

    /// The logits of the last step.
    pub(crate) fn logits(&self) -> &[f32] {
        &self.program.output(0)[..self.outputs.len() * self.vocabulary]
    }

    /// The hidden states that the logits of the last step were made from, `[outputs, width]` row-major: what the last
    /// norm gives. Empty when the graph does not give them.
    pub fn hidden(&self) -> &[f32] {
        match self.width {
            Some(width) => &self.program.output(1)[..self.outputs.len() * width],
            None => &[],
        }
    }

    /// Numbers in one position's hidden state; `None` when the graph does not give it.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    pub(crate) fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Takes the blocks that the sequence needs for `positions` positions, if there are so many; else none.
    pub(crate) fn reserve(&self, sequence: &mut Sequence, positions: usize) -> bool {
        self.has_room(sequence, positions) && sequence.reserve(positions, &self.pool).is_ok()
    }

    /// Whether the cache has blocks for `positions` positions of the sequence.
    pub(crate) fn has_room(&self, sequence: &Sequence, positions: usize) -> bool {
        sequence.lacks(positions) <= self.pool.free()
    }

    /// Refuses a step that cannot be, before any sequence takes a block.
    fn admit(&self, work: &[Work<'_>]) -> Result<(), EngineError> {
        let mut lacking = 0;
        for w in work {
            let pending = w.sequence.pending().len();
            if w.tokens == 0 || w.tokens > pending {
                return Err(EngineError::Nothing { pending, asked: w.tokens });
            }
            let needed = w.sequence.cached() + w.tokens;
            if needed > self.context {
                return Err(EngineError::ContextFull { needed, context: self.context });
            }
            lacking += w.sequence.lacks(needed);
        }
        let free = self.pool.free();
        if lacking > free {
            return Err(EngineError::CacheFull { needed: lacking, free });
        }
        Ok(())
    }

    /// Computes all pending tokens of one sequence, in chunks, and returns the logits of the last: prefill and
    /// decode alike. After each chunk `progress` is told how many tokens are done and how many there are; when it
    /// returns `false`, the rest stays pending and the result is `None`.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn advance(
        &mut self,
        sequence: &mut Sequence,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<&[f32]>, EngineError> {
        let total = sequence.pending().len();
        let needed = sequence.tokens().len();
        if needed > self.context {
            return Err(EngineError::ContextFull { needed, context: self.context });
        }
        loop {
            let left = sequence.pending().len();
            let last = left <= self.chunk;
            let outputs = if last { Outputs::Last } else { Outputs::None };
            let work = Work { sequence: &mut *sequence, tokens: left.min(self.chunk), outputs };
            self.step(&mut [work])?;
            let go_on = progress(total - sequence.pending().len(), total);
            if last {
                return Ok(Some(&self.program.output(0)[..self.vocabulary]));
            }
            if !go_on {
                return Ok(None);
            }
        }
    }

    /// Computes all pending tokens of one sequence and hands over the logits of every position, in chunks: the first
    /// position of the chunk, and `[positions, vocabulary]` logits.
    ///
    /// # Errors
    /// As [`Engine::step`], and whatever `take` returns.
    pub fn each_logits<E: From<EngineError>>(
        &mut self,
        sequence: &mut Sequence,
        take: &mut EachLogits<'_, E>,
    ) -> Result<(), E> {
        let chunk = self.chunk.min(self.limits.outputs);
        while !sequence.pending().is_empty() {
            let first = sequence.cached();
            let tokens = sequence.pending().len().min(chunk);
            let work = Work { sequence: &mut *sequence, tokens, outputs: Outputs::All };
            let logits = self.step(&mut [work])?;
            take(first, logits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn logits(engine: &mut Engine, sequence: &mut Sequence) -> Vec<f32> {
        engine.advance(sequence, &mut |_, _| true).unwrap().unwrap().to_vec()
    }

    #[test]
    fn logits_do_not_depend_on_chunks_company_or_forks() {
        let text: Vec<u32> = (0..70).map(|i| (i * 7 + 3) % testing::VOCABULARY as u32).collect();
        let mut expected = None;
        for chunk in [1, 7, 64] {
            let mut engine = testing::engine(128, 2, chunk);
            let mut s = Sequence::new();
            s.push(&text);
            let alone = logits(&mut engine, &mut s);
            let expected = expected.get_or_insert_with(|| alone.clone());
            assert_eq!(*expected, alone, "chunks of {chunk}");

            let mut fork = s.fork();
            assert_eq!(logits(&mut engine, &mut fork), *expected, "a fork, chunks of {chunk}");
            fork.truncate(50);
            fork.push(&[1]);
            assert_eq!(fork.replace(&text), BLOCK, "the block of position 50 is shared");
            assert_eq!(logits(&mut engine, &mut fork), *expected, "an edit, chunks of {chunk}");
        }

        let mut engine = testing::engine(128, 2, 64);
        let (mut a, mut b) = (Sequence::new(), Sequence::new());
        a.push(&text);
        b.push(&text[..33]);
        engine.advance(&mut b, &mut |_, _| true).unwrap();
        b.push(&text[33..]);
        engine.step(&mut [Work { sequence: &mut a, tokens: 60, outputs: Outputs::None }]).unwrap();
        let mut both = [
            Work { sequence: &mut a, tokens: 10, outputs: Outputs::Last },
            Work { sequence: &mut b, tokens: 37, outputs: Outputs::All },
        ];
        let found = engine.step(&mut both).unwrap();
        assert_eq!(found.len(), 38 * testing::VOCABULARY);
        assert_eq!(found[..testing::VOCABULARY], expected.clone().unwrap());
        assert_eq!(found[37 * testing::VOCABULARY..], expected.unwrap());
    }

    #[test]
    fn every_position_gives_the_logits_that_its_prefix_gives() {
        let text: Vec<u32> = (0..20).map(|i| (i * 5 + 1) % testing::VOCABULARY as u32).collect();
        let mut engine = testing::engine(64, 1, 6);
        let mut s = Sequence::new();
        s.push(&text);
        let mut all = Vec::new();
        engine
            .each_logits(&mut s, &mut |first, rows| -> Result<(), EngineError> {
                assert_eq!(first * testing::VOCABULARY, all.len());
                all.extend_from_slice(rows);
                Ok(())
            })
            .unwrap();
        drop(s);
        for (i, row) in all.chunks_exact(testing::VOCABULARY).enumerate() {
            let mut prefix = Sequence::new();
            prefix.push(&text[..=i]);
            assert_eq!(logits(&mut engine, &mut prefix), row, "position {i}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let mut engine = testing::engine(BLOCK, 1, 8);
        let mut s = Sequence::new();
        assert!(matches!(
            engine.advance(&mut s, &mut |_, _| true),
            Err(EngineError::Nothing { pending: 0, asked: 0 })
        ));
        s.push(&[1; BLOCK + 1]);
        assert!(matches!(
            engine.advance(&mut s, &mut |_, _| true),
            Err(EngineError::ContextFull { needed: 33, context: 32 })
        ));
        s.truncate(3);
        s.push(&[testing::VOCABULARY as u32]);
        let error = engine.advance(&mut s, &mut |_, _| true).unwrap_err();
        assert!(error.to_string().contains("vocabulary"), "{error}");
        assert_eq!(s.cached(), 0, "a failed step computes nothing");
        s.truncate(3);
        assert!(engine.advance(&mut s, &mut |_, _| true).is_ok());

        let mut other = Sequence::new();
        other.push(&[1]);
        assert!(matches!(
            engine.advance(&mut other, &mut |_, _| true),
            Err(EngineError::CacheFull { needed: 1, free: 0 })
        ));
        drop(s);
        assert!(engine.advance(&mut other, &mut |_, _| true).is_ok(), "dropping frees the cache");
    }

    #[test]
    fn a_prefill_can_be_stopped_between_chunks_and_taken_up_again() {
        let text: Vec<u32> = (0..30).collect();
        let mut engine = testing::engine(64, 1, 8);
        let mut s = Sequence::new();
        s.push(&text);
        let mut seen = Vec::new();
        let stopped = engine.advance(&mut s, &mut |done, total| {
            seen.push((done, total));
            done < 16
        });
        assert!(stopped.unwrap().is_none());
        assert_eq!((seen, s.cached()), (vec![(8, 30), (16, 30)], 16));
        let resumed = logits(&mut engine, &mut s);
        let mut whole = testing::engine(64, 1, 64);
        let mut again = Sequence::new();
        again.push(&text);
        assert_eq!(resumed, logits(&mut whole, &mut again));
    }
}
