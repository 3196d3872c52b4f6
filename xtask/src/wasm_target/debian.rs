//! The target's standard library built from Debian's packages: the source of the
//! compiler's own version, and the C library it stands on. About a minute. The
//! sysroot sees only the finished result, by one rename.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{BUILT_FOR, LINKED_OBJECTS, Sysroot, is_rlib_of};
use crate::apt::{Apt, Offer};
use crate::staging::remove_dir_if_present;
use crate::{printer, process};

const BUILD_LIMIT: Duration = Duration::from_mins(20);
const BUILT_CRATES: &str = "std,panic_abort,panic_unwind,proc_macro,test";
/// Its name must not be that of a crate in std's own graph.
const PROBE: &str = "gristmill-target-probe";

/// Builds and installs the target; works in `directory`, which it leaves empty.
pub(super) fn install(directory: &Path, sysroot: &Sysroot) -> Result<()> {
    let staging = sysroot.staging()?;
    remove_dir_if_present(directory)?;
    fs::create_dir_all(directory)?;

    let step = printer::step("finding `rust-src` and `wasi-libc` in Debian's archive");
    let packages = fetch(directory, sysroot)?;
    step.done();

    let step = printer::step(format!(
        "building the standard library for `{}`",
        sysroot.wanted
    ));
    let built = build_std(directory, &packages.library, sysroot.wanted)?;
    lay_out(&built, &packages.libc, &staging.path)?;
    fs::write(staging.path.join(BUILT_FOR), &sysroot.release)?;
    staging.publish(&sysroot.target())?;
    step.done();
    printer::note(format_args!(
        "`{}` is in {}; to hand it back to rustup remove that directory",
        sysroot.wanted,
        sysroot.target().display()
    ));
    remove_dir_if_present(directory)
}

/// What was unpacked.
struct Packages {
    /// `library/` of the Rust source.
    library: PathBuf,
    /// `usr/lib/<target>` of the C library.
    libc: PathBuf,
}

/// Suites that may carry the packages, the likeliest first. The aliases follow
/// the releases, so that no code name has to be known here.
fn suites(codename: &str) -> Vec<String> {
    let own = [
        format!("{codename}-backports"),
        codename.to_owned(),
        format!("{codename}-updates"),
    ];
    let aliases = [
        "stable-backports",
        "stable",
        "oldstable-backports",
        "testing",
        "unstable",
        "devel",
    ];
    aliases.into_iter().map(str::to_owned).chain(own).collect()
}

/// Looks through the suites until both packages are unpacked.
fn fetch(directory: &Path, sysroot: &Sysroot) -> Result<Packages> {
    let release = sysroot.release.as_str();
    let apt = Apt::open(directory.join("apt"))?;
    let source_names = source_package_names(release);
    let source_names: Vec<&str> = source_names.iter().map(String::as_str).collect();
    let (mut library, mut libc) = (None, None);
    let (mut seen, mut problems) = (Vec::new(), Vec::new());
    for suite in suites(&apt.codename) {
        if let Err(error) = apt.use_suite(&suite) {
            problems.push(format!("{suite}: {error:#}"));
            continue;
        }
        if library.is_none() {
            let offers = apt.offers(&source_names)?;
            seen.extend(offers.iter().map(|offer| offer.upstream().to_owned()));
            if let Some(offer) = offers.iter().find(|offer| offer.upstream() == release) {
                library = Some(unpack_source(&apt, offer, &directory.join("source"))?);
            }
        }
        if libc.is_none() {
            for offer in apt.offers(&["wasi-libc"])? {
                libc = unpack_libc(&apt, &offer, &directory.join("libc"), sysroot.wanted)?;
                if libc.is_some() {
                    break;
                }
            }
        }
        if let (Some(library), Some(libc)) = (&library, &libc) {
            return Ok(Packages {
                library: library.clone(),
                libc: libc.clone(),
            });
        }
    }
    bail!(
        "{}",
        missing(sysroot, library.is_some(), libc.is_some(), &seen, &problems)
    )
}

/// Debian's name, then those of releases that carry several compilers.
fn source_package_names(release: &str) -> Vec<String> {
    let minor: Vec<&str> = release.split('.').take(2).collect();
    let versioned = format!("rust-{}-src", minor.join("."));
    vec!["rust-src".to_owned(), versioned, "rust-web-src".to_owned()]
}

fn unpack_source(apt: &Apt, offer: &Offer, into: &Path) -> Result<PathBuf> {
    apt.unpack(offer, into)?;
    let sources = into.join("usr").join("src");
    fs::read_dir(&sources)
        .with_context(|| format!("{} {} holds no sources", offer.package, offer.version))?
        .flatten()
        .map(|entry| entry.path().join("library"))
        .find(|library| library.join("std").join("Cargo.toml").is_file())
        .with_context(|| format!("{} {} holds no `library/std`", offer.package, offer.version))
}

/// Nothing where this version is too old to know the target.
fn unpack_libc(apt: &Apt, offer: &Offer, into: &Path, target: &str) -> Result<Option<PathBuf>> {
    remove_dir_if_present(into)?;
    apt.unpack(offer, into)?;
    let libc = into.join("usr").join("lib").join(target);
    let complete = LINKED_OBJECTS.iter().all(|name| libc.join(name).is_file());
    Ok(complete.then_some(libc))
}

fn missing(
    sysroot: &Sysroot,
    library: bool,
    libc: bool,
    seen: &[String],
    problems: &[String],
) -> String {
    let mut lines = Vec::new();
    if !library {
        let mut seen = seen.to_vec();
        seen.sort();
        seen.dedup();
        let found = if seen.is_empty() {
            "none".to_owned()
        } else {
            seen.join(", ")
        };
        lines.push(format!(
            "no `rust-src` of version {} (found: {found})",
            sysroot.release
        ));
    }
    if !libc {
        lines.push(format!("no `wasi-libc` with usr/lib/{}", sysroot.wanted));
    }
    if !problems.is_empty() {
        lines.push(format!(
            "suites that could not be read: {}",
            problems.join(" | ")
        ));
    }
    lines.join("; ")
}

/// Compiles std for the target beside an empty crate; returns where it lies.
fn build_std(directory: &Path, library: &Path, target: &str) -> Result<PathBuf> {
    let probe = directory.join("probe");
    fs::create_dir_all(probe.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"{PROBE}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n"
    );
    fs::write(probe.join("Cargo.toml"), manifest)?;
    fs::write(probe.join("src").join("lib.rs"), "#![no_std]\n")?;

    let mut cargo = crate::workspace::cargo_in(&probe);
    cargo
        .args(["build", "--release", "--target", target])
        .arg(format!("-Zbuild-std={BUILT_CRATES}"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
        .env("CARGO_TARGET_DIR", probe.join("target"))
        // Link-time optimization of the components reads the bitcode.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::capture(&mut cargo, BUILD_LIMIT)?
        .success()
        .context("cannot build std")?;
    Ok(probe
        .join("target")
        .join(target)
        .join("release")
        .join("deps"))
}

/// Arranges the result as rustup would.
fn lay_out(built: &Path, libc: &Path, target: &Path) -> Result<()> {
    let lib = target.join("lib");
    let self_contained = lib.join("self-contained");
    fs::create_dir_all(&self_contained)?;
    let probe = PROBE.replace('-', "_");
    for entry in fs::read_dir(built)? {
        let path = entry?.path();
        let is_library = path
            .extension()
            .is_some_and(|extension| extension == "rlib");
        if let Some(name) = path.file_name()
            && is_library
            && !is_rlib_of(&path, &probe)
        {
            fs::copy(&path, lib.join(name))?;
        }
    }
    for object in LINKED_OBJECTS {
        fs::copy(libc.join(object), self_contained.join(object))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_release_comes_before_the_own_one() {
        let suites = suites("bookworm");
        let place = |name: &str| suites.iter().position(|suite| suite == name).unwrap();
        assert!(place("stable-backports") < place("bookworm-backports"));
    }

    #[test]
    fn source_packages_of_a_release() {
        assert_eq!(
            source_package_names("1.95.0"),
            ["rust-src", "rust-1.95-src", "rust-web-src"]
        );
    }

    #[test]
    fn the_message_names_what_was_needed_and_what_was_found() {
        let seen = [
            "1.97.1".to_owned(),
            "1.96.1".to_owned(),
            "1.97.1".to_owned(),
        ];
        let sysroot = Sysroot {
            wanted: "wasm32-wasip2",
            rustlib: PathBuf::new(),
            release: "1.95.0".to_owned(),
        };
        let message = missing(&sysroot, false, false, &seen, &["stable: 404".to_owned()]);
        assert_eq!(
            message,
            "no `rust-src` of version 1.95.0 (found: 1.96.1, 1.97.1); \
             no `wasi-libc` with usr/lib/wasm32-wasip2; \
             suites that could not be read: stable: 404"
        );
    }

    #[test]
    fn the_layout_is_that_of_rustup() {
        let directory = tempfile::tempdir().unwrap();
        let (built, libc) = (
            directory.path().join("built"),
            directory.path().join("libc"),
        );
        fs::create_dir_all(&built).unwrap();
        fs::create_dir_all(&libc).unwrap();
        for name in [
            "libstd-1.rlib",
            "libstd-1.rmeta",
            "libgristmill_target_probe-1.rlib",
            "x.d",
        ] {
            fs::write(built.join(name), "").unwrap();
        }
        for name in LINKED_OBJECTS {
            fs::write(libc.join(name), "").unwrap();
        }
        let target = directory.path().join("target");
        lay_out(&built, &libc, &target).unwrap();
        let mut names: Vec<_> = fs::read_dir(target.join("lib"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["libstd-1.rlib", "self-contained"]);
    }
}
