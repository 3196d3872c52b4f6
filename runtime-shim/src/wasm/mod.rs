//! From what the app names to one component: reads the wasm of each source, and
//! makes components of core modules. Knows nothing of engines or machine code.

mod command;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::app::{Component, Wasm};

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
}

/// The wasm of `component`, ready to be compiled.
pub fn assemble(component: &Component) -> Result<Cow<'_, [u8]>, WasmError> {
    let bytes = read(&component.source)?;
    if command::is_core_module(&bytes) {
        return componentized(&bytes, component).map(Cow::Owned);
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

fn componentized(module: &[u8], component: &Component) -> Result<Vec<u8>, WasmError> {
    command::to_component(module).map_err(|reason| WasmError::CoreModule {
        wasm: component.source.clone(),
        reason,
    })
}
