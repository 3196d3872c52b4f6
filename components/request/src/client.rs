//! Who sent a request: the peer that the host saw, or, behind a trusted proxy,
//! the one that the proxy saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::Head;

/// The networks whose `X-Forwarded-…` headers are believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Unspecified (0.0.0.0) when the host does not tell.
    pub address: IpAddr,
    /// Whether it came over TLS as far as the host or a trusted proxy says.
    pub is_https: bool,
}

impl Client {
    /// What limits count by: the address, or of IPv6 the /64, which one
    /// subscriber has as a whole.
    pub fn network(&self) -> String {
        match self.address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

impl TrustedProxies {
    /// From networks separated by commas, as in `10.0.0.0/8, ::1/128`; a single
    /// address is a network too. Gives the first that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(|part| {
                let network = part.parse::<IpNet>();
                network
                    .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| format!("`{part}` is no network of trusted proxies"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The sender of a request.
    pub fn client(&self, head: &Head) -> Client {
        let peer = head
            .header("spin-client-addr")
            .and_then(address_of)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let own_scheme = head.header("spin-full-url").unwrap_or_default();
        let own_is_https = own_scheme.starts_with("https://");
        if !self.trusts(peer) {
            return Client {
                address: peer,
                is_https: own_is_https,
            };
        }
        // The nearest proxy appends: from the right, the first that is not ours.
        // Left of what is no address, nothing can be believed.
        let hops: Vec<_> = head
            .values("x-forwarded-for")
            .flat_map(|value| value.split(','))
            .collect();
        let mut known = hops.iter().rev().map_while(|hop| address_of(hop.trim()));
        let address = known.find(|hop| !self.trusts(*hop));
        let forwarded = head.header("x-forwarded-proto").unwrap_or_default();
        Client {
            address: address.unwrap_or(peer),
            is_https: own_is_https || forwarded.trim().eq_ignore_ascii_case("https"),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let with_port = text.parse().map(|address: SocketAddr| address.ip());
    with_port.or_else(|_| text.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, headers: &[(&str, &str)]) -> Client {
        let head = Head::new("GET", "/", headers);
        TrustedProxies::parse(trusted).unwrap().client(&head)
    }

    #[test]
    fn forwarded_headers_count_only_from_a_trusted_proxy() {
        let peer = ("spin-client-addr", "10.1.2.3:4000");
        let forwarded = |value| [peer, ("x-forwarded-for", value)];
        for (trusted, value, expected) in [
            ("", "1.1.1.1", "10.1.2.3"),
            ("192.168.0.0/16", "1.1.1.1", "10.1.2.3"),
            ("10.0.0.0/8", "1.1.1.1", "1.1.1.1"),
            ("10.1.2.3", "1.1.1.1", "1.1.1.1"),
            ("10.0.0.0/8", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("10.0.0.0/8", "6.6.6.6, 1.1.1.1, 10.9.9.9", "1.1.1.1"),
            ("10.0.0.0/8", "[2001:db8::1]:80", "2001:db8::1"),
            ("10.0.0.0/8", "nonsense", "10.1.2.3"),
            ("10.0.0.0/8", "10.0.0.1", "10.1.2.3"),
        ] {
            let client = client(trusted, &forwarded(value));
            assert_eq!(client.address.to_string(), expected, "{trusted} {value}");
        }
    }

    #[test]
    fn nonsense_on_the_right_hides_what_is_left_of_it() {
        let headers = [
            ("spin-client-addr", "10.0.0.1:1"),
            ("x-forwarded-for", "6.6.6.6, nonsense"),
        ];
        let sender = client("10.0.0.0/8", &headers);
        assert_eq!(sender.address.to_string(), "10.0.0.1");
    }

    #[test]
    fn https_is_what_the_host_or_a_trusted_proxy_says() {
        let peer = ("spin-client-addr", "10.1.2.3:4000");
        let proto = ("x-forwarded-proto", "https");
        let url = ("spin-full-url", "https://site.test/");
        assert!(!client("", &[peer, proto]).is_https);
        assert!(client("10.0.0.0/8", &[peer, proto]).is_https);
        assert!(client("", &[peer, url]).is_https);
        assert!(!client("10.0.0.0/8", &[peer]).is_https);
    }

    #[test]
    fn a_v6_subscriber_is_one_network() {
        for (address, network) in [
            ("1.2.3.4:5", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:5", "1.2.3.4"),
            ("[2001:db8:1:2:3:4:5:6]:7", "2001:db8:1:2::/64"),
        ] {
            let client = client("", &[("spin-client-addr", address)]);
            assert_eq!(client.network(), network);
        }
        assert_eq!(client("", &[]).network(), "0.0.0.0");
    }

    #[test]
    fn a_bad_network_is_named() {
        let error = TrustedProxies::parse("10.0.0.0/8, proxy").unwrap_err();
        assert_eq!(error, "`proxy` is no network of trusted proxies");
    }
}
