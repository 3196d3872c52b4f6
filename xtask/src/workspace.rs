//! Where things are: the repository's root, the target directory that cargo
//! really uses, and the packages in it. The only reader of `cargo metadata`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The target that components are compiled for.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";
/// The target that programs may be compiled for as well.
pub(crate) const CORE_MODULE_TARGET: &str = "wasm32-wasip1";

/// The workspace as cargo sees it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Follows `CARGO_TARGET_DIR` and cargo's configuration.
    pub(crate) target_dir: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Package {
    fn builds_wasm(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "cdylib"))
    }
}

impl Workspace {
    /// Asks cargo, for the workspace that this xtask was compiled in.
    pub(crate) fn discover() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let mut command = cargo_in(&manifest_dir);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let json = process::capture(&mut command, Duration::from_mins(1))?
            .success()
            .context("cannot read the workspace")?;
        let metadata: Metadata =
            serde_json::from_str(&json).context("`cargo metadata` printed something else")?;
        Ok(Self {
            root: metadata.workspace_root,
            target_dir: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// A cargo call in the root, by the cargo that runs this xtask.
    pub(crate) fn cargo(&self) -> Command {
        cargo_in(&self.root)
    }

    /// Packages under `components/` that become a wasm file.
    pub(crate) fn components(&self) -> Vec<&str> {
        self.names_under("components", Package::builds_wasm)
    }

    /// Packages under `components/` that are code shared by components.
    pub(crate) fn component_libraries(&self) -> Vec<&str> {
        self.names_under("components", |package| !package.builds_wasm())
    }

    /// Test guests of the shim: one package for each directory.
    pub(crate) fn guests(&self) -> Vec<&str> {
        self.names_under("runtime-shim/tests/guests", |_| true)
    }

    /// File names of the wasm files that these packages become.
    pub(crate) fn wasm_files(&self, names: &[&str]) -> Vec<String> {
        let chosen = self
            .packages
            .iter()
            .filter(|package| names.contains(&package.name.as_str()));
        let targets = chosen.flat_map(|package| &package.targets);
        let modules = targets.filter(|target| target.kind.iter().any(|kind| kind == "cdylib"));
        modules
            .map(|target| format!("{}.wasm", target.name.replace('-', "_")))
            .collect()
    }

    /// The native host.
    pub(crate) fn gristmill(&self) -> PathBuf {
        self.target_dir.join("release").join("gristmill")
    }

    /// Where cargo leaves wasm files.
    pub(crate) fn wasm_dir(&self) -> PathBuf {
        self.target_dir.join(WASM_TARGET).join("release")
    }

    /// What the guest that is a program becomes for WASI 0.1.
    pub(crate) fn command_module(&self) -> PathBuf {
        let folder = self.target_dir.join(CORE_MODULE_TARGET).join("release");
        folder.join("guest_command.wasm")
    }

    /// `--test <name>` for each file in the `tests` folder of the package in `folder`.
    pub(crate) fn test_targets(&self, folder: &str) -> Result<Vec<String>> {
        let tests = self.root.join(folder).join("tests");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&tests).with_context(|| tests.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names
            .into_iter()
            .flat_map(|name| ["--test".to_owned(), name])
            .collect())
    }

    fn names_under(&self, folder: &str, wanted: impl Fn(&Package) -> bool) -> Vec<&str> {
        let folder = self.root.join(folder);
        let inside = self
            .packages
            .iter()
            .filter(|package| package.manifest_path.starts_with(&folder));
        inside
            .filter(|package| wanted(package))
            .map(|package| package.name.as_str())
            .collect()
    }
}

/// Cargo tells the program it runs which package that is; a cargo started from
/// there must not take it for its own, or it finds every build script stale.
pub(crate) fn cargo_in(directory: &Path) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(directory);
    for (name, _) in env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            name == "CARGO_MANIFEST_DIR"
                || name == "CARGO_MANIFEST_PATH"
                || name.starts_with("CARGO_PKG_")
        });
        if own {
            command.env_remove(name);
        }
    }
    command
}
