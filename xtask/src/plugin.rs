//! `plugin`: the host as plugins of Spin's triggers. Packs each as Spin's
//! installer wants it (an archive, and a manifest with its checksum) and puts it
//! where `spin up` looks. Spin itself need not be there.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::workspace::Workspace;
use crate::{build, printer, process};

/// Each plugin is the same binary under the name of its trigger.
const PLUGINS: [(&str, &str); 2] = [
    (
        "trigger-sqs",
        "Queues of Amazon SQS, or embedded ones, by Gristmill",
    ),
    ("trigger-cron", "Schedules, by Gristmill"),
];

/// The versions of Spin whose locked applications the host reads.
const SPIN_COMPATIBILITY: &str = ">=3.6";
const PACKING: Duration = Duration::from_mins(5);

/// Builds the host, packs the plugins into `target/plugins` and installs them in
/// `into`, or where Spin of this user has its plugins.
pub(crate) fn run(workspace: &Workspace, into: Option<PathBuf>) -> Result<()> {
    let plugins = match into {
        Some(folder) => folder,
        None => default_folder()?,
    };
    build::host(workspace)?;
    let packages = workspace.target_dir.join("plugins");
    for (name, description) in PLUGINS {
        let package = pack(&workspace.gristmill(), name, description, &packages)?;
        install(&package, &workspace.gristmill(), name, &plugins)?;
        printer::note(format_args!(
            "installed {} ({})",
            plugins.join(name).join(name).display(),
            package.display()
        ));
    }
    Ok(())
}

/// Spin's own rule, less what package managers add to it.
fn default_folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from);
    let data = match (set("SPIN_DATA_DIR"), set("XDG_DATA_HOME"), home) {
        (Some(folder), _, _) => PathBuf::from(folder),
        (None, _, Some(home)) if cfg!(target_os = "macos") => {
            home.join("Library/Application Support/spin")
        }
        (None, Some(folder), _) => PathBuf::from(folder).join("spin"),
        (None, None, Some(home)) => home.join(".local/share/spin"),
        (None, None, None) => bail!("no HOME and no SPIN_DATA_DIR: say where with `--into`"),
    };
    Ok(data.join("plugins"))
}

/// `NAME.tar.gz` and `NAME.json` in `packages`; returns the manifest.
fn pack(host: &Path, name: &str, description: &str, packages: &Path) -> Result<PathBuf> {
    let folder = packages.join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    copy_binary(host, &folder.join(name))?;
    let archive = packages.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf")
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .arg(name);
    process::capture(&mut tar, PACKING)?
        .success()
        .context("cannot pack the plugin")?;
    let archive = fs::canonicalize(&archive)?;
    let manifest = json!({
        "name": name,
        "description": description,
        "version": env!("CARGO_PKG_VERSION"),
        "spinCompatibility": SPIN_COMPATIBILITY,
        "license": "Apache-2.0",
        "packages": [{
            "os": env::consts::OS,
            "arch": architecture(env::consts::ARCH),
            "url": file_url(&archive),
            "sha256": sha256(&archive)?,
        }],
    });
    let file = packages.join(format!("{name}.json"));
    fs::write(&file, format!("{manifest:#}\n")).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// What `spin plugins install --file` does with the package.
fn install(manifest: &Path, host: &Path, name: &str, plugins: &Path) -> Result<()> {
    let folder = plugins.join(name);
    let manifests = plugins.join("manifests");
    for folder in [&folder, &manifests] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    copy_binary(host, &folder.join(name))?;
    let installed = manifests.join(format!("{name}.json"));
    fs::copy(manifest, &installed).with_context(|| installed.display().to_string())?;
    Ok(())
}

/// Copied aside and renamed: the one that is there may be running.
fn copy_binary(from: &Path, to: &Path) -> Result<()> {
    let mut partial = OsString::from(to);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::copy(from, &partial)
        .and_then(|_| fs::rename(&partial, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Spin's word for the architecture.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        other => other,
    }
}

/// Every byte that a URL may not hold as it is becomes `%XX`.
fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(*byte));
            }
            // Writing to a String cannot fail.
            other => {
                let _ = write!(url, "%{other:02X}");
            }
        }
    }
    url
}

fn sha256(file: &Path) -> Result<String> {
    let mut reader = fs::File::open(file).with_context(|| file.display().to_string())?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    let digest = digest.finalize();
    Ok(digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_what_spins_installer_reads() {
        let dir = tempfile::tempdir().expect("a folder");
        let host = dir.path().join("host");
        fs::write(&host, "#!/bin/sh\necho \"$0\"\n").expect("written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&host, executable).expect("set");
        let packages = dir.path().join("a folder");
        let manifest = pack(&host, "trigger-sqs", "what it does", &packages).expect("packed");

        let text = fs::read_to_string(&manifest).expect("a manifest");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["name"], "trigger-sqs");
        assert_eq!(read["spinCompatibility"], SPIN_COMPATIBILITY);
        let package = &read["packages"][0];
        let url = package["url"].as_str().expect("a URL");
        assert!(url.starts_with("file:///") && url.ends_with("/a%20folder/trigger-sqs.tar.gz"));
        let archive = packages.join("trigger-sqs.tar.gz");
        assert_eq!(package["sha256"], sha256(&archive).expect("readable"));

        let unpacked = dir.path().join("unpacked");
        fs::create_dir(&unpacked).expect("a folder");
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(&archive).arg("-C").arg(&unpacked);
        assert!(tar.status().expect("tar").success());
        let said = Command::new(unpacked.join("trigger-sqs")).output();
        let said = String::from_utf8(said.expect("it runs").stdout).expect("text");
        assert!(said.trim_end().ends_with("/trigger-sqs"), "{said}");

        let plugins = dir.path().join("plugins");
        for _ in ["once", "again"] {
            install(&manifest, &host, "trigger-sqs", &plugins).expect("installed");
        }
        assert!(plugins.join("trigger-sqs/trigger-sqs").exists());
        let installed = fs::read_to_string(plugins.join("manifests/trigger-sqs.json"));
        assert_eq!(installed.expect("a manifest"), text);
    }

    #[test]
    fn a_digest_is_lower_case_hex() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("f");
        fs::write(&file, "abc").expect("written");
        assert_eq!(
            sha256(&file).expect("readable"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
