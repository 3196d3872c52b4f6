//! Does what the first line of its stdin says; the rest of it is only read. Where
//! `BEHAVIOUR` is set in the environment, that is done instead, and stdin is left
//! alone. What it saw goes to stderr, as the reason of its exit code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is how a program answers"
)]

use std::hint::black_box;
use std::io::{Read as _, Write as _};

fn main() {
    if let Ok(behaviour) = std::env::var("BEHAVIOUR") {
        return behave(&behaviour, &[]);
    }
    let mut body = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut body) {
        eprintln!("cannot read stdin: {error}");
        exit(99);
    }
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    behave(&line, &body);
}

fn behave(line: &str, body: &[u8]) {
    let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "exit" => {
            let (code, reason) = argument.split_once(' ').unwrap_or((argument, ""));
            eprint!("{reason}");
            exit(code.parse().unwrap_or(98));
        }
        "body" => {
            eprint!("{} bytes, {:016x}", body.len(), fnv(body));
            exit(3);
        }
        "environment" => {
            let mut variables: Vec<_> = std::env::vars()
                .map(|(name, value)| match value.len() {
                    0..100 => format!("{name}={value}"),
                    long => format!("{name}: {long} bytes, {:016x}", fnv(value.as_bytes())),
                })
                .collect();
            variables.sort_unstable();
            eprint!("{}", variables.join("\n"));
            exit(4);
        }
        "arguments" => {
            eprint!("{:?}", std::env::args().collect::<Vec<_>>());
            exit(5);
        }
        "bytes" => {
            // Neither UTF-8 nor short.
            let _ = std::io::stderr().write_all(&[0xff; 10_000]);
            let _ = std::io::stderr().write_all(b"the end");
            exit(6);
        }
        "print" => {
            println!("stdout: {argument}");
            eprintln!("stderr: {argument}");
        }
        "flood" => {
            let line = "flood ".repeat(170);
            for _ in 0..64 * 1024 {
                println!("{line}");
            }
            eprintln!("the flood is over");
        }
        "trap" => panic!("asked to panic"),
        "loop" => loop {
            black_box(());
        },
        "allocate" => allocate(),
        "tick" => {
            println!(
                "tick {}",
                std::env::var("GRISTMILL_TIMESTAMP").unwrap_or_default()
            );
            let mut stdin = Vec::new();
            let read = std::io::stdin().read_to_end(&mut stdin);
            assert!(matches!(read, Ok(0)), "{read:?}");
            if argument == "fail" {
                eprintln!("asked to fail");
                exit(7);
            }
        }
        _ => {}
    }
}

#[cfg(all(target_os = "wasi", target_env = "p2"))]
fn exit(code: i32) -> ! {
    wasip2::cli::exit::exit_with_code(code as u8);
    unreachable!("the call before does not return")
}

#[cfg(not(all(target_os = "wasi", target_env = "p2")))]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn allocate() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

/// FNV-1a, which the tests know too.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
