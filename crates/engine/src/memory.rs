//! What a model needs and what the machine has.

use std::fs;
use std::path::Path;

use autarky_graph::{BLOCK, Graph, Limits, MemoryUse, Symbol};

use crate::error::EngineError;

/// Bytes in binary units: `1.5 GiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} bytes"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// Memory that this process may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// How much, in bytes.
    pub bytes: u64,
    /// What sets the limit.
    pub limit: &'static str,
}

/// What the machine has left for this process: Linux's own estimate (`MemAvailable`), or less where a control group
/// sets a limit. `None` where neither can be read (other systems), and then nothing is refused.
pub fn available() -> Option<Available> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let machine = machine.map(|bytes| Available { bytes, limit: "the machine's free memory" });
    let group = control_group().map(|bytes| Available { bytes, limit: "the control group's limit" });
    [machine, group].into_iter().flatten().min_by_key(|a| a.bytes)
}

/// `MemAvailable` of `/proc/meminfo` in bytes.
fn mem_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that any control group above this process leaves, in bytes: limit − use + file cache that can be
/// dropped.
fn control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least = None;
    for line in groups.lines() {
        // `0::/path` is version 2; `N:memory:/path` is version 1.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let files = match kinds {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
            k if k.split(',').any(|k| k == "memory") => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
            _ => continue,
        };
        let (root, limit, usage, reclaimable) = files;
        // Inside a container the path may be the host's; then only the root is visible.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = Path::new(root).join(group);
            let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
            let (Some(limit), Some(usage)) = (number(limit), number(usage)) else { continue };
            let dropped = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let dropped =
                dropped.lines().find_map(|l| l.strip_prefix(reclaimable)?.trim().parse::<u64>().ok());
            let left = limit.saturating_sub(usage.saturating_sub(dropped.unwrap_or(0)));
            least = Some(least.map_or(left, |l: u64| l.min(left)));
        }
    }
    least
}

/// What a program will need, before anything is allocated: `weights` as given, the whole KV cache, and the most
/// that values alive at the same time take. Devices may need a little more (scratch) or less (fusion).
pub fn estimate(graph: &Graph, weights: u64, limits: &Limits) -> MemoryUse {
    let positions = (limits.blocks as u64).saturating_mul(BLOCK as u64);
    let position: usize = graph.caches().iter().map(|spec| limits.cache.position_bytes(spec)).sum();
    let cache = positions.saturating_mul(position as u64);
    let last = graph.last_uses();
    let bytes = |i: usize| {
        let shape = &graph.nodes()[i].shape;
        let rows = if shape.rows() == Symbol::Outputs { limits.outputs } else { limits.tokens };
        (rows as u64).saturating_mul(4 * shape.width() as u64)
    };
    let (mut alive, mut most) = (0u64, 0u64);
    for i in 0..graph.nodes().len() {
        alive = alive.saturating_add(bytes(i));
        most = most.max(alive);
        // A value dies with its last reader; each dies once, though a node may read it twice.
        let mut dead: Vec<usize> = graph.nodes()[i].args.iter().map(|a| a.index()).collect();
        dead.push(i);
        dead.sort_unstable();
        dead.dedup();
        let freed: u64 = dead.into_iter().filter(|&v| last[v] == i).map(bytes).sum();
        alive = alive.saturating_sub(freed);
    }
    MemoryUse { weights, cache, arena: most }
}

/// Refuses what would not fit, with the largest context that would as advice. `context` is the one asked for and
/// `sequences` how many at once; a share of 3% is left to the rest of the machine.
///
/// # Errors
/// [`EngineError::Memory`].
pub fn admit(need: MemoryUse, context: usize, available: Option<Available>) -> Result<(), EngineError> {
    let Some(available) = available else { return Ok(()) };
    let usable = available.bytes - available.bytes / 32;
    if need.total() <= usable {
        return Ok(());
    }
    let fixed = need.weights.saturating_add(need.arena);
    let per_position = (need.cache / context.max(1) as u64).max(1);
    let fits = usable.saturating_sub(fixed) / per_position / BLOCK as u64 * BLOCK as u64;
    let hint = match fits {
        0 => "choose a smaller model or a smaller data type (autarky quantize), or free memory".to_owned(),
        n => format!("--context {n} fits"),
    };
    let [weights, cache, arena] = [need.weights, need.cache, need.arena].map(human);
    Err(EngineError::Memory {
        what: format!("the model (weights {weights}, KV cache {cache} at context {context}, arena {arena})"),
        needed: need.total(),
        available: usable,
        source_of_limit: available.limit,
        hint,
    })
}

#[cfg(test)]
mod tests {
    use autarky_graph::CacheDType;

    use super::*;
    use crate::testing;

    #[test]
    fn bytes_read_as_people_write_them() {
        let found = [0, 1023, 1024, 1_610_612_736, u64::MAX].map(human);
        assert_eq!(found, ["0 bytes", "1023 bytes", "1.00 KiB", "1.50 GiB", "16384 PiB"]);
    }

    #[test]
    fn mem_available_is_read_and_nonsense_is_not() {
        assert_eq!(mem_available("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        for text in ["", "MemAvailable: many kB", "MemAvailable: 12", "MemAvailable: 18446744073709551615 kB"]
        {
            assert_eq!(mem_available(text), None, "{text}");
        }
    }

    #[test]
    fn the_cache_grows_with_the_context_and_the_arena_with_the_chunk() {
        let graph = testing::graph();
        let limits = |context, chunk| Limits::single(context, chunk, CacheDType::F16);
        let small = estimate(&graph, 100, &limits(64, 8));
        let long = estimate(&graph, 100, &limits(128, 8));
        let wide = estimate(&graph, 100, &limits(64, 16));
        // One layer, 2 heads of 8 keys and 8 values, 2 bytes each.
        assert_eq!(small.cache, 64 * 32 * 2);
        assert_eq!(long.cache, 2 * small.cache);
        assert_eq!(wide.arena, 2 * small.arena);
        assert_eq!(small.weights, 100);
    }

    #[test]
    fn a_refusal_names_the_context_that_fits() {
        let need = MemoryUse { weights: 1 << 20, cache: 1 << 30, arena: 0 };
        let have = |bytes| Some(Available { bytes, limit: "a test" });
        assert!(admit(need, 1 << 20, None).is_ok());
        assert!(admit(need, 1 << 20, have(4 << 30)).is_ok());
        let error = admit(need, 1 << 20, have(64 << 20)).unwrap_err().to_string();
        // (64 MiB · 31/32 − 1 MiB) / 1 KiB = 62464 positions.
        assert!(error.contains("--context 62464 fits"), "{error}");
        assert!(admit(MemoryUse { cache: 62464 << 10, ..need }, 62464, have(64 << 20)).is_ok());
        let error = admit(need, 1 << 20, have(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("smaller model"), "{error}");
    }
}
