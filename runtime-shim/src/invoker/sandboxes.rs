//! What all invocations share: the engine, and who may have how many of its
//! sandboxes. Outlives a reload: what runs before and after it share them, too.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::capabilities::MemoryBudget;
use crate::engine::{CHAIN_SANDBOXES, Engine, EngineError, HTTP_SANDBOXES, QUEUE_SANDBOXES};

/// Handles of the same engine and the same bounds.
#[derive(Clone)]
pub struct Sandboxes {
    pub(super) engine: Engine,
    /// Bytes of linear memory for one.
    pub(super) max_memory: usize,
    /// Bytes of linear memory for all together.
    pub(super) memory_budget: Arc<MemoryBudget>,
    requests: Arc<Semaphore>,
    events: Arc<Semaphore>,
    chained: Arc<Semaphore>,
}

impl Sandboxes {
    /// Sandboxes of at most `max_memory` bytes of linear memory each. Machine code
    /// is kept in `cache_dir`.
    pub fn new(max_memory: usize, cache_dir: Option<PathBuf>) -> Result<Self, EngineError> {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Ok(Self {
            engine: Engine::new(max_memory, cache_dir)?,
            max_memory,
            memory_budget: Arc::new(MemoryBudget::of_this_machine()),
            requests: semaphore(HTTP_SANDBOXES),
            events: semaphore(QUEUE_SANDBOXES),
            chained: semaphore(CHAIN_SANDBOXES),
        })
    }

    /// The same bounds for sandboxes of at most `max_memory` bytes each.
    pub fn with_memory(
        self,
        max_memory: usize,
        cache_dir: Option<PathBuf>,
    ) -> Result<Self, EngineError> {
        if self.max_memory == max_memory {
            return Ok(self);
        }
        Ok(Self {
            engine: Engine::new(max_memory, cache_dir)?,
            max_memory,
            ..self
        })
    }

    /// One for a request, when it is free.
    pub(super) async fn for_request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).acquire_owned().await.ok()
    }

    /// One for a message or a tick. One application never has to wait: it is not
    /// allowed more calls at once. Two do, while one takes the other's place.
    pub(super) async fn for_event(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.events).acquire_owned().await.ok()
    }

    /// One for a component that a component calls, if one is free: waiting for
    /// one's own callers would be a deadlock.
    pub(super) fn for_chained(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.chained).try_acquire_owned().ok()
    }
}
