//! The text of `spin.toml`, manifest version 2, as types. It knows the grammar
//! and what this version of the host supports; it resolves nothing. `locked`
//! fills the same types from what Spin made of a manifest.

mod dependencies;
mod normalize;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::names::{ComponentId, DatabaseLabel, StoreLabel, VariableName};

pub use dependencies::{
    CapabilitySet, Dependencies, DependenciesError, Dependency, DependencyName,
    DependencyNameError, DependencySource, Inherits,
};

/// A parsed manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "spin_manifest_version")]
    _version: ManifestVersion,
    /// `[application]`.
    pub application: Application,
    /// `[variables]`.
    #[serde(default)]
    pub variables: BTreeMap<VariableName, Variable>,
    /// `[[trigger.<type>]]`, by type.
    #[serde(default, rename = "trigger")]
    pub triggers: BTreeMap<String, Vec<toml::Table>>,
    /// `[component.<id>]`.
    #[serde(default, rename = "component")]
    pub components: BTreeMap<ComponentId, Component>,
}

/// `[application]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The application's name.
    pub name: String,
    /// Its version, for people.
    #[serde(default)]
    pub version: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default, rename = "authors")]
    _authors: Vec<String>,
    #[serde(default, rename = "targets")]
    _targets: Vec<toml::Value>,
    /// `[application.trigger.<type>]`.
    #[serde(default, rename = "trigger")]
    pub triggers: BTreeMap<String, toml::Table>,
    #[serde(default, rename = "tool")]
    _tool: BTreeMap<String, toml::Table>,
}

/// `[variables] <name> = { … }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    #[serde(default, rename = "description")]
    _description: Option<String>,
    /// No default: a value must come from outside.
    #[serde(default)]
    pub required: bool,
    /// The value where nothing else gives one.
    pub default: Option<String>,
    /// Never printed.
    #[serde(default)]
    pub secret: bool,
}

impl Variable {
    /// A variable; without a default it is required.
    pub fn new(default: Option<String>, secret: bool) -> Self {
        Self {
            _description: None,
            required: default.is_none(),
            default,
            secret,
        }
    }
}

/// `[component.<id>.tool]`: a table for each tool.
#[derive(Debug, Default, Deserialize)]
pub struct ComponentTools {
    /// Ours.
    #[serde(default)]
    pub gristmill: ComponentNeeds,
    #[serde(flatten)]
    _others: BTreeMap<String, toml::Table>,
}

/// `[component.<id>.tool.gristmill]`: what the component needs and the rest of
/// the manifest cannot say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentNeeds {
    /// Bytes of the largest value that it stores, by the store's label.
    #[serde(default)]
    pub max_value_bytes: BTreeMap<StoreLabel, usize>,
    /// How its Redis triggers call it.
    #[serde(default)]
    pub redis: RedisOptions,
}

/// `[component.<id>.tool.gristmill.redis]`. Not beside the trigger, as with queues:
/// stock Spin refuses keys there that it does not know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisOptions {
    /// Messages of one trigger handled at once.
    pub max_concurrency: Option<u32>,
    /// How long one message may take.
    pub timeout_secs: Option<u64>,
}

/// `[component.<id>]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Where the wasm is.
    pub source: Source,
    #[serde(default, rename = "description")]
    _description: String,
    /// What the component reads through `variables`: templates over the application's.
    #[serde(default)]
    pub variables: BTreeMap<VariableName, String>,
    /// Its environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files that it sees.
    #[serde(default)]
    pub files: Vec<FileMount>,
    /// Files that it does not see, whatever `files` says: patterns.
    #[serde(default)]
    pub exclude_files: Vec<String>,
    /// Hosts it may reach.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// Key-value labels it may open.
    #[serde(default)]
    pub key_value_stores: Vec<StoreLabel>,
    /// SQLite labels it may open.
    #[serde(default)]
    pub sqlite_databases: Vec<DatabaseLabel>,
    /// Language models that it may call. Not supported.
    #[serde(default)]
    pub ai_models: Vec<String>,
    #[serde(default, rename = "targets")]
    _targets: Option<Vec<toml::Value>>,
    /// How it is built.
    #[serde(default)]
    pub build: Option<Build>,
    /// What is said about it to tools; Spin ignores it.
    #[serde(default)]
    pub tool: ComponentTools,
    /// Whether all dependencies inherit everything: normalized into them.
    #[serde(default)]
    dependencies_inherit_configuration: Option<bool>,
    /// Components that answer its imports.
    #[serde(default)]
    pub dependencies: Dependencies,
    #[serde(default, rename = "profile")]
    _profile: BTreeMap<String, toml::Table>,
}

/// `[component.<id>.build]`. Other tools may have keys of their own in it.
#[derive(Debug, Deserialize)]
pub struct Build {
    /// What a shell runs.
    pub command: Commands,
    /// Where, relative to the manifest.
    #[serde(default)]
    pub workdir: PathBuf,
    /// What it is built from: patterns, relative to `workdir`.
    #[serde(default)]
    pub watch: Vec<String>,
}

/// `command = …`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Commands {
    /// One.
    Single(String),
    /// One after the other.
    Several(Vec<String>),
}

impl Commands {
    /// All of them.
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::Single(command) => vec![command.clone()],
            Self::Several(commands) => commands.clone(),
        }
    }
}

/// `source = …`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// A file, relative to the manifest.
    File(PathBuf),
    /// A download.
    Url(UrlSource),
    /// A registry package, or a digest alone.
    Remote(toml::Table),
    /// The wasm itself. Only a locked application can say so.
    #[serde(skip)]
    Inline(Arc<[u8]>),
}

/// `source = { url = "…", digest = "…" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlSource {
    /// Where it is.
    pub url: String,
    /// What it must be.
    pub digest: String,
}

impl Default for Source {
    fn default() -> Self {
        Self::File(PathBuf::new())
    }
}

/// An entry of `files`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an entry of `files` is a pattern, or `{ source = \"…\", destination = \"…\" }`"
)]
pub enum FileMount {
    /// Files under their own paths.
    Pattern(String),
    /// A file or folder under another path.
    Placement(FilePlacement),
    /// Of a locked application.
    #[serde(skip)]
    Given {
        /// What is seen.
        content: FileContent,
        /// Where the component sees it.
        path: String,
    },
}

/// `{ source = …, destination = … }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlacement {
    /// A file or folder, relative to the manifest.
    pub source: String,
    /// Where the component sees it.
    pub destination: String,
}

/// What a locked application gives to a component.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// A file or folder of this machine.
    At(PathBuf),
    /// A folder in the cache of downloads, which others read, too.
    Cached(PathBuf),
    /// The bytes of a file.
    Inline(Arc<[u8]>),
    /// Something that is not here: its digest, or its URL.
    Elsewhere(String),
}

/// `[[trigger.http]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    /// The component that answers.
    pub component: ComponentId,
    /// The path it answers on.
    pub route: Route,
    #[serde(default)]
    executor: Option<Executor>,
}

/// `route = …`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Route {
    /// A public route.
    Path(String),
    /// `{ private = true }`: reachable by service chaining only.
    Private(PrivateRoute),
}

/// `{ private = true }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateRoute {
    /// Must be true.
    pub private: bool,
}

#[derive(Debug, Deserialize)]
struct Executor {
    #[serde(rename = "type")]
    kind: String,
}

/// `[application.trigger.http]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTriggerDefaults {
    /// Prefix of every route. Spin 3 refuses any other than `/`.
    pub base: Option<String>,
}

/// `[[trigger.sqs]]`, the keys of Spin's own SQS trigger.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqsTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    /// The component that consumes.
    pub component: ComponentId,
    /// The queue.
    pub queue_url: String,
    /// Messages asked for with one receive call, 1 to 10.
    #[serde(default = "SqsTrigger::default_max_messages")]
    pub max_messages: u16,
    /// The stock trigger sleeps this long between empty receives. Accepted for
    /// compatibility: long polling makes it pointless here.
    #[serde(default, rename = "idle_wait_seconds")]
    _idle_wait_seconds: Option<u64>,
    /// System attributes to hand to the component.
    #[serde(default)]
    pub system_attributes: Vec<String>,
    /// Custom attributes to hand to the component.
    #[serde(default)]
    pub message_attributes: Vec<String>,
}

impl SqsTrigger {
    fn default_max_messages() -> u16 {
        10
    }
}

/// `[[trigger.cron]]`, the keys of Spin's own cron trigger.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    /// The component that is called.
    pub component: ComponentId,
    /// When: seconds first.
    pub cron_expression: String,
}

/// `[[trigger.redis]]`, the keys of Spin's own Redis trigger.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    /// The component that is called.
    pub component: ComponentId,
    /// Which messages.
    pub channel: String,
    /// From which server, unless from that of the application.
    pub address: Option<String>,
}

/// `[application.trigger.redis]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisTriggerDefaults {
    /// The server of triggers that name none.
    pub address: Option<String>,
}

#[derive(Debug, Default)]
struct ManifestVersion;

impl<'de> Deserialize<'de> for ManifestVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(2) => Ok(Self),
            other => Err(serde::de::Error::custom(format!(
                "spin_manifest_version is `{other}`; this host reads version 2"
            ))),
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file is not there or not readable.
    #[error("cannot read manifest `{}`: {source}", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or not a manifest.
    #[error("manifest `{}` is malformed: {message}", path.display())]
    Parse {
        /// The manifest.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A trigger's table does not have the keys of its type.
    #[error("`[[trigger.{kind}]]` number {number} is malformed: {reason}")]
    Trigger {
        /// `http`, `sqs`, `cron` or `redis`.
        kind: String,
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// `[application.trigger.<kind>]` does not have the keys of its type.
    #[error("`[application.trigger.{kind}]` is malformed: {reason}")]
    TriggerDefaults {
        /// `http`, `sqs`, `cron` or `redis`.
        kind: String,
        /// What is wrong.
        reason: String,
    },
    /// A trigger names a component that is not there.
    #[error(
        "`[[trigger.{kind}]]` names component `{component}`, which the manifest does not define"
    )]
    UnknownComponent {
        /// `http`, `sqs`, `cron` or `redis`.
        kind: String,
        /// The missing component.
        component: ComponentId,
    },
    /// Something of Spin's that this version does not do.
    #[error("{place}: {what} is not supported by this version of gristmill")]
    Unsupported {
        /// Where it stands.
        place: String,
        /// What it is.
        what: String,
    },
    /// The dependencies of a component.
    #[error("component `{component}`, dependencies: {source}")]
    Dependencies {
        /// The component.
        component: ComponentId,
        /// What is wrong.
        source: DependenciesError,
    },
    /// A dependency that would have to be fetched.
    #[error(
        "component `{component}`: dependency `{dependency}` is {place}, and this version of \
         gristmill reads dependencies from files only: fetch it and write `{{ path = \"…\" }}`"
    )]
    RemoteDependency {
        /// The component.
        component: ComponentId,
        /// The dependency.
        dependency: DependencyName,
        /// Where it is.
        place: String,
    },
    /// A variable with both or neither of `required` and `default`.
    #[error("variable `{name}` needs either `default = \"…\"` or `required = true`")]
    VariableKind {
        /// The variable.
        name: VariableName,
    },
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses `text`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let mut manifest: Self = toml::from_str(text).map_err(|error| ManifestError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        normalize::normalize(&mut manifest)?;
        for (name, variable) in &manifest.variables {
            if variable.required == variable.default.is_some() {
                return Err(ManifestError::VariableKind { name: name.clone() });
            }
        }
        Ok(manifest)
    }

    /// The HTTP triggers.
    pub fn http_triggers(&self) -> Result<Vec<HttpTrigger>, ManifestError> {
        let triggers: Vec<HttpTrigger> = self.triggers_of("http")?;
        for trigger in &triggers {
            self.require_component("http", &trigger.component)?;
            if let Some(executor) = trigger
                .executor
                .as_ref()
                .filter(|executor| executor.kind != "http")
            {
                return Err(ManifestError::Unsupported {
                    place: format!("`[[trigger.http]]` of component `{}`", trigger.component),
                    what: format!("executor `{}`", executor.kind),
                });
            }
        }
        Ok(triggers)
    }

    /// The SQS triggers.
    pub fn sqs_triggers(&self) -> Result<Vec<SqsTrigger>, ManifestError> {
        let triggers: Vec<SqsTrigger> = self.triggers_of("sqs")?;
        for (index, trigger) in triggers.iter().enumerate() {
            self.require_component("sqs", &trigger.component)?;
            if !(1..=10).contains(&trigger.max_messages) {
                return Err(ManifestError::Trigger {
                    kind: "sqs".into(),
                    number: index + 1,
                    reason: format!(
                        "max_messages is {}, allowed are 1 to 10",
                        trigger.max_messages
                    ),
                });
            }
        }
        Ok(triggers)
    }

    /// The cron triggers.
    pub fn cron_triggers(&self) -> Result<Vec<CronTrigger>, ManifestError> {
        let triggers: Vec<CronTrigger> = self.triggers_of("cron")?;
        for trigger in &triggers {
            self.require_component("cron", &trigger.component)?;
        }
        Ok(triggers)
    }

    /// The Redis triggers.
    pub fn redis_triggers(&self) -> Result<Vec<RedisTrigger>, ManifestError> {
        let triggers: Vec<RedisTrigger> = self.triggers_of("redis")?;
        for trigger in &triggers {
            self.require_component("redis", &trigger.component)?;
        }
        Ok(triggers)
    }

    /// `[application.trigger.<kind>]` as `T`, or its default.
    pub fn trigger_defaults<T: Default + for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
    ) -> Result<T, ManifestError> {
        match self.application.triggers.get(kind) {
            None => Ok(T::default()),
            Some(table) => table.clone().try_into().map_err(|error: toml::de::Error| {
                ManifestError::TriggerDefaults {
                    kind: kind.to_owned(),
                    reason: error.message().to_owned(),
                }
            }),
        }
    }

    /// Refuses the component if it needs what this version cannot give.
    pub fn require_supported(
        &self,
        id: &ComponentId,
        component: &Component,
    ) -> Result<(), ManifestError> {
        let elsewhere = match &component.source {
            Source::File(_) | Source::Inline(_) => None,
            Source::Remote(table) if table.keys().eq(["digest"]) => {
                Some("a `source` known by its digest alone")
            }
            Source::Remote(table) if table.contains_key("package") => {
                Some("a `source` from a registry of packages")
            }
            Source::Url(_) | Source::Remote(_) => Some("a `source` that is not a file"),
        };
        let unsupported = [
            (!component.ai_models.is_empty()).then_some("`ai_models`"),
            elsewhere,
        ];
        if let Some(what) = unsupported.into_iter().flatten().next() {
            return Err(ManifestError::Unsupported {
                place: format!("component `{id}`"),
                what: what.to_owned(),
            });
        }
        let dependencies = component.dependencies.iter();
        let remote = dependencies.filter_map(|(name, dependency)| match &dependency.source {
            DependencySource::Wasm(Source::Remote(table)) => Some((name, table)),
            _ => None,
        });
        match remote.into_iter().next() {
            None => Ok(()),
            Some((name, table)) => Err(ManifestError::RemoteDependency {
                component: id.clone(),
                dependency: name.clone(),
                place: place_of(table),
            }),
        }
    }

    fn triggers_of<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
    ) -> Result<Vec<T>, ManifestError> {
        let tables = self.triggers.get(kind).map_or(&[][..], Vec::as_slice);
        tables
            .iter()
            .enumerate()
            .map(|(index, table)| {
                if table.contains_key("dependencies") {
                    return Err(ManifestError::Unsupported {
                        place: format!("`[[trigger.{kind}]]` number {}", index + 1),
                        what: "`dependencies` of a trigger (middleware)".to_owned(),
                    });
                }
                table
                    .clone()
                    .try_into()
                    .map_err(|error: toml::de::Error| ManifestError::Trigger {
                        kind: kind.to_owned(),
                        number: index + 1,
                        reason: error.message().to_owned(),
                    })
            })
            .collect()
    }

    fn require_component(&self, kind: &str, id: &ComponentId) -> Result<(), ManifestError> {
        if self.components.contains_key(id) {
            Ok(())
        } else {
            Err(ManifestError::UnknownComponent {
                kind: kind.to_owned(),
                component: id.clone(),
            })
        }
    }
}

/// A sentence's part about where `source` would have to be fetched.
fn place_of(source: &toml::Table) -> String {
    let text = |key: &str| source.get(key).and_then(toml::Value::as_str);
    match (text("url"), text("version"), text("digest")) {
        (Some(url), ..) => format!("at `{url}`"),
        (None, Some(version), _) => format!("version `{version}` of a package in a registry"),
        (None, None, Some(digest)) => format!("known by its digest `{digest}` alone"),
        (None, None, None) => "nowhere".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"t\"\n";

    fn error_of(tail: &str) -> String {
        let text = format!("{HEAD}{tail}");
        let path = Path::new("spin.toml");
        let outcome = Manifest::parse(&text, path).and_then(|manifest| {
            manifest.http_triggers()?;
            manifest.sqs_triggers()?;
            for (id, component) in &manifest.components {
                manifest.require_supported(id, component)?;
            }
            Ok(())
        });
        outcome
            .expect_err("the manifest must be refused")
            .to_string()
    }

    #[test]
    fn refuses_with_place_and_value() {
        for (tail, expected) in [
            (
                "[component.a]\nsource = \"a.wasm\"\nsecrets = 1\n",
                "unknown field `secrets`",
            ),
            (
                "[component.a_b]\nsource = \"a.wasm\"\n",
                "`a_b` is not a valid component id",
            ),
            (
                "[[trigger.http]]\nroute = \"/\"\ncomponent = \"ghost\"\n",
                "component `ghost`",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[[trigger.http]]\ncomponent = \"a\"\n",
                "`[[trigger.http]]` number 1 is malformed: missing field `route`",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[[trigger.sqs]]\ncomponent = \"a\"\nqueue_url = \"http://q/1/a\"\nmax_messages = 11\n",
                "max_messages is 11, allowed are 1 to 10",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[[trigger.sqs]]\ncomponent = \"a\"\nqueue_url = \"u\"\nqueue_name = \"x\"\n",
                "unknown field `queue_name`",
            ),
            ("[variables]\nx = {}\n", "variable `x` needs either"),
            (
                "[component.a]\nsource = { url = \"u\", digest = \"d\" }\n",
                "component `a`: a `source` that is not a file",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\nfiles = [{ source = \"x\" }]\n",
                "an entry of `files` is a pattern, or `{ source",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[component.a.dependencies]\n\"n:p\" = \">= 1\"\n",
                "component `a`: dependency `n:p` is version `>= 1` of a package in a registry",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[component.a.dependencies]\n\"n:p/i\" = { url = \"u\", digest = \"d\" }\n",
                "component `a`: dependency `n:p/i` is at `u`",
            ),
            (
                "[component.a]\nsource = \"a.wasm\"\n[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\ndependencies = { middleware = [] }\n",
                "`[[trigger.http]]` number 1: `dependencies` of a trigger (middleware) is not supported",
            ),
        ] {
            let error = error_of(tail);
            assert!(error.contains(expected), "`{expected}` not in:\n{error}");
        }
    }

    #[test]
    fn names_line_and_column() {
        let error = error_of("[component.a]\nsource = \n");
        assert!(error.contains("line 5"), "{error}");
    }

    #[test]
    fn refuses_another_version() {
        let text = "spin_manifest_version = 1\n[application]\nname = \"t\"\n";
        let error = Manifest::parse(text, Path::new("spin.toml")).expect_err("version 1");
        assert!(
            error.to_string().contains("spin_manifest_version is `1`"),
            "{error}"
        );
    }
}
