//! The values of a rendering, with Python's ways of comparing and printing them.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::Macro;
use super::budget::{Budget, Fault};

/// A value. Lists and dictionaries never change: the sandbox that templates are written for forbids it.
#[derive(Clone)]
pub(crate) enum Value {
    /// A missing name or attribute, and what was looked for.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    List(Rc<List>),
    Map(Rc<Map>),
    Namespace(Namespace),
    Macro(Arc<Macro>),
    Loop(Rc<Loop>),
    /// A function of the environment, or a method that was named but not called.
    Function(&'static str),
}

/// A namespace's variables: the one thing that a template can change.
pub(crate) type Namespace = Rc<RefCell<Vec<(Arc<str>, Value)>>>;

/// A list or tuple.
pub(crate) struct List {
    pub(crate) items: Vec<Value>,
    pub(crate) tuple: bool,
    depth: u32,
}

/// A dictionary with string keys, in the order of insertion.
pub(crate) struct Map {
    entries: Vec<(Arc<str>, Value)>,
    // Places in `entries` sorted by key.
    order: Vec<u32>,
    depth: u32,
}

/// The variable `loop`.
pub(crate) struct Loop {
    /// The current item's place.
    pub(crate) place: Cell<usize>,
    pub(crate) items: Vec<Value>,
    /// The last arguments of `loop.changed`.
    pub(crate) last_changed: RefCell<Option<Value>>,
}

/// How deep values may contain each other: printing and dropping them recurses.
const DEPTH: u32 = 100;

impl List {
    /// Pays for and makes a list.
    pub(crate) fn value(items: Vec<Value>, tuple: bool, budget: &Budget) -> Result<Value, Fault> {
        budget.grow(items.len() * size_of::<Value>())?;
        let depth = depth_of(items.iter())?;
        Ok(Value::List(Rc::new(Self { items, tuple, depth })))
    }
}

impl Map {
    /// Pays for and makes a dictionary; later entries replace earlier ones of the same key.
    pub(crate) fn value(entries: Vec<(Arc<str>, Value)>, budget: &Budget) -> Result<Value, Fault> {
        budget.grow(entries.len() * (size_of::<(Arc<str>, Value)>() + 4))?;
        let depth = depth_of(entries.iter().map(|(_, value)| value))?;
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        let key = |place: &u32| entries.get(*place as usize).map(|(key, _)| &**key);
        // The sort is stable, so equal keys stay in order of insertion.
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let twice = order.windows(2).any(|pair| matches!(pair, [a, b] if key(a) == key(b)));
        if twice {
            let mut unique: Vec<(Arc<str>, Value)> = Vec::with_capacity(entries.len());
            let mut places: std::collections::HashMap<Arc<str>, usize> = std::collections::HashMap::new();
            for (key, value) in entries {
                let place = *places.entry(Arc::clone(&key)).or_insert(unique.len());
                match unique.get_mut(place) {
                    Some(entry) => entry.1 = value,
                    None => unique.push((key, value)),
                }
            }
            return Self::value(unique, budget);
        }
        Ok(Value::Map(Rc::new(Self { entries, order, depth })))
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        let entry = |place: u32| self.entries.get(place as usize);
        let found = self
            .order
            .binary_search_by(|&place| entry(place).map_or(Ordering::Less, |(found, _)| (**found).cmp(key)))
            .ok()?;
        entry(*self.order.get(found)?).map(|(_, value)| value)
    }

    /// Keys and values in the order of insertion.
    pub(crate) fn entries(&self) -> &[(Arc<str>, Value)] {
        &self.entries
    }
}

/// One more than the deepest of `items`; what could contain itself is refused.
fn depth_of<'a>(items: impl Iterator<Item = &'a Value>) -> Result<u32, Fault> {
    let mut deepest = 0;
    for item in items {
        let depth = match item {
            Value::List(list) => list.depth,
            Value::Map(map) => map.depth,
            Value::Namespace(_) | Value::Loop(_) => {
                return Err(Fault::new("a namespace or loop cannot be stored in another value"));
            }
            _ => 0,
        };
        deepest = deepest.max(depth + 1);
    }
    if deepest > DEPTH { Err(Fault::Limit("nesting of values")) } else { Ok(deepest) }
}

impl Value {
    /// Pays for and makes a string.
    pub(crate) fn string(text: impl AsRef<str>, budget: &Budget) -> Result<Self, Fault> {
        let text = text.as_ref();
        budget.grow(text.len() + 16)?;
        Ok(Self::Str(text.into()))
    }

    /// Takes in JSON, for instance messages.
    pub(crate) fn from_json(json: &serde_json::Value, budget: &Budget) -> Result<Self, Fault> {
        Ok(match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::string(text, budget)?,
            serde_json::Value::Array(items) => {
                let items =
                    items.iter().map(|item| Self::from_json(item, budget)).collect::<Result<_, _>>()?;
                List::value(items, false, budget)?
            }
            serde_json::Value::Object(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((Arc::from(key.as_str()), Self::from_json(value, budget)?)))
                    .collect::<Result<_, Fault>>()?;
                Map::value(entries, budget)?
            }
        })
    }

    /// The type's name, as Python gives it in its errors.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(list) if list.tuple => "tuple",
            Self::List(_) => "list",
            Self::Map(_) => "dict",
            Self::Namespace(_) => "namespace",
            Self::Macro(_) => "macro",
            Self::Loop(_) => "loop",
            Self::Function(_) => "function",
        }
    }

    /// The error of using a missing value.
    pub(crate) fn undefined_fault(name: &str) -> Fault {
        Fault::new(format!("`{name}` is undefined"))
    }

    /// Python's truth: empty and zero are false.
    pub(crate) fn truth(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            _ => true,
        }
    }

    /// The number that a number or truth value is.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number that a number or truth value is.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Python's `==`.
    pub(crate) fn equals(&self, other: &Self, budget: &Budget) -> Result<bool, Fault> {
        Ok(match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => {
                budget.scan(a.len().min(b.len()))?;
                a == b
            }
            (Self::List(a), Self::List(b)) => {
                budget.scan(0)?;
                if a.tuple != b.tuple || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(a), Self::Map(b)) => {
                budget.scan(0)?;
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match b.get(key) {
                        Some(other) if value.equals(other, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Int(a), Self::Int(b)) => a == b,
            _ => match (self.as_number(), other.as_number()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        })
    }

    /// Python's `<` and the like.
    pub(crate) fn compare(&self, other: &Self, budget: &Budget) -> Result<Ordering, Fault> {
        let unordered = || {
            Fault::new(format!("`{}` and `{}` cannot be put in order", self.type_name(), other.type_name()))
        };
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => {
                budget.scan(a.len().min(b.len()))?;
                Ok(a.cmp(b))
            }
            (Self::List(a), Self::List(b)) => {
                budget.scan(0)?;
                for (a, b) in a.items.iter().zip(&b.items) {
                    let ordering = a.compare(b, budget)?;
                    if ordering != Ordering::Equal {
                        return Ok(ordering);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            (Self::Int(a), Self::Int(b)) => Ok(a.cmp(b)),
            _ => match (self.as_number(), other.as_number()) {
                (Some(a), Some(b)) => a.partial_cmp(&b).ok_or_else(unordered),
                _ => Err(unordered()),
            },
        }
    }

    /// Python's `in`: whether `self` contains `item`.
    pub(crate) fn contains(&self, item: &Self, budget: &Budget) -> Result<bool, Fault> {
        match self {
            Self::Str(text) => {
                let Some(part) = item.as_str() else {
                    return Err(Fault::new(format!("a string cannot contain `{}`", item.type_name())));
                };
                budget.scan(text.len())?;
                Ok(text.contains(part))
            }
            Self::List(list) => {
                for candidate in &list.items {
                    budget.scan(0)?;
                    if candidate.equals(item, budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Map(map) => Ok(item.as_str().is_some_and(|key| map.get(key).is_some())),
            Self::Namespace(entries) => {
                Ok(item.as_str().is_some_and(|key| entries.borrow().iter().any(|(name, _)| **name == *key)))
            }
            Self::Undefined(_) => Ok(false),
            other => Err(Fault::new(format!("`{}` contains nothing", other.type_name()))),
        }
    }

    /// The items that a loop goes through.
    pub(crate) fn iterate(&self, budget: &Budget) -> Result<Vec<Self>, Fault> {
        match self {
            Self::List(list) => {
                budget.grow(list.items.len() * size_of::<Self>())?;
                Ok(list.items.clone())
            }
            Self::Map(map) => {
                budget.grow(map.entries.len() * size_of::<Self>())?;
                Ok(map.entries.iter().map(|(key, _)| Self::Str(Arc::clone(key))).collect())
            }
            Self::Str(text) => {
                budget.grow(text.len() * (size_of::<Self>() + 24))?;
                let mut buffer = [0; 4];
                Ok(text.chars().map(|c| Self::Str(Arc::from(&*c.encode_utf8(&mut buffer)))).collect())
            }
            Self::Undefined(_) => Ok(Vec::new()),
            other => Err(Fault::new(format!("`{}` cannot be iterated", other.type_name()))),
        }
    }

    /// Puts what `str()` gives behind `out`.
    pub(crate) fn print(&self, out: &mut String, budget: &Budget) -> Result<(), Fault> {
        match self {
            Self::Undefined(_) => Ok(()),
            Self::Str(text) => push(out, text, budget),
            other => other.print_repr(out, budget),
        }
    }

    /// The value as text.
    pub(crate) fn to_text(&self, budget: &Budget) -> Result<Arc<str>, Fault> {
        if let Self::Str(text) = self {
            return Ok(Arc::clone(text));
        }
        let mut out = String::new();
        self.print(&mut out, budget)?;
        Ok(out.into())
    }

    /// Puts what `repr()` gives behind `out`.
    fn print_repr(&self, out: &mut String, budget: &Budget) -> Result<(), Fault> {
        match self {
            Self::Undefined(_) => push(out, "Undefined", budget),
            Self::None => push(out, "None", budget),
            Self::Bool(true) => push(out, "True", budget),
            Self::Bool(false) => push(out, "False", budget),
            Self::Int(value) => push(out, &value.to_string(), budget),
            Self::Float(value) => push(out, &float_repr(*value), budget),
            Self::Str(text) => push(out, &string_repr(text), budget),
            Self::List(list) => {
                push(out, if list.tuple { "(" } else { "[" }, budget)?;
                for (place, item) in list.items.iter().enumerate() {
                    if place > 0 {
                        push(out, ", ", budget)?;
                    }
                    item.print_repr(out, budget)?;
                }
                if list.tuple && list.items.len() == 1 {
                    push(out, ",", budget)?;
                }
                push(out, if list.tuple { ")" } else { "]" }, budget)
            }
            Self::Map(map) => {
                push(out, "{", budget)?;
                for (place, (key, value)) in map.entries.iter().enumerate() {
                    if place > 0 {
                        push(out, ", ", budget)?;
                    }
                    push(out, &string_repr(key), budget)?;
                    push(out, ": ", budget)?;
                    value.print_repr(out, budget)?;
                }
                push(out, "}", budget)
            }
            Self::Namespace(_) => push(out, "<Namespace>", budget),
            Self::Macro(found) => push(out, &format!("<Macro '{}'>", found.name), budget),
            Self::Loop(_) => push(out, "<LoopContext>", budget),
            Self::Function(name) => push(out, &format!("<function {name}>"), budget),
        }
    }
}

/// Pays for and adds text.
pub(crate) fn push(out: &mut String, text: &str, budget: &Budget) -> Result<(), Fault> {
    budget.grow(text.len())?;
    out.push_str(text);
    Ok(())
}

/// A float as Python prints it: the shortest digits that read back the same, with an exponent only beyond
/// 10^16 and below 10^-4.
pub(crate) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) || value == 0.0 {
        format!("{value:?}")
    } else {
        format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

/// A string as Python's `repr` prints it.
fn string_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}
