//! A tensor as a name, a type, a shape and borrowed bytes, whatever file it is in.

use std::borrow::Cow;

use autarky_quant::DType;

use crate::map;

/// A tensor's description and its bytes, borrowed from a mapped file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// The tensor's name in its file.
    pub name: &'a str,
    /// How its numbers are stored.
    pub dtype: DType,
    /// Sizes in row-major order, outermost first: a matrix is `[rows, columns]`, and a row is contiguous.
    pub shape: &'a [usize],
    /// The stored numbers, little-endian, exactly `dtype.bytes(elements)` long. Not aligned to anything in general.
    pub data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// How many numbers: the product of the shape, which readers have checked not to overflow.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The numbers of an F32 tensor, borrowed where alignment and byte order allow; `None` for other types.
    pub fn f32s(&self) -> Option<Cow<'a, [f32]>> {
        if self.dtype != DType::F32 {
            return None;
        }
        Some(match map::as_f32(self.data) {
            Some(numbers) => Cow::Borrowed(numbers),
            None => self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}

/// A tensor that a writer is told of before it is given the bytes. `D` is the format's element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec<D> {
    /// The tensor's name, unique in its file.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: D,
    /// Sizes in row-major order, outermost first.
    pub shape: Vec<usize>,
}

impl<D> TensorSpec<D> {
    /// A specification of these parts.
    pub fn new(name: impl Into<String>, dtype: D, shape: impl Into<Vec<usize>>) -> TensorSpec<D> {
        TensorSpec { name: name.into(), dtype, shape: shape.into() }
    }
}
