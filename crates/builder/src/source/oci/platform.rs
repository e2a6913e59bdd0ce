//! What an image is for, and which machines it runs on.

use std::fmt;

/// Operating system, architecture and level of the instruction set (image-spec, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Empty for the architecture's plain level.
    variant: String,
}

impl Platform {
    /// In the usual spelling: `linux/x86_64` is `linux/amd64`, and so is `linux/amd64/v1`.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (os, architecture) = (os.to_ascii_lowercase(), architecture.to_ascii_lowercase());
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("i386", _) => ("386", ""),
            (architecture, variant) => (architecture, variant),
        };
        Self { os, architecture: architecture.into(), variant: variant.into() }
    }

    /// Parses `os/architecture[/variant]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        (parts.next().is_none() && !os.is_empty() && !architecture.is_empty())
            .then(|| Self::new(os, architecture, variant))
    }

    pub fn of(platform: &oci_spec::image::Platform) -> Self {
        let variant = platform.variant().as_deref().unwrap_or_default();
        Self::new(&platform.os().to_string(), &platform.architecture().to_string(), variant)
    }

    /// How good what is for this platform is for `wanted`: 0 is best, `None` does not run there. A machine runs what is for
    /// lower levels of its instruction set, never what is for a higher one.
    pub fn rank_for(&self, wanted: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        if self.variant == wanted.variant {
            return Some(0);
        }
        wanted.level()?.checked_sub(self.level()?)
    }

    /// The level in tenths: `v8.1` is 81.
    fn level(&self) -> Option<u32> {
        let plain = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm64" => "v8",
            _ => "",
        };
        let variant = if self.variant.is_empty() { plain } else { &self.variant };
        let (major, minor) = variant.strip_prefix('v')?.split_once('.').unwrap_or((&variant[1..], "0"));
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        (major < 100 && minor < 10).then_some(10 * major + minor)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        for (held, wanted, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64/v1", "linux/amd64", Some(0)),
            ("linux/x86_64", "linux/amd64", Some(0)),
            ("linux/amd64/v2", "linux/amd64", None),
            ("linux/amd64/v2", "linux/amd64/v3", Some(10)),
            ("linux/amd64", "linux/amd64/v3", Some(20)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64/v9", "linux/arm64", None),
            ("linux/arm64", "linux/arm64/v8.2", Some(2)),
            ("linux/arm/v6", "linux/arm", Some(10)),
            ("linux/arm", "linux/arm64", None),
            ("linux/386", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
            ("unknown/unknown", "linux/amd64", None),
            ("linux/ppc64le", "linux/ppc64le", Some(0)),
            ("linux/ppc64le/power9", "linux/ppc64le", None),
            ("linux/mips/hard", "linux/mips/soft", None),
        ] {
            let of = |text: &str| Platform::parse(text).unwrap();
            assert_eq!(of(held).rank_for(&of(wanted)), rank, "{held} for {wanted}");
        }
        for bad in ["linux", "linux/", "/amd64", "linux/amd64/v1/x", ""] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
        assert_eq!(Platform::new("Linux", "aarch64", "v8").to_string(), "linux/arm64");
    }
}
