//! How a graph's weights are made from a checkpoint's tensors.
//!
//! Most weights are one tensor. Experts may lie one by one or all in one tensor with another projection's rows beside
//! them, and DeepSeek's latent projections are rows of every head, one of them transposed. Rows are borrowed from the
//! mapped file wherever they lie; only a transposition copies.

use std::borrow::Cow;
use std::path::Path;

use autarky_format::{Source, TensorView};
use autarky_graph::{Tensor, WeightError};
use autarky_quant::DType;

use crate::error::FamilyError;

/// Where a weight's numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// In one tensor.
    Tensor(String),
    /// In several tensors, which follow one another along a new first dimension.
    Stack(Vec<String>),
    /// In a tensor seen as `view`: `length` places from `start` of dimension `dim`, which is not the last.
    Rows { tensor: String, view: Vec<usize>, dim: usize, start: usize, length: usize },
    /// The same, each matrix of the last two dimensions transposed.
    Transposed(Box<Binding>),
}

impl Binding {
    /// The tensors that it reads.
    pub(crate) fn tensors(&self) -> Vec<&str> {
        match self {
            Binding::Tensor(name) | Binding::Rows { tensor: name, .. } => vec![name],
            Binding::Stack(names) => names.iter().map(String::as_str).collect(),
            Binding::Transposed(of) => of.tensors(),
        }
    }

    /// Checks that the tensors are there with the right shapes, and that the weight comes out as `shape`.
    ///
    /// # Errors
    /// Names the tensor that is missing or wrong.
    pub(crate) fn check(&self, source: &Source, file: &Path, shape: &[usize]) -> Result<DType, FamilyError> {
        match self {
            Binding::Tensor(name) => {
                let view = find(source, file, name)?;
                expect_shape(file, name, view.shape, shape)?;
                Ok(view.dtype)
            }
            Binding::Stack(names) => {
                let inner = shape.get(1..).unwrap_or_default();
                let mut dtype = None;
                for name in names {
                    let view = find(source, file, name)?;
                    expect_shape(file, name, view.shape, inner)?;
                    let first = *dtype.get_or_insert(view.dtype);
                    if view.dtype != first {
                        return Err(FamilyError::TensorType {
                            file: file.to_owned(),
                            tensor: name.clone(),
                            found: view.dtype.to_string(),
                            expected: format!("{first}, as the first expert"),
                        });
                    }
                }
                dtype.ok_or_else(|| missing(file, "experts"))
            }
            Binding::Rows { tensor, view: seen, dim, start, length } => {
                let view = find(source, file, tensor)?;
                // The same rows may stand under fewer dimensions.
                let last = seen.last().copied().unwrap_or(1);
                let whole = seen.iter().product::<usize>();
                let within = seen.get(*dim).is_some_and(|n| start + length <= *n) && dim + 1 < seen.len();
                if view.elements() != whole || view.shape.last() != Some(&last) || !within {
                    return Err(wrong_shape(file, tensor, view.shape, seen));
                }
                let mut result = seen.clone();
                if let Some(n) = result.get_mut(*dim) {
                    *n = *length;
                }
                match result.iter().product::<usize>() == shape.iter().product::<usize>()
                    && Some(&last) == shape.last()
                {
                    true => Ok(view.dtype),
                    false => Err(wrong_shape(file, tensor, &result, shape)),
                }
            }
            Binding::Transposed(of) => {
                let mut before = shape.to_vec();
                let n = before.len();
                if n < 2 {
                    return Err(wrong_shape(file, of.tensors().first().unwrap_or(&""), shape, shape));
                }
                before.swap(n - 1, n - 2);
                Ok(transposed_type(of.check(source, file, &before)?))
            }
        }
    }

    /// The weight `name` of this `shape`. [`Binding::check`] has passed.
    ///
    /// # Errors
    /// When a tensor is gone or not as it was.
    pub(crate) fn read<'a>(
        &self,
        source: &'a Source,
        name: &str,
        shape: &[usize],
    ) -> Result<Tensor<'a>, WeightError> {
        let find = |tensor: &str| -> Result<TensorView<'a>, WeightError> {
            source.tensor(tensor).ok_or_else(|| WeightError::Missing {
                name: name.to_owned(),
                hint: format!("the tensor {tensor:?} of {}", source.path().display()),
            })
        };
        let shape = shape.to_vec();
        match self {
            Binding::Tensor(tensor) => {
                let view = find(tensor)?;
                Ok(Tensor { dtype: view.dtype, shape, parts: vec![Cow::Borrowed(view.data)] })
            }
            Binding::Stack(tensors) => {
                let views = tensors.iter().map(|t| find(t)).collect::<Result<Vec<_>, _>>()?;
                let dtype = views.first().map_or(DType::F32, |v| v.dtype);
                Ok(Tensor { dtype, shape, parts: views.iter().map(|v| Cow::Borrowed(v.data)).collect() })
            }
            Binding::Rows { tensor, view: seen, dim, start, length } => {
                let view = find(tensor)?;
                let wrong = || WeightError::Data {
                    name: name.to_owned(),
                    what: format!("the tensor {tensor:?} is no longer as it was when the model was opened"),
                };
                let (outer, inner) = seen.split_at_checked(dim + 1).ok_or_else(wrong)?;
                let places = outer.last().copied().ok_or_else(wrong)?;
                let bytes = view.dtype.bytes(inner.iter().product()).ok_or_else(wrong)?;
                let part =
                    |chunk: &'a [u8]| chunk.get(start * bytes..(start + length) * bytes).map(Cow::Borrowed);
                let chunks = view.data.chunks_exact((places * bytes).max(1));
                let parts = chunks.map(part).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
                Ok(Tensor { dtype: view.dtype, shape, parts })
            }
            Binding::Transposed(of) => {
                let mut before = shape.clone();
                let n = before.len();
                before.swap(n.saturating_sub(1), n.saturating_sub(2));
                transpose(&of.read(source, name, &before)?, shape, name)
            }
        }
    }

    /// Says that its tensors were copied. One that another weight shares is read again when that one is.
    pub(crate) fn release(&self, source: &Source) {
        self.tensors().iter().for_each(|t| source.release(t));
    }
}

/// Plain floats keep their type; blocks cannot be cut across.
fn transposed_type(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { DType::F32 }
}

/// Transposes each matrix of the last two dimensions; the result has `shape`.
fn transpose<'a>(of: &Tensor<'_>, shape: Vec<usize>, name: &str) -> Result<Tensor<'a>, WeightError> {
    let dtype = transposed_type(of.dtype);
    let bytes: Vec<u8> = match of.dtype.is_float() {
        true => of.parts.concat(),
        false => of.to_f32(name)?.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    let (rows, columns) = match shape[..] {
        [.., rows, columns] => (rows, columns),
        _ => (1, 1),
    };
    let size = dtype.block_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for matrix in bytes.chunks_exact((rows * columns * size).max(1)) {
        // What is read has `columns` rows of `rows` numbers.
        for row in 0..rows {
            for column in 0..columns {
                let at = (column * rows + row) * size;
                out.extend_from_slice(matrix.get(at..at + size).unwrap_or_default());
            }
        }
    }
    Ok(Tensor { dtype, shape, parts: vec![Cow::Owned(out)] })
}

fn missing(file: &Path, tensor: &str) -> FamilyError {
    FamilyError::MissingTensor { file: file.to_owned(), tensor: tensor.to_owned() }
}

/// The tensor, or an error that says whether it is absent or of a type that is not computed with.
fn find<'a>(source: &'a Source, file: &Path, name: &str) -> Result<TensorView<'a>, FamilyError> {
    match source.tensor(name) {
        Some(view) => Ok(view),
        None => match source.require(name) {
            Err(e @ autarky_format::Error::Unsupported { .. }) => Err(e.into()),
            _ => Err(missing(file, name)),
        },
    }
}

fn wrong_shape(file: &Path, tensor: &str, found: &[usize], expected: &[usize]) -> FamilyError {
    FamilyError::TensorShape {
        file: file.to_owned(),
        tensor: tensor.to_owned(),
        found: found.to_vec(),
        expected: expected.to_vec(),
    }
}

fn expect_shape(file: &Path, tensor: &str, found: &[usize], expected: &[usize]) -> Result<(), FamilyError> {
    match found == expected {
        true => Ok(()),
        false => Err(wrong_shape(file, tensor, found, expected)),
    }
}
