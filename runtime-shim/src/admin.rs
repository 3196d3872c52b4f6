//! The admin port: `/livez`, `/readyz`, `/metrics`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use wasmtime_wasi_http::WasiBody;

use crate::backends::Backends;
use crate::health::Health;
use crate::http::problem;
use crate::metrics::{BackendLabels, Metrics, QueueLabels};
use crate::queue::EmbeddedQueue;
use crate::stores::Stores;

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Starting = 0,
    Running = 1,
    Draining = 2,
}

/// What the triggers that run lean on.
pub struct Footing {
    /// The key-value stores.
    pub stores: Stores,
    /// The servers.
    pub backends: Backends,
    /// What the triggers listen to.
    pub sources: Vec<Arc<Health>>,
}

impl Footing {
    /// Ends what goes on behind stores and servers.
    pub async fn close(&self) {
        self.stores.close().await;
        self.backends.close().await;
    }
}

/// What a reload may replace.
pub struct Replaceable<T>(RwLock<T>);

impl<T: Clone> Replaceable<T> {
    /// What is there now.
    pub fn get(&self) -> T {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts `next` into its place.
    pub fn replace(&self, next: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl<T> From<T> for Replaceable<T> {
    fn from(first: T) -> Self {
        Self(RwLock::new(first))
    }
}

/// Whether the process can do its work.
pub struct Readiness {
    phase: AtomicU8,
    /// Of the triggers that run now.
    pub footing: Replaceable<Arc<Footing>>,
}

impl Readiness {
    /// Not ready yet.
    pub fn starting(footing: Arc<Footing>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            footing: footing.into(),
        }
    }

    /// Every trigger runs.
    pub fn set_running(&self) {
        self.phase.store(Phase::Running as u8, Ordering::Release);
    }

    /// The process takes nothing more.
    pub fn set_draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// What stands in the way, a line each; nothing when ready.
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Running as u8 => Vec::new(),
            phase if phase == Phase::Draining as u8 => vec!["draining".to_owned()],
            _ => vec!["starting".to_owned()],
        };
        let footing = self.footing.get();
        for (label, error) in footing.stores.failing() {
            obstacles.push(format!("key-value store `{label}`: {error}"));
        }
        obstacles.extend(footing.backends.down().iter().map(ToString::to_string));
        obstacles.extend(
            footing
                .sources
                .iter()
                .filter_map(|source| source.obstacle()),
        );
        obstacles
    }
}

/// What the admin port tells.
pub struct Admin {
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// What it counted.
    pub metrics: Arc<Metrics>,
    /// The embedded queues, where they are served.
    pub embedded: Replaceable<Option<EmbeddedQueue>>,
}

impl Admin {
    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<WasiBody> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let detail = format!("method {} is not supported here", request.method());
            return problem::response(StatusCode::METHOD_NOT_ALLOWED, &detail);
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" => {
                let obstacles = self.readiness.obstacles();
                if obstacles.is_empty() {
                    text(StatusCode::OK, "text/plain", "ready\n".to_owned())
                } else {
                    let list = obstacles.join("\n") + "\n";
                    text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", list)
                }
            }
            "/metrics" => self.metrics().await,
            path => {
                let detail =
                    format!("nothing is at `{path}`: try `/livez`, `/readyz` or `/metrics`");
                problem::response(StatusCode::NOT_FOUND, &detail)
            }
        }
    }

    async fn metrics(&self) -> Response<WasiBody> {
        // A server or queue that is gone must not go on with its last figures.
        self.metrics.backend_up.clear();
        for backend in self.readiness.footing.get().backends.established() {
            let labels = BackendLabels {
                backend: backend.name().to_owned(),
            };
            let up = i64::from(backend.check().is_ok());
            self.metrics.backend_up.get_or_create(&labels).set(up);
        }
        if let Some(embedded) = self.embedded.get() {
            self.metrics.queue_messages.clear();
            for (queue, depth) in embedded.depths().await {
                let states = [
                    ("visible", depth.visible),
                    ("in_flight", depth.in_flight),
                    ("delayed", depth.delayed),
                ];
                for (state, messages) in states {
                    let labels = QueueLabels {
                        queue: queue.clone(),
                        state,
                    };
                    let messages = i64::try_from(messages).unwrap_or(i64::MAX);
                    self.metrics
                        .queue_messages
                        .get_or_create(&labels)
                        .set(messages);
                }
            }
        }
        match self.metrics.encode() {
            Ok(body) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                text(StatusCode::OK, kind, body)
            }
            Err(error) => problem::response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<WasiBody> {
    let mut response = Response::new(
        Full::from(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
