//! Tests of `k8s/`, in Python under `k8s/tests`: how they are started and what they
//! find in their environment. Does not know what they test.

use std::process::Command;

use anyhow::{Context, Result};

use crate::servers::{self, Server};
use crate::workspace::Workspace;

const FOLDER: &str = "k8s/tests";

/// What they do not run without.
pub(crate) const NEEDS: &[Server] = &[Server::K8sTools, Server::Kubectl];
/// What some of them pass by when it is missing.
pub(crate) const MAY_USE: &[Server] = &[Server::Redis, Server::Postgres, Server::Promtool];

/// All of them, against the host and the components that were built.
pub(crate) fn tests(workspace: &Workspace, variables: &[servers::Variable]) -> Result<Command> {
    let python = variables
        .iter()
        .find(|(name, _)| *name == servers::K8S_PYTHON);
    let (_, python) = python.context("no Python")?;
    let mut command = Command::new(python);
    command.current_dir(&workspace.root);
    command.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", FOLDER]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(variables.iter().cloned());
    command.env("GRISTMILL_TEST_BINARY", workspace.gristmill());
    Ok(command)
}
