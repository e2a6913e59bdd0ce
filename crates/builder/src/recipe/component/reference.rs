//! Names of images: `registry/repository[:tag][@sha256:...]` (distribution-spec, "Pulling manifests").

use crate::entry::Sha256;

/// An image in a registry. The registry is always named: there is no default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `host` or `host:port`.
    pub registry: String,
    pub repository: String,
    /// `latest` when neither a tag nor a digest is given.
    pub tag: Option<String>,
    /// Counts more than the tag.
    pub digest: Option<Sha256>,
}

impl Reference {
    /// What to ask the registry for: the digest, else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
        }
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// Parses an image's name. An error is what is wrong with it.
pub fn parse_reference(image: &str) -> Result<Reference, &'static str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => {
            let hex = digest.strip_prefix("sha256:").ok_or("its digest is not a sha256 one")?;
            (name, Some(Sha256::parse(hex).ok_or("its digest is not 64 hex digits")?))
        }
        None => (image, None),
    };
    let (registry, rest) = name.split_once('/').ok_or("it names no registry")?;
    if !registry.contains(['.', ':']) && registry != "localhost" {
        return Err("it names no registry: the part before the first `/` has no dot and no port");
    }
    if registry.contains(|c: char| !c.is_ascii_alphanumeric() && !".:-[]".contains(c)) {
        return Err("its registry is no host name");
    }
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let part_is_good = |part: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed)
    };
    if !repository.split('/').all(part_is_good) {
        return Err("its repository has characters other than a-z, 0-9, `.`, `_`, `-` and `/`");
    }
    let tag_is_good = |tag: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.chars().all(allowed)
    };
    if tag.is_some_and(|tag| !tag_is_good(tag)) {
        return Err("its tag is malformed");
    }
    Ok(Reference { registry: registry.into(), repository: repository.into(), tag: tag.map(Into::into), digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let hex = "ab".repeat(32);
        for (image, registry, repository, wanted) in [
            ("r.example/a/b:v1", "r.example", "a/b", "v1".to_string()),
            ("localhost/a", "localhost", "a", "latest".into()),
            ("127.0.0.1:5000/a_b/c-d.e", "127.0.0.1:5000", "a_b/c-d.e", "latest".into()),
            (&format!("r.example:1/a:t@sha256:{hex}"), "r.example:1", "a", format!("sha256:{hex}")),
        ] {
            let found = parse_reference(image).unwrap();
            let expected = (registry, repository, wanted);
            assert_eq!((found.registry.as_str(), found.repository.as_str(), found.wanted()), expected, "{image}");
        }
    }

    #[test]
    fn malformed_references() {
        for (image, problem) in [
            ("busybox", "it names no registry"),
            ("library/busybox", "it names no registry: the part before the first `/` has no dot and no port"),
            ("r.example/A", "its repository has characters other than a-z, 0-9, `.`, `_`, `-` and `/`"),
            ("r.example/a/../b", "its repository has characters other than a-z, 0-9, `.`, `_`, `-` and `/`"),
            ("r.example/a:-x", "its tag is malformed"),
            ("r.example/a@md5:00", "its digest is not a sha256 one"),
            ("r.example/a@sha256:00", "its digest is not 64 hex digits"),
            ("u@r.example/a", "its digest is not a sha256 one"),
        ] {
            assert_eq!(parse_reference(image).unwrap_err(), problem, "{image}");
        }
    }
}
