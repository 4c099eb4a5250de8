//! What a key uses right now, and the permit that a request holds while it is answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::bucket::Bucket;
use super::client::Client;
use super::error::{AuthError, Limit, Rates};
use crate::store::keys::{KeyLimits, KeyRecord};
use crate::store::usage::Tokens;
use crate::store::{Store, UnixTime};
use crate::sync::lock;

/// The meters of the keys that were seen: one each, and no more than there may be keys.
#[derive(Default)]
pub(crate) struct Meters(Mutex<HashMap<u64, Arc<Meter>>>);

impl Meters {
    /// The meter of a key that the store has.
    pub(super) fn of(&self, key: u64) -> Arc<Meter> {
        let mut meters = lock(&self.0);
        // Keys that another process revoked are still here.
        if meters.len() as u64 > KeyRecord::MAX_KEYS && !meters.contains_key(&key) {
            meters.retain(|_, meter| Arc::strong_count(meter) > 1);
        }
        Arc::clone(meters.entry(key).or_default())
    }

    /// Drops the meter of a key that was revoked.
    pub(crate) fn forget(&self, key: u64) {
        lock(&self.0).remove(&key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// What one key uses right now.
#[derive(Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Default)]
struct State {
    /// Requests that are being answered.
    running: u32,
    /// The buckets, made with the first request.
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    today: Option<Today>,
}

/// Tokens of one day.
#[derive(Clone, Copy)]
struct Today {
    day: u32,
    used: u64,
    /// What requests that are being answered may still use, by their estimates.
    reserved: u64,
}

/// Lets a request in that needs about `tokens` tokens: an estimate, which is taken from the key's limits at once and
/// corrected by what the permit is told. A request that is refused counts for nothing.
///
/// # Errors
/// [`AuthError::TooLarge`] when the limits will never have room for it, [`AuthError::Limited`] when they have none now,
/// [`AuthError::Store`] when the day's usage cannot be read.
pub fn admit(client: &Client, tokens: u64, now: UnixTime) -> Result<Permit, AuthError> {
    let limits = &client.limits;
    for (limit, allowed) in
        [(Limit::TokensPerMinute, limits.tokens_per_minute), (Limit::TokensPerDay, limits.tokens_per_day)]
    {
        if let Some(allowed) = allowed.filter(|allowed| tokens > *allowed) {
            return Err(AuthError::TooLarge { limit, allowed, needed: tokens });
        }
    }
    let mut state = lock(&client.meter.0);
    let mut today = match state.today {
        Some(today) if today.day == now.day() => today,
        _ => {
            let used = client.store.tokens_of_day(client.id, now.day()).map_err(|_| AuthError::Store)?;
            Today { day: now.day(), used, reserved: 0 }
        }
    };
    state.fill(limits, now);
    if let Some((limit, allowed, wait)) = state.refusal(limits, &today, tokens, now) {
        state.today = Some(today);
        // Never 0, which would mean at once.
        let retry_after = wait.div_ceil(1000).max(1);
        return Err(AuthError::Limited { limit, allowed, retry_after, rates: state.rates() });
    }
    state.running = state.running.saturating_add(1);
    if let Some(bucket) = &mut state.requests {
        bucket.take(1);
    }
    if let Some(bucket) = &mut state.tokens {
        bucket.take(tokens);
    }
    today.reserved = today.reserved.saturating_add(tokens);
    state.today = Some(today);
    let rates = state.rates();
    drop(state);
    client.store.count_request(client.id, today.day);
    Ok(Permit {
        key: client.id,
        meter: Arc::clone(&client.meter),
        store: client.store.clone(),
        day: today.day,
        left: AtomicU64::new(tokens),
        rates,
    })
}

impl State {
    fn fill(&mut self, limits: &KeyLimits, now: UnixTime) {
        let fill = |bucket: &mut Option<Bucket>, limit: Option<u64>| match (bucket.as_mut(), limit) {
            (Some(bucket), Some(_)) => bucket.fill(now),
            (_, limit) => *bucket = limit.map(|limit| Bucket::new(limit, now)),
        };
        fill(&mut self.requests, limits.requests_per_minute.map(u64::from));
        fill(&mut self.tokens, limits.tokens_per_minute);
    }

    /// The limit that has no room, what it allows, and milliseconds to wait.
    fn refusal(
        &self,
        limits: &KeyLimits,
        today: &Today,
        tokens: u64,
        now: UnixTime,
    ) -> Option<(Limit, u64, u64)> {
        if let Some(allowed) = limits.concurrent.filter(|allowed| self.running >= *allowed) {
            // Nobody knows when an answer ends.
            return Some((Limit::Concurrent, allowed.into(), 1000));
        }
        let buckets = [
            (Limit::RequestsPerMinute, &self.requests, limits.requests_per_minute.map(u64::from), 1),
            // A request without tokens waits, too, while earlier answers took too many.
            (Limit::TokensPerMinute, &self.tokens, limits.tokens_per_minute, tokens),
        ];
        for (limit, bucket, allowed, count) in buckets {
            let (Some(bucket), Some(allowed)) = (bucket, allowed) else { continue };
            let wait = bucket.wait(count);
            if wait > 0 {
                return Some((limit, allowed, wait));
            }
        }
        let after = today.used.saturating_add(today.reserved).saturating_add(tokens.max(1));
        let allowed = limits.tokens_per_day.filter(|allowed| after > *allowed)?;
        Some((Limit::TokensPerDay, allowed, now.until_tomorrow()))
    }

    fn rates(&self) -> Rates {
        Rates {
            requests: self.requests.as_ref().map(Bucket::rate),
            tokens: self.tokens.as_ref().map(Bucket::rate),
        }
    }
}

/// A request that was let in. To be kept until its answer ends, streams included: dropping it makes room for another,
/// and gives back what was estimated and not spent.
pub struct Permit {
    key: u64,
    meter: Arc<Meter>,
    store: Store,
    day: u32,
    /// What is left of the estimate.
    left: AtomicU64,
    rates: Rates,
}

impl Permit {
    /// Counts tokens that were read or written, each once, however many calls it takes. They count for the day on
    /// which the request was let in. Beyond the estimate they are taken from later requests.
    pub fn spend(&self, tokens: Tokens) {
        let total = tokens.total();
        let mut state = lock(&self.meter.0);
        // Under the lock, so that the load is not torn from the store.
        let left = self.left.load(Ordering::Relaxed);
        let foreseen = left.min(total);
        self.left.store(left - foreseen, Ordering::Relaxed);
        if let Some(bucket) = &mut state.tokens {
            bucket.take(total - foreseen);
        }
        if let Some(today) = state.today.as_mut().filter(|today| today.day == self.day) {
            today.reserved = today.reserved.saturating_sub(foreseen);
            today.used = today.used.saturating_add(total);
        }
        drop(state);
        self.store.count_tokens(self.key, self.day, tokens);
    }

    /// How far the key was from its limits when the request was let in, for the headers of the answer.
    pub fn rates(&self) -> Rates {
        self.rates
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("key", &self.key).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.meter.0);
        state.running = state.running.saturating_sub(1);
        let left = self.left.load(Ordering::Relaxed);
        if let Some(bucket) = &mut state.tokens {
            bucket.give(left);
        }
        if let Some(today) = state.today.as_mut().filter(|today| today.day == self.day) {
            today.reserved = today.reserved.saturating_sub(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use proptest::prelude::*;

    use super::super::authenticate;
    use super::*;

    /// Midnight.
    const DAY: UnixTime = UnixTime::from_day(20_000);

    fn client(limits: KeyLimits) -> Client {
        let store = Store::in_memory().unwrap();
        let (_, secret) = store.create_key("k", limits, DAY).unwrap();
        by_secret(&store, &secret, DAY)
    }

    fn by_secret(store: &Store, secret: &str, now: UnixTime) -> Client {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", secret.parse().unwrap());
        authenticate(&headers, store, now).unwrap()
    }

    fn spent(prompt: u64, generated: u64) -> Tokens {
        Tokens { prompt, cached: 0, generated }
    }

    fn refused(client: &Client, tokens: u64, now: UnixTime) -> (Limit, u64) {
        match admit(client, tokens, now).unwrap_err() {
            AuthError::Limited { limit, retry_after, .. } => (limit, retry_after),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn as_many_answers_at_once_as_there_are_permits() {
        let client = client(KeyLimits { concurrent: Some(2), ..KeyLimits::default() });
        let first = admit(&client, 1, DAY).unwrap();
        let _second = admit(&client.clone(), 1, DAY).unwrap();
        assert_eq!(refused(&client, 1, DAY), (Limit::Concurrent, 1));
        drop(first);
        let _third = admit(&client, 1, DAY).unwrap();
        assert_eq!(refused(&client, 1, DAY), (Limit::Concurrent, 1));
    }

    #[test]
    fn requests_a_minute_come_back_one_by_one_and_a_refused_one_counts_for_nothing() {
        let client = client(KeyLimits { requests_per_minute: Some(6), ..KeyLimits::default() });
        for _ in 0..6 {
            admit(&client, 0, DAY).unwrap();
        }
        for _ in 0..100 {
            assert_eq!(refused(&client, 0, DAY), (Limit::RequestsPerMinute, 10));
        }
        let later = DAY.after(10_000);
        let rates = admit(&client, 0, later).unwrap().rates();
        let rate = rates.requests.unwrap();
        assert_eq!((rate.limit, rate.remaining, rate.reset), (6, 0, 60_000));
        assert_eq!(refused(&client, 0, later), (Limit::RequestsPerMinute, 10));
    }

    #[test]
    fn an_estimate_is_corrected_by_what_was_spent() {
        let client = client(KeyLimits { tokens_per_minute: Some(600), ..KeyLimits::default() });
        let left = |now| admit(&client, 0, now).unwrap().rates().tokens.unwrap().remaining;
        let permit = admit(&client, 500, DAY).unwrap();
        assert_eq!(left(DAY), 100);
        permit.spend(spent(200, 0));
        permit.spend(spent(0, 100));
        // The estimate covers it until the answer has ended.
        assert_eq!(left(DAY), 100);
        drop(permit);
        assert_eq!(left(DAY), 300);
        let permit = admit(&client, 10, DAY).unwrap();
        permit.spend(spent(10, 590));
        drop(permit);
        // 300 too many: 30 seconds until there is nothing to make up for.
        assert_eq!(refused(&client, 0, DAY), (Limit::TokensPerMinute, 30));
        assert_eq!(left(DAY.after(31_000)), 10);
    }

    #[test]
    fn what_can_never_be_let_in_is_not_asked_to_wait() {
        let client = client(KeyLimits { tokens_per_minute: Some(100), ..KeyLimits::default() });
        let error = admit(&client, 101, DAY).unwrap_err();
        assert_eq!(error, AuthError::TooLarge { limit: Limit::TokensPerMinute, allowed: 100, needed: 101 });
        assert_eq!((error.status().as_u16(), error.retry_after()), (413, None));
        admit(&client, 100, DAY).unwrap();
    }

    #[test]
    fn a_days_tokens_end_with_the_day() {
        let client = client(KeyLimits { tokens_per_day: Some(100), ..KeyLimits::default() });
        let evening = DAY.after(86_400_000 - 5000);
        let late = admit(&client, 60, evening).unwrap();
        // What others were promised cannot be promised again.
        assert_eq!(refused(&client, 41, evening), (Limit::TokensPerDay, 5));
        late.spend(spent(60, 40));
        assert_eq!(refused(&client, 0, evening), (Limit::TokensPerDay, 5));
        let tomorrow = evening.after(5000);
        let next = admit(&client, 100, tomorrow).unwrap();
        // The late answer goes on: that is yesterday's.
        late.spend(spent(0, 10));
        drop(late);
        drop(next);
        admit(&client, 100, tomorrow).unwrap();
        let usage = client.store.usage(Some(client.id), DAY).unwrap();
        let days: Vec<_> = usage.iter().map(|row| (row.date.as_str(), row.requests, row.tokens)).collect();
        let yesterday = Tokens { prompt: 60, cached: 0, generated: 50 };
        assert_eq!(days, [("2024-10-05", 2, Tokens::default()), ("2024-10-04", 1, yesterday)]);
    }

    #[test]
    fn quotas_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path).unwrap();
        let limits = KeyLimits { tokens_per_day: Some(100), ..KeyLimits::default() };
        let (_, secret) = store.create_key("k", limits, DAY).unwrap();
        let client = by_secret(&store, &secret, DAY);
        admit(&client, 1, DAY).unwrap().spend(spent(50, 40));
        drop((client, store));

        let store = Store::open(&path).unwrap();
        let client = by_secret(&store, &secret, DAY);
        assert_eq!(refused(&client, 11, DAY).0, Limit::TokensPerDay);
        admit(&client, 10, DAY).unwrap();
    }

    #[test]
    fn a_flush_in_between_loses_and_doubles_nothing() {
        let client = client(KeyLimits { tokens_per_day: Some(100), ..KeyLimits::default() });
        for _ in 0..3 {
            admit(&client, 0, DAY).unwrap().spend(spent(10, 10));
            client.store.flush().unwrap();
            client.store.meters().forget(client.id);
        }
        assert_eq!(client.store.tokens_of_day(client.id, DAY.day()).unwrap(), 60);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pause(u64),
        Ask(u64),
        /// Spends a share of the estimate of one of the answers, and perhaps ends it.
        Spend(usize, u64, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u64..90_000).prop_map(Step::Pause),
            (0_u64..80).prop_map(Step::Ask),
            (0_usize..8, 0_u64..=100, any::<bool>())
                .prop_map(|(which, share, end)| Step::Spend(which, share, end)),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// With estimates that hold, no limit is ever exceeded, and whoever waits as told gets in.
        #[test]
        fn limits_hold_whatever_comes(
            steps in steps(), requests in 1_u32..10, minute in 80_u64..200, day in 80_u64..2000, most in 1_u32..4,
        ) {
            let client = client(KeyLimits {
                requests_per_minute: Some(requests),
                tokens_per_minute: Some(minute),
                tokens_per_day: Some(day),
                concurrent: Some(most),
                ..KeyLimits::default()
            });
            let mut now = DAY;
            let mut open: Vec<(Permit, u64)> = Vec::new();
            let mut asked: Vec<u64> = Vec::new();
            let mut spends: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Pause(millis) => now = now.after(millis),
                    Step::Ask(tokens) => match admit(&client, tokens, now) {
                        Ok(permit) => {
                            asked.push(now.millis());
                            open.push((permit, tokens));
                        }
                        Err(AuthError::Limited { limit: Limit::Concurrent, .. }) => {
                            prop_assert_eq!(open.len(), most as usize);
                        }
                        Err(AuthError::Limited { retry_after, .. }) => {
                            // The wait for one limit says nothing of the others: there are four.
                            open.clear();
                            let mut then = now.after(retry_after * 1000);
                            let admitted = (0..4).any(|_| match admit(&client, tokens, then) {
                                Ok(_) => true,
                                Err(error) => {
                                    then = then.after(error.retry_after().unwrap() * 1000);
                                    false
                                }
                            });
                            prop_assert!(admitted);
                            asked.push(then.millis());
                            now = then;
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    },
                    Step::Spend(which, share, end) if which < open.len() => {
                        let (permit, left) = &mut open[which];
                        let tokens = *left * share / 100;
                        *left -= tokens;
                        permit.spend(spent(tokens / 2, tokens - tokens / 2));
                        spends.push(tokens);
                        if end {
                            open.swap_remove(which);
                        }
                    }
                    Step::Spend(..) => {}
                }
                prop_assert!(open.len() <= most as usize);
            }
            drop(open);
            for (first, start) in asked.iter().enumerate() {
                for (last, end) in asked.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u64;
                    prop_assert!(count * 60_000 <= u64::from(requests) * (60_000 + end - start));
                }
            }
            let usage = client.store.usage(Some(client.id), DAY).unwrap();
            prop_assert!(usage.iter().all(|row| row.tokens.total() <= day));
            prop_assert_eq!(usage.iter().map(|row| row.tokens.total()).sum::<u64>(), spends.iter().sum::<u64>());
            prop_assert_eq!(usage.iter().map(|row| row.requests).sum::<u64>(), asked.len() as u64);
            let state = lock(&client.meter.0);
            prop_assert_eq!(state.running, 0);
            prop_assert_eq!(state.today.map_or(0, |today| today.reserved), 0);
        }
    }
}
