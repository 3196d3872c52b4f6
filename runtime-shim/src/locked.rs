//! The locked application: what `spin up` makes of a `spin.toml` and hands to
//! the plugins of its triggers, and what `spin registry push` puts into a registry.
//! Becomes a [`Manifest`]; from there on everything is as with a manifest.
//! Resolves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::app::TriggerKind;
use crate::manifest::{
    CapabilitySet, Component, Dependency, DependencyName, DependencySource, FileContent, FileMount,
    Inherits, Manifest, Source, Variable,
};
use crate::names::{ComponentId, DatabaseLabel, StoreLabel, VariableName};
use crate::registry::Digest;

/// The versions of the format. 1 says that some fields must be understood.
const VERSIONS: [u64; 2] = [0, 1];
/// The fields that a locked application may say must be understood.
const UNDERSTOOD: [&str; 2] = ["host_requirements", "component_host_requirements"];
/// What this host can be required to do.
const CAN_DO: [&str; 1] = ["local_service_chaining"];

/// Why a locked application cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockedError {
    /// The file is not there or not readable.
    #[error("cannot read the locked application `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON, or not a locked application.
    #[error("the locked application `{}` is malformed: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A format from the future.
    #[error(
        "the locked application has version {0} of the format; this version of gristmill reads \
         0 and 1"
    )]
    Version(u64),
    /// A field that must not be ignored, and is unknown.
    #[error(
        "the locked application says that `{0}` must be understood, which this version of \
         gristmill does not"
    )]
    MustUnderstand(String),
    /// Something that the host must do, and this one does not.
    #[error("{place} requires `{requirement}` of the host, which this version of gristmill lacks")]
    HostRequirement {
        /// Who requires it.
        place: String,
        /// What.
        requirement: String,
    },
    /// The wasm of a component is nowhere.
    #[error("component `{component}`: {reason}")]
    Source {
        /// The component.
        component: ComponentId,
        /// What is wrong.
        reason: String,
    },
    /// A value that no manifest can hold.
    #[error("{place} of the locked application: {reason}")]
    Value {
        /// Where it stands.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// What has to be looked at before the rest.
#[derive(Deserialize)]
struct Envelope {
    spin_lock_version: u64,
    #[serde(default)]
    must_understand: Vec<String>,
}

/// Unknown fields are ignored: later versions of Spin may add some, and name in
/// `must_understand` those that matter.
#[derive(Deserialize)]
struct LockedApp {
    #[serde(default)]
    metadata: AppMetadata,
    #[serde(default)]
    host_requirements: BTreeMap<String, Value>,
    #[serde(default)]
    variables: BTreeMap<VariableName, LockedVariable>,
    triggers: Vec<LockedTrigger>,
    components: Vec<LockedComponent>,
}

#[derive(Default, Deserialize)]
struct AppMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    /// `[application.trigger.<type>]`.
    #[serde(default)]
    triggers: BTreeMap<String, Value>,
    /// The same with its `type`: how older versions of Spin wrote the only type.
    #[serde(default)]
    trigger: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct LockedVariable {
    default: Option<String>,
    #[serde(default)]
    secret: bool,
}

#[derive(Deserialize)]
struct LockedTrigger {
    #[serde(default)]
    id: String,
    trigger_type: String,
    trigger_config: Value,
}

#[derive(Deserialize)]
struct LockedComponent {
    id: ComponentId,
    #[serde(default)]
    metadata: ComponentMetadata,
    source: ContentRef,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<LockedFile>,
    #[serde(default)]
    config: BTreeMap<VariableName, String>,
    #[serde(default)]
    dependencies: BTreeMap<DependencyName, LockedDependency>,
    #[serde(default)]
    host_requirements: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
struct ComponentMetadata {
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: Vec<StoreLabel>,
    #[serde(default)]
    databases: Vec<DatabaseLabel>,
    #[serde(default)]
    ai_models: Vec<String>,
}

/// Spin has resolved which component it is, and what it inherits.
#[derive(Deserialize)]
struct LockedDependency {
    source: ContentRef,
    export: Option<String>,
    #[serde(default)]
    inherit: LockedInherits,
}

#[derive(Deserialize)]
enum LockedInherits {
    All,
    Some(BTreeSet<CapabilitySet>),
}

impl Default for LockedInherits {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// Where content is: at least one of the three.
#[derive(Deserialize)]
struct ContentRef {
    source: Option<String>,
    inline: Option<String>,
    digest: Option<String>,
}

/// Content under a path that the component sees.
#[derive(Deserialize)]
struct LockedFile {
    #[serde(flatten)]
    content: ContentRef,
    path: String,
}

/// Who made a locked application for whom.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// `spin up` for the process that runs the triggers of this type. Other
    /// triggers and their options are left out, however they may look: they belong
    /// to other processes.
    Plugin(TriggerKind),
    /// Whoever pushed it into a registry, for everybody: all its triggers, and no
    /// file of any machine.
    Registry,
}

impl Whose {
    fn has(self, kind: &str) -> bool {
        match self {
            Self::Plugin(own) => own.as_str() == kind,
            Self::Registry => true,
        }
    }
}

/// Reads the file at `path` for the triggers of type `kind`.
pub fn load(path: &Path, kind: TriggerKind) -> Result<Manifest, LockedError> {
    let json = std::fs::read(path).map_err(|source| LockedError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&json, Whose::Plugin(kind), path)
}

/// Parses `json`; `path` is for messages.
pub fn parse(json: &[u8], whose: Whose, path: &Path) -> Result<Manifest, LockedError> {
    let malformed = |source| LockedError::Parse {
        path: path.to_owned(),
        source,
    };
    let envelope: Envelope = serde_json::from_slice(json).map_err(malformed)?;
    if !VERSIONS.contains(&envelope.spin_lock_version) {
        return Err(LockedError::Version(envelope.spin_lock_version));
    }
    let unknown = |field: &String| !UNDERSTOOD.contains(&field.as_str());
    if let Some(field) = envelope.must_understand.into_iter().find(unknown) {
        return Err(LockedError::MustUnderstand(field));
    }
    let app: LockedApp = serde_json::from_slice(json).map_err(malformed)?;
    check_requirements("the application", &app.host_requirements)?;

    let mut manifest = Manifest::default();
    manifest.application.name.clone_from(&app.metadata.name);
    manifest
        .application
        .version
        .clone_from(&app.metadata.version);
    for (name, variable) in app.variables {
        let variable = Variable::new(variable.default, variable.secret);
        manifest.variables.insert(name, variable);
    }
    for component in app.components {
        let (id, component) = component.into_manifest(whose)?;
        manifest.components.insert(id, component);
    }
    for trigger in app.triggers {
        if whose.has(&trigger.trigger_type) {
            let place = || format!("trigger `{}`", trigger.id);
            let config = table(trigger.trigger_config, place)?;
            let triggers = manifest.triggers.entry(trigger.trigger_type);
            triggers.or_default().push(config);
        }
    }
    for (kind, options) in app.metadata.options() {
        if whose.has(&kind) {
            let options = table(options, || format!("`metadata.triggers.{kind}`"))?;
            let options = known_options(&kind, options, &manifest);
            manifest.application.triggers.insert(kind, options);
        }
    }
    Ok(manifest)
}

/// `spin up --component-id` drops components and keeps their options.
fn known_options(kind: &str, mut options: toml::Table, manifest: &Manifest) -> toml::Table {
    // Those of other types are about servers, not about components.
    if kind != TriggerKind::Sqs.as_str() && kind != TriggerKind::Cron.as_str() {
        return options;
    }
    options.retain(|key, _| {
        let known = manifest.components.contains_key::<str>(key);
        if !known {
            tracing::warn!(
                "`{key}` in `[application.trigger.{kind}]` is ignored: this run has no such \
                 component"
            );
        }
        known
    });
    options
}

impl AppMetadata {
    fn options(mut self) -> BTreeMap<String, Value> {
        if self.triggers.is_empty()
            && let Some(Value::String(kind)) = self.trigger.remove("type")
        {
            let options = self.trigger.into_iter().collect();
            return BTreeMap::from([(kind, Value::Object(options))]);
        }
        self.triggers
    }
}

impl LockedComponent {
    fn into_manifest(self, whose: Whose) -> Result<(ComponentId, Component), LockedError> {
        check_requirements(&format!("component `{}`", self.id), &self.host_requirements)?;
        let place = |what: &str| format!("`{what}` of component `{}`", self.id);
        let mut component = Component::default();
        component.source = source(&self.id, self.source, whose)?;
        component.variables = self.config;
        component.environment = self.env;
        component.allowed_outbound_hosts = self.metadata.allowed_outbound_hosts;
        component.key_value_stores = self.metadata.key_value_stores;
        component.sqlite_databases = self.metadata.databases;
        component.ai_models = self.metadata.ai_models;
        for file in self.files {
            let content =
                file_content(file.content, whose).map_err(|reason| LockedError::Value {
                    place: place("files"),
                    reason: format!("`{}`: {reason}", file.path),
                })?;
            let path = file.path;
            component.files.push(FileMount::Given { content, path });
        }
        for (name, dependency) in self.dependencies {
            let dependency = Dependency {
                source: DependencySource::Wasm(source(&self.id, dependency.source, whose)?),
                export: dependency.export,
                inherits: Some(match dependency.inherit {
                    LockedInherits::All => Inherits::All,
                    LockedInherits::Some(sets) => Inherits::Some(sets),
                }),
            };
            component.dependencies.insert(name, dependency);
        }
        Ok((self.id, component))
    }
}

/// A requirement that is `optional` is none.
fn check_requirements(
    place: &str,
    requirements: &BTreeMap<String, Value>,
) -> Result<(), LockedError> {
    let lacking = |(name, how): &(&String, &Value)| {
        how.as_str() != Some("optional") && !CAN_DO.contains(&name.as_str())
    };
    match requirements.iter().find(lacking) {
        None => Ok(()),
        Some((requirement, _)) => Err(LockedError::HostRequirement {
            place: place.to_owned(),
            requirement: requirement.clone(),
        }),
    }
}

fn source(
    component: &ComponentId,
    content: ContentRef,
    whose: Whose,
) -> Result<Source, LockedError> {
    let fail = |reason: String| LockedError::Source {
        component: component.clone(),
        reason,
    };
    // In a registry, it would be a file of whoever pushed it.
    let local = matches!(whose, Whose::Plugin(_));
    if let Some(text) = content.source.filter(|_| local) {
        let url = Url::parse(&text).map_err(|e| fail(format!("source `{text}`: {e}")))?;
        if url.scheme() != "file" {
            // Refused where the component is needed, as in a manifest.
            return Ok(remote("url", text));
        }
        let path = url.to_file_path();
        return path
            .map(Source::File)
            .map_err(|()| fail(format!("source `{text}` is not the URL of a file here")));
    }
    match (content.inline, content.digest) {
        (Some(inline), digest) => {
            let wasm = decoded(&inline, digest.as_deref()).map_err(fail)?;
            Ok(Source::Inline(wasm.into()))
        }
        (None, Some(digest)) => Ok(remote("digest", digest)),
        (None, None) => Err(fail(
            "it has no source: neither `source` nor `inline` nor `digest`".to_owned(),
        )),
    }
}

/// Inline content, which must be what a digest beside it says.
fn decoded(inline: &str, digest: Option<&str>) -> Result<Vec<u8>, String> {
    let bytes = BASE64_STANDARD.decode(inline);
    let bytes = bytes.map_err(|error| format!("its inline content is not base64: {error}"))?;
    match digest {
        Some(digest) if Digest::of(&bytes).to_string() != digest => Err(format!(
            "its inline content does not have the digest `{digest}` that stands beside it"
        )),
        _ => Ok(bytes),
    }
}

fn file_content(content: ContentRef, whose: Whose) -> Result<FileContent, String> {
    // In a registry, it would be a file of whoever pushed it.
    let local = matches!(whose, Whose::Plugin(_));
    if let Some(text) = content.source.filter(|_| local) {
        let path = Url::parse(&text).ok().filter(|url| url.scheme() == "file");
        let path = path.and_then(|url| url.to_file_path().ok());
        return Ok(path.map_or(FileContent::Elsewhere(text), FileContent::At));
    }
    match (content.inline, content.digest) {
        (Some(inline), digest) => {
            let bytes = decoded(&inline, digest.as_deref())?;
            Ok(FileContent::Inline(bytes.into()))
        }
        (None, Some(digest)) => Ok(FileContent::Elsewhere(digest)),
        (None, None) => Err("it has neither `source` nor `inline` nor `digest`".to_owned()),
    }
}

fn remote(key: &str, value: String) -> Source {
    Source::Remote(toml::Table::from_iter([(
        key.to_owned(),
        toml::Value::String(value),
    )]))
}

fn table(value: Value, place: impl Fn() -> String) -> Result<toml::Table, LockedError> {
    let fail = |reason: String| LockedError::Value {
        place: place(),
        reason,
    };
    match to_toml(value).map_err(fail)? {
        Some(toml::Value::Table(table)) => Ok(table),
        _ => Err(fail("it is not an object".to_owned())),
    }
}

/// Spin made its JSON of TOML, which knows no `null`: there, such a key is absent.
fn to_toml(value: Value) -> Result<Option<toml::Value>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => toml::Value::Boolean(value),
        Value::String(text) => toml::Value::String(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => toml::Value::Integer(integer),
            (None, Some(float)) if !number.is_u64() => toml::Value::Float(float),
            _ => return Err(format!("{number} is out of range")),
        },
        Value::Array(values) => {
            let values = values
                .into_iter()
                .filter_map(|value| to_toml(value).transpose());
            toml::Value::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let mut table = toml::Table::new();
            for (key, value) in fields {
                if let Some(value) = to_toml(value)? {
                    table.insert(key, value);
                }
            }
            toml::Value::Table(table)
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::app::{App, AppError, Selection, Wasm};
    use crate::variables::Variables;

    /// What Spin 3.6 writes for an application with HTTP, queue and cron
    /// components, chained ones, variables and options of ours.
    const GOLDEN: &str = include_str!("../tests/fixtures/spin-3.6.lock");

    fn golden() -> Value {
        serde_json::from_str(GOLDEN).expect("JSON")
    }

    fn parsed(app: &Value, kind: TriggerKind) -> Result<Manifest, LockedError> {
        let json = app.to_string();
        parse(json.as_bytes(), Whose::Plugin(kind), Path::new("spin.lock"))
    }

    fn resolved(app: &Value, kind: TriggerKind) -> Result<App, String> {
        let manifest = parsed(app, kind).map_err(|e| e.to_string())?;
        let variables = Variables::resolve(&manifest.variables, BTreeMap::new(), &[]);
        let variables = futures::executor::block_on(variables).map_err(|e| e.to_string())?;
        let app: Result<App, AppError> = App::resolve(
            &manifest,
            Path::new(""),
            &variables,
            &Selection::default(),
            "http://127.0.0.1:9324",
        );
        app.map_err(|e| e.to_string())
    }

    fn ids(app: &App) -> Vec<&str> {
        app.components.keys().map(ComponentId::as_str).collect()
    }

    #[test]
    fn a_queue_trigger_sees_its_components_and_those_that_they_call() {
        let app = resolved(&golden(), TriggerKind::Sqs).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(app.name, "golden");
        assert_eq!(ids(&app), ["lookup", "worker"]);
        assert!(app.http_components.is_empty() && app.schedules.is_empty());
        let [queue] = &app.queues[..] else {
            panic!("one queue")
        };
        assert_eq!(queue.queue_url.name(), "real-jobs");
        assert_eq!(queue.max_messages, 5);
        assert_eq!(queue.max_concurrency, 3);
        assert_eq!(queue.system_attributes, ["SentTimestamp"]);

        let worker = &app.components["worker"];
        let Wasm::File(path) = &worker.source else {
            panic!("a file")
        };
        assert_eq!(path, Path::new("/work/an app/worker.wasm"));
        assert_eq!(worker.environment["MODE"], "fast");
        let variables = worker.variables.iter();
        let variables: Vec<_> = variables.map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            variables,
            ["queue=http://127.0.0.1:9324/000000000000/real-jobs"]
        );
        let stores: Vec<_> = worker.stores.iter().map(StoreLabel::as_str).collect();
        assert_eq!(stores, ["default", "results"]);
        let databases: Vec<_> = worker.databases.iter().map(DatabaseLabel::as_str).collect();
        assert_eq!(databases, ["default"]);
    }

    #[test]
    fn a_cron_trigger_sees_its_own() {
        let app = resolved(&golden(), TriggerKind::Cron).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ids(&app), ["tick"]);
        assert!(app.queues.is_empty());
        let [schedule] = &app.schedules[..] else {
            panic!("one schedule")
        };
        assert_eq!(schedule.schedule.to_string(), "0 * * * * *");
        assert_eq!(schedule.timeout.as_secs(), 3);
    }

    #[test]
    fn options_of_components_that_this_run_lacks_are_ignored() {
        let mut app = golden();
        app["metadata"]["triggers"]["sqs"]["gone"] = json!({"max_concurrency": 1});
        app["metadata"]["triggers"]["sqs"]["a_key"] = json!("of somebody else");
        let app = resolved(&app, TriggerKind::Sqs).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(app.queues.len(), 1);
    }

    #[test]
    fn unknown_fields_and_absent_ones_are_no_matter() {
        let mut app = golden();
        app["profile"] = json!("debug");
        app["components"][0]["anything"] = json!({"new": null});
        app["components"][0]["metadata"]["build"] = Value::Null;
        assert!(resolved(&app, TriggerKind::Sqs).is_ok());
        let least = json!({
            "spin_lock_version": 0,
            "triggers": [{"id": "t", "trigger_type": "cron", "trigger_config":
                {"component": "c", "cron_expression": "* * * * * *", "extra": null}}],
            "components": [{"id": "c", "source": {"content_type": "application/wasm", "source": "file:///c"}}],
        });
        assert!(resolved(&least, TriggerKind::Cron).is_ok());
    }

    #[test]
    fn an_inline_source_is_the_wasm() {
        let mut app = golden();
        let worker = position(&app, "worker");
        app["components"][worker]["source"] =
            json!({"content_type": "application/wasm", "inline": "AGFzbQ=="});
        let app = resolved(&app, TriggerKind::Sqs).unwrap_or_else(|e| panic!("{e}"));
        let Wasm::Inline(wasm) = &app.components["worker"].source else {
            panic!("inline")
        };
        assert_eq!(&wasm[..], b"\0asm");
    }

    #[test]
    fn dependencies_are_files_with_what_they_inherit() {
        let mut app = golden();
        let worker = position(&app, "worker");
        let source = json!({"content_type": "application/wasm", "source": "file:///d.wasm"});
        app["components"][worker]["dependencies"] = json!({
            "a:b/c@1.0.0": {"source": source, "export": null, "inherit": "All"},
            "plain": {"source": source, "export": "x:y/z", "inherit": {"Some": ["variables"]}},
            "x:y": {"source": source, "export": null},
        });
        let app = resolved(&app, TriggerKind::Sqs).unwrap_or_else(|e| panic!("{e}"));
        let found = app.components["worker"].dependencies.iter();
        let found: Vec<_> = found
            .map(|one| (one.name.to_string(), one.export.as_deref(), &one.inherits))
            .collect();
        let variables = Inherits::Some([CapabilitySet::Variables].into());
        assert_eq!(
            found,
            [
                ("plain".to_owned(), Some("x:y/z"), &variables),
                ("a:b/c@1.0.0".to_owned(), None, &Inherits::All),
                ("x:y".to_owned(), None, &Inherits::NOTHING),
            ]
        );
        let file = Wasm::File("/d.wasm".into());
        assert_eq!(app.components["worker"].dependencies[0].source, file);
    }

    fn position(app: &Value, id: &str) -> usize {
        let components = app["components"].as_array().expect("components");
        let found = components
            .iter()
            .position(|component| component["id"] == id);
        found.expect("a component of that id")
    }

    #[test]
    fn refuses_with_place_and_value() {
        let worker = position(&golden(), "worker");
        let cases: [(&str, Value, &str); 15] = [
            ("/spin_lock_version", json!(2), "version 2 of the format"),
            (
                "/must_understand",
                json!(["host_requirements", "time"]),
                "`time` must be understood",
            ),
            (
                "/host_requirements",
                json!({"gpu": "required"}),
                "the application requires `gpu`",
            ),
            ("/components", json!({}), "malformed: invalid type: map"),
            (
                "/components/W/id",
                json!("a_b"),
                "`a_b` is not a valid component id",
            ),
            (
                "/components/W/host_requirements",
                json!({"local_service_chaining": "required", "gpu": "required"}),
                "component `worker` requires `gpu`",
            ),
            (
                "/components/W/source",
                json!({}),
                "component `worker`: it has no source",
            ),
            (
                "/components/W/source",
                json!({"inline": "!"}),
                "inline content is not base64",
            ),
            (
                "/components/W/source",
                json!({"digest": "sha256:00"}),
                "component `worker`: a `source` known by its digest alone is not supported",
            ),
            (
                "/components/W/source",
                json!({"source": "https://example.com/w.wasm"}),
                "component `worker`: a `source` that is not a file is not supported",
            ),
            (
                "/components/W/files",
                json!([{"digest": "sha256:00", "path": "/a.txt"}]),
                "component `worker`: its file `/a.txt` is not on this machine, only known as \
                 `sha256:00`",
            ),
            (
                "/components/W/files",
                json!([{"path": "/a.txt"}]),
                "`files` of component `worker` of the locked application: `/a.txt`: it has neither",
            ),
            (
                "/components/W/dependencies",
                json!({"a:b/c": {"source": {"digest": "sha256:00"}, "export": null}}),
                "component `worker`: dependency `a:b/c` is known by its digest `sha256:00` alone",
            ),
            (
                "/components/W/dependencies",
                json!({"a:b/c": {"source": {"source": "file:///d"}, "inherit": {"Some": ["x"]}}}),
                "unknown variant `x`, expected one of `ai_models`",
            ),
            (
                "/metadata/triggers/sqs",
                json!([]),
                "`metadata.triggers.sqs` of the locked application: it is not an object",
            ),
        ];
        for (place, value, expected) in cases {
            let place = place.replace('W', &worker.to_string());
            let mut app = golden();
            *slot(&mut app, &place) = value;
            let error = resolved(&app, TriggerKind::Sqs)
                .err()
                .expect("must be refused");
            assert!(
                error.contains(expected),
                "{place}: `{expected}` not in `{error}`"
            );
        }
    }

    /// The value at `place`, made where it is not there.
    fn slot<'a>(app: &'a mut Value, place: &str) -> &'a mut Value {
        place
            .split('/')
            .skip(1)
            .fold(app, |value, key| match key.parse::<usize>() {
                Ok(index) => &mut value[index],
                Err(_) => &mut value[key],
            })
    }

    #[test]
    fn what_an_other_process_serves_may_look_as_it_likes() {
        let mut app = golden();
        let page = position(&app, "page");
        *slot(&mut app, &format!("/components/{page}/files")) =
            json!([{"digest": "sha256:00", "path": "/"}]);
        *slot(&mut app, &format!("/components/{page}/source")) = json!({"digest": "sha256:00"});
        app["triggers"][0]["trigger_config"] = json!({"executor": {"type": "wagi"}});
        app["metadata"]["triggers"]["http"] = json!({"base": "/x"});
        assert!(resolved(&app, TriggerKind::Sqs).is_ok());
    }

    #[test]
    fn a_required_variable_is_required() {
        let mut app = golden();
        app["variables"]["token"] = json!({"secret": true});
        let error = resolved(&app, TriggerKind::Sqs).err().expect("no value");
        assert!(error.contains("variable `token` is required"), "{error}");
    }

    fn from_registry(app: &Value) -> Result<Manifest, String> {
        let json = app.to_string();
        let path = Path::new("oci://h/app:v1");
        parse(json.as_bytes(), Whose::Registry, path).map_err(|e| e.to_string())
    }

    #[test]
    fn from_a_registry_all_triggers_come_and_no_file_of_this_machine() {
        let mut app = golden();
        for component in app["components"].as_array_mut().expect("components") {
            component["source"] = json!({
                "content_type": "application/wasm",
                "source": "file:///etc/passwd",
                "digest": "sha256:00",
            });
        }
        let error = from_registry(&app).expect_err("a file of this machine");
        assert!(error.contains("`files` of component `page`"), "{error}");
        app["components"][1]["files"] = json!([]);
        let manifest = from_registry(&app).unwrap_or_else(|e| panic!("{e}"));
        let kinds: Vec<_> = manifest.triggers.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["cron", "http", "sqs"]);
        assert!(manifest.application.triggers["sqs"].contains_key("worker"));
        for (id, component) in &manifest.components {
            let Source::Remote(source) = &component.source else {
                panic!("{id}: {:?}", component.source)
            };
            assert_eq!(source["digest"].as_str(), Some("sha256:00"));
        }
        app["components"][0]["source"] = json!({"source": "file:///etc/passwd"});
        let error = from_registry(&app).expect_err("a file of this machine");
        assert!(error.contains("it has no source"), "{error}");
    }

    #[test]
    fn options_about_a_server_are_kept() {
        let app = json!({
            "spin_lock_version": 1,
            "metadata": {"triggers": {"redis": {"address": "redis://h:6379"}}},
            "triggers": [{"id": "t", "trigger_type": "redis",
                "trigger_config": {"component": "c", "channel": "news"}}],
            "components": [{"id": "c", "source": {"inline": ""}}],
        });
        let manifest = from_registry(&app).unwrap_or_else(|e| panic!("{e}"));
        let address = manifest.application.triggers["redis"]["address"].as_str();
        assert_eq!(address, Some("redis://h:6379"));
    }

    #[test]
    fn options_in_the_older_form_count() {
        let app = |metadata: Value| {
            json!({
                "spin_lock_version": 0,
                "metadata": metadata,
                "triggers": [{"id": "t", "trigger_type": "http",
                    "trigger_config": {"component": "c", "route": "/"}}],
                "components": [{"id": "c", "source": {"inline": ""}}],
            })
        };
        let older = json!({"name": "x", "trigger": {"type": "http", "base": "/x"}});
        let manifest = from_registry(&app(older)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            manifest.application.triggers["http"]["base"].as_str(),
            Some("/x")
        );
        let both = json!({"trigger": {"type": "http", "base": "/x"}, "triggers": {"http": {"base": "/y"}}});
        let manifest = from_registry(&app(both)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            manifest.application.triggers["http"]["base"].as_str(),
            Some("/y")
        );
    }
}
