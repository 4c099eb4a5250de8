//! Who is next: fair among clients, whatever number of jobs each of them sends.
//!
//! Every client has a counter of the work that was done for it, and of the clients that wait the one with the lowest is
//! served (virtual token counters: Sheng et al. 2024, "Fairness in Serving Large Language Models", arXiv:2401.00588). A
//! client that comes back starts at the lowest counter of those that are there, so that nobody saves up a claim.

use std::collections::HashMap;

/// What a generated token counts beside one of the prompt (Sheng et al. 2024, section 5).
const GENERATED: f64 = 2.0;

/// A job that waits.
#[derive(Debug)]
struct Waiting<T> {
    client: u64,
    priority: i32,
    item: T,
}

/// The jobs that wait, and what was done for whom.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// In order of arrival.
    waiting: Vec<Waiting<T>>,
    /// Work done for each client that has jobs, waiting or running.
    served: HashMap<u64, Client>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    counter: f64,
    /// Jobs that wait or run.
    jobs: usize,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue { waiting: Vec::new(), served: HashMap::new() }
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A job arrives.
    pub(super) fn push(&mut self, client: u64, priority: i32, item: T) {
        let least = self.served.values().map(|c| c.counter).min_by(f64::total_cmp).unwrap_or(0.0);
        let entry = self.served.entry(client).or_insert(Client { counter: least, jobs: 0 });
        entry.jobs += 1;
        self.waiting.push(Waiting { client, priority, item });
    }

    /// The place of the job that is next: of the highest priority, of the client least served, the oldest.
    fn next(&self) -> Option<usize> {
        let rank = |(place, w): &(usize, &Waiting<T>)| {
            let counter = self.served.get(&w.client).map_or(0.0, |c| c.counter);
            (std::cmp::Reverse(w.priority), counter, *place)
        };
        let order = |a: &(usize, &Waiting<T>), b: &(usize, &Waiting<T>)| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        };
        self.waiting.iter().enumerate().min_by(order).map(|(place, _)| place)
    }

    /// The job that is next.
    pub(super) fn peek(&self) -> Option<&T> {
        Some(&self.waiting.get(self.next()?)?.item)
    }

    /// Takes the job that is next. Its client counts as having a job until [`Queue::left`].
    pub(super) fn pop(&mut self) -> Option<T> {
        Some(self.waiting.remove(self.next()?).item)
    }

    /// Takes out the waiting jobs that `drop_it` names.
    pub(super) fn remove(&mut self, mut drop_it: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        let mut place = 0;
        while place < self.waiting.len() {
            if drop_it(&self.waiting[place].item) {
                let w = self.waiting.remove(place);
                self.left(w.client);
                gone.push(w.item);
            } else {
                place += 1;
            }
        }
        gone
    }

    /// Counts work done for a client.
    pub(super) fn charge(&mut self, client: u64, prompt: usize, generated: usize) {
        if let Some(c) = self.served.get_mut(&client) {
            c.counter += prompt as f64 + GENERATED * generated as f64;
        }
    }

    /// A job of the client has ended.
    pub(super) fn left(&mut self, client: u64) {
        if let Some(c) = self.served.get_mut(&client) {
            c.jobs = c.jobs.saturating_sub(1);
            if c.jobs == 0 {
                self.served.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_many_jobs_does_not_hold_up_another() {
        let mut q = Queue::new();
        (0..6).for_each(|i| q.push(1, 0, ("a", i)));
        let mut order = Vec::new();
        for _ in 0..2 {
            order.push(q.pop().unwrap());
            q.charge(1, 100, 50);
        }
        (0..2).for_each(|i| q.push(2, 0, ("b", i)));
        while let Some(job) = q.pop() {
            q.charge(if job.0 == "a" { 1 } else { 2 }, 100, 50);
            order.push(job);
        }
        let clients: String = order.iter().map(|j| j.0).collect();
        assert_eq!(clients, "aaababaa", "they take turns: {order:?}");
    }

    #[test]
    fn priority_goes_before_fairness_and_age_decides_between_equals() {
        let mut q = Queue::new();
        q.push(1, 0, 'a');
        q.push(2, 0, 'b');
        q.push(3, 1, 'c');
        assert_eq!(q.peek(), Some(&'c'));
        assert_eq!((q.pop(), q.pop(), q.pop(), q.pop()), (Some('c'), Some('a'), Some('b'), None));
    }

    #[test]
    fn a_client_that_left_saves_up_no_claim_and_owes_nothing() {
        let mut q = Queue::new();
        q.push(1, 0, 0);
        q.push(2, 0, 0);
        assert!(q.pop().is_some() && q.pop().is_some());
        q.charge(1, 1000, 0);
        q.charge(2, 10, 0);
        q.left(2);
        q.push(1, 0, 1);
        q.push(2, 0, 2);
        assert_eq!(q.pop(), Some(1), "2 came back at the counter of 1, whose job is the elder");
    }

    #[test]
    fn what_is_taken_out_was_not_served() {
        let mut q = Queue::new();
        (0..5).for_each(|i| q.push(i % 2, 0, i));
        assert_eq!(q.remove(|i| *i > 2), [3, 4]);
        assert_eq!((q.len(), q.pop(), q.pop(), q.pop()), (3, Some(0), Some(1), Some(2)));
    }
}
