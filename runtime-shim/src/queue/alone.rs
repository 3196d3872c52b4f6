//! `gristmill queue`: the embedded queue alone, for other processes.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::EmbeddedQueue;
use crate::cli::QueueArgs;
use crate::drain::StopSignals;
use crate::printer;

/// Serves until a signal stops it.
pub async fn serve_alone(args: QueueArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let (queue, server) = EmbeddedQueue::open(&args.data_dir, args.listen, "--listen").await?;
    for name in &args.create {
        queue.ensure(name).await?;
    }
    printer::line(format_args!("Queue {}", queue.origin()));
    printer::line("Ready");
    let stop = CancellationToken::new();
    let serving = server.serve(stop.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => anyhow::bail!("the server ended unexpectedly"),
        signal = signals.next_stop() => tracing::info!("{signal}: closing"),
    }
    stop.cancel();
    serving.await;
    queue.close().await;
    Ok(())
}
