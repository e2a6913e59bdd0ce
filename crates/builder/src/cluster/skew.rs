//! Which kubelets may join which API servers (<https://kubernetes.io/releases/version-skew-policy/>).

use crate::emit::SourceRecord;
use std::fmt;

/// Kubelets may be so many minor versions older than the API server.
const OLDER: u32 = 3;

/// `1.37`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads `v1.37.2+k3s1` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split(['.', '+', '-']);
        let mut next = || parts.next()?.parse().ok();
        Some(Self { major: next()?, minor: next()? })
    }
}

/// Two versions that must not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skew {
    #[error("its kubelet {kubelet} is newer than the API server {server}, which Kubernetes forbids")]
    Newer { kubelet: Version, server: Version },
    #[error(
        "its kubelet {kubelet} is more than {OLDER} minor versions older than the API server {server}, which Kubernetes forbids"
    )]
    TooOld { kubelet: Version, server: Version },
}

impl Skew {
    /// # Errors
    /// The pair that is forbidden.
    pub fn check(kubelet: Version, server: Version) -> Result<(), Self> {
        if kubelet > server {
            return Err(Self::Newer { kubelet, server });
        }
        if kubelet.major != server.major || kubelet.minor + OLDER < server.minor {
            return Err(Self::TooOld { kubelet, server });
        }
        Ok(())
    }
}

/// The version of the kubelet that an image was built with, where it was built from Kubernetes' Go module.
pub fn kubelet_version(sources: &[SourceRecord]) -> Option<Version> {
    let kubelet = sources.iter().find(|source| source.component == "kubelet")?;
    let packages = kubelet.packages_within();
    packages.iter().find(|(name, _)| *name == "k8s.io/kubernetes").and_then(|(_, version)| Version::parse(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_allows() {
        let of = |text: &str| Version::parse(text).unwrap();
        for (kubelet, server, good) in [
            ("v1.37.2", "v1.37.0", true),
            ("v1.34.9", "v1.37.0+k3s1", true),
            ("v1.33.0", "v1.37.0", false),
            ("v1.38.0", "v1.37.9", false),
            ("v1.37.2", "v2.0.0", false),
        ] {
            assert_eq!(Skew::check(of(kubelet), of(server)).is_ok(), good, "{kubelet} {server}");
        }
        assert_eq!(Version::parse("none"), None);
    }
}
