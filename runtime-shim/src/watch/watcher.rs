//! Wakes up when something happens in a set of folders. What happened is for
//! others to find out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long changes that do not end may put off what follows, at least.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(super) struct Watcher {
    events: mpsc::Receiver<()>,
    system: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    debounce: Duration,
}

impl Watcher {
    /// Watches nothing yet. After an event it waits until none came for `debounce`.
    pub(super) fn new(debounce: Duration) -> anyhow::Result<Self> {
        let (happened, events) = mpsc::channel(1);
        let system = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let read_only = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !read_only {
                // Full: somebody is being woken already.
                let _ = happened.try_send(());
            }
        });
        Ok(Self {
            events,
            system: system.context("cannot watch files")?,
            watched: BTreeSet::new(),
            debounce,
        })
    }

    /// Watches `folders`, and no others.
    pub(super) fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        for gone in self.watched.difference(folders) {
            // It may be gone from the disk as well.
            let _ = self.system.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            // Again, too: one that was removed and made anew is another one.
            match self.system.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder.clone());
                }
                Err(error) => tracing::warn!("cannot watch `{}`: {error}", folder.display()),
            }
        }
        self.watched = watched;
    }

    /// Returns when something happened, and then nothing for a while, or when it goes
    /// on and on.
    pub(super) async fn next(&mut self) -> anyhow::Result<()> {
        self.events
            .recv()
            .await
            .context("files are not watched any more")?;
        let latest = Instant::now() + (self.debounce * 20).max(LONGEST_WAIT);
        loop {
            let quiet = latest.min(Instant::now() + self.debounce);
            match tokio::time::timeout_at(quiet, self.events.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                _ => break,
            }
        }
        Ok(())
    }
}
