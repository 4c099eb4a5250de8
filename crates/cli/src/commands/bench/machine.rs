//! What a benchmark says of the machine that it ran on.

use std::fs;

use autarky_engine::memory::human;
use serde_json::{Value, json};

/// The machine, as far as it tells.
pub(super) struct Machine {
    processor: Option<String>,
    cores: usize,
    memory: Option<u64>,
}

impl Machine {
    pub(super) fn here() -> Machine {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Machine {
            processor: processor(&cpu),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory: kilobytes(&memory, "MemTotal:"),
        }
    }

    pub(super) fn text(&self) -> String {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let memory = self.memory.map_or("unknown".to_owned(), human);
        format!("{processor}, {} cores for this process, {memory} memory", self.cores)
    }

    pub(super) fn json(&self) -> Value {
        json!({"processor": self.processor, "cores": self.cores, "memory_bytes": self.memory})
    }
}

/// The processor's name: x86's `model name`, or ARM's numbers, which are all that Linux gives.
fn processor(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    field("model name").or_else(|| {
        Some(format!("ARM implementer {} part {}", field("CPU implementer")?, field("CPU part")?))
    })
}

/// Memory of this process that is in RAM, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Resident {
    pub(super) total: u64,
    /// Its own.
    pub(super) anonymous: u64,
    /// Pages of mapped files, which the system can drop.
    pub(super) file: u64,
}

impl Resident {
    /// `None` where the system does not say.
    pub(super) fn now() -> Option<Resident> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let field = |name| kilobytes(&status, name);
        Some(Resident { total: field("VmRSS:")?, anonymous: field("RssAnon:")?, file: field("RssFile:")? })
    }
}

/// A line `NAME   123 kB` in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_as_far_as_linux_names_them() {
        let x86 = "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t: fpu\n";
        assert_eq!(processor(x86).as_deref(), Some("AMD EPYC 9R14"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n";
        assert_eq!(processor(arm).as_deref(), Some("ARM implementer 0x41 part 0xd4f"));
        assert_eq!(processor(""), None);
    }

    #[test]
    fn kilobytes_are_read() {
        assert_eq!(kilobytes("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12288));
        assert_eq!(kilobytes("VmRSS:\t  12 MB\n", "VmRSS:"), None);
    }
}
