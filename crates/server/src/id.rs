//! Numbers that nobody guesses.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// 128 bits in hexadecimal, different each time. For names of requests and answers, not for secrets.
pub fn random() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let part = || {
        // Each state has keys of its own from the system's randomness.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    };
    format!("{:016x}{:016x}", part(), part())
}
