//! HTTP: which route leads to which component, what a component is told of the
//! request, and the server in front.

mod intake;
mod lingering;
pub mod problem;
pub mod reply;
pub mod request;
pub mod router;
pub mod server;
