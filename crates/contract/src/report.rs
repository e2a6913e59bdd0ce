//! What PID1 posts to the address that `[report] url` or `bw.report=` names: JSON, a document a post, each newer than the one before.

use crate::console::TimelineRecord;
use serde::{Deserialize, Serialize};

/// Version of [`BootReport`].
pub const REPORT_VERSION: u32 = 1;

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The firmware's (SMBIOS), lower case.
    pub uuid: Option<String>,
    /// Absent as long as there is none.
    pub network: Option<NetworkReport>,
    pub timeline: TimelineRecord,
}

/// The network as it was set up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NetworkReport {
    pub hostname: String,
    pub interface: Option<String>,
    pub ip: Option<String>,
    pub mac: Option<String>,
}
