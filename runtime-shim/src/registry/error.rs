//! Why something cannot be brought here: what, from where, and what to do about it.

use std::io;
use std::path::PathBuf;

use http::StatusCode;

use super::digest::Digest;
use crate::names::ComponentId;

/// Why something cannot be downloaded, or is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nobody answers.
    #[error("`{host}` cannot be reached: {reason}{hint}")]
    Unreachable {
        /// Who.
        host: String,
        /// What the system said.
        reason: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// Somebody answers who cannot show that it is the one.
    #[error(
        "`{host}` has a certificate that is not trusted: {reason}; `SSL_CERT_FILE` may name the \
         authority that signed it"
    )]
    Untrusted {
        /// Who.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry that knows what a tag leads to does not answer.
    #[error(
        "`{reference}` cannot be looked up: {source}; a tag is never taken from the cache, because \
         what runs must not depend on who can be reached{hint}"
    )]
    Tag {
        /// The reference.
        reference: String,
        /// Why.
        source: Box<DownloadError>,
        /// What it led to before.
        hint: String,
    },
    /// The wrong credentials, or none.
    #[error("`{host}` does not let {who} read `{what}` ({status}): {hint}")]
    Unauthorized {
        /// The server.
        host: String,
        /// Anonymous, or by which credentials.
        who: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        status: StatusCode,
        /// What to do.
        hint: String,
    },
    /// It is not there.
    #[error("`{host}` has no {what}: {hint}")]
    NotFound {
        /// The server.
        host: String,
        /// What was asked for.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// Any other answer.
    #[error("`{host}` answered {status} when asked for {what}")]
    Status {
        /// The server.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        status: StatusCode,
    },
    /// An answer that breaks the protocol.
    #[error("`{host}` answered what cannot be used when asked for {what}: {reason}")]
    Answer {
        /// The server.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// It broke off, or became too slow.
    #[error("the download of {what} from `{host}` broke off: {reason}")]
    BrokenOff {
        /// The server.
        host: String,
        /// What was asked for.
        what: String,
        /// What happened.
        reason: String,
    },
    /// Other content than what was asked for.
    #[error(
        "{what} from `{host}` has the digest `{found}`, expected `{expected}`: it was changed on \
         its way or at its source, and is not used"
    )]
    Mismatch {
        /// The server.
        host: String,
        /// What was asked for.
        what: String,
        /// The digest that was expected.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// More than is taken, or than was announced.
    #[error("{what} is too large: {size} bytes, at most {limit} are taken")]
    TooLarge {
        /// What.
        what: String,
        /// Its size, as far as it was read.
        size: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// Something else is there.
    #[error("`{reference}` is not a Spin application: {reason}")]
    NotAnApp {
        /// The reference.
        reference: String,
        /// What it is instead.
        reason: String,
    },
    /// Content that the application names, and that is nowhere.
    #[error("component `{component}`: {reason}")]
    Content {
        /// Whose.
        component: ComponentId,
        /// What is wrong.
        reason: String,
    },
    /// An archive that cannot be read.
    #[error("the archive {what} cannot be unpacked: {reason}")]
    Archive {
        /// Which.
        what: Digest,
        /// What is wrong.
        reason: String,
    },
    /// The cache.
    #[error("cannot {doing} `{}` of the cache of downloads: {source}", path.display())]
    Cache {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no place for the cache.
    #[error(
        "there is no folder for what is downloaded, since neither `GRISTMILL_CACHE_DIR` nor \
         `XDG_CACHE_HOME` nor `HOME` is set: name one by `--cache-dir`"
    )]
    NoCache,
}
