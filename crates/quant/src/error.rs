//! What can be wrong with bytes or numbers that are to be converted.

use crate::DType;

/// Why numbers could not be turned into blocks, or blocks into numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// The two buffers do not describe the same number of elements.
    #[error("{dtype}: {elements} elements take {expected} bytes, but there are {found}")]
    Length {
        /// The type that was read or written.
        dtype: DType,
        /// Elements in the `f32` buffer.
        elements: usize,
        /// Bytes that so many elements take.
        expected: usize,
        /// Bytes in the other buffer.
        found: usize,
    },
    /// The number of elements is not a whole number of blocks (or their bytes overflow `usize`).
    #[error(
        "{dtype}: {elements} elements are not whole blocks of {block}; pad the row or choose a type with a smaller block",
        block = dtype.block_len()
    )]
    PartialBlock {
        /// The type that was read or written.
        dtype: DType,
        /// Elements that were asked for.
        elements: usize,
    },
    /// One block was asked for and the bytes are not one block.
    #[error("{dtype}: one block is {expected} bytes, but there are {found}", expected = dtype.block_bytes())]
    BlockSize {
        /// The type of the block.
        dtype: DType,
        /// Bytes that were given.
        found: usize,
    },
    /// The type is a plain float, which has no codes.
    #[error("{dtype} is a plain float type: it has no blocks of codes; use dequantize")]
    NoCodes {
        /// The type that was asked for.
        dtype: DType,
    },
    /// A number to store is NaN or infinite.
    #[error(
        "{dtype}: element {index} is {value}, which no block can hold; look for a broken checkpoint or an overflow before it"
    )]
    NotFinite {
        /// The type that was written.
        dtype: DType,
        /// Place of the element in the values that were given.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A number, or the scale of its block, is beyond the largest number that the type can hold.
    #[error(
        "{dtype}: element {index} is {value}, beyond the range of the type; use BF16 or F32 for this tensor"
    )]
    OutOfRange {
        /// The type that was written.
        dtype: DType,
        /// Place of the element (for a block: of its largest) in the values that were given.
        index: usize,
        /// Its value.
        value: f32,
    },
}
