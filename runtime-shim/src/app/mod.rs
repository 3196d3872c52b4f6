//! The application as it will run: the manifest with every variable in place,
//! every grant checked and every name resolved. Nothing here does I/O.

mod filter;
mod queues;
mod schedules;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::allowed_hosts::{AllowedHost, AllowedHostError, AllowedHosts};
use crate::embedded_origin;
use crate::engine::QUEUE_SANDBOXES;
use crate::files::{FileGrantError, FileGrants};
use crate::http::router::{RouteError, Router};
use crate::manifest::{
    self, DependencyName, DependencySource, HttpTriggerDefaults, Inherits, Manifest, ManifestError,
    Source,
};
use crate::names::{ComponentId, DatabaseLabel, StoreLabel, VariableName};
use crate::redis_server::RedisAddressError;
use crate::variables::{VariableError, Variables};

pub(crate) use filter::{Body, Comparison, Filter, Test};
pub use filter::{FilterError, Filters, Mismatch};
use queues::resolve_queues;
pub use queues::{
    Backoff, DedupOptions, ForwardUrl, QueueTrigger, QueueUrl, SandboxPer, queue_urls,
};
use schedules::resolve_schedules;
pub use schedules::{CronTrigger, Schedule};
pub use subscriptions::RedisTrigger;
use subscriptions::resolve_subscriptions;

/// A kind of trigger that this host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum TriggerKind {
    /// `[[trigger.http]]`
    Http,
    /// `[[trigger.sqs]]`
    Sqs,
    /// `[[trigger.cron]]`
    Cron,
    /// `[[trigger.redis]]`
    Redis,
}

impl TriggerKind {
    fn parse(kind: &str) -> Option<Self> {
        match kind {
            "http" => Some(Self::Http),
            "sqs" => Some(Self::Sqs),
            "cron" => Some(Self::Cron),
            "redis" => Some(Self::Redis),
            _ => None,
        }
    }

    /// Its name in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sqs => "sqs",
            Self::Cron => "cron",
            Self::Redis => "redis",
        }
    }
}

/// Which part of the application to run. Empty means all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--trigger`
    pub triggers: Vec<TriggerKind>,
    /// `--component`
    pub components: Vec<ComponentId>,
}

impl Selection {
    fn has(&self, kind: TriggerKind, component: &ComponentId) -> bool {
        self.has_kind(kind) && (self.components.is_empty() || self.components.contains(component))
    }

    fn has_kind(&self, kind: TriggerKind) -> bool {
        self.triggers.is_empty() || self.triggers.contains(&kind)
    }
}

/// The application.
pub struct App {
    /// Its name.
    pub name: String,
    /// The components that the selected triggers reach, by themselves or by
    /// service chaining.
    pub components: BTreeMap<ComponentId, Component>,
    /// The public routes and their components.
    pub routes: Vec<(String, ComponentId)>,
    /// The same routes, for matching.
    pub router: Router,
    /// The components that HTTP triggers name, private ones included.
    pub http_components: Vec<ComponentId>,
    /// What consumes which queue.
    pub queues: Vec<QueueTrigger>,
    /// What is called when.
    pub schedules: Vec<CronTrigger>,
    /// What is called for which messages of Redis.
    pub subscriptions: Vec<RedisTrigger>,
    /// The embedded queues that any trigger names, selected or not: components
    /// may send to a queue that another process consumes.
    pub embedded_queues: BTreeSet<String>,
}

/// One component with its grants.
pub struct Component {
    /// Its id.
    pub id: ComponentId,
    /// Its wasm.
    pub source: Wasm,
    /// The components that answer some of its imports.
    pub dependencies: Vec<Dependency>,
    /// Its variables, rendered.
    pub variables: BTreeMap<VariableName, String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The hosts it may reach.
    pub allowed_hosts: AllowedHosts,
    /// The labels of the stores it may open.
    pub stores: BTreeSet<StoreLabel>,
    /// Bytes of the largest value that it puts into a store, where it says so.
    pub max_value_bytes: BTreeMap<StoreLabel, usize>,
    /// The labels of the SQLite databases it may open.
    pub databases: BTreeSet<DatabaseLabel>,
    /// The files it sees.
    pub files: FileGrants,
}

/// A component that answers imports of another one, and becomes a part of it.
pub struct Dependency {
    /// Which imports.
    pub name: DependencyName,
    /// Its wasm.
    pub source: Wasm,
    /// The export that answers, where it is not named as the import.
    pub export: Option<String>,
    /// Which of the other's grants it shares.
    pub inherits: Inherits,
}

/// Where the wasm of a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wasm {
    /// A file.
    File(PathBuf),
    /// Here.
    Inline(Arc<[u8]>),
}

impl fmt::Display for Wasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Inline(wasm) => write!(f, "(inline, {} bytes)", wasm.len()),
        }
    }
}

/// Why the application cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A variable.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// A route.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A need for a store that the component may not open.
    #[error(
        "component `{component}`: `tool.gristmill.max_value_bytes` names the store `{label}`, \
         which `key_value_stores` does not grant"
    )]
    NeedWithoutGrant {
        /// Whose.
        component: ComponentId,
        /// Which store.
        label: StoreLabel,
    },
    /// A host.
    #[error("component `{component}`: {source}")]
    AllowedHost {
        /// Whose list it is in.
        component: ComponentId,
        /// What is wrong.
        source: AllowedHostError,
    },
    /// Files that cannot be granted.
    #[error("component `{component}`: {source}")]
    Files {
        /// Whose.
        component: ComponentId,
        /// What is wrong.
        source: FileGrantError,
    },
    /// A host or a URL that cannot be shown.
    #[error(
        "component `{component}`: `{template}` is malformed with its variables in place; the \
         value is not shown, because one of them is secret"
    )]
    Secret {
        /// Whose it is.
        component: ComponentId,
        /// What the manifest says.
        template: String,
    },
    /// A chained component that does not exist.
    #[error(
        "component `{component}` is allowed to reach `{target}.spin.internal`, but the manifest \
         defines no component `{target}`"
    )]
    ChainedComponent {
        /// Whose list it is in.
        component: ComponentId,
        /// The missing one.
        target: String,
    },
    /// A selected component that does not exist.
    #[error("`--component {0}`: the manifest defines no such component")]
    UnknownSelection(ComponentId),
    /// Nothing to run.
    #[error("nothing to run: no trigger of the manifest is selected")]
    NothingSelected,
    /// A trigger of a kind that this host does not run.
    #[error(
        "`[[trigger.{0}]]` is not supported by this version of gristmill: choose others with \
         `--trigger`"
    )]
    UnknownTrigger(String),
    /// Options for a component that consumes nothing.
    #[error(
        "`[application.trigger.{kind}.{component}]` has options for a component that no \
         `[[trigger.{kind}]]` names"
    )]
    OrphanOptions {
        /// The type of trigger.
        kind: &'static str,
        /// Whose options they are.
        component: ComponentId,
    },
    /// An option out of range.
    #[error(
        "`[application.trigger.{kind}.{component}]`: {option} is {value}, allowed are {min} to {max}"
    )]
    OptionRange {
        /// The type of trigger.
        kind: &'static str,
        /// Whose options they are.
        component: ComponentId,
        /// Which one.
        option: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// One component on one queue, twice.
    #[error(
        "component `{component}` consumes queue `{queue}` by two triggers: with `queue_url` in \
         `[application.trigger.sqs.{component}]` it can have one trigger only"
    )]
    SameQueueTwice {
        /// Who consumes.
        component: ComponentId,
        /// The queue's name.
        queue: String,
    },
    /// More messages at once than there are sandboxes.
    #[error(
        "the queue, cron and redis triggers may make {sum} calls at once, the host has {QUEUE_SANDBOXES} \
         sandboxes for them: lower `max_concurrency`"
    )]
    TooMuchConcurrency {
        /// The sum over all triggers.
        sum: u32,
    },
    /// A schedule.
    #[error(
        "component `{component}`: cron_expression `{expression}` is not a schedule, `sec min hour \
         day-of-month month day-of-week [year]`: {reason}"
    )]
    Schedule {
        /// What is called.
        component: ComponentId,
        /// The expression.
        expression: String,
        /// What is wrong.
        reason: String,
    },
    /// A Redis trigger without a server.
    #[error(
        "component `{component}`: its `[[trigger.redis]]` has no `address`, and neither has \
         `[application.trigger.redis]`"
    )]
    NoRedisAddress {
        /// Who is called.
        component: ComponentId,
    },
    /// A Redis trigger with a server that cannot be one.
    #[error("component `{component}`: `address` of its `[[trigger.redis]]`: {source}")]
    RedisAddress {
        /// Who is called.
        component: ComponentId,
        /// What is wrong, without the address.
        source: RedisAddressError,
    },
    /// A Redis trigger for no messages.
    #[error("component `{component}`: `channel` of its `[[trigger.redis]]` is empty")]
    EmptyChannel {
        /// Who is called.
        component: ComponentId,
    },
    /// An option of a component out of range.
    #[error(
        "`[component.{component}.tool.gristmill.redis]`: {option} is {value}, allowed are {min} to \
         {max}"
    )]
    RedisOptionRange {
        /// Whose options they are.
        component: ComponentId,
        /// Which one.
        option: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A filter.
    #[error("`[application.trigger.sqs.{component}]`: filter: {reason}")]
    Filter {
        /// Whose options they are.
        component: ComponentId,
        /// What is wrong.
        reason: FilterError,
    },
    /// What becomes of messages that no filter matches, without a filter.
    #[error(
        "`[application.trigger.sqs.{component}]`: filter_mismatch without `filter` means nothing: \
         add a filter or remove it"
    )]
    MismatchWithoutFilter {
        /// Whose options they are.
        component: ComponentId,
    },
    /// A queue's URL.
    #[error("component `{component}`: queue_url `{url}` is not a queue's URL: {reason}")]
    QueueUrl {
        /// Who consumes.
        component: ComponentId,
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A kept message would hold up its group until redrive takes it away.
    #[error(
        "`[application.trigger.sqs.{component}]`: filter_mismatch is `keep`, and queue `{queue}` is FIFO, \
         where a message that is kept holds up its group: choose `ack` or `dead-letter`"
    )]
    KeepOnFifo {
        /// Who consumes.
        component: ComponentId,
        /// The queue's name.
        queue: String,
    },
    /// Options of a queue trigger that do not go together.
    #[error("`[application.trigger.sqs.{component}]`: {reason}")]
    QueueOptions {
        /// Whose options they are.
        component: ComponentId,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// A de-duplication store that the component may not open.
    #[error(
        "`[application.trigger.sqs.{component}]`: dedup_store is `{label}`, which \
         `key_value_stores` of the component does not grant"
    )]
    DedupWithoutGrant {
        /// Whose options they are.
        component: ComponentId,
        /// Which store.
        label: StoreLabel,
    },
    /// A server that cannot be forwarded to.
    #[error("`forward_to` of component `{component}` is `{url}`, which is malformed: {reason}")]
    ForwardUrl {
        /// Who consumes.
        component: ComponentId,
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// `base` of HTTP triggers.
    #[error("`[application.trigger.http]`: base is `{0}`, only `/` is supported")]
    Base(String),
    /// `{ private = false }`.
    #[error("component `{0}`: a route is a path or `{{ private = true }}`")]
    PrivateRoute(ComponentId),
}

impl App {
    /// Resolves `manifest`, found in `base_dir`, for the triggers of `selection`.
    /// `embedded` is the origin where the embedded queue listens: it replaces
    /// the one that manifests write for it.
    pub fn resolve(
        manifest: &Manifest,
        base_dir: &Path,
        variables: &Variables,
        selection: &Selection,
        embedded: &str,
    ) -> Result<Self, AppError> {
        let values = Values {
            variables,
            embedded,
        };
        let triggers = Triggers::select(manifest, selection)?;
        let components = resolve_components(manifest, &triggers, |id, component| {
            manifest.require_supported(id, component)?;
            resolve_component(id, component, base_dir, values)
        })?;
        let mut routes = Vec::new();
        for trigger in &triggers.http {
            match &trigger.route {
                manifest::Route::Path(route) => {
                    routes.push((route.clone(), trigger.component.clone()));
                }
                manifest::Route::Private(route) if route.private => {}
                manifest::Route::Private(_) => {
                    return Err(AppError::PrivateRoute(trigger.component.clone()));
                }
            }
        }
        let queues = resolve_queues(manifest, triggers.sqs, values, selection)?;
        let schedules = resolve_schedules(manifest, triggers.cron, selection)?;
        let at_once: u32 = queues.iter().map(|queue| queue.max_concurrency).sum();
        let subscriptions = resolve_subscriptions(manifest, triggers.redis, values)?;
        let of_redis: u32 = subscriptions.iter().map(|each| each.max_concurrency).sum();
        let at_once = at_once + schedules.len() as u32 + of_redis;
        if at_once > QUEUE_SANDBOXES {
            return Err(AppError::TooMuchConcurrency { sum: at_once });
        }
        Ok(Self {
            name: manifest.application.name.clone(),
            components,
            router: Router::new(routes.clone())?,
            routes,
            http_components: triggers
                .http
                .into_iter()
                .map(|trigger| trigger.component)
                .collect(),
            queues,
            schedules,
            subscriptions,
            embedded_queues: queue_urls(manifest, variables)?
                .into_iter()
                .filter(|url| url.origin() == embedded_origin::EMBEDDED_ORIGIN)
                .map(|url| url.name().to_owned())
                .collect(),
        })
    }
}

/// The components that the selected triggers reach, before it is known where their
/// wasm and their files are.
pub fn reached(
    manifest: &Manifest,
    variables: &Variables,
    selection: &Selection,
) -> Result<BTreeSet<ComponentId>, AppError> {
    let values = Values {
        variables,
        embedded: embedded_origin::EMBEDDED_ORIGIN,
    };
    let triggers = Triggers::select(manifest, selection)?;
    let components = resolve_components(manifest, &triggers, |id, component| {
        resolve_component(id, component, Path::new(""), values)
    })?;
    Ok(components.into_keys().collect())
}

struct Triggers {
    http: Vec<manifest::HttpTrigger>,
    sqs: Vec<manifest::SqsTrigger>,
    cron: Vec<manifest::CronTrigger>,
    redis: Vec<manifest::RedisTrigger>,
}

impl Triggers {
    fn select(manifest: &Manifest, selection: &Selection) -> Result<Self, AppError> {
        for id in &selection.components {
            if !manifest.components.contains_key(id) {
                return Err(AppError::UnknownSelection(id.clone()));
            }
        }
        for kind in manifest.triggers.keys() {
            // With `--trigger`, kinds that were not asked for are not looked at.
            if TriggerKind::parse(kind).is_none() && selection.triggers.is_empty() {
                return Err(AppError::UnknownTrigger(kind.clone()));
            }
        }
        let defaults: HttpTriggerDefaults = manifest.trigger_defaults("http")?;
        if let Some(base) = defaults.base.filter(|base| base != "/") {
            return Err(AppError::Base(base));
        }
        let mut triggers = Self {
            http: manifest.http_triggers()?,
            sqs: manifest.sqs_triggers()?,
            cron: manifest.cron_triggers()?,
            redis: manifest.redis_triggers()?,
        };
        triggers
            .http
            .retain(|trigger| selection.has(TriggerKind::Http, &trigger.component));
        triggers
            .sqs
            .retain(|trigger| selection.has(TriggerKind::Sqs, &trigger.component));
        triggers
            .cron
            .retain(|trigger| selection.has(TriggerKind::Cron, &trigger.component));
        triggers
            .redis
            .retain(|trigger| selection.has(TriggerKind::Redis, &trigger.component));
        if triggers.components().next().is_none() {
            return Err(AppError::NothingSelected);
        }
        Ok(triggers)
    }

    /// The component of each trigger.
    fn components(&self) -> impl Iterator<Item = &ComponentId> {
        let http = self.http.iter().map(|trigger| &trigger.component);
        let sqs = self.sqs.iter().map(|trigger| &trigger.component);
        let cron = self.cron.iter().map(|trigger| &trigger.component);
        let redis = self.redis.iter().map(|trigger| &trigger.component);
        http.chain(sqs).chain(cron).chain(redis)
    }
}

/// The components that triggers name, and those that they may call in turn.
fn resolve_components(
    manifest: &Manifest,
    triggers: &Triggers,
    resolve: impl Fn(&ComponentId, &manifest::Component) -> Result<Component, AppError>,
) -> Result<BTreeMap<ComponentId, Component>, AppError> {
    let mut waiting: Vec<ComponentId> = triggers.components().cloned().collect();
    let mut resolved = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if resolved.contains_key(&id) {
            continue;
        }
        let component = resolve(&id, &manifest.components[&id])?;
        for target in component.allowed_hosts.chained_components() {
            match manifest.components.get_key_value(target) {
                Some((target, _)) => waiting.push(target.clone()),
                None => {
                    return Err(AppError::ChainedComponent {
                        component: id,
                        target: target.to_owned(),
                    });
                }
            }
        }
        if component.allowed_hosts.allow_any_chained() {
            waiting.extend(manifest.components.keys().cloned());
        }
        resolved.insert(id, component);
    }
    Ok(resolved)
}

/// The application's variables, and where the embedded queue is.
#[derive(Clone, Copy)]
struct Values<'a> {
    variables: &'a Variables,
    embedded: &'a str,
}

impl Values<'_> {
    fn render(self, template: &str, place: impl Fn() -> String) -> Result<String, VariableError> {
        let rendered = self.variables.render(template, place)?;
        Ok(embedded_origin::substitute(&rendered, self.embedded))
    }

    /// The error for a malformed value that must not be shown, if it must not.
    fn malformed(self, component: &ComponentId, template: &str) -> Option<AppError> {
        self.variables
            .reveals_secret(template)
            .then(|| AppError::Secret {
                component: component.clone(),
                template: template.to_owned(),
            })
    }
}

fn resolve_component(
    id: &ComponentId,
    component: &manifest::Component,
    base_dir: &Path,
    values: Values<'_>,
) -> Result<Component, AppError> {
    let mut own = BTreeMap::new();
    for (name, template) in &component.variables {
        let place = || format!("variable `{name}` of component `{id}`");
        own.insert(name.clone(), values.render(template, place)?);
    }
    let mut allowed_hosts = AllowedHosts::default();
    for entry in &component.allowed_outbound_hosts {
        let place = || format!("`allowed_outbound_hosts` of component `{id}`");
        let host = values.render(entry, place)?.parse::<AllowedHost>();
        let host = host.map_err(|source| {
            let component = id.clone();
            values
                .malformed(&component, entry)
                .unwrap_or(AppError::AllowedHost { component, source })
        })?;
        allowed_hosts.push(if values.variables.reveals_secret(entry) {
            host.shown_as(entry)
        } else {
            host
        });
    }
    let stores: BTreeSet<_> = component.key_value_stores.iter().cloned().collect();
    let max_value_bytes = component.tool.gristmill.max_value_bytes.clone();
    if let Some(label) = max_value_bytes
        .keys()
        .find(|label| !stores.contains(*label))
    {
        return Err(AppError::NeedWithoutGrant {
            component: id.clone(),
            label: label.clone(),
        });
    }
    let files = FileGrants::resolve(&component.files, &component.exclude_files, base_dir);
    let files = files.map_err(|source| AppError::Files {
        component: id.clone(),
        source,
    })?;
    let dependencies = component.dependencies.iter();
    let dependencies = dependencies.filter_map(|(name, dependency)| match &dependency.source {
        DependencySource::Wasm(source) => Some(Dependency {
            name: name.clone(),
            source: resolve_source(source, base_dir),
            export: dependency.export.clone(),
            inherits: dependency.inherits.clone().unwrap_or(Inherits::NOTHING),
        }),
        // A normalized manifest has none.
        DependencySource::Component(_) => None,
    });
    Ok(Component {
        id: id.clone(),
        source: resolve_source(&component.source, base_dir),
        dependencies: dependencies.collect(),
        variables: own,
        environment: component.environment.clone(),
        allowed_hosts,
        stores,
        max_value_bytes,
        databases: component.sqlite_databases.iter().cloned().collect(),
        files,
    })
}

fn resolve_source(source: &Source, base_dir: &Path) -> Wasm {
    match source {
        Source::File(path) => Wasm::File(base_dir.join(path)),
        Source::Inline(wasm) => Wasm::Inline(Arc::clone(wasm)),
        // `require_supported` was asked before, or the source is not looked at.
        Source::Url(_) | Source::Remote(_) => Wasm::File(PathBuf::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn resolve(tail: &str, selection: &Selection) -> Result<App, AppError> {
        let text = format!("spin_manifest_version = 2\n[application]\nname = \"t\"\n{tail}");
        let manifest = Manifest::parse(&text, Path::new("spin.toml"))?;
        let defaults = Variables::resolve(&manifest.variables, BTreeMap::new(), &[]);
        let variables = futures::executor::block_on(defaults)?;
        App::resolve(
            &manifest,
            Path::new("/app"),
            &variables,
            selection,
            "http://127.0.0.1:9324",
        )
    }

    fn error_of(tail: &str) -> String {
        resolve(tail, &Selection::default())
            .err()
            .expect("must be refused")
            .to_string()
    }

    const WORKER: &str = "[component.w]\nsource = \"w.wasm\"\n[[trigger.sqs]]\ncomponent = \"w\"\n";

    #[test]
    fn refuses_before_traffic_with_place_and_value() {
        let w = |rest: &str| format!("{WORKER}queue_url = \"http://127.0.0.1:9324/0/q\"\n{rest}");
        for (tail, expected) in [
            (String::new(), "nothing to run"),
            (format!("{WORKER}queue_url = \"q\"\n"), "queue_url `q` is not a queue's URL"),
            (format!("{WORKER}queue_url = \"ftp://h/q\"\n"), "the scheme is `ftp`"),
            (
                format!(
                    "{WORKER}queue_url = \"http://127.0.0.1:9324/0/q.fifo\"\n[application.trigger.sqs.w]\n\
                     filter = {{ body = [\"x\"] }}\nfilter_mismatch = \"keep\"\n"
                ),
                "queue `q.fifo` is FIFO",
            ),
            (format!("{WORKER}queue_url = \"{{{{ no }}}}\"\n"), "uses `{{ no }}`"),
            (w("[application.trigger.sqs.w]\nmax_concurrency = 0\n"), "max_concurrency is 0, allowed are 1 to 400"),
            (
                w("[application.trigger.sqs.w]\nmin_concurrency = 65\n"),
                "min_concurrency is 65, allowed are 1 to 64",
            ),
            (
                w("[application.trigger.sqs.w]\ndedup_store = \"default\"\n"),
                "dedup_store is `default`, which `key_value_stores` of the component does not grant",
            ),
            (
                w("[application.trigger.sqs.w]\ndedup_attribute = \"a\"\n"),
                "have no meaning without `dedup_store`",
            ),
            (
                w("[application.trigger.sqs.w]\nbatch_size = 400\n"),
                "batch_size is 400, allowed are 1 to 312",
            ),
            (
                w("[application.trigger.sqs.w]\nsandbox = \"batch\"\nforward_to = \"http://h/\"\n"),
                "`sandbox = \"batch\"` has no meaning beside `forward_to`",
            ),
            (
                w("[application.trigger.sqs.w]\nhttp_path = \"/a\"\nforward_to = \"http://h/\"\n"),
                "write the path into that URL",
            ),
            (
                w("[application.trigger.sqs.w]\nsandbox = \"message\"\nbatch_window_ms = 1\n"),
                "nothing waits for company",
            ),
            (w("[application.trigger.sqs.w]\nhttp_path = \"a\"\n"), "begin it with `/`"),
            (
                w("[application.trigger.sqs.w]\nforward_to = \"ftp://h/\"\n"),
                "`forward_to` of component `w` is `ftp://h/`, which is malformed: the scheme is `ftp`",
            ),
            (
                w("[application.trigger.sqs.w]\nforward_to = \"http://me:pw@h/\"\n"),
                "must not have a user name",
            ),
            (w("[application.trigger.sqs.x]\n"), "a component that no `[[trigger.sqs]]` names"),
            (w("[application.trigger.sqs.w]\nbatch = 1\n"), "unknown field `batch`"),
            (w("[[trigger.ftp]]\ncomponent = \"w\"\n"), "`[[trigger.ftp]]` is not supported"),
            (w("[[trigger.cron]]\ncomponent = \"w\"\n"), "missing field `cron_expression`"),
            (
                w("[[trigger.cron]]\ncomponent = \"w\"\ncron_expression = \"* * * * *\"\n"),
                "component `w`: cron_expression `* * * * *` is not a schedule",
            ),
            (
                w("[[trigger.cron]]\ncomponent = \"w\"\ncron_expression = \"0 * * * * *\"\n\
                   [application.trigger.cron.w]\ntimeout_secs = 0\n"),
                "`[application.trigger.cron.w]`: timeout_secs is 0, allowed are 1 to 86400",
            ),
            (
                "[component.a]\nsource = \"a\"\nallowed_outbound_hosts = [\"x.com\"]\n[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n".into(),
                "component `a`: `x.com` is not an allowed host",
            ),
            (
                "[component.a]\nsource = \"a\"\nallowed_outbound_hosts = [\"http://b.spin.internal\"]\n[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n".into(),
                "no component `b`",
            ),
        ] {
            let error = error_of(&tail);
            assert!(error.contains(expected), "`{expected}` not in `{error}`");
        }
    }

    #[test]
    fn options_override_the_trigger() {
        let app = resolve(
            &format!(
                "[variables]\nurl = {{ default = \"http://127.0.0.1:1/0/real\" }}\n{WORKER}\
                 queue_url = \"http://127.0.0.1:9324/0/q\"\n[application.trigger.sqs.w]\n\
                 queue_url = \"{{{{ url }}}}\"\ntimeout_secs = 5\n"
            ),
            &Selection::default(),
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let [queue] = &app.queues[..] else {
            panic!("one queue")
        };
        assert_eq!(queue.queue_url.name(), "real");
        assert_eq!(queue.timeout, Some(Duration::from_secs(5)));
        assert_eq!(queue.max_concurrency, 64);
    }

    #[test]
    fn a_selection_loads_what_it_reaches() {
        let tail = "[component.a]\nsource = \"a\"\nallowed_outbound_hosts = [\"http://b.spin.internal\"]\n\
            [component.b]\nsource = \"b\"\n[component.c]\nsource = \"c\"\n\
            [[trigger.http]]\nroute = \"/a\"\ncomponent = \"a\"\n\
            [[trigger.http]]\nroute = { private = true }\ncomponent = \"b\"\n\
            [[trigger.http]]\nroute = \"/c\"\ncomponent = \"c\"\n";
        let a = ComponentId::new("a").expect("test id");
        let selection = Selection {
            triggers: vec![],
            components: vec![a],
        };
        let app = resolve(tail, &selection).unwrap_or_else(|e| panic!("{e}"));
        let ids: Vec<_> = app.components.keys().map(ComponentId::as_str).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(app.router.find("/a").is_some());
        assert!(app.router.find("/c").is_none());
    }
}
