//! `gristmill build`: runs the build commands of components as their manifest has
//! them. Does not know what they do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use crate::cli::BuildArgs;
use crate::manifest::{Manifest, ManifestError};
use crate::names::ComponentId;
use crate::printer;
use crate::project::manifest_file;

/// What has to be run for one or more components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The components that it builds: the same wasm may have several ids.
    pub components: Vec<ComponentId>,
    /// What a shell runs, one after the other.
    pub commands: Vec<String>,
    /// Where.
    pub workdir: PathBuf,
}

/// Why nothing was built, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A component that does not exist.
    #[error("`--component {0}`: the manifest defines no such component")]
    UnknownComponent(ComponentId),
    /// A command that did not start.
    #[error(
        "cannot run `{command}` in `{}` for component `{component}`: {source}",
        workdir.display()
    )]
    Start {
        /// The component.
        component: ComponentId,
        /// The command.
        command: String,
        /// Where.
        workdir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command that failed.
    #[error("building component `{component}` failed: `{command}` ended with {status}")]
    Failed {
        /// The component.
        component: ComponentId,
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Builds what `args` say.
pub async fn run(args: BuildArgs) -> Result<(), BuildError> {
    let file = manifest_file(&args.from);
    let manifest = Manifest::load(&file)?;
    for id in &args.components {
        if !manifest.components.contains_key(id) {
            return Err(BuildError::UnknownComponent(id.clone()));
        }
    }
    let only: BTreeSet<ComponentId> = args.components.into_iter().collect();
    let base_dir = file.parent().unwrap_or(Path::new(""));
    let steps = steps(&manifest, base_dir, |id| {
        only.is_empty() || only.contains(id)
    });
    if steps.is_empty() {
        printer::line("nothing to build: no component has a `build.command`");
    }
    for step in &steps {
        step.run().await?;
    }
    Ok(())
}

/// The steps for the components that `wanted` picks, each command once.
pub fn steps(
    manifest: &Manifest,
    base_dir: &Path,
    wanted: impl Fn(&ComponentId) -> bool,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (id, component) in &manifest.components {
        let Some(build) = component.build.as_ref().filter(|_| wanted(id)) else {
            continue;
        };
        let commands = build.command.to_vec();
        let workdir = base_dir.join(&build.workdir);
        let same = |step: &&mut Step| step.commands == commands && step.workdir == workdir;
        match steps.iter_mut().find(same) {
            Some(step) => step.components.push(id.clone()),
            None => steps.push(Step {
                components: vec![id.clone()],
                commands,
                workdir,
            }),
        }
    }
    steps
}

impl Step {
    /// Runs its commands; what they print goes to stderr.
    pub async fn run(&self) -> Result<(), BuildError> {
        let component = || self.components[0].clone();
        let names: Vec<&str> = self.components.iter().map(ComponentId::as_str).collect();
        for command in &self.commands {
            printer::progress(format_args!("Building {}: {command}", names.join(", ")));
            let status = self.shell(command).await;
            let status = status.map_err(|source| BuildError::Start {
                component: component(),
                command: command.clone(),
                workdir: self.workdir.clone(),
                source,
            })?;
            if !status.success() {
                return Err(BuildError::Failed {
                    component: component(),
                    command: command.clone(),
                    status,
                });
            }
        }
        Ok(())
    }

    async fn shell(&self, command: &str) -> std::io::Result<ExitStatus> {
        use std::os::fd::AsFd;
        let stdout = std::io::stderr().as_fd().try_clone_to_owned()?;
        let mut shell = Command::new("sh");
        if !self.workdir.as_os_str().is_empty() {
            shell.current_dir(&self.workdir);
        }
        shell
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(stdout)
            .kill_on_drop(true)
            .status()
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_command_runs_once() {
        let text = r#"
            spin_manifest_version = 2
            [application]
            name = "t"
            [component.a]
            source = "a.wasm"
            build = { command = "make", workdir = "src" }
            [component.b]
            source = "a.wasm"
            build = { command = ["make"], workdir = "src" }
            [component.c]
            source = "c.wasm"
            build = { command = ["npm install", "npm run build"] }
            [component.d]
            source = "d.wasm"
        "#;
        let manifest = Manifest::parse(text, Path::new("spin.toml")).expect("a manifest");
        let found = steps(&manifest, Path::new("/app"), |_| true);
        let found: Vec<(usize, &str, &Path)> = found
            .iter()
            .map(|step| {
                (
                    step.components.len(),
                    step.commands[0].as_str(),
                    step.workdir.as_path(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (2, "make", Path::new("/app/src")),
                (1, "npm install", Path::new("/app/")),
            ]
        );
    }
}
