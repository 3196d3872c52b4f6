//! The HorizontalPodAutoscaler's arithmetic, as in Kubernetes 1.35
//! (`pkg/controller/podautoscaler/horizontal.go`, `replica_calculator.go`). Pure: no clock,
//! no pods, only numbers; knows nothing of queues and of KEDA.

use std::time::Duration;

/// `spec.behavior`, where one was written: `scaleUp` and `scaleDown`, each with the
/// defaults of `pkg/apis/autoscaling/v2/defaults.go` already in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// `scaleUp`.
    pub up: Rules,
    /// `scaleDown`.
    pub down: Rules,
}

/// One direction of a [`Behavior`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `stabilizationWindowSeconds`, 0 to 3600. `None` for `scaleDown` without one: the
    /// controller's `--horizontal-pod-autoscaler-downscale-stabilization`, 300 s.
    pub stabilization: Option<Duration>,
    /// `selectPolicy`.
    pub select: Select,
    /// `policies`; never empty.
    pub policies: Vec<Policy>,
    /// `tolerance` of this direction; `None`: the controller's 0.1.
    pub tolerance: Option<f64>,
}

/// `selectPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The policy that allows the largest change; the default.
    Max,
    /// The policy that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// How much may change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `type` and `value`.
    pub change: Step,
    /// `periodSeconds`, 1 to 1800.
    pub period: Duration,
}

/// `type` and `value` of a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many pods.
    Pods(u32),
    /// So many per cent of the pods at the start of the period.
    Percent(u32),
}
