//! What a run was like, whoever ran it: the common form of `simulate` and `live`.

use std::fmt;

use crate::time::Time;

/// What SQS says of a queue. Simulated queues have parts of messages at high rates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth {
    /// `ApproximateNumberOfMessages`.
    pub visible: f64,
    /// `ApproximateNumberOfMessagesNotVisible`.
    pub in_flight: f64,
    /// `ApproximateNumberOfMessagesDelayed`.
    pub delayed: f64,
}

impl Depth {
    /// Everything that is not yet settled.
    #[must_use]
    pub fn backlog(self) -> f64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// One moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub time: Time,
    /// Messages sent since the start.
    pub sent: f64,
    /// Messages settled since the start (deleted after their effect).
    pub processed: f64,
    /// The queue.
    pub depth: Depth,
    /// Seconds since the oldest message that is not settled was sent; 0 without one.
    pub oldest_age: f64,
    /// `spec.replicas` of the Deployment.
    pub desired: u32,
    /// Pods that exist and are not terminating.
    pub running: u32,
    /// Pods that consume.
    pub ready: u32,
    /// Pods that received SIGTERM and have not ended.
    pub draining: u32,
}

/// `spec.replicas` was changed, or a pod came to harm.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub time: Time,
    /// What happened.
    pub kind: EventKind,
}

/// What may happen beside messages.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A controller changed the replicas.
    Scaled {
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Who, and by which rule.
        reason: String,
    },
    /// A pod was killed without a signal it could handle.
    Killed {
        /// Which one, by the order of starts.
        pod: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.time)?;
        match &self.kind {
            EventKind::Scaled { from, to, reason } => write!(f, "{from} → {to} ({reason})"),
            EventKind::Killed { pod } => write!(f, "pod {pod} was killed"),
        }
    }
}

/// A whole run; samples are in order of time, a scenario's second apart at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// The state of things.
    pub samples: Vec<Sample>,
    /// What changed them.
    pub events: Vec<Event>,
}
