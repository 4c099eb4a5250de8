//! All replicas in one clock: arrivals, ends of steps, and moves between replicas, in the order of time.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use super::error::SimulateError;
use super::load::Request;
use super::server::{Boundary, Departure, Server, Totals, Waiting};
use super::service::{Routing, Service};
use super::step::StepTime;

/// Clients that send their next request when they have the answer to the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    pub(super) count: u32,
    pub(super) think_s: f64,
}

/// When a request passed which point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) arrival: f64,
    pub(super) admitted: Option<f64>,
    pub(super) first_token: f64,
    pub(super) finished: f64,
    pub(super) preemptions: u32,
}

/// What was played.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) times: Vec<Times>,
    /// Sequences on replicas, and those that wait or move, times seconds.
    pub(super) running_s: f64,
    pub(super) queued_s: f64,
    pub(super) decode: Vec<Totals>,
    pub(super) prefill: Vec<Totals>,
}

#[derive(Debug)]
enum What {
    /// A server's steps end, if they are still those of the version.
    End { server: usize, version: u64 },
    /// A prefilled request has been moved from a server.
    Moved { request: usize, from: usize },
    /// A client sends its next request.
    Arrival { request: usize },
}

#[derive(Debug)]
struct Event {
    at: f64,
    number: u64,
    what: What,
}

impl Ord for Event {
    /// The earliest is the greatest, for the heap; of those at one time, the one made first.
    fn cmp(&self, other: &Event) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// The service in motion. Servers that decode come first, then those that only prefill.
struct Cluster<'a, S: ?Sized> {
    time: &'a S,
    requests: &'a [Request],
    service: &'a Service,
    clients: Option<Clients>,
    now: f64,
    servers: Vec<Server>,
    /// The servers that arrivals go to.
    entry: Range<usize>,
    shared: VecDeque<Waiting>,
    turn: usize,
    /// The next request of a closed loop.
    next: usize,
    events: BinaryHeap<Event>,
    made: u64,
    /// Servers at which something changed at this time.
    touched: Vec<usize>,
    boundary: Boundary,
    queued: u64,
    running: u64,
    played: Played,
}

/// Plays requests that the service can serve, in the order of their arrival, or as clients send them. At most
/// `longest` steps are taken at once.
pub(super) fn play<S: StepTime + ?Sized>(
    service: &Service,
    time: &S,
    requests: &[Request],
    clients: Option<Clients>,
    longest: u64,
) -> Result<Played, SimulateError> {
    let decode = service.replicas as usize;
    let prefill = service.disaggregated.map_or(0, |apart| apart.replicas as usize);
    let mut servers = Vec::new();
    servers.resize_with(decode, || Server::new(service.replica, service.tokens_per_step, false, longest));
    if let Some(apart) = &service.disaggregated {
        servers.resize_with(decode + prefill, || Server::new(apart.replica, 1.0, true, longest));
    }
    let mut cluster = Cluster {
        time,
        requests,
        service,
        clients,
        now: 0.0,
        servers,
        entry: if prefill > 0 { decode..decode + prefill } else { 0..decode },
        shared: VecDeque::new(),
        turn: 0,
        next: 0,
        events: BinaryHeap::new(),
        made: 0,
        touched: Vec::new(),
        boundary: Boundary::default(),
        queued: 0,
        running: 0,
        played: Played { times: vec![Times::default(); requests.len()], ..Played::default() },
    };
    cluster.play()?;
    let mut played = cluster.played;
    let mut totals = cluster.servers.into_iter().map(|server| server.totals);
    played.decode = totals.by_ref().take(decode).collect();
    played.prefill = totals.collect();
    Ok(played)
}

impl<S: StepTime + ?Sized> Cluster<'_, S> {
    fn play(&mut self) -> Result<(), SimulateError> {
        let mut arrivals = 0;
        if let Some(clients) = self.clients {
            for _ in 0..(clients.count as usize).min(self.requests.len()) {
                self.send_next(0.0)?;
            }
            arrivals = self.requests.len();
        }
        loop {
            let arrival = self.requests.get(arrivals).map_or(f64::INFINITY, |request| request.arrival_s);
            let event = self.events.peek().map_or(f64::INFINITY, |event| event.at);
            let next = arrival.min(event);
            if next == f64::INFINITY {
                return Ok(());
            }
            let passed = next - self.now;
            self.played.queued_s += passed * self.queued as f64;
            self.played.running_s += passed * self.running as f64;
            self.now = next;
            while self.requests.get(arrivals).is_some_and(|request| request.arrival_s <= next) {
                self.arrive(arrivals)?;
                arrivals += 1;
            }
            while self.events.peek().is_some_and(|event| event.at <= next) {
                if let Some(event) = self.events.pop() {
                    self.happen(event.what)?;
                }
            }
            self.begin_steps()?;
        }
    }

    fn push(&mut self, at: f64, what: What) -> Result<(), SimulateError> {
        if !at.is_finite() {
            return Err(SimulateError::Endless);
        }
        self.made += 1;
        self.events.push(Event { at, number: self.made, what });
        Ok(())
    }

    fn send_next(&mut self, at: f64) -> Result<(), SimulateError> {
        if self.next < self.requests.len() {
            self.push(at, What::Arrival { request: self.next })?;
            self.next += 1;
        }
        Ok(())
    }

    fn happen(&mut self, what: What) -> Result<(), SimulateError> {
        match what {
            What::Arrival { request } => self.arrive(request),
            What::Moved { request, from } => {
                let moved = self.requests.get(request);
                if let Some((server, request)) = self.servers.get_mut(from).zip(moved) {
                    server.moved_away(request);
                    self.touched.push(from);
                }
                let to = self.least_loaded(0..self.service.replicas as usize);
                self.enqueue(to, Waiting { request, generated: 1, moved: true })
            }
            What::End { server, version } => self.end_steps(server, version),
        }
    }

    fn arrive(&mut self, request: usize) -> Result<(), SimulateError> {
        if let Some(times) = self.played.times.get_mut(request) {
            times.arrival = self.now;
        }
        self.queued += 1;
        let waiting = Waiting { request, generated: 0, moved: false };
        let to = match self.service.routing {
            Routing::LeastLoaded => self.least_loaded(self.entry.clone()),
            Routing::RoundRobin => {
                self.turn += 1;
                self.entry.start + (self.turn - 1) % self.entry.len().max(1)
            }
            Routing::Shared => {
                let with_room = |index: &usize| {
                    let server = self.servers.get(*index);
                    server.is_some_and(|server| server.has_room(waiting, self.requests))
                };
                let free = if self.shared.is_empty() {
                    self.entry.clone().filter(with_room).min_by_key(|index| self.load(*index))
                } else {
                    None
                };
                let Some(free) = free else {
                    self.shared.push_back(waiting);
                    return Ok(());
                };
                free
            }
        };
        self.enqueue(to, waiting)
    }

    fn load(&self, server: usize) -> usize {
        self.servers.get(server).map_or(usize::MAX, Server::load)
    }

    fn least_loaded(&self, among: Range<usize>) -> usize {
        let start = among.start;
        among.min_by_key(|index| self.load(*index)).unwrap_or(start)
    }

    fn enqueue(&mut self, to: usize, waiting: Waiting) -> Result<(), SimulateError> {
        let Some(server) = self.servers.get_mut(to) else { return Ok(()) };
        if let Some(end) = server.enqueue(waiting, self.now) {
            let version = server.version;
            self.push(end, What::End { server: to, version })?;
        }
        self.touched.push(to);
        Ok(())
    }

    fn end_steps(&mut self, index: usize, version: u64) -> Result<(), SimulateError> {
        let Some(server) = self.servers.get_mut(index).filter(|server| server.version == version) else {
            return Ok(());
        };
        server.end(&mut self.boundary);
        self.touched.push(index);
        let mut boundary = std::mem::take(&mut self.boundary);
        for request in boundary.first_token.drain(..) {
            if let Some(times) = self.played.times.get_mut(request) {
                times.first_token = self.now;
            }
        }
        for departure in boundary.departed.drain(..) {
            self.running -= 1;
            match departure {
                Departure::Finished(request) => {
                    if let Some(times) = self.played.times.get_mut(request) {
                        times.finished = self.now;
                    }
                    if let Some(clients) = self.clients {
                        self.send_next(self.now + clients.think_s)?;
                    }
                }
                Departure::Prefilled(request) => {
                    self.queued += 1;
                    let per_token =
                        self.service.disaggregated.map_or(0.0, |apart| apart.transfer_s_per_token);
                    let tokens = self.requests.get(request).map_or(0.0, |request| request.input.into());
                    self.push(self.now + tokens * per_token, What::Moved { request, from: index })?;
                }
            }
        }
        self.boundary = boundary;
        Ok(())
    }

    /// Begins steps on every server where something changed and that is between steps.
    fn begin_steps(&mut self) -> Result<(), SimulateError> {
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            let Some(server) = self.servers.get_mut(index).filter(|server| server.is_idle()) else {
                continue;
            };
            while self.entry.contains(&index)
                && let Some(waiting) = self.shared.front()
                && server.has_room(*waiting, self.requests)
            {
                server.enqueue(*waiting, self.now);
                self.shared.pop_front();
            }
            let end = server.begin(self.now, self.requests, self.time, &mut self.boundary)?;
            let version = server.version;
            if let Some(end) = end {
                self.push(end, What::End { server: index, version })?;
            }
            for request in self.boundary.preempted.drain(..) {
                self.running -= 1;
                self.queued += 1;
                if let Some(times) = self.played.times.get_mut(request) {
                    times.preemptions += 1;
                }
            }
            for request in self.boundary.admitted.drain(..) {
                self.queued -= 1;
                self.running += 1;
                if let Some(times) = self.played.times.get_mut(request) {
                    times.admitted.get_or_insert(self.now);
                }
            }
        }
        self.touched = touched;
        Ok(())
    }
}
