//! What is counted of invocations, looked up once for each component.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::{ComponentLabels, Metrics, OutcomeLabels};
use crate::names::ComponentId;

/// What is counted of one component's invocations.
pub(super) struct Meter {
    outcomes: [(&'static str, Counter); 6],
    seconds: Histogram,
    running: Gauge,
}

/// How an invocation ends that was dropped, because its lease was lost or the
/// process stops.
const CANCELLED: &str = "cancelled";

impl Meter {
    pub(super) fn new(metrics: &Metrics, component: &ComponentId) -> Self {
        let labels = ComponentLabels {
            component: component.to_string(),
        };
        let outcomes = [
            "completed",
            "error",
            "trap",
            "timeout",
            "overloaded",
            CANCELLED,
        ];
        let outcomes = outcomes.map(|outcome| {
            let labels = OutcomeLabels {
                component: component.to_string(),
                outcome,
            };
            (outcome, metrics.invocations.get_or_create_owned(&labels))
        });
        Self {
            outcomes,
            seconds: metrics.invocation_seconds.get_or_create_owned(&labels),
            running: metrics.running.get_or_create_owned(&labels),
        }
    }

    /// Counts an invocation from now until the guard is dropped.
    pub(super) fn begin(&self) -> Running<'_> {
        self.running.inc();
        Running {
            meter: self,
            started: Instant::now(),
            outcome: CANCELLED,
        }
    }
}

/// One invocation that runs.
pub(super) struct Running<'a> {
    meter: &'a Meter,
    /// When it began.
    pub(super) started: Instant,
    /// How it ended.
    pub(super) outcome: &'static str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.running.dec();
        self.meter
            .seconds
            .observe(self.started.elapsed().as_secs_f64());
        let counter = self
            .meter
            .outcomes
            .iter()
            .find(|(label, _)| *label == self.outcome);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}
