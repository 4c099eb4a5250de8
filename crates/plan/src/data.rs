//! The data files, as `build.rs` found them: names and texts.

include!(concat!(env!("OUT_DIR"), "/data.rs"));

pub(crate) const DEFINITIONS: (&str, &str) =
    ("definitions.toml", include_str!("../data/policy/definitions.toml"));
pub(crate) const PAYMENTS: (&str, &str) = ("payments.toml", include_str!("../data/policy/payments.toml"));
pub(crate) const STATUS: (&str, &str) = ("status.toml", include_str!("../data/policy/status.toml"));
