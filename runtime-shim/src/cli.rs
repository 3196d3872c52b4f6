//! The command line: what may be said. What it means is decided in `project`
//! and `up`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::app::TriggerKind;
use crate::drain::DEFAULT_GRACE;
use crate::names::{ComponentId, PluginName};
use crate::project::AppSource;
use crate::queue::{GivenAttribute, MAX_DELAY_SECS};
use crate::registry::{self, Reference};
use crate::scaffold::Kind;
use crate::settings::Environment;
use crate::stores::{DEFAULT_MAX_VALUE, MAX_MAX_VALUE};
use crate::variables::Given;

/// Run event-driven WebAssembly services: HTTP routes, queues, schedules and
/// messages of Redis, each call in a sandbox of its own.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an application: that of a `spin.toml`, or one from a registry
    Up(Box<UpArgs>),
    /// Run an application and follow its sources: build what changes, swap it, lose no message
    Watch(Box<WatchArgs>),
    /// Run the build commands of an application's components
    Build(BuildArgs),
    /// Check that the application would start, without starting it, and list what
    /// its components import and are granted
    Check(CheckArgs),
    /// Make a plugin of your own, which builds, runs and has a test at once
    New(NewArgs),
    /// Serve the embedded queue alone: an endpoint that speaks SQS
    Queue(QueueArgs),
    /// Send messages to a queue: one text many times, or each line of a file or of stdin
    Send(Box<SendArgs>),
    /// Move dead letters back to the queue they came from, or to another
    Redrive(Box<RedriveArgs>),
}

/// Which application, and with what.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    /// The manifest, or its folder, or an application in a registry:
    /// `oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:…]`
    #[arg(short = 'f', long, value_name = "PATH|REFERENCE", default_value = "spin.toml", value_parser = parse_from)]
    pub from: Origin,

    /// Ask the registry by plain HTTP
    #[arg(short = 'k', long)]
    pub insecure: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub options: ProjectOptions,
}

impl ProjectArgs {
    /// Where the application is described.
    pub fn source(&self) -> AppSource {
        match &self.from {
            Origin::File(path) => AppSource::Manifest(path.clone()),
            Origin::Registry(reference) => AppSource::Registry {
                reference: reference.clone(),
                insecure: self.insecure,
            },
        }
    }
}

/// What `--from` may name.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A manifest, or its folder.
    File(PathBuf),
    /// An application in a registry.
    Registry(Reference),
}

/// With what an application is read, wherever it is described.
#[derive(Clone, Debug, Args)]
pub struct ProjectOptions {
    /// Backends of stores and further sources of variables, as in Spin
    /// [env: `RUNTIME_CONFIG_FILE`]
    #[arg(long, value_name = "FILE")]
    pub runtime_config_file: Option<PathBuf>,

    /// Where embedded stores and queues live [default: `.spin` beside the manifest;
    /// of an application in a registry, in the working directory]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Where what is downloaded is kept [env: `GRISTMILL_CACHE_DIR`]
    /// [default: `gristmill` in `XDG_CACHE_HOME` or `~/.cache`]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// The value of a variable, or a file that holds it, or a file of many (also:
    /// environment `SPIN_VARIABLE_<NAME>`, `.env`)
    #[arg(long = "variable", value_name = Given::FORMS)]
    pub variables: Vec<Given>,

    /// Run these triggers only
    #[arg(long = "trigger", value_name = "TYPE")]
    pub triggers: Vec<TriggerKind>,

    /// Run the triggers of these components only
    #[arg(long = "component", value_name = "ID", value_parser = parse_component)]
    pub components: Vec<ComponentId>,

    /// Bytes of memory for one sandbox [env: `SPIN_MAX_INSTANCE_MEMORY`]
    /// [default: 134217728]
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub max_instance_memory: Option<usize>,

    /// Let components write to their `files`, until the host ends
    #[arg(long)]
    pub allow_transient_write: bool,

    /// Bytes of one value in a key-value store (`DynamoDB` takes 400 KiB at most)
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_VALUE, value_parser = parse_max_value)]
    pub max_value_bytes: usize,
}

impl ProjectOptions {
    /// The files that are read with the manifest, except the `.env` beside it.
    pub fn files(&self, environment: &Environment) -> Vec<PathBuf> {
        let set = environment.get("RUNTIME_CONFIG_FILE").map(PathBuf::from);
        let config = self.runtime_config_file.clone().or(set);
        let variables = self.variables.iter().filter_map(Given::file);
        config
            .into_iter()
            .chain(variables.map(Path::to_owned))
            .collect()
    }
}

/// How to show what was found.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub project: ProjectArgs,

    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// What to make.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's name: lower-case words of letters and digits, joined by `-`
    #[arg(value_parser = parse_plugin_name)]
    pub name: PluginName,

    /// What calls it: `http`, `queue`, `batch` (many queue messages with one call) or `cron`
    #[arg(long, value_name = "TYPE")]
    pub trigger: Kind,

    /// The folder to make; it may be there if it is empty [default: `./NAME`]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

/// How to run it.
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub project: ProjectArgs,

    /// Where HTTP routes are served; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// Where `/livez`, `/readyz` and `/metrics` are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464")]
    pub admin_listen: SocketAddr,

    /// Where the embedded queue is served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9324")]
    pub queue_listen: SocketAddr,

    /// Do not serve the embedded queue: somebody else is at 127.0.0.1:9324
    #[arg(long)]
    pub no_local_queue: bool,

    /// How long a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = Secs(DEFAULT_REQUEST_TIMEOUT), value_parser = parse_secs_display)]
    pub request_timeout: Secs,

    /// How long work under way may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = Secs(DEFAULT_GRACE), value_parser = parse_secs_display)]
    pub grace_period: Secs,

    /// Log warnings and errors only, and nothing that components print
    #[arg(short, long)]
    pub quiet: bool,
}

/// How to run it, and how to follow its sources.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub up: UpArgs,

    /// Build nothing: follow the wasm files, which somebody else builds
    #[arg(long)]
    pub skip_build: bool,

    /// How long to wait for further changes after one
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub debounce: u64,
}

/// What to build.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The manifest, or its folder
    #[arg(short = 'f', long, value_name = "PATH", default_value = "spin.toml")]
    pub from: PathBuf,

    /// Build these components only
    #[arg(short, long = "component", value_name = "ID", value_parser = parse_component)]
    pub components: Vec<ComponentId>,
}

/// How to serve the queue alone.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// Where to serve; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9324")]
    pub listen: SocketAddr,

    /// Where messages are kept
    #[arg(long, value_name = "DIR", default_value = ".spin/queue")]
    pub data_dir: PathBuf,

    /// Create these queues, each with its dead-letter queue, unless they exist
    #[arg(long = "create", value_name = "NAME")]
    pub create: Vec<String>,
}

/// What to send, and where.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The queue's URL, or its name: of the embedded queue at 127.0.0.1:9324, or at
    /// `--endpoint`
    pub queue: String,

    /// Where a queue that is named by its name is served [default: `http://127.0.0.1:9324`]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// The text to send
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub body: Option<String>,

    /// A message on each line of this file; `-` is stdin [default: stdin, without `--body`]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// How often to send `--body`
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "body", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,

    /// Messages a second [default: as many as the queue takes]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// An attribute of each message, of type `String` unless one is given; repeatable
    #[arg(long = "attribute", value_name = GivenAttribute::FORM)]
    pub attributes: Vec<GivenAttribute>,

    /// How long the queue holds each message back, up to 900; not for FIFO queues
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_DELAY_SECS)))]
    pub delay: Option<u16>,

    /// The message group; an `n` in curly braces in it becomes the number of the message, from 1
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,

    /// The deduplication id; an `n` in curly braces in it becomes the number of the message, from 1
    #[arg(long, value_name = "ID")]
    pub dedup_id: Option<String>,

    /// Batches of ten under way at once, up to 64; one with FIFO queues
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,
}

/// Which dead letters to move, and where.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// The dead-letter queue's URL, or its name: of the embedded queue at
    /// 127.0.0.1:9324, or at `--endpoint`
    pub queue: String,

    /// Where queues that are named by their names are served [default: `http://127.0.0.1:9324`]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// The queue to move to, by URL or name [default: each back to where it came from]
    #[arg(long, value_name = "QUEUE")]
    pub to: Option<String>,

    /// Move those alone that this component rejected
    #[arg(long, value_name = "ID", value_parser = parse_component)]
    pub component: Option<ComponentId>,

    /// Move those alone whose reason has this text in its error
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,

    /// Move those alone that match this filter, in JSON, as consumers have them
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    pub filter: Option<serde_json::Value>,

    /// Move no more than this many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,

    /// Messages a second [default: as many as the queues take]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// Batches of ten under way at once, up to 64; one with FIFO queues
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,

    /// Move nothing, and say what would be moved
    #[arg(long)]
    pub dry_run: bool,
}

/// How long a request may take, unless configured.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A duration that is shown in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Secs(pub Duration);

impl std::fmt::Display for Secs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.as_secs())
    }
}

fn parse_from(text: &str) -> Result<Origin, String> {
    if !text.starts_with(registry::SCHEME) {
        return Ok(Origin::File(PathBuf::from(text)));
    }
    let reference = text.parse().map(Origin::Registry);
    reference.map_err(|error: registry::InvalidReference| error.to_string())
}

fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))
}

fn parse_plugin_name(text: &str) -> Result<PluginName, String> {
    PluginName::new(text).map_err(|error| error.to_string())
}

pub(crate) fn parse_component(text: &str) -> Result<ComponentId, String> {
    ComponentId::new(text).map_err(|error| error.to_string())
}

/// A sandbox below one page of 64 KiB could not exist, and none can address
/// more than 4 GiB.
pub fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes: usize = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of bytes"))?;
    if (65_536..=4 << 30).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!(
            "{bytes} bytes: allowed are 65536 to {}",
            4_u64 << 30
        ))
    }
}

pub(crate) fn parse_max_value(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 1..=MAX_MAX_VALUE) => Ok(bytes),
        _ => Err(format!("`{text}`: allowed are 1 to {MAX_MAX_VALUE} bytes")),
    }
}

fn parse_secs(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(secs @ 1..=86_400) => Ok(Duration::from_secs(secs)),
        _ => Err(format!("`{text}`: allowed are 1 to 86400 seconds")),
    }
}

pub(crate) fn parse_secs_display(text: &str) -> Result<Secs, String> {
    parse_secs(text).map(Secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
