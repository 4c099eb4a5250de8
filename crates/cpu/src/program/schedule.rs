//! Stages: tasks that do not need each other run between the same two barriers.

use std::collections::{HashMap, HashSet};

use super::task::{Accesses, BufferId, Task};

/// Tasks of one stage at most: each calls `Worker::for_each` twice at most, and the pool has counters for 31 calls.
const MOST_TASKS: usize = 12;

/// When the tasks run.
#[derive(Debug)]
pub(super) struct Schedule {
    /// For every task whether the kept buffers come from it. No such task adds to a gradient.
    pub(super) behind_kept: Vec<bool>,
    /// The tasks of every stage, by their place in the list.
    pub(super) stages: Vec<Vec<usize>>,
    /// For every buffer the first stage that writes it and the last that uses it.
    pub(super) lifetimes: Vec<Option<(usize, usize)>>,
    /// Pairs of buffers of which the second may take the first one's place.
    pub(super) in_place: Vec<(BufferId, BufferId)>,
}

impl Schedule {
    /// Gives every task the earliest stage after the tasks whose results it reads, or a later one where its results take
    /// memory for less long then, and what it reads for no longer. Tasks are in an order in which they could run one by
    /// one; `kept` are the buffers that the caller reads after the last stage.
    pub(super) fn new(tasks: &[Task], buffers: usize, kept: &[BufferId]) -> Schedule {
        let accesses: Vec<_> = tasks.iter().map(Task::accesses).collect();
        let behind_kept = behind(&accesses, buffers, kept);
        let mut ready = vec![0usize; buffers];
        let mut caches: HashMap<usize, usize> = HashMap::new();
        let mut gradients: HashMap<usize, usize> = HashMap::new();
        let mut stages: Vec<Vec<usize>> = Vec::new();
        let mut stage_of = Vec::with_capacity(tasks.len());
        for (index, a) in accesses.iter().enumerate() {
            let read = a.reads.iter().map(|b| ready[b.0]).max().unwrap_or(0);
            // A second writer of a buffer (the merging of spans) comes after the first.
            let written = a.writes.iter().map(|b| ready[b.0]).max().unwrap_or(0);
            let cached = a.cache.and_then(|c| caches.get(&c)).copied().unwrap_or(0);
            let gathered = a.gradients.iter().filter_map(|g| gradients.get(g)).max().copied().unwrap_or(0);
            let mut stage = read.max(written).max(cached).max(gathered);
            while stages.get(stage).is_some_and(|s| s.len() >= MOST_TASKS) {
                stage += 1;
            }
            if stages.len() <= stage {
                stages.resize_with(stage + 1, Vec::new);
            }
            stages[stage].push(index);
            stage_of.push(stage);
            for b in &a.writes {
                ready[b.0] = ready[b.0].max(stage + 1);
            }
            if let Some(c) = a.cache {
                caches.insert(c, stage + 1);
            }
            for g in &a.gradients {
                gradients.insert(*g, stage + 1);
            }
        }
        postpone(&accesses, &mut stages, &mut stage_of, buffers, kept);
        let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; buffers];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); buffers];
        for (a, &stage) in accesses.iter().zip(&stage_of) {
            for b in a.reads.iter().chain(&a.writes) {
                let (first, last) = lifetimes[b.0].unwrap_or((stage, stage));
                lifetimes[b.0] = Some((first.min(stage), last.max(stage)));
            }
            let mut read = a.reads.clone();
            read.sort_unstable();
            read.dedup();
            read.iter().for_each(|b| readers[b.0].push(stage));
        }
        for b in kept {
            if let Some((_, last)) = &mut lifetimes[b.0] {
                *last = stages.len();
            }
        }
        let mut in_place = Vec::new();
        for (a, &stage) in accesses.iter().zip(&stage_of) {
            let last_reader = |b: &BufferId| {
                lifetimes[b.0].is_some_and(|(_, last)| last == stage)
                    && readers[b.0].iter().filter(|s| **s == stage).count() == 1
            };
            // One buffer takes at most one other's place, and lends its own at most once.
            if let Some(pair) = a.in_place.iter().find(|(from, _)| last_reader(from)) {
                in_place.push(*pair);
            }
        }
        Schedule { behind_kept, stages, lifetimes, in_place }
    }
}

/// For every task whether some buffers come from it.
fn behind(accesses: &[Accesses], buffers: usize, kept: &[BufferId]) -> Vec<bool> {
    let mut wanted = vec![false; buffers];
    kept.iter().for_each(|b| wanted[b.0] = true);
    let mut caches = HashSet::new();
    let mut is_behind = vec![false; accesses.len()];
    for (a, is_behind) in accesses.iter().zip(&mut is_behind).rev() {
        *is_behind = a.writes.iter().any(|b| wanted[b.0]) || a.cache.is_some_and(|c| caches.contains(&c));
        if *is_behind {
            let reads = a.reads.iter().filter(|b| !a.after.contains(b));
            reads.for_each(|b| wanted[b.0] = true);
            caches.extend(a.cache);
        }
    }
    is_behind
}

/// Moves tasks to later stages: before the first that needs them, but no further than what they read is read by others.
///
/// So what the backward pass computes again from what the forward pass keeps anyway does not live from one to the other.
fn postpone(
    accesses: &[Accesses],
    stages: &mut [Vec<usize>],
    stage_of: &mut [usize],
    buffers: usize,
    kept: &[BufferId],
) {
    let end = stages.len();
    // What the tasks after the one at hand say of each buffer, cache and gradient: the first stage that uses it.
    let mut used = vec![end; buffers];
    let mut caches: HashMap<usize, usize> = HashMap::new();
    let mut gradients: HashMap<usize, usize> = HashMap::new();
    // Of every buffer the stages that read it.
    let mut reads: Vec<Vec<usize>> = vec![Vec::new(); buffers];
    kept.iter().for_each(|b| reads[b.0].push(end));
    for (a, &stage) in accesses.iter().zip(&*stage_of) {
        a.reads.iter().for_each(|b| reads[b.0].push(stage));
    }
    for (index, a) in accesses.iter().enumerate().rev() {
        let now = stage_of[index];
        let next = a.writes.iter().map(|b| used[b.0]);
        let next = next.chain(a.cache.and_then(|c| caches.get(&c)).copied());
        let next = next.chain(a.gradients.iter().filter_map(|g| gradients.get(g)).copied());
        let mut latest = next.min().map_or(now, |next| next.saturating_sub(1));
        for b in &a.reads {
            let of = &mut reads[b.0];
            of.swap_remove(of.iter().position(|&s| s == now).unwrap_or(0));
            latest = latest.min(of.iter().copied().max().unwrap_or(now));
        }
        let stage =
            (now + 1..=latest.min(end - 1)).rev().find(|&s| stages[s].len() < MOST_TASKS).unwrap_or(now);
        stages[now].retain(|&t| t != index);
        stages[stage].push(index);
        stage_of[index] = stage;
        a.reads.iter().for_each(|b| reads[b.0].push(stage));
        a.reads.iter().chain(&a.writes).for_each(|b| used[b.0] = used[b.0].min(stage));
        a.cache.into_iter().for_each(|c| _ = caches.insert(c, stage));
        a.gradients.iter().for_each(|g| _ = gradients.insert(*g, stage));
    }
}
