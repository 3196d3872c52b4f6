//! Which capability an imported interface belongs to, what people call it, and
//! what in the manifest grants it. Whether a call is allowed is decided
//! elsewhere, at the call.

use serde::Serialize;

use crate::app::Component;
use crate::invoker::{
    BATCH_EXPORT, COMMAND_EXPORT, CRON_EXPORT, HTTP_EXPORT, QUEUE_EXPORT, REDIS_EXPORT,
};

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Capability {
    HttpRequests,
    KeyValue,
    Sqlite,
    Postgres,
    Redis,
    Mqtt,
    Sockets,
    Variables,
    Mysql,
    LanguageModels,
    /// What every sandbox has: clocks, random numbers, its log.
    Basics,
    /// What this list does not know.
    Other,
}

impl Capability {
    /// Those that the manifest grants.
    pub(super) const GRANTABLE: [Self; 8] = [
        Self::HttpRequests,
        Self::KeyValue,
        Self::Sqlite,
        Self::Postgres,
        Self::Redis,
        Self::Mqtt,
        Self::Sockets,
        Self::Variables,
    ];

    /// Of an interface's name, its version included.
    pub(super) fn of(interface: &str) -> Self {
        let name = interface.split('@').next().unwrap_or(interface);
        let (package, _) = name.split_once('/').unwrap_or((name, ""));
        match (package, name) {
            (_, "wasi:http/outgoing-handler") => Self::HttpRequests,
            ("wasi:keyvalue", _) | (_, "fermyon:spin/key-value") => Self::KeyValue,
            ("spin:sqlite", _) | (_, "fermyon:spin/sqlite") => Self::Sqlite,
            ("spin:postgres", _) | (_, "fermyon:spin/postgres") => Self::Postgres,
            (_, "fermyon:spin/redis") => Self::Redis,
            (_, "fermyon:spin/mqtt") => Self::Mqtt,
            (_, "fermyon:spin/mysql") => Self::Mysql,
            (_, "fermyon:spin/llm") => Self::LanguageModels,
            ("wasi:sockets", _) => Self::Sockets,
            ("wasi:config", _) | (_, "fermyon:spin/variables") => Self::Variables,
            ("wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random", _) => {
                Self::Basics
            }
            // Nothing but types: what a contract's functions talk about.
            _ if name.ends_with("types") => Self::Basics,
            _ => Self::Other,
        }
    }

    /// What people call it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::HttpRequests => "HTTP requests",
            Self::KeyValue => "key-value stores",
            Self::Sqlite => "SQLite databases",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Mqtt => "MQTT",
            Self::Sockets => "sockets",
            Self::Variables => "variables",
            Self::Mysql => "MySQL",
            Self::LanguageModels => "language models",
            Self::Basics => "basics",
            Self::Other => "other",
        }
    }

    /// What the manifest grants of it, to `component`.
    pub(super) fn granted(self, component: &Component) -> Vec<String> {
        match self {
            Self::KeyValue => texts(&component.stores),
            Self::Sqlite => texts(&component.databases),
            Self::Variables => texts(component.variables.keys()),
            _ => texts(component.allowed_hosts.about(self.schemes())),
        }
    }

    /// The schemes in `allowed_outbound_hosts` that are about it.
    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::HttpRequests => &["http", "https"],
            Self::Postgres => &["postgres"],
            Self::Redis => &["redis", "rediss"],
            Self::Mqtt => &["mqtt", "mqtts"],
            Self::Sockets => &["tcp", "udp"],
            _ => &[],
        }
    }

    /// What to add to `[component.<id>]`.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::HttpRequests => "allowed_outbound_hosts = [\"https://HOST\"]",
            Self::KeyValue => "key_value_stores = [\"LABEL\"]",
            Self::Sqlite => "sqlite_databases = [\"LABEL\"]",
            Self::Postgres => "allowed_outbound_hosts = [\"postgres://HOST\"]",
            Self::Redis => "allowed_outbound_hosts = [\"redis://HOST\"]",
            Self::Mqtt => "allowed_outbound_hosts = [\"mqtt://HOST\"]",
            Self::Sockets => "allowed_outbound_hosts = [\"tcp://HOST:PORT\"]",
            Self::Variables => "variables = { NAME = \"VALUE\" }",
            Self::Mysql | Self::LanguageModels | Self::Basics | Self::Other => "nothing",
        }
    }

    /// Whether there is anything behind it. What is not offered is linked all the
    /// same, and each call is an error: components import it without calling it.
    pub(super) fn is_offered(self) -> bool {
        !matches!(self, Self::Mysql | Self::LanguageModels)
    }

    /// Whether toolchains import it for components that never call it: no reason
    /// for a warning.
    pub(super) fn is_imported_unasked(self) -> bool {
        self == Self::Sockets
    }
}

/// What people call an export.
pub(super) fn trigger_of(export: &str) -> &'static str {
    match export {
        HTTP_EXPORT => "HTTP handler",
        BATCH_EXPORT => "batches of queue messages",
        QUEUE_EXPORT => "queue messages",
        CRON_EXPORT => "schedules",
        REDIS_EXPORT => "Redis messages",
        COMMAND_EXPORT => "messages, schedules",
        _ => "other",
    }
}

fn texts(names: impl IntoIterator<Item: ToString>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_belong_to_capabilities() {
        for (interface, capability) in [
            ("wasi:http/outgoing-handler@0.2.0", Capability::HttpRequests),
            ("wasi:http/types@0.2.0", Capability::Basics),
            ("fermyon:spin/key-value@2.0.0", Capability::KeyValue),
            ("fermyon:spin/mysql@2.0.0", Capability::Mysql),
            ("fermyon:spin/llm@2.0.0", Capability::LanguageModels),
            ("wasi:keyvalue/atomics@0.2.0-draft2", Capability::KeyValue),
            ("fermyon:spin/sqlite@2.0.0", Capability::Sqlite),
            ("spin:sqlite/sqlite@3.0.0", Capability::Sqlite),
            ("spin:postgres/postgres@4.0.0", Capability::Postgres),
            ("fermyon:spin/rdbms-types@2.0.0", Capability::Basics),
            ("fermyon:spin/redis@2.0.0", Capability::Redis),
            (
                "wasi:config/store@0.2.0-draft-2024-09-27",
                Capability::Variables,
            ),
            ("wasi:sockets/tcp@0.2.0", Capability::Sockets),
            ("wasi:cli/stderr@0.2.0", Capability::Basics),
            ("fermyon:spin-sqs/sqs-types@2.0.0", Capability::Basics),
            ("gristmill:queue/types@0.1.0", Capability::Basics),
            ("acme:rockets/launch", Capability::Other),
        ] {
            assert_eq!(Capability::of(interface), capability, "{interface}");
        }
    }
}
