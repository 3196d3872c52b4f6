//! What `gristmill check` found, as it stands in `--json`: docs/running.md
//! promises its shape. Pure: from interfaces and grants to rows and warnings.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::capability::{Capability, trigger_of};
use super::queue::QueueReport;
use crate::app::Component;
use crate::invoker::Interfaces;
use crate::manifest::CapabilitySet;

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) application: String,
    /// Whether `up` would start.
    pub(super) sound: bool,
    pub(super) components: Vec<ComponentReport>,
    pub(super) routes: Vec<RouteReport>,
    pub(super) queues: Vec<QueueReport>,
    pub(super) schedules: Vec<ScheduleReport>,
    pub(super) subscriptions: Vec<SubscriptionReport>,
    pub(super) backends: Vec<BackendReport>,
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ComponentReport {
    pub(super) id: String,
    pub(super) wasm: String,
    pub(super) dependencies: Vec<DependencyReport>,
    pub(super) exports: Vec<ExportReport>,
    pub(super) capabilities: Vec<CapabilityReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct DependencyReport {
    pub(super) name: String,
    pub(super) wasm: String,
    pub(super) export: Option<String>,
    /// The keys of the manifest whose grants it shares.
    pub(super) inherits: Vec<CapabilitySet>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ExportReport {
    pub(super) trigger: &'static str,
    pub(super) export: String,
}

/// A capability that a component imports, or is granted, or both.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct CapabilityReport {
    pub(super) capability: Capability,
    pub(super) status: Status,
    pub(super) interfaces: Vec<String>,
    pub(super) granted: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// Imported, and something of it is granted.
    Granted,
    /// Imported, and nothing of it is granted: calls will be refused.
    Missing,
    /// The same, and nothing to worry about: toolchains import it unasked, or
    /// the same wasm has it under another component id.
    NotGranted,
    /// Granted, and not imported.
    Unused,
    /// Imported, and every component has it.
    Always,
    /// Imported, and each call of it will fail, whatever the manifest says.
    NotOffered,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteReport {
    pub(super) route: String,
    pub(super) component: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ScheduleReport {
    pub(super) schedule: String,
    pub(super) component: String,
}

#[derive(Debug, Serialize)]
pub(super) struct SubscriptionReport {
    pub(super) channel: String,
    /// Without credentials.
    pub(super) server: String,
    pub(super) component: String,
}

#[derive(Debug, Serialize)]
pub(super) struct BackendReport {
    pub(super) name: String,
    /// Why it does not answer, if it does not.
    pub(super) problem: Option<String>,
}

/// A warning and its hint.
pub(super) type Warning = (String, String);

/// The components, and what about them deserves a second look.
pub(super) fn components<'a>(
    all: impl Iterator<Item = Interfaces<'a>>,
) -> (Vec<ComponentReport>, Vec<Warning>) {
    let all: Vec<Interfaces<'_>> = all.collect();
    let mut reports = Vec::new();
    let mut warnings = Vec::new();
    for each in &all {
        let twins = all.iter().map(|other| other.component);
        let twins = twins
            .filter(|twin| twin.source == each.component.source && twin.id != each.component.id);
        let rows = capabilities(each.component, each.imports, &twins.collect::<Vec<_>>());
        warnings.extend(rows.iter().filter_map(|row| warning(each.component, row)));
        reports.push(ComponentReport {
            id: each.component.id.to_string(),
            wasm: each.component.source.to_string(),
            dependencies: dependencies(each.component),
            exports: each
                .exports
                .iter()
                .map(|export| ExportReport {
                    trigger: trigger_of(export),
                    export: (*export).to_owned(),
                })
                .collect(),
            capabilities: rows,
        });
    }
    (reports, warnings)
}

fn dependencies(component: &Component) -> Vec<DependencyReport> {
    let all = component.dependencies.iter();
    all.map(|dependency| {
        let mut inherits = CapabilitySet::ALL.to_vec();
        inherits.retain(|set| dependency.inherits.has(*set));
        DependencyReport {
            name: dependency.name.to_string(),
            wasm: dependency.source.to_string(),
            export: dependency.export.clone(),
            inherits,
        }
    })
    .collect()
}

/// What `component` imports, and what it is granted, side by side. `twins` are
/// the same wasm under other ids.
fn capabilities(
    component: &Component,
    imports: &[String],
    twins: &[&Component],
) -> Vec<CapabilityReport> {
    let mut imported: BTreeMap<Capability, BTreeSet<&str>> = BTreeMap::new();
    for interface in imports {
        let capability = Capability::of(interface);
        imported.entry(capability).or_default().insert(interface);
    }
    // An entry for any scheme belongs to whatever is imported.
    let spoken_for: BTreeSet<String> = imported
        .keys()
        .flat_map(|capability| capability.granted(component))
        .collect();
    let unused = Capability::GRANTABLE
        .into_iter()
        .filter(|capability| !imported.contains_key(capability))
        .filter_map(|capability| {
            let mut granted = capability.granted(component);
            granted.retain(|grant| !spoken_for.contains(grant));
            (!granted.is_empty()).then(|| CapabilityReport {
                capability,
                status: Status::Unused,
                interfaces: Vec::new(),
                granted,
            })
        })
        .collect::<Vec<_>>();
    let used = imported.iter().map(|(&capability, interfaces)| {
        let granted = capability.granted(component);
        let status = if !capability.is_offered() {
            Status::NotOffered
        } else if !Capability::GRANTABLE.contains(&capability) {
            Status::Always
        } else if !granted.is_empty() {
            Status::Granted
        } else if capability.is_imported_unasked()
            || twins
                .iter()
                .any(|twin| !capability.granted(twin).is_empty())
        {
            Status::NotGranted
        } else {
            Status::Missing
        };
        CapabilityReport {
            capability,
            status,
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            granted,
        }
    });
    used.chain(unused).collect()
}

fn warning(component: &Component, row: &CapabilityReport) -> Option<Warning> {
    let id = &component.id;
    let what = format!(
        "component `{id}` imports {} (`{}`)",
        row.capability.label(),
        row.interfaces.join("`, `"),
    );
    match row.status {
        Status::Missing => Some((
            format!("{what}, and the manifest grants none: calls will be refused"),
            format!("in `[component.{id}]`: {}", row.capability.remedy()),
        )),
        Status::NotOffered => Some((
            format!("{what}, which this version of gristmill does not offer: calls will fail"),
            "nothing to do where the toolchain imports it and the component never calls it"
                .to_owned(),
        )),
        Status::Granted | Status::NotGranted | Status::Unused | Status::Always => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed_hosts::AllowedHosts;
    use crate::app::Wasm;
    use crate::files::FileGrants;
    use crate::names::{ComponentId, StoreLabel};

    fn component(id: &str, stores: &[&str], hosts: &[&str]) -> Component {
        let mut allowed_hosts = AllowedHosts::default();
        for host in hosts {
            allowed_hosts.push(host.parse().expect("host"));
        }
        Component {
            id: ComponentId::new(id).expect("id"),
            source: Wasm::File("one.wasm".into()),
            dependencies: Vec::new(),
            variables: BTreeMap::new(),
            environment: BTreeMap::new(),
            allowed_hosts,
            stores: stores
                .iter()
                .map(|s| StoreLabel::new(s).expect("label"))
                .collect(),
            max_value_bytes: BTreeMap::new(),
            databases: BTreeSet::new(),
            files: FileGrants::default(),
        }
    }

    const KEY_VALUE: &str = "fermyon:spin/key-value@2.0.0";
    const HTTP: &str = "wasi:http/outgoing-handler@0.2.0";

    fn statuses(component: &Component, imports: &[&str], twins: &[&Component]) -> Vec<String> {
        let imports: Vec<String> = imports.iter().map(|name| (*name).to_owned()).collect();
        capabilities(component, &imports, twins)
            .iter()
            .map(|row| format!("{} {:?}", row.capability.label(), row.status))
            .collect()
    }

    #[test]
    fn imports_and_grants_are_compared() {
        let granted = component("a", &["results"], &["https://x.test"]);
        for (imports, expected) in [
            (
                &[KEY_VALUE, HTTP][..],
                &["HTTP requests Granted", "key-value stores Granted"][..],
            ),
            (
                &[KEY_VALUE],
                &["key-value stores Granted", "HTTP requests Unused"],
            ),
            (
                &["fermyon:spin/redis@2.0.0", "wasi:io/poll@0.2.0"],
                &[
                    "Redis Missing",
                    "basics Always",
                    "HTTP requests Unused",
                    "key-value stores Unused",
                ],
            ),
            (
                &["wasi:sockets/tcp@0.2.0", KEY_VALUE, HTTP],
                &[
                    "HTTP requests Granted",
                    "key-value stores Granted",
                    "sockets NotGranted",
                ],
            ),
        ] {
            assert_eq!(statuses(&granted, imports, &[]), expected, "{imports:?}");
        }
    }

    #[test]
    fn a_host_for_any_scheme_is_used_by_whatever_is_imported() {
        let any = component("a", &[], &["*://x.test:*"]);
        assert_eq!(statuses(&any, &[HTTP], &[]), ["HTTP requests Granted"]);
    }

    #[test]
    fn what_one_id_of_a_wasm_has_its_others_need_not_have() {
        let (service, worker) = (component("a", &["s"], &[]), component("b", &[], &[]));
        let alone = statuses(&worker, &[KEY_VALUE], &[]);
        assert_eq!(alone, ["key-value stores Missing"]);
        let beside = statuses(&worker, &[KEY_VALUE], &[&service]);
        assert_eq!(beside, ["key-value stores NotGranted"]);
    }

    #[test]
    fn a_warning_names_component_interface_and_remedy() {
        let bare = component("a", &[], &[]);
        let rows = capabilities(&bare, &[KEY_VALUE.to_owned()], &[]);
        let (text, hint) = warning(&bare, &rows[0]).expect("a warning");
        assert_eq!(
            text,
            "component `a` imports key-value stores (`fermyon:spin/key-value@2.0.0`), and the \
             manifest grants none: calls will be refused"
        );
        assert_eq!(hint, "in `[component.a]`: key_value_stores = [\"LABEL\"]");
    }

    #[test]
    fn what_always_fails_is_warned_of_also_where_it_is_granted() {
        let granted = component("a", &[], &["mysql://db.test"]);
        let mysql = "fermyon:spin/mysql@2.0.0".to_owned();
        let rows = capabilities(&granted, &[mysql], &[]);
        let (text, _) = warning(&granted, &rows[0]).expect("a warning");
        assert_eq!(
            text,
            "component `a` imports MySQL (`fermyon:spin/mysql@2.0.0`), which this version of \
             gristmill does not offer: calls will fail"
        );
    }
}
