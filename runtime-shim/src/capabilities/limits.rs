//! How much memory sandboxes may take: each one, and all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// Entries in the function tables of one sandbox; more than a component from any
/// common toolchain needs.
const MAX_TABLE_ELEMENTS: usize = 20_000;
/// Where the machine does not tell its memory.
const UNKNOWN_MACHINE: usize = 4 << 30;

/// The memory that all sandboxes may have at once. Without it, enough of them,
/// each within its own limit, would have the system kill the process.
pub struct MemoryBudget {
    max: usize,
    used: AtomicUsize,
}

impl MemoryBudget {
    /// Three quarters of what the machine, or the control group, has.
    pub fn of_this_machine() -> Self {
        let machine = std::fs::read_to_string("/proc/meminfo").ok();
        let machine = machine.as_deref().and_then(total_of_meminfo);
        let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let group = group.and_then(|text| text.trim().parse().ok());
        let total = [machine, group]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(UNKNOWN_MACHINE);
        Self::new(total / 4 * 3)
    }

    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// `MemTotal:       24680532 kB`
fn total_of_meminfo(text: &str) -> Option<usize> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What a sandbox asked for and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than its own limit.
    #[error(
        "its memories need {needed} bytes, and a sandbox has {max}: give it more with \
         `--max-instance-memory`"
    )]
    Memory {
        /// Bytes that it would have had.
        needed: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// More than is left for all.
    #[error("the memory of all sandboxes is used up")]
    Budget,
    /// Too many functions.
    #[error("its tables need {0} elements, and a sandbox has {MAX_TABLE_ELEMENTS}")]
    Table(usize),
}

/// What one sandbox has taken: the sum over all its memories and tables.
pub(super) struct Limits {
    max_memory: usize,
    budget: Arc<MemoryBudget>,
    memory: usize,
    table_elements: usize,
    refused: Option<Refused>,
}

impl Limits {
    pub(super) fn new(max_memory: usize, budget: Arc<MemoryBudget>) -> Self {
        Self {
            max_memory,
            budget,
            memory: 0,
            table_elements: 0,
            refused: None,
        }
    }

    /// What was refused last.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let needed = self.memory.saturating_add(more);
        if needed > self.max_memory {
            let max = self.max_memory;
            self.refused = Some(Refused::Memory { needed, max });
            return Ok(false);
        }
        if !self.budget.take(more) {
            self.refused = Some(Refused::Budget);
            return Ok(false);
        }
        self.memory = needed;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let sum = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if sum <= MAX_TABLE_ELEMENTS {
            self.table_elements = sum;
        } else {
            self.refused = Some(Refused::Table(sum));
        }
        Ok(sum <= MAX_TABLE_ELEMENTS)
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.budget.give_back(self.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories_and_all_sandboxes() {
        let budget = Arc::new(MemoryBudget::new(250));
        let grow = |limits: &mut Limits, from, to| {
            limits
                .memory_growing(from, to, None)
                .expect("never an error")
        };
        let mut one = Limits::new(100, Arc::clone(&budget));
        assert!(grow(&mut one, 0, 60));
        assert!(!grow(&mut one, 0, 41), "a second memory counts too");
        let (needed, max) = (101, 100);
        assert_eq!(one.refused(), Some(Refused::Memory { needed, max }));
        assert!(grow(&mut one, 60, 100));
        let mut two = Limits::new(100, Arc::clone(&budget));
        assert!(grow(&mut two, 0, 100));
        let mut three = Limits::new(100, Arc::clone(&budget));
        assert!(!grow(&mut three, 0, 51), "the budget of all is used up");
        assert!(grow(&mut three, 0, 50));
        drop(one);
        assert!(
            grow(&mut three, 50, 100),
            "what a sandbox had is free again"
        );
    }

    #[test]
    fn reads_the_machine_s_memory() {
        let text = "MemTotal:       24680532 kB\nMemFree: 1 kB\n";
        assert_eq!(total_of_meminfo(text), Some(24_680_532 * 1024));
        assert_eq!(total_of_meminfo("nonsense"), None);
    }
}
