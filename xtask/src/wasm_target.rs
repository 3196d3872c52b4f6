//! The standard library of a wasm target: is it there, and how does it get
//! there. rustup first; Debian's packages where rustup cannot. It knows the
//! layout of a sysroot, but neither how packages are found nor how std is built.

mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::printer;
use crate::process;
use crate::staging::Staging;
use crate::workspace::Workspace;

/// A slow mirror may take minutes for 25 MB, a dead one must not take longer.
const RUSTUP_LIMIT: Duration = Duration::from_mins(4);

/// Which ways of installing the target may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// rustup, then Debian's packages.
    Auto,
    /// `rustup target add` only.
    Rustup,
    /// The standard library built from Debian's `rust-src` and `wasi-libc`.
    Debian,
}

/// Makes sure that `target` can be compiled for; instant when it can.
pub(crate) fn ensure(workspace: &Workspace, target: &'static str, source: Source) -> Result<()> {
    let sysroot = Sysroot::of_rustc(target)?;
    if sysroot.has_target() {
        return Ok(());
    }
    printer::note(format_args!(
        "`{target}` is missing in {}",
        sysroot.rustlib.display()
    ));
    // Two calls at once would do the same work twice and race to the rename.
    let lock_file = workspace.target_dir.join("wasm-target.lock");
    fs::create_dir_all(&workspace.target_dir)?;
    let lock = fs::File::create(&lock_file).context("cannot create the lock file")?;
    lock.lock()
        .context("cannot wait for another `cargo xtask`")?;
    if sysroot.has_target() {
        return Ok(());
    }

    let mut attempts = Vec::new();
    if source != Source::Debian {
        match rustup(&sysroot) {
            Ok(()) => return Ok(()),
            Err(error) => attempts.push(format!("  rustup: {error:#}")),
        }
        printer::note(attempts.join("\n").trim_start());
    }
    if source != Source::Rustup {
        match debian::install(&workspace.target_dir.join("wasm-target"), &sysroot) {
            Ok(()) => return Ok(()),
            Err(error) => attempts.push(format!("  Debian packages: {error:#}")),
        }
    }
    Err(anyhow!(
        "cannot install the Rust target `{target}`\n{}\n\
         hint: on a machine that reaches rustup's server run `rustup target add {target}`; \
         without rustup, install it first, or use a Debian machine with `apt-get`, `dpkg` and a \
         mirror that carries `rust-src` {} and `wasi-libc`",
        attempts.join("\n"),
        sysroot.release,
    ))
}

/// The compiler's own directory of standard libraries.
struct Sysroot {
    /// The target that matters here.
    wanted: &'static str,
    /// `lib/rustlib`
    rustlib: PathBuf,
    /// The compiler's version, as in `1.95.0`.
    release: String,
}

impl Sysroot {
    fn of_rustc(wanted: &'static str) -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |arguments: &[&str]| {
            process::capture(Command::new(&rustc).args(arguments), Duration::from_mins(1))?
                .success()
                .context("cannot ask `rustc` about itself: is a Rust toolchain installed?")
        };
        let sysroot = ask(&["--print", "sysroot"])?;
        let version = ask(&["-vV"])?;
        let release = version
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .context("`rustc -vV` names no release")?;
        Ok(Self {
            wanted,
            rustlib: Path::new(sysroot.trim()).join("lib").join("rustlib"),
            release: release.to_owned(),
        })
    }

    fn target(&self) -> PathBuf {
        self.rustlib.join(self.wanted)
    }

    /// Complete, not merely begun: an interrupted rustup leaves a directory.
    fn has_target(&self) -> bool {
        let lib = self.target().join("lib");
        let has_std = fs::read_dir(&lib).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| is_rlib_of(&entry.path(), "std"))
        });
        let mut objects = LINKED_OBJECTS.iter();
        let has_objects = objects.all(|name| lib.join("self-contained").join(name).is_file());
        has_std && has_objects && self.is_current()
    }

    /// rustup replaces what it installed when the compiler changes, but knows
    /// nothing of what was installed here: that carries the version it is for.
    fn is_current(&self) -> bool {
        fs::read_to_string(self.target().join(BUILT_FOR))
            .map_or(true, |release| release.trim() == self.release)
    }

    /// An empty directory beside the target's place. Made before the long work,
    /// because this is where a read-only sysroot shows.
    fn staging(&self) -> Result<Staging> {
        Staging::create(self.rustlib.join(format!(".{}.partial", self.wanted)))
            .with_context(|| format!("cannot write to the sysroot {}", self.rustlib.display()))
    }
}

/// What the linker takes from the target's `self-contained` directory.
const LINKED_OBJECTS: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];

/// Beside `lib` in a target that was not installed by rustup.
const BUILT_FOR: &str = "gristmill-built-for";

fn rustup(sysroot: &Sysroot) -> Result<()> {
    let target = sysroot.wanted;
    let step = printer::step(format!("rustup target add {target}"));
    let mut command = Command::new("rustup");
    // A backtrace would push the reason out of the message.
    command
        .args(["target", "add", target])
        .env("RUST_BACKTRACE", "0");
    process::capture(&mut command, RUSTUP_LIMIT)?.success()?;
    if !sysroot.has_target() {
        bail!(
            "it reported success, but {} is not complete",
            sysroot.target().display()
        );
    }
    step.done();
    Ok(())
}

/// `libstd-0123456789abcdef.rlib` is of `std`, `libstd_detect-….rlib` is not.
fn is_rlib_of(path: &Path, name: &str) -> bool {
    let file_name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    file_name
        .strip_prefix("lib")
        .and_then(|rest| rest.strip_suffix(".rlib"))
        .and_then(|rest| rest.rsplit_once('-'))
        .is_some_and(|(crate_name, _hash)| crate_name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysroot(rustlib: &Path) -> Sysroot {
        Sysroot {
            wanted: "wasm32-wasip2",
            rustlib: rustlib.to_owned(),
            release: "1.95.0".to_owned(),
        }
    }

    #[test]
    fn only_a_complete_target_counts() {
        let directory = tempfile::tempdir().unwrap();
        let sysroot = sysroot(directory.path());
        assert!(!sysroot.has_target());
        let lib = sysroot.target().join("lib");
        fs::create_dir_all(lib.join("self-contained")).unwrap();
        fs::write(lib.join("libstd_detect-00.rlib"), "").unwrap();
        for object in LINKED_OBJECTS {
            fs::write(lib.join("self-contained").join(object), "").unwrap();
        }
        assert!(!sysroot.has_target(), "std_detect is not std");
        fs::write(lib.join("libstd-00.rlib"), "").unwrap();
        assert!(sysroot.has_target());
        fs::remove_file(lib.join("self-contained").join("libc.a")).unwrap();
        assert!(!sysroot.has_target(), "nothing links without libc.a");
    }

    #[test]
    fn a_target_built_for_another_compiler_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let sysroot = sysroot(directory.path());
        let lib = sysroot.target().join("lib");
        fs::create_dir_all(lib.join("self-contained")).unwrap();
        fs::write(lib.join("libstd-00.rlib"), "").unwrap();
        for object in LINKED_OBJECTS {
            fs::write(lib.join("self-contained").join(object), "").unwrap();
        }
        for (built_for, counts) in [("1.95.0\n", true), ("1.94.1\n", false)] {
            fs::write(sysroot.target().join(BUILT_FOR), built_for).unwrap();
            assert_eq!(sysroot.has_target(), counts, "{built_for}");
        }
    }
}
