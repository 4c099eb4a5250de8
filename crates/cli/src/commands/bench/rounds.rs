//! The rounds of a benchmark: prefill, then decode, timed apart.

use std::time::{Duration, Instant};

use anyhow::Result;
use autarky_cpu::{Pool, matmul::peak::Reader};
use autarky_engine::sampling::Rng;
use autarky_engine::{Engine, Outputs, Sequence, Work};

use crate::args::BenchArgs;
use crate::exit::Interrupted;
use crate::terminal::CtrlC;

/// The first, untimed round is cut to this many prompt tokens and steps: enough to page in and to warm caches and
/// clocks.
const WARM_UP: (usize, usize) = (128, 8);
/// Steps of decode between two measurements of the bandwidth that memory has just then.
const STEPS_BETWEEN_READS: usize = 8;

/// An engine at work on rounds of the same sizes.
pub(super) struct Rounds<'a> {
    args: &'a BenchArgs,
    engine: Engine,
    sequences: Vec<Sequence>,
    interrupt: CtrlC,
    rng: Rng,
    /// What bandwidth is measured with.
    memory: Option<(Pool, Reader)>,
}

/// Tokens a second over all sequences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) prefill: f64,
    /// `None` when nothing is generated.
    pub(super) decode: Option<f64>,
    /// Bytes a second that could be read between the steps of decode, where that was measured.
    pub(super) bandwidth: Option<f64>,
}

impl<'a> Rounds<'a> {
    /// Fills every sequence to the depth that was asked for, and warms up.
    pub(super) fn new(
        args: &'a BenchArgs,
        engine: Engine,
        memory: Option<(Pool, Reader)>,
    ) -> Result<Rounds<'a>> {
        let sequences = (0..args.sequences).map(|_| Sequence::new()).collect();
        let mut rounds =
            Rounds { args, engine, sequences, interrupt: CtrlC::watch(), rng: Rng::new(0), memory };
        if args.depth > 0 {
            rounds.push(args.depth);
            rounds.prefill()?;
        }
        rounds.time(args.prompt.min(WARM_UP.0), args.generate.min(WARM_UP.1))?;
        Ok(rounds)
    }

    /// One round, from the depth on, which is computed once: what lies behind it in the KV cache is cut off first.
    pub(super) fn next(&mut self) -> Result<Rates> {
        self.time(self.args.prompt, self.args.generate)
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn time(&mut self, prompt: usize, generate: usize) -> Result<Rates> {
        // A step that does not count brings back into caches and page tables what another engine's turn pushed out.
        self.cut();
        self.push(1);
        self.prefill()?;
        self.cut();
        self.push(prompt);
        let start = Instant::now();
        self.prefill()?;
        let prefill = start.elapsed();
        let (mut decode, mut reads) = (Duration::ZERO, Vec::new());
        // Like the model's, this memory may have lain idle for minutes, and a host may have taken such pages back.
        if let Some((pool, reader)) = &self.memory {
            reader.pass(pool);
        }
        for step in 0..generate {
            if let Some((pool, reader)) = self.memory.as_ref().filter(|_| step % STEPS_BETWEEN_READS == 0) {
                reads.push(reader.pass(pool));
            }
            let start = Instant::now();
            // Random tokens, so that nothing but the model is timed; logits are made as for sampling.
            self.push(1);
            let one = |sequence| Work { sequence, tokens: 1, outputs: Outputs::Last };
            let mut work: Vec<Work<'_>> = self.sequences.iter_mut().map(one).collect();
            self.engine.step(&mut work)?;
            decode += start.elapsed();
            self.check()?;
        }
        let rate = |tokens: usize, seconds: f64| (tokens * self.sequences.len()) as f64 / seconds;
        Ok(Rates {
            prefill: rate(prompt, prefill.as_secs_f64()),
            decode: (generate > 0).then(|| rate(generate, decode.as_secs_f64())),
            // As tokens a second are all tokens by all seconds, so are bytes: the harmonic mean.
            bandwidth: (!reads.is_empty())
                .then(|| reads.len() as f64 / reads.iter().map(|r| 1.0 / r).sum::<f64>()),
        })
    }

    /// Cuts every sequence back to the depth.
    fn cut(&mut self) {
        self.sequences.iter_mut().for_each(|s| s.truncate(self.args.depth));
    }

    /// Appends `n` random tokens to every sequence.
    fn push(&mut self, n: usize) {
        let vocabulary = self.engine.vocabulary() as u64;
        for sequence in &mut self.sequences {
            let tokens: Vec<u32> = (0..n).map(|_| (self.rng.next_u64() % vocabulary) as u32).collect();
            sequence.push(&tokens);
        }
    }

    /// Computes all pending tokens, as many a step as it takes, the last of each sequence with its logits.
    fn prefill(&mut self) -> Result<()> {
        while self.sequences.iter().any(|s| !s.pending().is_empty()) {
            let mut room = self.engine.chunk();
            let mut work = Vec::new();
            for sequence in &mut self.sequences {
                let pending = sequence.pending().len();
                let tokens = pending.min(room);
                if tokens > 0 {
                    room -= tokens;
                    let outputs = if tokens == pending { Outputs::Last } else { Outputs::None };
                    work.push(Work { sequence, tokens, outputs });
                }
            }
            self.engine.step(&mut work)?;
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.interrupt.pressed() { Err(Interrupted.into()) } else { Ok(()) }
    }
}
