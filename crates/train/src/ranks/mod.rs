//! A run on several processes, its *ranks*: each has all weights, finds the gradients of some rows of a step, and keeps the
//! optimizer's state of its part of the weights (ZeRO-1; Rajbhandari et al. 2020, arXiv:1910.02054).
//!
//! A step is cut into *shards*, a power of two of them, and the ranks share the shards evenly. The gradient of a step is the
//! sum over a binary tree of the shards in their order, (s₀ + s₁) + (s₂ + s₃), whoever adds; so the same shards give the same
//! bits on any number of ranks, and a run goes on with another number.
//!
//! Module map: [`Ranks`] what a rank must be able to do, [`Alone`] and [`Threads`](threads::Threads) that do it without MPI,
//! [`Group`] all that is made of it · `share` which rank has which part of the weights, and the sums and copies between them ·
//! `step` a step of a trainer on several ranks · `shards` how many shards a run has.

mod shards;
mod share;
mod step;
pub mod threads;

use std::cell::Cell;

use thiserror::Error;

use crate::metrics::Sent;

pub(crate) use shards::{Shards, shards};
pub(crate) use share::Share;

/// What keeps ranks from going on together.
#[derive(Debug, Error)]
pub enum RanksError {
    /// Another rank ended.
    #[error("rank {0} has ended, so this one ends too; the last checkpoint goes on with any number of ranks")]
    Gone(usize),
    /// Bytes do not come through.
    #[error("cannot exchange bytes with rank {peer}: {problem}")]
    Exchange {
        /// The other rank.
        peer: usize,
        /// Why not.
        problem: String,
    },
    /// Another rank has something else before it.
    #[error(
        "rank {0} has other settings, data or checkpoints than rank 0: start all with the same command, in one folder that all \
         of them see"
    )]
    Differs(usize),
}

/// A rank's connection to the others. Their number is a power of two.
pub trait Ranks {
    /// Which rank it is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends bytes to another rank, and receives as many as `receive` is long from it at the same time.
    ///
    /// # Errors
    /// When that one is gone, or bytes do not come through.
    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), RanksError>;
}

/// The only rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, peer: usize, _: &[u8], _: &mut [u8]) -> Result<(), RanksError> {
        Err(RanksError::Gone(peer))
    }
}

/// Numbers that are sent at a time: memory for them is not more than this.
const AT_ONCE: usize = 1 << 18;

/// All ranks, as one of them sees them, with a count of what it sends.
pub struct Group<'a> {
    ranks: &'a dyn Ranks,
    sent: Cell<u64>,
}

impl<'a> Group<'a> {
    /// The ranks that one is connected to.
    pub fn new(ranks: &'a dyn Ranks) -> Group<'a> {
        Group { ranks, sent: Cell::new(0) }
    }

    /// Which rank this one is.
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// Whether it is the one that writes files.
    pub fn writes(&self) -> bool {
        self.rank() == 0
    }

    /// Bytes that this rank has sent.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), RanksError> {
        self.sent.set(self.sent.get() + send.len() as u64);
        self.ranks.exchange(peer, send, receive)
    }

    /// Sends numbers to another rank while `len` come from it: `give` has the first, and `take` gets the second, each with their
    /// place.
    fn trade(
        &self,
        peer: usize,
        (give_len, take_len): (usize, usize),
        trade: &mut dyn Trade,
    ) -> Result<(), RanksError> {
        let (mut out, mut back, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for start in (0..give_len.max(take_len)).step_by(AT_ONCE) {
            let cut = |len: usize| start.min(len)..(start + AT_ONCE).min(len);
            numbers.clear();
            trade.give(cut(give_len), &mut numbers);
            out.resize(4 * numbers.len(), 0);
            out.chunks_exact_mut(4).zip(&numbers).for_each(|(b, x)| b.copy_from_slice(&x.to_le_bytes()));
            back.resize(4 * cut(take_len).len(), 0);
            self.exchange(peer, &out, &mut back)?;
            numbers.clear();
            numbers.extend(back.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            trade.take(start, &numbers);
        }
        Ok(())
    }

    /// What every rank has to say, in the order of the ranks. All say as much.
    ///
    /// # Errors
    /// When one is gone.
    pub fn all_say(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        let (rank, size, n) = (self.rank(), self.size(), own.len());
        let mut all = vec![0; n * size];
        all[rank * n..(rank + 1) * n].copy_from_slice(own);
        let mut bit = 1;
        while bit < size {
            // Of each group of so many ranks, one half has what the other lacks.
            let mine = rank / bit * bit;
            let theirs = mine ^ bit;
            let mut back = vec![0; n * bit];
            self.exchange(rank ^ bit, &all[mine * n..(mine + bit) * n], &mut back)?;
            all[theirs * n..(theirs + bit) * n].copy_from_slice(&back);
            bit *= 2;
        }
        Ok(all.chunks(n.max(1)).map(<[u8]>::to_vec).take(size).collect())
    }

    /// The same of numbers.
    ///
    /// # Errors
    /// When one is gone.
    pub fn all_say_numbers(&self, own: &[f64]) -> Result<Vec<f64>, RanksError> {
        let bytes: Vec<u8> = own.iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = self.all_say(&bytes)?;
        let number = |b: &[u8]| b.try_into().map(f64::from_le_bytes).unwrap_or_default();
        Ok(all.iter().flat_map(|bytes| bytes.chunks_exact(8)).map(number).collect())
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// When one is gone.
    pub fn wait(&self) -> Result<(), RanksError> {
        self.all_say(&[0]).map(|_| ())
    }

    /// Calls `f` on rank 0, and then on the others, to which it says that what is to be written is there.
    pub(crate) fn one_writes<T, E: From<RanksError>>(
        &self,
        f: impl FnOnce(bool) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.writes() {
            let result = f(false)?;
            self.wait()?;
            return Ok(result);
        }
        self.wait()?;
        f(true)
    }

    /// Whether it is so for any rank.
    ///
    /// # Errors
    /// When one is gone.
    pub fn any(&self, own: bool) -> Result<bool, RanksError> {
        Ok(self.all_say(&[u8::from(own)])?.iter().any(|said| *said != [0]))
    }

    /// What the ranks sent to change so many weights since this one had sent `before` bytes; none where there is one rank.
    ///
    /// # Errors
    /// When one is gone.
    pub(crate) fn sent_since(&self, before: u64, weights: u64) -> Result<Option<Sent>, RanksError> {
        let ranks = self.size();
        if ranks == 1 {
            return Ok(None);
        }
        let all = self.all_say_numbers(&[(self.sent() - before) as f64])?;
        let n = ranks as f64;
        let least_bytes = 2.0 * (n - 1.0) / n * 4.0 * weights as f64;
        Ok(Some(Sent { ranks, bytes_sent: all.iter().sum::<f64>() / n, least_bytes }))
    }

    /// Refuses to go on when another rank says something else than rank 0.
    ///
    /// # Errors
    /// Names the first such rank.
    pub fn refuse_others(&self, own: &[u8]) -> Result<(), RanksError> {
        let all = self.all_say(own)?;
        match all.iter().position(|said| *said != all[0]) {
            None => Ok(()),
            Some(rank) => Err(RanksError::Differs(rank)),
        }
    }
}

/// What is sent, and what becomes of what comes.
trait Trade {
    /// Adds the numbers at these places to `to`.
    fn give(&self, places: std::ops::Range<usize>, to: &mut Vec<f32>);
    /// Takes numbers from this place on.
    fn take(&mut self, place: usize, numbers: &[f32]);
}
