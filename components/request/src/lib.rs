//! What a request says, read in the same way by every component: its head, its
//! body within a limit, what its sender has already, whether the browser calls it
//! same-origin, and whose address it has. Pure, with native tests; only the last steps touch the host.

mod body;
mod client;
mod condition;
mod head;
mod json;
mod origin;

pub use body::{Body, read};
pub use client::{Client, TrustedProxies};
pub use condition::is_known;
pub use head::{Head, parse_limit};
pub use json::{MAX_JSON_BYTES, parse_json};
pub use origin::{SESSION_COOKIE, refuse_forged};

#[cfg(target_family = "wasm")]
pub use body::read_body;
#[cfg(target_family = "wasm")]
pub use json::read_json;
