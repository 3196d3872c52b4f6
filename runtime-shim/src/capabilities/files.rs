//! `wasi:filesystem` within the folders that a component is granted. They are
//! opened once, when the component is loaded: a sandbox gets the same handles.

use std::path::PathBuf;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::files::Mounts;

/// Whatever a sandbox with files may hold at once, open files among it: each of
/// those is a descriptor of the host.
const MAX_RESOURCES: usize = 1024;

/// A folder that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open its folder `{}`: {reason}", folder.display())]
pub struct FolderError {
    folder: PathBuf,
    reason: String,
}

/// The open folders of one component.
pub struct Preopens(WasiFilesystemCtx);

impl Preopens {
    /// Opens what is mounted; nothing for a component without files.
    pub fn open(mounts: &Mounts) -> Result<Option<Self>, FolderError> {
        if mounts.all.is_empty() {
            return Ok(None);
        }
        let perms = if mounts.writable {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        let mut wasi = WasiCtxBuilder::new();
        for mount in &mounts.all {
            let opened = wasi.preopened_dir(&mount.folder, &mount.path, perms);
            opened.map_err(|error| FolderError {
                folder: mount.folder.clone(),
                reason: format!("{error:#}"),
            })?;
        }
        Ok(Some(Self(wasi.build().filesystem().clone())))
    }

    /// Shows them to one sandbox.
    pub(super) fn grant(&self, wasi: &mut WasiCtx, table: &mut ResourceTable) {
        *wasi.filesystem() = self.0.clone();
        table.set_max_capacity(MAX_RESOURCES);
    }
}
