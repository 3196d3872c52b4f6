//! `[component.<id>.dependencies]`: which components answer a component's
//! imports, and what of its grants they share. It knows the grammar and which
//! names exclude each other; it reads no wasm.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize};

use super::Source;
use crate::names::{ComponentId, words};

/// All dependencies of one component.
pub type Dependencies = BTreeMap<DependencyName, Dependency>;

/// The imports that a dependency answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DependencyName(Arc<Name>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// `name`: the import of that name.
    Plain(String),
    /// `ns:pkg`, `ns:pkg@1.0.0`, `ns:pkg/interface` or `ns:pkg/interface@1.0.0`:
    /// all imports that agree with every part that is there.
    Package {
        /// `ns:pkg`.
        package: String,
        /// The part behind the `/`.
        interface: Option<String>,
        /// The part behind the `@`.
        version: Option<Version>,
    },
}

/// Why a text is no name of a dependency.
#[derive(Debug, thiserror::Error)]
pub enum DependencyNameError {
    /// Not of the grammar.
    #[error(
        "`{0}` is not the name of a dependency: `ns:package`, `ns:package/interface`, either with \
         `@1.2.3`, or a plain name"
    )]
    Grammar(String),
    /// Not a version.
    #[error("`{name}` is not the name of a dependency: `{version}` is not a version such as 1.2.3")]
    Version {
        /// The whole name.
        name: String,
        /// The part behind the `@`.
        version: String,
    },
}

impl DependencyName {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, DependencyNameError> {
        let grammar = || DependencyNameError::Grammar(text.to_owned());
        if !text.contains([':', '/']) {
            return if is_word(text) {
                Ok(Self(Arc::new(Name::Plain(text.to_owned()))))
            } else {
                Err(grammar())
            };
        }
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => {
                let parsed = Version::parse(version).map_err(|_| DependencyNameError::Version {
                    name: text.to_owned(),
                    version: version.to_owned(),
                })?;
                (name, Some(parsed))
            }
        };
        let (package, interface) = match name.split_once('/') {
            None => (name, None),
            Some((package, interface)) => (package, Some(interface)),
        };
        let (namespace, own) = package.split_once(':').ok_or_else(grammar)?;
        let mut parts = [namespace, own].into_iter().chain(interface);
        if !parts.all(is_word) {
            return Err(grammar());
        }
        Ok(Self(Arc::new(Name::Package {
            package: package.to_owned(),
            interface: interface.map(str::to_owned),
            version,
        })))
    }

    /// Whether it stands for the import `import`.
    pub fn matches(&self, import: &str) -> bool {
        if let Name::Plain(name) = &*self.0 {
            return name == import;
        }
        Self::parse(import).is_ok_and(|import| self.0.covers(&import.0))
    }

    /// Whether one import could be meant by both.
    fn overlaps(&self, other: &Self) -> bool {
        self.0.overlaps(&other.0)
    }
}

impl Name {
    /// Whether it stands for all interfaces of a package.
    fn is_whole_package(&self) -> bool {
        matches!(
            self,
            Self::Package {
                interface: None,
                ..
            }
        )
    }

    /// Package, interface and version of a name that has them.
    fn parts(&self) -> Option<(&str, Option<&str>, Option<&Version>)> {
        match self {
            Self::Plain(_) => None,
            Self::Package {
                package,
                interface,
                version,
            } => Some((package, interface.as_deref(), version.as_ref())),
        }
    }

    /// Whether every part that is there is the same in `other`.
    fn covers(&self, other: &Self) -> bool {
        let (Some((package, interface, version)), Some(theirs)) = (self.parts(), other.parts())
        else {
            return self == other;
        };
        let (other_package, other_interface, other_version) = theirs;
        package == other_package
            && (interface.is_none() || interface == other_interface)
            && (version.is_none() || version == other_version)
    }

    /// Whether one import could be meant by both.
    fn overlaps(&self, other: &Self) -> bool {
        let (Some((package, interface, version)), Some(theirs)) = (self.parts(), other.parts())
        else {
            return self == other;
        };
        let (other_package, other_interface, other_version) = theirs;
        let versions_differ = match (version, other_version) {
            (Some(one), Some(two)) => track(one) != track(two),
            _ => false,
        };
        let interfaces_differ = match (interface, other_interface) {
            (Some(one), Some(two)) => one != two,
            _ => false,
        };
        package == other_package && !versions_differ && !interfaces_differ
    }
}

/// Versions of one track are compatible: they could be one import.
fn track(version: &Version) -> (u64, u64, u64, &str) {
    let (major, minor, patch) = (version.major, version.minor, version.patch);
    if !version.pre.is_empty() {
        (major, minor, patch, version.pre.as_str())
    } else if major > 0 {
        (major, 0, 0, "")
    } else if minor > 0 {
        (0, minor, 0, "")
    } else {
        (0, 0, patch, "")
    }
}

fn is_word(text: &str) -> bool {
    words(text, '-', |c| c.is_ascii_alphanumeric())
}

impl fmt::Display for DependencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Name::Plain(name) => f.write_str(name),
            Name::Package {
                package,
                interface,
                version,
            } => {
                f.write_str(package)?;
                if let Some(interface) = interface {
                    write!(f, "/{interface}")?;
                }
                if let Some(version) = version {
                    write!(f, "@{version}")?;
                }
                Ok(())
            }
        }
    }
}

impl<'de> Deserialize<'de> for DependencyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a dependency shares of the grants of the component that it is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherits {
    /// All of them.
    All,
    /// These; none, if empty.
    Some(BTreeSet<CapabilitySet>),
}

impl Inherits {
    /// Nothing: what holds where the manifest says nothing.
    pub const NOTHING: Self = Self::Some(BTreeSet::new());

    /// Whether it has `set`.
    pub fn has(&self, set: CapabilitySet) -> bool {
        match self {
            Self::All => true,
            Self::Some(sets) => sets.contains(&set),
        }
    }
}

/// A key of `[component.<id>]` that grants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilitySet {
    /// Language models.
    AiModels,
    /// Everything that goes out.
    AllowedOutboundHosts,
    /// Environment variables and arguments.
    Environment,
    /// Mounted files.
    Files,
    /// Key-value stores.
    KeyValueStores,
    /// SQLite databases.
    SqliteDatabases,
    /// Variables.
    Variables,
}

impl CapabilitySet {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AiModels,
        Self::AllowedOutboundHosts,
        Self::Environment,
        Self::Files,
        Self::KeyValueStores,
        Self::SqliteDatabases,
        Self::Variables,
    ];

    /// Its key in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AiModels => "ai_models",
            Self::AllowedOutboundHosts => "allowed_outbound_hosts",
            Self::Environment => "environment",
            Self::Files => "files",
            Self::KeyValueStores => "key_value_stores",
            Self::SqliteDatabases => "sqlite_databases",
            Self::Variables => "variables",
        }
    }
}

/// One entry of `[component.<id>.dependencies]`.
#[derive(Debug)]
pub struct Dependency {
    /// Where its wasm is.
    pub source: DependencySource,
    /// The export that answers, where it is not named as the import.
    pub export: Option<String>,
    /// `inherit_configuration`.
    pub inherits: Option<Inherits>,
}

/// Where the wasm of a dependency is.
#[derive(Debug)]
pub enum DependencySource {
    /// As for a component.
    Wasm(Source),
    /// Where that of a component is: only until the manifest is normalized.
    Component(ComponentId),
}

impl<'de> Deserialize<'de> for Dependency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let table = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(version) => {
                let version = toml::Value::String(version);
                let table = toml::Table::from_iter([("version".to_owned(), version)]);
                return Ok(Self {
                    source: DependencySource::Wasm(Source::Remote(table)),
                    export: None,
                    inherits: None,
                });
            }
            toml::Value::Table(table) => table,
            other => {
                let kind = other.type_str();
                return Err(D::Error::custom(format!(
                    "a dependency is a table or a version, not {kind}"
                )));
            }
        };
        let fields = Fields::deserialize(table).map_err(|e| D::Error::custom(e.message()))?;
        fields.into_dependency().map_err(D::Error::custom)
    }
}

/// The keys of all forms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    path: Option<PathBuf>,
    component: Option<ComponentId>,
    url: Option<String>,
    digest: Option<String>,
    version: Option<String>,
    registry: Option<String>,
    package: Option<String>,
    export: Option<String>,
    #[serde(default, deserialize_with = "inherits")]
    inherit_configuration: Option<Inherits>,
}

impl Fields {
    fn into_dependency(self) -> Result<Dependency, &'static str> {
        let remote = [
            ("url", self.url),
            ("digest", self.digest),
            ("version", self.version),
            ("registry", self.registry),
            ("package", self.package),
        ];
        let remote: toml::Table = remote
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), toml::Value::String(value?))))
            .collect();
        let complete = match remote.keys().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["digest", "url"] => true,
            ref keys => keys.contains(&"version") && !keys.contains(&"url"),
        };
        let source = match (self.path, self.component, remote.is_empty()) {
            (Some(path), None, true) => DependencySource::Wasm(Source::File(path)),
            (None, Some(id), true) => DependencySource::Component(id),
            (None, None, false) if complete => DependencySource::Wasm(Source::Remote(remote)),
            _ => {
                return Err(
                    "a dependency has either `path`, or `component`, or `url` and `digest`, or \
                     `version` with or without `registry` and `package`",
                );
            }
        };
        Ok(Dependency {
            source,
            export: self.export,
            inherits: self.inherit_configuration,
        })
    }
}

/// `true`, `false`, or a list of keys.
fn inherits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Inherits>, D::Error> {
    use serde::de::Error;
    let sets = match toml::Value::deserialize(deserializer)? {
        toml::Value::Boolean(true) => return Ok(Some(Inherits::All)),
        toml::Value::Boolean(false) => BTreeSet::new(),
        list @ toml::Value::Array(_) => {
            BTreeSet::deserialize(list).map_err(|e| D::Error::custom(e.message()))?
        }
        other => {
            let kind = other.type_str();
            return Err(D::Error::custom(format!(
                "inherit_configuration is `true`, `false` or a list, not {kind}"
            )));
        }
    };
    Ok(Some(Inherits::Some(sets)))
}

/// Why the dependencies of one component cannot be.
#[derive(Debug, thiserror::Error)]
pub enum DependenciesError {
    /// Two that could answer the same import.
    #[error("`{one}` and `{other}` may be the same import: one of them must go")]
    Overlap {
        /// One name.
        one: DependencyName,
        /// The other.
        other: DependencyName,
    },
    /// An export for many imports.
    #[error(
        "`{name}` has an `export`, but it stands for every interface of the package: name one, \
         `{name}/…`"
    )]
    ExportOfPackage {
        /// The name.
        name: DependencyName,
    },
    /// Both ways to share grants at once.
    #[error(
        "`{name}` has `inherit_configuration`, and the component has \
         `dependencies_inherit_configuration`: use one of them"
    )]
    InheritTwice {
        /// The name.
        name: DependencyName,
    },
    /// A component that is not there.
    #[error("`{name}` is component `{target}`, which the manifest does not define")]
    UnknownComponent {
        /// The name.
        name: DependencyName,
        /// The missing component.
        target: ComponentId,
    },
    /// A component that has grants of its own, which would be lost.
    #[error(
        "`{name}` is component `{target}`, which has {keys} of its own: a dependency shares those \
         of the component that it is a part of"
    )]
    OwnGrants {
        /// The name.
        name: DependencyName,
        /// The component.
        target: ComponentId,
        /// What it has.
        keys: String,
    },
}

/// Checks what can be checked without other components.
pub(super) fn check(dependencies: &Dependencies) -> Result<(), DependenciesError> {
    let names: Vec<&DependencyName> = dependencies.keys().collect();
    for (at, one) in names.iter().enumerate() {
        let other = names[at + 1..].iter().find(|other| one.overlaps(other));
        if let Some(other) = other {
            return Err(DependenciesError::Overlap {
                one: (*one).clone(),
                other: (*other).clone(),
            });
        }
    }
    let vague = dependencies
        .iter()
        .find(|(name, dependency)| name.0.is_whole_package() && dependency.export.is_some());
    match vague {
        None => Ok(()),
        Some((name, _)) => Err(DependenciesError::ExportOfPackage { name: name.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DependencyName {
        DependencyName::parse(text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn names_stand_for_imports() {
        for (dependency, import, expected) in [
            ("a:b/c@1.0.0", "a:b/c@1.0.0", true),
            ("a:b/c", "a:b/c@1.0.0", true),
            ("a:b/c", "a:b/c", true),
            ("a:b", "a:b/c@1.0.0", true),
            ("a:b@1.0.0", "a:b/d@1.0.0", true),
            ("plain-one", "plain-one", true),
            ("a:b/c@1.0.0", "a:b/c@1.0.1", false),
            ("a:b/c@1.0.0", "a:b/c", false),
            ("a:b/c", "a:b/d", false),
            ("a:b", "a:bb/c", false),
            ("a:b/c", "plain-one", false),
            ("plain-one", "a:b/c", false),
        ] {
            let matches = name(dependency).matches(import);
            assert_eq!(matches, expected, "{dependency} and {import}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "a:",
            ":b",
            "a:b/",
            "a/b",
            "a:b:c",
            "-x",
            "a b",
            "a:b@1",
            "a:b/c@latest",
        ] {
            let error = DependencyName::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn names_that_may_mean_one_import_exclude_each_other() {
        for (one, other, expected) in [
            ("a:b", "a:b/c", true),
            ("a:b/c", "a:b/c@1.0.0", true),
            ("a:b@1.0.0", "a:b/c@1.2.0", true),
            ("a:b@0.1.0", "a:b@0.1.9", true),
            ("a:b/c", "a:b/d", false),
            ("a:b@1.0.0", "a:b@2.0.0", false),
            ("a:b@0.1.0", "a:b@0.2.0", false),
            ("a:b@1.0.0-rc1", "a:b@1.0.0-rc2", false),
            ("a:b", "a:c", false),
            ("a:b", "plain", false),
        ] {
            let (one, other) = (name(one), name(other));
            assert_eq!(one.overlaps(&other), expected, "{one} and {other}");
            assert_eq!(other.overlaps(&one), expected, "{other} and {one}");
        }
    }
}
