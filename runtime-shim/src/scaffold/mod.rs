//! `gristmill new`: from a template to a plugin that builds, runs and has a
//! test. It joins template, values and folder; the templates stand in
//! `templates/`, and Spin installs the same ones.

mod folder;
mod render;
mod templates;

use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use crate::cli::NewArgs;
use crate::names::PluginName;
use crate::printer;

pub use folder::FolderError;
pub use render::RenderError;
use render::render;
use templates::Template;

/// What calls the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests.
    Http,
    /// Messages, one by one.
    Queue,
    /// Messages, many at a time.
    Batch,
    /// The clock.
    Cron,
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "http" => Ok(Self::Http),
            "queue" => Ok(Self::Queue),
            "cron" => Ok(Self::Cron),
            "batch" => Ok(Self::Batch),
            _ => Err("expected `http`, `queue`, `batch` or `cron`"),
        }
    }
}

/// Why there is no new plugin.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The description of a template.
    #[error("template `{template}` has a malformed description: {source}")]
    Metadata {
        /// Its id.
        template: &'static str,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// The text of a template.
    #[error("template `{template}`, file `{file}`: {source}")]
    Render {
        /// Its id.
        template: &'static str,
        /// The file.
        file: &'static str,
        /// What is wrong.
        source: RenderError,
    },
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Makes the folder and says what can be done with it.
pub fn run(args: &NewArgs) -> Result<(), ScaffoldError> {
    let name = args.name.as_str();
    let target = args.into.clone().unwrap_or_else(|| PathBuf::from(name));
    let files = rendered(templates::of(args.trigger), &args.name)?;
    folder::create(&target, &files)?;
    printer::line(format_args!("Created {}", target.display()));
    for next in [
        format!("cd {}", target.display()).as_str(),
        "cargo test",
        "cargo build --release --target wasm32-wasip2",
        "gristmill up",
    ] {
        printer::line(format_args!("  {next}"));
    }
    Ok(())
}

/// What of `metadata/spin-template.toml` matters here.
#[derive(Deserialize)]
struct Metadata {
    parameters: std::collections::BTreeMap<String, Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    default: String,
}

/// The files of a plugin: each path with its text.
fn rendered(
    template: &'static Template,
    name: &PluginName,
) -> Result<Vec<(&'static str, String)>, ScaffoldError> {
    let metadata: Metadata =
        toml::from_str(template.metadata).map_err(|source| ScaffoldError::Metadata {
            template: template.id,
            source,
        })?;
    // Whoever wants other values than the defaults edits what was made.
    let value = |parameter: &str| match parameter {
        "project-name" => Some(name.as_str()),
        _ => metadata
            .parameters
            .get(parameter)
            .map(|parameter| parameter.default.as_str()),
    };
    let files = template.files.iter().map(|(file, text)| {
        let text = render(text, value).map_err(|source| ScaffoldError::Render {
            template: template.id,
            file,
            source,
        })?;
        // Spin strips this ending, too: under its own name, cargo would take
        // the file for a package.
        Ok((file.strip_suffix(".tmpl").unwrap_or(file), text))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [Kind::Http, Kind::Queue, Kind::Batch, Kind::Cron];

    fn files(kind: Kind) -> Vec<(&'static str, String)> {
        let name = PluginName::new("my-first-plugin").expect("name");
        rendered(templates::of(kind), &name).unwrap_or_else(|error| panic!("{error}"))
    }

    fn file(files: &[(&'static str, String)], name: &str) -> String {
        let found = files.iter().find(|(file, _)| *file == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    }

    #[test]
    fn every_template_renders_whole() {
        for kind in KINDS {
            let files = files(kind);
            for (name, text) in &files {
                assert!(
                    !text.contains("{{") && !text.contains("}}"),
                    "{name}: {text}"
                );
                assert!(text.ends_with('\n') && !name.ends_with(".tmpl"), "{name}");
            }
            let readme = file(&files, "README.md");
            assert!(readme.lines().count() <= 10, "{readme}");
            assert!(file(&files, ".gitignore").contains("/target/"));
        }
    }

    #[test]
    fn manifest_and_package_agree_on_the_name() {
        for kind in KINDS {
            let files = files(kind);
            let package: toml::Table = file(&files, "Cargo.toml").parse().expect("Cargo.toml");
            assert_eq!(package["package"]["name"].as_str(), Some("my-first-plugin"));
            let description = package["package"]["description"].as_str();
            assert!(description.is_some_and(|text| !text.is_empty()));
            let manifest = file(&files, "spin.toml");
            crate::manifest::Manifest::parse(&manifest, std::path::Path::new("spin.toml"))
                .unwrap_or_else(|error| panic!("{error}"));
            let wasm = "source = \"target/wasm32-wasip2/release/my_first_plugin.wasm\"";
            assert!(manifest.contains(wasm), "{manifest}");
        }
    }

    #[test]
    fn the_versions_are_those_of_this_repository() {
        let workspace = include_str!("../../../Cargo.toml");
        let workspace: toml::Table = workspace.parse().expect("workspace");
        let ours = &workspace["workspace"]["dependencies"];
        for kind in KINDS {
            let package: toml::Table = file(&files(kind), "Cargo.toml").parse().expect("package");
            let edition = &workspace["workspace"]["package"]["edition"];
            assert_eq!(&package["package"]["edition"], edition);
            let targets = package["target"].as_table().expect("targets");
            let wasm = targets.values().map(|target| &target["dependencies"]);
            for dependencies in package.get("dependencies").into_iter().chain(wasm) {
                for (name, dependency) in dependencies.as_table().expect("dependencies") {
                    let version = |of: &toml::Value| of.get("version").unwrap_or(of).clone();
                    assert_eq!(version(dependency), version(&ours[name]), "{name}");
                }
            }
        }
    }

    #[test]
    fn the_contracts_are_those_of_this_repository() {
        let sqs = include_str!("../../../wit/spin-sqs.wit");
        assert_eq!(file(&files(Kind::Queue), "wit/spin-sqs.wit"), sqs);
        let batch = include_str!("../../../wit/gristmill-queue.wit");
        assert_eq!(file(&files(Kind::Batch), "wit/gristmill-queue.wit"), batch);
        let cron = include_str!("../../../wit/spin-cron.wit");
        assert_eq!(file(&files(Kind::Cron), "wit/spin-cron.wit"), cron);
    }

    #[test]
    fn other_kinds_are_refused() {
        assert!("smoke".parse::<Kind>().is_err());
    }
}
