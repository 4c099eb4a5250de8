//! How much of the machine other programs used while an engine ran: a speed measured beside a compiler is no speed.

use std::fs::read_to_string;

/// Processor time since the machine started, in the kernel's ticks (proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessorTime {
    /// Of all processors, idle or not.
    total: u64,
    /// Of all processors at work for anybody, other virtual machines on the same host included.
    busy: u64,
    /// Of the programs that count as ours, with the children that they have waited for.
    own: u64,
}

impl ProcessorTime {
    /// Now, where this program and those with the given ids are ours; zero where there is no `/proc`.
    pub(super) fn now(ours: &[u32]) -> Self {
        let file = |path: &str| read_to_string(path).unwrap_or_default();
        let mut own = vec![file("/proc/self/stat")];
        own.extend(ours.iter().map(|id| file(&format!("/proc/{id}/stat"))));
        Self::parse(&file("/proc/stat"), &own).unwrap_or_default()
    }

    fn parse(system: &str, own: &[String]) -> Option<Self> {
        let fields = |text: &str| {
            text.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect::<Vec<u64>>()
        };
        // user nice system idle iowait irq softirq steal; guest time is counted in user already.
        let all = fields(system.lines().next()?.strip_prefix("cpu ")?);
        let total = all.iter().take(8).sum();
        let idle: u64 = all.iter().skip(3).take(2).sum();
        // After the name in brackets, which may hold spaces: utime stime cutime cstime are the 12th to the 15th.
        let of_one = |stat: &String| -> Option<u64> {
            Some(fields(stat.rsplit_once(')')?.1).iter().skip(11).take(4).sum())
        };
        let own = own.iter().map(of_one).sum::<Option<u64>>()?;
        Some(Self { total, busy: total - idle, own })
    }

    /// The share of the machine, 0 to 1, that others used since `earlier`.
    pub(super) fn others_since(self, earlier: Self) -> f64 {
        let others = (self.busy - earlier.busy).saturating_sub(self.own - earlier.own);
        others as f64 / (self.total - earlier.total).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "6214 (a (b) c) R 6208 6208 3288 0 -1 4194304 102 0 0 0 1 2 30 40 20 0 1 0 239404\n";

    #[test]
    fn idle_and_waiting_are_not_busy_and_guests_are_not_counted_twice() {
        let time = ProcessorTime::parse(
            "cpu  100 10 20 800 50 5 6 9 77 88\ncpu0 1 2 3\n",
            &[OWN.into(), OWN.into()],
        );
        assert_eq!(time, Some(ProcessorTime { total: 1000, busy: 150, own: 146 }));
        assert_eq!(ProcessorTime::parse("", &[OWN.into()]), None);
    }

    #[test]
    fn others_are_what_is_busy_and_not_own() {
        let earlier = ProcessorTime { total: 1000, busy: 100, own: 10 };
        let later = ProcessorTime { total: 2000, busy: 800, own: 460 };
        assert!((later.others_since(earlier) - 0.25).abs() < 1e-12);
        // Ticks of the two files are read at slightly different times.
        let own_ahead = ProcessorTime { total: 2000, busy: 400, own: 311 };
        assert_eq!(own_ahead.others_since(earlier), 0.0);
        assert_eq!(earlier.others_since(earlier), 0.0);
    }
}
