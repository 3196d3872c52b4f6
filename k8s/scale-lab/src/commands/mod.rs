//! Commands about a scenario: what they share.

pub(crate) mod simulate;
pub(crate) mod tune;

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
}

impl Input {
    pub(crate) fn read(&self) -> Result<Scenario> {
        let mut scenario = Scenario::read(&self.scenario)?;
        if let Some(rendered) = &self.rendered {
            scenario.chart.rendered = Some(rendered.clone());
        }
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        Ok(scenario)
    }
}

/// Writes a file that was asked for.
pub(crate) fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(file, content).with_context(|| format!("cannot write `{}`", file.display()))
}
