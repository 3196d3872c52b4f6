//! `scale-lab tune`.

use anyhow::{Result, bail};
use clap::Args;
use scale_lab::chart::queue_key;
use scale_lab::tune::{Goal, search};

use super::{Input, say, tell};

/// Searches settings of the ScaledObject that meet a target at least cost.
///
/// Prints a file of values for the chart, with what it found as comments; progress goes to
/// stderr. Exit code 1 when nothing that was tried meets the target.
#[derive(Args)]
pub(crate) struct Tune {
    #[command(flatten)]
    input: Input,
    /// 99 of 100 messages are to be settled so many seconds after their send.
    #[arg(long, value_name = "SECONDS")]
    target_p99_age: f64,
    /// Seeds that the target must be met with.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Replicas that the cluster has room for.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    room: u32,
}

/// Whether the target is met.
pub(crate) fn run(options: &Tune) -> Result<bool> {
    let p99_age = options.target_p99_age;
    if !(0.0..=1e9).contains(&p99_age) {
        bail!("--target-p99-age is {p99_age}: give seconds from 0 to 1e9");
    }
    let scenario = options.input.read()?;
    let worker = scenario.chart.worker(&options.input.helm)?;
    let goal = Goal {
        p99_age,
        seeds: options.seeds,
        room: options.room,
    };
    let found = search(&scenario, &worker, goal, &mut |trial| {
        tell(format_args!("better: {trial}"));
    })?;
    say(found.values(&scenario, queue_key(&worker), goal).trim_end());
    Ok(found.met)
}
