//! The embedded files and how they are served: by entity tag, compressed for
//! those who take it, under a policy that lets the page load its own files only.

use reply::Reply;
use request::Head;

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: &'static str,
    media_type: &'static str,
    plain: Representation,
    /// Nothing when compression does not make it smaller.
    gzip: Option<Representation>,
}

#[derive(Debug, PartialEq, Eq)]
struct Representation {
    bytes: &'static [u8],
    etag: &'static str,
}

/// Every file, as the build script found it.
pub(crate) static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file that is served at this path.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    /// Whether a browser shows it as a page of its own, which then loads images.
    pub(crate) fn is_page(&self) -> bool {
        self.media_type.starts_with("text/html")
    }

    /// The answer to a GET or HEAD. `images_origin` is where images are redirected
    /// to, empty when they are not: it stands in the policy as it is.
    ///
    /// Names do not change with contents, so browsers must ask each time (by entity
    /// tag, which costs no body): after an update nobody runs old scripts on new
    /// services.
    pub(crate) fn reply(&self, head: &Head, images_origin: &str) -> Reply {
        let packed = self.gzip.as_ref().filter(|_| takes_gzip(head));
        let chosen = packed.unwrap_or(&self.plain);
        let mut reply = if request::is_known(head, chosen.etag) {
            Reply::empty(304)
        } else {
            Reply {
                body: chosen.bytes.to_vec(),
                ..Reply::empty(200).with("content-type", self.media_type)
            }
        };
        if packed.is_some() && reply.status == 200 {
            reply = reply.with("content-encoding", "gzip");
        }
        reply
            .with("etag", chosen.etag)
            .with("cache-control", "no-cache")
            .with("vary", "accept-encoding")
            .with("content-security-policy", policy(images_origin))
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "same-origin")
    }
}

/// The page loads its own files only, and images from where they are redirected to.
fn policy(images_origin: &str) -> String {
    let separator = if images_origin.is_empty() { "" } else { " " };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; \
         img-src 'self' blob:{separator}{images_origin}; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    )
}

/// Whether the sender takes gzip, and does not like the plain form better
/// (RFC 9110, section 12.5.3).
fn takes_gzip(head: &Head) -> bool {
    let (mut gzip, mut any, mut plain) = (None, None, 0.0);
    let codings = head.values("accept-encoding");
    for coding in codings.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = weight(parts.next());
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "*" => any = Some(weight),
            "identity" => plain = weight,
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= plain
}

/// From 0 to 1; a parameter that is no weight refuses, which is always safe.
fn weight(parameter: Option<&str>) -> f32 {
    let Some(parameter) = parameter else {
        return 1.0;
    };
    let value = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="));
    let weight = value.and_then(|value| value.parse().ok());
    weight
        .filter(|weight| (0.0..=1.0).contains(weight))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSET: Asset = Asset {
        path: "/portal/app.js",
        media_type: "text/javascript; charset=utf-8",
        plain: Representation {
            bytes: b"plain",
            etag: "\"11\"",
        },
        gzip: Some(Representation {
            bytes: b"packed",
            etag: "\"22\"",
        }),
    };

    fn reply(headers: &[(&str, &str)]) -> Reply {
        ASSET.reply(&Head::new("GET", ASSET.path, headers), "")
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (value, is_packed) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("br;q=1.0, gzip ; q=0.001", true),
            ("*", true),
            ("identity;q=0.5, gzip;q=0.5", true),
            ("gzip;Q=1", true),
            ("", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity;q=1, gzip;q=0.5", false),
            ("gzip;q=2", false),
            ("gzip;q=NaN", false),
            ("gzip;q=-1", false),
            ("gzip;q=", false),
            ("gzip;level=9", false),
            ("gzipped", false),
        ] {
            let reply = reply(&[("accept-encoding", value)]);
            let encoding = is_packed.then_some("gzip");
            assert_eq!(reply.header("content-encoding"), encoding, "{value}");
            let bytes: &[u8] = if is_packed { b"packed" } else { b"plain" };
            assert_eq!(reply.body, bytes, "{value}");
            assert_eq!(reply.header("vary"), Some("accept-encoding"));
        }
        assert_eq!(reply(&[]).body, b"plain");
        let two = [("accept-encoding", "br"), ("accept-encoding", "gzip")];
        assert_eq!(reply(&two).body, b"packed");
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        for (value, status) in [
            ("\"11\"", 304),
            ("W/\"11\"", 304),
            ("*", 304),
            ("\"0\",W/\"11\"", 304),
            ("\"a,b\" ,  \"11\" ", 304),
            ("\"22\"", 200),
            ("11", 200),
            ("\"1", 200),
            ("w/\"11\"", 200),
            ("", 200),
        ] {
            let reply = reply(&[("if-none-match", value)]);
            assert_eq!(reply.status, status, "{value}");
            assert_eq!(reply.header("etag"), Some("\"11\""));
            assert_eq!(reply.header("cache-control"), Some("no-cache"));
            assert_eq!(reply.body.is_empty(), status == 304);
        }
        let gzip = ("accept-encoding", "gzip");
        let known = reply(&[gzip, ("if-none-match", "\"22\"")]);
        assert_eq!(known.status, 304);
        assert_eq!(known.header("etag"), Some("\"22\""));
        assert_eq!(known.header("content-encoding"), None);
        assert_eq!(reply(&[gzip, ("if-none-match", "\"11\"")]).status, 200);
    }

    #[test]
    fn the_policy_names_the_images_origin_when_there_is_one() {
        for (origin, sources) in [
            ("", "; img-src 'self' blob:; connect-src"),
            (
                "https://images.example:8443",
                "; img-src 'self' blob: https://images.example:8443; connect-src",
            ),
        ] {
            let reply = ASSET.reply(&Head::new("GET", "/", &[]), origin);
            let policy = reply.header("content-security-policy").unwrap();
            assert!(policy.contains(sources), "{policy}");
        }
    }

    #[test]
    fn the_page_and_the_description_are_embedded() {
        let page = asset("/").unwrap();
        assert!(page.is_page());
        assert!(page.plain.bytes.starts_with(b"<!doctype html>"));
        assert_eq!(page.plain.etag.len(), 66);
        let description = asset("/openapi.json").unwrap();
        assert_eq!(description.media_type, "application/json");
        let packed = description.gzip.as_ref().unwrap();
        assert!(packed.bytes.starts_with(&[0x1f, 0x8b]));
        assert_eq!(asset("/portal/index.html"), None);
    }
}
