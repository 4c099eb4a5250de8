//! Methods of Python's strings, lists and dictionaries that templates call.

use std::cell::RefCell;
use std::sync::Arc;

use super::budget::{Budget, Fault};
use super::eval::Args;
use super::value::{List, Loop, Value, push};

const STRING: &[&str] = &[
    "capitalize",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isdigit",
    "islower",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const LIST: &[&str] =
    &["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: &[&str] = &["count", "index"];
const MAP: &[&str] = &[
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

/// The method `name` of `value`'s type, if Python has it.
pub(crate) fn known(value: &Value, name: &str) -> Option<&'static str> {
    let methods = match value {
        Value::Str(_) => STRING,
        Value::List(list) if list.tuple => TUPLE,
        Value::List(_) => LIST,
        Value::Map(_) => MAP,
        _ => return None,
    };
    methods.iter().find(|method| **method == name).copied()
}

/// `receiver.name(arguments)`.
pub(crate) fn call(receiver: &Value, name: &Arc<str>, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    budget.scan(0)?;
    match receiver {
        Value::Str(text) => string(text, name, args, budget),
        Value::Map(map) => match &**name {
            "get" => {
                let key = args.get(0, "key").and_then(Value::as_str);
                let found = key.and_then(|key| map.get(key));
                Ok(found.or_else(|| args.get(1, "default")).cloned().unwrap_or(Value::None))
            }
            "items" => {
                let pair = |(key, value): &(Arc<str>, Value)| {
                    List::value(vec![Value::Str(Arc::clone(key)), value.clone()], true, budget)
                };
                List::value(map.entries().iter().map(pair).collect::<Result<_, _>>()?, false, budget)
            }
            "keys" => List::value(
                map.entries().iter().map(|(key, _)| Value::Str(Arc::clone(key))).collect(),
                false,
                budget,
            ),
            "values" => {
                List::value(map.entries().iter().map(|(_, value)| value.clone()).collect(), false, budget)
            }
            "copy" => Ok(receiver.clone()),
            "clear" | "fromkeys" | "pop" | "popitem" | "setdefault" | "update" => {
                Err(immutable(receiver, name))
            }
            _ => match map.get(name) {
                Some(_) => Err(Fault::new(format!("the entry `{name}` cannot be called"))),
                None => Err(no_method(receiver, name)),
            },
        },
        Value::List(list) => match &**name {
            "index" => {
                let wanted = args.get(0, "value").ok_or_else(|| Fault::new("`index` needs a value"))?;
                for (place, item) in list.items.iter().enumerate() {
                    if item.equals(wanted, budget)? {
                        return Ok(Value::Int(place as i64));
                    }
                }
                Err(Fault::new("the value is not in the list"))
            }
            "count" => {
                let wanted = args.get(0, "value").ok_or_else(|| Fault::new("`count` needs a value"))?;
                let mut count = 0;
                for item in &list.items {
                    count += i64::from(item.equals(wanted, budget)?);
                }
                Ok(Value::Int(count))
            }
            "copy" => Ok(receiver.clone()),
            _ if known(receiver, name).is_some() => Err(immutable(receiver, name)),
            _ => Err(no_method(receiver, name)),
        },
        Value::Loop(state) => loop_method(state, name, args, budget),
        Value::Undefined(held) => Err(Value::undefined_fault(held)),
        other => Err(no_method(other, name)),
    }
}

fn no_method(receiver: &Value, name: &str) -> Fault {
    Fault::new(format!("`{}` has no method `{name}`", receiver.type_name()))
}

fn immutable(receiver: &Value, name: &str) -> Fault {
    Fault::new(format!("`{name}` would change a `{}`, which templates may not", receiver.type_name()))
}

fn loop_method(state: &Loop, name: &str, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    match name {
        "cycle" => {
            let count = args.positional.len();
            let place =
                state.place.get().checked_rem(count).ok_or_else(|| Fault::new("`cycle` needs values"))?;
            Ok(args.positional.get(place).cloned().unwrap_or(Value::None))
        }
        "changed" => {
            let now = List::value(args.positional.clone(), true, budget)?;
            let last: &RefCell<Option<Value>> = &state.last_changed;
            let same = match &*last.borrow() {
                Some(before) => before.equals(&now, budget)?,
                None => false,
            };
            *last.borrow_mut() = Some(now);
            Ok(Value::Bool(!same))
        }
        _ => Err(Fault::new(format!("`loop` has no method `{name}`"))),
    }
}

fn string(text: &str, name: &str, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    // Most methods read the text once and may give it back.
    budget.grow(text.len())?;
    let make = |text: &str| Value::string(text, budget);
    let wanted = |place: usize| {
        args.positional
            .get(place)
            .and_then(Value::as_str)
            .ok_or_else(|| Fault::new(format!("`{name}` needs a string as argument {}", place + 1)))
    };
    let every = |test: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(test)));
    let found = |place: Option<usize>| {
        let place = place.map(|place| text.get(..place).unwrap_or_default().chars().count() as i64);
        Value::Int(place.unwrap_or(-1))
    };
    match name {
        "upper" => make(&text.to_uppercase()),
        "lower" => make(&text.to_lowercase()),
        "strip" | "lstrip" | "rstrip" => strip(text, name, args, budget),
        "title" => make(&title(text)),
        "capitalize" => make(&capitalize(text)),
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() }
            };
            make(&text.chars().map(swap).collect::<String>())
        }
        "startswith" | "endswith" => {
            let matches = |affix: &Value| match affix.as_str() {
                Some(affix) if name == "startswith" => Ok(text.starts_with(affix)),
                Some(affix) => Ok(text.ends_with(affix)),
                None => Err(Fault::new(format!("`{name}` needs a string, not `{}`", affix.type_name()))),
            };
            let mut any = false;
            match args.positional.first() {
                Some(Value::List(affixes)) => {
                    for affix in &affixes.items {
                        budget.scan(0)?;
                        any |= matches(affix)?;
                    }
                }
                Some(affix) => any = matches(affix)?,
                None => return Err(Fault::new(format!("`{name}` needs an argument"))),
            }
            Ok(Value::Bool(any))
        }
        "split" | "rsplit" => split(text, name == "rsplit", args, budget),
        "splitlines" => {
            let keep = args.get(0, "keepends").is_some_and(Value::truth);
            let lines = text
                .split_inclusive('\n')
                .map(|line| if keep { line } else { line.trim_end_matches(['\n', '\r']) });
            let lines = lines.map(make).collect::<Result<_, _>>()?;
            List::value(lines, false, budget)
        }
        "partition" | "rpartition" => {
            let separator = wanted(0)?;
            let parts =
                if name == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match parts {
                Some((before, after)) => [before, separator, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            List::value(parts.into_iter().map(make).collect::<Result<_, _>>()?, true, budget)
        }
        "replace" => {
            let (from, to) = (wanted(0)?, wanted(1)?);
            replace(text, from, to, args.get(2, "count").and_then(Value::as_int), budget)
        }
        "removeprefix" => make(text.strip_prefix(wanted(0)?).unwrap_or(text)),
        "removesuffix" => make(text.strip_suffix(wanted(0)?).unwrap_or(text)),
        "find" => Ok(found(text.find(wanted(0)?))),
        "rfind" => Ok(found(text.rfind(wanted(0)?))),
        "index" => match text.find(wanted(0)?) {
            None => Err(Fault::new("the part is not in the string")),
            place => Ok(found(place)),
        },
        "count" => Ok(Value::Int(match wanted(0)? {
            "" => text.chars().count() as i64 + 1,
            part => text.matches(part).count() as i64,
        })),
        "join" => {
            let items =
                args.positional.first().ok_or_else(|| Fault::new("`join` needs a list"))?.iterate(budget)?;
            let mut out = String::new();
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    push(&mut out, text, budget)?;
                }
                let item =
                    item.as_str().ok_or_else(|| Fault::new(format!("`join` of `{}`", item.type_name())))?;
                push(&mut out, item, budget)?;
            }
            make(&out)
        }
        "format" => format(text, args, budget),
        "isdigit" => every(|c| c.is_ascii_digit()),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isspace" => every(char::is_whitespace),
        "isupper" => {
            Ok(Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)))
        }
        "islower" => {
            Ok(Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)))
        }
        "zfill" | "ljust" | "rjust" => {
            let width = args.positional.first().and_then(Value::as_int).unwrap_or_default();
            let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
            let fill = if name == "zfill" {
                "0"
            } else {
                args.get(1, "fillchar").and_then(Value::as_str).unwrap_or(" ")
            };
            budget.grow(missing.saturating_mul(fill.len()))?;
            let fill = fill.repeat(missing);
            match name {
                "ljust" => make(&(text.to_owned() + &fill)),
                "zfill" if text.starts_with(['-', '+']) => {
                    let (sign, digits) = text.split_at_checked(1).unwrap_or(("", text));
                    make(&format!("{sign}{fill}{digits}"))
                }
                _ => make(&(fill + text)),
            }
        }
        _ => Err(Fault::new(format!("`str` has no method `{name}`"))),
    }
}

fn strip(text: &str, name: &str, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let set = args.given(0, "chars").map(|chars| {
        chars
            .as_str()
            .ok_or_else(|| Fault::new(format!("`{name}` needs a string, not `{}`", chars.type_name())))
    });
    let set: Option<&str> = set.transpose()?;
    budget.scan(text.len().saturating_mul(set.map_or(1, str::len)))?;
    let drops = |c: char| set.map_or_else(|| c.is_whitespace(), |set| set.contains(c));
    let mut kept = text;
    if name != "rstrip" {
        kept = kept.trim_start_matches(drops);
    }
    if name != "lstrip" {
        kept = kept.trim_end_matches(drops);
    }
    Value::string(kept, budget)
}

fn split(text: &str, from_end: bool, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let limit = args.get(1, "maxsplit").and_then(Value::as_int).and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut parts: Vec<&str> = match args.given(0, "sep") {
        Some(separator) => {
            let separator = separator.as_str().filter(|separator| !separator.is_empty());
            let separator =
                separator.ok_or_else(|| Fault::new("`split` needs a string that is not empty"))?;
            // Every part will be a value; pay before the list of parts is made.
            budget.grow(text.matches(separator).take(limit).count() * size_of::<Value>())?;
            if from_end {
                text.rsplitn(limit, separator).collect()
            } else {
                text.splitn(limit, separator).collect()
            }
        }
        None if limit == usize::MAX => {
            budget.grow(text.split_whitespace().count() * size_of::<Value>())?;
            text.split_whitespace().collect()
        }
        None => {
            let (mut parts, mut rest) =
                (Vec::new(), if from_end { text.trim_end() } else { text.trim_start() });
            while !rest.is_empty() {
                budget.grow(size_of::<Value>())?;
                let cut = if parts.len() + 1 == limit {
                    None
                } else if from_end {
                    rest.rsplit_once(char::is_whitespace).map(|(before, part)| (part, before.trim_end()))
                } else {
                    rest.split_once(char::is_whitespace).map(|(part, after)| (part, after.trim_start()))
                };
                let (part, left) = cut.unwrap_or((rest, ""));
                parts.push(part);
                rest = left;
            }
            parts
        }
    };
    // From the end, but for splitting at every blank, the parts come last one first.
    if from_end && (limit != usize::MAX || args.given(0, "sep").is_some()) {
        parts.reverse();
    }
    let parts = parts.into_iter().map(|part| Value::string(part, budget)).collect::<Result<_, _>>()?;
    List::value(parts, false, budget)
}

/// `text` with up to `count` places of `from` replaced.
pub(crate) fn replace(
    text: &str,
    from: &str,
    to: &str,
    count: Option<i64>,
    budget: &Budget,
) -> Result<Value, Fault> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let places = text.matches(from).take(count).count();
    budget.grow(text.len().saturating_add(places.saturating_mul(to.len())))?;
    Value::string(text.replacen(from, to, count), budget)
}

/// Python's `str.title`: a letter behind anything but a letter is large, the others small.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

/// The first character large, the others small.
pub(crate) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect()
}

/// `str.format` with plain fields: `{}`, `{0}`, `{name}`.
fn format(text: &str, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}']) {
        push(&mut out, rest.get(..place).unwrap_or_default(), budget)?;
        let tail = rest.get(place..).unwrap_or_default();
        if tail.starts_with("{{") || tail.starts_with("}}") {
            push(&mut out, tail.get(..1).unwrap_or_default(), budget)?;
            rest = tail.get(2..).unwrap_or_default();
            continue;
        }
        let end = tail.find('}').filter(|_| tail.starts_with('{'));
        let end = end.ok_or_else(|| Fault::new("`format` with a single brace"))?;
        let field = tail.get(1..end).unwrap_or_default();
        let value = if field.is_empty() {
            next += 1;
            args.positional.get(next - 1)
        } else if let Ok(place) = field.parse::<usize>() {
            args.positional.get(place)
        } else {
            args.named.iter().find(|(name, _)| **name == *field).map(|(_, value)| value)
        };
        let value = value.ok_or_else(|| Fault::new(format!("`format` has no value for `{{{field}}}`")))?;
        value.print(&mut out, budget)?;
        rest = tail.get(end + 1..).unwrap_or_default();
    }
    push(&mut out, rest, budget)?;
    Value::string(out, budget)
}
