//! `gristmill watch`: `up`, and whatever changes is built and put in the place of
//! what runs. A mistake leaves running what runs; the next change may repair it.

mod sources;
mod watcher;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::build;
use crate::cli::{Origin, WatchArgs};
use crate::drain::StopSignals;
use crate::manifest::Manifest;
use crate::names::ComponentId;
use crate::printer;
use crate::project::manifest_file;
use crate::settings::Environment;
use crate::up::{Host, Run};

use sources::{Changed, Scope, Sources};
use watcher::Watcher;

/// Runs the application of a manifest, and follows its sources.
pub async fn run(
    args: WatchArgs,
    mut signals: StopSignals,
    environment: &Environment,
) -> anyhow::Result<()> {
    let mut follower = Follower::new(&args, environment)?;
    let what = Run::from(args.up);
    let host = loop {
        tokio::select! {
            started = follower.start(&what, environment) => match started {
                Ok(host) => break host,
                Err(error) => printer::error(&error),
            },
            signal = signals.next_stop() => return stopped(signal),
        }
        printer::progress("Waiting for a change to try again");
        tokio::select! {
            changed = follower.change() => { changed?; }
            signal = signals.next_stop() => return stopped(signal),
        }
    };
    // One that waits stands for all that come: each reads everything.
    let (changes, reloads) = mpsc::channel(1);
    tokio::select! {
        served = Box::pin(host.serve(&mut signals, reloads)) => served,
        broken = follower.follow(changes) => match broken? {},
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is what the command returns")]
fn stopped(signal: &'static str) -> anyhow::Result<()> {
    tracing::info!("{signal}: stopped before anything was started");
    Ok(())
}

/// Sees what changes, and builds what is made of it.
struct Follower {
    scope: Scope,
    sources: Sources,
    watcher: Watcher,
}

impl Follower {
    fn new(args: &WatchArgs, environment: &Environment) -> anyhow::Result<Self> {
        let Origin::File(from) = &args.up.project.from else {
            anyhow::bail!("an application in a registry does not change: watch a manifest");
        };
        let manifest = manifest_file(from);
        let mut others = args.up.project.options.files(environment);
        others.push(manifest.with_file_name(".env"));
        let scope = Scope {
            manifest,
            others,
            builds: !args.skip_build,
        };
        let mut watcher = Watcher::new(Duration::from_millis(args.debounce))?;
        let sources = Sources::scan(&scope);
        watcher.watch(sources.folders());
        Ok(Self {
            scope,
            sources,
            watcher,
        })
    }

    /// Builds everything and starts it.
    async fn start(&mut self, what: &Run, environment: &Environment) -> anyhow::Result<Host> {
        self.build(|_| true).await?;
        self.adopt_built();
        Box::pin(Host::start(what.clone(), environment)).await
    }

    /// The next change of something that counts.
    async fn change(&mut self) -> anyhow::Result<Changed> {
        loop {
            self.watcher.next().await?;
            let next = Sources::scan(&self.scope);
            let changed = next.since(&self.sources);
            self.sources = next;
            self.watcher.watch(self.sources.folders());
            if changed.any() {
                return Ok(changed);
            }
        }
    }

    /// Builds what changes, and asks for a reload.
    async fn follow(&mut self, changes: mpsc::Sender<()>) -> anyhow::Result<Infallible> {
        // What a failed build left undone stays due.
        let (mut all, mut due) = (false, BTreeSet::new());
        loop {
            let changed = self.change().await?;
            printer::progress(format_args!("Changed: {changed}"));
            all |= changed.manifest;
            due.extend(changed.built);
            if let Err(error) = self.build(|id| all || due.contains(id)).await {
                printer::error(&error);
                printer::progress("What runs goes on as it was");
                continue;
            }
            self.adopt_built();
            (all, due) = (false, BTreeSet::new());
            // Full: a reload is asked for already, and will see this change.
            if let Err(mpsc::error::TrySendError::Closed(())) = changes.try_send(()) {
                anyhow::bail!("nobody reloads any more");
            }
        }
    }

    /// What building made is no change: the application is read after it.
    fn adopt_built(&mut self) {
        self.sources.adopt_read(Sources::scan(&self.scope));
        self.watcher.watch(self.sources.folders());
    }

    async fn build(&self, wanted: impl Fn(&ComponentId) -> bool) -> anyhow::Result<()> {
        if !self.scope.builds {
            return Ok(());
        }
        let file = &self.scope.manifest;
        let manifest = Manifest::load(file)?;
        let base_dir = file.parent().unwrap_or(Path::new(""));
        for step in build::steps(&manifest, base_dir, wanted) {
            step.run().await?;
        }
        Ok(())
    }
}
