//! The figures as a table, and the page that keeps them.

use std::fmt::Write as _;
use std::path::Path;

/// What Gristmill is measured against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Native,
    Boto3,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native Rust",
            Self::Boto3 => "boto3",
        }
    }
}

/// One measured thing, by both hands.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) gristmill: f64,
    pub(crate) other: f64,
    pub(crate) peer: Peer,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn extend(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| measure | unit | Gristmill | the other | which | Gristmill / other |\n\
             |---|---|---:|---:|---|---:|\n",
        );
        for Figure {
            name,
            unit,
            gristmill,
            other,
            peer,
        } in &self.figures
        {
            let (own, theirs) = (number(*gristmill), number(*other));
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "| {name} | {unit} | {own} | {theirs} | {} | {:.2} |",
                peer.name(),
                gristmill / other
            );
        }
        table
    }

    /// Replaces what stands between the markers of the page.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        const BEGIN: &str = "<!-- figures: begin -->\n";
        const END: &str = "<!-- figures: end -->";
        let page = std::fs::read_to_string(path)?;
        let (head, rest) = page.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
        let (_, tail) = rest.split_once(END).ok_or_else(|| missing(END))?;
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, model)| model);
        let table = self.table();
        std::fs::write(
            path,
            format!("{head}{BEGIN}{cpus} processors, {model}.\n\n{table}{END}{tail}"),
        )
    }
}

fn missing(marker: &str) -> std::io::Error {
    std::io::Error::other(format!("the page has no `{}`", marker.trim_end()))
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    } else {
        format!("{value:.1}")
    }
}
