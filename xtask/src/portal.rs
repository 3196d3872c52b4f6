//! Tests of the whole application in JavaScript, under `components/portal/tests`:
//! how they are started and what they find in their environment. Does not know
//! what they test.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::servers::{self, Server, Servers};
use crate::workspace::Workspace;
use crate::{build, printer, process};

const FOLDER: &str = "components/portal/tests";
const SCREENSHOTS: &str = "docs/images";
const SCREENSHOTS_LIMIT: Duration = Duration::from_mins(10);

/// What the tests of the API do not run without.
pub(crate) const API_NEEDS: &[Server] = &[Server::Node, Server::Schemathesis];
/// What the tests in a browser do not run without.
pub(crate) const BROWSER_NEEDS: &[Server] = &[Server::Node, Server::Playwright, Server::Chromium];

/// Node on one file of tests.
pub(crate) fn tests(
    workspace: &Workspace,
    file: &str,
    variables: &[servers::Variable],
) -> Result<Command> {
    let node = variables.iter().find(|(name, _)| *name == servers::NODE);
    let (_, node) = node.context("no Node")?;
    let mut command = Command::new(node);
    command.current_dir(&workspace.root);
    command.args(["--test", "--test-reporter=spec"]);
    command.arg(format!("{FOLDER}/{file}"));
    command.envs(variables.iter().cloned());
    command.env("GRISTMILL_TEST_BIN", workspace.gristmill());
    Ok(command)
}

/// Builds the application and has the browser take pictures of it.
pub(crate) fn screenshots(workspace: &Workspace) -> Result<()> {
    build::everything(workspace)?;
    let servers = Servers::open(workspace)?;
    let mut variables = Vec::new();
    for server in BROWSER_NEEDS {
        variables.extend(servers.ensure(*server)?);
    }
    let folder = workspace.root.join(SCREENSHOTS);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    printer::heading(format_args!("screenshots into {SCREENSHOTS}"));
    let mut node = tests(workspace, "screenshots.mjs", &variables)?;
    node.env("GRISTMILL_SCREENSHOTS", &folder);
    process::stream(&mut node, SCREENSHOTS_LIMIT)
}
