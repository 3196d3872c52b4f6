//! The address that always means the embedded queue, and its replacement by the
//! address where that queue really listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The origin that manifests write for the embedded queue.
pub const EMBEDDED_ORIGIN: &str = "http://127.0.0.1:9324";

/// Whether `text` names the embedded queue's origin.
pub fn mentions(text: &str) -> bool {
    occurrences(text).next().is_some()
}

/// `text` with the embedded queue's origin replaced by `origin`.
pub fn substitute(text: &str, origin: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut done = 0;
    for at in occurrences(text) {
        replaced.push_str(&text[done..at]);
        replaced.push_str(origin);
        done = at + EMBEDDED_ORIGIN.len();
    }
    replaced.push_str(&text[done..]);
    replaced
}

/// The origin by which clients on this machine reach a server bound to `address`.
pub fn origin_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Where the origin stands as a whole: port 9324, not 93245.
fn occurrences(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices(EMBEDDED_ORIGIN)
        .map(|(at, _)| at)
        .filter(|at| {
            let rest = &text[at + EMBEDDED_ORIGIN.len()..];
            !rest.starts_with(|c: char| c.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_origin_and_nothing_like_it() {
        let to = |text| substitute(text, "http://127.0.0.1:5000");
        assert_eq!(
            to("http://127.0.0.1:9324/000000000000/q"),
            "http://127.0.0.1:5000/000000000000/q"
        );
        assert_eq!(to("http://127.0.0.1:9324"), "http://127.0.0.1:5000");
        assert_eq!(
            to("a http://127.0.0.1:9324, http://127.0.0.1:9324/"),
            "a http://127.0.0.1:5000, http://127.0.0.1:5000/"
        );
        assert_eq!(to("http://127.0.0.1:93245/q"), "http://127.0.0.1:93245/q");
        assert_eq!(to("http://localhost:9324/q"), "http://localhost:9324/q");
        assert!(!mentions("http://127.0.0.1:93245"));
    }

    #[test]
    fn a_server_on_every_address_is_reached_on_loopback() {
        assert_eq!(origin_of(([0, 0, 0, 0], 80).into()), "http://127.0.0.1:80");
        assert_eq!(origin_of(([10, 0, 0, 1], 80).into()), "http://10.0.0.1:80");
    }
}
