//! Logs: to stderr, for people on a terminal and as JSON lines elsewhere.

mod guest;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::names::ComponentId;
use crate::settings::Environment;

/// What is to be seen.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Warnings and errors alone, unless the environment says otherwise.
    pub quiet: bool,
    /// Of what components print, only that of these; empty means all.
    pub follow: Vec<ComponentId>,
    /// A folder for files of what components print.
    pub log_dir: Option<PathBuf>,
    /// Empty those files first.
    pub truncate: bool,
}

/// Which logs are written, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER: &str = "GRISTMILL_LOG";
/// `text` or `json`.
const FORMAT: &str = "GRISTMILL_LOG_FORMAT";

/// Starts logging.
pub fn start(environment: &Environment, wanted: Wanted) -> anyhow::Result<()> {
    let default = if wanted.quiet {
        "warn,guest=off"
    } else {
        "info"
    };
    let filter = environment.get(FILTER).unwrap_or(default);
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("environment variable `{FILTER}` is `{filter}`"))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match environment.get(FORMAT) {
        None => !terminal,
        Some("json") => true,
        Some("text") => false,
        Some(other) => {
            anyhow::bail!("environment variable `{FORMAT}` is `{other}`: use `text` or `json`")
        }
    };
    let lines = tracing_subscriber::fmt::layer::<Registry>()
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.boxed()
    };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if wanted.follow.is_empty() {
        lines.with_filter(filter).boxed()
    } else {
        let followed = guest::Followed(wanted.follow);
        lines.with_filter(filter.and(followed)).boxed()
    };
    let files = match &wanted.log_dir {
        Some(dir) => Some(guest::Files::open(dir, wanted.truncate)?),
        None => None,
    };
    let printed = filter_fn(|metadata| metadata.target() == guest::TARGET);
    tracing_subscriber::registry()
        .with(lines)
        .with(files.map(|files| files.with_filter(printed)))
        .init();
    Ok(())
}
