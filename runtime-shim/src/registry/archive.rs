//! Archives of files, as they come out of a registry. What is taken out is found
//! by its digest: no path, link or mode of an archive means anything here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::cache::Cache;
use super::digest::Digest;
use super::error::DownloadError;

/// Entries of one archive.
const MAX_ENTRIES: usize = 100_000;
const BUFFER: usize = 64 << 10;

/// Takes what is `wanted` out of the archive `digest`, which is in the file `path`,
/// into the cache, and out of `wanted`. Reads at most `limit` bytes, unpacked, and
/// says what is left of them.
pub(super) fn unpack(
    path: &Path,
    digest: &Digest,
    wanted: &mut BTreeSet<Digest>,
    limit: u64,
    cache: &Cache,
) -> Result<u64, DownloadError> {
    let fail = |reason: String| DownloadError::Archive {
        what: digest.clone(),
        reason,
    };
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let unpacked = MultiGzDecoder::new(BufReader::new(file)).take(limit + 1);
    let mut archive = tar::Archive::new(unpacked);
    let outcome = take_out(&mut archive, wanted, cache, &fail);
    let Some(left) = archive.into_inner().limit().checked_sub(1) else {
        return Err(DownloadError::TooLarge {
            what: format!("the archive {digest}, unpacked,"),
            size: limit + 1,
            limit,
        });
    };
    outcome.map(|()| left)
}

fn take_out(
    archive: &mut tar::Archive<impl Read>,
    wanted: &mut BTreeSet<Digest>,
    cache: &Cache,
    fail: &impl Fn(String) -> DownloadError,
) -> Result<(), DownloadError> {
    let entries = archive.entries();
    let entries = entries.map_err(|error| fail(error.to_string()))?;
    let mut buffer = vec![0; BUFFER];
    // Raw: long names would be read into memory, and names do not matter.
    for (index, entry) in entries.raw(true).enumerate() {
        if wanted.is_empty() {
            break;
        }
        if index >= MAX_ENTRIES {
            return Err(fail(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let mut entry = entry.map_err(|error| fail(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut partial = cache.begin()?;
        loop {
            match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => partial.write(&buffer[..length])?,
                Err(error) => return Err(fail(error.to_string())),
            }
        }
        let found = partial.digest();
        if wanted.remove(&found) {
            // Its own digest is what is expected of it.
            let _path = cache.keep(&partial, &found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::new(dir.path().join("cache"));
            Self { dir, cache }
        }

        fn unpack(&self, tar: &[u8], wanted: &mut BTreeSet<Digest>) -> Result<u64, DownloadError> {
            let path = self.dir.path().join("archive");
            let mut gz = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
            gz.write_all(tar).unwrap();
            gz.finish().unwrap();
            unpack(&path, &Digest::of(b"archive"), wanted, 1 << 20, &self.cache)
        }
    }

    fn entry(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        // Written past the checks of the crate, as an attacker would.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    #[tokio::test]
    async fn takes_out_what_is_wanted_by_its_digest_and_nothing_else() {
        let fixture = Fixture::new();
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, "../../escaped", b"wanted");
        entry(&mut tar, "/etc/other", b"not wanted");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "out", "/etc/passwd").unwrap();
        let digest = Digest::of(b"wanted");
        let absent = Digest::of(b"absent");
        let mut wanted = BTreeSet::from([digest.clone(), absent.clone()]);
        fixture
            .unpack(&tar.into_inner().unwrap(), &mut wanted)
            .unwrap();

        assert_eq!(wanted, BTreeSet::from([absent]));
        let bytes = fixture.cache.read(&digest).await;
        assert_eq!(bytes.as_deref(), Some(&b"wanted"[..]));
        let unwanted = Digest::of(b"not wanted");
        assert!(fixture.cache.find(&unwanted).await.is_none());
        let names: BTreeSet<_> = std::fs::read_dir(fixture.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["archive", "cache"].map(String::from).into());
        let partial = fixture.dir.path().join("cache/partial");
        assert_eq!(std::fs::read_dir(partial).unwrap().count(), 0);
    }

    #[test]
    fn refuses_a_bomb_and_rubbish() {
        let fixture = Fixture::new();
        let mut wanted = BTreeSet::from([Digest::of(b"never there")]);
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, "zeros", &vec![0; 2 << 20]);
        let bomb = fixture.unpack(&tar.into_inner().unwrap(), &mut wanted);
        let text = bomb.unwrap_err().to_string();
        assert!(text.contains("unpacked, is too large"), "{text}");

        let rubbish = fixture.unpack(&[0x55; 4096], &mut wanted);
        let text = rubbish.unwrap_err().to_string();
        assert!(text.contains("cannot be unpacked"), "{text}");
    }
}
