//! `allowed_outbound_hosts`: which addresses a component may reach. Pure
//! matching, no I/O. Grammar: Spin, `outbound-networking-config/allowed_hosts.rs`.

use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

use crate::names::ComponentId;

/// Hosts under this suffix are components of the same application.
pub const SERVICE_CHAINING_SUFFIX: &str = ".spin.internal";

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// As it may be shown.
    shown: String,
    scheme: Option<String>,
    host: HostPattern,
    port: PortPattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    Itself,
    Subdomains(String),
    Exactly(Host),
    Network(IpNet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PortPattern {
    Any,
    Exactly(u16),
    Range(Range<u16>),
}

/// Why an entry cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{entry}` is not an allowed host: {reason}")]
pub struct AllowedHostError {
    entry: String,
    reason: String,
}

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(entry: &str) -> Result<Self, AllowedHostError> {
        let fail = |reason: &str| AllowedHostError {
            entry: entry.to_owned(),
            reason: reason.to_owned(),
        };
        let Some((scheme, rest)) = entry.trim().split_once("://") else {
            return Err(fail(
                "write `scheme://host[:port]`, for example `https://example.com`",
            ));
        };
        if scheme != "*" && (scheme.is_empty() || !scheme.chars().all(char::is_alphabetic)) {
            return Err(fail("the scheme is `*` or letters"));
        }
        let (host, port) = split_port(rest);
        if let Some((_, path)) = port.split_once('/')
            && !path.is_empty()
        {
            return Err(fail("it must not have a path"));
        }
        let host = parse_host(host).map_err(|reason| fail(&reason))?;
        let port =
            parse_port(port.trim_end_matches('/'), scheme).map_err(|reason| fail(&reason))?;
        Ok(Self {
            shown: entry.trim().to_owned(),
            scheme: (scheme != "*").then(|| scheme.to_owned()),
            host,
            port,
        })
    }
}

/// `host:port`, minding IPv6 in brackets and networks in CIDR form.
fn split_port(rest: &str) -> (&str, &str) {
    match rest.rsplit_once(':') {
        Some((host, port)) if !rest.ends_with(']') && rest.parse::<IpNet>().is_err() => {
            (host, port)
        }
        _ => (rest, ""),
    }
}

fn parse_host(host: &str) -> Result<HostPattern, String> {
    if host == "*" {
        return Ok(HostPattern::Any);
    }
    if host == "self" || host == "self.alt" {
        return Ok(HostPattern::Itself);
    }
    if let Ok(network) = host.parse::<IpNet>() {
        return Ok(HostPattern::Network(network.trunc()));
    }
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.contains('/') {
        return Err("it must not have a path".into());
    }
    if let Some(domain) = host.strip_prefix("*.") {
        return match Host::parse(domain) {
            Ok(Host::Domain(domain)) if !domain.contains('*') => {
                Ok(HostPattern::Subdomains(format!(".{domain}")))
            }
            _ => Err(format!("`{domain}` is not a domain")),
        };
    }
    if host.contains('*') {
        return Err("`*` may stand for the whole host or its first label only".into());
    }
    match Host::parse(host) {
        Ok(host) => Ok(HostPattern::Exactly(host)),
        Err(error) => Err(format!("host `{host}`: {error}")),
    }
}

fn parse_port(port: &str, scheme: &str) -> Result<PortPattern, String> {
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("port `{text}` is not a number up to 65535"))
    };
    if port.is_empty() {
        return default_port(scheme)
            .map(PortPattern::Exactly)
            .ok_or_else(|| {
                format!("scheme `{scheme}` has no default port, so the entry must name one")
            });
    }
    if port == "*" {
        return Ok(PortPattern::Any);
    }
    match port.split_once("..") {
        Some((start, end)) => Ok(PortPattern::Range(number(start)?..number(end)?)),
        None => Ok(PortPattern::Exactly(number(port)?)),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "postgres" => 5432,
        "mysql" => 3306,
        "redis" => 6379,
        "mqtt" => 1883,
        "http" => 80,
        "https" => 443,
        _ => return None,
    })
}

impl HostPattern {
    fn fits(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Subdomains(suffix), Host::Domain(domain)) => domain.ends_with(suffix.as_str()),
            (Self::Exactly(allowed), host) => allowed == host,
            (Self::Network(network), Host::Ipv4(ip)) => network.contains(&IpAddr::from(*ip)),
            (Self::Network(network), Host::Ipv6(ip)) => network.contains(&IpAddr::from(*ip)),
            _ => false,
        }
    }
}

impl AllowedHost {
    /// Shows `template` in place of the entry, which has a secret in it.
    #[must_use]
    pub fn shown_as(self, template: &str) -> Self {
        let shown = template.to_owned();
        Self { shown, ..self }
    }

    fn fits_scheme(&self, scheme: &str) -> bool {
        self.scheme
            .as_deref()
            .is_none_or(|allowed| allowed == scheme)
    }

    fn allows(&self, scheme: &str, host: &Host, port: Option<u16>) -> bool {
        let port_fits = match (&self.port, port.or_else(|| default_port(scheme))) {
            (PortPattern::Any, _) => true,
            (PortPattern::Exactly(allowed), Some(port)) => *allowed == port,
            (PortPattern::Range(range), Some(port)) => range.contains(&port),
            (_, None) => false,
        };
        self.fits_scheme(scheme) && self.host.fits(host) && port_fits
    }
}

/// The whole list of a component.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Vec<AllowedHost>);

impl AllowedHosts {
    /// Adds an entry.
    pub fn push(&mut self, host: AllowedHost) {
        self.0.push(host);
    }

    /// The entries that are about one of `schemes`, as they may be shown.
    pub fn about(&self, schemes: &[&str]) -> impl Iterator<Item = &str> {
        let about = |allowed: &&AllowedHost| schemes.iter().any(|s| allowed.fits_scheme(s));
        self.0
            .iter()
            .filter(about)
            .map(|allowed| allowed.shown.as_str())
    }

    /// Whether `scheme://host[:port]` may be reached.
    pub fn allow(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let Ok(host) = Host::parse(host) else {
            return false;
        };
        self.0
            .iter()
            .any(|allowed| allowed.allows(scheme, &host, port))
    }

    /// Whether an entry names exactly this host and port: not a wildcard, a network, a range.
    pub fn names(&self, scheme: &str, host: &str, port: u16) -> bool {
        let Ok(host) = Host::parse(host) else {
            return false;
        };
        self.0.iter().any(|allowed| {
            matches!(allowed.host, HostPattern::Exactly(_))
                && matches!(allowed.port, PortPattern::Exactly(_))
                && allowed.allows(scheme, &host, Some(port))
        })
    }

    /// Whether `scheme://ip:port` may be reached.
    pub fn allow_ip(&self, scheme: &str, ip: IpAddr, port: u16) -> bool {
        let host = match ip {
            IpAddr::V4(ip) => Host::Ipv4(ip),
            IpAddr::V6(ip) => Host::Ipv6(ip),
        };
        self.0
            .iter()
            .any(|allowed| allowed.allows(scheme, &host, Some(port)))
    }

    /// Whether anything may be reached by `scheme`.
    pub fn allow_scheme(&self, scheme: &str) -> bool {
        self.0.iter().any(|allowed| allowed.fits_scheme(scheme))
    }

    /// Whether sockets to the host called `name` are allowed, at whatever port.
    pub fn allow_lookup(&self, name: &str) -> bool {
        let Ok(host @ Host::Domain(_)) = Host::parse(name) else {
            return false;
        };
        self.0.iter().any(|allowed| {
            (allowed.fits_scheme("tcp") || allowed.fits_scheme("udp")) && allowed.host.fits(&host)
        })
    }

    /// Whether requests to the application itself (`self`) are allowed.
    pub fn allow_itself(&self, scheme: &str) -> bool {
        self.0.iter().any(|allowed| {
            matches!(allowed.host, HostPattern::Any | HostPattern::Itself)
                && allowed.fits_scheme(scheme)
        })
    }

    /// Whether an entry allows every component of the application at once.
    pub fn allow_any_chained(&self) -> bool {
        self.0.iter().any(|allowed| match &allowed.host {
            HostPattern::Any => true,
            HostPattern::Subdomains(suffix) => SERVICE_CHAINING_SUFFIX.ends_with(suffix.as_str()),
            _ => false,
        })
    }

    /// The components that literal entries name for service chaining.
    pub fn chained_components(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|allowed| match &allowed.host {
            HostPattern::Exactly(Host::Domain(domain)) => chained_component(domain),
            _ => None,
        })
    }
}

/// The component id in `<id>.spin.internal`.
fn chained_component(host: &str) -> Option<&str> {
    host.strip_suffix(SERVICE_CHAINING_SUFFIX)
        .filter(|id| ComponentId::new(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: &str, allowed: &[(&str, &str, u16)], refused: &[(&str, &str, u16)]) {
        let hosts = AllowedHosts(vec![entry.parse().expect(entry)]);
        for (scheme, host, port) in allowed {
            assert!(
                hosts.allow(scheme, host, Some(*port)),
                "{entry} must allow {scheme}://{host}:{port}"
            );
        }
        for (scheme, host, port) in refused {
            assert!(
                !hosts.allow(scheme, host, Some(*port)),
                "{entry} must refuse {scheme}://{host}:{port}"
            );
        }
    }

    #[test]
    fn matches_scheme_host_and_port() {
        check(
            "https://example.com",
            &[("https", "example.com", 443), ("https", "EXAMPLE.com", 443)],
            &[
                ("http", "example.com", 443),
                ("https", "example.com", 444),
                ("https", "a.example.com", 443),
                ("https", "example.com.evil.test", 443),
            ],
        );
        check(
            "http://127.0.0.1:9324",
            &[("http", "127.0.0.1", 9324)],
            &[("http", "127.0.0.2", 9324)],
        );
        check(
            "http://[::1]:80",
            &[("http", "[::1]", 80)],
            &[("http", "[::2]", 80)],
        );
        check(
            "*://*:*",
            &[("redis", "x", 1), ("http", "10.0.0.1", 9)],
            &[],
        );
        check(
            "https://*.example.com",
            &[
                ("https", "a.example.com", 443),
                ("https", "a.b.example.com", 443),
            ],
            &[
                ("https", "example.com", 443),
                ("https", "badexample.com", 443),
            ],
        );
        check(
            "http://10.0.0.0/8:80",
            &[("http", "10.1.2.3", 80)],
            &[("http", "11.0.0.1", 80)],
        );
        check(
            "http://x:8000..8002",
            &[("http", "x", 8001)],
            &[("http", "x", 8002), ("http", "x", 7999)],
        );
        check(
            "redis://cache",
            &[("redis", "cache", 6379)],
            &[("redis", "cache", 6380)],
        );
    }

    #[test]
    fn refuses_malformed_entries_with_the_reason() {
        for (entry, reason) in [
            ("example.com", "scheme://host"),
            ("", "scheme://host"),
            ("*", "scheme://host"),
            ("http://example.com/path", "path"),
            ("http://example.com:80/path", "path"),
            ("foo://example.com", "no default port"),
            ("http://example.com:99999", "65535"),
            ("h2c://x:1", "letters"),
            ("http://a.*.b", "`*`"),
            ("http://", "host"),
        ] {
            let error = entry.parse::<AllowedHost>().expect_err(entry).to_string();
            assert!(error.contains(reason), "`{reason}` not in `{error}`");
        }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!AllowedHosts::default().allow("http", "127.0.0.1", Some(80)));
        assert!(!AllowedHosts::default().allow_itself("http"));
    }

    #[test]
    fn knows_what_is_about_sockets() {
        for (entry, tcp, lookup) in [
            ("tcp://db.test:5432", true, true),
            ("udp://*.test:53", false, true),
            ("*://*:*", true, true),
            ("tcp://other.test:5432", true, false),
            ("tcp://10.0.0.0/8:*", true, false),
            ("redis://db.test:6379", false, false),
            ("https://db.test", false, false),
        ] {
            let hosts = AllowedHosts(vec![entry.parse().expect(entry)]);
            assert_eq!(hosts.allow_scheme("tcp"), tcp, "{entry}");
            assert_eq!(hosts.allow_lookup("db.test"), lookup, "{entry}");
            assert!(!hosts.allow_lookup("127.0.0.1"), "{entry}");
        }
    }

    #[test]
    fn entries_are_shown_without_their_secrets() {
        let secret: AllowedHost = "https://hunter2.test".parse().expect("entry");
        let hosts = AllowedHosts(vec![
            "redis://cache".parse().expect("entry"),
            secret.shown_as("{{ host }}"),
            "*://any:*".parse().expect("entry"),
        ]);
        let about = |schemes: &[&str]| hosts.about(schemes).collect::<Vec<_>>().join(" ");
        assert_eq!(about(&["http", "https"]), "{{ host }} *://any:*");
        assert_eq!(about(&["redis"]), "redis://cache *://any:*");
        assert_eq!(about(&["tcp"]), "*://any:*");
    }

    #[test]
    fn knows_chained_components() {
        let hosts = AllowedHosts(vec!["http://auth.spin.internal".parse().expect("entry")]);
        assert_eq!(hosts.chained_components().collect::<Vec<_>>(), ["auth"]);
        assert_eq!(chained_component("auth.spin.internal.evil.test"), None);
    }
}
