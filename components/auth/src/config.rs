//! What an operator sets. Read where it is needed: a profile needs nothing of it.

use std::time::Duration;

use request::TrustedProxies;
use settings::Error;

/// The settings of the component.
pub(crate) struct Config {
    /// Where the site is; empty means wherever a request was sent to.
    pub(crate) public_origin: String,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) session_lifetime: Duration,
    pub(crate) registrations_per_hour: i64,
}

impl Config {
    #[cfg(target_family = "wasm")]
    pub(crate) fn from_variables() -> Result<Self, Error> {
        /// A year.
        const MOST_HOURS: u64 = 8760;
        let hours = settings::number("session_hours", 1, MOST_HOURS)?;
        let registrations = settings::number("registrations_per_hour", 1, 1_000_000)?;
        Ok(Self {
            public_origin: settings::origin("public_origin")?,
            trusted_proxies: trusted_proxies(&settings::text("trusted_proxies")?)?,
            session_lifetime: Duration::from_hours(hours),
            registrations_per_hour: registrations as i64,
        })
    }
}

/// The error names the variable only: readiness shows it to everybody.
fn trusted_proxies(text: &str) -> Result<TrustedProxies, Error> {
    TrustedProxies::parse(text).map_err(|_| Error::Form {
        name: "trusted_proxies".to_owned(),
        form: "networks separated by commas, as in `10.0.0.0/8, ::1`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_network_is_told_without_its_text() {
        assert!(trusted_proxies("").is_ok());
        assert!(trusted_proxies("10.0.0.0/8").is_ok());
        let error = trusted_proxies("10.0.0.0/8, proxy").err().unwrap();
        assert_eq!(
            error.to_string(),
            "variable `trusted_proxies` must be networks separated by commas, as in `10.0.0.0/8, ::1`"
        );
    }
}
