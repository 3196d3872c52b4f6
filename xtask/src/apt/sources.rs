//! Reads the machine's own apt sources, both formats, to learn its mirror and
//! keyring. Pure: text in, archives out. Knows no mirror by itself.

use std::path::{Path, PathBuf};

/// One archive that the machine trusts: a mirror and what is taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) uri: String,
    pub(super) suite: String,
    pub(super) components: Vec<String>,
    pub(super) signed_by: Option<PathBuf>,
}

impl Archive {
    /// Whether this is the distribution itself: its release under its code name
    /// or a standing alias, with `main`; not updates, not a third party.
    pub(super) fn is_distribution(&self, codename: &str) -> bool {
        self.carries(&self.suite, codename)
    }

    /// The distribution itself, or what it published for its release since.
    pub(super) fn is_of_release(&self, codename: &str) -> bool {
        let release = ["-security", "-updates"]
            .into_iter()
            .find_map(|ending| self.suite.strip_suffix(ending));
        self.carries(release.unwrap_or(&self.suite), codename)
    }

    fn carries(&self, release: &str, codename: &str) -> bool {
        let standing = ["oldstable", "stable", "testing", "unstable", "sid"];
        let fetchable = !self.uri.starts_with("cdrom:") && !self.uri.starts_with("file:");
        (release == codename || standing.contains(&release))
            && fetchable
            && self.components.iter().any(|component| component == "main")
    }

    /// The line of a sources list that takes another suite from this mirror.
    pub(super) fn line(&self, suite: &str, keyring: Option<&Path>) -> String {
        let signed_by = keyring
            .map(|path| format!("[signed-by={}] ", path.display()))
            .unwrap_or_default();
        format!(
            "deb {signed_by}{} {suite} {}\n",
            self.uri,
            self.components.join(" ")
        )
    }
}

/// Parses one-line entries (`sources.list`, `*.list`).
pub(super) fn parse_list(text: &str) -> Vec<Archive> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Archive> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    rest = rest.trim_start();
    let mut signed_by = None;
    if let Some(inside) = rest.strip_prefix('[') {
        let (options, after) = inside.split_once(']')?;
        let mut options = options.split_whitespace();
        signed_by = options
            .find_map(|option| option.strip_prefix("signed-by="))
            .and_then(keyring);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Archive {
        uri: words.next()?,
        suite: words.next()?,
        components: words.collect(),
        signed_by,
    })
}

/// Parses deb822 stanzas (`*.sources`).
pub(super) fn parse_deb822(text: &str) -> Vec<Archive> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = without_comments.split(|line| line.trim().is_empty());
    stanzas.flat_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Vec<Archive> {
    let words = |wanted: &str| field(lines, wanted);
    let switched_off = words("Enabled").first().is_some_and(|value| value == "no");
    if switched_off || !words("Types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // An inline key has no path; the system's archive keyring then stands in.
    let signed_by = words("Signed-By").first().and_then(|value| keyring(value));
    let mut archives = Vec::new();
    for uri in words("URIs") {
        for suite in words("Suites") {
            archives.push(Archive {
                uri: uri.clone(),
                suite,
                components: words("Components"),
                signed_by: signed_by.clone(),
            });
        }
    }
    archives
}

/// The words of a field, continuation lines included; names are case-insensitive.
fn field(lines: &[&str], wanted: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut inside = false;
    for line in lines {
        let value = if line.starts_with([' ', '\t']) {
            Some(*line).filter(|_| inside)
        } else {
            let named = line
                .split_once(':')
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            inside = named.is_some();
            named.map(|(_, value)| value)
        };
        words.extend(
            value
                .into_iter()
                .flat_map(str::split_whitespace)
                .map(str::to_owned),
        );
    }
    words
}

fn keyring(value: &str) -> Option<PathBuf> {
    value.starts_with('/').then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(uri: &str, suite: &str, components: &[&str], signed_by: Option<&str>) -> Archive {
        Archive {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
            components: components.iter().copied().map(str::to_owned).collect(),
            signed_by: signed_by.map(PathBuf::from),
        }
    }

    #[test]
    fn one_line_entries() {
        let text = "# comment\n\
                    deb http://mirror.test/debian bookworm main contrib # trailing\n\
                    deb-src http://mirror.test/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://other.test/x nodistro main\n\
                    deb\n\
                    nonsense\n";
        assert_eq!(
            parse_list(text),
            [
                archive(
                    "http://mirror.test/debian",
                    "bookworm",
                    &["main", "contrib"],
                    None
                ),
                archive("http://other.test/x", "nodistro", &["main"], Some("/k.gpg")),
            ]
        );
    }

    #[test]
    fn deb822_stanzas() {
        let text = "Types: deb\n\
                    # a comment inside\n\
                    URIs: http://mirror.test/debian\n\
                    Suites: bookworm\n bookworm-updates\n\
                    Components: main\n\
                    signed-by: /k.gpg\n\
                    \n\
                    Types: deb-src\nURIs: http://mirror.test/debian\nSuites: bookworm\n\
                    \n\
                    Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\n\
                    \n\
                    Types: deb deb-src\nURIs: http://inline.test\nSuites: sid\nComponents: main\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n";
        assert_eq!(
            parse_deb822(text),
            [
                archive(
                    "http://mirror.test/debian",
                    "bookworm",
                    &["main"],
                    Some("/k.gpg")
                ),
                archive(
                    "http://mirror.test/debian",
                    "bookworm-updates",
                    &["main"],
                    Some("/k.gpg")
                ),
                archive("http://inline.test", "sid", &["main"], None),
            ]
        );
    }

    #[test]
    fn the_distribution_is_told_from_third_parties() {
        let main = ["main"].as_slice();
        for (uri, suite, components, distribution, release) in [
            ("http://m.test/d", "bookworm", main, true, true),
            ("http://m.test/d", "stable", main, true, true),
            ("http://m.test/d", "bookworm-updates", main, false, true),
            ("http://m.test/s", "bookworm-security", main, false, true),
            ("http://m.test/d", "bookworm-backports", main, false, false),
            ("http://m.test/d", "bookworm", &["contrib"], false, false),
            ("cdrom:[Debian]/", "bookworm", main, false, false),
            ("http://third.test", "nodistro", main, false, false),
        ] {
            let archive = archive(uri, suite, components, None);
            assert_eq!(archive.is_distribution("bookworm"), distribution, "{suite}");
            assert_eq!(archive.is_of_release("bookworm"), release, "{suite}");
        }
    }

    #[test]
    fn a_line_for_another_suite_keeps_mirror_and_keyring() {
        let line = archive("http://m.test/debian", "bookworm", &["main"], None)
            .line("stable-backports", Some(Path::new("/k.gpg")));
        assert_eq!(
            line,
            "deb [signed-by=/k.gpg] http://m.test/debian stable-backports main\n"
        );
    }
}
