//! The binary as a plugin of Spin, under the name `trigger-sqs` or `trigger-cron`:
//! the flags, the environment and the launch metadata that `spin up` expects of
//! a trigger. What it makes of them runs like any application.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use serde::Serialize;
use url::Url;

use crate::app::TriggerKind;
use crate::cli::{self, ProjectOptions, Secs};
use crate::drain::{DEFAULT_GRACE, StopSignals};
use crate::logging::Wanted;
use crate::names::ComponentId;
use crate::project::AppSource;
use crate::seeds::{Pair, Seeds, Statements};
use crate::settings::Environment;
use crate::stores::DEFAULT_MAX_VALUE;
use crate::up::{self, Run};
use crate::variables::Given;

/// Where Spin left the locked application, as a file URL.
const LOCKED_URL: &str = "SPIN_LOCKED_URL";
/// A folder that lives as long as `spin up`.
const WORKING_DIR: &str = "SPIN_WORKING_DIR";
/// Where what components print is written.
const LOG_DIR: &str = "SPIN_LOG_DIR";
/// The folder of the manifest; not set for an application from a registry.
const LOCAL_APP_DIR: &str = "SPIN_LOCAL_APP_DIR";

/// What Spin's flags and our own say.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
struct PluginArgs {
    /// Backends of stores and further sources of variables
    /// [env: `RUNTIME_CONFIG_FILE`]
    #[arg(long, value_name = "FILE")]
    runtime_config_file: Option<PathBuf>,

    /// Where embedded stores and queues live [default: `.spin` beside the manifest].
    /// Empty, or without a local manifest: a folder that ends with `spin up`
    #[arg(long, value_name = "DIR")]
    state_dir: Option<OsString>,

    /// The value of a variable, or a file that holds it, or a file of many
    #[arg(long = "variable", value_name = Given::FORMS)]
    variables: Vec<Given>,

    /// Put a pair into the key-value store `default` first
    #[arg(long = "key-value", value_name = "KEY=VALUE")]
    pairs: Vec<Pair>,

    /// Run SQL first, on the database `default` or, from a file, on any
    #[arg(long = "sqlite", value_name = "SQL | @FILE | @FILE:LABEL")]
    statements: Vec<Statements>,

    /// Bytes of memory for one sandbox [env: `SPIN_MAX_INSTANCE_MEMORY`]
    /// [default: 134217728]
    #[arg(long, value_name = "BYTES", value_parser = cli::parse_memory)]
    max_instance_memory: Option<usize>,

    /// Log warnings and errors only, and nothing that components print
    #[arg(short, long, aliases = ["sh", "shush"])]
    quiet: bool,

    /// Log of what components print only that of this one; repeatable
    #[arg(long, value_name = "ID", value_parser = cli::parse_component)]
    follow: Vec<ComponentId>,

    /// Write what components print to files in this folder, too [env: `SPIN_LOG_DIR`]
    #[arg(short = 'L', long, value_name = "DIR")]
    log_dir: Option<OsString>,

    /// Empty these files first
    #[arg(long)]
    truncate_logs: bool,

    /// Let components write to their files; what they write ends with `spin up`
    #[arg(long)]
    allow_transient_write: bool,

    #[command(flatten)]
    _without_effect: WithoutEffect,

    /// Bytes of one value in a key-value store (`DynamoDB` takes 400 KiB at most)
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_VALUE, value_parser = cli::parse_max_value)]
    max_value_bytes: usize,

    /// How long work under way may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = Secs(DEFAULT_GRACE), value_parser = cli::parse_secs_display)]
    grace_period: Secs,

    /// Print Spin's part of the help, and nothing else
    #[arg(long, hide = true)]
    help_args_only: bool,

    /// Print the flags as JSON to stderr, and nothing else
    #[arg(long, hide = true)]
    launch_metadata_only: bool,
}

/// Spin's flags that have nothing to change here.
#[derive(Args)]
#[allow(
    dead_code,
    clippy::struct_excessive_bools,
    reason = "taken, and not looked at"
)]
struct WithoutEffect {
    /// Without effect: what is taken from the cache of machine code is checked
    #[arg(long)]
    disable_cache: bool,

    /// Without effect: the cache of machine code is in the state folder
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,

    /// Without effect: sandboxes always come from a pool
    #[arg(long)]
    disable_pooling: bool,

    /// Without effect: there is no `wasi:otel`
    #[arg(long)]
    experimental_wasi_otel: bool,

    /// Without effect: machine code has no debug information
    #[arg(long)]
    debug_info: bool,
}

/// The plugin that the binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `trigger-sqs`
    Sqs,
    /// `trigger-cron`
    Cron,
}

/// Spin gives a flag to every trigger that knows it. Two processes cannot listen
/// on one address, so that each has its own flag for it.
struct Names {
    program: &'static str,
    heading: &'static str,
    admin_flag: &'static str,
    admin_setting: &'static str,
}

/// What a plugin was asked for.
pub enum Request {
    /// Text for stdout.
    Help(String),
    /// Text for stderr.
    LaunchMetadata(String),
    /// To run the triggers.
    Run(Box<Launch>),
}

/// The command line of a plugin that runs.
pub struct Launch {
    plugin: Plugin,
    args: PluginArgs,
    admin_listen: Option<SocketAddr>,
    queue_listen: Option<SocketAddr>,
}

/// What `spin up` asks each plugin, to know whose flag is whose.
#[derive(Serialize)]
struct LaunchMetadata {
    all_flags: Vec<Flag>,
}

#[derive(Serialize)]
struct Flag {
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<String>,
}

impl Plugin {
    const ALL: [Self; 2] = [Self::Sqs, Self::Cron];

    /// The plugin of this name; `program` is `argv[0]`.
    pub fn of_program(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_stem()?;
        let mut all = Self::ALL.into_iter();
        all.find(|plugin| name == plugin.names().program)
    }

    /// The type of its triggers.
    fn kind(self) -> TriggerKind {
        match self {
            Self::Sqs => TriggerKind::Sqs,
            Self::Cron => TriggerKind::Cron,
        }
    }

    fn names(self) -> Names {
        match self {
            Self::Sqs => Names {
                program: "trigger-sqs",
                heading: "Options of the sqs trigger (gristmill)",
                admin_flag: "--sqs-admin-listen",
                admin_setting: "GRISTMILL_SQS_ADMIN_LISTEN",
            },
            Self::Cron => Names {
                program: "trigger-cron",
                heading: "Options of the cron trigger (gristmill)",
                admin_flag: "--cron-admin-listen",
                admin_setting: "GRISTMILL_CRON_ADMIN_LISTEN",
            },
        }
    }

    /// Reads the command line; wrong usage ends the process, as with any command.
    pub fn parse<T: Into<OsString> + Clone>(
        self,
        arguments: impl IntoIterator<Item = T>,
    ) -> anyhow::Result<Request> {
        let matches = self.command().get_matches_from(arguments);
        let args = PluginArgs::from_arg_matches(&matches)?;
        if args.help_args_only {
            let mut command = self
                .command()
                .disable_help_flag(true)
                .disable_version_flag(true)
                .help_template("{all-args}");
            return Ok(Request::Help(command.render_long_help().to_string()));
        }
        if args.launch_metadata_only {
            return Ok(Request::LaunchMetadata(self.launch_metadata()?));
        }
        let queue_listen = match self {
            Self::Sqs if !matches.get_flag(NO_LOCAL_QUEUE) => {
                matches.get_one(QUEUE_LISTEN).copied()
            }
            Self::Sqs | Self::Cron => None,
        };
        Ok(Request::Run(Box::new(Launch {
            plugin: self,
            admin_listen: matches.get_one(ADMIN_LISTEN).copied(),
            queue_listen,
            args,
        })))
    }

    fn command(self) -> Command {
        let names = self.names();
        let command = Command::new(names.program)
            .next_help_heading(names.heading)
            .version(env!("CARGO_PKG_VERSION"));
        let command = PluginArgs::augment_args(command)
            .about("A trigger plugin of Spin: `spin up` starts it")
            .arg(
                Arg::new(ADMIN_LISTEN)
                    .long(names.admin_flag.trim_start_matches('-'))
                    .value_name("ADDR")
                    .value_parser(clap::value_parser!(SocketAddr))
                    .help(format!(
                        "Serve `/livez`, `/readyz` and `/metrics` of this trigger [env: `{}`]",
                        names.admin_setting
                    )),
            );
        if self == Self::Cron {
            return command;
        }
        command
            .arg(
                Arg::new(QUEUE_LISTEN)
                    .long(QUEUE_LISTEN)
                    .value_name("ADDR")
                    .value_parser(clap::value_parser!(SocketAddr))
                    .default_value("127.0.0.1:9324")
                    .help("Where the embedded queue is served"),
            )
            .arg(
                Arg::new(NO_LOCAL_QUEUE)
                    .long(NO_LOCAL_QUEUE)
                    .action(ArgAction::SetTrue)
                    .help("Do not serve the embedded queue: somebody else is at 127.0.0.1:9324"),
            )
    }

    fn launch_metadata(self) -> anyhow::Result<String> {
        let command = self.command();
        let all_flags = command
            .get_arguments()
            .map(|arg| Flag {
                short: arg.get_short().map(|short| format!("-{short}")),
                long: arg.get_long().map(|long| format!("--{long}")),
            })
            .collect();
        Ok(serde_json::to_string_pretty(&LaunchMetadata { all_flags })?)
    }
}

const ADMIN_LISTEN: &str = "admin-listen";
const QUEUE_LISTEN: &str = "queue-listen";
const NO_LOCAL_QUEUE: &str = "no-local-queue";

impl Launch {
    /// What is to be seen. Log files are written where a folder is named: Spin's
    /// default, a folder in `.spin/`, would grow without anybody having asked.
    pub fn wanted_logs(&self, environment: &Environment) -> Wanted {
        let given = self.args.log_dir.clone();
        let log_dir = given.or_else(|| environment.get(LOG_DIR).map(OsString::from));
        Wanted {
            quiet: self.args.quiet,
            follow: self.args.follow.clone(),
            log_dir: log_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from),
            truncate: self.args.truncate_logs,
        }
    }

    /// Runs the triggers until Spin stops them.
    pub async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let signals = StopSignals::listen_below_spin().context("cannot listen for signals")?;
        up::run(self.plan(environment)?, signals, environment).await
    }

    fn plan(self, environment: &Environment) -> anyhow::Result<Run> {
        let names = self.plugin.names();
        let required = |name: &str| {
            environment.get(name).with_context(|| {
                let program = names.program;
                format!("`{name}` is not set: `{program}` is started by `spin up`")
            })
        };
        let locked_url = required(LOCKED_URL)?;
        let working_dir = Path::new(required(WORKING_DIR)?);
        let Some(file) = file_of(locked_url) else {
            bail!("`{LOCKED_URL}` is `{locked_url}`, which is not the URL of a file");
        };
        let set = environment.get(names.admin_setting);
        let admin_listen = match (self.admin_listen, set) {
            (Some(address), _) => Some(address),
            (None, None) => None,
            (None, Some(text)) => Some(text.parse::<SocketAddr>().with_context(|| {
                let name = names.admin_setting;
                format!("environment variable `{name}` is `{text}`: expected IP:PORT")
            })?),
        };
        let args = self.args;
        // Spin keeps such state in memory. It is not to outlive `spin up`, but both
        // triggers are to see it.
        let transient = working_dir.join("state");
        let local = environment.get(LOCAL_APP_DIR).map(Path::new);
        if local.is_none() && args.state_dir.is_none() {
            tracing::warn!(
                "the application has no folder here: its embedded stores and queues end with \
                 `spin up`, unless `--state-dir` says where they are"
            );
        }
        Ok(Run {
            source: AppSource::Locked {
                file,
                kind: self.plugin.kind(),
                state_dir: local.map_or_else(|| transient.clone(), |dir| dir.join(".spin")),
            },
            options: ProjectOptions {
                runtime_config_file: args.runtime_config_file,
                state_dir: match args.state_dir {
                    Some(dir) if dir.is_empty() => Some(transient),
                    given => given.map(PathBuf::from),
                },
                // Spin brought everything here.
                cache_dir: None,
                variables: args.variables,
                triggers: Vec::new(),
                components: Vec::new(),
                max_instance_memory: args.max_instance_memory,
                allow_transient_write: args.allow_transient_write,
                max_value_bytes: args.max_value_bytes,
            },
            seeds: Seeds {
                pairs: args.pairs,
                statements: args.statements,
            },
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen,
            admin_flag: names.admin_flag,
            queue_listen: self.queue_listen,
            request_timeout: cli::DEFAULT_REQUEST_TIMEOUT,
            grace: args.grace_period.0,
        })
    }
}

fn file_of(url: &str) -> Option<PathBuf> {
    let url = Url::parse(url).ok()?;
    (url.scheme() == "file")
        .then(|| url.to_file_path().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_known_by_its_name() {
        for (program, expected) in [
            ("trigger-sqs", Some(Plugin::Sqs)),
            (
                "/data/plugins/trigger-cron/trigger-cron",
                Some(Plugin::Cron),
            ),
            ("trigger-sqs.exe", Some(Plugin::Sqs)),
            ("trigger-http", None),
            ("trigger-", None),
            ("target/release/gristmill", None),
            ("", None),
        ] {
            let found = Plugin::of_program(OsStr::new(program));
            assert_eq!(found, expected, "{program}");
        }
    }

    #[test]
    fn the_command_lines_are_consistent_and_listen_apart() {
        let flags = Plugin::ALL.map(|plugin| {
            plugin.command().debug_assert();
            let metadata = plugin.launch_metadata().expect("JSON");
            let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
            let flags = metadata["all_flags"].as_array().expect("flags").clone();
            let longs = flags
                .iter()
                .map(|flag| flag["long"].as_str().expect("long").to_owned());
            longs.collect::<Vec<_>>()
        });
        let shared: Vec<_> = flags[0]
            .iter()
            .filter(|flag| flag.contains("listen") && flags[1].contains(flag))
            .collect();
        assert!(shared.is_empty(), "{shared:?}");
    }

    fn plan(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Run> {
        let arguments = ["trigger-sqs"].iter().chain(arguments);
        let Request::Run(launch) = Plugin::Sqs.parse(arguments)? else {
            bail!("it was asked for something else")
        };
        launch.plan(&environment.iter().copied().collect())
    }

    fn state_dir(arguments: &[&str], local: bool) -> PathBuf {
        let mut environment = vec![
            (LOCKED_URL, "file:///tmp/spinup-1/spin%20lock"),
            (WORKING_DIR, "/tmp/spinup-1"),
        ];
        if local {
            environment.push((LOCAL_APP_DIR, "/app"));
        }
        let run = plan(arguments, &environment).unwrap_or_else(|e| panic!("{e}"));
        let AppSource::Locked {
            file, state_dir, ..
        } = run.source
        else {
            panic!("locked")
        };
        assert_eq!(file, Path::new("/tmp/spinup-1/spin lock"));
        assert_eq!(run.admin_listen, None);
        run.options.state_dir.unwrap_or(state_dir)
    }

    #[test]
    fn state_is_where_spin_has_it() {
        for (arguments, local, expected) in [
            (&[][..], true, "/app/.spin"),
            (&["--state-dir", "/s"], true, "/s"),
            (&["--state-dir", ""], true, "/tmp/spinup-1/state"),
            (&["--state-dir", "/s"], false, "/s"),
            (&[][..], false, "/tmp/spinup-1/state"),
        ] {
            let found = state_dir(arguments, local);
            assert_eq!(found, Path::new(expected), "{arguments:?} {local}");
        }
    }

    #[test]
    fn says_what_is_missing_when_somebody_else_starts_it() {
        for (environment, expected) in [
            (
                &[][..],
                "`SPIN_LOCKED_URL` is not set: `trigger-sqs` is started by `spin up`",
            ),
            (
                &[(LOCKED_URL, "file:///l")],
                "`SPIN_WORKING_DIR` is not set",
            ),
            (
                &[(LOCKED_URL, "https://h/l"), (WORKING_DIR, "/w")],
                "`https://h/l`, which is not the URL of a file",
            ),
            (
                &[
                    (LOCKED_URL, "file:///l"),
                    (WORKING_DIR, "/w"),
                    ("GRISTMILL_SQS_ADMIN_LISTEN", "9464"),
                ],
                "`GRISTMILL_SQS_ADMIN_LISTEN` is `9464`: expected IP:PORT",
            ),
        ] {
            let error = plan(&[], environment)
                .err()
                .expect("must be refused")
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
