//! The two orders that checkpoints have the rows of queries and keys in: pairs that rotary positions turn together are
//! halves of a head apart (Hugging Face), or neighbours (GGUF files of some families).

use std::borrow::Cow;

use autarky_graph::{Tensor, WeightError};

use crate::config::Config;

/// Rows of a projection that turn: of every `head` rows, `rotated` from `start` on.
pub(crate) struct TurnedRows {
    head: usize,
    start: usize,
    rotated: usize,
}

impl TurnedRows {
    /// Those of a weight, if it has any.
    pub(crate) fn of(c: &Config, weight: &str) -> Option<TurnedRows> {
        let stem = weight.strip_prefix("blk.")?.split('.').nth(1)?;
        let rows = |head, start| Some(TurnedRows { head, start, rotated: c.rope.rotated });
        match (stem, c.latent) {
            ("attn_q" | "attn_k", None) => rows(c.head_width, 0),
            ("attn_q" | "attn_q_b", Some(m)) => rows(m.nope + m.rope, m.nope),
            ("attn_kv_a_mqa", Some(m)) => rows(m.rank + m.rope, m.rank),
            _ => None,
        }
    }

    /// The row that comes to stand at `row`: pair (i, i + n/2) of halves becomes pair (2i, 2i + 1) of neighbours.
    fn to_neighbour(&self, row: usize) -> usize {
        let within = row % self.head;
        match within.checked_sub(self.start).filter(|&i| i < self.rotated) {
            Some(i) => row - within + self.start + i / 2 + i % 2 * (self.rotated / 2),
            None => row,
        }
    }

    /// The row that comes to stand at `row` the other way round.
    fn to_half(&self, row: usize) -> usize {
        let within = row % self.head;
        let half = self.rotated / 2;
        match within.checked_sub(self.start).filter(|&i| i < self.rotated) {
            Some(i) => row - within + self.start + 2 * (i % half) + i / half,
            None => row,
        }
    }

    /// The tensor (a matrix, or a bias whose numbers are its rows) with neighbours in pairs.
    pub(crate) fn to_neighbours<'a>(
        &self,
        tensor: Tensor<'a>,
        name: &str,
    ) -> Result<Tensor<'a>, WeightError> {
        self.reordered(tensor, name, |row| self.to_neighbour(row))
    }

    /// The tensor with halves in pairs.
    pub(crate) fn to_halves<'a>(&self, tensor: Tensor<'a>, name: &str) -> Result<Tensor<'a>, WeightError> {
        self.reordered(tensor, name, |row| self.to_half(row))
    }

    fn reordered<'a>(
        &self,
        tensor: Tensor<'a>,
        name: &str,
        source: impl Fn(usize) -> usize,
    ) -> Result<Tensor<'a>, WeightError> {
        let rows = tensor.shape.first().copied().unwrap_or(0);
        let bytes: usize = tensor.bytes();
        let wrong = |what: &str| WeightError::Data { name: name.to_owned(), what: what.to_owned() };
        if rows == 0 || !bytes.is_multiple_of(rows) || !rows.is_multiple_of(self.head) {
            return Err(wrong("its rows are not whole heads"));
        }
        let size = bytes / rows;
        let all: Cow<'_, [u8]> = match &tensor.parts[..] {
            [one] => Cow::Borrowed(one),
            parts => Cow::Owned(parts.concat()),
        };
        let mut out = Vec::with_capacity(bytes);
        for row in 0..rows {
            let at = source(row) * size;
            out.extend_from_slice(all.get(at..at + size).ok_or_else(|| wrong("a row is missing"))?);
        }
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        Ok(Tensor { dtype, shape, parts: vec![Cow::Owned(out)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_where_it_was() {
        let rows = TurnedRows { head: 10, start: 2, rotated: 6 };
        let there: Vec<usize> = (0..20).map(|row| rows.to_neighbour(row)).collect();
        assert_eq!(there[..10], [0, 1, 2, 5, 3, 6, 4, 7, 8, 9]);
        let back: Vec<usize> = (0..20).map(|row| there[rows.to_half(row)]).collect();
        assert_eq!(back, (0..20).collect::<Vec<_>>());
    }
}
