//! The scale lab: what KEDA, the `HorizontalPodAutoscaler` and the kubelet do to a queue's
//! consumers, computed (`simulate`, `tune`) or done with real processes (`live`).
//!
//! `scaled_object` reads what the chart renders; `autoscaler` decides replicas, the same
//! code for both; `simulate` and `live` bring the messages and the pods; both write a
//! [`timeline::Timeline`].

pub mod autoscaler;
pub mod chart;
pub mod csv;
pub mod hpa;
pub mod http;
pub mod keda;
pub mod live;
mod model;
pub mod plot;
pub mod scaled_object;
pub mod scenario;
pub mod simulate;
pub mod summary;
pub mod time;
pub mod timeline;
pub mod trace;
pub mod tune;
pub mod verify;
