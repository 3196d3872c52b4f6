//! The commands: each reads its files, calls the library and prints.

pub(crate) mod live;
pub(crate) mod plot;
pub(crate) mod simulate;
pub(crate) mod tune;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use scale_lab::scenario::Scenario;

/// Which scenario, and which chart.
#[derive(Args)]
pub(crate) struct Input {
    /// The scenario, a TOML file; k8s/scale-lab/scenarios has some.
    pub(crate) scenario: PathBuf,
    /// The output of `helm template`, in place of the chart the scenario names.
    #[arg(long, value_name = "FILE")]
    rendered: Option<PathBuf>,
    /// Values for the chart, on top of the scenario's; `tune` makes such files.
    #[arg(long, value_name = "FILE", conflicts_with = "rendered")]
    values: Vec<PathBuf>,
    /// The program that renders the chart.
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "GRISTMILL_TEST_HELM",
        default_value = "helm"
    )]
    pub(crate) helm: PathBuf,
    /// In place of the scenario's seed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many times the scenario's load.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    load: f64,
}

impl Input {
    pub(crate) fn read(&self) -> Result<Scenario> {
        let mut scenario = Scenario::read(&self.scenario)?;
        if let Some(rendered) = &self.rendered {
            scenario.chart.rendered = Some(rendered.clone());
        }
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.chart.more_values_files.clone_from(&self.values);
        scenario.trace.multiply(self.load)?;
        scenario.check()?;
        Ok(scenario)
    }
}

/// Writes a file that was asked for.
pub(crate) fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(file, content).with_context(|| format!("cannot write `{}`", file.display()))
}

/// A line of the result.
#[expect(clippy::print_stdout, reason = "this is the printer")]
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}

/// A line about the way there.
#[expect(clippy::print_stderr, reason = "this is the printer")]
pub(crate) fn tell(line: impl Display) {
    eprintln!("{line}");
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_dir(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
