//! What was downloaded, by digest. An entry appears under its name when it is
//! complete and verified, so that any number of processes may share the folder;
//! it is verified again whenever it is used. Knows nothing of where it comes from.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::digest::{Digest, Hasher};
use super::error::DownloadError;
use super::files::Files;

/// What a process left that was killed in the middle of a download.
const STALE: Duration = Duration::from_hours(24);

/// The folder:
///
/// - `blobs/HEX`: content by its digest
/// - `files/HEX/…`: the files of a component, put together
/// - `tags/HEX`: what a tag led to when it was last asked
/// - `partial/…`: what is being written
#[derive(Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

/// A file that is being written, and hashed. Removed unless it is kept.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// The file with this content, if it is there and undamaged.
    pub(super) async fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let (path, expected) = (self.blob(digest), digest.clone());
        let looking = move || is_intact(&path, &expected).then_some(path);
        tokio::task::spawn_blocking(looking).await.unwrap_or(None)
    }

    /// The same, read as a whole.
    pub(super) async fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.find(digest).await?;
        let bytes = tokio::fs::read(path).await.ok()?;
        // Between the two, another process may have had its way with the file.
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Begins to write something.
    pub(super) fn begin(&self) -> Result<Partial, DownloadError> {
        let path = self.fresh()?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(file) => Ok(Partial {
                path,
                file,
                hasher: Hasher::default(),
            }),
            Err(source) => Err(failed("create", &path)(source)),
        }
    }

    /// Makes an entry of what was written, if it is what was expected; says what
    /// it is otherwise.
    pub(super) fn keep(
        &self,
        partial: &Partial,
        expected: &Digest,
    ) -> Result<Result<PathBuf, Digest>, DownloadError> {
        let found = partial.digest();
        if found != *expected {
            return Ok(Err(found));
        }
        let blob = self.blob(expected);
        create_folder(blob.parent().unwrap_or(&self.root))?;
        fs::rename(&partial.path, &blob).map_err(failed("write", &blob))?;
        Ok(Ok(blob))
    }

    /// Makes an entry of these bytes.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<PathBuf, DownloadError> {
        let mut partial = self.begin()?;
        partial.write(bytes)?;
        let blob = self.blob(&Digest::of(bytes));
        create_folder(blob.parent().unwrap_or(&self.root))?;
        fs::rename(&partial.path, &blob).map_err(failed("write", &blob))?;
        Ok(blob)
    }

    /// What `tag` led to.
    pub(super) fn tag(&self, tag: &str) -> Option<Digest> {
        fs::read_to_string(self.tag_file(tag)).ok()?.parse().ok()
    }

    /// Remembers what `tag` leads to.
    pub(super) fn set_tag(&self, tag: &str, digest: &Digest) -> Result<(), DownloadError> {
        let mut partial = self.begin()?;
        partial.write(digest.to_string().as_bytes())?;
        let file = self.tag_file(tag);
        create_folder(file.parent().unwrap_or(&self.root))?;
        fs::rename(&partial.path, &file).map_err(failed("write", &file))
    }

    fn tag_file(&self, tag: &str) -> PathBuf {
        let name = Digest::of(tag.as_bytes());
        self.root.join("tags").join(name.hex())
    }

    /// The folder with exactly these files. They are copies: a component that is
    /// allowed to write to them must not change what others read.
    pub(super) fn folder(&self, files: &Files) -> Result<PathBuf, DownloadError> {
        let folder = self.root.join("files").join(files.digest().hex());
        if files.are_in(&folder) {
            return Ok(folder);
        }
        let fresh = self.fresh()?;
        files.write_to(&fresh).map_err(failed("write", &fresh))?;
        create_folder(folder.parent().unwrap_or(&self.root))?;
        if folder.exists() {
            tracing::warn!("{} is damaged: put together anew", folder.display());
            let aside = self.fresh()?;
            // Another process may have been faster, which is as well.
            if fs::rename(&folder, &aside).is_ok() {
                fs::remove_dir_all(&aside).map_err(failed("remove", &aside))?;
            }
        }
        match fs::rename(&fresh, &folder) {
            Ok(()) => Ok(folder),
            Err(_) if files.are_in(&folder) => {
                fs::remove_dir_all(&fresh).map_err(failed("remove", &fresh))?;
                Ok(folder)
            }
            Err(source) => Err(failed("write", &folder)(source)),
        }
    }

    /// A path that nobody else has.
    fn fresh(&self) -> Result<PathBuf, DownloadError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = self.root.join("partial");
        if NUMBER.load(Ordering::Relaxed) == 0 {
            create_folder(&folder)?;
            sweep(&folder);
        }
        create_folder(&folder)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Containers that share the folder may have the same process ids.
        let random = fastrand::u64(..);
        Ok(folder.join(format!("{}-{number}-{random:x}", std::process::id())))
    }
}

impl Partial {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.path))
    }

    /// Of what was written so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.digest()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the file has this content. One that has not will be overwritten.
pub(super) fn is_intact(path: &Path, expected: &Digest) -> bool {
    match digest_of(path) {
        Ok(found) if found == *expected => true,
        Ok(_) => {
            tracing::warn!("{} is damaged: fetched anew", path.display());
            false
        }
        Err(_) => false,
    }
}

pub(super) fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.digest()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// For this user alone: what applications contain is nobody else's business.
fn create_folder(folder: &Path) -> Result<(), DownloadError> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.recursive(true).create(folder);
    made.map_err(failed("create", folder))
}

/// Removes what is older than any download that still goes on.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.map(|written| SystemTime::now().duration_since(written));
        if matches!(age, Ok(Ok(age)) if age > STALE) {
            let path = entry.path();
            let removed = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            if let Err(error) = removed {
                tracing::debug!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DownloadError + 'a {
    move |source| DownloadError::Cache {
        doing,
        path: path.to_owned(),
        source,
    }
}
