//! The lock file: what every component was pinned to, beside the recipe as `<name>.lock` (TOML).

use crate::recipe::SourceSpec;
use crate::source::Pin;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Layout of this file; 1.
    pub version: u32,
    /// Seconds since 1970 of the last renewal: the clock floor of images built from it.
    pub time: u64,
    /// Sorted by name.
    #[serde(default, rename = "component")]
    pub components: Vec<LockedComponent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedComponent {
    pub name: String,
    /// The spec that the pins were made for: a difference to the recipe's names the key that changed.
    pub spec: SourceSpec,
    #[serde(rename = "pin")]
    pub pins: Vec<Pin>,
}
