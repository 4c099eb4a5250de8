//! Parses expressions, by Jinja's order of binding: conditional, `or`, `and`, `not`, comparisons, sums, `~`,
//! products, powers, signs, and behind a value attributes, calls, filters and tests.

use super::ast::{Arguments, BinaryOp, Call, CompareOp, Expr};
use super::lexer::Kind;
use super::parser::{DEPTH, KEYWORDS, Parsed, Parser, describe};

impl Parser {
    /// One expression, or several with commas: a tuple.
    pub(super) fn expression_list(&mut self) -> Parsed<Expr> {
        let first = self.expression()?;
        self.tuple_rest(first, Self::expression)
    }

    /// As [`Parser::expression_list`], but an `if` ends it.
    pub(super) fn or_list(&mut self) -> Parsed<Expr> {
        let first = self.deeper(|parser| parser.binary(0))?;
        self.tuple_rest(first, |parser| parser.deeper(|parser| parser.binary(0)))
    }

    fn tuple_rest(&mut self, first: Expr, item: impl Fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_op(",") {
            if matches!(self.peek(), Kind::BlockEnd | Kind::PrintEnd | Kind::Op(")" | "=")) {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    /// An expression with `if ... else ...`.
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.deeper(|parser| {
            let mut value = parser.binary(0)?;
            let mut links = 0;
            while parser.take_name("if") {
                parser.check_links(&mut links)?;
                let condition = parser.binary(0)?;
                let no = if parser.take_name("else") { Some(Box::new(parser.expression()?)) } else { None };
                value = Expr::Conditional { condition: Box::new(condition), yes: Box::new(value), no };
            }
            Ok(value)
        })
    }

    /// A chain of left-associative operators is a tree as deep as it is long.
    fn check_links(&self, links: &mut u32) -> Parsed<()> {
        *links += 1;
        if *links > DEPTH { self.fail(format!("a chain of more than {DEPTH} operators")) } else { Ok(()) }
    }

    /// Binary operators from binding strength `level` on: or, and, not, comparisons, sums, `~`, products.
    fn binary(&mut self, level: u32) -> Parsed<Expr> {
        match level {
            0 | 1 => {
                let word = if level == 0 { "or" } else { "and" };
                let mut left = self.binary(level + 1)?;
                let mut links = 0;
                while self.take_name(word) {
                    self.check_links(&mut links)?;
                    let right = self.binary(level + 1)?;
                    let (left_box, right) = (Box::new(left), Box::new(right));
                    left = if level == 0 { Expr::Or(left_box, right) } else { Expr::And(left_box, right) };
                }
                Ok(left)
            }
            2 if self.is_name("not") => {
                self.at += 1;
                Ok(Expr::Not(Box::new(self.deeper(|parser| parser.binary(2))?)))
            }
            2 => self.binary(3),
            3 => self.comparison(),
            4..=6 => {
                let operators: &[(&str, BinaryOp)] = match level {
                    4 => &[("+", BinaryOp::Add), ("-", BinaryOp::Subtract)],
                    5 => &[("~", BinaryOp::Concat)],
                    _ => &[
                        ("*", BinaryOp::Multiply),
                        ("/", BinaryOp::Divide),
                        ("//", BinaryOp::FloorDivide),
                        ("%", BinaryOp::Modulo),
                    ],
                };
                let mut left = self.binary(level + 1)?;
                let mut links = 0;
                while let Some(&(text, operator)) = operators.iter().find(|(text, _)| self.is_op(text)) {
                    self.check_links(&mut links)?;
                    self.expect_op(text)?;
                    let right = self.binary(level + 1)?;
                    left = Expr::Binary(operator, Box::new(left), Box::new(right));
                }
                Ok(left)
            }
            _ => {
                let mut left = self.unary(true)?;
                let mut links = 0;
                while self.take_op("**") {
                    self.check_links(&mut links)?;
                    left = Expr::Binary(BinaryOp::Power, Box::new(left), Box::new(self.unary(true)?));
                }
                Ok(left)
            }
        }
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let first = self.binary(4)?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.peek() {
                Kind::Op("==") => CompareOp::Equal,
                Kind::Op("!=") => CompareOp::NotEqual,
                Kind::Op("<") => CompareOp::Less,
                Kind::Op("<=") => CompareOp::LessEqual,
                Kind::Op(">") => CompareOp::Greater,
                Kind::Op(">=") => CompareOp::GreaterEqual,
                Kind::Name(name) if &**name == "in" => CompareOp::In,
                Kind::Name(name) if &**name == "not" => match self.peek_second() {
                    Kind::Name(name) if &**name == "in" => {
                        self.at += 1;
                        CompareOp::NotIn
                    }
                    _ => break,
                },
                _ => break,
            };
            self.at += 1;
            rest.push((operator, self.binary(4)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn unary(&mut self, filters: bool) -> Parsed<Expr> {
        let value = if self.take_op("-") {
            Expr::Negative(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else if self.take_op("+") {
            self.deeper(|parser| parser.unary(false))?
        } else {
            self.primary()?
        };
        self.postfix(value, filters)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Kind::Str(text) => {
                self.at += 1;
                let mut joined = text.to_string();
                while let Kind::Str(more) = self.peek().clone() {
                    self.at += 1;
                    joined.push_str(&more);
                }
                Ok(Expr::Str(joined.into()))
            }
            Kind::Int(value) => {
                self.at += 1;
                Ok(Expr::Int(value))
            }
            Kind::Float(value) => {
                self.at += 1;
                Ok(Expr::Float(value))
            }
            Kind::Name(name) => {
                if KEYWORDS.contains(&&*name) {
                    return self.fail(format!("expected an expression, found `{name}`"));
                }
                self.at += 1;
                Ok(match &*name {
                    "true" | "True" => Expr::Bool(true),
                    "false" | "False" => Expr::Bool(false),
                    "none" | "None" => Expr::None,
                    _ => Expr::Name(name),
                })
            }
            Kind::Op("(") => {
                self.at += 1;
                if self.take_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.expression_list()?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Kind::Op("[") => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.take_op("]") {
                    items.push(self.expression()?);
                    if !self.take_op(",") {
                        self.expect_op("]")?;
                        break;
                    }
                }
                Ok(Expr::List(items))
            }
            Kind::Op("{") => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.take_op("}") {
                    let key = self.expression()?;
                    self.expect_op(":")?;
                    items.push((key, self.expression()?));
                    if !self.take_op(",") {
                        self.expect_op("}")?;
                        break;
                    }
                }
                Ok(Expr::Map(items))
            }
            other => self.fail(format!("expected an expression, found {}", describe(&other))),
        }
    }

    /// Attributes, indices, calls, filters and tests behind a value.
    fn postfix(&mut self, mut value: Expr, filters: bool) -> Parsed<Expr> {
        let mut links = 0;
        loop {
            match self.peek() {
                Kind::Op(".") => {
                    self.at += 1;
                    value = match self.next() {
                        Kind::Name(name) => Expr::Attribute(Box::new(value), name),
                        Kind::Int(index) => Expr::Index(Box::new(value), Box::new(Expr::Int(index))),
                        other => {
                            return self.fail(format!("expected an attribute, found {}", describe(&other)));
                        }
                    };
                }
                Kind::Op("[") => {
                    self.at += 1;
                    value = self.subscript(value)?;
                }
                Kind::Op("(") => {
                    self.at += 1;
                    value = Expr::Call(Box::new(value), self.deeper(Self::arguments)?);
                }
                Kind::Op("|") if filters => {
                    self.at += 1;
                    value = Expr::Filter(Box::new(value), Box::new(self.deeper(Self::named_call)?));
                }
                Kind::Name(name) if filters && &**name == "is" => {
                    self.at += 1;
                    let negated = self.take_name("not");
                    let test = Box::new(self.deeper(Self::test)?);
                    value = Expr::Test { value: Box::new(value), test, negated };
                }
                _ => return Ok(value),
            }
            self.check_links(&mut links)?;
        }
    }

    /// A test: its name and arguments, or one argument without brackets.
    fn test(&mut self) -> Parsed<Call> {
        let name = self.expect_name()?;
        let mut arguments = Arguments::default();
        match self.peek() {
            Kind::Op("(") => {
                self.at += 1;
                arguments = self.arguments()?;
            }
            Kind::Name(next) if ["else", "or", "and", "is", "if", "in", "not"].contains(&&**next) => {}
            Kind::Name(_) | Kind::Str(_) | Kind::Int(_) | Kind::Float(_) | Kind::Op("[" | "{") => {
                let value = self.primary()?;
                arguments.positional.push(self.postfix(value, false)?);
            }
            _ => {}
        }
        Ok(Call { name, arguments })
    }

    /// What stands behind `[`.
    fn subscript(&mut self, value: Expr) -> Parsed<Expr> {
        let mut parts = [None, None, None];
        let mut colons = 0;
        while !self.take_op("]") {
            if self.take_op(":") {
                colons += 1;
                if colons > 2 {
                    return self.fail("a slice with more than two colons");
                }
                continue;
            }
            let expr = self.expression()?;
            match parts.get_mut(colons) {
                Some(slot) if slot.is_none() => *slot = Some(expr),
                _ => return self.fail("expected `]`"),
            }
        }
        match (colons, parts) {
            (0, [Some(index), ..]) => Ok(Expr::Index(Box::new(value), Box::new(index))),
            (0, _) => self.fail("an empty subscript"),
            (_, parts) => Ok(Expr::Slice(Box::new(value), Box::new(parts))),
        }
    }
}
