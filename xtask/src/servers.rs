//! The servers that tests of the native host talk to, and the clients that tests
//! of the application talk through: real ones, found on this machine or put under
//! `target/servers`; and the examples in other languages, whose tools come the same
//! way. Owns which there are and under which environment variables tests find them;
//! starting them is the tests' own.

mod dynamodb;
mod kubectl;
mod programs;
mod wasmedge;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::npm::{self, Node};
use crate::venv::{self, Venv};
use crate::workspace::Workspace;
use crate::{build, examples, printer};
use programs::{Programs, Wanted};

/// An environment variable of the tests.
pub(crate) type Variable = (&'static str, PathBuf);

/// A test that finds its server missing then fails instead of passing by.
pub(crate) const REQUIRED: &str = "GRISTMILL_TEST_REQUIRE_SERVERS";

/// The Node that runs tests in JavaScript.
pub(crate) const NODE: &str = "GRISTMILL_TEST_NODE";
/// Where those tests find their packages.
pub(crate) const NODE_MODULES: &str = "GRISTMILL_TEST_NODE_MODULES";
/// The Python that runs the tests of `k8s/`.
pub(crate) const K8S_PYTHON: &str = "GRISTMILL_TEST_K8S_PYTHON";

/// One of the servers, of the clients, or of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Redis,
    Postgres,
    Mosquitto,
    DynamoDb,
    Ministack,
    LocalStack,
    AwsCli,
    SqsClient,
    Registry,
    Node,
    Playwright,
    Chromium,
    Schemathesis,
    ExampleJs,
    ExamplePy,
    CommandModule,
    ExampleCommand,
    WasmEdge,
    K8sTools,
    Kubectl,
    Promtool,
}

impl Server {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 21] = [
        Self::Redis,
        Self::Postgres,
        Self::Mosquitto,
        Self::DynamoDb,
        Self::Ministack,
        Self::LocalStack,
        Self::AwsCli,
        Self::SqsClient,
        Self::Registry,
        Self::Node,
        Self::Playwright,
        Self::Chromium,
        Self::Schemathesis,
        Self::ExampleJs,
        Self::ExamplePy,
        Self::CommandModule,
        Self::ExampleCommand,
        Self::WasmEdge,
        Self::K8sTools,
        Self::Kubectl,
        Self::Promtool,
    ];

    /// As the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Mosquitto => "mosquitto",
            Self::DynamoDb => "dynamodb",
            Self::Ministack => "ministack",
            Self::LocalStack => "localstack",
            Self::AwsCli => "aws-cli",
            Self::SqsClient => "sqs-client-js",
            Self::Registry => "registry",
            Self::Node => "node",
            Self::Playwright => "playwright",
            Self::Chromium => "chromium",
            Self::Schemathesis => "schemathesis",
            Self::ExampleJs => "example-js",
            Self::ExamplePy => "example-py",
            Self::CommandModule => "wasip1 guest",
            Self::ExampleCommand => "example-wasip1",
            Self::WasmEdge => "wasmedge",
            Self::K8sTools => "k8s-tools",
            Self::Kubectl => "helm, kubectl",
            Self::Promtool => "promtool",
        }
    }

    /// What is compared with, beyond what is promised: comes from a suite that
    /// changes daily and not from every mirror, and is missed by nothing but its
    /// own test.
    pub(crate) fn is_never_required(self) -> bool {
        self == Self::WasmEdge
    }
}

const REDIS: Wanted = Wanted {
    package: "redis-server",
    programs: &["redis-server"],
    folders: &["usr/bin"],
    fonts: false,
    version: "--version",
    serves: |said| said.contains("Redis server"),
};

const POSTGRES: Wanted = Wanted {
    package: "postgresql",
    programs: &["postgres", "initdb", "pg_ctl"],
    folders: &["usr/lib/postgresql/*/bin"],
    fonts: false,
    version: "--version",
    serves: |said| said.contains("PostgreSQL"),
};

const MOSQUITTO: Wanted = Wanted {
    package: "mosquitto",
    programs: &["mosquitto"],
    // The second one has the program that hashes passwords.
    folders: &["usr/sbin", "usr/bin"],
    fonts: false,
    version: "-h",
    serves: |said| said.contains("mosquitto version"),
};

const REGISTRY: Wanted = Wanted {
    package: "docker-registry",
    programs: &["docker-registry"],
    folders: &["usr/bin"],
    fonts: false,
    version: "--version",
    serves: |said| said.contains("distribution"),
};

const CHROMIUM: Wanted = Wanted {
    package: "chromium",
    programs: &["chromium"],
    // The browser itself: `usr/bin` has a script that reads settings of the machine.
    folders: &["usr/lib/chromium"],
    fonts: true,
    version: "--version",
    serves: |said| said.contains("Chromium "),
};

const PROMTOOL: Wanted = Wanted {
    package: "prometheus",
    programs: &["promtool"],
    folders: &["usr/bin"],
    fonts: false,
    version: "--version",
    serves: |said| said.contains("promtool, version"),
};

/// Prepares all and prints what a shell needs to run their tests by hand.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let servers = Servers::open(workspace)?;
    for server in Server::ALL {
        let variables = match servers.ensure(server) {
            Err(error) if server.is_never_required() => {
                printer::note(format_args!("done without `{}`: {error:#}", server.name()));
                continue;
            }
            other => other?,
        };
        for (name, path) in variables {
            let path = path.display().to_string().replace('\'', r"'\''");
            printer::result(format_args!("export {name}='{path}'"));
        }
    }
    Ok(())
}

/// Makes servers available, one by one; what they share is prepared once.
pub(crate) struct Servers<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    programs: Programs,
    /// Two calls at once would do the same work twice and race to the renames.
    _lock: File,
}

impl<'a> Servers<'a> {
    /// Waits for another `cargo xtask` that prepares the same.
    pub(crate) fn open(workspace: &'a Workspace) -> Result<Self> {
        let folder = workspace.target_dir.join("servers");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("cannot create the lock file")?;
        lock.lock()
            .context("cannot wait for another `cargo xtask`")?;
        Ok(Self {
            workspace,
            programs: Programs::new(folder.clone()),
            folder,
            _lock: lock,
        })
    }

    /// Finds or installs a server.
    pub(crate) fn ensure(&self, server: Server) -> Result<Vec<Variable>> {
        match server {
            Server::Redis => {
                let found = self.programs.ensure(&REDIS)?;
                Ok(vec![(
                    "GRISTMILL_TEST_REDIS_SERVER",
                    found.join("redis-server"),
                )])
            }
            Server::Postgres => {
                let found = self.programs.ensure(&POSTGRES)?;
                Ok(vec![("GRISTMILL_TEST_POSTGRES_BIN", found)])
            }
            Server::Mosquitto => {
                let found = self.programs.ensure(&MOSQUITTO)?;
                Ok(vec![("GRISTMILL_TEST_MOSQUITTO", found.join("mosquitto"))])
            }
            Server::Registry => {
                let found = self.programs.ensure(&REGISTRY)?;
                Ok(vec![(
                    "GRISTMILL_TEST_REGISTRY",
                    found.join("docker-registry"),
                )])
            }
            Server::DynamoDb => dynamodb::ensure(self.workspace, &self.programs),
            Server::Node => Ok(vec![(NODE, Node::ensure(self.workspace)?.program())]),
            Server::Playwright => {
                let modules = npm::BROWSER_TESTS.ensure(self.workspace)?;
                Ok(vec![(NODE_MODULES, modules)])
            }
            Server::Chromium => {
                let found = self.programs.ensure(&CHROMIUM)?;
                Ok(vec![("GRISTMILL_TEST_CHROMIUM", found.join("chromium"))])
            }
            Server::Schemathesis => {
                let venv = Venv::ensure(self.workspace, &venv::SCHEMATHESIS)?;
                Ok(vec![(
                    "GRISTMILL_TEST_SCHEMATHESIS",
                    venv.program("schemathesis"),
                )])
            }
            Server::Ministack => {
                let venv = Venv::ensure(self.workspace, &venv::MINISTACK)?;
                Ok(vec![(
                    "GRISTMILL_TEST_MINISTACK",
                    venv.program("ministack"),
                )])
            }
            Server::LocalStack => {
                let venv = Venv::ensure(self.workspace, &venv::LOCALSTACK)?;
                Ok(vec![("GRISTMILL_TEST_LOCALSTACK", venv.python())])
            }
            Server::AwsCli => {
                let venv = Venv::ensure(self.workspace, &venv::AWS_CLI)?;
                Ok(vec![("GRISTMILL_TEST_AWS_CLI", venv.program("aws"))])
            }
            Server::SqsClient => {
                let modules = npm::SQS_CLIENT.ensure(self.workspace)?;
                Ok(vec![("GRISTMILL_TEST_SQS_MODULES", modules)])
            }
            Server::ExampleJs => {
                let wasm = examples::javascript(self.workspace)?;
                Ok(vec![("GRISTMILL_TEST_EXAMPLE_JS", wasm)])
            }
            Server::ExamplePy => {
                let wasm = examples::python(self.workspace)?;
                Ok(vec![("GRISTMILL_TEST_EXAMPLE_PY", wasm)])
            }
            Server::CommandModule => {
                let wasm = build::command_module(self.workspace)?;
                Ok(vec![("GRISTMILL_TEST_COMMAND_MODULE", wasm)])
            }
            Server::ExampleCommand => {
                let wasm = examples::command(self.workspace)?;
                Ok(vec![("GRISTMILL_TEST_EXAMPLE_COMMAND", wasm)])
            }
            Server::WasmEdge => {
                let program = wasmedge::ensure(&self.folder)?;
                Ok(vec![("GRISTMILL_TEST_WASMEDGE", program)])
            }
            Server::K8sTools => {
                let venv = Venv::ensure(self.workspace, &venv::K8S_TESTS)?;
                Ok(vec![(K8S_PYTHON, venv.python())])
            }
            Server::Kubectl => kubectl::ensure(self.workspace),
            Server::Promtool => {
                let found = self.programs.ensure(&PROMTOOL)?;
                Ok(vec![("GRISTMILL_TEST_PROMTOOL", found.join("promtool"))])
            }
        }
    }
}
