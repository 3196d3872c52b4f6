//! Tests of `openapi.json`: it is whole in itself, and leaves out no route of any
//! component.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

/// Calls `visit` with each object in a document.
fn each_object(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| each_object(value, visit));
        }
        Value::Array(values) => values.iter().for_each(|value| each_object(value, visit)),
        _ => {}
    }
}

/// Method, path and description of each operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = METHODS.iter().copied();
            methods.filter_map(move |method| Some((method, path.as_str(), item.get(method)?)))
        })
        .collect()
}

/// `/images/{id}` and `/images/{image}` are one path.
fn shape(path: &str) -> String {
    let segments = path.split('/');
    let shapes = segments.map(|part| if part.starts_with('{') { "{}" } else { part });
    shapes.collect::<Vec<_>>().join("/")
}

/// The paths that the routers of all components match: `["", "counter", id]` and
/// `"/recommendations" =>` in the part of `routes.rs` before its tests.
fn routed() -> BTreeSet<String> {
    let components = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = BTreeSet::new();
    for entry in std::fs::read_dir(components).unwrap() {
        let Ok(source) = std::fs::read_to_string(entry.unwrap().path().join("src/routes.rs"))
        else {
            continue;
        };
        let code = source.split("#[cfg(test)]").next().unwrap();
        for pattern in code.split("[\"\", ").skip(1) {
            let segments = pattern.split(']').next().unwrap().split(", ");
            let segments = segments.map(|part| match part.strip_prefix('"') {
                Some(text) => text.trim_end_matches('"'),
                None => "{}",
            });
            paths.insert(format!("/{}", segments.collect::<Vec<_>>().join("/")));
        }
        let literals = code.lines().filter_map(|line| {
            let (path, _) = line.trim().strip_prefix("\"/")?.split_once("\" =>")?;
            Some(format!("/{path}"))
        });
        paths.extend(literals);
    }
    // Another way to write the path before it.
    paths.remove("/process_message/");
    paths
}

#[test]
fn every_operation_has_a_name_of_its_own_and_is_explained() {
    let document = document();
    let operations = operations(&document);
    let mut ids = BTreeSet::new();
    for (method, path, operation) in &operations {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} is there twice");
        for text in ["summary", "description"] {
            assert!(operation[text].is_string(), "{method} {path} has no {text}");
        }
        let tag = operation["tags"][0].as_str().unwrap();
        let mut tags = document["tags"].as_array().unwrap().iter();
        assert!(tags.any(|known| known["name"] == tag), "{tag}");
    }
    assert!(operations.len() >= 28, "{}", operations.len());
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let document = document();
    let mut references = BTreeSet::new();
    let mut links = BTreeSet::new();
    each_object(&document, &mut |object| {
        if let Some(Value::String(reference)) = object.get("$ref") {
            references.insert(reference.trim_start_matches('#').to_owned());
        }
        if let Some(Value::Object(own)) = object.get("links") {
            links.extend(own.values().map(|link| link["operationId"].to_string()));
        }
    });
    for reference in &references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    for kind in ["schemas", "responses", "headers", "parameters"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let pointer = format!("/components/{kind}/{name}");
            assert!(references.contains(&pointer), "{pointer} is used nowhere");
        }
    }
    let operations = operations(&document);
    let ids: BTreeSet<_> = operations
        .iter()
        .map(|(.., operation)| operation["operationId"].to_string())
        .collect();
    assert!(!links.is_empty() && links.is_subset(&ids), "{links:?}");
}

#[test]
fn every_route_of_the_components_is_described() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths.keys().map(|path| shape(path)).collect();
    let routed = routed();
    for path in &routed {
        assert!(described.contains(path), "{path} is not described");
    }
    for known in ["/counter/{}/value", "/recommendations", "/portal/stats"] {
        assert!(
            routed.contains(known),
            "the routers were not read: {routed:?}"
        );
    }
    for probe in ["healthz", "readyz"] {
        for component in [
            "process-message",
            "counter",
            "auth",
            "images",
            "recommend",
            "portal",
        ] {
            let path = format!("/{probe}/{component}");
            assert!(described.contains(&path), "{path}");
        }
    }
}

#[test]
fn path_parameters_are_declared_where_they_stand() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let own = operation["parameters"].as_array();
        let shared = document["paths"][path]["parameters"].as_array();
        let declared: BTreeSet<_> = own
            .into_iter()
            .chain(shared)
            .flatten()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => document.pointer(&reference[1..]).unwrap(),
                None => parameter,
            })
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let standing: BTreeSet<_> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(declared, standing, "{method} {path}");
    }
}
