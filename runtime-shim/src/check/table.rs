//! The report as lines for people: columns by spaces, one item a line, nothing
//! that needs colour or a wide terminal.

use std::fmt::Write;

use super::capability::Capability;
use super::report::{CapabilityReport, ComponentReport, DependencyReport, Report, Status};
use crate::manifest::CapabilitySet;

/// The whole report.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for component in &report.components {
        lines.push(format!("component {}", component.id));
        lines.push(format!("  wasm {}", component.wasm));
        lines.extend(component.dependencies.iter().map(dependency));
        lines.extend(aligned(&rows(component)));
        lines.push(String::new());
    }
    for route in &report.routes {
        lines.push(format!("route {} -> {}", route.route, route.component));
    }
    for queue in &report.queues {
        lines.extend(queue.lines());
    }
    for cron in &report.schedules {
        lines.push(format!("schedule {} -> {}", cron.schedule, cron.component));
    }
    for redis in &report.subscriptions {
        let (channel, server) = (&redis.channel, &redis.server);
        lines.push(format!(
            "channel {channel} of {server} -> {}",
            redis.component
        ));
    }
    for backend in &report.backends {
        lines.push(match &backend.problem {
            None => format!("backend {} answers", backend.name),
            Some(problem) => format!("backend {problem}"),
        });
    }
    if report.sound {
        let name = &report.application;
        lines.push(format!(
            "application `{name}` is sound{}; addresses and remote queues were not tried",
            match report.warnings.len() {
                0 => String::new(),
                1 => ", with 1 warning".to_owned(),
                many => format!(", with {many} warnings"),
            }
        ));
    }
    lines
}

fn dependency(dependency: &DependencyReport) -> String {
    let keys: Vec<&str> = dependency.inherits.iter().map(|key| key.as_str()).collect();
    let inherits = match keys.len() {
        0 => "nothing".to_owned(),
        all if all == CapabilitySet::ALL.len() => "everything".to_owned(),
        _ => keys.join(" "),
    };
    let (name, wasm) = (&dependency.name, &dependency.wasm);
    format!("  dependency {name} {wasm}, inherits {inherits}")
}

/// Each cell has an item on each of its lines.
type Row = [Vec<String>; 4];

fn rows(component: &ComponentReport) -> Vec<Row> {
    let cell = |text: &str| vec![text.to_owned()];
    let exports = component.exports.iter().map(|export| {
        [
            cell("exports"),
            cell(export.trigger),
            cell(&export.export),
            Vec::new(),
        ]
    });
    let capabilities = component.capabilities.iter().map(|row| {
        [
            cell(match row.status {
                Status::Missing | Status::NotOffered => "MISSING",
                Status::Unused => "unused",
                Status::Granted | Status::NotGranted | Status::Always => "imports",
            }),
            cell(row.capability.label()),
            interfaces(row),
            grants(row),
        ]
    });
    exports.chain(capabilities).collect()
}

/// Of the basics, the packages will do.
fn interfaces(row: &CapabilityReport) -> Vec<String> {
    if row.interfaces.is_empty() {
        return vec!["(not imported)".to_owned()];
    }
    if row.capability != Capability::Basics {
        return row.interfaces.clone();
    }
    let package = |name: &String| name.split('/').next().map(str::to_owned);
    let mut packages: Vec<String> = row.interfaces.iter().filter_map(package).collect();
    packages.dedup();
    vec![packages.join(" ")]
}

fn grants(row: &CapabilityReport) -> Vec<String> {
    match row.status {
        Status::Granted | Status::Unused => row.granted.clone(),
        Status::Missing => vec![format!("none: {}", row.capability.remedy())],
        Status::NotGranted => vec!["none".to_owned()],
        Status::Always => vec!["always".to_owned()],
        Status::NotOffered => vec!["not offered".to_owned()],
    }
}

fn aligned(rows: &[Row]) -> Vec<String> {
    let header = ["", "CAPABILITY", "INTERFACE", "GRANTED"].map(|text| vec![text.to_owned()]);
    let rows: Vec<&Row> = std::iter::once(&header).chain(rows).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().flat_map(|row| &row[column]);
            cells.map(|item| item.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut lines = Vec::new();
    for row in rows {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..height {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths.iter().copied()) {
                let item = cell.get(at).map_or("", String::as_str);
                // Writing to a String cannot fail.
                let _ = write!(line, "  {item:<width$}");
            }
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::{ExportReport, RouteReport};
    use super::*;

    fn row(
        capability: Capability,
        status: Status,
        interfaces: &[&str],
        granted: &[&str],
    ) -> CapabilityReport {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CapabilityReport {
            capability,
            status,
            interfaces: owned(interfaces),
            granted: owned(granted),
        }
    }

    #[test]
    fn the_table_reads_without_colour() {
        let report = Report {
            application: "mill".to_owned(),
            sound: true,
            components: vec![ComponentReport {
                id: "a".to_owned(),
                wasm: "a.wasm".to_owned(),
                dependencies: vec![DependencyReport {
                    name: "n:p/i".to_owned(),
                    wasm: "b.wasm".to_owned(),
                    export: None,
                    inherits: vec![CapabilitySet::KeyValueStores, CapabilitySet::Variables],
                }],
                exports: vec![ExportReport {
                    trigger: "queue messages",
                    export: "handle-queue-message".to_owned(),
                }],
                capabilities: vec![
                    row(
                        Capability::KeyValue,
                        Status::Granted,
                        &[
                            "wasi:keyvalue/atomics@0.2.0-draft2",
                            "wasi:keyvalue/store@0.2.0-draft2",
                        ],
                        &["one", "two", "three"],
                    ),
                    row(
                        Capability::Redis,
                        Status::Missing,
                        &["fermyon:spin/redis@2.0.0"],
                        &[],
                    ),
                    row(
                        Capability::Basics,
                        Status::Always,
                        &[
                            "wasi:cli/exit@0.2.0",
                            "wasi:cli/stderr@0.2.0",
                            "wasi:io/poll@0.2.0",
                        ],
                        &[],
                    ),
                    row(Capability::Sqlite, Status::Unused, &[], &["accounts"]),
                ],
            }],
            routes: vec![RouteReport {
                route: "/a".to_owned(),
                component: "a".to_owned(),
            }],
            warnings: vec!["a warning".to_owned()],
            ..Report::default()
        };
        let expected = "\
component a
  wasm a.wasm
  dependency n:p/i b.wasm, inherits key_value_stores variables
           CAPABILITY        INTERFACE                           GRANTED
  exports  queue messages    handle-queue-message
  imports  key-value stores  wasi:keyvalue/atomics@0.2.0-draft2  one
                             wasi:keyvalue/store@0.2.0-draft2    two
                                                                 three
  MISSING  Redis             fermyon:spin/redis@2.0.0            none: allowed_outbound_hosts = [\"redis://HOST\"]
  imports  basics            wasi:cli wasi:io                    always
  unused   SQLite databases  (not imported)                      accounts

route /a -> a
application `mill` is sound, with 1 warning; addresses and remote queues were not tried";
        assert_eq!(lines(&report).join("\n"), expected);
    }
}
