//! Runs a parsed template.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Arguments, Call, Expr, Macro, Node, NodeKind, Target};
use super::budget::{Budget, Fault};
use super::filters;
use super::methods;
use super::operators::{attribute, binary, compare, slice, subscript};
use super::predicates;
use super::strftime::DateTime;
use super::value::{List, Loop, Map, Value, push};

/// The variables of a scope.
type Scope = HashMap<Arc<str>, Value>;

/// Evaluated arguments.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// The argument at `place` or called `name`.
    pub(crate) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        self.positional
            .get(place)
            .or_else(|| self.named.iter().find(|(found, _)| **found == *name).map(|(_, v)| v))
    }

    /// As [`Args::get`], where `None` counts as not given.
    pub(crate) fn given(&self, place: usize, name: &str) -> Option<&Value> {
        self.get(place, name).filter(|value| !matches!(value, Value::None | Value::Undefined(_)))
    }
}

/// How a list of statements ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// A running template.
struct Run<'a> {
    budget: &'a Budget,
    date: Option<DateTime>,
    // Scope 0 is the template's; a macro sees it and the scopes from `base` on.
    scopes: Vec<Scope>,
    base: usize,
    line: u32,
    out: String,
}

/// Functions that every template has.
const FUNCTIONS: &[&str] = &["namespace", "range", "dict", "raise_exception"];

/// Renders `nodes` with `variables`. A failure comes with the line where it happened.
pub(crate) fn render(
    nodes: &[Node],
    variables: Vec<(Arc<str>, Value)>,
    date: Option<DateTime>,
    budget: &Budget,
) -> Result<String, (u32, Fault)> {
    let scopes = vec![variables.into_iter().collect()];
    let mut run = Run { budget, date, scopes, base: 0, line: 1, out: String::new() };
    match run.nodes(nodes) {
        Ok(_) => Ok(run.out),
        Err(fault) => Err((run.line, fault)),
    }
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<Flow, Fault> {
        for node in nodes {
            self.budget.scan(0)?;
            self.line = node.line;
            let flow = self.enter(|run| run.node(node))?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Runs `inner` one level deeper.
    fn enter<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let budget = self.budget;
        budget.deeper(|| inner(self))
    }

    fn node(&mut self, node: &Node) -> Result<Flow, Fault> {
        match &node.kind {
            NodeKind::Text(text) => push(&mut self.out, text, self.budget)?,
            NodeKind::Print(expr) => {
                let value = self.eval(expr)?;
                value.print(&mut self.out, self.budget)?;
            }
            NodeKind::If(branches) => {
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(condition) => self.eval(condition)?.truth(),
                        None => true,
                    };
                    if holds {
                        return self.nodes(body);
                    }
                }
            }
            NodeKind::For { target, iter, filter, body, otherwise } => {
                return self.for_loop(target, iter, filter.as_ref(), body, otherwise);
            }
            NodeKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            NodeKind::SetBlock { target, filters, body } => {
                let text = self.captured(filters, body)?;
                self.assign(target, text)?;
            }
            NodeKind::FilterBlock { filters, body } => {
                let text = self.captured(filters, body)?;
                text.print(&mut self.out, self.budget)?;
            }
            NodeKind::With { bindings, body } => {
                // Values are those of the scope outside.
                let mut values = Vec::with_capacity(bindings.len());
                for (_, value) in bindings {
                    values.push(self.eval(value)?);
                }
                return self.scoped(|run| {
                    for ((target, _), value) in bindings.iter().zip(values) {
                        run.assign(target, value)?;
                    }
                    run.nodes(body)
                });
            }
            NodeKind::Macro(found) => self.define(&found.name, Value::Macro(Arc::clone(found)))?,
            NodeKind::Block(body) => return self.nodes(body),
            NodeKind::Break => return Ok(Flow::Break),
            NodeKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// Runs `inner` in a scope of its own.
    fn scoped<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.scopes.push(Scope::new());
        let result = inner(self);
        self.scopes.pop();
        result
    }

    /// What `body` prints, through `filters`.
    fn captured(&mut self, filters: &[Call], body: &[Node]) -> Result<Value, Fault> {
        let outer = std::mem::take(&mut self.out);
        let result = self.scoped(|run| run.nodes(body));
        let text = std::mem::replace(&mut self.out, outer);
        result?;
        let mut value = Value::string(text, self.budget)?;
        for filter in filters {
            let args = self.arguments(&filter.arguments)?;
            value = filters::apply(&filter.name, &value, &args, self.budget)?;
        }
        Ok(value)
    }

    fn for_loop(
        &mut self,
        target: &Target,
        iter: &Expr,
        filter: Option<&Expr>,
        body: &[Node],
        otherwise: &[Node],
    ) -> Result<Flow, Fault> {
        let mut items = self.eval(iter)?.iterate(self.budget)?;
        if let Some(filter) = filter {
            let mut kept = Vec::new();
            for item in items {
                self.budget.scan(0)?;
                let keep = self.scoped(|run| {
                    run.assign(target, item.clone())?;
                    Ok(run.eval(filter)?.truth())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(|run| run.nodes(otherwise));
        }
        let count = items.len();
        let state = Rc::new(Loop { place: Cell::new(0), items, last_changed: RefCell::new(None) });
        let mut result = Ok(Flow::On);
        for place in 0..count {
            state.place.set(place);
            let item = state.items.get(place).cloned().unwrap_or(Value::None);
            let flow = self.scoped(|run| {
                run.budget.scan(0)?;
                run.define("loop", Value::Loop(Rc::clone(&state)))?;
                run.assign(target, item)?;
                run.nodes(body)
            });
            match flow {
                Ok(Flow::Break) => break,
                Ok(_) => {}
                Err(fault) => {
                    result = Err(fault);
                    break;
                }
            }
        }
        result
    }

    /// Sets a variable of the innermost scope.
    fn define(&mut self, name: &str, value: Value) -> Result<(), Fault> {
        if let Some(scope) = self.scopes.last_mut() {
            if let Some(slot) = scope.get_mut(name) {
                *slot = value;
            } else {
                self.budget.grow(name.len() + 64)?;
                scope.insert(name.into(), value);
            }
        }
        Ok(())
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<(), Fault> {
        match target {
            Target::Name(name) => self.define(name, value),
            Target::Attribute(name, attribute) => {
                let Value::Namespace(entries) = self.lookup(name) else {
                    return Err(Fault::new(format!(
                        "`{name}` is no namespace, so `{name}.{attribute}` cannot be set"
                    )));
                };
                if matches!(value, Value::Namespace(_) | Value::Loop(_)) {
                    return Err(Fault::new("a namespace or loop cannot be stored in a namespace"));
                }
                let mut entries = entries.borrow_mut();
                self.budget.scan(entries.len() * 16)?;
                if let Some(entry) = entries.iter_mut().find(|(name, _)| name == attribute) {
                    entry.1 = value;
                } else {
                    self.budget.grow(64)?;
                    entries.push((Arc::clone(attribute), value));
                }
                Ok(())
            }
            Target::Unpack(targets) => {
                let items = value.iterate(self.budget)?;
                if items.len() != targets.len() {
                    return Err(Fault::new(format!("{} values for {} names", items.len(), targets.len())));
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item))
            }
        }
    }

    /// The variable or function `name`.
    fn lookup(&self, name: &Arc<str>) -> Value {
        let visible = self.scopes.get(self.base..).unwrap_or_default().iter().rev();
        if let Some(value) = visible.chain(self.scopes.first()).find_map(|scope| scope.get(name)) {
            return value.clone();
        }
        if let Some(function) = FUNCTIONS.iter().find(|function| ***function == **name) {
            return Value::Function(function);
        }
        if &**name == "strftime_now" && self.date.is_some() {
            return Value::Function("strftime_now");
        }
        Value::Undefined(Arc::clone(name))
    }

    fn eval(&mut self, expr: &Expr) -> Result<Value, Fault> {
        self.budget.scan(0)?;
        self.enter(|run| run.eval_inner(expr))
    }

    fn eval_all(&mut self, exprs: &[Expr]) -> Result<Vec<Value>, Fault> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn eval_inner(&mut self, expr: &Expr) -> Result<Value, Fault> {
        match expr {
            Expr::Str(text) => Ok(Value::Str(Arc::clone(text))),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::None => Ok(Value::None),
            Expr::Name(name) => Ok(self.lookup(name)),
            Expr::List(items) => List::value(self.eval_all(items)?, false, self.budget),
            Expr::Tuple(items) => List::value(self.eval_all(items)?, true, self.budget),
            Expr::Map(entries) => self.map(entries),
            Expr::Attribute(value, name) => {
                let value = self.eval(value)?;
                attribute(&value, name)
            }
            Expr::Index(value, index) => {
                let value = self.eval(value)?;
                let index = self.eval(index)?;
                subscript(&value, &index, self.budget)
            }
            Expr::Slice(value, parts) => {
                let value = self.eval(value)?;
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                    if let Some(part) = part {
                        *bound = match self.eval(part)? {
                            Value::None => None,
                            other => Some(other.as_int().ok_or_else(|| {
                                Fault::new(format!(
                                    "a slice needs whole numbers, not `{}`",
                                    other.type_name()
                                ))
                            })?),
                        };
                    }
                }
                slice(&value, bounds, self.budget)
            }
            Expr::Call(callee, arguments) => self.call(callee, arguments),
            Expr::Filter(value, filter) => {
                let value = self.eval(value)?;
                let args = self.arguments(&filter.arguments)?;
                filters::apply(&filter.name, &value, &args, self.budget)
            }
            Expr::Test { value, test, negated } => {
                let value = self.eval(value)?;
                let args = self.arguments(&test.arguments)?;
                Ok(Value::Bool(
                    predicates::test(&test.name, &value, &args.positional, self.budget)? != *negated,
                ))
            }
            Expr::Not(value) => Ok(Value::Bool(!self.eval(value)?.truth())),
            Expr::Negative(value) => match self.eval(value)? {
                Value::Float(value) => Ok(Value::Float(-value)),
                other => match other.as_int().and_then(i64::checked_neg) {
                    Some(value) => Ok(Value::Int(value)),
                    None => Err(Fault::new(format!("`{}` cannot be negated", other.type_name()))),
                },
            },
            Expr::Binary(operator, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                binary(*operator, &left, &right, self.budget)
            }
            Expr::And(left, right) => {
                let left = self.eval(left)?;
                if left.truth() { self.eval(right) } else { Ok(left) }
            }
            Expr::Or(left, right) => {
                let left = self.eval(left)?;
                if left.truth() { Ok(left) } else { self.eval(right) }
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (operator, right) in rest {
                    let right = self.eval(right)?;
                    if !compare(*operator, &left, &right, self.budget)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Conditional { condition, yes, no } => {
                if self.eval(condition)?.truth() {
                    self.eval(yes)
                } else {
                    no.as_ref().map_or_else(|| Ok(Value::Undefined("else".into())), |no| self.eval(no))
                }
            }
        }
    }

    fn map(&mut self, entries: &[(Expr, Expr)]) -> Result<Value, Fault> {
        let mut out = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = match self.eval(key)? {
                Value::Str(key) => key,
                other => {
                    return Err(Fault::new(format!(
                        "a dictionary's keys are strings, not `{}`",
                        other.type_name()
                    )));
                }
            };
            out.push((key, self.eval(value)?));
        }
        Map::value(out, self.budget)
    }

    fn arguments(&mut self, arguments: &Arguments) -> Result<Args, Fault> {
        let positional = self.eval_all(&arguments.positional)?;
        let named = arguments
            .named
            .iter()
            .map(|(name, value)| Ok((Arc::clone(name), self.eval(value)?)))
            .collect::<Result<_, Fault>>()?;
        Ok(Args { positional, named })
    }

    fn call(&mut self, callee: &Expr, arguments: &Arguments) -> Result<Value, Fault> {
        if let Expr::Attribute(receiver, name) = callee {
            let receiver = self.eval(receiver)?;
            let held = match &receiver {
                Value::Namespace(_) => Some(attribute(&receiver, name)?),
                _ => None,
            };
            let args = self.arguments(arguments)?;
            return match held {
                Some(held) => self.call_value(&held, args),
                None => methods::call(&receiver, name, &args, self.budget),
            };
        }
        let callee = self.eval(callee)?;
        let args = self.arguments(arguments)?;
        self.call_value(&callee, args)
    }

    fn call_value(&mut self, callee: &Value, args: Args) -> Result<Value, Fault> {
        match callee {
            Value::Macro(found) => self.call_macro(found, args),
            Value::Function(name) => self.call_function(name, args),
            Value::Undefined(name) => Err(Value::undefined_fault(name)),
            other => Err(Fault::new(format!("`{}` cannot be called", other.type_name()))),
        }
    }

    fn call_macro(&mut self, found: &Macro, args: Args) -> Result<Value, Fault> {
        if args.positional.len() > found.parameters.len() {
            return Err(Fault::new(format!(
                "the macro `{}` takes {} arguments",
                found.name,
                found.parameters.len()
            )));
        }
        if let Some((name, _)) = args
            .named
            .iter()
            .find(|(name, _)| found.parameters.iter().all(|(parameter, _)| parameter != name))
        {
            return Err(Fault::new(format!("the macro `{}` has no parameter `{name}`", found.name)));
        }
        let (base, line) = (self.base, self.line);
        let outer = std::mem::take(&mut self.out);
        self.base = self.scopes.len();
        let result = self.scoped(|run| {
            for (place, (parameter, default)) in found.parameters.iter().enumerate() {
                let value = match (args.get(place, parameter), default) {
                    (Some(value), _) => value.clone(),
                    (None, Some(default)) => run.eval(default)?,
                    (None, None) => Value::Undefined(Arc::clone(parameter)),
                };
                run.define(parameter, value)?;
            }
            run.nodes(&found.body)
        });
        self.base = base;
        let text = std::mem::replace(&mut self.out, outer);
        result?;
        self.line = line;
        Value::string(text, self.budget)
    }

    fn call_function(&mut self, name: &str, args: Args) -> Result<Value, Fault> {
        match name {
            "namespace" => {
                let mut entries = args.named;
                for value in &args.positional {
                    let Value::Map(map) = value else {
                        return Err(Fault::new("`namespace` takes named values or a dictionary"));
                    };
                    entries.extend(map.entries().iter().cloned());
                }
                if entries.iter().any(|(_, value)| matches!(value, Value::Namespace(_) | Value::Loop(_))) {
                    return Err(Fault::new("a namespace or loop cannot be stored in a namespace"));
                }
                self.budget.grow(entries.len() * 64)?;
                Ok(Value::Namespace(Rc::new(RefCell::new(entries))))
            }
            "dict" => {
                let mut entries = match args.positional.first() {
                    Some(Value::Map(map)) => map.entries().to_vec(),
                    None => Vec::new(),
                    Some(other) => return Err(Fault::new(format!("`dict` of `{}`", other.type_name()))),
                };
                entries.extend(args.named);
                Map::value(entries, self.budget)
            }
            "range" => self.range(&args),
            "raise_exception" => {
                let message = args.get(0, "message").map(|value| value.to_text(self.budget)).transpose()?;
                Err(Fault::Raised(message.map_or_else(String::new, |message| message.to_string())))
            }
            "strftime_now" => {
                let format = args.get(0, "format").and_then(Value::as_str);
                let format = format.ok_or_else(|| Fault::new("`strftime_now` takes a format"))?;
                self.budget.grow(format.len().saturating_mul(12))?;
                let date = self.date.ok_or_else(|| Fault::new("there is no date"))?;
                Value::string(date.format(format)?, self.budget)
            }
            other => Err(Fault::new(format!("`{other}` cannot be called like this"))),
        }
    }

    fn range(&self, args: &Args) -> Result<Value, Fault> {
        let numbers: Option<Vec<i64>> = args.positional.iter().map(Value::as_int).collect();
        let (start, stop, step) = match numbers.as_deref() {
            Some([stop]) => (0, *stop, 1),
            Some([start, stop]) => (*start, *stop, 1),
            Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
            _ => return Err(Fault::new("`range` takes one to three whole numbers, the third not 0")),
        };
        let span = if step > 0 {
            i128::from(stop) - i128::from(start)
        } else {
            i128::from(start) - i128::from(stop)
        };
        let count = if span <= 0 { 0 } else { (span - 1) / i128::from(step).abs() + 1 };
        // Far less than the budget allows; a larger count would not survive the multiplication below.
        let count =
            usize::try_from(count).ok().filter(|&count| count <= 1 << 24).ok_or(Fault::Limit("memory"))?;
        self.budget.grow(count * size_of::<Value>())?;
        let items =
            (0..count as i64).map(|place| Value::Int(start.wrapping_add(place.wrapping_mul(step)))).collect();
        List::value(items, false, self.budget)
    }
}
