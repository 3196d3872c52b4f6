//! The health check of the image, which has no shell: asks `ADDRESS` for `PATH`
//! by HTTP and exits with 0 when the answer is a 2xx, else with 1. Kubernetes asks
//! by itself; this is for Compose and Docker. One file, without dependencies:
//! `rustc --edition 2024 probe.rs`.

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// Below the timeout of the health check, so that the reason is still printed.
const LIMIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, path] = arguments.as_slice() else {
        eprintln!("usage: probe IP:PORT PATH");
        return ExitCode::from(2);
    };
    match status(address, path) {
        Ok(200..=299) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{path} answered {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{address} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The status code of `GET path`.
fn status(address: &str, path: &str) -> Result<u16, Box<dyn Error>> {
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    // `HTTP/1.1 200`: the code ends at the twelfth byte.
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let code = std::str::from_utf8(&head)?
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..))
        .ok_or("the answer is not HTTP")?;
    Ok(code.parse()?)
}
