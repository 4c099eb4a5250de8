//! `autarky keys`

use std::fmt::Write;

use anyhow::Result;
use autarky_server::store::keys::{KeyLimits, KeyRecord};
use autarky_server::store::{Store, StoreError, UnixTime};
use serde_json::{Value, json};

use super::{print, print_json};
use crate::args::{KeysCommand, KeysCreateArgs};
use crate::exit::Input;
use crate::terminal::{Style, printable};

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn run(command: &KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::List(args) => list(&args.data.store()?, args.json),
        KeysCommand::Revoke(args) => {
            let key = args.data.store()?.revoke_key(&args.key, UnixTime::now()).map_err(told)?;
            print(&format!("revoked {} ({})\n", key.name, key.id))
        }
    }
}

fn told(error: StoreError) -> Input {
    Input(error.to_string())
}

fn create(args: &KeysCreateArgs) -> Result<()> {
    let now = UnixTime::now();
    let limits = KeyLimits {
        requests_per_minute: args.requests_per_minute,
        tokens_per_minute: args.tokens_per_minute,
        tokens_per_day: args.tokens_per_day,
        concurrent: args.concurrent,
        priority: args.priority,
        expires: args.expires_days.map(|days| now.after(u64::from(days) * DAY_MILLIS)),
    };
    let (key, secret) = args.data.store()?.create_key(&args.name, limits, now).map_err(told)?;
    if args.json {
        let mut value = to_json(&key, &[]);
        value["key"] = json!(secret);
        return print_json(&value);
    }
    let note = Style::stdout().dim("It is shown this once; send it as `Authorization: Bearer KEY`.");
    print(&format!("{secret}\n{note}\n"))
}

/// Requests and tokens that a key used, since it was made.
fn used(key: &KeyRecord, usage: &[autarky_server::store::usage::UsageRow]) -> (u64, u64) {
    let own = usage.iter().filter(|row| row.key == key.id);
    own.fold((0, 0), |(requests, tokens), row| (requests + row.requests, tokens + row.tokens.total()))
}

fn to_json(key: &KeyRecord, usage: &[autarky_server::store::usage::UsageRow]) -> Value {
    let (requests, tokens) = used(key, usage);
    json!({
        "id": key.id,
        "name": key.name,
        "created": key.created.seconds(),
        "revoked": key.revoked.map(UnixTime::seconds),
        "expires": key.limits.expires.map(UnixTime::seconds),
        "requests_per_minute": key.limits.requests_per_minute,
        "tokens_per_minute": key.limits.tokens_per_minute,
        "tokens_per_day": key.limits.tokens_per_day,
        "concurrent": key.limits.concurrent,
        "priority": key.limits.priority,
        "requests": requests,
        "tokens": tokens,
    })
}

fn list(store: &Store, json: bool) -> Result<()> {
    let keys = store.list_keys().map_err(told)?;
    let usage = store.usage(None, UnixTime::from_seconds(0)).map_err(told)?;
    if json {
        return print_json(&Value::Array(keys.iter().map(|key| to_json(key, &usage)).collect()));
    }
    if keys.is_empty() {
        return print("no keys; `autarky keys create NAME` makes one\n");
    }
    let mut out = String::new();
    let head = format!("{:>4}  {:20}  {:8}  {:>9}  {:>12}", "id", "name", "state", "requests", "tokens");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", Style::stdout().bold(&head));
    let now = UnixTime::now();
    for key in &keys {
        let state = match (key.revoked, key.limits.expires) {
            (Some(_), _) => "revoked",
            (None, Some(expires)) if expires <= now => "expired",
            _ => "good",
        };
        let (requests, tokens) = used(key, &usage);
        let _ = writeln!(
            out,
            "{:>4}  {:20}  {state:8}  {requests:>9}  {tokens:>12}",
            key.id,
            printable(&key.name)
        );
    }
    print(&out)
}
