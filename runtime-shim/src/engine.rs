//! The wasmtime engine: how sandboxes are allocated and interrupted, and how
//! components become machine code. It knows nothing of triggers or messages.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The clock that interrupts guests. A guest that computes is made to yield
/// after each tick, so that one that never ends delays others by a tick at a time.
pub const TICK: Duration = Duration::from_millis(1);

/// Sandboxes that may exist at once.
pub const MAX_SANDBOXES: u32 = HTTP_SANDBOXES + QUEUE_SANDBOXES + CHAIN_SANDBOXES;
/// Of these, for requests. Further requests wait.
pub const HTTP_SANDBOXES: u32 = 400;
/// Of these, for messages: the sum of every trigger's concurrency.
pub const QUEUE_SANDBOXES: u32 = 400;
/// Of these, for components that are called by components. They take what is
/// free and never wait for it: waiting on one's own callers would be a deadlock.
pub const CHAIN_SANDBOXES: u32 = 200;

/// Bytes of linear memory for one sandbox, unless configured.
pub const DEFAULT_MEMORY: usize = 128 * 1024 * 1024;

/// Core modules, memories and tables of one component. One in Rust has three, one
/// and two, one in Python about twenty modules; each dependency adds its own, and
/// its refusals one module and one memory. Only addresses are reserved for them:
/// twelve memories for each sandbox are 48 of 128 TiB.
const CORE_INSTANCES_EACH: u32 = 96;
const MEMORIES_EACH: u32 = 12;
const TABLES_EACH: u32 = 48;
const WASM_PAGE: u64 = 65536;

/// Why the engine or a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine did not start.
    #[error("cannot start the WebAssembly engine: {0:#}")]
    Start(wasmtime::Error),
    /// The clock thread did not start.
    #[error("cannot start the epoch clock: {0}")]
    Clock(std::io::Error),
    /// Not WebAssembly, or not valid.
    #[error("not a valid WebAssembly component: {0:#}")]
    Invalid(wasmtime::Error),
    /// A memory that no sandbox has room for.
    #[error(
        "too large for a sandbox: a memory of it begins with {least} bytes, and a sandbox has \
         {max}: give it more with `--max-instance-memory {least}`"
    )]
    Memory {
        /// The bytes that it begins with.
        least: u64,
        /// The bytes that there are.
        max: usize,
    },
    /// More parts than a sandbox has room for.
    #[error(
        "too large for a sandbox: with its dependencies it has {count} {what}, and a sandbox has \
         {max}: join fewer"
    )]
    Parts {
        /// What there are too many of.
        what: &'static str,
        /// How many it has.
        count: u32,
        /// How many there may be.
        max: u32,
    },
    /// Another limit of sandboxes.
    #[error(
        "too large for a sandbox, with its dependencies: {0:#}; a sandbox has \
         {CORE_INSTANCES_EACH} core modules"
    )]
    TooLarge(wasmtime::Error),
}

/// The engine with its clock.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    clock: Arc<Clock>,
    cache_dir: Option<PathBuf>,
    max_memory: usize,
}

impl Engine {
    /// Starts an engine whose sandboxes have at most `max_memory` bytes of
    /// linear memory each. Machine code is kept in `cache_dir`.
    pub fn new(max_memory: usize, cache_dir: Option<PathBuf>) -> Result<Self, EngineError> {
        let mut config = config();
        config.allocation_strategy(pool(max_memory));
        let wasm = wasmtime::Engine::new(&config).map_err(EngineError::Start)?;
        let clock = Clock::start(wasm.clone()).map_err(EngineError::Clock)?;
        Ok(Self {
            wasm,
            clock,
            cache_dir,
            max_memory,
        })
    }

    /// The engine of wasmtime itself.
    pub fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// Keeps the clock ticking as long as the guard lives.
    pub fn keep_ticking(&self) -> Ticking {
        Ticking::new(Arc::clone(&self.clock))
    }

    /// Compiles the component in `wasm`, or takes its machine code from the cache.
    pub fn compile(&self, wasm: &[u8]) -> Result<Component, EngineError> {
        let cached = self
            .cache_dir
            .as_deref()
            .map(|dir| dir.join(format!("{}.cwasm", hex(&Sha256::digest(wasm)))));
        if let Some(component) = cached.as_deref().and_then(|file| self.read_cached(file)) {
            return Ok(component);
        }
        let component = Component::from_binary(&self.wasm, wasm)
            .map_err(|error| self.explain_refusal(wasm, error))?;
        if let Some(file) = cached
            && let Err(error) = write_cached(&file, &component)
        {
            tracing::warn!(file = %file.display(), "cannot keep compiled component: {error:#}");
        }
        Ok(component)
    }

    /// Whether `wasm` is no component, or one that sandboxes have no room for:
    /// an engine without sandboxes takes it then, and tells what it needs.
    fn explain_refusal(&self, wasm: &[u8], error: wasmtime::Error) -> EngineError {
        let boundless = wasmtime::Engine::new(&config());
        let component = boundless.and_then(|engine| Component::from_binary(&engine, wasm));
        let Ok(component) = component else {
            return EngineError::Invalid(error);
        };
        let Some(needs) = component.resources_required() else {
            return EngineError::TooLarge(error);
        };
        let least = needs.max_initial_memory_size.unwrap_or(0) * WASM_PAGE;
        if least > self.max_memory as u64 {
            let max = self.max_memory;
            return EngineError::Memory { least, max };
        }
        let parts = [
            ("memories", needs.num_memories, MEMORIES_EACH),
            ("tables", needs.num_tables, TABLES_EACH),
        ];
        match parts.into_iter().find(|(_, count, max)| count > max) {
            Some((what, count, max)) => EngineError::Parts { what, count, max },
            None => EngineError::TooLarge(error),
        }
    }

    fn read_cached(&self, file: &Path) -> Option<Component> {
        let bytes = std::fs::read(file).ok()?;
        let (digest, code) = bytes.split_at_checked(32)?;
        if Sha256::digest(code).as_slice() != digest {
            tracing::warn!(file = %file.display(), "compiled component is damaged: compiling anew");
            return None;
        }
        // SAFETY: wasmtime trusts the bytes as machine code. They are ours: the
        // folder belongs to the state directory that only this user writes, and
        // the digest in front shows that they are as they were written.
        // Wasmtime checks its own version and settings, and refuses others'.
        #[allow(unsafe_code, reason = "loading precompiled code is unsafe by nature")]
        unsafe { Component::deserialize(&self.wasm, code) }.ok()
    }
}

/// Written beside and renamed: a reader sees all of it or nothing.
fn write_cached(file: &Path, component: &Component) -> wasmtime::Result<()> {
    let code = component.serialize()?;
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    restrict(folder)?;
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    let mut out = std::fs::File::create(&partial)?;
    out.write_all(&Sha256::digest(&code))?;
    out.write_all(&code)?;
    out.sync_all()?;
    std::fs::rename(&partial, file)?;
    Ok(())
}

#[cfg(unix)]
fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Room for all sandboxes, reserved at once.
fn pool(max_memory: usize) -> InstanceAllocationStrategy {
    let keep_resident = if PoolingAllocationConfig::is_pagemap_scan_available() {
        512 * 1024
    } else {
        0
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_SANDBOXES)
        .total_core_instances(MAX_SANDBOXES * CORE_INSTANCES_EACH)
        .total_memories(MAX_SANDBOXES * MEMORIES_EACH)
        .total_tables(MAX_SANDBOXES * TABLES_EACH)
        .total_stacks(MAX_SANDBOXES)
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .max_memories_per_component(MEMORIES_EACH)
        .max_tables_per_component(TABLES_EACH)
        .max_memory_size(max_memory)
        // Memory is reset for its next use by overwriting the pages that were
        // written, up to so many bytes, and by giving back the rest. Linux 6.7
        // and later tell which they are. Before, the lowest addresses would be
        // taken for them, where a stack has its unused end: all is given back
        // then, and a sandbox costs about twice as much.
        .linear_memory_keep_resident(keep_resident)
        .pagemap_scan(wasmtime::Enabled::Auto)
        .table_keep_resident(16 * 1024)
        .async_stack_keep_resident(16 * 1024)
        .max_unused_warm_slots(128);
    InstanceAllocationStrategy::Pooling(pool)
}

/// What holds for all code, wherever it runs.
fn config() -> Config {
    let mut config = Config::new();
    config
        // The guard behind each memory lets bounds checks vanish; reserving no
        // more than that keeps a thousand slots within the address space.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .epoch_interruption(true)
        .wasm_component_model(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(12))
        .memory_init_cow(true);
    config
}

/// One thread advances the epoch for all guests, and rests while none runs.
struct Clock {
    running: AtomicUsize,
    thread: thread::Thread,
}

impl Clock {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Arc<Self>> {
        let (give, take) = std::sync::mpsc::sync_channel::<std::sync::Weak<Self>>(1);
        let handle = thread::Builder::new().name("epoch".into()).spawn(move || {
            let Ok(clock) = take.recv() else { return };
            // The thread ends when the engine is dropped.
            while let Some(clock) = clock.upgrade() {
                engine.increment_epoch();
                let idle = clock.running.load(Ordering::SeqCst) == 0;
                drop(clock);
                if idle {
                    thread::park_timeout(Duration::from_secs(1));
                } else {
                    thread::sleep(TICK);
                }
            }
        })?;
        let clock = Arc::new(Self {
            running: AtomicUsize::new(0),
            thread: handle.thread().clone(),
        });
        // The thread waits for this one value, so there is room and a receiver.
        let _ = give.send(Arc::downgrade(&clock));
        Ok(clock)
    }
}

/// Guests run while such a guard lives.
pub struct Ticking(Arc<Clock>);

impl Ticking {
    fn new(clock: Arc<Clock>) -> Self {
        if clock.running.fetch_add(1, Ordering::SeqCst) == 0 {
            clock.thread.unpark();
        }
        Self(clock)
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        Component, InstanceSection, MemorySection, MemoryType, Module, ModuleArg, ModuleSection,
    };

    use super::*;

    /// A component with a module of `pages` pages, instantiated so many times.
    fn component(pages: Option<u64>, times: u32) -> Vec<u8> {
        let mut module = Module::new();
        if let Some(minimum) = pages {
            let mut memories = MemorySection::new();
            memories.memory(MemoryType {
                minimum,
                maximum: None,
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
            module.section(&memories);
        }
        let mut instances = InstanceSection::new();
        for _ in 0..times {
            instances.instantiate(0, std::iter::empty::<(&str, ModuleArg)>());
        }
        let mut component = Component::new();
        component
            .section(&ModuleSection(&module))
            .section(&instances);
        component.finish()
    }

    #[test]
    fn what_no_sandbox_has_room_for_is_told_apart() {
        let engine = Engine::new(1 << 20, None).expect("an engine");
        let error = |wasm: &[u8]| match engine.compile(wasm) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        };
        for (wasm, expected) in [
            (component(Some(16), MEMORIES_EACH), "none"),
            (component(None, CORE_INSTANCES_EACH), "none"),
            (
                component(Some(17), 1),
                "too large for a sandbox: a memory of it begins with 1114112 bytes, and a sandbox \
                 has 1048576: give it more with `--max-instance-memory 1114112`",
            ),
            (
                component(Some(1), MEMORIES_EACH + 1),
                "too large for a sandbox: with its dependencies it has 13 memories, and a sandbox \
                 has 12: join fewer",
            ),
            (
                component(None, CORE_INSTANCES_EACH + 1),
                "too large for a sandbox, with its dependencies: The component transitively \
                 contains 97 core module instances",
            ),
            (b"\0asm".to_vec(), "not a valid WebAssembly component: "),
        ] {
            let error = error(&wasm);
            assert!(error.starts_with(expected), "`{expected}` not in `{error}`");
        }
    }
}
