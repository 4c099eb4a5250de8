//! The parsed template.

use std::sync::Arc;

/// A statement or text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) kind: NodeKind,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum NodeKind {
    Text(Arc<str>),
    Print(Expr),
    /// Conditions with their bodies; without a condition: else.
    If(Vec<(Option<Expr>, Vec<Node>)>),
    For {
        target: Target,
        iter: Expr,
        filter: Option<Expr>,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Set {
        target: Target,
        value: Expr,
    },
    /// `{% set x %}...{% endset %}`, through filters if there are any.
    SetBlock {
        target: Target,
        filters: Vec<Call>,
        body: Vec<Node>,
    },
    FilterBlock {
        filters: Vec<Call>,
        body: Vec<Node>,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Vec<Node>,
    },
    Macro(Arc<Macro>),
    /// Statements without a scope of their own (`generation`).
    Block(Vec<Node>),
    Break,
    Continue,
}

/// `{% macro name(parameters) %}`.
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) name: Arc<str>,
    /// Names with their default values.
    pub(crate) parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub(crate) body: Vec<Node>,
}

/// What is assigned to.
#[derive(Debug)]
pub(crate) enum Target {
    Name(Arc<str>),
    /// `ns.name`, of a namespace.
    Attribute(Arc<str>, Arc<str>),
    Unpack(Vec<Target>),
}

/// A name with arguments: a filter, a test, or the arguments of a call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: Arc<str>,
    pub(crate) arguments: Arguments,
}

/// Arguments by place and by name.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Arc<str>, Expr)>,
}

/// An expression.
#[derive(Debug)]
pub(crate) enum Expr {
    Str(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Arc<str>),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Arguments),
    Filter(Box<Expr>, Box<Call>),
    Test {
        value: Box<Expr>,
        test: Box<Call>,
        negated: bool,
    },
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `a < b <= c`.
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    /// `a if condition else b`.
    Conditional {
        condition: Box<Expr>,
        yes: Box<Expr>,
        no: Option<Box<Expr>>,
    },
}

/// Operators that make a new value of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    Concat,
}

/// Operators that compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}
