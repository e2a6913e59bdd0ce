//! An OCI layout directory (image-spec, image-layout.md).

use super::super::SourceError;
use super::manifest::{Document, parse_document};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError, held};
use crate::recipe::Reference;
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, OciLayout};
use sha2::{Digest, Sha256 as Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Layout {
    pub dir: PathBuf,
    /// Of the images in it.
    pub wanted: Option<Wanted>,
}

/// Which of a layout's images is meant.
#[derive(Debug)]
pub enum Wanted {
    /// The one that its index calls so.
    Ref(String),
    /// The one with this name, written out, or with its tag alone; else the only one that there is.
    Image(Reference),
}

/// The annotation with an image's whole name (containerd's core/images/annotations.go).
const IMAGE_NAME: &str = "io.containerd.image.name";

impl Wanted {
    fn is_called(&self, entry: &Descriptor) -> bool {
        let note = |key: &str| entry.annotations().as_ref().and_then(|notes| notes.get(key)).map(String::as_str);
        match self {
            Self::Ref(wanted) => note(ANNOTATION_REF_NAME) == Some(wanted),
            Self::Image(image) => {
                let tag = image.tag.as_deref();
                let name = tag.map(|tag| format!("{}:{tag}", image.name()));
                let called = [note(IMAGE_NAME), note(ANNOTATION_REF_NAME)];
                name.is_some_and(|name| called.contains(&Some(&name))) || tag.is_some() && called[1] == tag
            }
        }
    }

    /// For the lock.
    pub fn tag(&self) -> String {
        match self {
            Self::Ref(wanted) => wanted.clone(),
            Self::Image(image) => image.tag.clone().unwrap_or_default(),
        }
    }
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
        let Some(wanted) = &self.wanted else { return Ok(*index) };
        let kept: Vec<_> = index.manifests().iter().filter(|entry| wanted.is_called(entry)).cloned().collect();
        match (kept.is_empty(), wanted) {
            (false, _) => drop(index.set_manifests(kept)),
            (true, Wanted::Image(_)) if index.manifests().len() == 1 => {}
            (true, Wanted::Image(image)) => {
                let name = format!("{}:{}", image.name(), image.wanted());
                return Err(self.bad(&format!("holds no image called `{name}`")));
            }
            (true, Wanted::Ref(wanted)) => return Err(self.bad(&format!("holds no image called `{wanted}`"))),
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
