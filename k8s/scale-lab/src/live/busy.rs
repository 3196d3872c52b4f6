//! How busy this machine is.

/// Time that the processors of this machine were busy, and all of it.
pub(super) struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    /// Where the system has `/proc/stat` (Linux).
    pub(super) fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line
            .split_whitespace()
            .filter_map(|time| time.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, …
        let idle: u64 = times.iter().skip(3).take(2).sum();
        let all: u64 = times.iter().take(8).sum();
        Some(Self {
            busy: all.saturating_sub(idle),
            all,
        })
    }

    pub(super) fn since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.busy.saturating_sub(before.busy) as f64 / all as f64
    }
}
