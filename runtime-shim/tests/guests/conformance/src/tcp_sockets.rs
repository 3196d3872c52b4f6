//! `wasi:sockets`, TCP: connections to addresses that the manifest allows.

use std::net::SocketAddrV4;

use spin_sdk::wit::wasi::sockets0_2_0::instance_network::instance_network;
use spin_sdk::wit::wasi::sockets0_2_0::ip_name_lookup::resolve_addresses;
use spin_sdk::wit::wasi::sockets0_2_0::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
};
use spin_sdk::wit::wasi::sockets0_2_0::tcp::{InputStream, OutputStream, TcpSocket};
use spin_sdk::wit::wasi::sockets0_2_0::tcp_create_socket::create_tcp_socket;

use crate::must::{Outcome, done, must};
use crate::setting;

const MESSAGE: &[u8] = b"So rested he by the Tumtum tree";

pub(crate) fn granted() -> Outcome {
    let address = address()?;
    echo(address)?;
    let [ip, port] = [
        SocketAddrV4::new([127, 0, 0, 2].into(), address.port()),
        SocketAddrV4::new(*address.ip(), 1),
    ];
    must!(connect(ip).map(drop), Err(ErrorCode::AccessDenied));
    must!(connect(port).map(drop), Err(ErrorCode::AccessDenied));
    nobody_listens()?;
    must!(
        resolve_addresses(&instance_network(), "example.com"),
        Err(_)
    );
    Ok(())
}

/// Where the list of allowed hosts has a range of addresses, by variables.
pub(crate) fn reached() -> Outcome {
    let address = address()?;
    echo(address)?;
    let beside = SocketAddrV4::new([127, 0, 1, 1].into(), address.port());
    must!(connect(beside).map(drop), Err(ErrorCode::AccessDenied));
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    must!(connect(address()?).map(drop), Err(ErrorCode::AccessDenied));
    nobody_listens()?;
    must!(
        resolve_addresses(&instance_network(), "example.com"),
        Err(_)
    );
    Ok(())
}

fn address() -> Result<SocketAddrV4, String> {
    done("address", setting("TCP_ADDRESS")?.parse())
}

pub(crate) fn ipv4(address: SocketAddrV4) -> IpSocketAddress {
    let [a, b, c, d] = address.ip().octets();
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: (a, b, c, d),
    })
}

fn connect(address: SocketAddrV4) -> Result<(InputStream, OutputStream, TcpSocket), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), ipv4(address))?;
    loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            // The streams end with the socket.
            connected => return connected.map(|(input, output)| (input, output, socket)),
        }
    }
}

fn echo(address: SocketAddrV4) -> Outcome {
    // Streams must be gone before their socket is.
    let (input, output, socket) = done("connect", connect(address))?;
    done("write", output.blocking_write_and_flush(MESSAGE))?;
    let mut answer = Vec::new();
    while answer.len() < MESSAGE.len() {
        let left = (MESSAGE.len() - answer.len()) as u64;
        answer.extend(done("read", input.blocking_read(left))?);
    }
    must!(answer.as_slice(), MESSAGE);
    drop((input, output, socket));
    Ok(())
}

fn nobody_listens() -> Outcome {
    must!(bind(), Err(ErrorCode::AccessDenied));
    Ok(())
}

fn bind() -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    let any = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
    socket.start_bind(&instance_network(), ipv4(any))
}
