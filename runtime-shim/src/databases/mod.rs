//! The SQLite databases that components run their own SQL on: which file each
//! label stands for, and what that SQL may do. Components never see this
//! module: `capabilities` checks grants first.

mod connection;
mod database;
mod functions;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use connection::{Connection, Rows};
pub use database::Database;

use crate::names::DatabaseLabel;
use crate::stores::MAX_RESULT_BYTES;

/// Connections over all databases. A statement occupies a thread, so that this
/// bounds the threads as well.
const MAX_CONNECTIONS: usize = 256;
/// Connections to one database: at most, and with however many others beside it.
const MOST_CONNECTIONS: usize = 64;
const LEAST_CONNECTIONS: usize = 4;

/// Why a database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Others have every connection, and kept them.
    #[error("all {0} connections to the database are in use")]
    Exhausted(usize),
    /// The disk, or the file's own limit.
    #[error("the database is full")]
    Full,
    /// Spin's words, which components may look for.
    #[error("query result exceeds limit of {MAX_RESULT_BYTES} bytes")]
    TooLarge,
    /// What SQLite says, the refusals of our own rules included.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// An earlier statement on the connection never came back.
    #[error("the connection was given up in the middle of a statement")]
    Lost,
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// Why the databases of an application cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDatabasesError {
    /// A granted label that the runtime configuration does not define.
    #[error(
        "component `{component}` is granted the SQLite database `{label}`, which the runtime \
         configuration does not define: add `[sqlite_database.{label}]`"
    )]
    Undefined {
        /// The component.
        component: String,
        /// The label.
        label: DatabaseLabel,
    },
    /// The folder of the file cannot be made.
    #[error("cannot create the folder of SQLite database `{label}` at `{}`: {source}", path.display())]
    Folder {
        /// The label.
        label: DatabaseLabel,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file did not open.
    #[error("cannot open SQLite database `{label}` at `{}`: {source}", path.display())]
    Open {
        /// The label.
        label: DatabaseLabel,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Where databases live when nothing else is configured: Spin's own file for
/// `default`, a file for each other label beside it.
pub fn embedded_path(state_dir: &Path, label: &DatabaseLabel) -> PathBuf {
    match label.as_str() {
        "default" => state_dir.join("sqlite_db.db"),
        other => state_dir.join(format!("sqlite_db-{other}.db")),
    }
}

/// The databases of some labels.
#[derive(Clone, Default)]
pub struct Databases(BTreeMap<DatabaseLabel, Arc<Database>>);

impl Databases {
    /// Opens the database of each label; labels may share a file.
    pub fn open(files: BTreeMap<DatabaseLabel, PathBuf>) -> Result<Self, OpenDatabasesError> {
        if !files.is_empty() {
            rules::limit_memory();
        }
        let different: BTreeSet<&PathBuf> = files.values().collect();
        let share = MAX_CONNECTIONS / different.len().max(1);
        let share = share.clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS);
        let mut by_path: BTreeMap<PathBuf, Arc<Database>> = BTreeMap::new();
        let mut by_label = BTreeMap::new();
        for (label, path) in files {
            let database = match by_path.get(&path) {
                Some(database) => Arc::clone(database),
                None => {
                    let opened = Arc::new(open(&label, &path, share)?);
                    Arc::clone(by_path.entry(path).or_insert(opened))
                }
            };
            by_label.insert(label, database);
        }
        Ok(Self(by_label))
    }

    /// Those of `labels`.
    #[must_use]
    pub fn granted(&self, labels: &BTreeSet<DatabaseLabel>) -> Self {
        let granted = self.0.iter().filter(|(label, _)| labels.contains(*label));
        Self(
            granted
                .map(|(label, database)| (label.clone(), Arc::clone(database)))
                .collect(),
        )
    }

    /// The one behind `label`.
    pub fn get(&self, label: &str) -> Option<&Arc<Database>> {
        self.0.get(label)
    }
}

fn open(
    label: &DatabaseLabel,
    path: &Path,
    connections: usize,
) -> Result<Database, OpenDatabasesError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| OpenDatabasesError::Folder {
            label: label.clone(),
            path: path.to_owned(),
            source,
        })?;
    }
    Database::open(path, connections).map_err(|source| OpenDatabasesError::Open {
        label: label.clone(),
        path: path.to_owned(),
        source,
    })
}
