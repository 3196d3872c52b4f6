//! Debian packages through apt, but with a state, a cache and a sources list of
//! its own: the machine's package lists stay as they are and no root is needed.
//! Signatures are checked with the machine's archive keyring, as always.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::staging::remove_dir_if_present;
use sources::{Archive, parse_deb822, parse_list};

const UPDATE_LIMIT: Duration = Duration::from_mins(3);
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);
const UNPACK_LIMIT: Duration = Duration::from_mins(5);

/// Where dpkg keeps what is installed on the machine; only ever read.
const MACHINE_STATUS: &str = "/var/lib/dpkg/status";

/// A private apt over the machine's own mirror.
pub(crate) struct Apt {
    directory: PathBuf,
    archive: Archive,
    /// The distribution with its updates, as far as the machine uses them.
    release: Vec<Archive>,
    system_keyring: Option<PathBuf>,
    /// The machine's release, as in `bookworm`.
    pub(crate) codename: String,
}

/// A package in the version that apt offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) package: String,
    pub(crate) version: String,
}

impl Offer {
    /// `1.95.0` of `1:1.95.0+dfsg1-2~bpo13+1`.
    pub(crate) fn upstream(&self) -> &str {
        let version = self
            .version
            .split_once(':')
            .map_or(self.version.as_str(), |(_, rest)| rest);
        version.split(['+', '-', '~']).next().unwrap_or(version)
    }
}

impl Apt {
    /// Finds the machine's mirror; fails where this is no Debian-like machine.
    pub(crate) fn open(directory: PathBuf) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg"] {
            if !process::is_installed(tool) {
                bail!("`{tool}` is not installed: this is not a Debian machine");
            }
        }
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = os_field(&os_release, "VERSION_CODENAME").unwrap_or_default();
        let distribution = os_field(&os_release, "ID").unwrap_or_default();
        let release: Vec<_> = machine_archives(Path::new("/etc/apt"))
            .into_iter()
            .filter(|archive| archive.is_of_release(&codename))
            .collect();
        let archive = release
            .iter()
            .find(|archive| archive.is_distribution(&codename))
            .with_context(|| format!("no mirror of release `{codename}` in /etc/apt"))?
            .clone();
        let system_keyring = ["gpg", "pgp"]
            .map(|kind| format!("/usr/share/keyrings/{distribution}-archive-keyring.{kind}"))
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_file());
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(folder))?;
        }
        fs::write(directory.join("status"), "")?;
        Ok(Self {
            directory,
            archive,
            release,
            system_keyring,
            codename,
        })
    }

    /// Points at one suite of the mirror and reads its package lists.
    pub(crate) fn use_suite(&self, suite: &str) -> Result<()> {
        let line = self.archive.line(suite, self.keyring(&self.archive));
        self.update(&line)
    }

    /// Points at the machine's own release and its updates. From here on, what
    /// is installed on the machine counts as there.
    pub(crate) fn use_release(&self) -> Result<()> {
        fs::copy(MACHINE_STATUS, self.directory.join("status"))
            .with_context(|| format!("cannot copy {MACHINE_STATUS}"))?;
        let lines: String = self
            .release
            .iter()
            .map(|archive| archive.line(&archive.suite, self.keyring(archive)))
            .collect();
        self.update(&lines)
    }

    fn update(&self, sources: &str) -> Result<()> {
        fs::write(self.directory.join("sources.list"), sources)?;
        process::capture(self.apt("apt-get").arg("update"), UPDATE_LIMIT)?.success()?;
        Ok(())
    }

    fn keyring<'a>(&'a self, archive: &'a Archive) -> Option<&'a Path> {
        let own = archive.signed_by.as_deref().filter(|path| path.is_file());
        own.or(self.system_keyring.as_deref())
    }

    /// Every version of these packages in the suite, newest first.
    pub(crate) fn offers(&self, packages: &[&str]) -> Result<Vec<Offer>> {
        let mut command = self.apt("apt-cache");
        command.arg("madison").args(packages);
        // It fails when it knows none of the names, which is an answer here.
        Ok(parse_madison(
            &process::capture(&mut command, UPDATE_LIMIT)?.stdout,
        ))
    }

    /// Downloads a package, has apt verify it, and unpacks it into a directory.
    pub(crate) fn unpack(&self, offer: &Offer, into: &Path) -> Result<()> {
        let downloads = self.directory.join("downloads");
        remove_dir_if_present(&downloads)?;
        fs::create_dir_all(&downloads)?;
        let wanted = format!("{}={}", offer.package, offer.version);
        let mut download = self.apt("apt-get");
        download.current_dir(&downloads).args(["download", &wanted]);
        process::capture(&mut download, DOWNLOAD_LIMIT)?.success()?;
        let package = packages_in(&downloads)?
            .pop()
            .with_context(|| format!("apt downloaded no file for `{wanted}`"))?;
        unpack(&package, into)
    }

    /// Downloads packages together with all that they need and the machine
    /// lacks, has apt verify them, and unpacks them into one directory. Nothing
    /// is installed: no script of a package runs.
    pub(crate) fn unpack_complete(&self, packages: &[&str], into: &Path) -> Result<()> {
        let downloads = self.directory.join("cache/archives");
        remove_dir_if_present(&downloads)?;
        fs::create_dir_all(downloads.join("partial"))?;
        let mut download = self.apt("apt-get");
        download.args(["install", "--yes", "--download-only"]);
        download.arg("--no-install-recommends").args(packages);
        process::capture(&mut download, DOWNLOAD_LIMIT)?.success()?;
        let files = packages_in(&downloads)?;
        if files.is_empty() {
            bail!("`{}` counts as installed already", packages.join(" "));
        }
        for package in files {
            unpack(&package, into)?;
        }
        remove_dir_if_present(&downloads)
    }

    /// Options on the command line win over every configuration file, and the
    /// machine's own settings (a proxy, say) still count.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("--quiet");
        let at = |name: &str| self.directory.join(name).display().to_string();
        for (option, value) in [
            ("Dir::State", at("state")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
            (
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled",
                "false".to_owned(),
            ),
            ("Acquire::Retries", "2".to_owned()),
            ("Acquire::http::Timeout", "20".to_owned()),
            ("Acquire::https::Timeout", "20".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

fn unpack(package: &Path, into: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("-x").arg(package).arg(into);
    process::capture(&mut dpkg, UNPACK_LIMIT)?.success()?;
    Ok(())
}

/// All archives of `sources.list` and `sources.list.d/`, in apt's own order.
fn machine_archives(etc_apt: &Path) -> Vec<Archive> {
    let mut archives = fs::read_to_string(etc_apt.join("sources.list"))
        .map(|text| parse_list(&text))
        .unwrap_or_default();
    let parts = fs::read_dir(etc_apt.join("sources.list.d"));
    let mut files: Vec<_> = parts
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => archives.extend(parse_list(&text)),
            Some("sources") => archives.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    archives
}

/// A value of os-release(5), unquoted.
fn os_field(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// `  rust-src | 1.95.0+dfsg1-2 | http://… Packages`
fn parse_madison(output: &str) -> Vec<Offer> {
    let mut offers = Vec::new();
    for line in output.lines() {
        let mut columns = line.split('|').map(str::trim);
        if let (Some(package), Some(version), Some(_)) =
            (columns.next(), columns.next(), columns.next())
        {
            let offer = Offer {
                package: package.to_owned(),
                version: version.to_owned(),
            };
            if !offers.contains(&offer) {
                offers.push(offer);
            }
        }
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn madison_lists_offers() {
        let output = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://m.test s/main amd64 Packages\n\
                      \x20 rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m.test s/main amd64 Packages\n\
                      \x20 rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m.test s/main i386 Packages\n\
                      N: noise\n";
        let offers = parse_madison(output);
        assert_eq!(offers.len(), 2);
        assert_eq!(offers[1].version, "1.95.0+dfsg1-2~bpo13+1");
    }

    #[test]
    fn upstream_versions() {
        for (version, upstream) in [
            ("1.95.0+dfsg1-2~bpo13+1", "1.95.0"),
            ("1.95.0~rc1-1", "1.95.0"),
            ("2:1.95.0-1", "1.95.0"),
            ("0.0~git20260129.ec0effd-3", "0.0"),
        ] {
            let offer = Offer {
                package: String::new(),
                version: version.to_owned(),
            };
            assert_eq!(offer.upstream(), upstream);
        }
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "ID=debian\nVERSION_CODENAME=\"bookworm\"\nID_LIKE=x\n";
        assert_eq!(os_field(text, "ID").as_deref(), Some("debian"));
        assert_eq!(
            os_field(text, "VERSION_CODENAME").as_deref(),
            Some("bookworm")
        );
        assert_eq!(os_field(text, "VERSION"), None);
    }

    #[test]
    fn both_formats_of_a_machine_are_read_in_order() {
        let etc = tempfile::tempdir().unwrap();
        let parts = etc.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(
            etc.path().join("sources.list"),
            "deb http://a.test s main\n",
        )
        .unwrap();
        let stanza = "Types: deb\nURIs: http://b.test\nSuites: s\nComponents: main\n";
        fs::write(parts.join("b.sources"), stanza).unwrap();
        fs::write(parts.join("c.list"), "deb http://c.test s main\n").unwrap();
        fs::write(parts.join("d.list.bak"), "deb http://d.test s main\n").unwrap();
        let uris: Vec<_> = machine_archives(etc.path())
            .into_iter()
            .map(|a| a.uri)
            .collect();
        assert_eq!(uris, ["http://a.test", "http://b.test", "http://c.test"]);
    }
}
