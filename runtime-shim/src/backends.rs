//! The servers that components lean on, and which of them answer. One that
//! stops answering is asked again until it does; meanwhile calls to it fail at
//! once, `/readyz` names it, and queues whose components need it are not
//! received from. Knows no protocol: each client brings its own probe.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After so long without an answer to its probe a backend is down. As a rule the
/// probe ends then, too.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// A call that was given up after so long says something about the backend.
const SUSPICIOUS: Duration = Duration::from_millis(100);
/// Between the probes of a backend that is down: the first pause and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Backends that are watched at once. Addresses may come from guests.
const MAX_BACKENDS: usize = 512;
/// Backends that one component is held up by.
const MAX_DEPENDENCIES: usize = 32;

/// A backend is down.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{backend} does not answer: {reason}")]
pub struct Unavailable {
    /// Which one, without credentials.
    pub backend: Arc<str>,
    /// What it said last.
    pub reason: Arc<str>,
}

/// How a call to a backend failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// It was not called, because it is known to be down.
    #[error(transparent)]
    Down(Unavailable),
    /// No answer in time: what was asked for may have been done, or not.
    #[error("{backend} did not answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// Which one.
        backend: Arc<str>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It answered with an error, or the connection broke.
    #[error(transparent)]
    Failed(E),
}

/// Makes a fresh connection and asks something that every grant allows. Its
/// error is shown, so it must hold no secret.
type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// One server, and whether it answers.
pub struct Backend {
    name: Arc<str>,
    probe: Probe,
    probe_limit: Duration,
    /// Why it is down, if it is.
    down: watch::Sender<Option<Arc<str>>>,
    suspected: Notify,
    /// It is configured, or has answered once. What a guest merely mentions
    /// holds nobody up.
    established: AtomicBool,
    /// Nobody will ask for it any more.
    forgotten: CancellationToken,
}

impl Backend {
    /// Its name, without credentials: `redis 127.0.0.1:6379`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails while it is down.
    pub fn check(&self) -> Result<(), Unavailable> {
        match &*self.down.borrow() {
            None => Ok(()),
            Some(reason) => Err(Unavailable {
                backend: Arc::clone(&self.name),
                reason: Arc::clone(reason),
            }),
        }
    }

    /// Runs `call` for at most `limit`, unless the backend is down. Where it
    /// does not answer, or with an error that `means_down`, it is probed, and
    /// is down if the probe fails too.
    pub async fn call<T, E: std::error::Error>(
        &self,
        limit: Duration,
        means_down: impl FnOnce(&E) -> bool,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        self.check().map_err(CallError::Down)?;
        let waiting = Waiting {
            backend: self,
            since: Instant::now(),
        };
        let answer = tokio::time::timeout(limit, call).await;
        let Ok(answer) = answer else {
            let backend = Arc::clone(&self.name);
            return Err(CallError::TimedOut { backend, limit });
        };
        waiting.answered();
        answer.map_err(|error| {
            if means_down(&error) {
                self.suspect();
            }
            CallError::Failed(error)
        })
    }

    /// Has it probed.
    pub fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// From now on its absence holds up whoever depends on it.
    pub fn establish(&self) {
        self.established.store(true, Ordering::Release);
    }

    /// Whether it is down, and its absence matters.
    pub fn holds_up(&self) -> bool {
        self.is_established() && self.check().is_err()
    }

    fn is_established(&self) -> bool {
        self.established.load(Ordering::Acquire)
    }

    /// Waits until it answers.
    pub async fn up(&self) {
        let mut down = self.down.subscribe();
        // The sender lives as long as `self`.
        let _ = down.wait_for(Option::is_none).await;
    }

    /// Probes it now.
    async fn ask(&self) -> bool {
        let mut probe = (self.probe)();
        let mut verdict = tokio::time::timeout(PROBE_LIMIT, &mut probe).await;
        let more = self.probe_limit.saturating_sub(PROBE_LIMIT);
        if verdict.is_err() && !more.is_zero() {
            // It is given more time, and is down for the time being.
            self.set(Some(silence(PROBE_LIMIT)));
            verdict = tokio::time::timeout(more, &mut probe).await;
        }
        let verdict = verdict.unwrap_or_else(|_| Err(silence(self.probe_limit)));
        let answers = verdict.is_ok();
        self.set(verdict.err());
        answers
    }

    fn set(&self, down: Option<String>) {
        self.down.send_if_modified(|current| {
            match (&current, &down) {
                (None, Some(reason)) => {
                    tracing::warn!(backend = %self.name, "backend is down: {reason}");
                }
                (Some(_), None) => tracing::info!(backend = %self.name, "backend answers again"),
                _ => {}
            }
            let changed = current.as_deref() != down.as_deref();
            if changed {
                *current = down.map(Arc::from);
            }
            changed
        });
    }

    /// Probes it whenever it is suspected, and until it answers.
    async fn watch_over(&self) {
        loop {
            self.suspected.notified().await;
            let mut pause = FIRST_PAUSE;
            while !self.ask().await {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn silence(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// A call without an answer so far. It may be given up by the limit that it was
/// given, or by whoever made it: the deadline of a component may be shorter.
struct Waiting<'a> {
    backend: &'a Backend,
    since: Instant,
}

impl Waiting<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SUSPICIOUS {
            self.backend.suspect();
        }
    }
}

/// Every backend of the process. Owns the tasks that watch them.
#[derive(Clone, Default)]
pub struct Backends {
    all: Arc<Mutex<Vec<Arc<Backend>>>>,
    watchers: TaskTracker,
    stop: CancellationToken,
}

/// There are as many backends as may be.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_BACKENDS} different servers are in use")]
pub struct TooManyBackends;

impl Backends {
    /// Watches a backend, which is taken to be up until it is suspected.
    pub fn watch<F, P>(&self, name: String, probe: P) -> Result<Arc<Backend>, TooManyBackends>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        P: Fn() -> F + Send + Sync + 'static,
    {
        self.watch_patiently(name, PROBE_LIMIT, probe)
    }

    /// As `watch`; a probe without an answer goes on for `probe_limit`, while the
    /// backend is down already.
    pub fn watch_patiently<F, P>(
        &self,
        name: String,
        probe_limit: Duration,
        probe: P,
    ) -> Result<Arc<Backend>, TooManyBackends>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        P: Fn() -> F + Send + Sync + 'static,
    {
        let backend = Arc::new(Backend {
            name: name.into(),
            probe: Box::new(move || probe().boxed()),
            probe_limit,
            down: watch::Sender::new(None),
            suspected: Notify::new(),
            established: AtomicBool::new(false),
            forgotten: CancellationToken::new(),
        });
        {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= MAX_BACKENDS {
                return Err(TooManyBackends);
            }
            all.push(Arc::clone(&backend));
        }
        let (stop, watched) = (self.stop.clone(), Arc::clone(&backend));
        self.watchers.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watched.forgotten.cancelled() => {
                    watched.down.send_replace(None);
                }
                () = watched.watch_over() => {}
            }
        });
        Ok(backend)
    }

    /// Ends the watching of one backend. From now on it holds nobody up.
    pub fn forget(&self, backend: &Arc<Backend>) {
        backend.forgotten.cancel();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| !Arc::ptr_eq(known, backend));
    }

    /// Removes from `known` an entry that nobody else holds, one that never
    /// answered if there is such, and forgets its backend. Tells whether there
    /// was one.
    pub fn make_room<K: Clone + Eq + Hash, V>(
        &self,
        known: &mut HashMap<K, Arc<V>>,
        backend: impl Fn(&V) -> &Arc<Backend>,
    ) -> bool {
        let unused = known
            .iter()
            .filter(|(_, value)| Arc::strong_count(value) == 1)
            .min_by_key(|(_, value)| backend(value).is_established())
            .map(|(key, _)| key.clone());
        let Some(removed) = unused.and_then(|key| known.remove(&key)) else {
            return false;
        };
        self.forget(backend(&removed));
        true
    }

    /// Probes every established backend now, all at once.
    pub async fn probe(&self) {
        let asked = self.established();
        let verdicts = futures::future::join_all(asked.iter().map(|backend| backend.ask())).await;
        for (backend, answers) in asked.iter().zip(verdicts) {
            if !answers {
                backend.suspect();
            }
        }
    }

    /// The established ones that are down.
    pub fn down(&self) -> Vec<Unavailable> {
        self.established()
            .iter()
            .filter_map(|backend| backend.check().err())
            .collect()
    }

    /// The established ones.
    pub fn established(&self) -> Vec<Arc<Backend>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|backend| backend.is_established())
            .map(Arc::clone)
            .collect()
    }

    /// Ends the watching.
    pub async fn close(&self) {
        self.stop.cancel();
        self.watchers.close();
        self.watchers.wait().await;
    }
}

/// The backends that one component needs for its work.
#[derive(Default)]
pub struct Dependencies(RwLock<Vec<Arc<Backend>>>);

impl Dependencies {
    /// Those that are known at start.
    pub fn new(backends: Vec<Arc<Backend>>) -> Self {
        Self(RwLock::new(backends))
    }

    /// One more, which has answered. Beyond 32 they hold nobody up.
    pub fn add(&self, backend: &Arc<Backend>) {
        backend.establish();
        if self.contains(backend) {
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| !known.forgotten.is_cancelled());
        if all.len() < MAX_DEPENDENCIES && !all.iter().any(|known| Arc::ptr_eq(known, backend)) {
            all.push(Arc::clone(backend));
        }
    }

    fn contains(&self, backend: &Arc<Backend>) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|known| Arc::ptr_eq(known, backend))
    }

    fn first_down(&self) -> Option<Arc<Backend>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|backend| backend.check().is_err() && !backend.forgotten.is_cancelled())
            .map(Arc::clone)
    }

    /// Whether all of them answer.
    pub fn are_up(&self) -> bool {
        self.first_down().is_none()
    }

    /// Waits until all of them answer.
    pub async fn up(&self) {
        while let Some(backend) = self.first_down() {
            backend.up().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;

    async fn fail(backend: &Backend) -> Result<(), CallError<Broken>> {
        let limit = Duration::from_secs(1);
        backend.call(limit, |_| true, async { Err(Broken) }).await
    }

    #[tokio::test]
    async fn a_backend_that_fails_its_probe_is_down_until_it_answers() {
        let (answers, answering) = watch::channel(false);
        let backends = Backends::default();
        let backend = backends
            .watch("redis h:1".to_owned(), move || {
                let verdict = *answering.borrow();
                async move { verdict.then_some(()).ok_or_else(|| "refused".to_owned()) }
            })
            .expect("there is room");
        let component = Dependencies::new(Vec::new());
        component.add(&backend);
        assert!(component.are_up());
        assert!(matches!(
            fail(&backend).await,
            Err(CallError::Failed(Broken))
        ));
        let mut down = backend.down.subscribe();
        down.wait_for(Option::is_some).await.expect("it is watched");
        let error = fail(&backend).await.expect_err("not even called");
        assert_eq!(error.to_string(), "redis h:1 does not answer: refused");
        assert_eq!(backends.down().len(), 1);
        answers.send_replace(true);
        component.up().await;
        assert!(backends.down().is_empty());
        backends.close().await;
    }

    #[tokio::test]
    async fn one_failed_call_is_no_outage() {
        let backends = Backends::default();
        let probed = Arc::new(Notify::new());
        let backend = backends
            .watch("redis h:1".to_owned(), {
                let probed = Arc::clone(&probed);
                move || {
                    probed.notify_one();
                    async { Ok(()) }
                }
            })
            .expect("there is room");
        assert!(fail(&backend).await.is_err());
        probed.notified().await;
        assert!(backend.check().is_ok());
        backends.close().await;
    }

    #[tokio::test]
    async fn a_call_that_its_caller_gives_up_is_suspicious_too() {
        let backends = Backends::default();
        let backend = backends
            .watch("redis h:1".to_owned(), || async {
                Err("refused".to_owned())
            })
            .expect("there is room");
        let limit = Duration::from_mins(1);
        let call = backend.call(
            limit,
            |_: &Broken| false,
            std::future::pending::<Result<(), _>>(),
        );
        let deadline = SUSPICIOUS * 2;
        assert!(tokio::time::timeout(deadline, call).await.is_err());
        let mut down = backend.down.subscribe();
        down.wait_for(Option::is_some).await.expect("it is watched");
        backends.close().await;
    }

    #[tokio::test]
    async fn a_forgotten_backend_holds_nobody_up() {
        let backends = Backends::default();
        let backend = backends
            .watch("postgres h:1".to_owned(), || async {
                Err("refused".to_owned())
            })
            .expect("there is room");
        let component = Dependencies::default();
        component.add(&backend);
        assert!(fail(&backend).await.is_err());
        let mut down = backend.down.subscribe();
        down.wait_for(Option::is_some).await.expect("it is watched");
        assert!(!component.are_up());
        let waiting = component.up();
        backends.forget(&backend);
        waiting.await;
        assert!(component.are_up() && backends.down().is_empty());
        backends.close().await;
    }

    #[tokio::test]
    async fn what_a_guest_merely_mentions_holds_nobody_up() {
        let backends = Backends::default();
        let backend = backends
            .watch("redis nowhere:1".to_owned(), || async {
                Err("refused".to_owned())
            })
            .expect("there is room");
        let limit = SUSPICIOUS;
        let call = std::future::pending::<Result<(), Broken>>();
        let call = backend.call(limit, |_| false, call).await;
        assert!(matches!(call, Err(CallError::TimedOut { .. })));
        let mut down = backend.down.subscribe();
        down.wait_for(Option::is_some).await.expect("it is watched");
        assert!(backends.down().is_empty());
        backends.close().await;
    }
}
