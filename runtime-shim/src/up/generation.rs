//! What one reading of the application runs: its sandboxes, stores and triggers.
//! The next reading takes its place; what is under way then is finished here.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admin::Footing;
use crate::app::App;
use crate::cron::{Begin, CronJob};
use crate::health::Health;
use crate::invoker::{Invoker, InvokerOptions, Sandboxes};
use crate::metrics::Metrics;
use crate::project::Project;
use crate::queue::{Consumer, EmbeddedQueue, QueueSource};
use crate::redis_trigger::Subscriber;

/// What outlives it, and it makes use of.
pub(super) struct Lent<'a> {
    pub(super) embedded: Option<&'a EmbeddedQueue>,
    pub(super) metrics: &'a Arc<Metrics>,
    /// Of what ran before.
    pub(super) sandboxes: Option<Sandboxes>,
    pub(super) request_timeout: Duration,
}

/// Ready to run.
pub(super) struct Generation {
    invoker: Arc<Invoker>,
    footing: Arc<Footing>,
    triggers: Triggers,
}

/// What calls components, beside the server of HTTP routes.
struct Triggers {
    consumers: Vec<Consumer>,
    jobs: Vec<CronJob>,
    subscribers: Vec<Subscriber>,
}

impl Generation {
    /// Opens and connects everything that `app` needs, so that nothing starts which
    /// would fail later.
    pub(super) async fn load(project: &Project, app: App, lent: Lent<'_>) -> anyhow::Result<Self> {
        let stores = project.open_stores(&app).await?;
        let footing = Footing {
            stores,
            backends: project.backends.clone(),
            sources: Vec::new(),
        };
        // Those that do not answer are named in the log before anything starts.
        footing.backends.probe().await;
        let loaded = Self::connect(project, app, lent, &footing);
        match loaded.await {
            Ok((invoker, triggers)) => Ok(Self {
                footing: Arc::new(Footing {
                    sources: triggers.sources(),
                    ..footing
                }),
                invoker,
                triggers,
            }),
            Err(error) => {
                footing.close().await;
                Err(error)
            }
        }
    }

    async fn connect(
        project: &Project,
        app: App,
        lent: Lent<'_>,
        footing: &Footing,
    ) -> anyhow::Result<(Arc<Invoker>, Triggers)> {
        let queues = app.queues.clone();
        let embedded_queues = app.embedded_queues.clone();
        let schedules = app.schedules.clone();
        let subscriptions = app.subscriptions.clone();
        let (max_memory, cache_dir) = (project.max_memory, Some(project.cache_dir()));
        let options = InvokerOptions {
            sandboxes: match lent.sandboxes {
                Some(known) => known.with_memory(max_memory, cache_dir)?,
                None => Sandboxes::new(max_memory, cache_dir)?,
            },
            http_deadline: lent.request_timeout,
            backends: footing.backends.clone(),
            databases: project.open_databases(&app)?,
            files: tokio::task::block_in_place(|| project.mount_files(&app))?,
        };
        let loading = {
            let (stores, metrics) = (footing.stores.clone(), Arc::clone(lent.metrics));
            move || Invoker::load(app, &stores, options, &metrics)
        };
        let invoker = tokio::task::spawn_blocking(loading)
            .await
            .context("loading was cut off")??;
        let invoker = Arc::new(invoker);
        invoker.try_out().await?;
        if let Some(embedded) = lent.embedded {
            for name in &embedded_queues {
                embedded.ensure(name).await?;
            }
        }
        let mut consumers = Vec::new();
        for trigger in queues {
            let source =
                QueueSource::connect(&trigger.queue_url, lent.embedded, &project.aws).await?;
            let source = Arc::new(source);
            consumers.push(Consumer::new(
                trigger,
                source,
                Arc::clone(&invoker),
                lent.metrics,
            ));
        }
        let jobs = schedules
            .into_iter()
            .map(|trigger| CronJob::new(trigger, Arc::clone(&invoker), lent.metrics))
            .collect();
        let subscribers = Subscriber::start_all(subscriptions, &invoker, lent.metrics).await;
        let triggers = Triggers {
            consumers,
            jobs,
            subscribers,
        };
        Ok((invoker, triggers))
    }

    /// Starts its triggers, after those of `before`, if there were any.
    pub(super) fn start(self, before: Option<&Running>) -> Running {
        let intake = CancellationToken::new();
        let called = CancellationToken::new();
        let handover = before.and_then(|before| before.until.get().copied());
        let until = Arc::new(OnceLock::new());
        let begin = Begin {
            since: handover.unwrap_or_else(SystemTime::now),
            after: before.map(|before| before.called.clone()),
            until: Arc::clone(&until),
        };
        let mut tasks = JoinSet::new();
        for consumer in self.triggers.consumers {
            tasks.spawn(consumer.run(intake.clone()));
        }
        for subscriber in self.triggers.subscribers {
            tasks.spawn(subscriber.run(intake.clone()));
        }
        let mut calls = JoinSet::new();
        for job in self.triggers.jobs {
            calls.spawn(job.run(begin.clone(), intake.clone()));
        }
        tasks.spawn({
            let (called, intake) = (called.clone(), intake.clone());
            async move {
                let _called = called.drop_guard();
                while let Some(ended) = calls.join_next().await {
                    if let Err(error) = ended {
                        tracing::error!("a schedule ended unexpectedly: {error}");
                        return;
                    }
                }
                intake.cancelled().await;
            }
        });
        Running {
            invoker: self.invoker,
            footing: self.footing,
            until,
            intake,
            called,
            tasks,
        }
    }
}

impl Triggers {
    fn sources(&self) -> Vec<Arc<Health>> {
        let queues = self.consumers.iter().map(Consumer::health);
        let servers = self.subscribers.iter().map(Subscriber::health);
        queues.chain(servers).collect()
    }
}

/// Runs until something takes its place.
pub(super) struct Running {
    invoker: Arc<Invoker>,
    footing: Arc<Footing>,
    /// The instant from which on schedules are somebody else's.
    until: Arc<OnceLock<SystemTime>>,
    /// Cancelled when its triggers may take nothing new.
    intake: CancellationToken,
    /// Cancelled when the last scheduled call has ended.
    called: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    pub(super) fn invoker(&self) -> &Arc<Invoker> {
        &self.invoker
    }

    pub(super) fn footing(&self) -> &Arc<Footing> {
        &self.footing
    }

    /// Returns when a trigger ends by itself, which none should.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow::anyhow!("a trigger ended unexpectedly: {error}"),
            _ => anyhow::anyhow!("a trigger ended unexpectedly"),
        }
    }

    /// Takes nothing new from here on.
    pub(super) fn stop_intake(&self) {
        self.until.get_or_init(SystemTime::now);
        self.intake.cancel();
    }

    /// Waits until everything that was begun has ended.
    pub(super) async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a trigger ended unexpectedly: {error}");
            }
        }
        self.invoker.drained().await;
    }

    /// Finishes what is under way, for up to `grace`, and closes its stores: what
    /// took its place has its own.
    pub(super) async fn retire(mut self, grace: Duration) {
        self.stop_intake();
        match tokio::time::timeout(grace, self.finish()).await {
            Ok(()) => tracing::info!("what was under way before the reload is finished"),
            Err(_) => {
                tracing::warn!(
                    "what was under way before the reload took longer than {} s and was cut off: \
                     requests are broken off, messages of queues come again when their leases end",
                    grace.as_secs()
                );
                self.tasks.shutdown().await;
                self.invoker.cut_off();
                self.invoker.drained().await;
            }
        }
        self.footing.close().await;
    }
}

/// Who answers requests now.
pub(super) struct Current(RwLock<Arc<Invoker>>);

impl Current {
    pub(super) fn new(invoker: &Arc<Invoker>) -> Self {
        Self(RwLock::new(Arc::clone(invoker)))
    }

    pub(super) fn replace(&self, invoker: &Arc<Invoker>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(invoker);
    }

    /// Whom to ask. It is not closed before the token is gone.
    pub(super) fn enter(&self) -> (Arc<Invoker>, TaskTrackerToken) {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&current), current.requests().token())
    }
}
