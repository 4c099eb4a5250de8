//! The scheduler: which tokens of which answers the next step computes.
//!
//! A step takes one token of every answer that decodes, and fills what is left of its budget with chunks of prompts,
//! oldest first (continuous batching: Yu et al. 2022, "Orca"; chunked prefill beside decodes: Agrawal et al. 2024,
//! arXiv:2403.02310). When the cache runs out, first the blocks that no answer holds go, then the youngest answer of
//! the lowest priority is parked: it gives its blocks back, keeps its text, and is computed again when there is room.
//! An answer's logits are the same bits in any company, so none of this changes what anyone reads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use autarky_graph::BLOCK;
use autarky_text::Tokenizer;

use super::answer::{Answer, Bounds};
use super::hearing::{After, Hearing, Share, guarded, hear};
use super::job::{Job, JobError, JobEvent, JobListener, Usage};
use super::latency::Latencies;
use super::prefix::PrefixCache;
use super::queue::Queue;
use super::{Counters, ServiceOptions};
use crate::engine::Engine;

/// A job as it was handed in.
pub(super) struct Submitted {
    pub(super) id: u64,
    pub(super) job: Job,
    pub(super) listener: JobListener,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) since: Instant,
}

impl Submitted {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A job that is being computed.
pub(super) struct Active {
    pub(super) submitted: Submitted,
    pub(super) usage: Usage,
    pub(super) began: Instant,
    /// When its first token was chosen.
    pub(super) first: Option<Instant>,
    /// Answers that have not ended.
    pub(super) left: usize,
}

/// What may be told and done about the jobs of one engine.
pub(super) struct Scheduler {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    options: ServiceOptions,
    vocabulary: usize,
    prefix: PrefixCache,
    queue: Queue<Submitted>,
    jobs: BTreeMap<u64, Active>,
    /// Every answer that has not ended: those of higher priority first, then the older.
    answers: Vec<Answer>,
    counters: Counters,
    latencies: Latencies,
}

impl Scheduler {
    pub(super) fn new(engine: Engine, tokenizer: Arc<Tokenizer>, options: ServiceOptions) -> Scheduler {
        let vocabulary = engine.vocabulary().min(tokenizer.vocab_size());
        let blocks = engine.blocks().0;
        Scheduler {
            engine,
            tokenizer,
            options,
            vocabulary,
            prefix: PrefixCache::default(),
            queue: Queue::new(),
            jobs: BTreeMap::new(),
            answers: Vec::new(),
            counters: Counters { blocks, ..Counters::default() },
            latencies: Latencies::default(),
        }
    }

    pub(super) fn push(&mut self, submitted: Submitted) {
        self.queue.push(submitted.job.client, submitted.job.priority, submitted);
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.jobs.is_empty()
    }

    pub(super) fn counters(&self) -> Counters {
        let (total, free) = self.engine.blocks();
        // Looks at every known block.
        let cached = self.prefix.idle();
        Counters {
            running: self.jobs.len(),
            waiting: self.queue.len(),
            blocks: total,
            blocks_cached: cached,
            blocks_used: total - free - cached,
            ..self.counters
        }
    }

    pub(super) fn latencies(&self) -> Latencies {
        self.latencies
    }

    /// Ends every job: the service stops.
    pub(super) fn stop(&mut self) {
        self.answers.clear();
        let waiting = self.queue.remove(|_| true);
        let running = std::mem::take(&mut self.jobs).into_values().map(|a| a.submitted);
        for mut submitted in waiting.into_iter().chain(running) {
            self.counters.failed += 1;
            hear(&mut submitted.listener, JobEvent::Failed(JobError::Stopped));
        }
    }

    /// One step over whatever is there to compute.
    pub(super) fn step(&mut self) {
        self.sweep();
        self.admit();
        let plan = self.compose();
        if !plan.is_empty() {
            self.run(&plan);
        }
    }

    /// Lets go of jobs that nobody waits for any more.
    fn sweep(&mut self) {
        let gone = self.queue.remove(Submitted::is_cancelled).len();
        let cancelled = self.jobs.iter().filter(|(_, a)| a.submitted.is_cancelled()).map(|(id, _)| *id);
        let cancelled: Vec<u64> = cancelled.collect();
        self.counters.cancelled += (gone + cancelled.len()) as u64;
        cancelled.into_iter().for_each(|id| drop(self.remove(id)));
    }

    /// Takes a job and its answers out.
    fn remove(&mut self, id: u64) -> Option<Active> {
        for answer in self.answers.extract_if(.., |a| a.job == id) {
            self.prefix.touch(&answer.chain);
        }
        let active = self.jobs.remove(&id)?;
        self.queue.left(active.submitted.job.client);
        Some(active)
    }

    /// Lets parked answers go on, then begins waiting jobs, as far as there is room.
    fn admit(&mut self) {
        if self.queue.len() == 0 && self.answers.iter().all(|a| !a.parked) {
            return;
        }
        // What every running answer may need for its next tokens.
        let mut spare = self.engine.blocks().1 + self.prefix.idle();
        spare = spare.saturating_sub(self.answers.iter().filter(|a| !a.parked).count());
        for i in 0..self.answers.len() {
            let answer = &mut self.answers[i];
            if !answer.parked {
                continue;
            }
            let needed = answer.sequence.lacks(answer.sequence.tokens().len() + 1);
            // The first has the whole cache to itself if it must.
            if needed > spare && i > 0 {
                return;
            }
            spare = spare.saturating_sub(needed);
            answer.parked = false;
        }
        let mut slots: usize = self.jobs.values().map(|a| a.left).sum();
        while let Some(next) = self.queue.peek() {
            let needed = (next.job.prompt.len() + 1).div_ceil(BLOCK) + next.job.choices;
            let room = slots + next.job.choices <= self.options.sequences;
            if !room || (needed > spare && !self.answers.is_empty()) {
                return;
            }
            let Some(submitted) = self.queue.pop() else { return };
            slots += submitted.job.choices;
            spare = spare.saturating_sub(needed);
            self.begin(submitted);
        }
    }

    fn begin(&mut self, mut submitted: Submitted) {
        let (id, client, now) = (submitted.id, submitted.job.client, Instant::now());
        let made = guarded(|| Answer::new(id, 0, &submitted.job, &self.tokenizer));
        let mut answer = match made {
            Ok(answer) => answer,
            Err(error) => {
                self.queue.left(client);
                self.counters.failed += 1;
                hear(&mut submitted.listener, JobEvent::Failed(error));
                return;
            }
        };
        let known = answer.may_skip().then(|| self.prefix.extend(&mut answer.sequence, &mut answer.chain));
        let cached = known.unwrap_or(0);
        self.counters.cached += cached as u64;
        let waited = now - submitted.since;
        let prompt = submitted.job.prompt.len();
        let usage = Usage { prompt, cached, waited, ..Usage::default() };
        let left = submitted.job.choices;
        let goes_on = hear(&mut submitted.listener, JobEvent::Started { cached, waited });
        self.jobs.insert(id, Active { submitted, usage, began: now, first: None, left });
        self.insert(answer);
        if !goes_on {
            self.cancel(id);
        }
    }

    fn cancel(&mut self, id: u64) {
        self.counters.cancelled += 1;
        self.remove(id);
    }

    /// Puts an answer in its place.
    fn insert(&mut self, answer: Answer) {
        let rank = |a: &Answer| {
            let priority = self.jobs.get(&a.job).map_or(0, |j| j.submitted.job.priority);
            (Reverse(priority), a.job, a.choice)
        };
        let place = self.answers.partition_point(|a| rank(a) < rank(&answer));
        self.answers.insert(place, answer);
    }

    /// Which answers the next step computes, and how many tokens of each. Their blocks are taken.
    fn compose(&mut self) -> Vec<(usize, usize)> {
        let mut plan = Vec::new();
        self.guess();
        for i in 0..self.answers.len() {
            let answer = &self.answers[i];
            let tokens = answer.pending();
            if !answer.parked && answer.is_decoding() && self.make_room(i, tokens) {
                plan.push((i, tokens));
            }
        }
        // An answer that gave its blocks to an older one is not computed.
        plan.retain(|(i, _)| !self.answers[*i].parked);
        let decoded: usize = plan.iter().map(|(_, tokens)| tokens).sum();
        let most =
            if plan.is_empty() { self.engine.chunk() } else { self.options.beside.min(self.engine.chunk()) };
        let mut budget = most.min(self.engine.max_tokens() - decoded);
        let mut outputs = self.engine.max_outputs() - decoded;
        let mut upcoming = HashSet::new();
        for i in 0..self.answers.len() {
            let answer = &mut self.answers[i];
            if answer.parked || answer.is_decoding() || budget == 0 {
                continue;
            }
            // Another may have computed more of this prompt meanwhile, or be about to.
            if answer.may_skip() {
                let gained = self.prefix.extend(&mut answer.sequence, &mut answer.chain);
                if let (true, Some(active)) = (answer.chosen() == 0, self.jobs.get_mut(&answer.job)) {
                    active.usage.cached += gained;
                    self.counters.cached += gained as u64;
                }
                let next = self.prefix.upcoming(&answer.sequence, &answer.chain);
                if next.is_some_and(|key| !upcoming.insert(key)) {
                    continue;
                }
            }
            let mut tokens = answer.pending().min(budget);
            if answer.outputs(tokens) > outputs {
                tokens = tokens.min(outputs);
            }
            if tokens > 0 && self.make_room(i, tokens) {
                budget -= tokens;
                outputs = outputs.saturating_sub(self.answers[i].outputs(tokens));
                plan.push((i, tokens));
            }
        }
        plan.retain(|(i, _)| !self.answers[*i].parked);
        plan.sort_unstable();
        plan
    }

    /// Guesses at the next tokens of an answer that is alone: beside others a row more costs what it brings.
    fn guess(&mut self) {
        let [answer] = &mut self.answers[..] else { return };
        let Some(active) = self.jobs.get(&answer.job) else { return };
        if answer.is_decoding() && !answer.parked && self.queue.len() == 0 {
            let room = self.engine.max_outputs().min(self.engine.max_tokens()) - 1;
            answer.guess(&active.submitted.job, room, self.engine.context());
            let wanted = answer.sequence.lacks(answer.sequence.tokens().len());
            if wanted > self.engine.blocks().1 {
                answer.unguess();
            }
        }
    }

    /// Takes the blocks that answer `i` needs for `tokens` more tokens: free ones, then those that only the prefix
    /// cache keeps, then those of younger answers. Says whether it has them; else it waits, or is parked.
    fn make_room(&mut self, i: usize, tokens: usize) -> bool {
        loop {
            let sequence = &self.answers[i].sequence;
            let positions = sequence.cached() + tokens;
            let lacking = sequence.lacks(positions);
            self.prefix.evict(lacking, self.engine.pool());
            if self.engine.reserve(&mut self.answers[i].sequence, positions) {
                return true;
            }
            let younger = |a: &Answer| !a.parked && a.sequence.cached() > 0;
            match self.answers.iter().rposition(younger) {
                Some(victim) if victim > i => self.park(victim),
                _ if self.answers[i].is_decoding() => {
                    self.park(i);
                    return false;
                }
                _ => return false,
            }
        }
    }

    fn park(&mut self, i: usize) {
        let answer = &mut self.answers[i];
        self.prefix.touch(&answer.chain);
        answer.park();
        self.counters.preempted += 1;
    }

    /// Computes the plan, and lets every answer whose tokens are all computed choose the next.
    fn run(&mut self, plan: &[(usize, usize)]) {
        let begin = Instant::now();
        let mut work = Vec::with_capacity(plan.len());
        let mut shares = Vec::with_capacity(plan.len());
        let mut planned = plan.iter().copied().peekable();
        for (i, answer) in self.answers.iter_mut().enumerate() {
            let Some((_, tokens)) = planned.next_if(|(at, _)| *at == i) else { continue };
            let outputs = answer.outputs(tokens);
            shares.push(Share { answer: i, tokens, outputs });
            work.push(answer.work(tokens));
        }
        let (width, context) = (self.engine.vocabulary(), self.engine.context());
        let engine = &mut self.engine;
        let computed = guarded(|| Ok(engine.step(&mut work).map(|_| ())?));
        drop(work);
        self.counters.steps += 1;
        match computed {
            Ok(()) => {
                let hearing = Hearing {
                    jobs: &mut self.jobs,
                    prefix: &mut self.prefix,
                    queue: &mut self.queue,
                    counters: &mut self.counters,
                    tokenizer: &self.tokenizer,
                    bounds: Bounds { width, vocabulary: self.vocabulary, context },
                    after: After::default(),
                };
                let after = hearing.take(&mut self.answers, &shares, &self.engine, begin.elapsed());
                self.settle(after);
            }
            Err(error) => {
                let mut jobs: Vec<u64> = shares.iter().map(|s| self.answers[s.answer].job).collect();
                jobs.dedup();
                let what = error.to_string();
                let mut first = Some(error);
                for id in jobs {
                    let error = first.take().unwrap_or_else(|| JobError::Step(what.clone()));
                    self.fail(id, error);
                }
            }
        }
    }

    /// What follows from a step for the lists of jobs and answers.
    fn settle(&mut self, after: After) {
        after.siblings.into_iter().for_each(|answer| self.insert(answer));
        for answer in self.answers.extract_if(.., |a| after.ended.contains(&(a.job, a.choice))) {
            self.prefix.touch(&answer.chain);
        }
        for id in after.unwanted {
            self.cancel(id);
        }
        for (id, error) in after.failed {
            self.fail(id, error);
        }
        for id in after.done {
            if let Some(mut active) = self.remove(id) {
                self.counters.finished += 1;
                self.latencies.add(&active.usage);
                hear(&mut active.submitted.listener, JobEvent::Finished(active.usage));
            }
        }
    }

    fn fail(&mut self, id: u64, error: JobError) {
        if let Some(mut active) = self.remove(id) {
            self.counters.failed += 1;
            hear(&mut active.submitted.listener, JobEvent::Failed(error));
        }
    }
}
