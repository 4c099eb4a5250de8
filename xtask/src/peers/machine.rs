//! What a receipt says of the machine, read from `/proc`.

use std::fmt::Write;
use std::fs::read_to_string;

use serde::{Deserialize, Serialize};

/// The machine that a measurement ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The processor's own name for itself.
    pub(super) processor: String,
    /// Processors that the system lists.
    pub(super) processors: usize,
    /// The instruction sets that matter to a kernel.
    pub(super) instruction_sets: String,
    pub(super) memory_gib: f64,
    pub(super) kernel: String,
}

/// Flags of `/proc/cpuinfo` worth recording, in the order of their age.
const KERNEL_FLAGS: [&str; 13] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512vbmi",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
];

impl Machine {
    pub(super) fn read() -> Self {
        let file = |path: &str| read_to_string(path).unwrap_or_default();
        Self::parse(&file("/proc/cpuinfo"), &file("/proc/meminfo"), file("/proc/sys/kernel/osrelease").trim())
    }

    /// Whether it has matrix units.
    pub(super) fn has_matrix_units(&self) -> bool {
        self.instruction_sets.contains("amx")
    }

    fn parse(cpuinfo: &str, meminfo: &str, kernel: &str) -> Self {
        let values = |key: &'static str| {
            let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
        };
        let flags: Vec<&str> = values("flags").next().unwrap_or_default().split(' ').collect();
        let known = KERNEL_FLAGS.into_iter().filter(|flag| flags.contains(flag));
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kibibytes: f64 = total.and_then(|t| t.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
        let memory_gib = (kibibytes / f64::from(1 << 20) * 10.0).round() / 10.0;
        Self {
            processor: values("model name").next().unwrap_or("unknown processor").to_string(),
            processors: values("processor").count(),
            instruction_sets: known.collect::<Vec<_>>().join(" "),
            memory_gib,
            kernel: kernel.to_string(),
        }
    }

    /// A short name for file names: the processor in lower case, and the number of processors.
    pub(super) fn slug(&self) -> String {
        let mut slug = slug(&self.processor);
        let _ = write!(slug, "-x{}", self.processors);
        slug
    }
}

/// Bytes of memory that programs can still have; 0 where there is no `/proc`.
pub(super) fn memory_available() -> u64 {
    let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes: u64 = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kibibytes << 10
}

/// `name` in lower case, each run of other characters than letters, digits and dots a hyphen.
fn slug(name: &str) -> String {
    let plain = name.replace("(R)", "").replace("(TM)", "").to_lowercase();
    let words =
        plain.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The day, `YYYY-MM-DD` in UTC, of a time in seconds since 1970 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms": years counted from March, so that the leap day comes last).
pub(super) fn date(seconds: u64) -> String {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = seconds / 86_400 + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_the_calendar() {
        // From `date -u -d DAY +%s`.
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn the_machine_is_read_from_proc() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) 6975P-C\nflags\t\t: fpu avx2 amx_int8 avx512f\n\n\
                       processor\t: 1\nmodel name\t: Intel(R) Xeon(R) 6975P-C\nflags\t\t: fpu avx2\n";
        let machine = Machine::parse(cpuinfo, "MemTotal:       8388608 kB\nMemFree: 1 kB\n", "6.1");
        assert_eq!(machine.processors, 2);
        assert_eq!(machine.instruction_sets, "avx2 avx512f amx_int8");
        assert!((machine.memory_gib - 8.0).abs() < 1e-9);
        assert_eq!(machine.slug(), "intel-xeon-6975p-c-x2");
    }

    #[test]
    fn a_machine_that_says_nothing_is_still_named() {
        assert_eq!(Machine::parse("", "", "").slug(), "unknown-processor-x0");
    }
}
