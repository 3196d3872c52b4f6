use super::message::{Receipt, Received};
use super::source::{EntryOutcome, QueueFacts, SourceError};
use std::time::Duration;
#[derive(Clone)]
pub struct EmbeddedQueue {}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct EmbeddedError;
pub struct Depth {
    pub visible: u64,
    pub in_flight: u64,
    pub delayed: u64,
}
impl EmbeddedQueue {
    pub async fn open(
        _d: &std::path::Path,
        _a: std::net::SocketAddr,
    ) -> Result<Self, EmbeddedError> {
        unimplemented!()
    }
    pub fn origin(&self) -> &str {
        unimplemented!()
    }
    pub async fn ensure(&self, _n: &str) -> Result<(), EmbeddedError> {
        unimplemented!()
    }
    pub async fn depths(&self) -> Vec<(String, Depth)> {
        unimplemented!()
    }
    pub async fn serve(&self, _s: tokio_util::sync::CancellationToken) {
        unimplemented!()
    }
    pub async fn source(
        &self,
        _u: &crate::app::QueueUrl,
    ) -> Result<EmbeddedSource, super::ConnectError> {
        unimplemented!()
    }
    pub async fn close(&self) {}
}
pub struct EmbeddedSource {
    facts: QueueFacts,
}
impl EmbeddedSource {
    pub(super) fn facts(&self) -> &QueueFacts {
        &self.facts
    }
    pub(super) async fn receive(
        &self,
        _m: u16,
        _w: Duration,
        _v: Duration,
    ) -> Result<Vec<Received>, SourceError> {
        unimplemented!()
    }
    pub(super) async fn delete(&self, _r: Vec<&Receipt>) -> Result<Vec<EntryOutcome>, SourceError> {
        unimplemented!()
    }
    pub(super) async fn change_visibility(
        &self,
        _r: Vec<(&Receipt, Duration)>,
    ) -> Result<Vec<EntryOutcome>, SourceError> {
        unimplemented!()
    }
    pub(super) async fn send_copy(
        &self,
        _t: &str,
        _m: &Received,
        _n: &str,
    ) -> Result<(), SourceError> {
        unimplemented!()
    }
}
