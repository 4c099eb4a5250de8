//! Guesses at what comes next, taken from the text itself, so that one step can compute several tokens.
//!
//! Where the last tokens were written before, what followed them then is the guess (prompt lookup decoding, Saxena
//! 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>; an n-gram model of the sequence's own text in place
//! of the draft model of Leviathan et al. 2023, arXiv:2211.17192). One step then computes the last token and the
//! guesses after it, and a token is drawn from each position's logits as long as the guesses before it were drawn,
//! too. Logits are the same bits in any batch and every token is drawn once from the logits of its own prefix, so the
//! answer is the same with guesses and without, at any temperature; only time is won or lost.
//!
//! Whether time is won is measured: the chance that a guess comes true, for each length of the match that it was
//! taken from (guesses are made and compared even when none are computed), and the time of a step by its rows. As
//! many guesses are computed as make the most of a second.

use std::time::Duration;

/// Whether steps compute guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Speculation {
    /// As many as pay by what was measured so far.
    #[default]
    Measured,
    /// As many as there are, up to [`Speculation::MOST`].
    Always,
    /// None.
    Off,
}

impl Speculation {
    /// Guesses in one step at most. An engine whose steps give logits of fewer positions than one more than this
    /// ([`Options::outputs`](crate::Options)) computes fewer.
    pub const MOST: usize = 15;
}

/// Tokens of a match that make no further difference.
const LONGEST: usize = 8;
/// Tokens of the shortest match that guesses are taken from.
const SHORTEST: usize = 2;
/// Weight of the newest observation in the averages.
const NEW: f64 = 0.1;
/// What a row beyond the first costs of a step's time until it was measured: little, since weights are read once.
const ROW: f64 = 0.1;
/// By how much a step must be the better one: measurements are not exact.
const MARGIN: f64 = 1.05;

/// Makes guesses, and learns from what came of them.
#[derive(Debug)]
pub(crate) struct Speculator {
    mode: Speculation,
    /// Chance that a guess comes true, by the tokens that matched before it.
    chance: [f64; LONGEST + 1],
    /// Seconds of a step with one row.
    single: Option<f64>,
    /// Seconds of each row beyond the first, as a share of `single`.
    row: f64,
    guesses: Vec<u32>,
    matched: usize,
    /// How many of the guesses are computed.
    taken: usize,
}

impl Speculator {
    pub(crate) fn new(mode: Speculation) -> Speculator {
        Speculator {
            mode,
            chance: [0.5; LONGEST + 1],
            single: None,
            row: ROW,
            guesses: Vec::with_capacity(Speculation::MOST),
            matched: 0,
            taken: 0,
        }
    }

    /// Guesses to compute after `tokens`, at most `room`.
    pub(crate) fn guess(&mut self, tokens: &[u32], room: usize) -> &[u32] {
        self.guesses.clear();
        self.taken = 0;
        if self.mode != Speculation::Off {
            self.matched = look_up(tokens, Speculation::MOST, &mut self.guesses);
            let most = room.min(self.guesses.len());
            self.taken = match self.mode {
                Speculation::Always => most,
                _ => self.worth(most),
            };
        }
        self.taken()
    }

    /// The guesses that are computed.
    pub(crate) fn taken(&self) -> &[u32] {
        &self.guesses[..self.taken]
    }

    /// Computes fewer guesses than it said.
    pub(crate) fn give_up(&mut self) {
        self.taken = 0;
    }

    /// How many of the first `most` guesses give the most tokens a second.
    fn worth(&self, most: usize) -> usize {
        if self.single.is_none() {
            return 0;
        }
        let (mut best, mut count) = (MARGIN, 0);
        let (mut tokens, mut chance) = (1.0, 1.0);
        for n in 1..=most {
            chance *= self.chance[self.class(n - 1)];
            tokens += chance;
            let rate = tokens / (1.0 + self.row * n as f64);
            if rate > best {
                (best, count) = (rate, n);
            }
        }
        count
    }

    /// The class of guess `index`: guesses before it that came true lengthen the match.
    fn class(&self, index: usize) -> usize {
        (self.matched + index).min(LONGEST)
    }

    /// Learns that `token` stands where guess `index` would, and says whether that guess was computed and is right.
    pub(crate) fn came(&mut self, index: usize, token: u32) -> bool {
        let Some(&guess) = self.guesses.get(index) else { return false };
        let chance = &mut self.chance[(self.matched + index).min(LONGEST)];
        *chance += NEW * (f64::from(u8::from(guess == token)) - *chance);
        index < self.taken && guess == token
    }

    /// Learns how long the step with the guesses took.
    pub(crate) fn took(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        match (self.taken, self.single) {
            (0, None) => self.single = Some(seconds),
            (0, Some(single)) => {
                self.single = Some(single + NEW * (seconds - single));
                // A cost that was overestimated, because something else ran meanwhile, must not stay for ever.
                self.row += 0.01 * (ROW - self.row).min(0.0);
            }
            (n, Some(single)) if single > 0.0 => {
                let row = ((seconds / single - 1.0) / n as f64).clamp(0.0, 2.0);
                self.row += 3.0 * NEW * (row - self.row);
            }
            _ => {}
        }
    }
}

/// What followed the longest earlier match of the last tokens, the newest of equals, `most` tokens of it behind `out`;
/// says how many tokens matched ([`LONGEST`] at most), or 0 when there is none. A text that repeats itself right up to
/// its end goes on repeating.
fn look_up(tokens: &[u32], most: usize, out: &mut Vec<u32>) -> usize {
    let Some((last, before)) = tokens.split_last() else { return 0 };
    let (mut longest, mut start) = (SHORTEST - 1, None);
    for (at, _) in before.iter().enumerate().rev().filter(|(_, token)| *token == last) {
        let pairs = before[..at].iter().rev().zip(before.iter().rev());
        let length = 1 + pairs.take(LONGEST - 1).take_while(|(a, b)| a == b).count();
        if length > longest {
            (longest, start) = (length, Some(at + 1));
            if length == LONGEST {
                break;
            }
        }
    }
    let Some(start) = start else { return 0 };
    for at in start..start + most {
        let next = match tokens.get(at) {
            Some(token) => *token,
            None => out[at - tokens.len()],
        };
        out.push(next);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(tokens: &[u32], most: usize) -> (usize, Vec<u32>) {
        let mut out = Vec::new();
        (look_up(tokens, most, &mut out), out)
    }

    #[test]
    fn guesses_follow_the_longest_match_and_the_newest_of_equals() {
        assert_eq!(looked_up(&[], 3), (0, vec![]));
        assert_eq!(looked_up(&[1, 2, 3], 3), (0, vec![]), "nothing was written before");
        assert_eq!(looked_up(&[2, 9, 2], 3), (0, vec![]), "one token is no match");
        assert_eq!(looked_up(&[1, 2, 7, 8, 1, 2], 2), (2, vec![7, 8]));
        assert_eq!(looked_up(&[1, 2, 7, 1, 2, 8, 1, 2], 1), (2, vec![8]), "the newest");
        assert_eq!(looked_up(&[5, 1, 2, 7, 1, 2, 8, 5, 1, 2], 1), (3, vec![7]), "the longest");
        assert_eq!(looked_up(&[4, 3, 4, 3], 5), (2, vec![4, 3, 4, 3, 4]), "repetition goes on");
        let long: Vec<u32> = (0..20).chain(0..20).collect();
        assert_eq!(looked_up(&long[..30], 2), (LONGEST, vec![10, 11]));
    }

    /// A text in which each token is followed by the same one.
    const TURNING: [u32; 8] = [1, 2, 3, 4, 1, 2, 3, 4];

    /// Steps of which each row beyond the first costs `row` of a single one, and whose guesses are right or wrong.
    fn taught(row: f64, right: bool) -> Speculator {
        let mut s = Speculator::new(Speculation::Measured);
        for _ in 0..100 {
            let n = s.guess(&TURNING, Speculation::MOST).len();
            s.took(Duration::from_secs_f64(0.01 * (1.0 + row * n as f64)));
            let token = if right { 1 } else { 9 };
            if s.came(0, token) {
                (1..=n).take_while(|i| s.came(*i, TURNING[i % 4])).count();
            }
        }
        s
    }

    #[test]
    fn guesses_are_computed_where_they_pay() {
        assert_eq!(taught(0.05, true).guess(&TURNING, 99).len(), Speculation::MOST, "cheap and right");
        assert_eq!(taught(0.05, true).guess(&TURNING, 3).len(), 3, "no more than there is room for");
        assert_eq!(taught(0.05, false).guess(&TURNING, 99).len(), 0, "wrong");
        assert_eq!(taught(1.5, true).guess(&TURNING, 99).len(), 0, "dearer than a step");
        assert_eq!(Speculator::new(Speculation::Measured).guess(&TURNING, 9).len(), 0, "not measured yet");
        assert_eq!(Speculator::new(Speculation::Off).guess(&TURNING, 9).len(), 0);
        assert_eq!(Speculator::new(Speculation::Always).guess(&TURNING, 9).len(), 9);
    }

    #[test]
    fn guesses_that_begin_to_come_true_are_noticed_without_computing_them() {
        let mut s = taught(0.05, false);
        for _ in 0..30 {
            s.guess(&TURNING, 99);
            s.came(0, 1);
        }
        assert!(!s.guess(&TURNING, 99).is_empty());
    }
}
