//! Whether a trigger gets at what it listens to, for `/readyz`.

use std::sync::{Mutex, PoisonError};

/// The health of one source of events.
#[derive(Debug)]
pub struct Health {
    source: String,
    failing: Mutex<Option<String>>,
}

impl Health {
    /// Of `source`, as it is called in an obstacle; assumed good.
    pub fn new(source: String) -> Self {
        Self {
            source,
            failing: Mutex::new(None),
        }
    }

    /// What stands in the way.
    pub fn obstacle(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing
            .as_ref()
            .map(|error| format!("{}: {error}", self.source))
    }

    /// Notes what stands in the way, or that nothing does. Tells whether that is
    /// news.
    pub fn set(&self, error: Option<String>) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *failing != error;
        *failing = error;
        changed
    }
}
