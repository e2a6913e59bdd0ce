//! What a recipe allows in an image although it may be secret.

use super::SegmentName;
use serde::{Deserialize, Serialize};

/// Secrets that a recipe allows in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Overlay, component, file, service, ... by name.
    pub place: String,
    /// Recipe file and line.
    pub origin: String,
    /// In the recipe's words.
    pub reason: String,
    /// The part of the image that holds them.
    pub segment: SegmentName,
    /// What was found: `etc/kubernetes/bootstrap.kubeconfig line 12: a token`.
    pub found: Vec<String>,
}

impl std::fmt::Display for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, origin, reason, found, .. } = self;
        write!(f, "secrets are allowed in {place} ({origin}): {reason}")?;
        match found.is_empty() {
            true => f.write_str(" (none was recognised)"),
            false => write!(f, "; found {}", found.join(", ")),
        }
    }
}
