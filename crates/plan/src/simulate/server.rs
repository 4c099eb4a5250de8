//! One replica: its queue, its sequences, and the steps that it is in.

use std::collections::VecDeque;

use super::error::SimulateError;
use super::load::Request;
use super::service::Replica;
use super::step::{Step, StepTime};
use super::stretch::Stretch;

/// A request that waits, by its place among the requests played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) request: usize,
    /// Tokens that it was already given, before it was preempted or moved here.
    pub(super) generated: u32,
    /// Whether its keys and values come with it, so that nothing is prefilled.
    pub(super) moved: bool,
}

/// A request on the replica.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    request: usize,
    /// Tokens answered before it decodes here.
    generated: u32,
    output: u32,
    /// Tokens yet to prefill; it decodes once there are none.
    prefill_left: u64,
    /// Tokens to prefill in the current step.
    chunk: u64,
    /// Tokens in the cache when it joined the decoding ones; while it prefills, those that are in the cache now.
    cached: u64,
    /// The most tokens that it ever has in the cache here.
    most: u64,
    /// The replica's count of decode steps when it joined, and that with which it ends.
    joined: u64,
    finish: u64,
}

/// The steps that a replica is in.
#[derive(Clone, Copy, Debug)]
struct Run {
    start_s: f64,
    stretch: Stretch,
    /// Whether the decoding sequences decode, rather than wait for prompts.
    decodes: bool,
    /// Whether nothing is prefilled, so that any number of steps may be taken.
    only_decodes: bool,
    start_blocks: u64,
    end_blocks: u64,
}

/// How a request leaves a replica.
#[derive(Clone, Copy, Debug)]
pub(super) enum Departure {
    /// Answered.
    Finished(usize),
    /// Prefilled on a replica that does nothing else.
    Prefilled(usize),
}

/// What happened to sequences at a boundary between steps.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    pub(super) admitted: Vec<usize>,
    pub(super) preempted: Vec<usize>,
    pub(super) first_token: Vec<usize>,
    pub(super) departed: Vec<Departure>,
}

/// Sums over a replica's time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) busy_s: f64,
    /// Blocks in use times seconds.
    pub(super) block_s: f64,
    pub(super) peak_blocks: u64,
    pub(super) steps: u64,
}

/// One replica.
#[derive(Debug)]
pub(super) struct Server {
    replica: Replica,
    tokens_per_step: f64,
    only_prefills: bool,
    /// Steps that are taken at once at most.
    longest: u64,
    queue: VecDeque<Waiting>,
    /// In the order of admission.
    running: Vec<Sequence>,
    decode_steps: u64,
    /// Blocks of prefilled sequences that are being moved away.
    moving_blocks: u64,
    run: Option<Run>,
    /// Changes with every run and cut, so that the end of a run that was cut is known to be void.
    pub(super) version: u64,
    pub(super) totals: Totals,
}

impl Server {
    pub(super) fn new(replica: Replica, tokens_per_step: f64, only_prefills: bool, longest: u64) -> Server {
        Server {
            replica,
            tokens_per_step,
            only_prefills,
            longest,
            queue: VecDeque::new(),
            running: Vec::new(),
            decode_steps: 0,
            moving_blocks: 0,
            run: None,
            version: 0,
            totals: Totals::default(),
        }
    }

    /// Requests that it has not finished.
    pub(super) fn load(&self) -> usize {
        self.queue.len() + self.running.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.run.is_none()
    }

    /// Takes a request into the queue. If the run is shortened to let it in, its new end.
    pub(super) fn enqueue(&mut self, waiting: Waiting, now: f64) -> Option<f64> {
        let may_enter = self.queue.is_empty() && self.running.len() < self.replica.max_sequences as usize;
        self.queue.push_back(waiting);
        let run = self.run.as_mut().filter(|run| may_enter && run.only_decodes)?;
        let shorter = run.stretch.cut(now - run.start_s);
        self.version += u64::from(shorter);
        shorter.then_some(run.start_s + run.stretch.seconds())
    }

    /// Gives back the blocks of a prefilled sequence that has been moved.
    pub(super) fn moved_away(&mut self, request: &Request) {
        let blocks = self.replica.blocks_of(request.input.into());
        self.moving_blocks = self.moving_blocks.saturating_sub(blocks);
    }

    /// Whether a request of a shared queue could start here as soon as the current steps end.
    pub(super) fn has_room(&self, waiting: Waiting, requests: &[Request]) -> bool {
        let used = self.run.map_or_else(|| self.blocks_after(1), |run| run.end_blocks) + self.moving_blocks;
        let queued =
            self.queue.iter().chain([&waiting]).map(|w| self.blocks_to_start(w, requests)).sum::<u64>();
        self.load() < self.replica.max_sequences as usize && used + queued <= self.replica.blocks()
    }

    /// Tokens that a request's sequence starts with in the cache, those included that are yet to be prefilled.
    fn tokens_to_start(waiting: &Waiting, requests: &[Request]) -> u64 {
        let input = requests.get(waiting.request).map_or(0, |request| u64::from(request.input));
        input + u64::from(waiting.generated) - u64::from(waiting.moved)
    }

    fn blocks_to_start(&self, waiting: &Waiting, requests: &[Request]) -> u64 {
        // One that was moved decodes at once, and grows.
        let grown = if waiting.moved { self.grown(1) } else { 0 };
        let most = requests.get(waiting.request).map_or(0, Request::most_tokens);
        self.replica.blocks_of(Self::tokens_to_start(waiting, requests).saturating_add(grown).min(most))
    }

    /// Tokens that a sequence gains in so many decode steps, rounded up.
    fn grown(&self, steps: u64) -> u64 {
        (steps as f64 * self.tokens_per_step).ceil() as u64
    }

    /// Blocks in use after so many more decode steps, without those that are being moved.
    fn blocks_after(&self, steps: u64) -> u64 {
        let held = |s: &Sequence| match s.prefill_left {
            0 => s.most.min(s.cached.saturating_add(self.grown(self.decode_steps + steps - s.joined))),
            left => s.cached + left,
        };
        self.running.iter().map(|s| self.replica.blocks_of(held(s))).sum()
    }

    fn fits(&self, blocks: u64) -> bool {
        blocks + self.moving_blocks <= self.replica.blocks()
    }

    /// Between steps: preempts, admits, and begins the next steps. Their end, or none if there is nothing to do.
    pub(super) fn begin<S: StepTime + ?Sized>(
        &mut self,
        now: f64,
        requests: &[Request],
        time: &S,
        boundary: &mut Boundary,
    ) -> Result<Option<f64>, SimulateError> {
        let preempts = self.preempt(boundary);
        let prefill = self.prefill_and_admit(requests, !preempts, boundary);
        let start_blocks = self.blocks_after(0);
        let decodes = self.replica.chunked || prefill.prefill_tokens == 0;
        let decoding = self.decoding();
        let (stretch, end_blocks) = if prefill.prefill_tokens > 0 {
            let decode = if decodes { self.decode_step(decoding, 0) } else { Step::default() };
            let step = Step { decoding: decode.decoding, cached_tokens: decode.cached_tokens, ..prefill };
            (Stretch::one(step.seconds(time)?), self.blocks_after(u64::from(decodes)))
        } else if decoding > 0 {
            let most = self.steps_without_event();
            let cached = |k| self.decode_step(decoding, k).cached_tokens;
            let stretch = Stretch::decode(time, decoding, most, cached)?;
            (stretch, self.blocks_after(stretch.steps))
        } else {
            return Ok(None);
        };
        let only_decodes = prefill.prefill_tokens == 0;
        self.run = Some(Run { start_s: now, stretch, decodes, only_decodes, start_blocks, end_blocks });
        self.version += 1;
        Ok(Some(now + stretch.seconds()))
    }

    fn decoding(&self) -> u64 {
        self.running.iter().filter(|s| s.prefill_left == 0).count() as u64
    }

    /// The decode step after `later` more.
    fn decode_step(&self, decoding: u64, later: u64) -> Step {
        let decoding_ones = self.running.iter().filter(|s| s.prefill_left == 0);
        let (held, steps) = decoding_ones
            .fold((0, 0), |(held, steps), s| (held + s.cached, steps + self.decode_steps + later - s.joined));
        let gained = (steps as f64 * self.tokens_per_step).round() as u64;
        Step { decoding, cached_tokens: gained.saturating_add(held), ..Step::default() }
    }

    /// Throws out the youngest sequences until every decoding one can grow by a step.
    fn preempt(&mut self, boundary: &mut Boundary) -> bool {
        let mut any = false;
        while self.running.len() > 1 && !self.fits(self.blocks_after(1)) {
            let Some(youngest) = self.running.pop() else { break };
            let steps = if youngest.prefill_left == 0 { self.decode_steps - youngest.joined } else { 0 };
            let gained = (steps as f64 * self.tokens_per_step) as u32;
            let generated = youngest.generated.saturating_add(gained).min(youngest.output.saturating_sub(1));
            let request = youngest.request;
            self.queue.push_front(Waiting { request, generated, moved: false });
            boundary.preempted.push(request);
            any = true;
        }
        any
    }

    /// Divides the step's tokens among prompts, admitting requests in order while there is room for them.
    fn prefill_and_admit(&mut self, requests: &[Request], admit: bool, boundary: &mut Boundary) -> Step {
        let budget = u64::from(self.replica.max_step_tokens);
        let chunked = self.replica.chunked;
        let mut left = if chunked { budget.saturating_sub(self.decoding()) } else { budget };
        let mut prefill = Prefill::default();
        for sequence in self.running.iter_mut().filter(|s| s.prefill_left > 0) {
            prefill.add(sequence, if chunked { left } else { u64::MAX });
            left = left.saturating_sub(sequence.chunk);
        }
        let mut blocks = self.blocks_after(1);
        while admit && left > 0 && self.running.len() < self.replica.max_sequences as usize {
            let Some((waiting, request)) =
                self.queue.front().and_then(|w| Some((*w, requests.get(w.request)?)))
            else {
                break;
            };
            let tokens = Self::tokens_to_start(&waiting, requests);
            let cached = if waiting.moved { tokens } else { request.hit().into() };
            let prefill_left = tokens - cached;
            let needed = self.blocks_to_start(&waiting, requests);
            let too_long = !chunked && prefill_left > left && prefill.tokens > 0;
            if too_long || !self.fits(blocks + needed) {
                break;
            }
            self.queue.pop_front();
            blocks += needed;
            let mut sequence = Sequence {
                request: waiting.request,
                generated: waiting.generated,
                output: request.output,
                prefill_left,
                chunk: 0,
                cached,
                most: request.most_tokens(),
                joined: self.decode_steps,
                finish: 0,
            };
            if prefill_left == 0 {
                sequence.finish = self.finish(&sequence);
                left -= u64::from(chunked);
            } else {
                prefill.add(&mut sequence, if chunked { left } else { u64::MAX });
                left = left.saturating_sub(sequence.chunk);
            }
            self.running.push(sequence);
            boundary.admitted.push(waiting.request);
        }
        prefill.step()
    }

    /// The count of decode steps with which a sequence that decodes from now on has all its tokens.
    fn finish(&self, sequence: &Sequence) -> u64 {
        let left = f64::from(sequence.output.saturating_sub(sequence.generated));
        self.decode_steps + ((left / self.tokens_per_step).ceil() as u64).max(1)
    }

    /// Decode steps until the first sequence has all its tokens, or the cache is full; at least one.
    fn steps_without_event(&self) -> u64 {
        let decoding = self.running.iter().filter(|s| s.prefill_left == 0);
        let finish = decoding.map(|s| s.finish).min().unwrap_or(0);
        let mut most = finish.saturating_sub(self.decode_steps).clamp(1, self.longest.max(1));
        if !self.fits(self.blocks_after(most)) {
            let mut least = 1;
            while least < most {
                let middle = most - (most - least) / 2;
                if self.fits(self.blocks_after(middle)) {
                    least = middle;
                } else {
                    most = middle - 1;
                }
            }
        }
        most
    }

    /// Ends the current steps.
    pub(super) fn end(&mut self, boundary: &mut Boundary) {
        let Some(run) = self.run.take() else { return };
        let steps = run.stretch.steps;
        let decoded = if run.decodes { steps } else { 0 };
        let end_blocks = self.blocks_after(decoded);
        let seconds = run.stretch.seconds();
        let totals = &mut self.totals;
        totals.busy_s += seconds;
        totals.block_s += seconds * (run.start_blocks + end_blocks) as f64 / 2.0;
        totals.peak_blocks = totals.peak_blocks.max(end_blocks);
        totals.steps += steps;
        self.decode_steps += decoded;
        let mut running = std::mem::take(&mut self.running);
        running.retain_mut(|sequence| match self.ended(sequence, boundary) {
            Some(departure) => {
                boundary.departed.push(departure);
                false
            }
            None => true,
        });
        self.running = running;
    }

    /// Gives a sequence what the steps that ended did; how it leaves, if it does.
    fn ended(&mut self, sequence: &mut Sequence, boundary: &mut Boundary) -> Option<Departure> {
        let request = sequence.request;
        if sequence.prefill_left == 0 {
            return (sequence.finish <= self.decode_steps).then_some(Departure::Finished(request));
        }
        sequence.cached += sequence.chunk;
        sequence.prefill_left -= sequence.chunk;
        sequence.chunk = 0;
        if sequence.prefill_left > 0 {
            return None;
        }
        // The step that prefills a prompt's end samples a token.
        if sequence.generated == 0 {
            boundary.first_token.push(request);
        }
        sequence.generated += 1;
        sequence.joined = self.decode_steps;
        sequence.finish = self.finish(sequence);
        if sequence.generated >= sequence.output {
            return Some(Departure::Finished(request));
        }
        if self.only_prefills {
            self.moving_blocks += self.replica.blocks_of(sequence.cached);
            return Some(Departure::Prefilled(request));
        }
        None
    }
}

/// Adds up what a step prefills.
#[derive(Debug, Default)]
struct Prefill {
    tokens: u64,
    /// Sum over the tokens of what their sequences hold already.
    context: f64,
}

impl Prefill {
    fn add(&mut self, sequence: &mut Sequence, most: u64) {
        sequence.chunk = sequence.prefill_left.min(most);
        self.tokens += sequence.chunk;
        self.context += sequence.chunk as f64 * sequence.cached as f64;
    }

    fn step(&self) -> Step {
        let prefill_context = if self.tokens > 0 { self.context / self.tokens as f64 } else { 0.0 };
        Step { prefill_tokens: self.tokens, prefill_context, ..Step::default() }
    }
}
