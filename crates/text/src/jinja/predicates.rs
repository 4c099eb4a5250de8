//! Jinja's tests: `value is name(arguments)`.

use super::budget::{Budget, Fault};
use super::value::Value;

/// Whether `value is name(arguments)`.
pub(crate) fn test(name: &str, value: &Value, arguments: &[Value], budget: &Budget) -> Result<bool, Fault> {
    let argument =
        || arguments.first().ok_or_else(|| Fault::new(format!("the test `{name}` needs an argument")));
    let integer = || {
        value.as_int().ok_or_else(|| {
            Fault::new(format!("the test `{name}` needs a whole number, not `{}`", value.type_name()))
        })
    };
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_number().is_some(),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Map(_)),
        "sequence" => matches!(value, Value::Str(_) | Value::List(_) | Value::Map(_)),
        "iterable" => matches!(value, Value::Str(_) | Value::List(_) | Value::Map(_) | Value::Undefined(_)),
        "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
        "odd" => integer()?.rem_euclid(2) == 1,
        "even" => integer()?.rem_euclid(2) == 0,
        "divisibleby" => {
            let divisor = argument()?.as_int().filter(|&divisor| divisor != 0);
            let divisor =
                divisor.ok_or_else(|| Fault::new("`divisibleby` needs a whole number that is not 0"))?;
            integer()?.checked_rem(divisor).unwrap_or_default() == 0
        }
        "lower" | "upper" => {
            let text = value.to_text(budget)?;
            budget.scan(text.len())?;
            let cased = text.chars().any(|c| c.is_lowercase() || c.is_uppercase());
            cased && text.chars().all(|c| if name == "lower" { !c.is_uppercase() } else { !c.is_lowercase() })
        }
        "eq" | "equalto" | "==" => value.equals(argument()?, budget)?,
        "ne" | "!=" => !value.equals(argument()?, budget)?,
        "lt" | "lessthan" | "<" => value.compare(argument()?, budget)?.is_lt(),
        "le" | "<=" => value.compare(argument()?, budget)?.is_le(),
        "gt" | "greaterthan" | ">" => value.compare(argument()?, budget)?.is_gt(),
        "ge" | ">=" => value.compare(argument()?, budget)?.is_ge(),
        "in" => argument()?.contains(value, budget)?,
        "sameas" => match (value, argument()?) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            _ => false,
        },
        _ => return Err(Fault::new(format!("no test is named `{name}`"))),
    })
}
