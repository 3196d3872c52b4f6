//! Logs: to stderr, for people on a terminal and as JSON lines elsewhere.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::settings::Environment;

/// Which logs are written, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER: &str = "GRISTMILL_LOG";
/// `text` or `json`.
const FORMAT: &str = "GRISTMILL_LOG_FORMAT";

/// Starts logging. `quiet` keeps warnings and errors alone, unless the
/// environment says otherwise.
pub fn start(environment: &Environment, quiet: bool) -> anyhow::Result<()> {
    let default = if quiet { "warn,guest=off" } else { "info" };
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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    Ok(())
}
