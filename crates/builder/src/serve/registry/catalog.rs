//! The layouts that are there, and the names of the images in them.

use crate::entry::Sha256;
use crate::serve::http::{Folder, LAYOUTS_FOLDER as FOLDER};
use crate::serve::text::shown;
use crate::source::SourceError;
use crate::source::oci::manifest::{Document, parse_document, sha256_of};
use oci_spec::distribution::Reference;
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, OciLayout};
use std::collections::BTreeSet;
use std::io::{self, Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A full name, as containerd and docker write it into what they export.
const FULL_NAME: &str = "io.containerd.image.name";
/// Largest `index.json`, bytes, and most layouts.
const MOST_INDEX: u64 = 4 << 20;
const MOST_LAYOUTS: usize = 1024;
/// Characters of a problem that are told.
const MOST_SHOWN: usize = 300;

/// Where a blob lies below `out`.
pub fn blob(layout: &str, digest: Sha256) -> PathBuf {
    Path::new(FOLDER).join(layout).join("blobs/sha256").join(digest.to_string())
}

/// Reads a file for machines, when it has at most `most` bytes.
///
/// # Errors
/// Those of [`Folder::open`] and of reading.
pub fn read_some(folder: &Folder, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    folder.open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(Error::new(ErrorKind::InvalidData, format!("it has more than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

/// The name of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryName {
    /// The registry that it belongs to; `None`: this one, and the repository is the layout's folder.
    registry: Option<String>,
    repository: String,
}

impl RepositoryName {
    /// What a client may mean by a repository's name. containerd says for which registry it asks (`ns=`); others write it before the
    /// name, and docker writes none when it means its own. `None`: the name is malformed.
    pub fn wanted(name: &str, registry: Option<&str>) -> Option<Vec<Self>> {
        // What follows a name in a reference is no part of it.
        if name.contains([':', '@']) {
            return None;
        }
        let Some(registry) = registry else {
            let own = Self { registry: None, repository: name.into() };
            return Some(vec![own, Self::of(&name.parse().ok()?)]);
        };
        // Otherwise it would be taken for the first part of the name.
        let is_host = registry.contains(['.', ':']) && !registry.contains('/') || registry == "localhost";
        let reference = format!("{registry}/{name}").parse().ok().filter(|_| is_host)?;
        Some(vec![Self::of(&reference)])
    }

    fn of(reference: &Reference) -> Self {
        Self { registry: Some(reference.registry().into()), repository: reference.repository().into() }
    }
}

/// An image that a layout names.
#[derive(Debug)]
struct NamedImage {
    name: RepositoryName,
    tag: String,
    digest: Sha256,
}

/// Why a layout, or an image of it, is not served.
#[derive(Debug, thiserror::Error)]
enum LayoutError {
    #[error("cannot read `{file}`: {cause}")]
    Read { file: &'static str, cause: io::Error },
    #[error("it is no OCI layout of version 1.0.0")]
    Version,
    #[error("{cause}")]
    Index { cause: SourceError },
    #[error("`index.json` holds no list of images")]
    NoIndex,
    #[error("its image {digest} has no name (`{ANNOTATION_REF_NAME}`)")]
    NoName { digest: String },
    #[error("its image {digest} has the name `{name}`, which is none with a tag")]
    BadName { digest: String, name: String },
}

/// The layouts as they were when they were read.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By folder.
    layouts: Vec<(String, Vec<NamedImage>)>,
    /// What is not served, a line each.
    pub problems: Vec<String>,
}

impl Catalog {
    /// Reads all layouts. What cannot be read is a problem.
    pub fn load(folder: &Folder) -> Self {
        let mut catalog = Self::default();
        // Without the folder there are none.
        let entries = std::fs::read_dir(folder.path().join(FOLDER)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names: BTreeSet<String> = names.filter(|name| !name.starts_with('.')).take(MOST_LAYOUTS).collect();
        for name in names {
            let mut images = Vec::new();
            let mut problems = Vec::new();
            match load_layout(folder, &name) {
                Ok(found) => found.into_iter().for_each(|image| match image {
                    Ok(image) => images.push(image),
                    Err(problem) => problems.push(problem),
                }),
                Err(problem) => problems.push(problem),
            }
            let line = |problem: LayoutError| format!("`{FOLDER}/{name}` is not served: {problem}");
            catalog.problems.extend(problems.into_iter().map(|problem| shown(&line(problem), MOST_SHOWN).into_owned()));
            catalog.layouts.push((name, images));
        }
        catalog
    }

    /// How many images have a name.
    pub fn count(&self) -> usize {
        self.layouts.iter().map(|(_, images)| images.len()).sum()
    }

    /// The images of the first of the names that is known, with their layouts.
    fn images<'a>(&'a self, names: &'a [RepositoryName]) -> Vec<(&'a str, &'a NamedImage)> {
        let of = |name: &'a RepositoryName| {
            let named = |(folder, images): &'a (String, Vec<NamedImage>)| {
                images.iter().filter(move |image| image.name == *name).map(|image| (folder.as_str(), image))
            };
            self.layouts.iter().flat_map(named).collect::<Vec<_>>()
        };
        names.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The tags of a repository; `None`: there is none of that name.
    pub fn tags(&self, names: &[RepositoryName]) -> Option<BTreeSet<String>> {
        let found = self.images(names);
        (!found.is_empty()).then(|| found.into_iter().map(|(_, image)| image.tag.clone()).collect())
    }

    /// The layouts that hold images of a repository.
    pub fn layouts_with<'a>(&'a self, names: &'a [RepositoryName]) -> Vec<&'a str> {
        let mut found: Vec<&str> = self.images(names).into_iter().map(|(folder, _)| folder).collect();
        found.dedup();
        found
    }

    /// The layout and the digest of an image: of two with one name the first.
    pub fn tagged<'a>(&'a self, names: &'a [RepositoryName], tag: &str) -> Option<(&'a str, Sha256)> {
        let found = self.images(names).into_iter().find(|(_, image)| image.tag == tag);
        found.map(|(folder, image)| (folder, image.digest))
    }
}

/// The images of a layout (image-spec, image-layout.md), each or what is wrong with it.
fn load_layout(folder: &Folder, name: &str) -> Result<Vec<Result<NamedImage, LayoutError>>, LayoutError> {
    let read = |file: &'static str| {
        let path = Path::new(FOLDER).join(name).join(file);
        read_some(folder, &path, MOST_INDEX).map_err(|cause| LayoutError::Read { file, cause })
    };
    let layout = OciLayout::from_reader(read("oci-layout")?.as_slice());
    if !layout.is_ok_and(|layout| layout.image_layout_version() == "1.0.0") {
        return Err(LayoutError::Version);
    }
    let document = parse_document("index.json", &read("index.json")?).map_err(|cause| LayoutError::Index { cause })?;
    let Document::Index(index) = document else { return Err(LayoutError::NoIndex) };
    Ok(index.manifests().iter().map(|descriptor| load_image(name, descriptor)).collect())
}

/// An image by the name that is written beside it: a full one, or a tag, which is one of the layout's folder.
fn load_image(folder: &str, descriptor: &Descriptor) -> Result<NamedImage, LayoutError> {
    let digest = sha256_of("index.json", descriptor).map_err(|cause| LayoutError::Index { cause })?;
    let annotation = |key| descriptor.annotations().as_ref().and_then(|all| all.get(key));
    let written = annotation(FULL_NAME).or_else(|| annotation(ANNOTATION_REF_NAME));
    let written = written.ok_or_else(|| LayoutError::NoName { digest: digest.to_string() })?;
    let bad = || LayoutError::BadName { digest: digest.to_string(), name: written.clone() };
    let is_tag = !written.contains(['/', ':', '@']);
    let full = if is_tag { format!("{folder}:{written}") } else { written.clone() };
    let reference: Reference = full.parse().map_err(|_| bad())?;
    let tag = reference.tag().ok_or_else(bad)?.to_string();
    let name = match is_tag {
        true => RepositoryName { registry: None, repository: folder.into() },
        false => RepositoryName::of(&reference),
    };
    Ok(NamedImage { name, tag, digest })
}
