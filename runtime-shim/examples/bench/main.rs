//! `cargo xtask bench`: what the sandbox costs. Each figure stands beside that of
//! native Rust doing the same work, on the same libraries, in the same run.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod consume;
mod drain;
mod endpoint;
mod invocation;
mod native;
mod report;
mod requests;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use report::{Figure, Peer, Report};

/// Measures the host against native Rust.
#[derive(Parser)]
struct Args {
    /// Write the figures into this Markdown file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Measure this alone
    #[arg(long, value_name = "AREA")]
    only: Option<Area>,

    /// A tenth of the work: to see that it runs, not to believe the figures
    #[arg(long)]
    quick: bool,

    /// Fail where the consumer is slower than is required of it
    #[arg(long)]
    require: bool,

    /// Serve the native counter on a free port (used by the benchmark itself)
    #[arg(long, hide = true)]
    native_counter: Option<PathBuf>,

    /// Consume natively from the endpoint at this origin (used by the benchmark itself)
    #[arg(long, hide = true)]
    native_consumer: Option<String>,

    /// Serve so many messages from memory, each call after so many milliseconds (used by the
    /// benchmark itself)
    #[arg(long, hide = true, value_name = "MESSAGES,MILLISECONDS")]
    memory_endpoint: Option<endpoint::Load>,

    /// A Python that has boto3
    #[arg(long, env = "GRISTMILL_TEST_PYTHON", value_name = "FILE")]
    python: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Area {
    Invocation,
    Drain,
    Consume,
    Requests,
}

/// That of the host, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(state) = args.native_counter {
        return runtime.block_on(native::serve_counter(&state));
    }
    if let Some(origin) = args.native_consumer {
        return runtime.block_on(native::consume(&origin));
    }
    if let Some(load) = args.memory_endpoint {
        return runtime.block_on(endpoint::serve(load));
    }
    let scale = if args.quick { 1 } else { 10 };
    let mut report = Report::default();
    let mut required = Ok(());
    let wanted = |area| args.only.is_none_or(|only| only == area);
    if wanted(Area::Invocation) {
        report.extend(runtime.block_on(invocation::measure(2_000 * scale))?);
    }
    if wanted(Area::Drain) {
        report.extend(runtime.block_on(drain::measure(3_000 * scale as usize))?);
    }
    if wanted(Area::Consume) {
        let figures = consume::measure(scale as usize, args.python.as_deref())?;
        required = consume::require(&figures);
        report.extend(figures);
    }
    if wanted(Area::Requests) {
        report.extend(runtime.block_on(requests::measure(scale))?);
    }
    println!("{}", report.table());
    if let Some(path) = args.write {
        report
            .write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    if args.require {
        required?;
    }
    Ok(())
}

/// The release folder of this build, where the binary and the components are.
fn release_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/release/examples/bench
    let dir = own
        .parent()
        .and_then(|dir| dir.parent())
        .context("no build folder")?;
    Ok(dir.to_owned())
}

/// A built component or test guest.
fn wasm(name: &str) -> anyhow::Result<PathBuf> {
    let release = release_dir()?;
    let target = release.parent().context("no target folder")?;
    let path = target
        .join("wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    anyhow::ensure!(
        path.exists(),
        "{} is missing: run `cargo xtask bench`",
        path.display()
    );
    Ok(path)
}

/// Everything a measurement prints on its way.
fn progress(text: &str) {
    eprintln!("{text}");
}

fn ratio(name: &str, unit: &'static str, gristmill: f64, native: f64) -> Figure {
    Figure {
        name: name.to_owned(),
        unit,
        gristmill,
        other: native,
        peer: Peer::Native,
    }
}
