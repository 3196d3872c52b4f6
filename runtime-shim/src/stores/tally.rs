//! Many callers that count under one key at the same time, served by one write
//! for all of them: where a counter is read, changed and written back, they
//! would otherwise get in each other's way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::StoreError;

/// Callers served by one write.
const GROUP: usize = 256;

pub(super) type Counted = Result<i64, StoreError>;

struct Waiting {
    delta: i64,
    reply: oneshot::Sender<Counted>,
}

/// Who waits, by key. A key is there while a writer serves it.
type Queues = Mutex<HashMap<String, Vec<Waiting>>>;

/// The counters of one store.
#[derive(Default)]
pub(super) struct Tally {
    queues: Arc<Queues>,
    /// One for each key that is counted under. They end when nobody waits.
    writers: TaskTracker,
}

impl Tally {
    /// Adds `delta` under `key`. `write` adds a list of deltas, one after the
    /// other, and returns the count after each. It goes on when the caller is
    /// gone: what others wait for must not end with one of them.
    pub(super) async fn add<F, W>(&self, key: String, delta: i64, write: W) -> Counted
    where
        F: Future<Output = Result<Vec<Counted>, StoreError>> + Send,
        W: Fn(String, Vec<i64>) -> F + Send + Sync + 'static,
    {
        let (reply, counted) = oneshot::channel();
        let waiting = Waiting { delta, reply };
        let vacant = match lock(&self.queues).entry(key.clone()) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push(waiting);
                false
            }
            Entry::Vacant(queue) => {
                queue.insert(vec![waiting]);
                true
            }
        };
        if vacant {
            let turn = Turn {
                queues: Arc::clone(&self.queues),
                key,
            };
            self.writers.spawn(async move {
                while let Some(group) = turn.next_group() {
                    serve(&turn.key, group, &write).await;
                }
            });
        }
        counted.await.map_err(|_| StoreError::Closed)?
    }
}

fn lock(queues: &Queues) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<F, W>(key: &str, group: Vec<Waiting>, write: &W)
where
    F: Future<Output = Result<Vec<Counted>, StoreError>>,
    W: Fn(String, Vec<i64>) -> F,
{
    let deltas = group.iter().map(|waiting| waiting.delta).collect();
    // A caller that is gone needs no answer.
    match write(key.to_owned(), deltas).await {
        Ok(counts) => {
            for (waiting, count) in group.into_iter().zip(counts) {
                let _ = waiting.reply.send(count);
            }
        }
        Err(error) => {
            for waiting in group {
                let _ = waiting.reply.send(Err(error.clone()));
            }
        }
    }
}

/// The right to write one key, until nobody waits for it.
struct Turn {
    queues: Arc<Queues>,
    key: String,
}

impl Turn {
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut queues = lock(&self.queues);
        let queue = queues.get_mut(&self.key).filter(|queue| !queue.is_empty());
        let Some(queue) = queue else {
            // In the same breath: the next caller begins a turn of its own.
            queues.remove(&self.key);
            return None;
        };
        let rest = queue.split_off(queue.len().min(GROUP));
        Some(std::mem::replace(queue, rest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn callers_at_the_same_time_share_writes_and_get_distinct_counts() {
        let tally = Tally::default();
        let count = Arc::new(AtomicI64::new(0));
        let writes = Arc::new(AtomicUsize::new(0));
        let calls = (0..64).map(|_| {
            let (count, writes) = (Arc::clone(&count), Arc::clone(&writes));
            tally.add("n".to_owned(), 1, move |_, deltas| {
                writes.fetch_add(1, Ordering::Relaxed);
                let count = Arc::clone(&count);
                async move {
                    tokio::task::yield_now().await;
                    let counts = deltas
                        .iter()
                        .map(|delta| count.fetch_add(*delta, Ordering::Relaxed));
                    Ok(counts.map(|before| Ok(before + 1)).collect())
                }
            })
        });
        let counted = futures::future::join_all(calls).await;
        let mut counts: Vec<i64> = counted.into_iter().map(|c| c.expect("counted")).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=64).collect::<Vec<_>>());
        assert!(writes.load(Ordering::Relaxed) <= 2);
        assert!(lock(&tally.queues).is_empty());
    }

    #[tokio::test]
    async fn a_failed_write_fails_those_who_waited_for_it_and_no_others() {
        let tally = Tally::default();
        let failing = tally.add("n".to_owned(), 1, |_, _| async { Err(StoreError::Closed) });
        assert!(failing.await.is_err());
        let next = tally.add("n".to_owned(), 1, |_, _| async { Ok(vec![Ok(7)]) });
        assert_eq!(next.await.expect("counted"), 7);
    }
}
