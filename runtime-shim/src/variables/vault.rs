//! Values from Vault: the `value` of a secret in a key-value engine of version
//! 2. Keys of the configuration as in Spin. Errors name the server,
//! never the token or what it answered.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use url::Url;

use crate::names::VariableName;
use crate::secret::Secret;
use crate::settings::Environment;
use crate::tls::{self, Resolver};

/// How long one question may take, connecting included.
const LIMIT: Duration = Duration::from_secs(5);
/// Before the one repetition: at least this, at most twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of an answer. Vault's own bound for a secret is 1 MiB.
const MAX_ANSWER: usize = 2 << 20;
const TOKEN_HEADER: &str = "x-vault-token";
const TOKEN_SETTING: &str = "VAULT_TOKEN";

/// `type = "vault"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    url: String,
    /// Not in the file: taken from the environment.
    token: Option<Secret>,
    mount: String,
    prefix: Option<String>,
}

/// A server, and where in it to look.
pub struct Vault {
    /// Up to the folder that holds the secrets.
    folder: Url,
    host: String,
    token: HeaderValue,
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
}

/// Why it has no value to give.
#[derive(Debug, thiserror::Error)]
#[error("Vault at `{host}` {fault}")]
pub struct VaultError {
    host: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("answered {0}{explanation}", explanation = explain(*.0))]
    Status(StatusCode),
    #[error("broke off its answer, or it is longer than {MAX_ANSWER} bytes")]
    Body,
    #[error("did not answer with a secret of a key-value engine of version 2 that has a `value`")]
    Malformed,
}

fn explain(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => ": it does not take the token, or its policy forbids the path",
        StatusCode::SERVICE_UNAVAILABLE => ": it is sealed or under maintenance",
        _ => "",
    }
}

impl Fault {
    /// Whether the next moment may do better.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status(status) => status.is_server_error(),
            Self::TimedOut | Self::Body | Self::Malformed => false,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Version,
}

#[derive(Deserialize)]
struct Version {
    data: Content,
}

#[derive(Deserialize)]
struct Content {
    value: String,
}

impl Vault {
    /// Checks the configuration; nothing is asked yet.
    pub fn new(config: VaultConfig, environment: &Environment) -> Result<Self, String> {
        let token = match config.token {
            Some(token) => token,
            None => environment
                .get(TOKEN_SETTING)
                .map(Secret::from)
                .ok_or_else(|| {
                    format!("`token` is missing, and {TOKEN_SETTING} is not set either")
                })?,
        };
        let mut token = HeaderValue::from_str(token.expose())
            .map_err(|_| "`token` has a character that no token has".to_owned())?;
        token.set_sensitive(true);
        let mut folder = Url::parse(&config.url).map_err(|error| format!("`url`: {error}"))?;
        let host = match (folder.scheme(), folder.host_str(), folder.port()) {
            ("http" | "https", Some(host), Some(port)) => format!("{host}:{port}"),
            ("http" | "https", Some(host), None) => host.to_owned(),
            _ => return Err("`url` does not begin with `http://` or `https://`".to_owned()),
        };
        let path = [
            Some("v1"),
            Some(&config.mount),
            Some("data"),
            config.prefix.as_deref(),
        ];
        let path = path.into_iter().flatten().flat_map(|part| part.split('/'));
        if let Ok(mut segments) = folder.path_segments_mut() {
            let named = path.filter(|segment| !segment.is_empty());
            segments.pop_if_empty().extend(named);
        }
        Ok(Self {
            folder,
            host,
            token,
            client: Client::builder(TokioExecutor::new()).build(tls::connector(LIMIT)),
        })
    }

    /// The server's name for messages.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The value of the secret `name`; none if there is no such secret.
    pub(super) async fn get(&self, name: &VariableName) -> Result<Option<String>, VaultError> {
        let answer = match self.ask(name).await {
            Err(fault) if fault.may_pass() => {
                tokio::time::sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
                self.ask(name).await
            }
            answer => answer,
        };
        answer.map_err(|fault| VaultError {
            host: self.host.clone(),
            fault,
        })
    }

    async fn ask(&self, name: &VariableName) -> Result<Option<String>, Fault> {
        let asked = tokio::time::timeout(LIMIT, self.exchange(name));
        let Some(body) = asked.await.map_err(|_| Fault::TimedOut)?? else {
            return Ok(None);
        };
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| Fault::Malformed)?;
        Ok(Some(answer.data.data.value))
    }

    /// The body of its answer, if it has the secret.
    async fn exchange(&self, name: &VariableName) -> Result<Option<Bytes>, Fault> {
        let mut url = self.folder.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(name.as_str());
        }
        let request = Request::get(url.as_str())
            .header(TOKEN_HEADER, self.token.clone())
            .body(Empty::new())
            .map_err(|error| Fault::Unreachable(error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), root_cause);
            Fault::Unreachable(cause)
        })?;
        match response.status() {
            StatusCode::OK => {
                let body = Limited::new(response.into_body(), MAX_ANSWER)
                    .collect()
                    .await;
                Ok(Some(body.map_err(|_| Fault::Body)?.to_bytes()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Fault::Status(status)),
        }
    }
}

fn root_cause(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(config: &str, token: Option<&str>) -> Result<Vault, String> {
        let config = toml::from_str(config).map_err(|error| error.to_string())?;
        let environment = token.map(|token| (TOKEN_SETTING, token));
        Vault::new(config, &environment.into_iter().collect())
    }

    #[test]
    fn builds_the_path_and_takes_the_token_from_the_environment() {
        for (config, folder) in [
            (
                "url = 'http://v:8200'\nmount = 'secret'",
                "http://v:8200/v1/secret/data",
            ),
            (
                "url = 'https://v/vault/'\nmount = 'team/kv/'\nprefix = 'app/one'",
                "https://v/vault/v1/team/kv/data/app/one",
            ),
        ] {
            let vault = vault(config, Some("t0ken")).expect(config);
            assert_eq!(vault.folder.as_str(), folder);
            assert_eq!(vault.token, "t0ken");
        }
    }

    #[test]
    fn refuses_what_cannot_work_without_showing_the_token() {
        for (config, reason) in [
            ("url = 'http://v'\nmount = 'm'", "VAULT_TOKEN is not set"),
            ("url = 'v:8200'\nmount = 'm'\ntoken = 't0ken'", "`http://`"),
            (
                "url = 'http://v'\nmount = 'm'\ntoken = \"t0ken\\n\"",
                "character",
            ),
            (
                "url = 'http://v'\nmount = 'm'\nrole = 'r'",
                "unknown field `role`",
            ),
        ] {
            let error = vault(config, None).err().expect(config);
            assert!(error.contains(reason), "`{reason}` not in `{error}`");
            assert!(!error.contains("t0ken"), "{error}");
        }
    }
}
