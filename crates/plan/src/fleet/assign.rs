//! One way for each job.

use super::options::Choice;

/// Plans that are looked at one by one, at most.
const EXACT: f64 = 200_000.0;
/// Rounds of improvement.
const ROUNDS: usize = 200;

/// A job as it is seen here: its priority, and its ways.
pub(super) struct Seat<'a> {
    pub(super) priority: u8,
    pub(super) choices: &'a [Choice],
}

/// For each job the number of its way, or none.
pub(super) type Picks = Vec<Option<usize>>;

/// How good a plan is: jobs done by priority, then less power.
#[derive(Clone, Debug, PartialEq)]
struct Score {
    done: [u32; 10],
    power: f64,
}

impl Score {
    fn beats(&self, other: &Score) -> bool {
        self.done > other.done || self.done == other.done && self.power < other.power - 1e-9
    }
}

fn score(seats: &[Seat<'_>], picks: &Picks) -> Score {
    let mut score = Score { done: [0; 10], power: 0.0 };
    for (seat, pick) in seats.iter().zip(picks) {
        let Some(choice) = pick.and_then(|p| seat.choices.get(p)) else { continue };
        if let Some(done) = score.done.get_mut(usize::from(seat.priority)) {
            *done += 1;
        }
        score.power += choice.power;
    }
    score
}

/// Chips that a plan leaves, or `None` where it takes more than there are.
fn left(counts: &[f64], seats: &[Seat<'_>], picks: &Picks) -> Option<Vec<f64>> {
    let mut left = counts.to_vec();
    for (seat, pick) in seats.iter().zip(picks) {
        if let Some(choice) = pick.and_then(|p| seat.choices.get(p)) {
            take(&mut left, choice)?;
        }
    }
    Some(left)
}

fn take(left: &mut [f64], choice: &Choice) -> Option<()> {
    for part in &choice.parts {
        let there = left.get_mut(part.pool)?;
        *there -= part.chips;
        if *there < -1e-9 {
            return None;
        }
    }
    Some(())
}

/// The best plan that was found, and whether it is the best there is.
pub(super) fn assign(counts: &[f64], seats: &[Seat<'_>]) -> (Picks, bool) {
    let plans: f64 = seats.iter().map(|s| s.choices.len() as f64 + 1.0).product();
    if plans <= EXACT {
        let mut best = None;
        let mut picks = Vec::new();
        every(counts.to_vec(), seats, &mut picks, &mut best);
        return (best.map_or_else(|| vec![None; seats.len()], |(_, picks)| picks), true);
    }
    (improved(counts, seats, greedy(counts, seats)), false)
}

fn every(left: Vec<f64>, seats: &[Seat<'_>], picks: &mut Picks, best: &mut Option<(Score, Picks)>) {
    let Some(seat) = seats.get(picks.len()) else {
        let score = score(seats, picks);
        if best.as_ref().is_none_or(|(b, _)| score.beats(b)) {
            *best = Some((score, picks.clone()));
        }
        return;
    };
    for (i, choice) in seat.choices.iter().enumerate() {
        let mut after = left.clone();
        if take(&mut after, choice).is_some() {
            picks.push(Some(i));
            every(after, seats, picks, best);
            picks.pop();
        }
    }
    picks.push(None);
    every(left, seats, picks, best);
    picks.pop();
}

/// Jobs by priority, each in the way that takes the least of what is there.
fn greedy(counts: &[f64], seats: &[Seat<'_>]) -> Picks {
    let mut order: Vec<usize> = (0..seats.len()).collect();
    order.sort_by_key(|&i| seats.get(i).map_or(u8::MAX, |s| s.priority));
    let mut picks: Picks = vec![None; seats.len()];
    for i in order {
        let Some(seat) = seats.get(i) else { continue };
        let mut best: Option<(f64, usize)> = None;
        for (at, choice) in seat.choices.iter().enumerate() {
            let trial = with(&picks, i, Some(at));
            let share =
                choice.parts.iter().map(|p| p.chips / counts.get(p.pool).copied().unwrap_or(1.0)).sum();
            if left(counts, seats, &trial).is_some() && best.is_none_or(|(b, _)| share < b) {
                best = Some((share, at));
            }
        }
        picks = with(&picks, i, best.map(|(_, at)| at));
    }
    picks
}

fn with(picks: &Picks, at: usize, pick: Option<usize>) -> Picks {
    let mut picks = picks.clone();
    if let Some(there) = picks.get_mut(at) {
        *there = pick;
    }
    picks
}

/// Moves of one job, and of two at once, as long as they help.
fn improved(counts: &[f64], seats: &[Seat<'_>], mut picks: Picks) -> Picks {
    let ways = |i: usize| {
        let choices = seats.get(i).map_or(0, |s| s.choices.len());
        (0..choices).map(Some).chain([None])
    };
    for _ in 0..ROUNDS {
        let mut best = (score(seats, &picks), None);
        let mut look = |trial: Picks| {
            let new = score(seats, &trial);
            if new.beats(&best.0) && left(counts, seats, &trial).is_some() {
                best = (new, Some(trial));
            }
        };
        for i in 0..seats.len() {
            for a in ways(i) {
                let one = with(&picks, i, a);
                for j in i + 1..seats.len() {
                    for b in ways(j) {
                        look(with(&one, j, b));
                    }
                }
                look(one);
            }
        }
        match best.1 {
            Some(better) => picks = better,
            None => break,
        }
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::super::options::Part;
    use super::*;

    fn choice(parts: &[(usize, f64)], power: f64) -> Choice {
        let part = |&(pool, chips): &(usize, f64)| Part {
            pool,
            chip: String::new(),
            chips,
            tokens_per_s: 1.0,
            low: 1.0,
            high: 1.0,
            layout: String::new(),
            rests_on: String::new(),
        };
        Choice { parts: parts.iter().map(part).collect(), power }
    }

    #[test]
    fn a_job_moves_over_for_one_that_can_run_nowhere_else() {
        let (a, b) = ([choice(&[(0, 8.0)], 1.0), choice(&[(1, 8.0)], 2.0)], [choice(&[(0, 8.0)], 1.0)]);
        let seats = [Seat { priority: 1, choices: &a }, Seat { priority: 2, choices: &b }];
        assert_eq!(assign(&[8.0, 8.0], &seats), (vec![Some(1), Some(0)], true));
        let greedy = greedy(&[8.0, 8.0], &seats);
        assert_eq!(greedy, vec![Some(0), None]);
        assert_eq!(improved(&[8.0, 8.0], &seats, greedy), vec![Some(1), Some(0)]);
    }

    #[test]
    fn priority_goes_before_number_and_number_before_power() {
        let (big, small) = ([choice(&[(0, 8.0)], 9.0)], [choice(&[(0, 4.0)], 1.0)]);
        let seats = [
            Seat { priority: 2, choices: &small },
            Seat { priority: 2, choices: &small },
            Seat { priority: 1, choices: &big },
        ];
        assert_eq!(assign(&[8.0], &seats).0, vec![None, None, Some(0)]);
        assert_eq!(assign(&[16.0], &seats).0, vec![Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn many_jobs_are_improved_not_enumerated() {
        let ways = [choice(&[(0, 2.0)], 3.0), choice(&[(1, 2.0)], 2.0), choice(&[(0, 1.0), (1, 1.0)], 1.0)];
        let seats: Vec<Seat<'_>> = (0..20).map(|_| Seat { priority: 1, choices: &ways }).collect();
        let (picks, exact) = assign(&[20.0, 20.0], &seats);
        assert!(!exact && picks.iter().all(Option::is_some));
        assert!(left(&[20.0, 20.0], &seats, &picks).is_some());
    }
}
