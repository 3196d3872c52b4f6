//! `WasmEdge`, another runtime for WASI 0.1, to compare with. Of Debian's suites only
//! `unstable` has it, and that stands on a newer C library than most machines:
//! it is unpacked with all its libraries, and started by the loader among them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::apt::Apt;
use crate::staging::{Staging, remove_dir_if_present};
use crate::{printer, process};

const PACKAGE: &str = "wasmedge";
const SUITE: &str = "unstable";
const PROBE_LIMIT: Duration = Duration::from_mins(1);

/// The program: the machine's own, or one under `servers`.
pub(super) fn ensure(servers: &Path) -> Result<PathBuf> {
    let place = servers.join(PACKAGE);
    let launcher = place.join("bin").join(PACKAGE);
    for program in [PathBuf::from(PACKAGE), launcher.clone()] {
        if runs(&program).is_ok() {
            return Ok(program);
        }
    }
    let lists = servers.join("apt-unstable");
    let unpacked = unpack(&lists, &place);
    let _ = remove_dir_if_present(&lists);
    unpacked.map_err(|error| {
        anyhow!("no `{PACKAGE}` on this machine, and none from Debian's `{SUITE}`: {error:#}")
    })?;
    runs(&launcher)?;
    Ok(launcher)
}

fn runs(program: &Path) -> Result<()> {
    let said = process::capture(Command::new(program).arg("--version"), PROBE_LIMIT)?;
    let said = said.success()?;
    if said.contains("wasmedge version") {
        return Ok(());
    }
    bail!(
        "`{}` does not tell its version, but: {}",
        program.display(),
        said.trim()
    )
}

fn unpack(lists: &Path, place: &Path) -> Result<()> {
    let step = printer::step(format!(
        "unpacking Debian's `{PACKAGE}` into target/servers"
    ));
    // Its list of what is installed is empty, so nothing counts as there.
    let apt = Apt::open(lists.to_owned())?;
    apt.use_suite(SUITE)?;
    let staging = Staging::create(place.with_extension("partial"))?;
    let root = staging.path.join("root");
    fs::create_dir(&root)?;
    apt.unpack_complete(&[PACKAGE], &root)?;
    write_launcher(&staging.path, place)?;
    staging.publish(place)?;
    step.done();
    Ok(())
}

/// A script that has the unpacked loader start the program with the unpacked
/// libraries. The process id stays.
fn write_launcher(staging: &Path, place: &Path) -> Result<()> {
    let loader = find_loader(&staging.join("root/usr/lib"))?;
    let libraries = loader.parent().context("the loader is in no folder")?;
    let program = staging.join("root/usr/bin").join(PACKAGE);
    let [loader, libraries, program] = [&*loader, libraries, &*program].map(|path| {
        let path = place.join(path.strip_prefix(staging)?);
        let path = path.to_str().context("the target directory is not UTF-8")?;
        anyhow::Ok(super::programs::quoted(path))
    });
    let script = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        loader?, libraries?, program?
    );
    let bin = staging.join("bin");
    fs::create_dir(&bin)?;
    let launcher = bin.join(PACKAGE);
    fs::write(&launcher, script)?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `usr/lib/<architecture>/ld-linux-<architecture>.so.<version>`
fn find_loader(libraries: &Path) -> Result<PathBuf> {
    for folder in fs::read_dir(libraries)?.flatten() {
        let files = fs::read_dir(folder.path()).into_iter().flatten().flatten();
        let is_loader = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("ld-linux") && name.contains(".so."))
        };
        if let Some(loader) = files.map(|file| file.path()).find(is_loader) {
            return Ok(loader);
        }
    }
    bail!("no loader under {}", libraries.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_names_everything_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let (staging, place) = (folder.path().join("partial"), folder.path().join("it's"));
        let libraries = staging.join("root/usr/lib/x-linux-gnu");
        fs::create_dir_all(&libraries).unwrap();
        fs::create_dir_all(staging.join("root/usr/lib/other")).unwrap();
        assert!(write_launcher(&staging, &place).is_err(), "no loader");
        let loader = libraries.join("ld-linux-x.so.2");
        fs::write(&loader, "#!/bin/sh\nshift; echo \"$@\"\n").unwrap();
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        write_launcher(&staging, &place).unwrap();
        fs::rename(&staging, &place).unwrap();
        let mut launcher = Command::new(place.join("bin/wasmedge"));
        let said = process::capture(launcher.arg("an argument"), PROBE_LIMIT).unwrap();
        let root = place.join("root/usr");
        let expected = format!(
            "{} {} an argument\n",
            root.join("lib/x-linux-gnu").display(),
            root.join("bin/wasmedge").display()
        );
        assert_eq!(said.success().unwrap(), expected);
    }
}
