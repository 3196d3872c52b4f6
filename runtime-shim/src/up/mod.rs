//! `gristmill up`, and a plugin of Spin's triggers: the composition root.
//! Everything is opened and bound before anything runs, so that nothing starts
//! which would fail later. A reload is another start beside the first: either all
//! of it takes the place of what runs, or nothing does.

mod generation;
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Readiness};
use crate::cli::{ProjectOptions, UpArgs};
use crate::drain::{Asked, StopSignals};
use crate::embedded_origin::origin_of;
use crate::http::server;
use crate::invoker::Sandboxes;
use crate::metrics::Metrics;
use crate::printer;
use crate::project::{AppSource, Project};
use crate::queue::EmbeddedQueue;
use crate::seeds::Seeds;
use crate::settings::Environment;

use generation::{Current, Generation, Lent, Running};
use support::Support;

/// What is left of the grace period for closing what others still use.
const CLOSING: Duration = Duration::from_secs(3);

/// What to run, and how.
#[derive(Clone)]
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
            source: args.project.source(),
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
    let mut starting = Box::pin(Host::start(what, environment));
    let mut wanted = false;
    let host = loop {
        tokio::select! {
            started = &mut starting => break started?,
            asked = signals.next() => match asked {
                Asked::Stop(signal) => {
                    tracing::info!("{signal}: stopped before anything was started");
                    return Ok(());
                }
                // It may have been read before what it should see.
                Asked::Reload => wanted = true,
            },
        }
    };
    drop(starting);
    // One that waits stands for all that come: each reads everything.
    let (changes, reloads) = mpsc::channel(1);
    if wanted {
        changes.send(()).await?;
    }
    Box::pin(host.serve(&mut signals, reloads)).await
}

/// What outlives a reload: addresses, the embedded queue, figures.
pub struct Host {
    what: Arc<Run>,
    environment: Arc<Environment>,
    state_dir: PathBuf,
    metrics: Arc<Metrics>,
    admin: Arc<Admin>,
    current: Arc<Current>,
    running: Running,
    front: Front,
    support: Support,
}

/// What was made of one reading of the application.
struct Loaded {
    generation: Generation,
    state_dir: PathBuf,
    queue: Option<(EmbeddedQueue, local_queue::Server)>,
    http: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// What a start needs to know of what is there already.
struct Before {
    state_dir: Option<PathBuf>,
    queue: Option<EmbeddedQueue>,
    sandboxes: Option<Sandboxes>,
    serves: bool,
    first: bool,
}

impl Host {
    /// Opens, binds and starts everything, and says on stdout where it is.
    pub async fn start(what: Run, environment: &Environment) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let before = Before {
            state_dir: None,
            queue: None,
            sandboxes: None,
            serves: false,
            first: true,
        };
        let loaded = load(&what, environment, before, &metrics).await?;
        let (embedded, queue_server) = loaded.queue.unzip();
        let running = loaded.generation.start(None);
        let admin = Arc::new(Admin {
            readiness: Readiness::starting(Arc::clone(running.footing())),
            metrics: Arc::clone(&metrics),
            embedded: embedded.clone().into(),
        });
        let current = Arc::new(Current::new(running.invoker()));
        let mut front = Front::default();
        if let Some(listener) = loaded.http {
            front.serve(listener, &current)?;
        }
        if let Some(embedded) = &embedded {
            printer::line(format_args!("Queue {}", embedded.origin()));
        }
        if let Some(listener) = &loaded.admin {
            printer::line(format_args!("Admin {}", origin_of(listener.local_addr()?)));
        }
        let support = Support::start(Arc::clone(&admin), loaded.admin, embedded.zip(queue_server));
        admin.readiness.set_running();
        printer::line("Ready");
        Ok(Self {
            what: Arc::new(what),
            environment: Arc::new(environment.clone()),
            state_dir: loaded.state_dir,
            metrics,
            admin,
            current,
            running,
            front,
            support,
        })
    }

    /// Runs until a signal stops it, and reads the application anew when a signal
    /// or `changes` asks for it.
    pub async fn serve(
        mut self,
        signals: &mut StopSignals,
        mut changes: mpsc::Receiver<()>,
    ) -> anyhow::Result<()> {
        let grace = self.what.grace;
        let mut loading = JoinSet::new();
        let mut retiring = JoinSet::new();
        let mut wanted = false;
        let signal = loop {
            // One at a time: what ran before must have finished.
            if wanted && loading.is_empty() && retiring.is_empty() {
                wanted = false;
                self.reload(&mut loading);
            }
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop(signal) => break signal,
                    Asked::Reload => {
                        tracing::info!("SIGHUP: reading the application anew");
                        wanted = true;
                    }
                },
                Some(()) = changes.recv() => wanted = true,
                broken = self.running.broken() => return Err(broken),
                broken = self.front.broken() => return Err(broken),
                Some(loaded) = loading.join_next() => {
                    let loaded = loaded.context("reading was cut off").and_then(|loaded| loaded);
                    let replaced = loaded.and_then(|loaded| self.replace(loaded));
                    let done = replaced.is_ok();
                    match replaced {
                        Ok(before) => {
                            retiring.spawn(before.retire(grace));
                        }
                        Err(error) => tracing::error!(
                            "cannot reload, the application goes on as it was: {}",
                            printer::explanation(&error).join(": ")
                        ),
                    }
                    // Whoever waits for the figure finds the reason in the log.
                    self.admin.metrics.reloaded(done);
                }
                Some(_) = retiring.join_next() => {}
            }
        };
        drop(loading);
        self.stop(signal, signals, retiring).await
    }

    fn reload(&self, loading: &mut JoinSet<anyhow::Result<Loaded>>) {
        let (what, environment) = (Arc::clone(&self.what), Arc::clone(&self.environment));
        let metrics = Arc::clone(&self.metrics);
        let before = Before {
            state_dir: Some(self.state_dir.clone()),
            queue: self.support.embedded().cloned(),
            sandboxes: Some(self.running.invoker().sandboxes().clone()),
            serves: self.front.serves(),
            first: false,
        };
        loading.spawn(async move { load(&what, &environment, before, &metrics).await });
    }

    /// Puts `loaded` in the place of what runs, and returns that.
    fn replace(&mut self, loaded: Loaded) -> anyhow::Result<Running> {
        if let Some(listener) = loaded.http {
            self.front.serve(listener, &self.current)?;
        }
        if let Some((embedded, server)) = loaded.queue {
            printer::line(format_args!("Queue {}", embedded.origin()));
            self.admin.embedded.replace(Some(embedded.clone()));
            self.support.adopt(embedded, server);
        }
        self.running.stop_intake();
        let next = loaded.generation.start(Some(&self.running));
        self.current.replace(next.invoker());
        self.admin
            .readiness
            .footing
            .replace(Arc::clone(next.footing()));
        tracing::info!("reloaded: what is under way ends as it began");
        Ok(std::mem::replace(&mut self.running, next))
    }

    async fn stop(
        mut self,
        signal: &'static str,
        signals: &mut StopSignals,
        mut retiring: JoinSet<()>,
    ) -> anyhow::Result<()> {
        let grace = self.what.grace;
        let seconds = grace.as_secs();
        tracing::info!("{signal}: finishing what is under way, for up to {seconds} s");
        self.admin.readiness.set_draining();
        self.front.stop_intake();
        self.running.stop_intake();
        let finish = async {
            self.front.finish().await;
            self.running.finish().await;
            while retiring.join_next().await.is_some() {}
        };
        let drained = tokio::select! {
            () = finish => {
                tracing::info!("all work is finished");
                Ok(())
            }
            () = tokio::time::sleep(grace.saturating_sub(CLOSING).max(grace / 2)) => {
                Err(anyhow::anyhow!(
                    "the grace period is over and work was cut off: its messages come again \
                     when their leases end"
                ))
            }
            signal = signals.next_stop() => {
                Err(anyhow::anyhow!("a second signal ({signal}) cut work off"))
            }
        };
        tokio::select! {
            closed = tokio::time::timeout(2 * CLOSING, self.support.stop()) => {
                closed.context("closing took too long")?;
            }
            signal = signals.next_stop() => bail!("a second signal ({signal}) cut closing off"),
        }
        drained
    }
}

/// Reads the application and opens what it needs and `before` does not have.
async fn load(
    what: &Run,
    environment: &Environment,
    before: Before,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Loaded> {
    let project = Project::load(what.source.clone(), what.options.clone(), environment).await?;
    if let Some(dir) = before.state_dir.filter(|dir| *dir != project.state_dir) {
        bail!(
            "the state folder is `{}` now, and was `{}`: start the process anew for that",
            project.state_dir.display(),
            dir.display()
        );
    }
    if before.first {
        project.plant(&what.seeds).await?;
    }
    let opened = match what.queue_listen {
        Some(address) if before.queue.is_none() && project.wants_embedded_queue()? => {
            let dir = project.queue_dir();
            Some(EmbeddedQueue::open(&dir, address, "--queue-listen").await?)
        }
        _ => None,
    };
    let embedded = opened.as_ref().map(|(queue, _)| queue);
    let embedded = embedded.or(before.queue.as_ref());
    let app = project.app(embedded.map(EmbeddedQueue::origin))?;
    let http = if app.http_components.is_empty() || before.serves {
        None
    } else {
        Some(bind(what.listen, "--listen").await?)
    };
    let admin = match what.admin_listen.filter(|_| before.first) {
        Some(address) => Some(bind(address, what.admin_flag).await?),
        None => None,
    };
    let lent = Lent {
        embedded,
        metrics,
        sandboxes: before.sandboxes,
        request_timeout: what.request_timeout,
    };
    let generation = Generation::load(&project, app, lent).await?;
    Ok(Loaded {
        generation,
        state_dir: project.state_dir,
        queue: opened,
        http,
        admin,
    })
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag}"))
}

/// The server of HTTP routes.
#[derive(Default)]
struct Front {
    /// Cancelled when nothing new may be taken in.
    intake: CancellationToken,
    tasks: JoinSet<()>,
}

impl Front {
    fn serves(&self) -> bool {
        !self.tasks.is_empty()
    }

    fn serve(&mut self, listener: TcpListener, current: &Arc<Current>) -> anyhow::Result<()> {
        let origin = origin_of(listener.local_addr()?);
        let current = Arc::clone(current);
        let handler = move |request, peer| {
            let (invoker, token) = current.enter();
            async move {
                let response = server::answer(invoker, request, peer).await;
                drop(token);
                response
            }
        };
        let server = server::serve(listener, self.intake.clone(), handler);
        self.tasks.spawn(server);
        printer::line(format_args!("Serving {origin}"));
        Ok(())
    }

    fn stop_intake(&self) {
        self.intake.cancel();
    }

    /// Returns when the server ends by itself, which it should not.
    async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow::anyhow!("the server ended unexpectedly: {error}"),
            Some(Ok(())) => anyhow::anyhow!("the server ended unexpectedly"),
            None => std::future::pending().await,
        }
    }

    async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
