//! A core module of WASI 0.1 becomes a component: an adapter answers its imports by
//! WASI 0.2, and a module that is a program, one with `_start`, then exports
//! `wasi:cli/run`. Knows neither files nor who calls the export.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as WASI,
    WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as FOR_PROGRAMS,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as FOR_LIBRARIES,
};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ImportSection, Module, RawSection};
use wasmparser::{Import, ImportSectionReader, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What toolchains call the entry of a program.
const ENTRY: &str = "_start";
/// How the sections begin in which bindings describe interfaces.
const INTERFACES: &str = "component-type";

/// Bytes 4 to 7 are version and layer: 1, 0 is a core module.
pub(super) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

/// The component that `module` becomes, or why it cannot.
pub(super) fn to_component(module: &[u8]) -> Result<Vec<u8>, String> {
    let traits = Traits::of(module).map_err(|error| error.to_string())?;
    if !traits.is_program && !traits.describes_interfaces {
        let reason = format!("it exports no `{ENTRY}` and describes no interfaces");
        return Err(reason);
    }
    let module = if traits.exits {
        Cow::Owned(with_exit_codes(module)?)
    } else {
        Cow::Borrowed(module)
    };
    let adapter = if traits.is_program {
        FOR_PROGRAMS
    } else {
        FOR_LIBRARIES
    };
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.adapter(WASI, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// What matters of a module.
#[derive(Default)]
struct Traits {
    /// It exports the entry of a program.
    is_program: bool,
    /// It imports the function that ends a program.
    exits: bool,
    /// It tells, as bindings for components do, what its functions mean.
    describes_interfaces: bool,
}

impl Traits {
    fn of(module: &[u8]) -> wasmparser::Result<Self> {
        let mut traits = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        traits.exits |= is_exit(&import?);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        traits.is_program |= export?.name == ENTRY;
                    }
                }
                Payload::CustomSection(section) => {
                    traits.describes_interfaces |= section.name().starts_with(INTERFACES);
                }
                _ => {}
            }
        }
        Ok(traits)
    }
}

fn is_exit(import: &Import<'_>) -> bool {
    (import.module, import.name) == (WASI, "proc_exit")
}

/// In WASI 0.2 a program could first only succeed or fail, and that is all the
/// adapter passes on: from it, exit codes 3 and 75 would both be 1. So the module
/// calls the function with a code itself, which looks the same from inside: one
/// integer, no return.
fn with_exit_codes(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut changed = with_exit_renamed(module).map_err(|error| error.to_string())?;
    let mut wit = Resolve::default();
    let world = wit
        .push_str("exit.wit", EXIT_WIT)
        .and_then(|package| wit.select_world(&[package], Some("program")))
        .map_err(|error| format!("{error:#}"))?;
    embed_component_metadata(&mut changed, &wit, world, StringEncoding::UTF8)
        .map_err(|error| format!("{error:#}"))?;
    Ok(changed)
}

const EXIT_INTERFACE: &str = "wasi:cli/exit@0.2.12";
const EXIT_FUNCTION: &str = "exit-with-code";
/// The interface as the adapter knows it.
const EXIT_WIT: &str = "
    package gristmill:programs;
    world program {
        import wasi:cli/exit@0.2.12;
    }
    package wasi:cli@0.2.12 {
        interface exit {
            exit: func(status: result);
            exit-with-code: func(status-code: u8);
        }
    }
";

/// Every section as it is, but for the one name.
fn with_exit_renamed(module: &[u8]) -> Result<Vec<u8>, wasm_encoder::reencode::Error> {
    let mut renamed = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::ImportSection(imports) = payload {
            renamed.section(&rename_exit(imports)?);
        } else if let Some((id, range)) = payload.as_section() {
            let data = &module[range];
            renamed.section(&RawSection { id, data });
        }
    }
    Ok(renamed.finish())
}

fn rename_exit(
    imports: ImportSectionReader<'_>,
) -> Result<ImportSection, wasm_encoder::reencode::Error> {
    let mut renamed = ImportSection::new();
    for import in imports.into_imports() {
        let import = import?;
        let (module, name) = if is_exit(&import) {
            (EXIT_INTERFACE, EXIT_FUNCTION)
        } else {
            (import.module, import.name)
        };
        renamed.import(module, name, RoundtripReencoder.entity_type(import.ty)?);
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with a memory and a function under `name`, which imports nothing.
    fn exporting(name: &str) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        let mut section = |id: u8, content: &[u8]| {
            module.extend([id, content.len() as u8]);
            module.extend(content);
        };
        section(1, &[1, 0x60, 0, 0]);
        section(3, &[1, 0]);
        section(5, &[1, 0, 1]);
        let mut exports = vec![2, 6];
        exports.extend(b"memory\x02\0");
        exports.push(name.len() as u8);
        exports.extend(name.as_bytes());
        exports.extend([0, 0]);
        section(7, &exports);
        section(10, &[1, 2, 0, 0x0b]);
        module
    }

    fn contains(bytes: &[u8], text: &str) -> bool {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    #[test]
    fn a_program_gets_the_export_of_a_command() {
        let component = to_component(&exporting("_start")).expect("a component");
        assert!(!is_core_module(&component));
        assert!(contains(&component, "wasi:cli/run@0.2"));
    }

    #[test]
    fn what_is_neither_program_nor_described_is_refused() {
        let refused = to_component(&exporting("start")).expect_err("no export to call");
        assert!(refused.contains("`_start`"), "{refused}");
    }

    #[test]
    fn a_damaged_module_is_refused() {
        let module = exporting("_start");
        assert!(to_component(&module[..module.len() - 1]).is_err());
    }
}
