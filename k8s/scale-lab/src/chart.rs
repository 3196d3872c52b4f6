//! Which workload of which chart a scenario is about: renders the chart with the real `helm`,
//! or reads what was rendered before.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::scaled_object::{self, CpuScaled, ReadError, Rendered, Worker};

/// Section `[chart]` of a scenario. Paths are seen from the scenario's folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chart {
    /// A file with the output of `helm template`. Replaces `path`.
    pub rendered: Option<PathBuf>,
    /// The chart's folder, rendered by `helm` as the release `gristmill`.
    pub path: Option<PathBuf>,
    /// Files of values, the last one counts.
    pub values_files: Vec<PathBuf>,
    /// Values on top of them, as in a file of values.
    pub values: toml::Table,
    /// Files of values on top of these; not in the scenario's file.
    #[serde(skip)]
    pub more_values_files: Vec<PathBuf>,
    /// The queue whose consumers are scaled: the last part of its URL.
    pub queue: Option<String>,
    /// Instead of `queue`: the Deployment or `SpinApp` that is scaled by CPU (with `[http]`).
    pub service: Option<String>,
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Nothing to read.
    #[error(
        "the scenario names no chart: set `chart.path` or `chart.rendered`, or pass --rendered FILE"
    )]
    NoChart,
    /// The file does not open.
    #[error(
        "cannot read the rendered chart `{0}`: {1}; make it with `helm template gristmill k8s/chart`"
    )]
    Unreadable(PathBuf, std::io::Error),
    /// `helm` does not start.
    #[error("cannot run `{0}`: {1}; install helm, name it with --helm, or pass --rendered FILE")]
    NoHelm(PathBuf, std::io::Error),
    /// `helm` refused.
    #[error("`helm template` of `{chart}` failed: {said}")]
    Helm {
        /// The chart.
        chart: PathBuf,
        /// What helm said.
        said: String,
    },
    /// The values cannot be handed over.
    #[error("`chart.values` cannot be written as JSON: {0}")]
    Values(#[from] serde_json::Error),
    /// What was rendered cannot be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has no such workload.
    #[error("the chart scales nothing for {kind} `{name}`; it has: {found}")]
    Absent {
        /// `queue` or `service`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        found: String,
    },
    /// Nothing is named.
    #[error("`chart.{0}` is missing: name one of the chart")]
    Unnamed(&'static str),
}

impl Chart {
    /// Sees paths from that folder.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        let paths = self
            .rendered
            .iter_mut()
            .chain(&mut self.path)
            .chain(&mut self.values_files);
        for path in paths {
            *path = folder.join(&*path);
        }
    }

    /// The consumers of `queue`. `helm` is the program that renders.
    ///
    /// # Errors
    ///
    /// When the chart cannot be rendered or read, or has no such queue.
    pub fn worker(&self, helm: &Path) -> Result<Worker, ChartError> {
        let name = self.queue.as_deref().ok_or(ChartError::Unnamed("queue"))?;
        let rendered = self.read(helm)?;
        let found = names(rendered.workers.iter().map(|worker| worker.queue.as_str()));
        rendered
            .workers
            .into_iter()
            .find(|worker| worker.queue == name)
            .ok_or_else(|| ChartError::Absent {
                kind: "queue",
                name: name.to_owned(),
                found,
            })
    }

    /// The service that is scaled by CPU.
    ///
    /// # Errors
    ///
    /// When the chart cannot be rendered or read, or has no such service.
    pub fn service(&self, helm: &Path) -> Result<CpuScaled, ChartError> {
        let name = self
            .service
            .as_deref()
            .ok_or(ChartError::Unnamed("service"))?;
        let rendered = self.read(helm)?;
        let found = names(rendered.http.iter().map(|service| service.name.as_str()));
        rendered
            .http
            .into_iter()
            .find(|service| service.name == name)
            .ok_or_else(|| ChartError::Absent {
                kind: "service",
                name: name.to_owned(),
                found,
            })
    }

    fn read(&self, helm: &Path) -> Result<Rendered, ChartError> {
        let yaml = match (&self.rendered, &self.path) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(|error| ChartError::Unreadable(file.clone(), error))?,
            (None, Some(chart)) => self.render(chart, helm)?,
            (None, None) => return Err(ChartError::NoChart),
        };
        Ok(scaled_object::read(&yaml)?)
    }

    fn render(&self, chart: &Path, helm: &Path) -> Result<String, ChartError> {
        let values = serde_json::to_vec(&self.values)?;
        let mut command = Command::new(helm);
        command.args(["template", "gristmill"]).arg(chart);
        for file in &self.values_files {
            command.arg("--values").arg(file);
        }
        // JSON is YAML.
        command.args(["--values", "-"]);
        for file in &self.more_values_files {
            command.arg("--values").arg(file);
        }
        let no_helm = |error| ChartError::NoHelm(helm.to_owned(), error);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(no_helm)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Helm that ends before it has read says why.
            let _ = stdin.write_all(&values);
        }
        let output = child.wait_with_output().map_err(no_helm)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = said.collect::<Vec<_>>().join("; ");
        Err(ChartError::Helm {
            chart: chart.to_owned(),
            said,
        })
    }
}

/// The name that the chart's `queues` has for a worker: its Deployment is called
/// `RELEASE-worker-NAME`. Another chart's worker goes by its queue.
pub fn queue_key(worker: &Worker) -> &str {
    let name = worker.name.split_once("-worker-").map(|(_, key)| key);
    name.unwrap_or(&worker.queue)
}

fn names<'a>(found: impl Iterator<Item = &'a str>) -> String {
    let found: Vec<_> = found.map(|name| format!("`{name}`")).collect();
    if found.is_empty() {
        "none".to_owned()
    } else {
        found.join(", ")
    }
}
