//! Programs that Debian has a package for: the machine's own where it has them,
//! else unpacked under `target/servers`, where they neither run as a service nor
//! touch the machine. Does not know what the programs are for.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::apt::Apt;
use crate::staging::{Staging, remove_dir_if_present};
use crate::{printer, process};

const PROBE_LIMIT: Duration = Duration::from_mins(1);
/// Where a user's PATH does not look for servers.
const SYSTEM_FOLDERS: [&str; 2] = ["usr/local/sbin", "usr/sbin"];

/// Debian's package of the fonts for those that need some.
const FONTS: &str = "fonts-dejavu-core";

/// Programs that are useless without one another.
pub(super) struct Wanted {
    /// Debian's package, also the name of the folder under `target/servers`.
    pub(super) package: &'static str,
    /// The first one is what the package is wanted for.
    pub(super) programs: &'static [&'static str],
    /// Where Debian puts them, relative to the root; `*` is any one folder.
    pub(super) folders: &'static [&'static str],
    /// Whether they show text, for which they need fonts.
    pub(super) fonts: bool,
    /// The argument that makes the first program tell its version.
    pub(super) version: &'static str,
    /// Whether that is an answer of a program that serves.
    pub(super) serves: fn(&str) -> bool,
}

/// Finds programs, and unpacks what is missing.
pub(super) struct Programs {
    folder: PathBuf,
    /// Package lists are read once; so is the reason why they cannot be.
    apt: OnceCell<Result<Apt, String>>,
}

impl Programs {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            apt: OnceCell::new(),
        }
    }

    /// A folder in which each of the programs is found and runs.
    pub(super) fn ensure(&self, wanted: &Wanted) -> Result<PathBuf> {
        let own = self.folder.join(wanted.package);
        let launchers = own.join("bin");
        let machine = candidates(wanted, Path::new("/"));
        if let Some(found) = machine
            .into_iter()
            .chain([launchers.clone()])
            .find(|folder| wanted.is_in(folder) && wanted.runs(folder).is_ok())
        {
            return Ok(found);
        }
        self.unpack(wanted, &own).map_err(|error| {
            anyhow!(
                "no `{}` on this machine, and none from Debian: {error:#}\n\
                 hint: install it (Debian: `apt-get install {}`) and run this again",
                wanted.programs[0],
                wanted.package
            )
        })?;
        wanted.runs(&launchers)?;
        Ok(launchers)
    }

    fn unpack(&self, wanted: &Wanted, place: &Path) -> Result<()> {
        let apt = self.apt()?;
        let step = printer::step(format!(
            "unpacking Debian's `{}` into target/servers",
            wanted.package
        ));
        let staging = Staging::create(place.with_extension("partial"))?;
        let root = staging.path.join("root");
        fs::create_dir(&root)?;
        let fonts = wanted.fonts.then_some(FONTS);
        let packages: Vec<_> = [wanted.package].into_iter().chain(fonts).collect();
        apt.unpack_complete(&packages, &root)?;
        relocate_links(&root, &root)?;
        write_launchers(wanted, &staging.path, place)?;
        staging.publish(place)?;
        step.done();
        Ok(())
    }

    fn lists(&self) -> PathBuf {
        self.folder.join("apt")
    }

    fn apt(&self) -> Result<&Apt> {
        let apt = self.apt.get_or_init(|| {
            let step = printer::step("reading Debian's package lists");
            let apt = Apt::open(self.lists()).map_err(|error| format!("{error:#}"))?;
            apt.use_release().map_err(|error| format!("{error:#}"))?;
            step.done();
            Ok(apt)
        });
        apt.as_ref().map_err(|error| anyhow!("{error}"))
    }
}

impl Drop for Programs {
    /// The package lists are large and soon stale.
    fn drop(&mut self) {
        if self.apt.get().is_some() {
            let _ = remove_dir_if_present(&self.lists());
        }
    }
}

impl Wanted {
    fn is_in(&self, folder: &Path) -> bool {
        self.programs
            .iter()
            .all(|program| is_executable(&folder.join(program)))
    }

    /// That it is there does not mean that its libraries are.
    fn runs(&self, folder: &Path) -> Result<()> {
        let program = folder.join(self.programs[0]);
        let mut command = Command::new(&program);
        let said = process::capture(command.arg(self.version), PROBE_LIMIT)?;
        let said = said.stdout + &said.stderr;
        if (self.serves)(&said) {
            return Ok(());
        }
        bail!(
            "`{} {}` does not tell a version that serves, but: {}",
            program.display(),
            self.version,
            said.trim()
        )
    }
}

/// Folders that may hold the programs: those of PATH, behind its links first,
/// because relatives lie there; then Debian's own.
fn candidates(wanted: &Wanted, root: &Path) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(|folder| root.join(folder)))
        .filter(|folder| is_executable(&folder.join(wanted.programs[0])))
        .collect();
    let behind_links = on_path.iter().filter_map(|folder| {
        let program = folder.join(wanted.programs[0]).canonicalize().ok()?;
        program.parent().map(Path::to_owned)
    });
    let mut all: Vec<_> = behind_links.chain(on_path.iter().cloned()).collect();
    for pattern in wanted.folders {
        all.extend(expand(root, pattern));
    }
    all
}

/// The folders that match; of several versions the last comes first.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/') {
        found = found
            .into_iter()
            .flat_map(|folder| match part {
                "*" => {
                    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
                    paths.sort_by(|a, b| b.cmp(a));
                    paths
                }
                name => vec![folder.join(name)],
            })
            .collect();
    }
    found.retain(|folder| folder.is_dir());
    found
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Packages link to absolute places: those that were unpacked are meant here.
fn relocate_links(folder: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            relocate_links(&path, root)?;
        } else if let Ok(target) = fs::read_link(&path)
            && let Ok(inside) = target.strip_prefix("/")
            && fs::symlink_metadata(root.join(inside)).is_ok()
        {
            let depth = folder.strip_prefix(root)?.components().count();
            let up: PathBuf = (0..depth).map(|_| Component::ParentDir).collect();
            fs::remove_file(&path)?;
            symlink(up.join(inside), &path)?;
        }
    }
    Ok(())
}

/// In `bin`, a script for each unpacked program that lets it find the unpacked
/// libraries and fonts. It becomes the program: the process id stays.
fn write_launchers(wanted: &Wanted, staging: &Path, place: &Path) -> Result<()> {
    let root = staging.join("root");
    let in_place = |path: &Path| -> Result<String> {
        let path = place.join(path.strip_prefix(staging)?);
        let path = path.to_str().context("the target directory is not UTF-8")?;
        Ok(path.to_owned())
    };
    let libraries = library_folders(&root)
        .iter()
        .map(|folder| in_place(folder))
        .collect::<Result<Vec<_>>>()?
        .join(":");
    let mut environment = vec![format!(
        "export LD_LIBRARY_PATH={}\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"",
        quoted(&libraries)
    )];
    if wanted.fonts {
        let file = staging.join("fonts.conf");
        let fonts = in_place(&root.join("usr/share/fonts"))?;
        let cache = in_place(&staging.join("fonts-cache"))?;
        fs::write(&file, fonts_conf(&fonts, &cache))?;
        environment.push(format!(
            "export FONTCONFIG_FILE={}",
            quoted(&in_place(&file)?)
        ));
    }
    let environment = environment.join("\n");
    let bin = staging.join("bin");
    fs::create_dir(&bin)?;
    for folder in wanted
        .folders
        .iter()
        .flat_map(|folder| expand(&root, folder))
    {
        for entry in fs::read_dir(folder)? {
            let program = entry?.path();
            let Some(name) = program.file_name().filter(|_| is_executable(&program)) else {
                continue;
            };
            let target = quoted(&in_place(&program)?);
            let launcher = bin.join(name);
            fs::write(
                &launcher,
                format!("#!/bin/sh\n{environment}\nexec {target} \"$@\"\n"),
            )?;
            fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
        }
    }
    if !wanted.is_in(&bin) {
        bail!(
            "the package `{}` does not hold {:?} in {:?}",
            wanted.package,
            wanted.programs,
            wanted.folders
        );
    }
    Ok(())
}

/// Where the loader looks on a machine that has the packages installed, and the
/// folders beside that, which libraries name for their own relatives.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = ["usr/lib/*", "lib/*", "usr/lib/*/*"]
        .iter()
        .flat_map(|pattern| expand(root, pattern))
        .collect();
    folders.retain(|folder| folder.to_string_lossy().contains("-linux-gnu") && has_library(folder));
    folders
}

fn has_library(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("lib") && name.contains(".so")
    })
}

/// For a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Fontconfig's settings: the unpacked fonts, then the machine's. What is no
/// generic name falls back to sans-serif, and the generic names are those of the
/// package, so that pages look alike everywhere.
fn fonts_conf(fonts: &str, cache: &str) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let aliases: String = [
        ("sans-serif", "DejaVu Sans"),
        ("system-ui", "DejaVu Sans"),
        ("serif", "DejaVu Serif"),
        ("monospace", "DejaVu Sans Mono"),
    ]
    .map(|(name, font)| {
        format!("<alias><family>{name}</family><prefer><family>{font}</family></prefer></alias>\n")
    })
    .concat();
    let is_not = ["sans-serif", "serif", "monospace"].map(|name| {
        format!(
            "<test qual=\"all\" name=\"family\" compare=\"not_eq\">\
             <string>{name}</string></test>\n"
        )
    });
    let fallback = "<edit name=\"family\" mode=\"append_last\"><string>sans-serif</string></edit>";
    let is_not = is_not.concat();
    format!(
        "<?xml version=\"1.0\"?>\n\
         <!DOCTYPE fontconfig SYSTEM \"urn:fontconfig:fonts.dtd\">\n\
         <fontconfig>\n\
         <dir>{}</dir>\n\
         <dir>/usr/share/fonts</dir>\n\
         <cachedir>{}</cachedir>\n\
         <match target=\"pattern\">\n{is_not}{fallback}\n</match>\n\
         {aliases}</fontconfig>\n",
        escaped(fonts),
        escaped(cache)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Wanted = Wanted {
        package: "package",
        programs: &["server"],
        folders: &["usr/lib/server/*/bin"],
        fonts: true,
        version: "--version",
        serves: |said| said.contains("server 1"),
    };

    fn program(path: &Path, script: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn only_a_program_that_runs_counts() {
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("server");
        assert!(!SERVER.is_in(folder.path()));
        program(&server, "echo 'libfoo.so.1: cannot open' >&2; exit 127");
        assert!(SERVER.is_in(folder.path()));
        let error = SERVER.runs(folder.path()).unwrap_err().to_string();
        assert!(error.contains("libfoo.so.1"), "{error}");
        program(&server, "echo \"server 1.2 ($1)\"");
        SERVER.runs(folder.path()).unwrap();
    }

    #[test]
    fn of_several_versions_the_last_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["14", "15"] {
            fs::create_dir_all(root.path().join("usr/lib/server").join(version).join("bin"))
                .unwrap();
        }
        fs::create_dir_all(root.path().join("usr/lib/server/none")).unwrap();
        let found = expand(root.path(), SERVER.folders[0]);
        let expected = ["15", "14"].map(|v| root.path().join("usr/lib/server").join(v).join("bin"));
        assert_eq!(found, expected);
    }

    #[test]
    fn absolute_links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("usr/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/own.conf"), "own").unwrap();
        symlink("/etc/own.conf", lib.join("inside")).unwrap();
        symlink("/etc/of-the-machine.conf", lib.join("outside")).unwrap();
        relocate_links(root.path(), root.path()).unwrap();
        assert_eq!(fs::read_to_string(lib.join("inside")).unwrap(), "own");
        let outside = fs::read_link(lib.join("outside")).unwrap();
        assert_eq!(outside, Path::new("/etc/of-the-machine.conf"));
    }

    #[test]
    fn a_launcher_finds_the_unpacked_libraries_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let staging = folder.path().join("partial");
        let place = folder.path().join("it's a place");
        let root = staging.join("root");
        for library in ["libown.so.1", "own/librelative.so", "plugins/one.so"] {
            let library = root.join("usr/lib/x86_64-linux-gnu").join(library);
            fs::create_dir_all(library.parent().unwrap()).unwrap();
            fs::write(library, "").unwrap();
        }
        program(
            &root.join("usr/lib/server/15/bin/server"),
            "echo \"server 1, $1, $LD_LIBRARY_PATH\"; cat \"$FONTCONFIG_FILE\"",
        );
        write_launchers(&SERVER, &staging, &place).unwrap();
        fs::rename(&staging, &place).unwrap();
        let mut launcher = Command::new(place.join("bin/server"));
        let said = process::capture(launcher.arg("an argument"), PROBE_LIMIT).unwrap();
        let said = said.success().unwrap();
        assert!(said.starts_with("server 1, an argument, "), "{said}");
        for found in [
            "it's a place/root/usr/lib/x86_64-linux-gnu:",
            "it's a place/root/usr/lib/x86_64-linux-gnu/own",
            "it's a place/root/usr/share/fonts</dir>",
        ] {
            assert!(said.contains(found), "{found}: {said}");
        }
        assert!(!said.contains("plugins"), "{said}");
    }
}
