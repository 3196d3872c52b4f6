//! The folders that components see: private copies of what they are granted, as
//! it was at start. Copies, because patterns, excluded files and new names cannot
//! be told to the system otherwise, and because a file that changes under a
//! running component is neither the old one nor the new one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::path::{Path, PathBuf};

use super::select::{Selected, select};
use super::{Entry, FileGrants, FilesError, Origin, Problem};
use crate::names::ComponentId;

/// Below the state folder.
const FOLDER: &str = "gristmill-files";

/// A folder of this machine, and where a component sees it.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The folder.
    pub folder: PathBuf,
    /// Its path in the sandbox.
    pub path: String,
}

/// The folders of one component.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// Each of them.
    pub all: Vec<Mount>,
    /// Whether the component may change what is in them.
    pub writable: bool,
}

/// The folders of every component that has any. Copies go when it does.
#[derive(Default)]
pub struct MountedFiles {
    mounts: BTreeMap<ComponentId, Mounts>,
    copies: Option<Copies>,
}

impl MountedFiles {
    /// Makes what is granted ready, with copies below `state_dir`.
    pub fn mount<'a>(
        granted: impl Iterator<Item = (&'a ComponentId, &'a FileGrants)>,
        state_dir: &Path,
        writable: bool,
    ) -> Result<Self, FilesError> {
        let mut mounted = Self::default();
        for (component, grants) in granted.filter(|(_, grants)| !grants.is_empty()) {
            let all = match whole_folders(grants, writable) {
                Some(folders) => folders,
                None => mounted
                    .copy(component, grants, state_dir)
                    .map_err(|problem| problem.of(component))?,
            };
            let mounts = Mounts { all, writable };
            mounted.mounts.insert(component.clone(), mounts);
        }
        Ok(mounted)
    }

    /// Those of one component.
    pub fn of(&self, component: &ComponentId) -> Mounts {
        self.mounts.get(component).cloned().unwrap_or_default()
    }

    fn copy(
        &mut self,
        component: &ComponentId,
        grants: &FileGrants,
        state_dir: &Path,
    ) -> Result<Vec<Mount>, Problem> {
        let selected = select(grants, state_dir)?;
        let copies = match self.copies.take() {
            Some(copies) => copies,
            None => Copies::begin(&state_dir.join(FOLDER))?,
        };
        let folder = copies.folder.join(component.as_str());
        self.copies = Some(copies);
        write(&selected, &folder)?;
        let path = "/".to_owned();
        Ok(vec![Mount { folder, path }])
    }
}

/// What Spin has laid out already: its own copies, or folders that it was told to
/// mount as they are; and what was downloaded, for components that only read it.
fn whole_folders(grants: &FileGrants, writable: bool) -> Option<Vec<Mount>> {
    let as_folder = |entry: &Entry| match entry {
        Entry::At {
            source,
            path,
            shared,
        } if source.is_dir() && !(*shared && writable) => Some(Mount {
            folder: source.clone(),
            path: path.clone(),
        }),
        _ => None,
    };
    grants.entries.iter().map(as_folder).collect()
}

fn write(selected: &Selected, folder: &Path) -> Result<(), Problem> {
    fs::create_dir_all(folder).map_err(Problem::io("create", folder))?;
    for (path, origin) in selected {
        let to = folder.join(path);
        let parent = to.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Problem::io("create", parent))?;
        match origin {
            Origin::File(from) => fs::copy(from, &to)
                .map(drop)
                .map_err(Problem::io("copy", from))?,
            Origin::Inline(bytes) => fs::write(&to, bytes).map_err(Problem::io("write", &to))?,
        }
    }
    Ok(())
}

/// The folder of this process's copies, removed with it. What a killed process
/// left is removed by the next one: it holds no lock any more.
struct Copies {
    folder: PathBuf,
    lock_file: PathBuf,
    _lock: File,
}

impl Copies {
    fn begin(all: &Path) -> Result<Self, Problem> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .recursive(true)
            .create(all)
            .map_err(Problem::io("create", all))?;
        // One process at a time looks for what is left, and takes a name.
        let gate_file = all.join("lock");
        let gate = File::create(&gate_file).map_err(Problem::io("create", &gate_file))?;
        gate.lock().map_err(Problem::io("lock", &gate_file))?;
        remove_abandoned(all);
        let name = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
        let lock_file = all.join(format!("{name}.lock"));
        let lock = File::create_new(&lock_file).map_err(Problem::io("create", &lock_file))?;
        lock.lock().map_err(Problem::io("lock", &lock_file))?;
        Ok(Self {
            folder: all.join(name),
            lock_file,
            _lock: lock,
        })
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        remove(&self.folder, &self.lock_file);
    }
}

fn remove_abandoned(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let lock_file = entry.path();
        let is_named = lock_file.extension().is_some_and(|end| end == "lock");
        if is_named && File::open(&lock_file).is_ok_and(|lock| lock.try_lock().is_ok()) {
            remove(&lock_file.with_extension(""), &lock_file);
        }
    }
}

/// The lock goes last: without it nobody would look for the folder.
fn remove(folder: &Path, lock_file: &Path) {
    let removed = match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_file(lock_file),
    };
    if let Err(error) = removed {
        tracing::warn!("cannot remove `{}`: {error}", folder.display());
    }
}
