//! Rounds on demand, so that a program can let engines take turns that are all loaded at once.

use std::io::{self, BufRead};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::limits::Peaks;
use super::rounds::{Rates, Rounds};
use crate::commands::print;

/// Prints `{"ready": true}`, then runs a round for every line of standard input and prints its speeds and peaks as one
/// line of JSON. Between rounds it waits and uses no processor. Returns the rounds' speeds when the input ends.
pub(super) fn run(rounds: &mut Rounds<'_>, peaks: &dyn Fn(&Rates) -> Option<Peaks>) -> Result<Vec<Rates>> {
    print(&format!("{}\n", json!({"ready": true})))?;
    let mut all = Vec::new();
    for line in io::stdin().lock().lines() {
        line.context("cannot read standard input")?;
        let rates = rounds.next()?;
        let mut json = Map::new();
        json.insert("prefill_tokens_per_second".into(), rates.prefill.into());
        json.insert("decode_tokens_per_second".into(), rates.decode.into());
        if let Some(peaks) = peaks(&rates) {
            peaks.describe(&mut json);
        }
        print(&format!("{}\n", Value::Object(json)))?;
        all.push(rates);
    }
    Ok(all)
}
