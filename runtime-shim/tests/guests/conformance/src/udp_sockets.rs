//! `wasi:sockets`, UDP: datagrams to addresses that the manifest allows.

use std::net::SocketAddrV4;

use spin_sdk::wit::wasi::sockets0_2_0::instance_network::instance_network;
use spin_sdk::wit::wasi::sockets0_2_0::network::{ErrorCode, IpAddressFamily};
use spin_sdk::wit::wasi::sockets0_2_0::udp::UdpSocket;
use spin_sdk::wit::wasi::sockets0_2_0::udp_create_socket::create_udp_socket;

use crate::must::{Outcome, done, must};
use crate::setting;
use crate::tcp_sockets::ipv4;

/// The manifest allows any port of 127.0.0.1.
pub(crate) fn granted() -> Outcome {
    // The system chooses the socket's own port; Spin wants `udp://*:*` for that.
    let socket = done("bind", bound([0, 0, 0, 0]))?;
    must!(
        bound([127, 0, 0, 1]).map(drop),
        Err(ErrorCode::AccessDenied)
    );
    let echo: SocketAddrV4 = done("address", setting("UDP_ADDRESS")?.parse())?;
    let (input, output) = done("stream", socket.stream(Some(ipv4(echo))))?;
    output.subscribe().block();
    must!(output.check_send(), Ok(1..));
    let datagram = spin_sdk::wit::wasi::sockets0_2_0::udp::OutgoingDatagram {
        data: b"calloh".to_vec(),
        remote_address: None,
    };
    must!(output.send(&[datagram]), Ok(1));
    input.subscribe().block();
    let received = done("receive", input.receive(1))?;
    must!(received.as_slice(), [datagram] if datagram.data == b"calloh");
    // A socket has one pair of streams at a time.
    drop((input, output));
    let elsewhere = SocketAddrV4::new([127, 0, 0, 2].into(), echo.port());
    must!(
        socket.stream(Some(ipv4(elsewhere))).map(drop),
        Err(ErrorCode::AccessDenied)
    );
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    must!(
        bound([127, 0, 0, 1]).map(drop),
        Err(ErrorCode::AccessDenied)
    );
    Ok(())
}

fn bound(ip: [u8; 4]) -> Result<UdpSocket, ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    let any = SocketAddrV4::new(ip.into(), 0);
    socket.start_bind(&instance_network(), ipv4(any))?;
    loop {
        match socket.finish_bind() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            bound => return bound.map(|()| socket),
        }
    }
}
