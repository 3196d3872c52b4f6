//! `scale-lab plot`: pictures of timelines that were written as CSV.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use scale_lab::timeline::Timeline;
use scale_lab::{csv, plot};

/// Draw timelines over each other: depth, age, replicas.
#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// Timelines, CSV; their names without `.csv` are the legend
    #[arg(required = true, num_args = 1..=4)]
    timelines: Vec<PathBuf>,

    /// Over the plot [default: the first name]
    #[arg(long)]
    title: Option<String>,

    /// The picture; what it is follows from `.svg` or `.png`
    #[arg(short, long, value_name = "FILE", default_value = "plot.svg")]
    output: PathBuf,
}

impl Plot {
    pub(crate) fn run(self) -> Result<()> {
        let named = |path: &PathBuf| -> Result<(String, Timeline)> {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the timeline `{}`", path.display()))?;
            let read = csv::read(&text);
            let timeline = read.with_context(|| format!("`{}`", path.display()))?;
            Ok((stem(path), timeline))
        };
        let runs = self
            .timelines
            .iter()
            .map(named)
            .collect::<Result<Vec<_>>>()?;
        let title = self.title.or_else(|| Some(runs.first()?.0.clone()));
        let runs: Vec<_> = runs
            .iter()
            .map(|(name, run)| (name.as_str(), run))
            .collect();
        let svg = plot::svg(&title.unwrap_or_default(), &runs);
        let picture = match self.output.extension().and_then(|end| end.to_str()) {
            Some("svg") => svg.into_bytes(),
            Some("png") => plot::png(&svg)?,
            _ => bail!(
                "`{}` is no picture that can be drawn: name it .svg or .png",
                self.output.display()
            ),
        };
        fs::write(&self.output, picture)
            .with_context(|| format!("cannot write `{}`", self.output.display()))
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
