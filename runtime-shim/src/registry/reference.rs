//! `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`: which application, in which
//! registry. Knows no default registry: the host is always named.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use super::digest::Digest;

/// What a reference begins with.
pub const SCHEME: &str = "oci://";
/// The tag that counts where none is named.
const LATEST: &str = "latest";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// Names an application in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

/// Which version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Whatever the tag leads to today.
    Tag(String),
    /// This one, for ever.
    Digest(Digest),
}

/// Why a text is no reference.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` does not name an application in a registry: {reason}; expected {FORM}")]
pub struct InvalidReference {
    text: String,
    reason: String,
}

/// How a reference is written.
const FORM: &str = "oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:…]";

impl Reference {
    /// The registry, with its port where one is named.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The repository in it.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// The same repository at this digest.
    pub(super) fn at(&self, digest: &Digest) -> Self {
        Self {
            version: Version::Digest(digest.clone()),
            ..self.clone()
        }
    }

    /// Whether the registry is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let url = Url::parse(&format!("http://{}/", self.host));
        match url.as_ref().map(Url::host) {
            Ok(Some(Host::Ipv4(ip))) => ip.is_loopback(),
            Ok(Some(Host::Ipv6(ip))) => ip.is_loopback(),
            Ok(Some(Host::Domain(name))) => name == "localhost",
            Ok(None) | Err(_) => false,
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    let rest = text
        .strip_prefix(SCHEME)
        .ok_or_else(|| format!("it does not begin with `{SCHEME}`"))?;
    let (host, path) = rest
        .split_once('/')
        .ok_or_else(|| "the repository is missing".to_owned())?;
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (path, None),
    };
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    if !is_host(host) {
        return Err(format!("`{host}` is not a host"));
    }
    if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_segment) {
        return Err(format!("`{repository}` is not a repository"));
    }
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(format!("`{tag}` is not a tag"));
    }
    let version = match digest {
        // A tag beside a digest is for people.
        Some(digest) => Version::Digest(digest.parse().map_err(|e| format!("{e}"))?),
        None => Version::Tag(tag.unwrap_or(LATEST).to_owned()),
    };
    Ok(Reference {
        host: host.to_ascii_lowercase(),
        repository: repository.to_owned(),
        version,
    })
}

fn is_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    host.bytes().all(plain)
        && Url::parse(&format!("https://{host}/")).is_ok_and(|url| url.host().is_some())
}

/// Lower-case words, joined by `.`, `_`, `__` or any number of `-`.
fn is_segment(segment: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [segment.bytes().next(), segment.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(is_word))
        && segment.bytes().all(|b| is_word(b) || b"._-".contains(&b))
        && !segment.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("oci://h/app", "oci://h/app:latest"),
            ("oci://H:5000/a/b_c/d-e:v1.2", "oci://h:5000/a/b_c/d-e:v1.2"),
            ("oci://[::1]:5000/app:1", "oci://[::1]:5000/app:1"),
        ] {
            let read: Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read.to_string(), shown);
        }
        let read: Reference = format!("oci://h/app:v1@{DIGEST}").parse().expect("both");
        assert_eq!(read.to_string(), format!("oci://h/app@{DIGEST}"));
    }

    #[test]
    fn refuses_what_could_lead_elsewhere() {
        for (text, reason) in [
            ("oci://h", "repository is missing"),
            ("oci://h/", "`` is not a repository"),
            ("oci:///app", "`` is not a host"),
            ("oci://u:p@h/app", "is not a host"),
            ("oci://h:99999/app", "is not a host"),
            ("oci://h/../app", "is not a repository"),
            ("oci://h/a..b", "is not a repository"),
            ("oci://h/App", "is not a repository"),
            ("oci://h/a?x=1", "is not a repository"),
            ("oci://h/a:", "is not a tag"),
            ("oci://h/a:-x", "is not a tag"),
            ("oci://h/a:x/y", "is not a tag"),
            ("oci://h/a@sha256:00", "is not a digest"),
            ("oci://h/a@sha512:00", "is not a digest"),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(reason), "`{reason}` not in `{error}`");
        }
    }

    #[test]
    fn knows_this_machine() {
        let is_loopback = |text: &str| text.parse::<Reference>().is_ok_and(|r| r.is_loopback());
        assert!(is_loopback("oci://127.0.0.1:5000/a"));
        assert!(is_loopback("oci://127.9.9.9/a"));
        assert!(is_loopback("oci://localhost:5000/a"));
        assert!(is_loopback("oci://[::1]/a"));
        assert!(!is_loopback("oci://localhost.example/a"));
        assert!(!is_loopback("oci://10.0.0.1/a"));
    }
}
