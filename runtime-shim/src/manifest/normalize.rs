//! What a manifest may say in several ways, said in one: components that stand
//! in a trigger get an id, dependencies say themselves what they inherit and
//! where their wasm is. The ids are those that Spin gives.

use std::collections::BTreeMap;

use super::dependencies::{self, DependenciesError, DependencyName, DependencySource, Inherits};
use super::{Component, Manifest, ManifestError, Source};
use crate::names::ComponentId;

/// Puts `manifest` into that one form.
pub(super) fn normalize(manifest: &mut Manifest) -> Result<(), ManifestError> {
    for (kind, triggers) in &mut manifest.triggers {
        let ids = trigger_ids(kind, triggers);
        for (index, (trigger, id)) in triggers.iter_mut().zip(ids).enumerate() {
            let specs = take_inline(trigger, &id, &mut manifest.components);
            specs.map_err(|reason| ManifestError::Trigger {
                kind: kind.clone(),
                number: index + 1,
                reason,
            })?;
        }
    }
    for (id, component) in &mut manifest.components {
        let checked = dependencies::check(&component.dependencies);
        checked
            .and_then(|()| spread_inheritance(component))
            .map_err(|source| refused(id, source))?;
    }
    point_at_sources(manifest)
}

fn refused(id: &ComponentId, source: DependenciesError) -> ManifestError {
    ManifestError::Dependencies {
        component: id.clone(),
        source,
    }
}

/// The ids of the triggers of type `kind`: given, or made up.
fn trigger_ids(kind: &str, triggers: &[toml::Table]) -> Vec<String> {
    let text = |table: &toml::Table, key: &str| {
        let text = table.get(key).and_then(toml::Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut taken: Vec<String> = triggers.iter().filter_map(|t| text(t, "id")).collect();
    let mut ids = Vec::new();
    for trigger in triggers {
        if let Some(id) = text(trigger, "id") {
            ids.push(id);
            continue;
        }
        let natural = text(trigger, "component").map(|id| format!("{id}-{kind}-trigger"));
        let mut id = natural.unwrap_or_default();
        let mut number = 0;
        while id.is_empty() || taken.contains(&id) {
            number += 1;
            id = format!("{kind}-trigger{number}");
        }
        taken.push(id.clone());
        ids.push(id);
    }
    ids
}

/// Moves the components that stand in `trigger` to `components`. What remains
/// of `components = { … }` says nothing to any trigger.
fn take_inline(
    trigger: &mut toml::Table,
    trigger_id: &str,
    components: &mut BTreeMap<ComponentId, Component>,
) -> Result<(), String> {
    let others = match trigger.remove("components") {
        None => Vec::new(),
        Some(toml::Value::Table(roles)) => roles.into_iter().flat_map(|(_, s)| many(s)).collect(),
        Some(other) => return Err(format!("`components` is a table, not {}", other.type_str())),
    };
    let alone = usize::from(trigger.contains_key("component")) + others.len() < 2;
    let natural = format!("{trigger_id}-component");
    let natural = alone.then_some(natural.as_str());
    if let Some(toml::Value::Table(spec)) = trigger.get("component") {
        let id = define(spec.clone(), natural, components)?;
        let reference = toml::Value::String(id.to_string());
        trigger.insert("component".to_owned(), reference);
    }
    for spec in others {
        match spec {
            toml::Value::Table(spec) => {
                define(spec, natural, components)?;
            }
            toml::Value::String(id) if components.contains_key(id.as_str()) => {}
            other => {
                return Err(format!(
                    "`components` holds {other}, which is neither a component nor the id of one"
                ));
            }
        }
    }
    Ok(())
}

/// One, or a list.
fn many(value: toml::Value) -> Vec<toml::Value> {
    match value {
        toml::Value::Array(values) => values,
        one => vec![one],
    }
}

fn define(
    spec: toml::Table,
    natural: Option<&str>,
    components: &mut BTreeMap<ComponentId, Component>,
) -> Result<ComponentId, String> {
    let component: Component = spec
        .try_into()
        .map_err(|e: toml::de::Error| format!("the component in it: {}", e.message()))?;
    let mut id = natural.and_then(|id| ComponentId::new(id).ok());
    let mut number = 0;
    loop {
        if let Some(id) = id.take_if(|id| !components.contains_key(id)) {
            components.insert(id.clone(), component);
            return Ok(id);
        }
        number += 1;
        id = ComponentId::new(&format!("inline-component{number}")).ok();
    }
}

/// `dependencies_inherit_configuration` is said by each dependency.
fn spread_inheritance(component: &mut Component) -> Result<(), DependenciesError> {
    let Some(all) = component.dependencies_inherit_configuration else {
        return Ok(());
    };
    for (name, dependency) in &mut component.dependencies {
        if dependency.inherits.is_some() {
            return Err(DependenciesError::InheritTwice { name: name.clone() });
        }
        if all {
            dependency.inherits = Some(Inherits::All);
        }
    }
    Ok(())
}

/// `{ component = "…" }` becomes the source of that component.
fn point_at_sources(manifest: &mut Manifest) -> Result<(), ManifestError> {
    let mut found: Vec<(ComponentId, DependencyName, Source)> = Vec::new();
    for (id, component) in &manifest.components {
        for (name, dependency) in &component.dependencies {
            if let DependencySource::Component(target) = &dependency.source {
                let source = source_of(manifest, name, target);
                let source = source.map_err(|source| refused(id, source))?;
                found.push((id.clone(), name.clone(), source));
            }
        }
    }
    for (id, name, source) in found {
        let component = manifest.components.get_mut(&id);
        let dependency = component.and_then(|component| component.dependencies.get_mut(&name));
        if let Some(dependency) = dependency {
            dependency.source = DependencySource::Wasm(source);
        }
    }
    Ok(())
}

fn source_of(
    manifest: &Manifest,
    name: &DependencyName,
    target: &ComponentId,
) -> Result<Source, DependenciesError> {
    let Some(component) = manifest.components.get(target) else {
        return Err(DependenciesError::UnknownComponent {
            name: name.clone(),
            target: target.clone(),
        });
    };
    let own = own_grants(component);
    if own.is_empty() {
        return Ok(component.source.clone());
    }
    Err(DependenciesError::OwnGrants {
        name: name.clone(),
        target: target.clone(),
        keys: format!("`{}`", own.join("`, `")),
    })
}

/// What would be lost if `component` became a part of another one.
fn own_grants(component: &Component) -> Vec<&'static str> {
    [
        ("ai_models", component.ai_models.is_empty()),
        (
            "allowed_outbound_hosts",
            component.allowed_outbound_hosts.is_empty(),
        ),
        ("dependencies", component.dependencies.is_empty()),
        ("environment", component.environment.is_empty()),
        ("files", component.files.is_empty()),
        ("key_value_stores", component.key_value_stores.is_empty()),
        ("sqlite_databases", component.sqlite_databases.is_empty()),
        ("variables", component.variables.is_empty()),
    ]
    .into_iter()
    .filter_map(|(key, empty)| (!empty).then_some(key))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::CapabilitySet;

    const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"t\"\n";

    fn parse(tail: &str) -> Result<Manifest, String> {
        let text = format!("{HEAD}{tail}");
        Manifest::parse(&text, Path::new("spin.toml")).map_err(|e| e.to_string())
    }

    fn ids(manifest: &Manifest) -> Vec<&str> {
        manifest
            .components
            .keys()
            .map(ComponentId::as_str)
            .collect()
    }

    #[test]
    fn components_in_triggers_get_the_ids_that_spin_gives() {
        let manifest = parse(
            "[component.a]\nsource = \"a.wasm\"\n\
             [[trigger.http]]\nroute = \"/a\"\ncomponent = \"a\"\n\
             [[trigger.http]]\nroute = \"/b\"\ncomponent = { source = \"b.wasm\" }\n\
             [[trigger.http]]\nroute = \"/c\"\nid = \"third\"\ncomponent = { source = \"c.wasm\" }\n\
             [[trigger.cron]]\nid = \"not a word\"\ncron_expression = \"x\"\n\
             component = { source = \"d.wasm\" }\n\
             [[trigger.sqs]]\nqueue_url = \"u\"\ncomponent = { source = \"e.wasm\" }\n\
             components = { one = \"a\", many = [{ source = \"f.wasm\" }, \"a\"] }\n",
        );
        let manifest = manifest.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            ids(&manifest),
            [
                "a",
                "http-trigger1-component",
                "inline-component1",
                "inline-component2",
                "inline-component3",
                "third-component"
            ]
        );
        let http = manifest.http_triggers().unwrap_or_else(|e| panic!("{e}"));
        let http: Vec<_> = http
            .iter()
            .map(|trigger| trigger.component.as_str())
            .collect();
        assert_eq!(http, ["a", "http-trigger1-component", "third-component"]);
        let sqs = manifest.sqs_triggers().unwrap_or_else(|e| panic!("{e}"));
        let Source::File(file) = &manifest.components[&sqs[0].component].source else {
            panic!("a file")
        };
        assert_eq!(file, Path::new("e.wasm"));
    }

    #[test]
    fn inheritance_is_said_by_each_dependency() {
        for (component, dependency, expected) in [
            ("", "", None),
            ("true", "", Some(Inherits::All)),
            ("false", "", None),
            ("", "true", Some(Inherits::All)),
            ("", "false", Some(Inherits::NOTHING)),
            (
                "",
                "[\"variables\"]",
                Some(Inherits::Some([CapabilitySet::Variables].into())),
            ),
        ] {
            let mut text = "[component.a]\nsource = \"a.wasm\"\n".to_owned();
            if !component.is_empty() {
                text += "dependencies_inherit_configuration = ";
                text += component;
                text += "\n";
            }
            text += "[component.a.dependencies]\n\"n:p\" = { path = \"d.wasm\"";
            if !dependency.is_empty() {
                text += ", inherit_configuration = ";
                text += dependency;
            }
            let manifest = parse(&format!("{text} }}\n")).unwrap_or_else(|e| panic!("{e}"));
            let found = manifest.components["a"].dependencies.values().next();
            let found = found.expect("a dependency");
            assert_eq!(found.inherits, expected, "{component} {dependency}");
        }
    }

    #[test]
    fn a_dependency_may_be_another_component() {
        let manifest = parse(
            "[component.a]\nsource = \"a.wasm\"\n\
             [component.a.dependencies]\nplain = { component = \"b\", export = \"n:p/i\" }\n\
             [component.b]\nsource = \"b.wasm\"\nbuild = { command = \"make\" }\n",
        );
        let manifest = manifest.unwrap_or_else(|e| panic!("{e}"));
        let (name, dependency) = manifest.components["a"]
            .dependencies
            .first_key_value()
            .expect("a dependency");
        assert_eq!(name.to_string(), "plain");
        assert_eq!(dependency.export.as_deref(), Some("n:p/i"));
        let DependencySource::Wasm(Source::File(file)) = &dependency.source else {
            panic!("a file")
        };
        assert_eq!(file, Path::new("b.wasm"));
    }

    #[test]
    fn refuses_with_place_and_value() {
        let with = |dependencies: &str| {
            format!(
                "[component.a]\nsource = \"a.wasm\"\n[component.a.dependencies]\n{dependencies}\n"
            )
        };
        for (tail, expected) in [
            (with("\"n:p/\" = { path = \"d\" }"), "`n:p/` is not the name of a dependency"),
            (with("\"n:p@1\" = { path = \"d\" }"), "`1` is not a version such as 1.2.3"),
            (with("\"n:p\" = { file = \"d\" }"), "unknown field `file`"),
            (with("\"n:p\" = {}"), "a dependency has either `path`, or `component`"),
            (with("\"n:p\" = { path = \"d\", url = \"u\" }"), "a dependency has either `path`"),
            (with("\"n:p\" = { url = \"u\" }"), "a dependency has either `path`"),
            (with("\"n:p\" = 1"), "a table or a version, not integer"),
            (
                with("\"n:p\" = { path = \"d\", inherit_configuration = [\"stores\"] }"),
                "unknown variant `stores`, expected one of `ai_models`",
            ),
            (
                with("\"n:p\" = { path = \"d\", inherit_configuration = \"all\" }"),
                "inherit_configuration is `true`, `false` or a list, not string",
            ),
            (
                with("\"n:p\" = { path = \"d\" }\n\"n:p/i\" = { path = \"d\" }"),
                "component `a`, dependencies: `n:p` and `n:p/i` may be the same import",
            ),
            (
                with("\"n:p\" = { path = \"d\", export = \"x\" }"),
                "component `a`, dependencies: `n:p` has an `export`",
            ),
            (
                with("\"n:p\" = { component = \"b\" }"),
                "`n:p` is component `b`, which the manifest does not define",
            ),
            (
                with("\"n:p\" = { component = \"b\" }\n[component.b]\nsource = \"b\"\nvariables = { x = \"1\" }\nfiles = [\"f\"]"),
                "`n:p` is component `b`, which has `files`, `variables` of its own",
            ),
            (
                "[component.a]\nsource = \"a\"\ndependencies_inherit_configuration = false\n\
                 [component.a.dependencies]\n\"n:p\" = { path = \"d\", inherit_configuration = true }"
                    .to_owned(),
                "`n:p` has `inherit_configuration`, and the component has \
                 `dependencies_inherit_configuration`",
            ),
            (
                "[[trigger.http]]\nroute = \"/\"\ncomponent = { sauce = \"x\" }".to_owned(),
                "`[[trigger.http]]` number 1 is malformed: the component in it: unknown field `sauce`",
            ),
            (
                "[[trigger.http]]\nroute = \"/\"\ncomponent = { source = \"x\" }\ncomponents = { r = \"ghost\" }"
                    .to_owned(),
                "`components` holds \"ghost\", which is neither a component nor the id of one",
            ),
        ] {
            let error = parse(&tail).expect_err(expected);
            assert!(error.contains(expected), "`{expected}` not in:\n{error}");
        }
    }
}
