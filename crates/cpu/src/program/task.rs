//! What a program is made of: tasks that read and write buffers of the arena.

use autarky_graph::{ActivationKind as Function, NormKind, Rope, Route, Symbol};

use crate::kernels::cache::Layout;
use crate::kernels::elementwise::{Binary, Unary};
use crate::matmul::{ActivationKind, ActivationShape, LINE};

use super::derivative::Derivative;

/// A buffer of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BufferId(pub(super) usize);

/// How many rows a matrix has in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rows {
    /// Tokens or wanted outputs.
    pub(super) of: Symbol,
    /// Rows for each of them.
    pub(super) times: usize,
    /// Of those only some: the first, and how many at most.
    pub(super) window: Option<(usize, usize)>,
}

impl Rows {
    /// One for each.
    pub(super) fn each(of: Symbol) -> Rows {
        Rows { of, times: 1, window: None }
    }

    pub(super) fn count(self, tokens: usize, outputs: usize) -> usize {
        let all = self.times * if self.of == Symbol::Outputs { outputs } else { tokens };
        self.window.map_or(all, |(first, most)| all.saturating_sub(first).min(most))
    }
}

/// A row-major matrix of `f32`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub(super) buffer: BufferId,
    /// Rows that lie before its first in the buffer.
    pub(super) offset: usize,
    pub(super) rows: Rows,
    pub(super) width: usize,
}

impl Matrix {
    /// Some of the rows: `most` at most, from `first` on.
    pub(super) fn window(self, first: usize, most: usize) -> Matrix {
        Matrix { offset: first, rows: Rows { window: Some((first, most)), ..self.rows }, ..self }
    }
}

/// A matrix in the form that products read. Rows of several heads are as many matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) buffer: BufferId,
    pub(super) kind: ActivationKind,
    pub(super) rows: Rows,
    /// Matrices: 1, or the heads that the width is divided into.
    pub(super) heads: usize,
    /// Numbers in a row of one of them.
    pub(super) width: usize,
    /// Bytes from one matrix to the next.
    pub(super) stride: usize,
}

impl Operand {
    /// Bytes of one matrix of at most `rows` rows.
    pub(super) fn stride(kind: ActivationKind, rows: usize, width: usize) -> usize {
        ActivationShape::new(kind, rows, width).bytes().next_multiple_of(LINE)
    }
}

/// Where a task that makes whole rows puts them.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) width: usize,
    pub(super) rows: Rows,
    /// As numbers, when anything but products reads them.
    pub(super) value: Option<Matrix>,
    /// As operands of products.
    pub(super) operands: Vec<Operand>,
}

/// A routing: for every row the chosen experts and their weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routing {
    /// `[rows, K]` u32.
    pub(super) experts: BufferId,
    /// `[rows, K]` f32.
    pub(super) weights: BufferId,
    pub(super) rows: Rows,
    pub(super) top: usize,
}

/// The step's pairs of row and expert, sorted by expert. See [`super::experts`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouping {
    pub(super) buffer: BufferId,
    pub(super) routing: Routing,
    pub(super) experts: usize,
}

impl Grouping {
    /// The rows of a matrix that has one for each pair.
    pub(super) fn pairs(&self) -> Rows {
        Rows { times: self.routing.top, ..self.routing.rows }
    }
}

/// A vector weight, by its place among the loaded weights.
pub(super) type Vector = Option<usize>;

/// One attention op.
#[derive(Clone, Debug)]
pub(super) struct Attend {
    pub(super) cache: usize,
    pub(super) layout: Layout,
    /// Query heads.
    pub(super) heads: usize,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
    pub(super) window: Option<usize>,
    pub(super) sinks: Vector,
    pub(super) queries: Matrix,
    pub(super) to: Matrix,
    /// Records of spans that are summed by themselves.
    pub(super) spans: BufferId,
    /// Which of the step's divisions into tiles of tokens.
    pub(super) tiling: usize,
    /// Query heads of one tile.
    pub(super) tile_heads: usize,
    /// Rows of a tile at most.
    pub(super) tile_rows: usize,
}

/// One attention op where products are of BF16 numbers and all that a token sees is in the step.
#[derive(Clone, Debug)]
pub(super) struct AttendBf16 {
    pub(super) layout: Layout,
    /// Query heads.
    pub(super) heads: usize,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
    pub(super) window: Option<usize>,
    pub(super) sinks: Vector,
    pub(super) queries: Matrix,
    pub(super) keys: Matrix,
    pub(super) values: Matrix,
    pub(super) to: Matrix,
    /// Which of the step's divisions into tiles of tokens.
    pub(super) tiling: usize,
}

/// A piece of a step.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Input {
        slot: usize,
        to: Sink,
    },
    Embed {
        table: usize,
        to: Sink,
    },
    Select {
        from: Matrix,
        to: Sink,
    },
    Norm {
        kind: NormKind,
        epsilon: f32,
        weight: Vector,
        bias: Vector,
        from: Matrix,
        last: usize,
        to: Sink,
    },
    Unary {
        op: Unary,
        from: Matrix,
        to: Sink,
    },
    /// A copy that is made when `after` is there.
    After {
        from: Matrix,
        after: Matrix,
        to: Sink,
    },
    Binary {
        op: Binary,
        a: Matrix,
        b: Matrix,
        to: Sink,
    },
    /// Along the last dimension: of each of `width / (a + b)` pieces of a row.
    Concat {
        a: (Matrix, usize),
        b: (Matrix, usize),
        to: Sink,
    },
    /// `length` numbers from `start` of every `last` numbers.
    Slice {
        from: Matrix,
        last: usize,
        start: usize,
        length: usize,
        to: Sink,
    },
    /// A value in the form that products read.
    Operand {
        from: Matrix,
        to: Operand,
    },
    /// The angles of a rope for every token.
    Angles {
        rope: Rope,
        to: Matrix,
    },
    Rope {
        rope: Rope,
        angles: Matrix,
        last: usize,
        from: Matrix,
        to: Matrix,
    },
    Linear {
        weight: usize,
        /// Where the weight is as bytes, if it was packed before.
        packed: Option<BufferId>,
        bias: Vector,
        from: Operand,
        add: Option<Matrix>,
        to: Matrix,
    },
    /// f(gate) · up, both products of the step's rows.
    GatedLinear {
        function: Function,
        gate: (usize, Vector, Operand),
        up: (usize, Vector, Operand),
        to: Matrix,
    },
    HeadLinear {
        weight: usize,
        from: Operand,
        out: usize,
        to: Matrix,
    },
    WriteCache {
        cache: usize,
        layout: Layout,
        keys: Matrix,
        values: Matrix,
    },
    Attend(Attend),
    /// Puts together what [`Task::Attend`] left in spans.
    MergeSpans(Attend),
    /// Attention without a cache.
    AttendBf16(AttendBf16),
    Route {
        route: Route,
        bias: Vector,
        from: Matrix,
        to: Routing,
    },
    Group {
        to: Grouping,
    },
    /// The rows of all pairs, in the order of the grouping.
    Gather {
        from: Operand,
        grouping: Grouping,
        to: Operand,
    },
    /// f(gate) · up of every pair.
    ExpertsUp {
        function: Function,
        gate: (usize, Operand),
        up: (usize, Operand),
        grouping: Grouping,
        to: Matrix,
    },
    ExpertsDown {
        weight: usize,
        from: Operand,
        grouping: Grouping,
        to: Matrix,
    },
    /// The weighted sum of every row's pairs.
    Combine {
        from: Matrix,
        grouping: Grouping,
        to: Sink,
    },
    /// A part of a derivative.
    Derivative(Box<Derivative>),
}

/// What a task does to a buffer or a cache.
#[derive(Default, Debug)]
pub(super) struct Accesses {
    pub(super) reads: Vec<BufferId>,
    pub(super) writes: Vec<BufferId>,
    /// Which of those that it reads only have to be there before: their numbers do not matter.
    pub(super) after: Vec<BufferId>,
    /// A read and a written buffer that may be one.
    pub(super) in_place: Vec<(BufferId, BufferId)>,
    pub(super) cache: Option<usize>,
    /// Weights whose gradients it adds to.
    pub(super) gradients: Vec<usize>,
}

impl Accesses {
    pub(super) fn sink(&mut self, to: &Sink, in_place: &[Matrix]) {
        self.writes.extend(to.operands.iter().map(|o| o.buffer));
        if let Some(value) = to.value {
            self.writes.push(value.buffer);
            self.in_place.extend(in_place.iter().map(|m| (m.buffer, value.buffer)));
        }
    }

    pub(super) fn grouping(&mut self, grouping: &Grouping) {
        self.reads.extend([grouping.buffer, grouping.routing.experts, grouping.routing.weights]);
    }
}

impl Task {
    pub(super) fn accesses(&self) -> Accesses {
        let mut a = Accesses::default();
        match self {
            Task::Input { to, .. } | Task::Embed { to, .. } => a.sink(to, &[]),
            Task::Select { from, to } | Task::Slice { from, to, .. } => {
                a.reads.push(from.buffer);
                a.sink(to, &[]);
            }
            Task::Norm { from, to, .. } | Task::Unary { from, to, .. } => {
                a.reads.push(from.buffer);
                a.sink(to, &[*from]);
            }
            Task::After { from, after, to } => {
                a.reads.extend([from.buffer, after.buffer]);
                a.after.push(after.buffer);
                a.sink(to, &[]);
            }
            Task::Binary { a: x, b: y, to, .. } => {
                a.reads.extend([x.buffer, y.buffer]);
                a.sink(to, &[*x, *y]);
            }
            Task::Concat { a: (x, _), b: (y, _), to } => {
                a.reads.extend([x.buffer, y.buffer]);
                a.sink(to, &[]);
            }
            Task::Operand { from, to } => {
                a.reads.push(from.buffer);
                a.writes.push(to.buffer);
            }
            Task::Angles { to, .. } => a.writes.push(to.buffer),
            Task::Rope { angles, from, to, .. } => {
                a.reads.extend([angles.buffer, from.buffer]);
                a.writes.push(to.buffer);
                a.in_place.push((from.buffer, to.buffer));
            }
            Task::Linear { packed, from, add, to, .. } => {
                a.reads.push(from.buffer);
                a.reads.extend(*packed);
                a.reads.extend(add.map(|m| m.buffer));
                a.writes.push(to.buffer);
            }
            Task::GatedLinear { gate, up, to, .. } => {
                a.reads.extend([gate.2.buffer, up.2.buffer]);
                a.writes.push(to.buffer);
            }
            Task::HeadLinear { from, to, .. } => {
                a.reads.push(from.buffer);
                a.writes.push(to.buffer);
            }
            Task::WriteCache { cache, keys, values, .. } => {
                a.reads.extend([keys.buffer, values.buffer]);
                a.cache = Some(*cache);
            }
            Task::Attend(attend) => {
                a.reads.push(attend.queries.buffer);
                a.writes.extend([attend.spans, attend.to.buffer]);
                a.cache = Some(attend.cache);
            }
            Task::MergeSpans(attend) => {
                a.reads.push(attend.spans);
                a.writes.push(attend.to.buffer);
            }
            Task::AttendBf16(attend) => {
                a.reads.extend([attend.queries, attend.keys, attend.values].map(|m| m.buffer));
                a.writes.push(attend.to.buffer);
            }
            Task::Route { from, to, .. } => {
                a.reads.push(from.buffer);
                a.writes.extend([to.experts, to.weights]);
            }
            Task::Group { to } => {
                a.reads.push(to.routing.experts);
                a.writes.push(to.buffer);
            }
            Task::Gather { from, grouping, to } => {
                a.reads.push(from.buffer);
                a.grouping(grouping);
                a.writes.push(to.buffer);
            }
            Task::ExpertsUp { gate, up, grouping, to, .. } => {
                a.reads.extend([gate.1.buffer, up.1.buffer]);
                a.grouping(grouping);
                a.writes.push(to.buffer);
            }
            Task::ExpertsDown { from, grouping, to, .. } => {
                a.reads.push(from.buffer);
                a.grouping(grouping);
                a.writes.push(to.buffer);
            }
            Task::Combine { from, grouping, to } => {
                a.reads.push(from.buffer);
                a.grouping(grouping);
                a.sink(to, &[]);
            }
            Task::Derivative(derivative) => derivative.accesses(&mut a),
        }
        a
    }

    /// The name under which its time is counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Task::Input { .. } => "input",
            Task::Embed { .. } => "embed",
            Task::Select { .. } => "select",
            Task::Norm { .. } => "norm",
            Task::Unary { .. } | Task::Binary { .. } => "elementwise",
            Task::After { .. } | Task::Concat { .. } | Task::Slice { .. } => "layout",
            Task::Operand { .. } | Task::Gather { .. } => "operand",
            Task::Angles { .. } | Task::Rope { .. } => "rope",
            Task::Linear { .. } => "linear",
            Task::GatedLinear { .. } => "gated linear",
            Task::HeadLinear { .. } => "head linear",
            Task::WriteCache { .. } => "write cache",
            Task::Attend(_) | Task::MergeSpans(_) | Task::AttendBf16(_) => "attention",
            Task::Route { .. } | Task::Group { .. } => "route",
            Task::ExpertsUp { .. } | Task::ExpertsDown { .. } => "experts",
            Task::Combine { .. } => "combine",
            Task::Derivative(derivative) => derivative.name(),
        }
    }
}
