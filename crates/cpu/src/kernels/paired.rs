//! What attention in training and its derivative are made of where products are of BF16 numbers, on processors that
//! have such products ([`crate::Isa::has_bf16_products`]). Matrices lie as [`crate::matmul::Paired`] has them.

use super::backward::Softmax;

/// C\[i\]\[j\] = Σ_k A\[i\]\[k\] · B\[k\]\[j\], or that added to C: of BF16 numbers, with sums in `f32`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels
pub(crate) struct PairedGemm {
    /// A: numbers 2 k and 2 k + 1 of a row are a pair.
    pub(crate) left: *const u8,
    /// Bytes from one row of A to the next, and from one of its pairs to the next.
    pub(crate) left_strides: (usize, usize),
    /// B: panels of 16 columns, and in them pairs of rows.
    pub(crate) right: *const u8,
    /// Bytes from one panel of B to the next.
    pub(crate) right_stride: usize,
    /// C: numbers of a row follow one another.
    pub(crate) to: *mut f32,
    /// Numbers from one row of C to the next.
    pub(crate) to_stride: usize,
    /// Rows of A and C.
    pub(crate) rows: usize,
    /// Columns of B and C.
    pub(crate) cols: usize,
    /// Pairs of columns of A, and of rows of B.
    pub(crate) pairs: usize,
    /// Whether to add to what C has.
    pub(crate) add: bool,
}

impl PairedGemm {
    /// Computes it. A number has the same bits however the rows and columns are divided.
    ///
    /// # Safety
    /// The processor has BF16 products; the pointers are good for the matrices, C overlaps neither of the others, and
    /// nobody writes A or B or uses C meanwhile.
    pub(crate) unsafe fn compute(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::gemm(self);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {self:?}");
    }
}

/// One or two queries, of the products of which the derivatives by attention's scores are made.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels
pub(crate) struct AttentionRows {
    /// Queries.
    pub(crate) count: usize,
    /// Positions that are looked at, a multiple of 16; and those that each query sees: first and one past the last.
    pub(crate) n: usize,
    pub(crate) seen: [(usize, usize); 2],
    /// Products q·k, which are overwritten; derivatives by the weights; and room for a soft cap's slopes, where there
    /// is one.
    pub(crate) scores: *mut f32,
    pub(crate) by_weights: *const f32,
    pub(crate) slopes: *mut f32,
    /// Numbers from one query to the next.
    pub(crate) stride: usize,
    /// The pair of queries in the first panel of positions, of the weights and of the derivatives by products q·k.
    pub(crate) weights_paired: *mut u8,
    pub(crate) by_scores_paired: *mut u8,
    /// Bytes from one panel to the next.
    pub(crate) panel_stride: usize,
    /// The derivatives once more, position by position, and bytes from one query to the next.
    pub(crate) by_scores: *mut u8,
    pub(crate) by_scores_stride: usize,
}

impl AttentionRows {
    /// Computes in `f32` attention's weights w, and the derivatives w · (d − Σ w d) · scale (· slope) by the products
    /// q·k, and writes both rounded to BF16, 0 for what is not seen and for a second query that is not there. Gives the
    /// sink's weight and Σ w d of each query.
    ///
    /// # Safety
    /// The processor has BF16 products; the pointers are good for as many queries and positions, of whose places nobody
    /// else uses any meanwhile; every query sees some position below `n`.
    pub(crate) unsafe fn derive(&self, softmax: &Softmax) -> [(f32, f32); 2] {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::attention_rows(softmax, self)
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {self:?} {softmax:?}");
    }
}

/// One query, of the products of which its weights are made.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels
pub(crate) struct WeightRow {
    /// Positions that are looked at, a multiple of 16; and those that the query sees: first and one past the last.
    pub(crate) n: usize,
    pub(crate) seen: (usize, usize),
    /// Products q·k, which are overwritten.
    pub(crate) scores: *mut f32,
    /// The weights, in BF16.
    pub(crate) weights: *mut u8,
}

impl WeightRow {
    /// Computes attention's weights in `f32`, and writes them rounded to BF16, 0 for what is not seen: the same bits as
    /// [`AttentionRows::derive`] does.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn weigh(&self, softmax: &Softmax) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::weight_row(softmax, self);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {self:?} {softmax:?}");
    }
}
