//! Errors by kind, chip and document.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{Checked, Compared};

/// How well some rows are predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What they share: a kind, a chip or a document.
    pub name: String,
    /// Rows that were predicted.
    pub rows: usize,
    /// The median of |predicted / measured - 1|.
    pub median_error: f64,
    /// What nine of ten rows do not pass of it.
    pub p90_error: f64,
    /// The share of rows whose measured figure is inside the 80 % interval.
    pub inside: f64,
    /// Rows that corrections were fitted on: their errors say little.
    pub fitted: usize,
}

/// All groups, each list from the largest group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Groups {
    /// All rows.
    pub all: Option<Group>,
    /// By kind and, for training, whether it is memory that was measured.
    pub kinds: Vec<Group>,
    /// By chip.
    pub chips: Vec<Group>,
    /// By document.
    pub documents: Vec<Group>,
}

impl Groups {
    pub(super) fn of(rows: &[Checked]) -> Groups {
        let by = |key: &dyn Fn(&Checked) -> String| {
            let mut groups: BTreeMap<String, Vec<&Compared>> = BTreeMap::new();
            for row in rows {
                if let Ok(compared) = &row.outcome {
                    groups.entry(key(row)).or_default().push(compared);
                }
            }
            let mut groups: Vec<Group> = groups.iter().filter_map(|(name, rows)| group(name, rows)).collect();
            groups.sort_by_key(|g| std::cmp::Reverse(g.rows));
            groups
        };
        Groups {
            all: by(&|_| "all".to_owned()).into_iter().next(),
            kinds: by(&|r| r.kind.clone()),
            chips: by(&|r| r.chip.clone()),
            documents: by(&|r| r.document.clone()),
        }
    }
}

fn group(name: &str, rows: &[&Compared]) -> Option<Group> {
    let mut errors: Vec<f64> = rows.iter().map(|r| r.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let count = |holds: &dyn Fn(&Compared) -> bool| rows.iter().filter(|r| holds(r)).count();
    Some(Group {
        name: name.to_owned(),
        rows: rows.len(),
        median_error: quantile(&errors, 0.5)?,
        p90_error: quantile(&errors, 0.9)?,
        inside: count(&|r| r.inside()) as f64 / rows.len() as f64,
        fitted: count(&|r| r.fitted),
    })
}

/// A quantile of sorted values, linear between them.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.9), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
    }
}
