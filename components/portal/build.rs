//! Embeds the page: each file of `assets/` and `openapi.json`, as it is and
//! compressed, with its media type and entity tags, in a table that the component
//! includes. Serving then costs nothing, and a new file needs no code.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// A file and the path that it is served at.
struct File {
    source: PathBuf,
    path: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=assets");
    println!("cargo::rerun-if-changed=openapi.json");
    let mut table = String::from("&[\n");
    for (index, file) in files(&root)?.iter().enumerate() {
        write_entry(&mut table, file, &out.join(format!("{index}.gz")))?;
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

/// In order of their paths, so that equal sources give equal bytes.
fn files(root: &Path) -> Result<Vec<File>, Box<dyn Error>> {
    let mut files = vec![File {
        source: root.join("openapi.json"),
        path: "/openapi.json".to_owned(),
    }];
    for entry in fs::read_dir(root.join("assets"))? {
        let source = entry?.path();
        let name = source.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| format!("{} has no plain name", source.display()))?;
        let path = match name {
            "index.html" => "/".to_owned(),
            name => format!("/portal/{name}"),
        };
        files.push(File { source, path });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn write_entry(table: &mut String, file: &File, compressed: &Path) -> Result<(), Box<dyn Error>> {
    let File { source, path } = file;
    let bytes = fs::read(source)?;
    let media_type = media_type(source)?;
    let plain = representation(source, &bytes)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes)?;
    let packed = encoder.finish()?;
    let gzip = if packed.len() < bytes.len() {
        fs::write(compressed, &packed)?;
        format!("Some({})", representation(compressed, &packed)?)
    } else {
        "None".to_owned()
    };
    writeln!(
        table,
        "Asset {{ path: {path:?}, media_type: {media_type:?}, plain: {plain}, gzip: {gzip} }},"
    )?;
    Ok(())
}

/// Each encoding has bytes of its own, and so a tag of its own (RFC 9110, 8.8.3).
fn representation(source: &Path, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
    let source = source
        .to_str()
        .ok_or_else(|| format!("{} is no UTF-8 path", source.display()))?;
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}")?;
    }
    Ok(format!(
        "Representation {{ bytes: include_bytes!({source:?}), etag: \"\\\"{hex}\\\"\" }}"
    ))
}

fn media_type(source: &Path) -> Result<&'static str, String> {
    let extension = source.extension().and_then(|extension| extension.to_str());
    Ok(match extension.unwrap_or_default() {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "ico" => "image/x-icon",
        "jpg" => "image/jpeg",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        _ => return Err(format!("{} has no known media type", source.display())),
    })
}
