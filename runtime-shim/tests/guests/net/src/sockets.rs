//! `wasi:sockets`, as the standard library uses it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

pub(crate) fn step(words: &[&str]) -> String {
    match words {
        ["tcp", address] => shown(echo(address)),
        ["hold", count, address] => hold(count.parse().unwrap_or(0), address),
        ["listen", address] => shown(TcpListener::bind(address).map(|_| "listening")),
        ["udp", from, to] => {
            shown(UdpSocket::bind(from).and_then(|socket| socket.send_to(b"hello", to)))
        }
        ["lookup", name] => shown(
            (*name, 0)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()),
        ),
        _ => format!("no such step: {words:?}"),
    }
}

fn shown<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
    format!("{result:?}")
}

/// Sends a word and reads it back.
fn echo(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Opens connections and keeps them until all are open, or one fails.
fn hold(count: usize, address: &str) -> String {
    let mut held = Vec::new();
    for _ in 0..count {
        match TcpStream::connect(address) {
            Ok(stream) => held.push(stream),
            Err(error) => return format!("{} held, then {error:?}", held.len()),
        }
    }
    format!("{} held", held.len())
}
