//! Ranks that are threads of one process: what tests need of ranks, without MPI.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Ranks, RanksError};

/// What goes to another rank, and what comes from it.
type Line = (Sender<Vec<u8>>, Receiver<Vec<u8>>);

/// A rank that is a thread.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    /// To and from each rank.
    others: Vec<Line>,
}

impl Threads {
    /// So many ranks, each for a thread of its own.
    pub fn new(size: usize) -> Vec<Threads> {
        let mut senders: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
        let mut receivers: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
        for from in &mut senders {
            for to in &mut receivers {
                let (sender, receiver) = channel();
                from.push(sender);
                to.push(receiver);
            }
        }
        let both = senders.into_iter().zip(receivers).enumerate();
        both.map(|(rank, (to, from))| Threads { rank, others: to.into_iter().zip(from).collect() }).collect()
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.others.len()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), RanksError> {
        let (to, from) = &self.others[peer];
        to.send(send.to_vec()).map_err(|_| RanksError::Gone(peer))?;
        let bytes = from.recv().map_err(|_| RanksError::Gone(peer))?;
        if bytes.len() != receive.len() {
            let problem = format!("{} bytes came, {} were expected", bytes.len(), receive.len());
            return Err(RanksError::Exchange { peer, problem });
        }
        receive.copy_from_slice(&bytes);
        Ok(())
    }
}
