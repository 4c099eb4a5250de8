//! Who asks, and how much they may: API keys on requests, and the limits of each key.
//!
//! Module map: `client` from headers to a client · `bucket` the token bucket · `meter` what a key uses now, and the
//! permit that a request holds while it is answered · `caller` both for whatever is done for a request · `error`
//! refusals, and the headers that tell clients of limits.
//!
//! ```text
//! authenticate(headers, store, now) -> Client        401: no key, or not one that works
//! admit(client, tokens, now)        -> Permit        429: more than the key may
//! permit.spend(tokens)                               what the answer took; as often as is handy
//! drop(permit)                                       the answer has ended
//! ```

mod bucket;
mod caller;
mod client;
mod error;
mod meter;

pub use caller::Caller;
pub use client::{Client, authenticate};
pub use error::{AuthError, Limit, Rate, Rates};
pub(crate) use meter::Meters;
pub use meter::{Permit, admit};
