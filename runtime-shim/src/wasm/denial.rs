//! A component that answers interfaces of the host by refusals: for a dependency
//! that does not inherit its component's grants. It is made for exactly what the
//! dependency imports. What a refusal is, `refusals` knows.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, GlobalType, ImportSection, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{
    LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WorldId, WorldItem,
};

use super::handles::{Drops, Given};
use super::refusals::{Answer, Answers, Image};
use crate::manifest::{CapabilitySet, Inherits};

/// Why there are no refusals for a dependency.
#[derive(Debug, thiserror::Error)]
pub enum DenialError {
    /// Its interfaces cannot be read.
    #[error("its imports cannot be read: {0}")]
    Read(String),
    /// What it does not inherit cannot be refused.
    #[error("what it does not inherit cannot be kept from it: {0}")]
    Build(String),
}

/// The interfaces that each key of a manifest grants, without versions. Spin
/// keeps the same from a dependency that does not inherit the key.
const INTERFACES: [(CapabilitySet, &[&str]); 7] = [
    (CapabilitySet::AiModels, &["fermyon:spin/llm"]),
    (
        CapabilitySet::AllowedOutboundHosts,
        &[
            "fermyon:spin/http",
            "fermyon:spin/mqtt",
            "fermyon:spin/mysql",
            "fermyon:spin/postgres",
            "fermyon:spin/redis",
            "spin:mqtt/mqtt",
            "spin:mysql/mysql",
            "spin:postgres/postgres",
            "spin:redis/redis",
            "wasi:http/client",
            "wasi:http/outgoing-handler",
            "wasi:sockets/ip-name-lookup",
            "wasi:sockets/tcp",
            "wasi:sockets/tcp-create-socket",
            "wasi:sockets/udp",
            "wasi:sockets/udp-create-socket",
        ],
    ),
    (CapabilitySet::Environment, &["wasi:cli/environment"]),
    (CapabilitySet::Files, &["wasi:filesystem/preopens"]),
    (
        CapabilitySet::KeyValueStores,
        &[
            "fermyon:spin/key-value",
            "spin:key-value/key-value",
            // Batch and atomics speak of the store's buckets.
            "wasi:keyvalue/atomics",
            "wasi:keyvalue/batch",
            "wasi:keyvalue/store",
        ],
    ),
    (
        CapabilitySet::SqliteDatabases,
        &["fermyon:spin/sqlite", "spin:sqlite/sqlite"],
    ),
    (
        CapabilitySet::Variables,
        &[
            "fermyon:spin/config",
            "fermyon:spin/variables",
            "spin:variables/variables",
            "wasi:config/store",
        ],
    ),
];

const ABI: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);

/// Whether `interface` is kept from who inherits `inherits`.
fn is_kept(interface: &str, inherits: &Inherits) -> bool {
    let name = interface.split('@').next().unwrap_or(interface);
    INTERFACES
        .iter()
        .any(|(set, interfaces)| interfaces.contains(&name) && !inherits.has(*set))
}

/// A component that exports what the component `wasm` imports and does not
/// inherit, if it imports such a thing.
pub(super) fn refusals(wasm: &[u8], inherits: &Inherits) -> Result<Option<Vec<u8>>, DenialError> {
    if *inherits == Inherits::All {
        return Ok(None);
    }
    let read = |error: anyhow::Error| DenialError::Read(format!("{error:#}"));
    let build = |error: anyhow::Error| DenialError::Build(format!("{error:#}"));
    let (mut resolve, world) = match wit_component::decode(wasm).map_err(read)? {
        DecodedWasm::Component(resolve, world) => (resolve, world),
        DecodedWasm::WitPackage(..) => {
            return Err(DenialError::Read("it is interfaces only".to_owned()));
        }
    };
    let imports = resolve.worlds[world].imports.values();
    let kept: Vec<String> = imports
        .filter_map(|item| match item {
            WorldItem::Interface { id, .. } => resolve.id_of(*id),
            _ => None,
        })
        .filter(|name| is_kept(name, inherits))
        .collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let exports: Vec<String> = kept.iter().map(|name| format!("export {name};")).collect();
    let exports = exports.join("\n");
    let text = format!("package gristmill:denial;\nworld denial {{\n{exports}\n}}\n");
    let package = resolve.push_source("denial.wit", &text).map_err(build)?;
    let world = resolve.select_world(&[package], None).map_err(build)?;
    let mut module = module(&resolve, world);
    let encoding = StringEncoding::UTF8;
    embed_component_metadata(&mut module, &resolve, world, encoding).map_err(build)?;
    let encoder = ComponentEncoder::default().module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    component.map(Some).map_err(build)
}

/// The module under that component: a function for each one that is refused,
/// static memory with what they answer, and a heap behind it for parameters.
fn module(resolve: &Resolve, world: WorldId) -> Vec<u8> {
    let mut answers = Answers::new(resolve);
    let mut drops = Drops::new(resolve, world);
    let mut refusals = Vec::new();
    for (key, item) in &resolve.worlds[world].exports {
        let WorldItem::Interface { id, .. } = item else {
            continue;
        };
        let interface = resolve.name_world_key(key);
        for func in resolve.interfaces[*id].functions.values() {
            let export = WasmExport::Func {
                interface: Some(key),
                func,
                kind: WasmExportKind::Normal,
            };
            let signature = resolve.wasm_signature(AbiVariant::GuestExport, func);
            refusals.push(Refusal {
                export: resolve.wasm_export_name(ABI, export),
                answer: answers.add(&interface, func, &signature),
                given: drops.given_to(func, &signature),
                signature,
            });
        }
    }
    let image = answers.into_image();
    let heap = image.end();

    let mut sections = Sections::default();
    for (module, name) in drops.into_imports() {
        sections.import(&module, &name);
    }
    sections.realloc();
    for refusal in &refusals {
        sections.refusal(refusal, heap);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: u64::from(heap.div_ceil(PAGE)) + 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    sections.exports.export("memory", ExportKind::Memory, 0);
    let mut globals = GlobalSection::new();
    let mutable = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    globals.global(mutable, &ConstExpr::i32_const(heap.cast_signed()));
    let mut data = DataSection::new();
    let start = ConstExpr::i32_const(Image::START.cast_signed());
    data.active(0, &start, image.bytes());

    let mut module = Module::new();
    module
        .section(&sections.types)
        .section(&sections.imports)
        .section(&sections.functions)
        .section(&memories)
        .section(&globals)
        .section(&sections.exports)
        .section(&sections.code)
        .section(&data);
    module.finish()
}

const PAGE: u32 = 65536;
/// The global that holds where the heap's free part begins.
const HEAP: u32 = 0;

/// One function of the module.
struct Refusal {
    export: String,
    signature: WasmSignature,
    given: Vec<Given>,
    answer: Answer,
}

#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
}

impl Sections {
    /// A function that drops a handle.
    fn import(&mut self, module: &str, name: &str) {
        let ty = EntityType::Function(self.types.len());
        self.types.ty().function([ValType::I32], []);
        self.imports.import(module, name, ty);
    }

    fn add(&mut self, name: &str, params: Vec<ValType>, results: Vec<ValType>, body: &Function) {
        let ty = self.types.len();
        let index = self.imports.len() + self.functions.len();
        self.types.ty().function(params, results);
        self.functions.function(ty);
        self.exports.export(name, ExportKind::Func, index);
        self.code.function(body);
    }

    /// Drops what it is given, answers, and frees what the parameters took: nobody
    /// looks at them again, except at one that is sent back, before the heap is
    /// used anew.
    fn refusal(&mut self, refusal: &Refusal, heap: u32) {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        for given in &refusal.given {
            if let Some(discriminant) = given.if_some {
                code.local_get(discriminant).if_(BlockType::Empty);
            }
            code.local_get(given.param).call(given.drop);
            if given.if_some.is_some() {
                code.end();
            }
        }
        code.i32_const(heap.cast_signed()).global_set(HEAP);
        match refusal.answer {
            Answer::Trap => code.unreachable(),
            Answer::Flat(value) => code.i32_const(value),
            Answer::At(address) => code.i32_const(address.cast_signed()),
            Answer::Echo { address, text } => {
                let at = |offset: u32| MemArg {
                    offset: u64::from(offset),
                    align: 2,
                    memory_index: 0,
                };
                code.i32_const(0)
                    .local_get(0)
                    .i32_store(at(text))
                    .i32_const(0)
                    .local_get(1)
                    .i32_store(at(text + 4))
                    .i32_const(address.cast_signed())
            }
        };
        code.end();
        let params = refusal
            .signature
            .params
            .iter()
            .copied()
            .map(core_type)
            .collect();
        let results = refusal
            .signature
            .results
            .iter()
            .copied()
            .map(core_type)
            .collect();
        self.add(&refusal.export, params, results, &body);
    }

    /// `cabi_realloc`: takes the next bytes of the heap, and copies.
    fn realloc(&mut self) {
        const OLD: u32 = 0;
        const OLD_SIZE: u32 = 1;
        const ALIGN: u32 = 2;
        const SIZE: u32 = 3;
        const NEW: u32 = 4;
        let mut body = Function::new([(1, ValType::I32)]);
        let mut code = body.instructions();
        // The heap's start, aligned: (heap + align - 1) & -align.
        code.global_get(HEAP)
            .local_get(ALIGN)
            .i32_add()
            .i32_const(1)
            .i32_sub()
            .i32_const(0)
            .local_get(ALIGN)
            .i32_sub()
            .i32_and()
            .local_tee(NEW)
            .local_get(SIZE)
            .i32_add()
            .global_set(HEAP);
        // An end before the start went beyond 32 bits.
        code.global_get(HEAP)
            .local_get(NEW)
            .i32_lt_u()
            .if_(BlockType::Empty)
            .unreachable()
            .end();
        // Pages that are lacking: (heap + page - 1) / page - pages.
        code.global_get(HEAP)
            .i32_const(1)
            .i32_sub()
            .i32_const(16)
            .i32_shr_u()
            .i32_const(1)
            .i32_add()
            .memory_size(0)
            .i32_gt_u()
            .if_(BlockType::Empty)
            .global_get(HEAP)
            .i32_const(1)
            .i32_sub()
            .i32_const(16)
            .i32_shr_u()
            .i32_const(1)
            .i32_add()
            .memory_size(0)
            .i32_sub()
            .memory_grow(0)
            .i32_const(-1)
            .i32_eq()
            .if_(BlockType::Empty)
            .unreachable()
            .end()
            .end();
        // The smaller of the old size and the new one.
        code.local_get(NEW)
            .local_get(OLD)
            .local_get(OLD_SIZE)
            .local_get(SIZE)
            .local_get(OLD_SIZE)
            .local_get(SIZE)
            .i32_lt_u()
            .select()
            .memory_copy(0, 0)
            .local_get(NEW)
            .end();
        self.add(
            "cabi_realloc",
            vec![ValType::I32; 4],
            vec![ValType::I32],
            &body,
        );
    }
}

fn core_type(ty: WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}
