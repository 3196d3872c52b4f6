//! Addresses that a guest names: checked against what its component is allowed,
//! and logged when they are refused.

use crate::app::Component;

/// Bytes of an address that a guest may give.
pub(super) const MAX_ADDRESS_BYTES: usize = 4096;
/// Bytes of a host name. RFC 1035, 2.3.4.
const MAX_HOST_BYTES: usize = 253;

/// Whether the component may reach `scheme://host[:port]`.
pub(super) fn allows(component: &Component, scheme: &str, host: &str, port: Option<u16>) -> bool {
    let allowed = is_plain(host) && component.allowed_hosts.allow(scheme, host, port);
    if !allowed {
        log(component, scheme, host, port);
    }
    allowed
}

/// Whether the host is written as the resolver will be asked for it. What the
/// list of allowed hosts would decode or normalize is another name.
fn is_plain(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    host.bytes().all(plain)
}

/// One line for the operator. Host and port alone: an authority may carry a
/// password.
pub(super) fn log(component: &Component, scheme: &str, host: &str, port: Option<u16>) {
    let host = &host[..host.floor_char_boundary(MAX_HOST_BYTES)];
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    tracing::warn!(
        component = %component.id,
        "outbound request to `{scheme}://{host}{port}` refused: add it to \
         `allowed_outbound_hosts` of the component to allow it"
    );
}
