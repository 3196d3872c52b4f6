//! The address of a database as a guest writes it: a URL or `key=value` pairs.
//! It knows which hosts would be reached, and never shows user or password.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::error::{PostgresError, with_causes};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After so long without an answer to what was sent, a connection is dead.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
const DEFAULT_PORT: u16 = 5432;

/// A parsed address.
pub(super) struct Address {
    /// As the guest wrote it, with user and password: never shown.
    pub(super) text: String,
    pub(super) config: Config,
    pub(super) endpoints: Vec<Endpoint>,
}

/// One host that may be connected to.
pub(super) struct Endpoint {
    /// A name or an address; IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn parse(text: String) -> Result<Self, PostgresError> {
        let mut config: Config = text
            .parse()
            .map_err(|error: tokio_postgres::Error| refuse(with_causes(&error)))?;
        // It would be connected to instead of the host that was checked.
        if !config.get_hostaddrs().is_empty() {
            return Err(refuse("`hostaddr` is not supported: name the host".into()));
        }
        let hosts = config.get_hosts();
        let ports = config.get_ports();
        if hosts.is_empty() {
            return Err(refuse("it names no host".into()));
        }
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(refuse("each host needs a port, or all have one".into()));
        }
        let endpoints = hosts.iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first());
            Ok(Endpoint {
                host: checked(host)?,
                port: port.copied().unwrap_or(DEFAULT_PORT),
            })
        });
        let endpoints = endpoints.collect::<Result<_, PostgresError>>()?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT)
            .keepalives_idle(KEEPALIVE);
        if config.get_application_name().is_none() {
            config.application_name("gristmill");
        }
        Ok(Self {
            text,
            config,
            endpoints,
        })
    }

    /// What it is called in messages: `postgres host:port/database`.
    pub(super) fn name(&self) -> String {
        let hosts: Vec<_> = self.endpoints.iter().map(Endpoint::to_string).collect();
        let hosts = hosts.join(",");
        // A guest's own text must not look like another line of a log.
        let database = self.config.get_dbname();
        match database.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())) {
            Some(database) => format!("postgres {hosts}/{database}"),
            None => format!("postgres {hosts}"),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn refuse(reason: String) -> PostgresError {
    PostgresError::Address(reason)
}

/// The host as `AllowedHosts` reads it. What that would decode or normalize
/// is refused: the resolver would be asked for another name than was allowed.
fn checked(host: &Host) -> Result<String, PostgresError> {
    let Host::Tcp(host) = host else {
        return Err(refuse("Unix sockets are not supported".into()));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(refuse("the host is neither a name nor an address".into()));
    }
    let is_ipv6 = host.contains(':');
    Ok(if is_ipv6 {
        format!("[{host}]")
    } else {
        host.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_hosts_and_hides_the_rest() {
        for (text, name) in [
            ("postgres://u:hunter2@db/app", "postgres db:5432/app"),
            (
                "postgresql://u:hunter2@[::1]:7/app?sslmode=disable",
                "postgres [::1]:7/app",
            ),
            (
                "host=a,b port=1,2 user=u password=hunter2",
                "postgres a:1,b:2",
            ),
            (
                "host=a,b port=3 dbname='two words' user=u",
                "postgres a:3,b:3",
            ),
        ] {
            let address = Address::parse(text.to_owned()).expect(text);
            assert_eq!(address.name(), name);
        }
    }

    #[test]
    fn refuses_what_would_reach_somewhere_else() {
        for (text, reason) in [
            ("hello", "invalid connection string"),
            ("host=allowed hostaddr=10.0.0.1", "`hostaddr`"),
            ("hostaddr=10.0.0.1", "`hostaddr`"),
            ("user=u", "no host"),
            ("host=/run/postgresql", "Unix sockets"),
            ("postgres://u@%2Frun%2Fpostgresql/db", "Unix sockets"),
            ("host=allowed,/run/postgresql", "Unix sockets"),
            ("host=ex%61mple.com", "neither a name nor an address"),
            ("host=ｅxample.com", "neither a name nor an address"),
            ("host=a,b,c port=1,2", "each host needs a port"),
        ] {
            let error = Address::parse(text.to_owned()).err().expect(text);
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }
}
