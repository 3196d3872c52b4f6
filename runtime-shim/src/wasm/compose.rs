//! Joins a component with its dependencies: each import that a dependency's name
//! stands for is answered by the dependency's export, and what a dependency does
//! not inherit is answered by refusals. What remains imported is the host's.
//! Knows bytes and names; reads nothing.

use std::borrow::Cow;

use wac_graph::types::{ItemKind, Package, WorldId};
use wac_graph::{
    AliasError, CompositionGraph, EncodeOptions, ExportError, InstantiationArgumentError, NodeId,
};

use super::denial::{self, DenialError};
use crate::app::{Dependency, Wasm};
use crate::manifest::DependencyName;

/// Why a component and its dependencies do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The component itself.
    #[error("it cannot be joined with its dependencies: {0}")]
    Component(String),
    /// The wasm of a dependency.
    #[error("dependency `{dependency}`: `{wasm}` cannot be a dependency: {reason}")]
    Dependency {
        /// The dependency.
        dependency: DependencyName,
        /// Its wasm.
        wasm: Wasm,
        /// What is wrong.
        reason: String,
    },
    /// A dependency that nothing asks for.
    #[error(
        "dependency `{dependency}` answers none of its imports: those that the host does not \
         answer are {imports}"
    )]
    Unused {
        /// The dependency.
        dependency: DependencyName,
        /// What the component imports.
        imports: String,
    },
    /// An import without an answer.
    #[error(
        "dependency `{dependency}`: `{wasm}` does not export `{export}` for the import `{import}`: \
         it exports {exports}; another name can be given by `export = \"…\"`"
    )]
    MissingExport {
        /// The dependency.
        dependency: DependencyName,
        /// Its wasm.
        wasm: Wasm,
        /// What is not there.
        export: String,
        /// What it is for.
        import: String,
        /// What is there.
        exports: String,
    },
    /// An answer of another type.
    #[error(
        "dependency `{dependency}`: the export `{export}` of `{wasm}` does not fit the import \
         `{import}`: {reason}"
    )]
    Mismatch {
        /// The dependency.
        dependency: DependencyName,
        /// Its wasm.
        wasm: Wasm,
        /// What would answer.
        export: String,
        /// What it is for.
        import: String,
        /// Where they differ.
        reason: String,
    },
    /// What a dependency does not inherit.
    #[error("dependency `{dependency}`: {source}")]
    Denial {
        /// The dependency.
        dependency: DependencyName,
        /// What went wrong.
        source: DenialError,
    },
    /// The whole is no component.
    #[error("it cannot be joined with its dependencies: {0}")]
    Encode(String),
}

/// `component` with its imports answered by `dependencies`.
pub(super) fn compose(
    component: &[u8],
    dependencies: &[(&Dependency, Cow<'_, [u8]>)],
) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let main = Part::add(&mut graph, "component", component).map_err(ComposeError::Component)?;
    for (index, (dependency, wasm)) in dependencies.iter().enumerate() {
        let imports = answered(&graph, main, dependency)?;
        let part = add_dependency(&mut graph, index, dependency, wasm)?;
        for import in imports {
            answer(&mut graph, main, &import, part, dependency)?;
        }
    }
    main.export_all(&mut graph)?;
    graph
        .encode(EncodeOptions::default())
        .map_err(|error| ComposeError::Encode(full(error)))
}

/// A component in the graph, instantiated.
#[derive(Clone, Copy)]
struct Part {
    world: WorldId,
    instance: NodeId,
}

impl Part {
    fn add(graph: &mut CompositionGraph, name: &str, wasm: &[u8]) -> Result<Self, String> {
        let package = Package::from_bytes(name, None, wasm, graph.types_mut());
        let package = package.map_err(|error| format!("{error:#}"))?;
        let world = package.ty();
        let package = graph.register_package(package).map_err(full)?;
        Ok(Self {
            world,
            instance: graph.instantiate(package),
        })
    }

    fn exports(self, graph: &CompositionGraph) -> Vec<String> {
        graph.types()[self.world].exports.keys().cloned().collect()
    }

    fn export_all(self, graph: &mut CompositionGraph) -> Result<(), ComposeError> {
        for name in self.exports(graph) {
            let node = graph.alias_instance_export(self.instance, &name);
            let node = node.map_err(|error: AliasError| ComposeError::Encode(full(error)))?;
            let exported = graph.export(node, name);
            exported.map_err(|error: ExportError| ComposeError::Encode(full(error)))?;
        }
        Ok(())
    }
}

/// The imports of `main` that `dependency` stands for.
fn answered(
    graph: &CompositionGraph,
    main: Part,
    dependency: &Dependency,
) -> Result<Vec<String>, ComposeError> {
    let imports = &graph.types()[main.world].imports;
    // Types are imported for those functions that speak of them.
    let all = imports
        .iter()
        .filter(|(_, kind)| !matches!(kind, ItemKind::Type(_)));
    let (matching, others): (Vec<_>, Vec<_>) = all
        .map(|(name, _)| name.clone())
        .partition(|import| dependency.name.matches(import));
    if !matching.is_empty() {
        return Ok(matching);
    }
    let open = others.iter().filter(|import| !is_of_hosts(import));
    Err(ComposeError::Unused {
        dependency: dependency.name.clone(),
        imports: listed(open),
    })
}

/// Adds `dependency`, with refusals for what it does not inherit.
fn add_dependency(
    graph: &mut CompositionGraph,
    index: usize,
    dependency: &Dependency,
    wasm: &[u8],
) -> Result<Part, ComposeError> {
    let broken = |reason: String| ComposeError::Dependency {
        dependency: dependency.name.clone(),
        wasm: dependency.source.clone(),
        reason,
    };
    // Two names may lead to one wasm: the number keeps them apart.
    let part = Part::add(graph, &format!("dependency-{index}"), wasm).map_err(broken)?;
    let refusals = denial::refusals(wasm, &dependency.inherits);
    let refusals = refusals.map_err(|source| ComposeError::Denial {
        dependency: dependency.name.clone(),
        source,
    })?;
    if let Some(refusals) = refusals {
        let denier = Part::add(graph, &format!("denial-{index}"), &refusals).map_err(broken)?;
        for name in denier.exports(graph) {
            let node = graph.alias_instance_export(denier.instance, &name);
            let node = node.map_err(|error| broken(full(error)))?;
            let set = graph.set_instantiation_argument(part.instance, &name, node);
            set.map_err(|error| broken(full(error)))?;
        }
    }
    Ok(part)
}

/// Has `part` answer `import` of `main`.
fn answer(
    graph: &mut CompositionGraph,
    main: Part,
    import: &str,
    part: Part,
    dependency: &Dependency,
) -> Result<(), ComposeError> {
    let export = dependency.export.as_deref().unwrap_or(import);
    let (name, wasm) = (&dependency.name, &dependency.source);
    let exports = part.exports(graph);
    let node = graph.alias_instance_export(part.instance, export);
    let node = node.map_err(|_| ComposeError::MissingExport {
        dependency: name.clone(),
        wasm: wasm.clone(),
        export: export.to_owned(),
        import: import.to_owned(),
        exports: listed(exports.iter()),
    })?;
    graph
        .set_instantiation_argument(main.instance, import, node)
        .map_err(|error| ComposeError::Mismatch {
            dependency: name.clone(),
            wasm: wasm.clone(),
            export: export.to_owned(),
            import: import.to_owned(),
            reason: match error {
                InstantiationArgumentError::ArgumentTypeMismatch { source, .. } => {
                    format!("{source:#}")
                }
                other => full(other),
            },
        })
}

/// Whether no dependency is to be expected for `import`.
fn is_of_hosts(import: &str) -> bool {
    ["wasi:", "spin:", "fermyon:"]
        .iter()
        .any(|namespace| import.starts_with(namespace))
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// An error with everything that caused it.
fn full(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}
