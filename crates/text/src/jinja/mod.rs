//! The part of Jinja that chat templates use, with limits.
//!
//! Templates are programs from strangers, so an engine must bound not only their steps but every byte that
//! they make: three dozen rounds of `{% set x = x ~ x %}` fill any memory. General engines count
//! instructions only. This one charges a [`budget::Budget`] for each step and each byte, and follows
//! Jinja2 3.1 on Python in what it prints (`True`, `None`, `{'a': 1}`), because models were trained on that.
//!
//! Settings are those that model files are written for (`trim_blocks`, `lstrip_blocks`, loop controls, an
//! immutable sandbox). Not there: inheritance, includes, recursive loops, call blocks.

mod ast;
mod budget;
mod eval;
mod expressions;
mod filters;
mod json;
mod lexer;
mod methods;
mod operators;
mod parser;
mod predicates;
mod strftime;
mod value;

pub(crate) use ast::Node;
pub(crate) use budget::{Budget, Fault};
pub(crate) use eval::render;
pub(crate) use parser::parse;
pub use strftime::DateTime;
pub(crate) use value::Value;
