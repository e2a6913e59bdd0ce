//! Kernel modules: their index, the devices that ask for them, and loading them.

mod coldplug;
mod index;
mod loader;

pub use bootwright_base::uevent::Uevents;
pub use coldplug::{SeenDevices, follow, hardware, load_for_devices, unserved};
pub use index::ModuleIndex;
#[cfg(test)]
pub use index::tests;
pub use loader::{LoadError, ModuleLoader};

use crate::base::node::Node;
use bootwright_base::Failure;
use bootwright_base::sys::Sys;
use bootwright_contract::modalias::kernel_name;
use bootwright_contract::paths;
use nix::sys::utsname::uname;
use std::path::{Path, PathBuf};

/// The release of the running kernel.
pub fn running_release() -> String {
    uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder of a release's modules.
pub fn folder(release: &str) -> PathBuf {
    Path::new(paths::MODULES).join(release)
}

/// Loads modules by name, with options that may be empty. For modules that only a root or volume on a server needs.
///
/// # Errors
/// [`Failure`]
pub fn load_named(sys: &dyn Sys, node: &Node, wanted: &[(&str, &str)]) -> Result<(), Failure> {
    if wanted.iter().all(|(name, _)| sys.has_module(&kernel_name(name))) {
        return Ok(());
    }
    let index = ModuleIndex::load(&folder(&node.config.modules.release))?;
    let mut loader = ModuleLoader::new(sys, &index, &node.cmdline);
    for (name, options) in wanted {
        loader.load_with(name, options)?;
    }
    Ok(())
}
