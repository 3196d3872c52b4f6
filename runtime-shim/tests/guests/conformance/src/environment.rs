//! What every component has, granted or not: its environment, clocks, random
//! numbers, no folder, no terminal. Two minor versions of WASI 0.2 at once.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spin_sdk::wit::wasi::{
    cli0_2_0 as cli, cli0_2_6 as newer_cli, clocks0_2_0 as clocks, clocks0_2_6 as newer_clocks,
    filesystem0_2_0 as filesystem, random0_2_0 as random, random0_2_6 as newer_random,
};

use crate::must::{Outcome, must};

const YEAR: Duration = Duration::from_hours(365 * 24);

pub(crate) fn everywhere() -> Outcome {
    must!(std::env::var("COLOUR").as_deref(), Ok("green"));
    // The host's own stays with the host.
    for name in ["PATH", "HOME", "SPIN_VARIABLE_SECRET"] {
        must!(std::env::var(name), Err(_));
    }
    let names: BTreeSet<String> = std::env::vars().map(|(name, _)| name).collect();
    let others: Vec<_> = names
        .iter()
        .filter(|name| !name.ends_with("ADDRESS"))
        .collect();
    must!(others.as_slice(), [colour] if *colour == "COLOUR");
    must!(cli::environment::get_arguments().as_slice(), []);
    must!(newer_cli::environment::get_arguments().as_slice(), []);
    must!(cli::environment::initial_cwd(), None);
    must!(std::io::stdin().read(&mut [0; 1]), Ok(0));
    must!(cli::terminal_stdin::get_terminal_stdin().is_none(), true);
    must!(cli::terminal_stdout::get_terminal_stdout().is_none(), true);
    must!(cli::terminal_stderr::get_terminal_stderr().is_none(), true);
    must!(filesystem::preopens::get_directories().len(), 0);
    must!(std::fs::read("/etc/passwd"), Err(_));
    times()?;
    numbers()
}

fn times() -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    must!(now, Ok(since) if since > 50 * YEAR && since < 200 * YEAR);
    let before = clocks::monotonic_clock::now();
    clocks::monotonic_clock::subscribe_duration(2_000_000).block();
    let after = newer_clocks::monotonic_clock::now();
    must!(after, after if after >= before + 2_000_000);
    must!(clocks::monotonic_clock::resolution(), 1..);
    Ok(())
}

fn numbers() -> Outcome {
    let bytes = random::random::get_random_bytes(32);
    must!(bytes.len(), 32);
    must!(random::random::get_random_bytes(32), other if other != bytes);
    let number = newer_random::random::get_random_u64();
    must!(newer_random::random::get_random_u64(), other if other != number);
    must!(random::insecure::get_insecure_random_bytes(8).len(), 8);
    let _: (u64, u64) = random::insecure_seed::insecure_seed();
    Ok(())
}
