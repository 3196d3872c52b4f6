//! The plugins of `examples/`, each built by its language's own tool into
//! `target/examples`. Owns when that has to happen again. Does not know what the
//! plugins do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::npm::{self, Node};
use crate::staging::Staging;
use crate::venv::{self, Venv};
use crate::wasm_target::{self, Source};
use crate::workspace::{CORE_MODULE_TARGET, Workspace};
use crate::{printer, process};

/// Either takes twenty seconds on a slow core.
const LIMIT: Duration = Duration::from_mins(10);
const WASM: &str = "orders.wasm";
/// What the wasm file beside it was made of.
const STAMP: &str = "sources";
/// The world, and the contracts that it is made of.
const WORLD: [&str; 3] = [
    "examples/wit/world.wit",
    "wit/spin-sqs.wit",
    "wit/wasi-keyvalue.wit",
];

/// A plugin in another language.
struct Example {
    folder: &'static str,
    /// What its wasm file is made of and by, inside its folder.
    sources: &'static [&'static str],
}

/// The wasm file of the example in JavaScript.
pub(crate) fn javascript(workspace: &Workspace) -> Result<PathBuf> {
    let example = Example {
        folder: "javascript",
        sources: &["orders.js", "package.json", "package-lock.json"],
    };
    example.ensure(workspace, |wasm| {
        let modules = npm::COMPONENTIZE_JS.ensure(workspace)?;
        let mut build = Node::ensure(workspace)?.run_script("build", &modules)?;
        // The later one counts.
        build.args(["--", "--out"]).arg(wasm);
        Ok(build)
    })
}

/// The wasm file of the example in Python.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    let example = Example {
        folder: "python",
        sources: &["orders.py", "build.sh", "requirements.txt"],
    };
    example.ensure(workspace, |wasm| {
        let venv = Venv::ensure(workspace, &venv::COMPONENTIZE_PY)?;
        let mut build = Command::new("sh");
        build.env("PATH", process::path_with([&*venv.programs()])?);
        build.arg("build.sh").arg(wasm);
        Ok(build)
    })
}

/// The wasm file of the example that is a plain program.
pub(crate) fn command(workspace: &Workspace) -> Result<PathBuf> {
    let example = Example {
        folder: "command",
        sources: &["orders.rs", "spin.toml"],
    };
    example.ensure(workspace, |wasm| {
        wasm_target::ensure(workspace, CORE_MODULE_TARGET, Source::Auto)?;
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut build = Command::new(rustc);
        // As in its spin.toml.
        build.args(["--edition", "2024", "-O", "--target", CORE_MODULE_TARGET]);
        build.arg("-o").arg(wasm).arg("orders.rs");
        Ok(build)
    })
}

impl Example {
    /// Finds it built, or builds it by the command that `build` returns for an output.
    fn ensure(
        &self,
        workspace: &Workspace,
        build: impl FnOnce(&Path) -> Result<Command>,
    ) -> Result<PathBuf> {
        let place = workspace.target_dir.join("examples").join(self.folder);
        let wasm = place.join(WASM);
        let wanted = self.stamp(&workspace.root)?;
        if fs::read_to_string(place.join(STAMP)).is_ok_and(|made| made == wanted) && wasm.is_file()
        {
            return Ok(wasm);
        }
        let staging = Staging::create(place.with_extension("partial"))?;
        let mut command = build(&staging.path.join(WASM))?;
        command.current_dir(self.source(&workspace.root));
        // Standard output is for `cargo xtask servers`, which a shell evaluates.
        command.stdout(io::stderr());
        printer::heading(format_args!("building `examples/{}`", self.folder));
        process::stream(&mut command, LIMIT)?;
        fs::write(staging.path.join(STAMP), wanted)?;
        staging.publish(&place)?;
        Ok(wasm)
    }

    fn source(&self, root: &Path) -> PathBuf {
        root.join("examples").join(self.folder)
    }

    /// The sources themselves: when they are equal, so is the wasm file.
    fn stamp(&self, root: &Path) -> Result<String> {
        let own = self.sources.iter().map(|file| self.source(root).join(file));
        let mut stamp = String::new();
        for file in own.chain(WORLD.iter().map(|file| root.join(file))) {
            let text = fs::read_to_string(&file);
            stamp += &text.with_context(|| format!("cannot read {}", file.display()))?;
            stamp.push('\0');
        }
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_example_is_made_of_is_there_and_counts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let example = |sources: &'static [&'static str]| Example {
            folder: "python",
            sources,
        };
        let both = example(&["orders.py", "requirements.txt"])
            .stamp(root)
            .unwrap();
        assert_ne!(both, example(&["orders.py"]).stamp(root).unwrap());
        let error = example(&["none.py"]).stamp(root).unwrap_err();
        assert!(error.to_string().contains("none.py"), "{error}");
    }
}
