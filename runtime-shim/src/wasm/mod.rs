//! From what the app names to one component: reads the wasm of each source, and
//! makes components of core modules, and joins a component with its dependencies.
//! Knows nothing of engines or machine code.

mod command;
mod compose;
mod denial;
mod handles;
mod refusals;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::app::{Component, Wasm};
use crate::manifest::DependencyName;

pub use compose::ComposeError;
pub use denial::DenialError;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum WasmError {
    /// The file is not there or not readable.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The wasm file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A core module that asks for more than WASI 0.1, or is damaged.
    #[error(
        "`{wasm}` is a core WebAssembly module that cannot become a component ({reason}): \
         build it for `wasm32-wasip2`, or for `wasm32-wasip1` with no imports but those of WASI"
    )]
    CoreModule {
        /// The wasm.
        wasm: Wasm,
        /// What stands in the way.
        reason: String,
    },
    /// The wasm of a dependency.
    #[error("dependency `{dependency}`: {source}")]
    Dependency {
        /// The dependency.
        dependency: DependencyName,
        /// What went wrong.
        source: Box<WasmError>,
    },
    /// Component and dependencies do not fit together.
    #[error(transparent)]
    Compose(#[from] Box<ComposeError>),
}

/// The wasm of `component`, ready to be compiled.
pub fn assemble(component: &Component) -> Result<Cow<'_, [u8]>, WasmError> {
    let bytes = load(&component.source)?;
    if component.dependencies.is_empty() {
        return Ok(bytes);
    }
    let mut parts = Vec::new();
    for dependency in &component.dependencies {
        let wasm = load(&dependency.source).map_err(|source| WasmError::Dependency {
            dependency: dependency.name.clone(),
            source: Box::new(source),
        })?;
        parts.push((dependency, wasm));
    }
    let whole = compose::compose(&bytes, &parts).map_err(Box::new)?;
    Ok(Cow::Owned(whole))
}

/// The component in `wasm`.
fn load(wasm: &Wasm) -> Result<Cow<'_, [u8]>, WasmError> {
    let bytes = read(wasm)?;
    if command::is_core_module(&bytes) {
        return componentized(&bytes, wasm).map(Cow::Owned);
    }
    Ok(bytes)
}

fn read(wasm: &Wasm) -> Result<Cow<'_, [u8]>, WasmError> {
    match wasm {
        Wasm::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
        Wasm::File(path) => match std::fs::read(path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(source) => Err(WasmError::Read {
                path: path.clone(),
                source,
            }),
        },
    }
}

fn componentized(module: &[u8], wasm: &Wasm) -> Result<Vec<u8>, WasmError> {
    command::to_component(module).map_err(|reason| WasmError::CoreModule {
        wasm: wasm.clone(),
        reason,
    })
}
