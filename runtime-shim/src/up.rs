//! `gristmill up`, and a plugin of Spin's triggers: the composition root.
//! Everything is opened and bound before anything runs, so that nothing starts
//! which would fail later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Readiness};
use crate::cli::{ProjectOptions, UpArgs};
use crate::cron::CronJob;
use crate::drain::StopSignals;
use crate::embedded_origin::origin_of;
use crate::http::server;
use crate::invoker::{Invoker, InvokerOptions};
use crate::metrics::Metrics;
use crate::printer;
use crate::project::{AppSource, Project};
use crate::queue::{Consumer, EmbeddedQueue, QueueSource};
use crate::redis_trigger::Subscriber;
use crate::seeds::Seeds;
use crate::settings::Environment;

/// What is left of the grace period for closing what others still use.
const CLOSING: Duration = Duration::from_secs(3);

/// What to run, and how.
pub struct Run {
    /// The application.
    pub source: AppSource,
    /// With what it is read.
    pub options: ProjectOptions,
    /// What is there before anything runs.
    pub seeds: Seeds,
    /// Where HTTP routes are served.
    pub listen: SocketAddr,
    /// Where the admin port is, if there is one.
    pub admin_listen: Option<SocketAddr>,
    /// The flag that says so.
    pub admin_flag: &'static str,
    /// Where the embedded queue is served, unless somebody else does that.
    pub queue_listen: Option<SocketAddr>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long work may go on after a signal.
    pub grace: Duration,
}

impl From<UpArgs> for Run {
    fn from(args: UpArgs) -> Self {
        Self {
            source: AppSource::Manifest(args.project.from),
            options: args.project.options,
            seeds: Seeds::default(),
            listen: args.listen,
            admin_listen: Some(args.admin_listen),
            admin_flag: "--admin-listen",
            queue_listen: (!args.no_local_queue).then_some(args.queue_listen),
            request_timeout: args.request_timeout.0,
            grace: args.grace_period.0,
        }
    }
}

/// Runs the application until a signal stops it.
pub async fn run(
    what: Run,
    mut signals: StopSignals,
    environment: &Environment,
) -> anyhow::Result<()> {
    let grace = what.grace;
    let running = tokio::select! {
        started = start(what, environment) => started?,
        signal = signals.next() => {
            tracing::info!("{signal}: stopped before anything was started");
            return Ok(());
        }
    };
    let Running {
        services,
        support,
        admin,
        invoker,
    } = running;
    let drained = services
        .run_until_stopped(&mut signals, &admin, &invoker, grace)
        .await;
    tokio::select! {
        closed = tokio::time::timeout(2 * CLOSING, support.stop()) => {
            closed.context("closing took too long")?;
        }
        signal = signals.next() => bail!("a second signal ({signal}) cut closing off"),
    }
    drained
}

/// Everything that runs.
struct Running {
    services: Services,
    support: Support,
    admin: Arc<Admin>,
    invoker: Arc<Invoker>,
}

async fn start(what: Run, environment: &Environment) -> anyhow::Result<Running> {
    let project = Project::load(what.source, what.options, environment).await?;
    project.plant(&what.seeds).await?;
    let queue_listen = match what.queue_listen {
        Some(address) if project.wants_embedded_queue()? => Some(address),
        _ => None,
    };
    let (embedded, queue_server) = match queue_listen {
        Some(address) => {
            let dir = project.queue_dir();
            let (queue, server) = EmbeddedQueue::open(&dir, address, "--queue-listen").await?;
            (Some(queue), Some(server))
        }
        None => (None, None),
    };
    let app = project.app(embedded.as_ref().map(EmbeddedQueue::origin))?;
    if let Some(embedded) = &embedded {
        for name in &app.embedded_queues {
            embedded.ensure(name).await?;
        }
    }
    let stores = project.open_stores(&app).await?;
    // Those that do not answer are named in the log before anything starts.
    let backends = project.backends.clone();
    backends.probe().await;
    let http_listener = if app.http_components.is_empty() {
        None
    } else {
        Some(bind(what.listen, "--listen").await?)
    };
    let admin_listener = match what.admin_listen {
        Some(address) => Some(bind(address, what.admin_flag).await?),
        None => None,
    };

    let metrics = Arc::new(Metrics::new());
    let queues = app.queues.clone();
    let schedules = app.schedules.clone();
    let subscriptions = app.subscriptions.clone();
    let options = InvokerOptions {
        max_memory: project.max_memory,
        cache_dir: Some(project.cache_dir()),
        http_deadline: what.request_timeout,
        backends: project.backends.clone(),
        databases: project.open_databases(&app)?,
        files: project.mount_files(&app)?,
    };
    let loading = {
        let (stores, metrics) = (stores.clone(), Arc::clone(&metrics));
        move || Invoker::load(app, &stores, options, &metrics)
    };
    let invoker = tokio::task::spawn_blocking(loading)
        .await
        .context("loading was cut off")??;
    let invoker = Arc::new(invoker);
    let mut consumers = Vec::new();
    for trigger in queues {
        let source =
            QueueSource::connect(&trigger.queue_url, embedded.as_ref(), &project.aws).await?;
        consumers.push(Consumer::new(
            trigger,
            Arc::new(source),
            Arc::clone(&invoker),
            &metrics,
        ));
    }

    let jobs = schedules
        .into_iter()
        .map(|trigger| CronJob::new(trigger, Arc::clone(&invoker), &metrics))
        .collect();
    let subscribers = Subscriber::start_all(subscriptions, &invoker, &metrics).await;

    if let Some(listener) = &http_listener {
        printer::line(format_args!(
            "Serving {}",
            origin_of(listener.local_addr()?)
        ));
    }
    if let Some(embedded) = &embedded {
        printer::line(format_args!("Queue {}", embedded.origin()));
    }
    if let Some(listener) = &admin_listener {
        printer::line(format_args!("Admin {}", origin_of(listener.local_addr()?)));
    }

    let readiness = Readiness::starting(
        stores,
        backends.clone(),
        consumers
            .iter()
            .map(Consumer::health)
            .chain(subscribers.iter().map(Subscriber::health))
            .collect(),
    );
    let admin = Arc::new(Admin {
        readiness,
        metrics,
        embedded: embedded.clone(),
    });
    let services = Services::start(&invoker, http_listener, consumers, jobs, subscribers);
    let support = Support::start(Arc::clone(&admin), admin_listener, embedded, queue_server);
    admin.readiness.set_running();
    printer::line("Ready");

    Ok(Running {
        services,
        support,
        admin,
        invoker,
    })
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag}"))
}

/// What does the application's work, and is drained when the process stops.
struct Services {
    /// Cancelled when nothing new may be taken in.
    intake: CancellationToken,
    tasks: JoinSet<()>,
}

impl Services {
    fn start(
        invoker: &Arc<Invoker>,
        http: Option<TcpListener>,
        consumers: Vec<Consumer>,
        jobs: Vec<CronJob>,
        subscribers: Vec<Subscriber>,
    ) -> Self {
        let intake = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(listener) = http {
            let invoker = Arc::clone(invoker);
            let handler = move |request, peer| server::answer(Arc::clone(&invoker), request, peer);
            tasks.spawn(server::serve(listener, intake.clone(), handler));
        }
        for consumer in consumers {
            tasks.spawn(consumer.run(intake.clone()));
        }
        for job in jobs {
            tasks.spawn(job.run(intake.clone()));
        }
        for subscriber in subscribers {
            tasks.spawn(subscriber.run(intake.clone()));
        }
        Self { intake, tasks }
    }

    async fn run_until_stopped(
        mut self,
        signals: &mut StopSignals,
        admin: &Admin,
        invoker: &Invoker,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = self.tasks.join_next() => match ended {
                Some(Err(error)) => bail!("a trigger ended unexpectedly: {error}"),
                _ => bail!("a trigger ended unexpectedly"),
            },
        };
        tracing::info!(
            "{signal}: finishing what is under way, for up to {} s",
            grace.as_secs()
        );
        admin.readiness.set_draining();
        self.intake.cancel();
        let finish = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!("a trigger ended unexpectedly: {error}");
                }
            }
            invoker.drained().await;
        };
        tokio::select! {
            () = finish => {
                tracing::info!("all work is finished");
                Ok(())
            }
            () = tokio::time::sleep(grace.saturating_sub(CLOSING).max(grace / 2)) => {
                bail!(
                    "the grace period is over and work was cut off: its messages come again \
                     when their leases end"
                )
            }
            signal = signals.next() => bail!("a second signal ({signal}) cut work off"),
        }
    }
}

/// What the services lean on, and what stops after them: work that drains still
/// sends to the embedded queue, and is still watched on the admin port.
struct Support {
    stop: CancellationToken,
    admin: Arc<Admin>,
    tasks: JoinSet<()>,
    embedded: Option<EmbeddedQueue>,
}

impl Support {
    fn start(
        admin: Arc<Admin>,
        listener: Option<TcpListener>,
        embedded: Option<EmbeddedQueue>,
        queue_server: Option<local_queue::Server>,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(listener) = listener {
            let answering = Arc::clone(&admin);
            let handler = move |request, _peer| Arc::clone(&answering).answer(request);
            tasks.spawn(server::serve(listener, stop.clone(), handler));
        }
        if let Some(server) = queue_server {
            tasks.spawn(server.serve(stop.clone().cancelled_owned()));
        }
        Self {
            stop,
            admin,
            tasks,
            embedded,
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            self.admin.readiness.close().await;
        };
        if tokio::time::timeout(CLOSING, ended).await.is_err() {
            tracing::warn!("connections were cut off");
        }
        if let Some(embedded) = self.embedded {
            embedded.close().await;
        }
    }
}
