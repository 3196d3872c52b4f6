//! One repository of a registry, in the protocol of the OCI distribution
//! specification: manifests and blobs, and what it takes to be let in. Does not
//! know what applications are made of.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::credentials::{Credentials, Login};
use super::digest::Digest;
use super::error::DownloadError;
use super::reference::{Reference, Version};
use super::transport::{self, Named, Transport, host_of};

/// Bytes of a manifest. Registries take as much.
const MAX_MANIFEST: usize = 4 << 20;
/// Bytes of a token's answer.
const MAX_TOKEN: usize = 64 << 10;
/// What a manifest may be; those after the first are there to be named in errors.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository, and how one was let in.
pub(super) struct Repository {
    reference: Reference,
    insecure: bool,
    origin: OnceCell<Url>,
    authorization: Mutex<Option<HeaderValue>>,
}

/// What all repositories are asked with.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) transport: &'a Transport,
    pub(super) credentials: &'a Credentials,
}

/// What a registry wants to see before it answers.
enum Challenge {
    Basic,
    /// Tokens are at `realm`.
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository {
    /// Of this reference; plain HTTP if `insecure`.
    pub(super) fn new(reference: Reference, insecure: bool) -> Self {
        Self {
            reference,
            insecure,
            origin: OnceCell::new(),
            authorization: Mutex::default(),
        }
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The manifest of the reference, and its digest.
    pub(super) async fn manifest(
        &self,
        asking: Asking<'_>,
    ) -> Result<(Bytes, Digest), DownloadError> {
        let version = match self.reference.version() {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        };
        let what = format!("`{}`", self.reference);
        let path = format!("manifests/{version}");
        let response = self.get(asking, &path, Some(MANIFESTS), &what).await?;
        let said = response.headers().get(CONTENT_DIGEST).cloned();
        let named = Named {
            host: self.reference.host(),
            what: &what,
        };
        let bytes = transport::read(response, MAX_MANIFEST, named).await?;
        let found = Digest::of(&bytes);
        let expected = match self.reference.version() {
            Version::Digest(digest) => Some(digest.clone()),
            Version::Tag(_) => said.and_then(|said| said.to_str().ok()?.parse().ok()),
        };
        match expected {
            Some(expected) if expected != found => Err(DownloadError::Mismatch {
                host: self.reference.host().to_owned(),
                what: format!("the manifest of {what}"),
                expected,
                found,
            }),
            _ => Ok((bytes, found)),
        }
    }

    /// A blob, to be read.
    pub(super) async fn blob(
        &self,
        asking: Asking<'_>,
        digest: &Digest,
    ) -> Result<Response<Incoming>, DownloadError> {
        let path = format!("blobs/{digest}");
        let what = format!("layer {digest} of `{}`", self.reference);
        self.get(asking, &path, None, &what).await
    }

    async fn get(
        &self,
        asking: Asking<'_>,
        path: &str,
        accept: Option<&'static str>,
        what: &str,
    ) -> Result<Response<Incoming>, DownloadError> {
        let origin = self.origin(asking).await?;
        let repository = self.reference.repository();
        let url = origin.join(&format!("/v2/{repository}/{path}"));
        let url = url.unwrap_or_else(|_| origin.clone());
        let known = self.authorization();
        let transport = asking.transport;
        let (response, at) = transport.get(&url, accept, known.as_ref()).await?;
        // Where the registry leads to may refuse, but not ask who one is.
        if response.status() != StatusCode::UNAUTHORIZED || at.origin() != url.origin() {
            return self.accepted(response, None, what);
        }
        let login = asking.credentials.find(self.reference.host()).await;
        let challenge = Challenge::of(response.headers());
        let granted = match challenge {
            Some(Challenge::Bearer { realm, .. })
                if origin.scheme() == "https" && realm.scheme() != "https" =>
            {
                return Err(DownloadError::Answer {
                    host: self.reference.host().to_owned(),
                    what: what.to_owned(),
                    reason: "it wants a password to be sent by plain HTTP".to_owned(),
                });
            }
            Some(Challenge::Basic) => login.as_ref().and_then(Login::basic),
            Some(Challenge::Bearer { realm, service }) => {
                self.token(asking, realm, service, login.as_ref()).await?
            }
            None => None,
        };
        let Some(granted) = granted else {
            return self.accepted(response, login.as_ref(), what);
        };
        let (response, _) = transport.get(&url, accept, Some(&granted)).await?;
        let mut authorization = self.authorization.lock();
        let authorization = authorization.as_mut();
        match authorization {
            Ok(authorization) => **authorization = Some(granted),
            Err(poisoned) => **poisoned.get_mut() = Some(granted),
        }
        self.accepted(response, login.as_ref(), what)
    }

    fn authorization(&self) -> Option<HeaderValue> {
        let authorization = self.authorization.lock();
        authorization
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// As docker does: HTTPS, except that on this machine plain HTTP is good enough
    /// where nobody answers by HTTPS.
    async fn origin(&self, asking: Asking<'_>) -> Result<&Url, DownloadError> {
        let looking = async || {
            let host = self.reference.host();
            let plain = parse_origin("http", host);
            let secure = parse_origin("https", host);
            if self.insecure {
                return plain;
            }
            if !self.reference.is_loopback() {
                return secure;
            }
            let secure = secure?;
            match asking.transport.get(&secure, None, None).await {
                Err(DownloadError::Unreachable { .. }) => plain,
                // Whatever it says, it speaks TLS.
                Ok(_) | Err(_) => Ok(secure),
            }
        };
        self.origin.get_or_try_init(looking).await
    }

    /// A token for reading this repository, or nothing where one is not given.
    async fn token(
        &self,
        asking: Asking<'_>,
        mut realm: Url,
        service: Option<String>,
        login: Option<&Login>,
    ) -> Result<Option<HeaderValue>, DownloadError> {
        let scope = format!("repository:{}:pull", self.reference.repository());
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        realm.query_pairs_mut().append_pair("scope", &scope);
        let basic = login.and_then(Login::basic);
        let (response, _) = asking.transport.get(&realm, None, basic.as_ref()).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let host = host_of(&realm);
        let named = Named {
            host: &host,
            what: "a token",
        };
        let bytes = transport::read(response, MAX_TOKEN, named).await?;
        let token = serde_json::from_slice::<Token>(&bytes).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let header = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let mut header = header.ok_or_else(|| DownloadError::Answer {
            host: host.clone(),
            what: "a token".to_owned(),
            reason: "there is no token in it".to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn accepted(
        &self,
        response: Response<Incoming>,
        login: Option<&Login>,
        what: &str,
    ) -> Result<Response<Incoming>, DownloadError> {
        let host = self.reference.host().to_owned();
        let what = what.to_owned();
        let status = response.status();
        match status {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(DownloadError::NotFound {
                host,
                what,
                hint: "check repository, tag and digest",
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let repository = self.reference.repository().to_owned();
                let (who, hint) = match login {
                    None => (
                        "anonymous users".to_owned(),
                        format!("log in by `spin registry login {host}` or `docker login {host}`"),
                    ),
                    Some(login) => (
                        format!("the user in {}", login.found_in),
                        format!(
                            "log in again, or have the user allowed to read `{repository}`, if \
                             there is such a repository"
                        ),
                    ),
                };
                Err(DownloadError::Unauthorized {
                    host,
                    who,
                    what: repository,
                    status,
                    hint,
                })
            }
            status => Err(DownloadError::Status { host, what, status }),
        }
    }
}

fn parse_origin(scheme: &str, host: &str) -> Result<Url, DownloadError> {
    Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|error| DownloadError::Unreachable {
        host: host.to_owned(),
        reason: error.to_string(),
        hint: String::new(),
    })
}

impl Challenge {
    /// Of a refusal; a token is better than a password.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut found = None;
        for text in texts.filter_map(|value| value.to_str().ok()) {
            let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                found.get_or_insert(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let realm = parameter(rest, "realm").and_then(|realm| realm.parse().ok());
                if let Some(realm) = realm {
                    let service = parameter(rest, "service");
                    found = Some(Self::Bearer { realm, service });
                }
            }
        }
        found
    }
}

/// The value of `name="value"`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_start_matches([',', ' ']).trim_end();
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_want_to_see() {
        let text =
            r#"realm="https://h/token?a=b",service="the, registry",scope="repository:a/b:pull""#;
        assert_eq!(
            parameter(text, "realm").as_deref(),
            Some("https://h/token?a=b")
        );
        assert_eq!(parameter(text, "service").as_deref(), Some("the, registry"));
        assert_eq!(
            parameter(text, "scope").as_deref(),
            Some("repository:a/b:pull")
        );
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(
            parameter("realm=x, service=y", "service").as_deref(),
            Some("y")
        );
        assert_eq!(parameter(r#"realm="x"#, "realm"), None);
    }

    #[test]
    fn a_token_is_better_than_a_password() {
        let mut headers = HeaderMap::new();
        assert!(Challenge::of(&headers).is_none());
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"x\""),
        );
        assert!(matches!(Challenge::of(&headers), Some(Challenge::Basic)));
        let bearer = HeaderValue::from_static("Bearer realm=\"https://h/t\"");
        headers.append(WWW_AUTHENTICATE, bearer);
        assert!(matches!(
            Challenge::of(&headers),
            Some(Challenge::Bearer { .. })
        ));
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"x\""),
        );
        assert!(matches!(
            Challenge::of(&headers),
            Some(Challenge::Bearer { .. })
        ));
    }
}
