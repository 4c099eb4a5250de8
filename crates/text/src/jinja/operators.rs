//! What attributes, indices, slices and operators do with values.

use std::sync::Arc;

use super::ast::{BinaryOp, CompareOp};
use super::budget::{Budget, Fault};
use super::filters;
use super::methods;
use super::value::{List, Value};

/// `value.name`.
pub(super) fn attribute(value: &Value, name: &Arc<str>) -> Result<Value, Fault> {
    let missing = || Value::Undefined(Arc::clone(name));
    Ok(match value {
        Value::Undefined(held) => return Err(Value::undefined_fault(held)),
        Value::Map(map) => match methods::known(value, name) {
            // As in Python, a method hides an entry of the same name.
            Some(method) => Value::Function(method),
            None => map.get(name).cloned().unwrap_or_else(missing),
        },
        Value::Namespace(entries) => entries
            .borrow()
            .iter()
            .find(|(found, _)| found == name)
            .map_or_else(missing, |(_, value)| value.clone()),
        Value::Loop(state) => {
            let (place, count) = (state.place.get(), state.items.len());
            let int = |value: usize| Value::Int(value as i64);
            let item = |place: Option<usize>| {
                place.and_then(|place| state.items.get(place)).cloned().unwrap_or_else(missing)
            };
            match &**name {
                "index" => int(place + 1),
                "index0" => int(place),
                "revindex" => int(count - place),
                "revindex0" => int(count - place - 1),
                "first" => Value::Bool(place == 0),
                "last" => Value::Bool(place + 1 == count),
                "length" => int(count),
                // Only recursive loops, which there are none of, lie deeper.
                "depth" => int(1),
                "depth0" => int(0),
                "previtem" => item(place.checked_sub(1)),
                "nextitem" => item(place.checked_add(1)),
                _ => missing(),
            }
        }
        other => methods::known(other, name).map_or_else(missing, Value::Function),
    })
}

/// `value[index]`.
pub(super) fn subscript(value: &Value, index: &Value, budget: &Budget) -> Result<Value, Fault> {
    let missing = || match index {
        Value::Str(name) => Value::Undefined(Arc::clone(name)),
        _ => Value::Undefined("an item".into()),
    };
    let place = |count: usize| {
        let index = index.as_int()?;
        usize::try_from(if index < 0 { index.checked_add(count as i64)? } else { index }).ok()
    };
    let found = match (value, index) {
        (Value::Undefined(held), _) => return Err(Value::undefined_fault(held)),
        (Value::Map(map), Value::Str(key)) => map.get(key).cloned(),
        (Value::List(list), _) => place(list.items.len()).and_then(|place| list.items.get(place)).cloned(),
        (Value::Str(text), _) => {
            budget.scan(text.len())?;
            let count = text.chars().count();
            match place(count).and_then(|place| text.chars().nth(place)) {
                Some(c) => Some(Value::string(c.encode_utf8(&mut [0; 4]), budget)?),
                None => None,
            }
        }
        _ => None,
    };
    match (found, index) {
        (Some(found), _) => Ok(found),
        // As in Jinja, a string that is no key may still be an attribute.
        (None, Value::Str(name)) => attribute(value, name),
        (None, _) => Ok(missing()),
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(
    value: &Value,
    [start, stop, step]: [Option<i64>; 3],
    budget: &Budget,
) -> Result<Value, Fault> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::new("a slice's step cannot be 0"));
    }
    let places = |count: usize| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        // Python: beyond the ends is the ends; backwards they lie one before.
        let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
        let bound = |bound: Option<i64>, default: i64| match bound {
            None => default,
            Some(bound) if bound < 0 => bound.saturating_add(count).clamp(low, high),
            Some(bound) => bound.clamp(low, high),
        };
        let (first, last) = if step > 0 { (0, count) } else { (count - 1, -1) };
        let (start, stop) = (bound(start, first), bound(stop, last));
        std::iter::successors(Some(start), move |place| place.checked_add(step))
            .take_while(move |&place| if step > 0 { place < stop } else { place > stop })
            .filter_map(|place| usize::try_from(place).ok())
    };
    match value {
        Value::List(list) => {
            budget.grow(list.items.len() * size_of::<Value>())?;
            let items = places(list.items.len()).filter_map(|place| list.items.get(place).cloned()).collect();
            List::value(items, list.tuple, budget)
        }
        Value::Str(text) => {
            budget.grow(text.len().saturating_mul(4))?;
            let chars: Vec<char> = text.chars().collect();
            let out: String = places(chars.len()).filter_map(|place| chars.get(place)).collect();
            Value::string(out, budget)
        }
        Value::Undefined(held) => Err(Value::undefined_fault(held)),
        other => Err(Fault::new(format!("`{}` cannot be sliced", other.type_name()))),
    }
}

pub(super) fn compare(
    operator: CompareOp,
    left: &Value,
    right: &Value,
    budget: &Budget,
) -> Result<bool, Fault> {
    Ok(match operator {
        CompareOp::Equal => left.equals(right, budget)?,
        CompareOp::NotEqual => !left.equals(right, budget)?,
        CompareOp::Less => left.compare(right, budget)?.is_lt(),
        CompareOp::LessEqual => left.compare(right, budget)?.is_le(),
        CompareOp::Greater => left.compare(right, budget)?.is_gt(),
        CompareOp::GreaterEqual => left.compare(right, budget)?.is_ge(),
        CompareOp::In => right.contains(left, budget)?,
        CompareOp::NotIn => !right.contains(left, budget)?,
    })
}

/// An operator on two values.
pub(super) fn binary(
    operator: BinaryOp,
    left: &Value,
    right: &Value,
    budget: &Budget,
) -> Result<Value, Fault> {
    if operator == BinaryOp::Concat {
        let (left, right) = (left.to_text(budget)?, right.to_text(budget)?);
        budget.grow(left.len() + right.len())?;
        return Ok(Value::Str([&*left, &*right].concat().into()));
    }
    for value in [left, right] {
        if let Value::Undefined(name) = value {
            return Err(Value::undefined_fault(name));
        }
    }
    match (operator, left, right) {
        (BinaryOp::Add, Value::Str(a), Value::Str(b)) => {
            budget.grow(a.len() + b.len())?;
            return Ok(Value::Str([&**a, &**b].concat().into()));
        }
        (BinaryOp::Add, Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
            budget.grow((a.items.len() + b.items.len()) * size_of::<Value>())?;
            return List::value([&*a.items, &*b.items].concat(), a.tuple, budget);
        }
        (BinaryOp::Multiply, Value::Str(text), count) | (BinaryOp::Multiply, count, Value::Str(text)) => {
            if let Some(count) = count.as_int() {
                let count = usize::try_from(count).unwrap_or(0);
                budget.grow(text.len().saturating_mul(count))?;
                return Ok(Value::Str(text.repeat(count).into()));
            }
        }
        (BinaryOp::Multiply, Value::List(list), count) | (BinaryOp::Multiply, count, Value::List(list)) => {
            if let Some(count) = count.as_int() {
                let count = usize::try_from(count).unwrap_or(0);
                budget.grow(list.items.len().saturating_mul(count).saturating_mul(size_of::<Value>()))?;
                let items = std::iter::repeat_n(&list.items, count).flatten().cloned().collect();
                return List::value(items, list.tuple, budget);
            }
        }
        (BinaryOp::Modulo, Value::Str(format), _) => return filters::percent_format(format, right, budget),
        _ => {}
    }
    let unfit = || {
        let (left, right) = (left.type_name(), right.type_name());
        Fault::new(format!("`{left}` and `{right}` do not fit this operator"))
    };
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let overflow = || Fault::new("a whole number is too large");
        let value = match operator {
            BinaryOp::Add => a.checked_add(b),
            BinaryOp::Subtract => a.checked_sub(b),
            BinaryOp::Multiply => a.checked_mul(b),
            BinaryOp::FloorDivide | BinaryOp::Modulo if b == 0 => return Err(Fault::new("division by zero")),
            BinaryOp::FloorDivide => {
                a.checked_div(b).map(|quotient| quotient - i64::from(a % b != 0 && (a < 0) != (b < 0)))
            }
            BinaryOp::Modulo => {
                a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            }
            BinaryOp::Power if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            _ => None,
        };
        match (value, operator) {
            (Some(value), _) => return Ok(Value::Int(value)),
            (None, BinaryOp::Divide) => {}
            (None, BinaryOp::Power) if b < 0 => {}
            _ => return Err(overflow()),
        }
    }
    let (a, b) = left.as_number().zip(right.as_number()).ok_or_else(unfit)?;
    if b == 0.0 && matches!(operator, BinaryOp::Divide | BinaryOp::FloorDivide | BinaryOp::Modulo) {
        return Err(Fault::new("division by zero"));
    }
    Ok(Value::Float(match operator {
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Multiply => a * b,
        BinaryOp::Divide => a / b,
        BinaryOp::FloorDivide => (a / b).floor(),
        BinaryOp::Modulo => a - b * (a / b).floor(),
        BinaryOp::Power => a.powf(b),
        BinaryOp::Concat => return Err(unfit()),
    }))
}
