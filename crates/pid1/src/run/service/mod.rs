//! Services: they are started in the order of their dependencies, watched until they are ready, restarted with a
//! growing pause, and stopped in reverse order.

mod backoff;
mod cgroup;
mod copy;
mod log;
mod managed;
mod order;
mod probe;
mod process;
mod status;
mod stop;
mod supervisor;

#[cfg(test)]
pub mod tests;

pub use bootwright_base::sys::Millis;
#[cfg(test)]
pub use cgroup::CgroupUsage;
pub use log::{log_path, predecessor, tail};
pub use process::substitute;
pub use status::{AfterStop, ServiceStatus};
pub use supervisor::{CommandError, Supervisor};

use std::path::PathBuf;

/// Folders that services use; tests have their own.
#[derive(Debug, Clone)]
pub struct ServicePaths {
    /// Folder of the cgroup2 tree. `None`: services run in PID1's own cgroup.
    pub cgroups: Option<PathBuf>,
    /// Folder of the log files.
    pub logs: PathBuf,
}

impl ServicePaths {
    /// The folders on a node.
    pub fn node() -> ServicePaths {
        ServicePaths { cgroups: Some("/sys/fs/cgroup".into()), logs: "/var/log".into() }
    }

    /// The cgroup folder of a service.
    pub fn service_cgroup(&self, name: &str) -> Option<PathBuf> {
        Some(self.cgroups.as_ref()?.join("services").join(name))
    }
}
