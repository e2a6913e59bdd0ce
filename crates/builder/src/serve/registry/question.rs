//! What a client asks a registry for, by path and by what stands after `?`.

use super::catalog::RepositoryName;
use super::refusal::Refusal;
use crate::entry::Sha256;
use axum::http::Uri;
use percent_encoding::percent_decode_str;

/// A request.
#[derive(Debug, PartialEq)]
pub enum RegistryRequest {
    /// Whether this is a registry at all.
    Base,
    Tags {
        /// Under which names the repository may be known, the first that is counts.
        names: Vec<RepositoryName>,
        /// As it was asked for.
        name: String,
        page: Page,
    },
    Manifest {
        names: Vec<RepositoryName>,
        reference: ManifestReference,
    },
    Blob {
        names: Vec<RepositoryName>,
        digest: Sha256,
    },
}

#[derive(Debug, PartialEq)]
pub enum ManifestReference {
    Tag(String),
    Digest(Sha256),
}

/// Which part of a list is wanted.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// So many at most.
    pub most: Option<usize>,
    /// Those after this one.
    pub last: Option<String>,
    /// The registry that is stood in for.
    registry: Option<String>,
}

impl Page {
    /// The address of the next page.
    pub fn next(&self, name: &str, count: usize, last: &str) -> String {
        let registry = self.registry.as_ref().map(|registry| format!("&ns={registry}")).unwrap_or_default();
        format!("/v2/{name}/tags/list?n={count}&last={last}{registry}")
    }

    /// `n`, `last` and `ns`; anything else is not ours to judge.
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut page = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| Refusal::BadQuery)?;
            let twice = match key {
                "n" => page.most.replace(value.parse().map_err(|_| Refusal::BadQuery)?).is_some(),
                "last" => page.last.replace(value.into()).is_some(),
                "ns" => page.registry.replace(value.into()).is_some(),
                _ => false,
            };
            if twice {
                return Err(Refusal::BadQuery);
            }
        }
        Ok(page)
    }
}

impl RegistryRequest {
    /// Parses the path below `/v2/`. Names, tags and digests have no character that has to be written with `%`.
    pub fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let path = uri.path().strip_prefix("/v2/").ok_or(Refusal::Unsupported)?;
        if path.is_empty() {
            return Ok(Self::Base);
        }
        // A name may hold any of the words, so the end of the path says which it is.
        let mut parts = path.rsplitn(3, '/');
        let (Some(last), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Refusal::Unsupported);
        };
        let page = Page::parse(uri.query().unwrap_or_default())?;
        let names = || RepositoryName::wanted(name, page.registry.as_deref()).ok_or(Refusal::NameInvalid);
        match (kind, last) {
            ("tags", "list") => Ok(Self::Tags { names: names()?, name: name.into(), page }),
            ("manifests", tag) if !tag.contains(':') => {
                Ok(Self::Manifest { names: names()?, reference: ManifestReference::Tag(tag.into()) })
            }
            ("manifests", digest) => {
                Ok(Self::Manifest { names: names()?, reference: ManifestReference::Digest(parse_digest(digest)?) })
            }
            ("blobs", digest) => Ok(Self::Blob { names: names()?, digest: parse_digest(digest)? }),
            _ => Err(Refusal::Unsupported),
        }
    }
}

/// `sha256:` and 64 hex digits in lower case (image-spec, "Digests").
fn parse_digest(text: &str) -> Result<Sha256, Refusal> {
    let digest = text.strip_prefix("sha256:").and_then(Sha256::parse).ok_or(Refusal::DigestInvalid)?;
    if text.ends_with(&digest.to_string()) { Ok(digest) } else { Err(Refusal::DigestInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryRequest, Refusal> {
        RegistryRequest::parse(&text.parse().unwrap())
    }

    #[test]
    fn the_end_of_a_path_says_what_is_wanted() {
        let digest = "ab".repeat(32);
        let names = |name: &str| RepositoryName::wanted(name, None).unwrap();
        let tag = |name: &str, tag: &str| {
            Ok(RegistryRequest::Manifest { names: names(name), reference: ManifestReference::Tag(tag.into()) })
        };
        assert_eq!(parse("/v2/"), Ok(RegistryRequest::Base));
        assert_eq!(parse("/v2/a/b/manifests/v1"), tag("a/b", "v1"));
        assert_eq!(parse("/v2/a/manifests/b/manifests/list"), tag("a/manifests/b", "list"));
        assert_eq!(parse("/v2/a/tags/manifests/list"), tag("a/tags", "list"));
        let sha256 = Sha256::parse(&digest).unwrap();
        let by_digest = RegistryRequest::Manifest { names: names("a"), reference: ManifestReference::Digest(sha256) };
        assert_eq!(parse(&format!("/v2/a/manifests/sha256:{digest}")), Ok(by_digest));
        let blob = RegistryRequest::Blob { names: names("a"), digest: sha256 };
        assert_eq!(parse(&format!("/v2/a/blobs/sha256:{digest}")), Ok(blob));
        let page = Page { most: Some(2), last: Some("v1".into()), registry: Some("r.example:5000".into()) };
        assert_eq!(page.next("a", 2, "v3"), "/v2/a/tags/list?n=2&last=v3&ns=r.example:5000");
        let names = RepositoryName::wanted("a", Some("r.example:5000")).unwrap();
        let tags = RegistryRequest::Tags { names, name: "a".into(), page };
        assert_eq!(parse("/v2/a/tags/list?ns=r.example%3A5000&n=2&last=v1&more"), Ok(tags));
    }

    #[test]
    fn what_is_malformed() {
        let digest = "ab".repeat(32);
        let long = "a".repeat(256);
        for (path, refusal) in [
            ("/v2/a", Refusal::Unsupported),
            ("/v2/_catalog", Refusal::Unsupported),
            ("/v2/a/b/c", Refusal::Unsupported),
            (&format!("/v2/a/referrers/sha256:{digest}"), Refusal::Unsupported),
            ("/v2/a/blobs/uploads/", Refusal::Unsupported),
            ("/v2/A/manifests/v1", Refusal::NameInvalid),
            ("/v2/../x/manifests/v1", Refusal::NameInvalid),
            ("/v2/a/../b/manifests/v1", Refusal::NameInvalid),
            ("/v2/%2e%2e/manifests/v1", Refusal::NameInvalid),
            ("/v2//manifests/v1", Refusal::NameInvalid),
            ("/v2/a//b/manifests/v1", Refusal::NameInvalid),
            ("/v2/a@b/manifests/v1", Refusal::NameInvalid),
            ("/v2/a:v1/manifests/v1", Refusal::NameInvalid),
            (&format!("/v2/{long}/manifests/v1"), Refusal::NameInvalid),
            ("/v2/a/manifests/v1?ns=not%20a%20host", Refusal::NameInvalid),
            ("/v2/a/manifests/v1?ns=r.example/b", Refusal::NameInvalid),
            ("/v2/a/manifests/v1?ns=", Refusal::NameInvalid),
            ("/v2/a/manifests/v1?ns=r.example&ns=r.example", Refusal::BadQuery),
            ("/v2/a/tags/list?n=-1", Refusal::BadQuery),
            ("/v2/a/tags/list?n=99999999999999999999999", Refusal::BadQuery),
            ("/v2/a/tags/list?last=%ff", Refusal::BadQuery),
            ("/v2/a/blobs/sha256:ab", Refusal::DigestInvalid),
            ("/v2/a/blobs/md5:ab", Refusal::DigestInvalid),
            (&format!("/v2/a/blobs/sha256:{}", digest.to_uppercase()), Refusal::DigestInvalid),
            (&format!("/v2/a/blobs/sha512:{digest}{digest}"), Refusal::DigestInvalid),
            (&format!("/v2/a/manifests/sha256:{digest}0"), Refusal::DigestInvalid),
        ] {
            assert_eq!(parse(path), Err(refusal), "{path}");
        }
    }
}
