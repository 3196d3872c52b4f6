//! Python environments under `target/`: tools, clients and servers that tests
//! and lints call, each pinned by hash. Owns their making; does not know their
//! users.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::staging::remove_dir_if_present;
use crate::workspace::Workspace;
use crate::{printer, process};

const CREATE_LIMIT: Duration = Duration::from_mins(2);
const INSTALL_LIMIT: Duration = Duration::from_mins(15);

/// What one environment holds.
pub(crate) struct Contents {
    /// Its place in the target directory.
    folder: &'static str,
    /// Files with `--hash` requirements, relative to the root; those that exist count.
    requirements: &'static [&'static str],
}

/// Tools of the lints and clients of the tests.
pub(crate) const TOOLS: Contents = Contents {
    folder: "venv",
    requirements: &[
        "xtask/requirements.txt",
        "local-queue/tests/boto3/requirements.txt",
    ],
};

/// The AWS emulator; it insists on a botocore of its own.
pub(crate) const MINISTACK: Contents = Contents {
    folder: "servers/ministack",
    requirements: &["xtask/servers/ministack.txt"],
};

/// A second opinion on SQS; it brings a hundred packages.
pub(crate) const LOCALSTACK: Contents = Contents {
    folder: "servers/localstack",
    requirements: &["xtask/servers/localstack.txt"],
};

/// The AWS command line.
pub(crate) const AWS_CLI: Contents = Contents {
    folder: "servers/aws-cli",
    requirements: &["local-queue/tests/aws-cli/requirements.txt"],
};

/// Calls the application with whatever its API description allows.
pub(crate) const SCHEMATHESIS: Contents = Contents {
    folder: "servers/schemathesis",
    requirements: &["components/portal/tests/requirements.txt"],
};

/// What the tests of `k8s/` run with: pytest, schemas, Terraform, linters.
pub(crate) const K8S_TESTS: Contents = Contents {
    folder: "servers/k8s-tests",
    requirements: &["k8s/tests/requirements.txt"],
};

/// Node with npm, where the machine has none.
pub(crate) const NPM: Contents = Contents {
    folder: "servers/npm",
    requirements: &["xtask/servers/npm.txt"],
};

/// Makes components of Python: it builds an example.
pub(crate) const COMPONENTIZE_PY: Contents = Contents {
    folder: "servers/componentize-py",
    requirements: &["examples/python/requirements.txt"],
};

/// An environment that holds every requirement.
pub(crate) struct Venv {
    directory: PathBuf,
}

impl Venv {
    /// Makes it, or finds it made; made anew when a requirement changed.
    pub(crate) fn ensure(workspace: &Workspace, contents: &Contents) -> Result<Self> {
        let venv = Self {
            directory: workspace.target_dir.join(contents.folder),
        };
        let files: Vec<_> = contents
            .requirements
            .iter()
            .map(|file| workspace.root.join(file))
            .filter(|file| file.is_file())
            .collect();
        let wanted = stamp(&files)?;
        let stamp_file = venv.directory.join("gristmill-requirements");
        if fs::read_to_string(&stamp_file).is_ok_and(|made| made == wanted)
            && venv.python().is_file()
        {
            return Ok(venv);
        }
        let step = printer::step(format!(
            "installing Python packages into target/{}",
            contents.folder
        ));
        remove_dir_if_present(&venv.directory)?;
        fs::create_dir_all(&workspace.target_dir)?;
        create(&venv.directory)?;
        venv.install(&files)?;
        // Last, so that an interrupted installation starts again.
        fs::write(&stamp_file, wanted)?;
        step.done();
        Ok(venv)
    }

    /// Its interpreter.
    pub(crate) fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// A program that a requirement installed.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Where the programs are.
    pub(crate) fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    fn install(&self, files: &[PathBuf]) -> Result<()> {
        let mut pip = Command::new(self.python());
        pip.args([
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--no-input",
            "--quiet",
        ]);
        pip.arg("--disable-pip-version-check");
        for file in files {
            pip.arg("--requirement").arg(file);
        }
        process::capture(&mut pip, INSTALL_LIMIT)?
            .success()
            .context("cannot install the tools")?;
        Ok(())
    }
}

/// The requirements themselves: when they are equal, so is the environment.
fn stamp(files: &[PathBuf]) -> Result<String> {
    let mut stamp = String::new();
    for file in files {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        stamp.push_str(&text);
        stamp.push('\n');
    }
    Ok(stamp)
}

/// `python3 -m venv`; where Debian's python lacks it, its package is installed
/// first, and where that is not allowed, `virtualenv` is tried.
fn create(directory: &Path) -> Result<()> {
    let venv = || -> Result<()> {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(directory);
        process::capture(&mut command, CREATE_LIMIT)?.success()?;
        Ok(())
    };
    let Err(first) = venv() else { return Ok(()) };
    printer::note(format_args!("`python3 -m venv` does not work: {first:#}"));
    for install in [install_by_apt, install_virtualenv] {
        match install(directory).and_then(|again| if again { venv() } else { Ok(()) }) {
            Ok(()) => return Ok(()),
            Err(error) => printer::note(format_args!("{error:#}")),
        }
    }
    bail!(
        "Python 3 with its `venv` module is needed for tests and lints\n\
         hint: install it (Debian: `apt-get install python3-venv`) and run this again"
    )
}

/// Says that `venv` is worth another try.
fn install_by_apt(_directory: &Path) -> Result<bool> {
    for arguments in [
        ["update", "--quiet", "--quiet"].as_slice(),
        &[
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "python3",
            "python3-venv",
        ],
    ] {
        let mut apt = Command::new("apt-get");
        apt.args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        process::capture(&mut apt, INSTALL_LIMIT)?.success()?;
    }
    Ok(true)
}

/// Makes the environment by itself.
fn install_virtualenv(directory: &Path) -> Result<bool> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--user", "virtualenv"]);
    process::capture(&mut pip, INSTALL_LIMIT)?.success()?;
    let mut virtualenv = Command::new("python3");
    virtualenv
        .args(["-m", "virtualenv", "--quiet"])
        .arg(directory);
    process::capture(&mut virtualenv, CREATE_LIMIT)?.success()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_requirement_changes_the_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&a, "typos==1").unwrap();
        fs::write(&b, "boto3==1").unwrap();
        let both = [a.clone(), b.clone()];
        let before = stamp(&both).unwrap();
        assert_eq!(before, stamp(&both).unwrap());
        fs::write(&b, "boto3==2").unwrap();
        assert_ne!(before, stamp(&both).unwrap());
        assert!(stamp(&[directory.path().join("none")]).is_err());
    }
}
