//! What is checked of a client's JSON Schema before anything is compiled: that it is small and shallow, uses what is
//! supported, and that merging its parts cannot grow beyond bounds.
//!
//! The compiler makes alternatives of a schema: `anyOf` and `enum` list them, and where a schema has several such
//! keywords, or `allOf`, every alternative of one is merged with every alternative of the other. That is exponential
//! in the schema's size, so the sizes that will come out are computed here first ([`Shape`]).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::ConstraintError;

/// Bytes of a schema's keys and strings, and 8 for each value.
const MOST_BYTES: usize = 256 << 10;
/// Values within values.
const DEEPEST: usize = 64;
/// Schemas within schemas, all that are referred to counted as if each stood in the other: how deep the compiler's
/// calls may go. The thread that compiles has a stack for it.
const DEEPEST_REFERRED: usize = 2_048;
/// Schemas that come out where alternatives are merged.
const MOST_MERGED: u64 = 100_000;
/// Comparisons between the alternatives of `oneOf`s.
const MOST_COMPARED: u64 = 10_000_000;
/// Merges that the compiler makes before it gives up, where schemas that refer to themselves are merged.
const MERGES: u64 = 50_000;
/// `minItems`, `maxItems`, `minProperties`, `maxProperties`.
const MOST_ITEMS: u64 = 10_000;
/// `minLength`, `maxLength`.
const MOST_CHARACTERS: u64 = 100_000;
/// Bytes of a `pattern`, or of a key of `patternProperties`.
const LONGEST_PATTERN: usize = 4_096;
/// Properties of one object.
const MOST_PROPERTIES: usize = 1_000;

/// Keywords of JSON Schema (drafts 4 to 2020-12) that constrain, and that the compiler cannot follow.
const UNSUPPORTED: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Checks `schema`.
///
/// # Errors
/// What is wrong with it, with the place as a JSON Pointer: too large or too deep, an unsupported keyword, a
/// reference to nothing, a value of the wrong type where that matters for the bounds.
pub(super) fn check(schema: &Value) -> Result<(), ConstraintError> {
    let mut bytes = 0;
    measure(schema, 0, &mut bytes)?;
    let mut walk = Walk {
        root: schema,
        path: Vec::new(),
        referred: HashMap::new(),
        compared: 0,
        largest_referred: 0,
        merged_with_referring: 0,
        depth: 0,
        inside: 0,
    };
    walk.schema(schema)?;
    walk.finish()
}

/// Adds the size of `value` to `bytes`.
fn measure(value: &Value, depth: usize, bytes: &mut usize) -> Result<(), ConstraintError> {
    if depth > DEEPEST {
        return Err(ConstraintError::TooLarge {
            what: "the JSON Schema",
            size: depth,
            unit: "levels of nesting",
            limit: DEEPEST,
        });
    }
    *bytes = bytes.saturating_add(match value {
        Value::String(text) => text.len().saturating_add(8),
        _ => 8,
    });
    if *bytes > MOST_BYTES {
        return Err(ConstraintError::TooLarge {
            what: "the JSON Schema",
            size: *bytes,
            unit: "bytes",
            limit: MOST_BYTES,
        });
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, depth + 1, bytes)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            *bytes = bytes.saturating_add(key.len());
            measure(value, depth + 1, bytes)
        }),
        _ => Ok(()),
    }
}

/// What the compiler will make of a schema.
#[derive(Clone, Copy)]
struct Shape {
    /// Alternatives, each of which may be merged with each of another schema's.
    alternatives: u64,
    /// Schemas in all alternatives together.
    size: u64,
    /// Whether a schema is referred to in it: merging may go on in there.
    refers: bool,
    /// Whether `oneOf` lists the alternatives, which are compared with each other, again after each merge.
    one_of: bool,
    /// Schemas within schemas.
    depth: usize,
}

impl Shape {
    const ONE: Shape = Shape { alternatives: 1, size: 1, refers: false, one_of: false, depth: 0 };

    /// This or that.
    fn or(self, other: Shape) -> Shape {
        Shape {
            alternatives: self.alternatives.saturating_add(other.alternatives),
            one_of: self.one_of || other.one_of,
            ..self.beside(other)
        }
    }

    /// Both, in different places.
    fn beside(self, other: Shape) -> Shape {
        Shape {
            alternatives: self.alternatives,
            size: self.size.saturating_add(other.size),
            refers: self.refers || other.refers,
            one_of: self.one_of,
            depth: self.depth.max(other.depth),
        }
    }
}

/// A schema that `$ref` names.
struct Referred {
    /// `None` while it is being walked: it refers to itself.
    shape: Option<Shape>,
}

/// A walk through the schemas that the compiler will compile.
struct Walk<'a> {
    root: &'a Value,
    path: Vec<&'a str>,
    referred: HashMap<&'a str, Referred>,
    compared: u64,
    /// The size of the largest schema that is referred to.
    largest_referred: u64,
    /// Sizes of what is merged with schemas that refer.
    merged_with_referring: u64,
    /// Depths of the schemas that are referred to, one in the other.
    depth: usize,
    /// Schemas that the walk is inside of now.
    inside: usize,
}

impl<'a> Walk<'a> {
    /// Walks through `value`, a schema at `self.path`.
    fn schema(&mut self, value: &'a Value) -> Result<Shape, ConstraintError> {
        self.inside += 1;
        let shape =
            if self.inside > DEEPEST_REFERRED { Err(too_deep(self.inside)) } else { self.keywords(value) };
        self.inside -= 1;
        shape
    }

    fn keywords(&mut self, value: &'a Value) -> Result<Shape, ConstraintError> {
        let map = match value {
            Value::Object(map) => map,
            Value::Bool(_) => return Ok(Shape::ONE),
            _ => return Err(self.error("a schema is an object, or true or false")),
        };
        if let Some(keyword) = UNSUPPORTED.iter().find(|keyword| map.contains_key(**keyword)) {
            return Err(self.error(format!("the keyword `{keyword}` is not supported; leave it out")));
        }
        let mut shape: Option<Shape> = None;
        if let Some(own) = self.own(map)? {
            shape = Some(own);
        }
        for (keyword, value) in map {
            let applied = match keyword.as_str() {
                "$ref" => self.at(keyword, |walk| walk.reference(value))?,
                "const" => Shape { size: count(value), ..Shape::ONE },
                "enum" => {
                    let values = self.array(keyword, value)?;
                    let size = values.iter().map(count).sum();
                    Shape { alternatives: values.len() as u64, size, ..Shape::ONE }
                }
                "anyOf" => self.each(keyword, value, |_, a, b| Ok(a.or(b)))?,
                "oneOf" => {
                    let shape = self.each(keyword, value, |_, a, b| Ok(a.or(b)))?;
                    self.compare(Shape { one_of: true, ..shape })
                }
                "allOf" => self.each(keyword, value, |walk, a, b| walk.merge(a, b))?,
                _ => continue,
            };
            shape = Some(match shape {
                None => applied,
                Some(shape) => self.merge(shape, applied)?,
            });
        }
        let mut shape = shape.unwrap_or(Shape::ONE);
        shape.depth += 1;
        Ok(shape)
    }

    /// What the keywords say that apply to values of one type; `None` without such.
    fn own(&mut self, map: &'a Map<String, Value>) -> Result<Option<Shape>, ConstraintError> {
        let mut shape = None;
        let mut add = |part: Shape| shape = Some(shape.unwrap_or(Shape::ONE).beside(part));
        let none = Shape { size: 0, ..Shape::ONE };
        for (keyword, value) in map {
            match keyword.as_str() {
                "properties" | "patternProperties" => {
                    let Some(map) = value.as_object() else {
                        return Err(self.error(format!("`{keyword}` is not an object")));
                    };
                    self.limit(keyword, map.len() as u64, MOST_PROPERTIES as u64)?;
                    for (name, value) in map {
                        if keyword == "patternProperties" {
                            self.pattern(name)?;
                        }
                        add(self.at(keyword, |walk| walk.at(name, |walk| walk.schema(value)))?);
                    }
                }
                "items" if value.is_array() => add(self.each(keyword, value, |_, a, b| Ok(a.beside(b)))?),
                "prefixItems" => add(self.each(keyword, value, |_, a, b| Ok(a.beside(b)))?),
                "items" | "additionalItems" | "additionalProperties" => {
                    add(self.at(keyword, |walk| walk.schema(value))?);
                }
                "required" => {
                    let names = self.array(keyword, value)?.len() as u64;
                    self.limit(keyword, names, MOST_PROPERTIES as u64)?;
                    add(Shape { size: names, ..none });
                }
                "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                    self.limit(keyword, value.as_u64().unwrap_or(0), MOST_ITEMS)?;
                    add(none);
                }
                "minLength" | "maxLength" => {
                    self.limit(keyword, value.as_u64().unwrap_or(0), MOST_CHARACTERS)?;
                    add(none);
                }
                "pattern" => {
                    self.pattern(value.as_str().unwrap_or_default())?;
                    add(none);
                }
                "type" | "format" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum"
                | "multipleOf" => add(none),
                _ => {}
            }
        }
        Ok(shape)
    }

    /// The schemas of the array `value`, one after the other joined by `join`.
    fn each(
        &mut self,
        keyword: &'a str,
        value: &'a Value,
        join: impl Fn(&mut Self, Shape, Shape) -> Result<Shape, ConstraintError>,
    ) -> Result<Shape, ConstraintError> {
        let values = self.array(keyword, value)?;
        self.at(keyword, |walk| {
            let mut joined: Option<Shape> = None;
            for value in values {
                let shape = walk.schema(value)?;
                joined = Some(match joined {
                    None => shape,
                    Some(joined) => join(walk, joined, shape)?,
                });
            }
            Ok(joined.unwrap_or(Shape::ONE))
        })
    }

    /// The schema that `$ref` names. It is walked once, and stands for itself wherever it is only referred to.
    fn reference(&mut self, value: &'a Value) -> Result<Shape, ConstraintError> {
        let Some(reference) = value.as_str() else {
            return Err(self.error("a reference is a string"));
        };
        if let Some(known) = self.referred.get(reference) {
            return Ok(Shape { refers: true, depth: 0, ..known.shape.unwrap_or(Shape::ONE) });
        }
        let Some(target) = resolve(self.root, reference) else {
            let what = "names nothing in the schema; write it as in `#/$defs/name`, without escapes";
            return Err(self.error(format!("the reference `{reference}` {what}")));
        };
        self.referred.insert(reference, Referred { shape: None });
        let shape = self.schema(target)?;
        self.referred.insert(reference, Referred { shape: Some(shape) });
        self.largest_referred = self.largest_referred.max(shape.size);
        self.depth = self.depth.saturating_add(shape.depth);
        Ok(Shape { refers: true, depth: 0, ..shape })
    }

    /// Every alternative of `a` with every one of `b`.
    fn merge(&mut self, a: Shape, b: Shape) -> Result<Shape, ConstraintError> {
        match (a.refers, b.refers) {
            (false, false) => {}
            // Each merge copies what is referred to.
            (true, true) => self.merged_with_referring = self.merged_with_referring.max(MERGES),
            _ => {
                let other = if a.refers { b.size } else { a.size };
                self.merged_with_referring = self.merged_with_referring.saturating_add(other);
            }
        }
        let alternatives = a.alternatives.saturating_mul(b.alternatives);
        let (left, right) = (b.alternatives.saturating_mul(a.size), a.alternatives.saturating_mul(b.size));
        let size = left.saturating_add(right);
        if size > MOST_MERGED {
            let what = format!(
                "merging its alternatives gives more than {MOST_MERGED} schemas; write out the ones that are needed"
            );
            return Err(self.error(what));
        }
        let (refers, one_of) = (a.refers || b.refers, a.one_of || b.one_of);
        Ok(self.compare(Shape { alternatives, size, refers, one_of, depth: a.depth.max(b.depth) }))
    }

    /// Counts the comparisons between the alternatives of `shape`, which it gives back.
    fn compare(&mut self, shape: Shape) -> Shape {
        if shape.one_of {
            self.compared = self.compared.saturating_add(shape.size.saturating_mul(shape.size));
        }
        shape
    }

    /// The bounds that only the whole walk knows.
    fn finish(self) -> Result<(), ConstraintError> {
        if self.depth > DEEPEST_REFERRED {
            return Err(too_deep(self.depth));
        }
        if self.compared > MOST_COMPARED {
            return Err(ConstraintError::TooComplex(format!(
                "comparing the alternatives of `oneOf` takes {} steps, and at most {MOST_COMPARED} are taken; use `anyOf`",
                self.compared
            )));
        }
        if self.merged_with_referring.saturating_mul(self.largest_referred) > 10 * MOST_MERGED {
            let what =
                "schemas that refer to large schemas are merged by `allOf` or by keywords beside `$ref`";
            return Err(ConstraintError::TooComplex(what.into()));
        }
        Ok(())
    }

    fn array(&self, keyword: &str, value: &'a Value) -> Result<&'a Vec<Value>, ConstraintError> {
        value.as_array().ok_or_else(|| self.error(format!("`{keyword}` is not an array")))
    }

    fn limit(&self, keyword: &str, value: u64, limit: u64) -> Result<(), ConstraintError> {
        if value > limit {
            return Err(self.error(format!("`{keyword}` is {value}, and at most {limit} is taken")));
        }
        Ok(())
    }

    fn pattern(&self, pattern: &str) -> Result<(), ConstraintError> {
        if pattern.len() > LONGEST_PATTERN {
            let what =
                format!("a pattern has {} bytes, and at most {LONGEST_PATTERN} are taken", pattern.len());
            return Err(self.error(what));
        }
        Ok(())
    }

    /// What `inner` gives with `segment` at the end of the path.
    fn at<T>(&mut self, segment: &'a str, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment);
        let result = inner(self);
        self.path.pop();
        result
    }

    fn error(&self, what: impl Into<String>) -> ConstraintError {
        let escaped = self.path.iter().map(|s| format!("/{}", s.replace('~', "~0").replace('/', "~1")));
        ConstraintError::Schema { at: escaped.collect(), what: what.into() }
    }
}

fn too_deep(size: usize) -> ConstraintError {
    let what = "the chain of references in the JSON Schema";
    ConstraintError::TooLarge { what, size, unit: "levels", limit: DEEPEST_REFERRED }
}

/// What `reference` names in the document `root`, as the compiler finds it: keys and indices between slashes, without
/// the escapes of JSON Pointer.
fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    if matches!(reference, "#" | "#/") {
        return Some(root);
    }
    reference.strip_prefix("#/")?.split('/').try_fold(root, |value, segment| match value {
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        _ => value.get(segment),
    })
}

/// The number of values in `value`.
fn count(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}
