//! Tokens to a tree, by recursive descent: the statements. `expressions` has what stands inside them.

use std::sync::Arc;

use super::ast::{Arguments, Call, Macro, Node, NodeKind, Target};
use super::lexer::{Kind, SyntaxError, Token, lex};

/// How deep brackets, operators and blocks may nest.
pub(super) const DEPTH: u32 = 80;

/// Names that end an expression or begin an operator, so are no variables.
pub(super) const KEYWORDS: &[&str] =
    &["and", "or", "not", "if", "else", "elif", "in", "is", "for", "endfor", "endif", "recursive"];

pub(super) struct Parser {
    tokens: Vec<Token>,
    pub(super) at: usize,
    depth: u32,
    loops: u32,
}

/// What parsing gives.
pub(super) type Parsed<T> = Result<T, SyntaxError>;

/// Parses a whole template.
pub(crate) fn parse(source: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut parser = Parser { tokens: lex(source)?, at: 0, depth: 0, loops: 0 };
    let nodes = parser.nodes(&[])?;
    match parser.peek() {
        Kind::End => Ok(nodes),
        _ => parser.fail("unexpected end of a block"),
    }
}

impl Parser {
    pub(super) fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |token| &token.kind)
    }

    pub(super) fn peek_second(&self) -> &Kind {
        self.tokens.get(self.at + 1).map_or(&Kind::End, |token| &token.kind)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    pub(super) fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(SyntaxError { line: self.line(), message: message.into() })
    }

    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.fail(format!("nesting beyond {DEPTH} levels"));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Kind::Op(found) if *found == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Kind::Name(found) if **found == *name)
    }

    /// Takes the operator if it is next.
    pub(super) fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    /// Takes the name if it is next.
    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.take_op(op) {
            Ok(())
        } else {
            self.fail(format!("expected `{op}`, found {}", describe(self.peek())))
        }
    }

    pub(super) fn expect_name(&mut self) -> Parsed<Arc<str>> {
        match self.peek().clone() {
            Kind::Name(name) => {
                self.at += 1;
                Ok(name)
            }
            other => self.fail(format!("expected a name, found {}", describe(&other))),
        }
    }

    fn expect_block_end(&mut self) -> Parsed<()> {
        match self.peek() {
            Kind::BlockEnd => {
                self.at += 1;
                Ok(())
            }
            other => self.fail(format!("expected `%}}`, found {}", describe(other))),
        }
    }

    /// Nodes up to a block whose name is one of `ends` (which is left there), or the template's end.
    fn nodes(&mut self, ends: &[&str]) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.peek().clone() {
                Kind::Text(text) => {
                    self.at += 1;
                    NodeKind::Text(text)
                }
                Kind::PrintBegin => {
                    self.at += 1;
                    let expr = self.expression_list()?;
                    match self.next() {
                        Kind::PrintEnd => NodeKind::Print(expr),
                        other => {
                            self.at -= 1;
                            return self.fail(format!("expected `}}}}`, found {}", describe(&other)));
                        }
                    }
                }
                Kind::BlockBegin => {
                    if let Kind::Name(name) = self.peek_second()
                        && ends.contains(&&**name)
                    {
                        return Ok(nodes);
                    }
                    self.at += 1;
                    self.deeper(Self::statement)?
                }
                Kind::End if ends.is_empty() => return Ok(nodes),
                Kind::End => {
                    return self.fail(format!("the template ends without `{}`", ends.join("` or `")));
                }
                other => return self.fail(format!("unexpected {}", describe(&other))),
            };
            nodes.push(Node { line, kind });
        }
    }

    /// The body of a block up to `{% end %}`, with the tag.
    fn body(&mut self, end: &str) -> Parsed<Vec<Node>> {
        let body = self.nodes(&[end])?;
        self.at += 2;
        self.expect_block_end()?;
        Ok(body)
    }

    fn statement(&mut self) -> Parsed<NodeKind> {
        let name = self.expect_name()?;
        match &*name {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "macro" => self.macro_statement(),
            "with" => {
                let mut bindings = Vec::new();
                while !matches!(self.peek(), Kind::BlockEnd) {
                    let target = self.target(false)?;
                    self.expect_op("=")?;
                    bindings.push((target, self.expression()?));
                    if !self.take_op(",") {
                        break;
                    }
                }
                self.expect_block_end()?;
                Ok(NodeKind::With { bindings, body: self.body("endwith")? })
            }
            "filter" => {
                let filters = self.filter_chain()?;
                self.expect_block_end()?;
                Ok(NodeKind::FilterBlock { filters, body: self.body("endfilter")? })
            }
            // Marks what the model itself says, for training; it prints like any text.
            "generation" => {
                self.expect_block_end()?;
                Ok(NodeKind::Block(self.body("endgeneration")?))
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fail(format!("`{name}` outside of a loop"));
                }
                self.expect_block_end()?;
                Ok(if &*name == "break" { NodeKind::Break } else { NodeKind::Continue })
            }
            "include" | "import" | "from" | "extends" | "block" | "call" | "do" | "autoescape" => {
                self.fail(format!("the statement `{name}` is not supported in chat templates"))
            }
            _ => self.fail(format!("unknown statement `{name}`")),
        }
    }

    fn if_statement(&mut self) -> Parsed<NodeKind> {
        let mut branches = Vec::new();
        let mut condition = Some(self.expression()?);
        loop {
            self.expect_block_end()?;
            let ends: &[&str] = if condition.is_some() { &["elif", "else", "endif"] } else { &["endif"] };
            let body = self.nodes(ends)?;
            branches.push((condition.take(), body));
            self.at += 1;
            match &*self.expect_name()? {
                "elif" => condition = Some(self.expression()?),
                "else" => {}
                _ => break,
            }
        }
        self.expect_block_end()?;
        Ok(NodeKind::If(branches))
    }

    fn for_statement(&mut self) -> Parsed<NodeKind> {
        let target = self.target(false)?;
        if !self.take_name("in") {
            return self.fail("expected `in`");
        }
        // Without a conditional expression, whose `if` is the loop's filter here.
        let iter = self.or_list()?;
        let filter = if self.take_name("if") { Some(self.expression()?) } else { None };
        if self.is_name("recursive") {
            return self.fail("recursive loops are not supported in chat templates");
        }
        self.expect_block_end()?;
        self.loops += 1;
        let body = self.nodes(&["else", "endfor"])?;
        self.loops -= 1;
        self.at += 1;
        let mut otherwise = Vec::new();
        if &*self.expect_name()? == "else" {
            self.expect_block_end()?;
            otherwise = self.body("endfor")?;
        } else {
            self.expect_block_end()?;
        }
        Ok(NodeKind::For { target, iter, filter, body, otherwise })
    }

    fn set_statement(&mut self) -> Parsed<NodeKind> {
        let target = self.target(true)?;
        if self.take_op("=") {
            let value = self.expression_list()?;
            self.expect_block_end()?;
            return Ok(NodeKind::Set { target, value });
        }
        let filters = if self.take_op("|") { self.filter_chain()? } else { Vec::new() };
        self.expect_block_end()?;
        Ok(NodeKind::SetBlock { target, filters, body: self.body("endset")? })
    }

    fn macro_statement(&mut self) -> Parsed<NodeKind> {
        let name = self.expect_name()?;
        self.expect_op("(")?;
        let mut parameters = Vec::new();
        while !self.take_op(")") {
            let parameter = self.expect_name()?;
            let default = if self.take_op("=") { Some(self.expression()?) } else { None };
            parameters.push((parameter, default));
            if !self.take_op(",") {
                self.expect_op(")")?;
                break;
            }
        }
        self.expect_block_end()?;
        let loops = std::mem::take(&mut self.loops);
        let body = self.body("endmacro")?;
        self.loops = loops;
        Ok(NodeKind::Macro(Arc::new(Macro { name, parameters, body })))
    }

    /// `name`, `name.attribute` (if allowed), or several with commas.
    fn target(&mut self, attributes: bool) -> Parsed<Target> {
        let mut targets = vec![self.single_target(attributes)?];
        let mut unpacks = false;
        while self.take_op(",") {
            unpacks = true;
            if !matches!(self.peek(), Kind::Name(_) | Kind::Op("(")) || self.is_name("in") {
                break;
            }
            targets.push(self.single_target(attributes)?);
        }
        match (targets.pop(), unpacks) {
            (Some(target), false) => Ok(target),
            (last, _) => {
                targets.extend(last);
                Ok(Target::Unpack(targets))
            }
        }
    }

    fn single_target(&mut self, attributes: bool) -> Parsed<Target> {
        if self.take_op("(") {
            let inner = self.deeper(|parser| parser.target(attributes))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.expect_name()?;
        if KEYWORDS.contains(&&*name) {
            return self.fail(format!("cannot assign to `{name}`"));
        }
        if attributes && self.take_op(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }

    /// `filter(arguments)|filter...` without a value before it.
    fn filter_chain(&mut self) -> Parsed<Vec<Call>> {
        let mut filters = vec![self.named_call()?];
        while self.take_op("|") {
            filters.push(self.named_call()?);
        }
        Ok(filters)
    }

    pub(super) fn named_call(&mut self) -> Parsed<Call> {
        let name = self.expect_name()?;
        let arguments = if self.take_op("(") { self.arguments()? } else { Arguments::default() };
        Ok(Call { name, arguments })
    }

    /// Arguments behind `(`.
    pub(super) fn arguments(&mut self) -> Parsed<Arguments> {
        let mut arguments = Arguments::default();
        while !self.take_op(")") {
            match (self.peek().clone(), self.peek_second()) {
                (Kind::Name(name), Kind::Op("=")) => {
                    self.at += 2;
                    let value = self.expression()?;
                    arguments.named.push((name, value));
                }
                (Kind::Op("*" | "**"), _) => return self.fail("unpacking of arguments is not supported"),
                _ if arguments.named.is_empty() => arguments.positional.push(self.expression()?),
                _ => return self.fail("an argument by place after one by name"),
            }
            if !self.take_op(",") {
                self.expect_op(")")?;
                break;
            }
        }
        Ok(arguments)
    }
}

/// A token in words.
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Text(_) => "text".into(),
        Kind::PrintBegin => "`{{`".into(),
        Kind::PrintEnd => "`}}`".into(),
        Kind::BlockBegin => "`{%`".into(),
        Kind::BlockEnd => "`%}`".into(),
        Kind::Name(name) => format!("`{name}`"),
        Kind::Str(_) => "a string".into(),
        Kind::Int(value) => format!("`{value}`"),
        Kind::Float(value) => format!("`{value}`"),
        Kind::Op(op) => format!("`{op}`"),
        Kind::End => "the template's end".into(),
    }
}
