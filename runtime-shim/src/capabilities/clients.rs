//! The clients that all components share, each with its bounds.

use super::outbound_http::HttpClient;
use crate::backends::Backends;
use crate::redis_pool::RedisPools;

/// What goes out of the process on behalf of components.
pub struct Clients {
    pub(super) http: HttpClient,
    pub(super) redis: RedisPools,
}

impl Clients {
    /// None is connected yet; the servers are watched as part of `backends`.
    pub fn new(backends: &Backends) -> Self {
        Self {
            http: HttpClient::new(),
            redis: RedisPools::new(backends.clone()),
        }
    }
}
