//! Jinja's filters: `value|name(arguments)`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::budget::{Budget, Fault};
use super::eval::Args;
use super::json::{Layout, dump};
use super::methods;
use super::operators::subscript;
use super::predicates;
use super::value::{List, Value, push};

/// `value|name(arguments)`.
pub(crate) fn apply(name: &str, value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    budget.scan(0)?;
    let text = || -> Result<Arc<str>, Fault> {
        let text = value.to_text(budget)?;
        budget.grow(text.len())?;
        Ok(text)
    };
    let make = |text: &str| Value::string(text, budget);
    match name {
        "default" | "d" => {
            let replace = match value {
                Value::Undefined(_) => true,
                other => args.get(1, "boolean").is_some_and(Value::truth) && !other.truth(),
            };
            if !replace {
                return Ok(value.clone());
            }
            args.get(0, "default_value").cloned().map_or_else(|| make(""), Ok)
        }
        "length" | "count" => length(value, budget),
        "upper" => make(&text()?.to_uppercase()),
        "lower" => make(&text()?.to_lowercase()),
        "capitalize" => make(&methods::capitalize(&text()?)),
        "title" => make(&title(&text()?)),
        "trim" => {
            let text = text()?;
            let chars = args.given(0, "chars").and_then(Value::as_str);
            budget.scan(text.len().saturating_mul(chars.map_or(1, str::len)))?;
            make(text.trim_matches(|c: char| chars.map_or_else(|| c.is_whitespace(), |set| set.contains(c))))
        }
        "replace" => {
            let wanted =
                |place, name| args.get(place, name).ok_or_else(|| Fault::new("`replace` needs two strings"));
            let (from, to) = (wanted(0, "old")?.to_text(budget)?, wanted(1, "new")?.to_text(budget)?);
            methods::replace(&text()?, &from, &to, args.given(2, "count").and_then(Value::as_int), budget)
        }
        "string" => Ok(Value::Str(text()?)),
        // Nothing is escaped, so nothing needs to be marked as safe.
        "safe" => Ok(value.clone()),
        "escape" | "e" | "forceescape" => {
            let text = text()?;
            budget.grow(text.len().saturating_mul(5))?;
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            make(&text.replace('\'', "&#39;").replace('"', "&#34;"))
        }
        "tojson" => to_json(value, args, budget),
        "int" => to_int(value, args),
        "float" => to_float(value, args),
        "abs" => match value {
            Value::Float(value) => Ok(Value::Float(value.abs())),
            other => match other.as_int().and_then(i64::checked_abs) {
                Some(value) => Ok(Value::Int(value)),
                None => Err(Fault::new(format!("`abs` of `{}`", other.type_name()))),
            },
        },
        "round" => round(value, args),
        "list" => List::value(value.iterate(budget)?, false, budget),
        "first" => {
            Ok(value.iterate(budget)?.first().cloned().unwrap_or_else(|| Value::Undefined("first".into())))
        }
        "last" => {
            Ok(value.iterate(budget)?.last().cloned().unwrap_or_else(|| Value::Undefined("last".into())))
        }
        "reverse" => {
            if let Value::Str(text) = value {
                budget.grow(text.len())?;
                return make(&text.chars().rev().collect::<String>());
            }
            let mut items = value.iterate(budget)?;
            items.reverse();
            List::value(items, false, budget)
        }
        "join" => join(value, args, budget),
        "items" => match value {
            Value::Undefined(_) => List::value(Vec::new(), false, budget),
            Value::Map(_) => methods::call(value, &"items".into(), &Args::default(), budget),
            other => Err(Fault::new(format!("`items` of `{}`", other.type_name()))),
        },
        "dictsort" => dictsort(value, args, budget),
        "sort" => sort(value, args, budget),
        "unique" => unique(value, args, budget),
        "min" | "max" => extreme(name == "max", value, args, budget),
        "sum" => sum(value, args, budget),
        "map" => map(value, args, budget),
        "select" | "reject" => select(name == "select", None, value, args, budget),
        "selectattr" | "rejectattr" => {
            let attribute =
                args.positional.first().ok_or_else(|| Fault::new(format!("`{name}` needs an attribute")))?;
            select(name == "selectattr", Some(attribute), value, args, budget)
        }
        "attr" => {
            let name = args.positional.first().ok_or_else(|| Fault::new("`attr` needs a name"))?;
            match (value, name) {
                // An entry of a dictionary is no attribute of it.
                (Value::Map(_), Value::Str(name)) => Ok(Value::Undefined(Arc::clone(name))),
                _ => subscript(value, name, budget),
            }
        }
        "indent" => indent(&text()?, args, budget),
        "format" => match args.positional.as_slice() {
            [one] => percent_format(&text()?, one, budget),
            several => percent_format(&text()?, &List::value(several.to_vec(), true, budget)?, budget),
        },
        "wordcount" => Ok(Value::Int(text()?.split_whitespace().count() as i64)),
        _ => Err(Fault::new(format!("no filter is named `{name}`"))),
    }
}

fn length(value: &Value, budget: &Budget) -> Result<Value, Fault> {
    Ok(Value::Int(match value {
        Value::Str(text) => {
            budget.scan(text.len())?;
            text.chars().count()
        }
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries().len(),
        Value::Undefined(_) => 0,
        other => return Err(Fault::new(format!("`length` of `{}`", other.type_name()))),
    } as i64))
}

/// Jinja's own `title`: words begin behind blanks, hyphens and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn to_json(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    // Hugging Face's signature: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
    let flag = |place, name| args.get(place, name).is_some_and(Value::truth);
    let indent = args.given(1, "indent").and_then(Value::as_int);
    // A bare number by place is what Jinja's own `tojson` takes as the indent.
    let indent = indent.or(match args.positional.as_slice() {
        [Value::Int(indent)] => Some(*indent),
        _ => None,
    });
    let separators = match args.given(2, "separators") {
        Some(Value::List(pair)) => match pair.items.as_slice() {
            [Value::Str(item), Value::Str(key)] => Some((item.to_string(), key.to_string())),
            _ => return Err(Fault::new("`separators` are two strings")),
        },
        Some(_) => return Err(Fault::new("`separators` are two strings")),
        None => None,
    };
    let item = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or_else(|| (item.into(), ": ".into()));
    let layout = Layout {
        indent: indent.map(|indent| usize::try_from(indent).unwrap_or(0)),
        item,
        key,
        sort_keys: flag(3, "sort_keys"),
        ascii: args.get(0, "ensure_ascii").is_some_and(|flag| matches!(flag, Value::Bool(true))),
    };
    let mut out = String::new();
    dump(value, &layout, &mut out, budget)?;
    Value::string(out, budget)
}

fn to_int(value: &Value, args: &Args) -> Result<Value, Fault> {
    let default = || args.get(0, "default").cloned().unwrap_or(Value::Int(0));
    Ok(match value {
        Value::Float(value) if value.is_finite() => Value::Int(*value as i64),
        Value::Str(text) => {
            let text = text.trim();
            let number = text
                .parse()
                .ok()
                .or_else(|| text.parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| v as i64));
            number.map_or_else(default, Value::Int)
        }
        other => other.as_int().map_or_else(default, Value::Int),
    })
}

fn to_float(value: &Value, args: &Args) -> Result<Value, Fault> {
    let default = || args.get(0, "default").cloned().unwrap_or(Value::Float(0.0));
    Ok(match value {
        Value::Str(text) => text.trim().parse().map_or_else(|_| default(), Value::Float),
        other => other.as_number().map_or_else(default, Value::Float),
    })
}

fn round(value: &Value, args: &Args) -> Result<Value, Fault> {
    let number =
        value.as_number().ok_or_else(|| Fault::new(format!("`round` of `{}`", value.type_name())))?;
    let digits = args.get(0, "precision").and_then(Value::as_int).unwrap_or(0).clamp(-300, 300) as i32;
    let factor = 10_f64.powi(digits);
    let scaled = number * factor;
    let rounded = match args.get(1, "method").and_then(Value::as_str).unwrap_or("common") {
        "common" => scaled.round_ties_even(),
        "ceil" => scaled.ceil(),
        "floor" => scaled.floor(),
        other => return Err(Fault::new(format!("`round` has no method `{other}`"))),
    };
    Ok(Value::Float(if rounded.is_finite() { rounded / factor } else { number }))
}

/// The value at an attribute path such as `function.name`, or at an index.
fn at_path(item: &Value, path: &Value, budget: &Budget) -> Result<Value, Fault> {
    let Value::Str(path) = path else { return subscript(item, path, budget) };
    let mut value = item.clone();
    for part in path.split('.') {
        let key = part.parse().map_or_else(|_| Value::Str(part.into()), Value::Int);
        value = subscript(&value, &key, budget)?;
    }
    Ok(value)
}

fn join(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let separator = args.get(0, "d").map_or_else(|| Ok("".into()), |separator| separator.to_text(budget))?;
    let mut out = String::new();
    for (place, item) in value.iterate(budget)?.iter().enumerate() {
        if place > 0 {
            push(&mut out, &separator, budget)?;
        }
        match args.given(1, "attribute") {
            Some(path) => at_path(item, path, budget)?.print(&mut out, budget)?,
            None => item.print(&mut out, budget)?,
        }
    }
    Value::string(out, budget)
}

fn dictsort(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let Value::Map(map) = value else {
        return Err(Fault::new(format!("`dictsort` of `{}`", value.type_name())));
    };
    let by_value = args.get(1, "by").and_then(Value::as_str) == Some("value");
    let exact = args.get(0, "case_sensitive").is_some_and(Value::truth);
    let mut keyed = Vec::new();
    for (key, value) in map.entries() {
        let by = if by_value { value.clone() } else { Value::Str(Arc::clone(key)) };
        let pair = List::value(vec![Value::Str(Arc::clone(key)), value.clone()], true, budget)?;
        keyed.push((fold(by, exact, budget)?, pair));
    }
    sorted(keyed, args.get(2, "reverse").is_some_and(Value::truth), budget)
}

/// Text in small letters unless case counts.
fn fold(value: Value, exact: bool, budget: &Budget) -> Result<Value, Fault> {
    match &value {
        Value::Str(text) if !exact => Value::string(text.to_lowercase(), budget),
        _ => Ok(value),
    }
}

/// Items by their keys; equal ones keep their order.
fn sorted(mut keyed: Vec<(Value, Value)>, reverse: bool, budget: &Budget) -> Result<Value, Fault> {
    let mut failure = None;
    keyed.sort_by(|(a, _), (b, _)| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        let ordering = budget.scan(0).and_then(|()| a.compare(b, budget)).unwrap_or_else(|fault| {
            failure = Some(fault);
            Ordering::Equal
        });
        if reverse { ordering.reverse() } else { ordering }
    });
    match failure {
        Some(fault) => Err(fault),
        None => List::value(keyed.into_iter().map(|(_, item)| item).collect(), false, budget),
    }
}

/// The items of `value` with what they are compared by.
fn keyed(
    value: &Value,
    args: &Args,
    places: [usize; 2],
    budget: &Budget,
) -> Result<Vec<(Value, Value)>, Fault> {
    let [case, attribute] = places;
    let exact = args.get(case, "case_sensitive").is_some_and(Value::truth);
    let mut out = Vec::new();
    for item in value.iterate(budget)? {
        let by = match args.given(attribute, "attribute") {
            Some(path) => at_path(&item, path, budget)?,
            None => item.clone(),
        };
        out.push((fold(by, exact, budget)?, item));
    }
    Ok(out)
}

fn sort(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    sorted(keyed(value, args, [1, 2], budget)?, args.get(0, "reverse").is_some_and(Value::truth), budget)
}

fn unique(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let mut kept: Vec<(Value, Value)> = Vec::new();
    for (by, item) in keyed(value, args, [0, 1], budget)? {
        let mut seen = false;
        for (other, _) in &kept {
            budget.scan(0)?;
            seen |= other.equals(&by, budget)?;
        }
        if !seen {
            kept.push((by, item));
        }
    }
    List::value(kept.into_iter().map(|(_, item)| item).collect(), false, budget)
}

fn extreme(largest: bool, value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let mut best: Option<(Value, Value)> = None;
    for (by, item) in keyed(value, args, [0, 1], budget)? {
        let better = match &best {
            None => true,
            Some((other, _)) => {
                by.compare(other, budget)? == if largest { Ordering::Greater } else { Ordering::Less }
            }
        };
        if better {
            best = Some((by, item));
        }
    }
    Ok(best.map_or_else(|| Value::Undefined("an item".into()), |(_, item)| item))
}

fn sum(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let (mut whole, mut total) = (Some(0_i64), 0.0);
    for item in value.iterate(budget)? {
        let item = match args.given(0, "attribute") {
            Some(path) => at_path(&item, path, budget)?,
            None => item,
        };
        let number =
            item.as_number().ok_or_else(|| Fault::new(format!("`sum` with a `{}`", item.type_name())))?;
        whole = whole.zip(item.as_int()).and_then(|(sum, item)| sum.checked_add(item));
        total += number;
    }
    Ok(whole.map_or(Value::Float(total), Value::Int))
}

/// The items that `map` and `select` go through: as in Jinja, nothing of what is false.
fn items_if_true(value: &Value, budget: &Budget) -> Result<Vec<Value>, Fault> {
    if value.truth() { value.iterate(budget) } else { Ok(Vec::new()) }
}

/// `map('filter', ...)` or `map(attribute='name', default=...)`.
fn map(value: &Value, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let mut out = Vec::new();
    let filter = args.positional.first().and_then(Value::as_str);
    let rest =
        Args { positional: args.positional.iter().skip(1).cloned().collect(), named: args.named.clone() };
    for item in items_if_true(value, budget)? {
        budget.scan(0)?;
        out.push(match (args.named.iter().find(|(name, _)| &**name == "attribute"), filter) {
            (Some((_, path)), _) => match at_path(&item, path, budget)? {
                Value::Undefined(_) if args.named.iter().any(|(name, _)| &**name == "default") => {
                    args.get(usize::MAX, "default").cloned().unwrap_or(Value::None)
                }
                found => found,
            },
            (None, Some(filter)) => apply(filter, &item, &rest, budget)?,
            (None, None) => return Err(Fault::new("`map` needs a filter or an attribute")),
        });
    }
    List::value(out, false, budget)
}

/// The items for which a test holds (or does not), looked at themselves or at an attribute.
fn select(
    wanted: bool,
    attribute: Option<&Value>,
    value: &Value,
    args: &Args,
    budget: &Budget,
) -> Result<Value, Fault> {
    let arguments = args.positional.get(usize::from(attribute.is_some())..).unwrap_or_default();
    let mut out = Vec::new();
    for item in items_if_true(value, budget)? {
        budget.scan(0)?;
        let looked_at = match attribute {
            Some(path) => at_path(&item, path, budget)?,
            None => item.clone(),
        };
        let holds = match arguments.split_first() {
            Some((Value::Str(test), arguments)) => predicates::test(test, &looked_at, arguments, budget)?,
            Some((other, _)) => {
                return Err(Fault::new(format!("a test's name is a string, not `{}`", other.type_name())));
            }
            None => looked_at.truth(),
        };
        if holds == wanted {
            out.push(item);
        }
    }
    List::value(out, false, budget)
}

fn indent(text: &str, args: &Args, budget: &Budget) -> Result<Value, Fault> {
    let width = match args.get(0, "width") {
        Some(Value::Str(width)) => width.to_string(),
        Some(width) => {
            let width = usize::try_from(width.as_int().unwrap_or(4)).unwrap_or(0);
            budget.grow(width)?;
            " ".repeat(width)
        }
        None => " ".repeat(4),
    };
    let first = args.get(1, "first").is_some_and(Value::truth);
    let blank = args.get(2, "blank").is_some_and(Value::truth);
    let mut out = String::new();
    for (place, line) in text.split('\n').enumerate() {
        if place > 0 {
            push(&mut out, "\n", budget)?;
        }
        if (place > 0 || first) && (blank || !line.is_empty()) {
            push(&mut out, &width, budget)?;
        }
        push(&mut out, line, budget)?;
    }
    Value::string(out, budget)
}

/// Python's `%` on strings, with plain `%s`, `%d`, `%f` (and a precision).
pub(crate) fn percent_format(format: &str, value: &Value, budget: &Budget) -> Result<Value, Fault> {
    let values = match value {
        Value::List(list) if list.tuple => list.items.clone(),
        other => vec![other.clone()],
    };
    let mut values = values.into_iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, tail)) = rest.split_once('%') {
        push(&mut out, before, budget)?;
        if let Some(after) = tail.strip_prefix('%') {
            push(&mut out, "%", budget)?;
            rest = after;
            continue;
        }
        let (precision, tail) = match tail.strip_prefix('.') {
            Some(tail) => {
                let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
                let (digits, tail) = tail.split_at_checked(digits).unwrap_or((tail, ""));
                (digits.parse::<usize>().ok().map(|digits| digits.min(100)), tail)
            }
            None => (None, tail),
        };
        let mut chars = tail.chars();
        let directive = chars.next().ok_or_else(|| Fault::new("a format ends with `%`"))?;
        rest = chars.as_str();
        let value = values.next().ok_or_else(|| Fault::new("a format with too few values"))?;
        let number = || {
            value.as_number().ok_or_else(|| Fault::new(format!("`%{directive}` of `{}`", value.type_name())))
        };
        match directive {
            's' => value.print(&mut out, budget)?,
            'd' | 'i' => push(&mut out, &(number()?.trunc() as i64).to_string(), budget)?,
            'f' => push(&mut out, &format!("{:.*}", precision.unwrap_or(6), number()?), budget)?,
            other => return Err(Fault::new(format!("`%{other}` is not supported"))),
        }
    }
    push(&mut out, rest, budget)?;
    Value::string(out, budget)
}
