//! Addresses that a guest names: checked against what its component is allowed,
//! and logged when they are refused.

use crate::app::Component;

/// Whether the component may reach `scheme://host[:port]`.
pub(super) fn allows(component: &Component, scheme: &str, host: &str, port: Option<u16>) -> bool {
    let allowed = component.allowed_hosts.allow(scheme, host, port);
    if !allowed {
        log(component, scheme, host, port);
    }
    allowed
}

/// One line for the operator. Host and port alone: an authority may carry a
/// password.
pub(super) fn log(component: &Component, scheme: &str, host: &str, port: Option<u16>) {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    tracing::warn!(
        component = %component.id,
        "outbound request to `{scheme}://{host}{port}` refused: add it to \
         `allowed_outbound_hosts` of the component to allow it"
    );
}
