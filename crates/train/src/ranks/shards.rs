//! How many shards the steps of a run have, and which rows are in each.

use std::ops::Range;

use serde_json::Value as Json;

use super::Group;
use crate::config::{Config, ConfigError};

const KEY: &str = "training.shards";

/// The shards of a run's steps, and the ranks that share them.
#[derive(Clone, Copy)]
pub(crate) struct Shards<'a> {
    pub(crate) group: &'a Group<'a>,
    pub(crate) count: usize,
}

impl Shards<'_> {
    /// The shards that this rank takes.
    pub(crate) fn own(&self) -> Range<usize> {
        cut(self.count, self.group.rank(), self.group.size())
    }

    /// Those of a step's rows that are in a shard.
    pub(crate) fn rows(&self, rows: usize, shard: usize) -> Range<usize> {
        cut(rows, shard, self.count)
    }

    /// Refuses shards that some steps would leave empty. `key` is what says how many rows a step has.
    ///
    /// # Errors
    /// When there are fewer rows than shards.
    pub(crate) fn refuse_few(&self, rows: usize, key: &str) -> Result<(), ConfigError> {
        if rows >= self.count {
            return Ok(());
        }
        let shards = self.count;
        let problem =
            format!("a step has {rows} rows, too few for {shards} shards: raise {key}, or start fewer ranks");
        Err(ConfigError::Value { key: KEY, problem })
    }
}

/// The shards of a run on so many ranks: as it is asked for, else as the run was begun, which its latest checkpoint says, else
/// one for every rank.
///
/// # Errors
/// When they cannot be shared evenly.
pub(crate) fn shards(config: &Config, begun: Option<&Json>, ranks: usize) -> Result<usize, ConfigError> {
    let value = |problem| Err(ConfigError::Value { key: KEY, problem });
    let before = begun.map(|run| run.pointer("/config/training/shards").and_then(Json::as_u64).unwrap_or(1));
    let shards = config.training.shards.or(before.map(|n| n as usize)).unwrap_or(ranks);
    if !shards.is_power_of_two() {
        let (below, above) = (1 << shards.max(1).ilog2(), shards.max(1).next_power_of_two());
        return value(match config.training.shards {
            Some(_) => format!("{shards} is no power of two: {below} and {above} are"),
            None => format!("{ranks} ranks cannot share the steps evenly: start {below} or {above}"),
        });
    }
    if ranks > shards || !shards.is_multiple_of(ranks) {
        let most = 1 << ranks.min(shards).ilog2();
        return value(format!(
            "{ranks} ranks cannot share the {shards} shards of each step evenly: start {most}, or begin another run with a power \
             of two that is at least the number of ranks"
        ));
    }
    Ok(shards)
}

/// The part of so many rows that is in a shard.
fn cut(rows: usize, shard: usize, shards: usize) -> Range<usize> {
    rows * shard / shards..rows * (shard + 1) / shards
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(shards: Option<usize>) -> Config {
        let mut config = Config::default();
        config.training.shards = shards;
        config
    }

    #[test]
    fn a_run_keeps_the_shards_that_it_was_begun_with() {
        let begun = json!({"config": {"training": {"shards": 4}}});
        assert_eq!(shards(&asked(None), None, 2).unwrap(), 2);
        assert_eq!(shards(&asked(None), Some(&begun), 2).unwrap(), 4);
        assert_eq!(shards(&asked(Some(8)), Some(&begun), 2).unwrap(), 8);
        // Written by one process, perhaps before there were shards.
        assert_eq!(shards(&asked(None), Some(&json!({})), 1).unwrap(), 1);
        assert!(shards(&asked(None), Some(&json!({})), 2).is_err());
    }

    #[test]
    fn what_cannot_be_shared_evenly_is_refused_with_what_can() {
        let problem = |s, ranks| shards(&asked(s), None, ranks).unwrap_err().to_string();
        assert!(problem(None, 3).contains("start 2 or 4"), "{}", problem(None, 3));
        assert!(problem(Some(6), 1).contains("4 and 8"), "{}", problem(Some(6), 1));
        assert!(problem(Some(4), 3).contains("start 2,"), "{}", problem(Some(4), 3));
        assert!(problem(Some(2), 4).contains("start 2,"), "{}", problem(Some(2), 4));
        assert!(problem(Some(0), 1).contains("power of two"), "{}", problem(Some(0), 1));
    }

    #[test]
    fn every_row_is_in_one_shard() {
        for (rows, shards) in [(4, 4), (7, 4), (16, 2), (5, 1)] {
            let all: Vec<usize> = (0..shards).flat_map(|s| cut(rows, s, shards)).collect();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
    }
}
