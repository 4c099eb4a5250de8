//! The thread pool: its threads stay inside one closure for a whole step.
//!
//! A step of a language model is a few hundred phases of microseconds each. Handing every phase to a general pool
//! costs more than the phase, so here a step is handed over once, and phases are separated by a barrier that spins.
//! Within a phase, every thread has a consecutive share of the work, so that it reads weights as one stream, and takes
//! it piece by piece; whoever is done helps the others, because on shared machines no two cores are equally fast.
//!
//! ```
//! use autarky_cpu::Pool;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! let pool = Pool::new(2);
//! let sum = AtomicUsize::new(0);
//! pool.run(&|worker| {
//!     worker.for_each(100, 8, |range| {
//!         sum.fetch_add(range.sum(), Ordering::Relaxed);
//!     });
//!     worker.barrier();
//!     assert_eq!(sum.load(Ordering::Relaxed), 4950);
//! });
//! ```
//!
//! Waiting is bounded spinning: a thread spins for some microseconds, then yields its core, then naps. On a machine
//! whose cores are taken by others, a spinning thread would otherwise keep the very thread it waits for from running.

use crate::matmul::Scratch;
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker looks for the next step before it parks. Decoding asks for a step every few milliseconds.
const SPIN_BETWEEN_STEPS: Duration = Duration::from_micros(200);
/// How long a thread in a barrier spins before it yields its core between looks.
const SPIN_IN_BARRIER: Duration = Duration::from_micros(50);
/// How long it yields before it naps between looks.
const YIELD_IN_BARRIER: Duration = Duration::from_millis(2);
/// Looks between two readings of the clock.
const LOOKS: u32 = 64;
/// Calls of [`Worker::for_each`] that may lie between two barriers.
const PHASES: usize = 32;
/// Counters of a thread: those of the phases since the last barrier, and those of the phases before it, which are reset
/// meanwhile.
const COUNTERS: usize = 2 * PHASES;

type Job = dyn Fn(&Worker<'_>) + Sync;

/// A value alone on its cache lines (two of them: the prefetcher of x86 fetches pairs).
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    threads: usize,
    /// Number of the step that workers should run; a change of it hands them `job`.
    step: Padded<AtomicU32>,
    /// Workers still inside the current step.
    running: Padded<AtomicUsize>,
    /// Threads that reached the current barrier.
    arrived: Padded<AtomicUsize>,
    /// Barriers passed.
    generation: Padded<AtomicU32>,
    /// For each thread and phase, how many pieces of the thread's share have been taken.
    taken: Box<[Padded<[AtomicUsize; COUNTERS]>]>,
    /// A thread panicked in this step: barriers no longer wait, they unwind.
    broken: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    quit: AtomicBool,
    job: UnsafeCell<Option<*const Job>>,
}

// SAFETY: `job` is written only by the thread inside `Pool::run` while no worker is in a step (`running` is 0), and
// read by workers only after they saw the new value of `step`, which is stored after it with release ordering.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is only used while `Pool::run`, which borrows the closure, has not returned.
unsafe impl Send for Shared {}

/// Thrown through the closure by a barrier when another thread panicked; it is not itself reported.
struct Broken;

/// Threads that run steps together. The thread that calls [`Pool::run`] is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
    /// The caller's scratch; holding it is also what keeps two steps from running at once.
    own: Mutex<Scratch>,
}

impl Pool {
    /// A pool of `threads` threads (at least 1), the caller of [`run`](Pool::run) included: it starts `threads − 1`.
    ///
    /// # Panics
    /// When the operating system refuses to start a thread.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            threads,
            step: Padded(AtomicU32::new(0)),
            running: Padded(AtomicUsize::new(0)),
            arrived: Padded(AtomicUsize::new(0)),
            generation: Padded(AtomicU32::new(0)),
            taken: (0..threads).map(|_| Padded([const { AtomicUsize::new(0) }; COUNTERS])).collect(),
            broken: AtomicBool::new(false),
            panic: Mutex::new(None),
            quit: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        let workers = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let handle = thread::Builder::new()
                    .name(format!("cpu-{index}"))
                    .spawn(move || work(&shared, index))
                    .expect("the operating system starts a thread");
                let thread = handle.thread().clone();
                (handle, thread)
            })
            .collect();
        Pool { shared, workers, own: Mutex::new(Scratch::new()) }
    }

    /// A pool with one thread for every processor that this process may use.
    pub fn for_machine() -> Pool {
        Pool::new(thread::available_parallelism().map_or(1, |n| n.get()))
    }

    /// Number of threads, the caller of [`run`](Pool::run) included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `step` once on every thread and returns when all have returned. The calling thread is number 0.
    ///
    /// Concurrent calls wait for each other; a call from inside a step would wait for ever. Allocates nothing.
    ///
    /// # Panics
    /// With the first panic of any thread, after all threads have left the step. The pool stays usable.
    pub fn run(&self, step: &(dyn Fn(&Worker<'_>) + Sync)) {
        let mut scratch = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.broken.store(false, Ordering::Relaxed);
        shared.arrived.0.store(0, Ordering::Relaxed);
        shared.running.0.store(shared.threads - 1, Ordering::Relaxed);
        for counter in shared.taken.iter().flat_map(|thread| &thread.0) {
            counter.store(0, Ordering::Relaxed);
        }
        // SAFETY: no worker is in a step: `running` was 0 when the last run returned, and `own` is held. The
        // transmute lengthens the closure's lifetime only; this function waits below until no worker uses it.
        unsafe {
            let job: *const Job =
                std::mem::transmute::<*const (dyn Fn(&Worker<'_>) + Sync + '_), *const Job>(step);
            *shared.job.get() = Some(job);
        }
        shared.step.0.fetch_add(1, Ordering::Release);
        for (_, thread) in &self.workers {
            thread.unpark();
        }
        take_part(shared, 0, &mut scratch, step);
        wait(|| shared.running.0.load(Ordering::Acquire) == 0);
        let payload = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(scratch);
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        self.shared.step.0.fetch_add(1, Ordering::Release);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker catches every panic of a step, so it has none of its own to report.
            let _ = handle.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.shared.threads).finish()
    }
}

/// The loop of one worker thread.
fn work(shared: &Shared, index: usize) {
    let mut scratch = Scratch::new();
    let mut seen = 0;
    loop {
        seen = next_step(shared, seen);
        if shared.quit.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: `step` changed, so `run` has stored a job, and it keeps the closure alive until `running` is 0.
        let job = unsafe { &*(*shared.job.get()).expect("a step comes with a job") };
        take_part(shared, index, &mut scratch, job);
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until the number of the step is no longer `seen`; returns it.
fn next_step(shared: &Shared, seen: u32) -> u32 {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            let step = shared.step.0.load(Ordering::Acquire);
            if step != seen {
                return step;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN_BETWEEN_STEPS {
            // `run` unparks after it changes `step`, and a token left by an earlier unpark only means one more look.
            while shared.step.0.load(Ordering::Acquire) == seen {
                thread::park();
            }
        }
    }
}

fn take_part(shared: &Shared, index: usize, scratch: &mut Scratch, job: &(dyn Fn(&Worker<'_>) + Sync)) {
    let worker =
        Worker { shared, index, scratch: RefCell::new(scratch), phase: Cell::new(0), reset: Cell::new(0) };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(&worker))) {
        shared.broken.store(true, Ordering::Release);
        if !payload.is::<Broken>() {
            let mut first = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(payload);
        }
    }
    stores_are_done();
}

/// Waits for stores past the caches, which releasing operations do not order.
pub(crate) fn stores_are_done() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Looks at `ready` until it holds: spinning, then yielding, then napping.
fn wait(ready: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if ready() {
            return;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        if waited < SPIN_IN_BARRIER {
            for _ in 0..LOOKS {
                if ready() {
                    return;
                }
                std::hint::spin_loop();
            }
        } else if waited < YIELD_IN_BARRIER {
            thread::yield_now();
        } else {
            thread::park_timeout(Duration::from_micros(50));
        }
        if ready() {
            return;
        }
    }
}

/// What a step sees of the thread that it runs on.
pub struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    scratch: RefCell<&'a mut Scratch>,
    /// Calls of `for_each` so far: the same on all threads at the same place of the step.
    phase: Cell<usize>,
    /// `phase` at the last barrier.
    reset: Cell<usize>,
}

impl Worker<'_> {
    /// This thread's number: 0 (the caller of [`Pool::run`]) to `threads − 1`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Threads that run this step.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Lends this thread's scratch to `f`. Must not be nested.
    pub fn with_scratch<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        f(&mut self.scratch.borrow_mut())
    }

    /// Waits until every thread of the step has come here; what they wrote before is then visible to all.
    ///
    /// # Panics
    /// When another thread panicked in this step: the step then unwinds on every thread.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
            self.reset_counters();
            return;
        }
        stores_are_done();
        let generation = shared.generation.0.load(Ordering::Relaxed);
        if shared.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
            shared.arrived.0.store(0, Ordering::Relaxed);
            shared.generation.0.fetch_add(1, Ordering::Release);
        } else {
            wait(|| {
                shared.generation.0.load(Ordering::Acquire) != generation
                    || shared.broken.load(Ordering::Acquire)
            });
        }
        if shared.broken.load(Ordering::Acquire) {
            resume_unwind(Box::new(Broken));
        }
        self.reset_counters();
    }

    /// Resets this thread's counters of the phases that a barrier has just ended. Nobody uses them before another
    /// barrier, since the phases between take others.
    fn reset_counters(&self) {
        for phase in self.reset.replace(self.phase.get())..self.phase.get() {
            self.shared.taken[self.index].0[phase % COUNTERS].store(0, Ordering::Relaxed);
        }
    }

    /// Shares `items` items among the threads: each calls `f` with ranges of its own consecutive share, one after
    /// another, and then with ranges of others' shares that they have not come to, until none are left. A range is a
    /// quarter of what is left of the share, in whole multiples of `grain` (at least 1) except at the end: long ones
    /// first, short ones last, for threads to finish together. Every thread must call this with the same `items` and
    /// `grain`.
    /// It does not wait for the others: put a [`barrier`](Worker::barrier) before the results are used.
    ///
    /// # Panics
    /// After more than 32 calls without a barrier between them.
    pub fn for_each(&self, items: usize, grain: usize, mut f: impl FnMut(Range<usize>)) {
        let phase = self.phase.get();
        self.phase.set(phase + 1);
        assert!(phase - self.reset.get() < PHASES, "more than {PHASES} phases without a barrier");
        let (grain, threads) = (grain.max(1), self.threads());
        for turn in 0..threads {
            let owner = (self.index + turn) % threads;
            let pieces = share(items.div_ceil(grain), owner, threads);
            let taken = &self.shared.taken[owner].0[phase % COUNTERS];
            loop {
                let left = pieces.len().saturating_sub(taken.load(Ordering::Relaxed));
                if left == 0 {
                    break;
                }
                let take = left.div_ceil(4);
                // Another thread may have taken some since: then this reaches past the end, at most once a thread.
                let first = pieces.start + taken.fetch_add(take, Ordering::Relaxed);
                let last = pieces.end.min(first + take);
                if first < last {
                    f(first * grain..items.min(last * grain));
                }
            }
        }
    }
}

/// The pieces that are thread number `thread`'s.
fn share(pieces: usize, thread: usize, threads: usize) -> Range<usize> {
    (pieces * thread).div_ceil(threads)..(pieces * (thread + 1)).div_ceil(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_item_is_done_once_in_every_phase() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for step in 0..20 {
                let done: Vec<AtomicU64> = (0..97).map(|_| AtomicU64::new(0)).collect();
                let phases = 40;
                pool.run(&|worker| {
                    for phase in 0..phases {
                        worker.for_each(done.len(), 1 + step % 7, |range| {
                            for item in &done[range] {
                                item.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                        if phase % 3 == 0 {
                            worker.barrier();
                        }
                    }
                    worker.barrier();
                    let all = done.iter().all(|item| item.load(Ordering::Relaxed) == phases);
                    assert!(all, "an item was skipped or done twice");
                });
            }
        }
    }

    #[test]
    fn a_barrier_separates_phases() {
        let pool = Pool::new(3);
        let arrivals = AtomicUsize::new(0);
        pool.run(&|worker| {
            for round in 1..=500 {
                arrivals.fetch_add(1, Ordering::Relaxed);
                worker.barrier();
                assert_eq!(arrivals.load(Ordering::Relaxed), round * worker.threads(), "a thread ran ahead");
                worker.barrier();
            }
        });
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3);
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    worker.barrier();
                    assert_ne!(worker.index(), culprit, "the culprit");
                    worker.barrier();
                });
            }));
            let payload = result.expect_err("the panic must propagate, not hang or vanish");
            let message = payload.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
            assert!(message.contains("the culprit"), "not the first panic but: {message}");
        }
        let ran = AtomicUsize::new(0);
        pool.run(&|worker| {
            worker.barrier();
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), 3);
    }

    #[test]
    fn steps_from_several_threads_take_turns() {
        let pool = Pool::new(2);
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(&|worker| {
                            if worker.index() == 0 {
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two steps at once");
                            }
                            worker.barrier();
                            worker.barrier();
                            if worker.index() == 0 {
                                inside.fetch_sub(1, Ordering::SeqCst);
                            }
                        });
                    }
                });
            }
        });
    }
}
