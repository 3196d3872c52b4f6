//! Whom outgoing TLS connections trust: the authorities that the system knows
//! (or that `SSL_CERT_FILE` names) and, so that an image without certificates
//! works, Mozilla's list.

use std::io;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::MapErr;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiFuture, GaiResolver, Name};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// Reading the system's certificates takes many files: once is enough.
static CONFIG: LazyLock<ClientConfig> = LazyLock::new(read);

/// The settings for a client.
pub fn client_config() -> ClientConfig {
    CONFIG.clone()
}

/// What connects an HTTP client, with TLS where the scheme says so.
pub fn connector(timeout: Duration) -> HttpsConnector<HttpConnector<Resolver>> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    HttpsConnectorBuilder::new()
        .with_tls_config(client_config())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

/// Looks names up as the system does. Its error has a type of its own, by which a
/// name that leads nowhere is told from a server that does not answer.
#[derive(Clone)]
pub struct Resolver(GaiResolver);

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LookupError(#[from] io::Error);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = LookupError;
    type Future = MapErr<GaiFuture, fn(io::Error) -> LookupError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        self.0.poll_ready(cx).map_err(LookupError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        self.0.call(name).map_err(LookupError)
    }
}

fn read() -> ClientConfig {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!("cannot read the system's certificates: {error}");
    }
    roots.add_parsable_certificates(native.certs);
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("ring has the default versions: {error}"))
        .with_root_certificates(roots)
        .with_no_client_auth()
}
