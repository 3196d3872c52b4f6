//! From the command line to an application: finds the manifest, the runtime
//! configuration, the variables and the state folder.

use std::borrow::Borrow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::app::{self, App, AppError, Selection, TriggerKind, queue_urls};
use crate::aws::AwsSettings;
use crate::backends::Backends;
use crate::cli::{self, ProjectOptions};
use crate::databases::{self, Databases, OpenDatabasesError};
use crate::embedded_origin::{self, EMBEDDED_ORIGIN};
use crate::engine::DEFAULT_MEMORY;
use crate::files::{self, FilesError, MountedFiles};
use crate::locked::{self, LockedError, Whose};
use crate::manifest::{Manifest, ManifestError};
use crate::names::{DatabaseLabel, StoreLabel};
use crate::registry::{self, DownloadError, Downloads, Image, Reference};
use crate::runtime_config::{RuntimeConfig, RuntimeConfigError};
use crate::seeds::{SeedError, Seeds, Statements};
use crate::settings::{DotenvError, Environment};
use crate::stores::{Limits, OpenStoresError, StoreConfig, Stores, embedded_path};
use crate::variables::{Given, GivenError, Provider, VariableError, Variables};

/// Why there is no application to run.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The locked application.
    #[error(transparent)]
    Locked(#[from] LockedError),
    /// What looks like a reference, and has no scheme.
    #[error("there is no file `{0}`; if an application in a registry is meant, write `oci://{0}`")]
    Scheme(String),
    /// What is not on this machine.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A file of variables.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// The runtime configuration.
    #[error(transparent)]
    RuntimeConfig(#[from] RuntimeConfigError),
    /// The `.env` file.
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    /// A variable.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// The application itself.
    #[error(transparent)]
    App(#[from] AppError),
    /// A store.
    #[error(transparent)]
    Stores(#[from] OpenStoresError),
    /// A SQLite database.
    #[error(transparent)]
    Databases(#[from] OpenDatabasesError),
    /// Files of a component.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Something to put into them first.
    #[error(transparent)]
    Seeds(#[from] SeedError),
    /// A setting in the environment.
    #[error("environment variable `{name}`: {reason}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Where an application is described.
#[derive(Clone)]
pub enum AppSource {
    /// In a `spin.toml`, or in the folder of one.
    Manifest(PathBuf),
    /// In what Spin made of one, for the triggers of one type.
    Locked {
        /// The file.
        file: PathBuf,
        /// The type.
        kind: TriggerKind,
        /// Where state is, unless options or the runtime configuration say otherwise.
        state_dir: PathBuf,
    },
    /// In a registry, where `spin registry push` put it.
    Registry {
        /// Which.
        reference: Reference,
        /// Whether the registry is asked by plain HTTP.
        insecure: bool,
    },
}

/// The manifest that `--from` names: the file, or the one in the folder.
pub fn manifest_file(from: &Path) -> PathBuf {
    if from.is_dir() {
        from.join("spin.toml")
    } else {
        from.to_owned()
    }
}

/// What the place of a description decides.
struct Described {
    manifest: Manifest,
    base_dir: PathBuf,
    dotenv: PathBuf,
    state_dir: PathBuf,
    /// Spin overlooks values for variables that the application does not declare.
    overlooks_undeclared: bool,
    /// Where the content of its components is, if not on this machine.
    image: Option<Image>,
}

impl AppSource {
    async fn read(self, downloads: &Downloads) -> Result<Described, ProjectError> {
        match self {
            Self::Manifest(path) => {
                if let Some(text) = path.to_str().filter(|text| is_reference(text))
                    && !path.exists()
                {
                    return Err(ProjectError::Scheme(text.to_owned()));
                }
                let path = manifest_file(&path);
                let base_dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                let base_dir = base_dir.unwrap_or(Path::new(".")).to_owned();
                Ok(Described {
                    manifest: Manifest::load(&path)?,
                    dotenv: base_dir.join(".env"),
                    state_dir: base_dir.join(".spin"),
                    base_dir,
                    overlooks_undeclared: false,
                    image: None,
                })
            }
            Self::Locked {
                file,
                kind,
                state_dir,
            } => Ok(Described {
                manifest: locked::load(&file, kind)?,
                // Its sources are absolute. The `.env` is that of Spin: both
                // processes must see the same values.
                base_dir: PathBuf::new(),
                dotenv: PathBuf::from(".env"),
                state_dir,
                overlooks_undeclared: true,
                image: None,
            }),
            Self::Registry {
                reference,
                insecure,
            } => {
                let image = downloads.pull(&reference, insecure).await?;
                let name = PathBuf::from(reference.to_string());
                Ok(Described {
                    manifest: locked::parse(image.application(), Whose::Registry, &name)?,
                    // As on Spin, the working directory is its folder.
                    base_dir: PathBuf::new(),
                    dotenv: PathBuf::from(".env"),
                    state_dir: PathBuf::from(".spin"),
                    overlooks_undeclared: false,
                    image: Some(image),
                })
            }
        }
    }
}

/// Whether Spin would take it for an application in a registry: `HOST/REPOSITORY`
/// with a host that no folder is called.
fn is_reference(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let is_host = host.contains([':', '.']) && !host.starts_with('.');
    is_host
        && format!("{}{text}", registry::SCHEME)
            .parse::<Reference>()
            .is_ok()
}

/// A manifest with everything that belongs to it.
pub struct Project {
    manifest: Manifest,
    base_dir: PathBuf,
    /// Where embedded stores and queues live.
    pub state_dir: PathBuf,
    /// Bytes of memory for one sandbox.
    pub max_memory: usize,
    /// The servers that components may lean on.
    pub backends: Backends,
    /// What the environment says about AWS.
    pub aws: AwsSettings,
    store_limits: Limits,
    allow_transient_write: bool,
    runtime_config: Option<RuntimeConfig>,
    variables: Variables,
    selection: Selection,
}

impl Project {
    /// Reads all the files and resolves the variables.
    pub async fn load(
        source: AppSource,
        options: ProjectOptions,
        environment: &Environment,
    ) -> Result<Self, ProjectError> {
        let downloads = Downloads::new(options.cache_dir, environment);
        let described = source.read(&downloads).await?;
        let mut manifest = described.manifest;

        let runtime_config_file = options
            .runtime_config_file
            .or_else(|| environment.get("RUNTIME_CONFIG_FILE").map(PathBuf::from));
        let runtime_config = runtime_config_file
            .as_deref()
            .map(RuntimeConfig::load)
            .transpose()?;
        let configured = runtime_config.as_ref();

        let mut providers = match configured {
            Some(config) => config.providers(environment)?,
            None => Vec::new(),
        };
        providers.push(Provider::Environment {
            prefix: "SPIN_VARIABLE".to_owned(),
            environment: environment.clone().with_dotenv(&described.dotenv)?,
        });
        let mut given = Given::read(&options.variables)?;
        if described.overlooks_undeclared {
            given.retain(|name, _| manifest.variables.contains_key(name));
        }
        let variables = Variables::resolve(&manifest.variables, given, &providers).await?;

        let max_memory = match (options.max_instance_memory, environment.get(MEMORY_SETTING)) {
            (Some(bytes), _) => bytes,
            (None, Some(text)) => {
                cli::parse_memory(text).map_err(|reason| ProjectError::Setting {
                    name: MEMORY_SETTING,
                    reason,
                })?
            }
            (None, None) => configured
                .and_then(|config| config.max_instance_memory)
                .unwrap_or(DEFAULT_MEMORY),
        };
        let state_dir = options
            .state_dir
            .or_else(|| configured.and_then(|config| config.state_dir.clone()))
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(described.state_dir);
        create_private(&state_dir);
        let selection = Selection {
            triggers: options.triggers,
            components: options.components,
        };
        let image = described.image.as_ref();
        if image.is_some() || manifest.components.values().any(registry::is_elsewhere) {
            let reached = app::reached(&manifest, &variables, &selection)?;
            downloads.provide(&mut manifest, &reached, image).await?;
        }
        Ok(Self {
            manifest,
            base_dir: described.base_dir,
            state_dir,
            max_memory,
            backends: Backends::default(),
            aws: AwsSettings::from_environment(environment),
            store_limits: Limits {
                max_value: options.max_value_bytes,
            },
            allow_transient_write: options.allow_transient_write,
            runtime_config,
            variables,
            selection,
        })
    }

    /// Whether anything in the application names the embedded queue.
    pub fn wants_embedded_queue(&self) -> Result<bool, ProjectError> {
        let by_trigger = queue_urls(&self.manifest, &self.variables)?
            .iter()
            .any(|url| embedded_origin::mentions(url.as_str()));
        Ok(by_trigger || self.variables.any(embedded_origin::mentions))
    }

    /// The application, with the embedded queue's origin replaced by the one
    /// where it really listens, if it does.
    pub fn app(&self, embedded: Option<&str>) -> Result<App, ProjectError> {
        let origin = embedded.unwrap_or(EMBEDDED_ORIGIN);
        Ok(App::resolve(
            &self.manifest,
            &self.base_dir,
            &self.variables,
            &self.selection,
            origin,
        )?)
    }

    /// Opens the stores that the components of `app` are granted.
    pub async fn open_stores(&self, app: &App) -> Result<Stores, ProjectError> {
        let mut defined = match &self.runtime_config {
            Some(config) => Some(config.key_value_stores(&self.variables)?),
            None => None,
        };
        let mut configs: BTreeMap<StoreLabel, StoreConfig> = BTreeMap::new();
        for component in app.components.values() {
            for label in &component.stores {
                let config = match configs.entry(label.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let embedded =
                            || StoreConfig::Sqlite(embedded_path(&self.state_dir, label));
                        let config = behind(label, &mut defined, embedded);
                        unknown.insert(config.ok_or_else(|| OpenStoresError::Undefined {
                            component: component.id.to_string(),
                            label: label.clone(),
                        })?)
                    }
                };
                if let Some(needed) = component.max_value_bytes.get(label) {
                    let id = component.id.as_str();
                    config.check_holds(*needed, label, id, self.store_limits)?;
                }
            }
        }
        Ok(Stores::open(configs, &self.aws, &self.backends, self.store_limits).await?)
    }

    /// Opens the SQLite databases that the components of `app` are granted.
    pub fn open_databases(&self, app: &App) -> Result<Databases, ProjectError> {
        let mut defined = match &self.runtime_config {
            Some(config) => Some(config.sqlite_files()?),
            None => None,
        };
        let mut files: BTreeMap<DatabaseLabel, PathBuf> = BTreeMap::new();
        for component in app.components.values() {
            for label in &component.databases {
                if files.contains_key(label) {
                    continue;
                }
                let embedded = || databases::embedded_path(&self.state_dir, label);
                let path = behind(label, &mut defined, embedded);
                let path = path.ok_or_else(|| OpenDatabasesError::Undefined {
                    component: component.id.to_string(),
                    label: label.clone(),
                })?;
                files.insert(label.clone(), path);
            }
        }
        Ok(Databases::open(files)?)
    }

    /// Puts the files of the components of `app` where only they see them.
    pub fn mount_files(&self, app: &App) -> Result<MountedFiles, ProjectError> {
        let granted = app.components.values().map(|each| (&each.id, &each.files));
        let mounted = MountedFiles::mount(granted, &self.state_dir, self.allow_transient_write);
        Ok(mounted?)
    }

    /// Whether `mount_files` would find everything.
    pub fn check_files(&self, app: &App) -> Result<(), ProjectError> {
        let granted = app.components.values().map(|each| (&each.id, &each.files));
        Ok(files::check(granted, &self.state_dir)?)
    }

    /// Puts `seeds` where they belong. What is opened for it is closed again:
    /// afterwards a component has what it is granted, and no more.
    pub async fn plant(&self, seeds: &Seeds) -> Result<(), ProjectError> {
        if !seeds.pairs.is_empty() {
            self.plant_pairs(seeds).await?;
        }
        for statements in &seeds.statements {
            let (sql, label) = match statements {
                Statements::Text(sql) => (sql.clone(), DatabaseLabel::spins_default()),
                Statements::File(path, label) => {
                    let sql = std::fs::read_to_string(path).map_err(|source| SeedError::Read {
                        path: path.clone(),
                        source,
                    });
                    (sql?, label.clone())
                }
            };
            let mut defined = match &self.runtime_config {
                Some(config) => Some(config.sqlite_files()?),
                None => None,
            };
            let embedded = || databases::embedded_path(&self.state_dir, &label);
            let path = behind(&label, &mut defined, embedded);
            let path = path.ok_or_else(|| SeedError::Database(label.clone()))?;
            let opened = Databases::open(BTreeMap::from([(label.clone(), path)]))?;
            if let Some(database) = opened.get(label.as_str()) {
                let run = database.run(&sql);
                run.map_err(|source| SeedError::Sql { label, source })?;
            }
        }
        Ok(())
    }

    async fn plant_pairs(&self, seeds: &Seeds) -> Result<(), ProjectError> {
        let label = StoreLabel::spins_default();
        let mut defined = match &self.runtime_config {
            Some(config) => Some(config.key_value_stores(&self.variables)?),
            None => None,
        };
        let embedded = || StoreConfig::Sqlite(embedded_path(&self.state_dir, &label));
        let config = behind(&label, &mut defined, embedded).into_iter();
        let config = config.map(|config| (label.clone(), config)).collect();
        // Watched apart: a component may have no business with that server.
        let backends = Backends::default();
        let stores = Stores::open(config, &self.aws, &backends, self.store_limits).await?;
        backends.probe().await;
        let mut planted = Ok(());
        for store in stores.granted(&BTreeSet::from([label])).values() {
            for pair in &seeds.pairs {
                let set = store.set(pair.key.clone(), pair.value.clone().into_bytes());
                if let Err(error) = set.await {
                    planted = Err(SeedError::Pair {
                        key: pair.key.clone(),
                        reason: error.to_string(),
                    });
                    break;
                }
            }
        }
        stores.close().await;
        backends.close().await;
        Ok(planted?)
    }

    /// Where machine code is kept.
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir.join("gristmill-cache")
    }

    /// Where the embedded queue keeps its messages.
    pub fn queue_dir(&self) -> PathBuf {
        self.state_dir.join("queue")
    }
}

/// What stands behind a label: what the runtime configuration defines, or the
/// embedded file without a configuration. Spin: `default` is always defined.
fn behind<L: Ord + Borrow<str>, C>(
    label: &L,
    defined: &mut Option<BTreeMap<L, C>>,
    embedded: impl FnOnce() -> C,
) -> Option<C> {
    let label: &str = label.borrow();
    let configured = defined.is_some();
    let found = defined.as_mut().and_then(|defined| defined.remove(label));
    found.or_else(|| (!configured || label == "default").then(embedded))
}

/// Creates the folder for this user alone: password hashes and sessions will be in
/// it. Where it cannot be created, what needs it says so.
fn create_private(folder: &Path) {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if let Err(error) = builder.recursive(true).create(folder) {
        tracing::debug!("cannot create {}: {error}", folder.display());
    }
}

const MEMORY_SETTING: &str = "SPIN_MAX_INSTANCE_MEMORY";
