//! Questions over HTTP, with redirects followed, and what bounds them: time, pace
//! and size. Knows no registry.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;
use url::Url;

use super::cache::Partial;
use super::error::DownloadError;
use crate::tls::{self, Resolver};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Until an answer begins, and between its parts.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Bytes a second that a download must keep, after the first minute.
const PACE: u64 = 16 << 10;
const MAX_REDIRECTS: usize = 5;

/// Asks servers.
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
}

/// What is downloaded, for messages.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) host: &'a str,
    pub(super) what: &'a str,
}

/// How much may come.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// As many bytes as somebody announced.
    Announced(u64),
    /// Nobody said how many.
    AtMost(u64),
}

impl Transport {
    pub(super) fn new() -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build(tls::connector(CONNECT_LIMIT)),
        }
    }

    /// The answer to a GET, wherever it leads. Credentials go to the first server
    /// alone, and from HTTPS nobody is led to plain HTTP.
    pub(super) async fn get(
        &self,
        url: &Url,
        accept: Option<&'static str>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response<Incoming>, Url), DownloadError> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = authorization.filter(|_| at.origin() == url.origin());
            let response = self.ask(&at, accept, own).await?;
            if !is_redirect(response.status()) {
                return Ok((response, at));
            }
            let answer = |reason: &str| DownloadError::Answer {
                host: host_of(&at),
                what: format!("`{}`", shown(&at)),
                reason: reason.to_owned(),
            };
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| at.join(location).ok());
            let next = next.ok_or_else(|| answer("it leads elsewhere, but not where"))?;
            match (at.scheme(), next.scheme()) {
                (_, "https") | ("http", "http") => at = next,
                _ => return Err(answer("it leads from `https` to another scheme")),
            }
        }
        Err(DownloadError::Answer {
            host: host_of(url),
            what: format!("`{}`", shown(url)),
            reason: format!("it leads elsewhere more than {MAX_REDIRECTS} times"),
        })
    }

    async fn ask(
        &self,
        url: &Url,
        accept: Option<&'static str>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, DownloadError> {
        let agent = concat!("gristmill/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::get(url.as_str()).header(USER_AGENT, agent);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let unreachable = |reason: String, hint: &str| DownloadError::Unreachable {
            host: host_of(url),
            reason,
            hint: hint.to_owned(),
        };
        let request = request.body(Empty::new());
        let request = request.map_err(|error| unreachable(error.to_string(), ""))?;
        match tokio::time::timeout(ANSWER_LIMIT, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let reason = deepest(&error);
                match tls_fault(&error) {
                    Some(rustls::Error::InvalidCertificate(_)) => Err(DownloadError::Untrusted {
                        host: host_of(url),
                        reason,
                    }),
                    Some(rustls::Error::InvalidMessage(_)) => {
                        let hint = "; if it speaks plain HTTP, add `--insecure`";
                        Err(unreachable(reason, hint))
                    }
                    _ => Err(unreachable(reason, "")),
                }
            }
            Err(_) => {
                let secs = ANSWER_LIMIT.as_secs();
                Err(unreachable(format!("no answer within {secs} s"), ""))
            }
        }
    }
}

/// Reads all of a small answer.
pub(super) async fn read(
    response: Response<Incoming>,
    limit: usize,
    named: Named<'_>,
) -> Result<Bytes, DownloadError> {
    let body = Limited::new(response.into_body(), limit).collect();
    match tokio::time::timeout(ANSWER_LIMIT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(DownloadError::TooLarge {
                what: format!("the answer of `{}` for {}", named.host, named.what),
                size: limit as u64 + 1,
                limit: limit as u64,
            })
        }
        Ok(Err(error)) => Err(named.broken_off(error.to_string())),
        Err(_) => Err(named.broken_off("it stopped coming".to_owned())),
    }
}

/// Writes an answer to a file, which hashes it, as it comes.
pub(super) async fn save(
    response: Response<Incoming>,
    into: &mut Partial,
    limit: Limit,
    named: Named<'_>,
    progress: impl Fn(u64),
) -> Result<(), DownloadError> {
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
    named.check(announced.unwrap_or(0), limit)?;
    let started = Instant::now();
    let mut body = response.into_body();
    let mut size = 0;
    loop {
        let frame = match tokio::time::timeout(ANSWER_LIMIT, body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(named.broken_off(deepest(&error))),
            Err(_) => return Err(named.broken_off("it stopped coming".to_owned())),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size += data.len() as u64;
        named.check(size, limit)?;
        if started.elapsed() > ANSWER_LIMIT + Duration::from_secs(size / PACE) {
            let reason = format!("it is slower than {PACE} bytes a second");
            return Err(named.broken_off(reason));
        }
        into.write(&data)?;
        progress(data.len() as u64);
    }
}

impl Named<'_> {
    fn broken_off(self, reason: String) -> DownloadError {
        DownloadError::BrokenOff {
            host: self.host.to_owned(),
            what: self.what.to_owned(),
            reason,
        }
    }

    fn check(self, size: u64, limit: Limit) -> Result<(), DownloadError> {
        match limit {
            Limit::Announced(announced) if size > announced => Err(DownloadError::Answer {
                host: self.host.to_owned(),
                what: self.what.to_owned(),
                reason: format!("it is larger than the {announced} bytes that were announced"),
            }),
            Limit::AtMost(limit) if size > limit => Err(DownloadError::TooLarge {
                what: format!("{} from `{}`", self.what, self.host),
                size,
                limit,
            }),
            Limit::Announced(_) | Limit::AtMost(_) => Ok(()),
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// With its port, where the URL names one.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Without what may be a secret: a user, a password, a signature.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host_of(url), url.path())
}

/// The cause of all the others says most.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What TLS had against a server, if that is the cause.
fn tls_fault<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let fault = error.downcast_ref::<rustls::Error>();
    // An I/O error names as its source that of the error in it.
    let wrapped = error.downcast_ref::<std::io::Error>();
    let inner = wrapped.and_then(std::io::Error::get_ref);
    let next = match inner {
        Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    };
    fault.or_else(|| tls_fault(next?))
}
