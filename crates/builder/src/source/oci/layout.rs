//! An OCI layout directory (image-spec, image-layout.md).

use super::super::SourceError;
use super::manifest::{Document, parse_document};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError, held};
use oci_spec::image::{ANNOTATION_REF_NAME, ImageIndex, OciLayout};
use sha2::{Digest, Sha256 as Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Layout {
    pub dir: PathBuf,
    /// Name of an image in it.
    pub wanted: Option<String>,
}

impl Layout {
    /// The entries of `index.json`, just those of the wanted name if there is one.
    pub fn index(&self) -> Result<ImageIndex, SourceError> {
        let marker = self.dir.join("oci-layout");
        let version =
            OciLayout::from_reader(read(&marker)?.as_slice()).map(|found| found.image_layout_version().clone());
        if version.as_deref().ok() != Some("1.0.0") {
            return Err(self.bad("is no OCI layout of version 1.0.0"));
        }
        let path = self.dir.join("index.json");
        let Document::Index(mut index) = parse_document(&path.display().to_string(), &read(&path)?)? else {
            return Err(self.bad("has no index of images"));
        };
        if let Some(wanted) = &self.wanted {
            let named = |annotations: &Option<std::collections::HashMap<String, String>>| {
                annotations.as_ref().and_then(|a| a.get(ANNOTATION_REF_NAME)) == Some(wanted)
            };
            let kept: Vec<_> = index.manifests().iter().filter(|d| named(d.annotations())).cloned().collect();
            if kept.is_empty() {
                return Err(self.bad(&format!("holds no image called `{wanted}`")));
            }
            index.set_manifests(kept);
        }
        Ok(*index)
    }

    /// A small blob: manifest or configuration. The caller checks its hash.
    pub fn small_blob(&self, sha256: &Sha256) -> Result<Vec<u8>, SourceError> {
        read(&self.blob(sha256))
    }

    /// Copies a blob into the cache.
    pub fn bring(&self, sha256: Sha256, size: u64, cx: &Context<'_>) -> Result<(), SourceError> {
        let path = self.blob(&sha256);
        if held(&path.display().to_string(), sha256, size, cx)?.is_some() {
            return Ok(());
        }
        let io = |action| {
            let path = path.clone();
            move |cause| SourceError::Io { action, path, cause }
        };
        let mut from = crate::input_file::open_regular(&path).map_err(io("open"))?;
        let mut to = cx.cache.temp_file()?;
        let (mut hasher, mut got, mut buffer) = (Hasher::new(), 0, vec![0; 1 << 16]);
        loop {
            let n = from.read(&mut buffer).map_err(io("read"))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            got += n as u64;
            to.write_all(&buffer[..n]).map_err(io("copy"))?;
        }
        check(&path.display().to_string(), (sha256, size), (Sha256(hasher.finalize().into()), got))?;
        cx.cache.adopt_blob(to, &sha256)?;
        Ok(())
    }

    fn blob(&self, sha256: &Sha256) -> PathBuf {
        self.dir.join("blobs/sha256").join(sha256.to_string())
    }

    fn bad(&self, problem: &str) -> SourceError {
        SourceError::BadInput {
            subject: self.dir.display().to_string(),
            problem: problem.into(),
            help: "name a folder with `oci-layout`, `index.json` and `blobs/`, and an image in it as `folder:name`"
                .into(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    crate::input_file::read_bytes(path).map_err(|cause| SourceError::Io { action: "read", path: path.into(), cause })
}

/// Compares (hash, size in bytes) of a body with what was said of it.
pub fn check(name: &str, expected: (Sha256, u64), got: (Sha256, u64)) -> Result<(), SourceError> {
    if expected.1 != got.1 {
        return Err(SourceError::Fetch(FetchError::WrongSize { name: name.into(), expected: expected.1, got: got.1 }));
    }
    if expected.0 != got.0 {
        return Err(SourceError::Fetch(FetchError::WrongHash { name: name.into(), expected: expected.0, got: got.0 }));
    }
    Ok(())
}
