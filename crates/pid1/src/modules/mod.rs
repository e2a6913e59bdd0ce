//! Kernel modules: what they need, what asks for them, and loading them.

mod coldplug;
mod index;
mod loader;
mod uevent;

pub use coldplug::{Devices, follow, hardware, load_for_devices, unserved};
pub use index::Index;
#[cfg(test)]
pub use index::tests;
pub use loader::{LoadError, Loader};
pub use uevent::Uevents;

use crate::boot::machine::{Boot, Machine};
use crate::boot::table::PhaseError;
use bootwright_contract::modalias::kernel_name;
use bootwright_contract::paths;
use nix::sys::utsname::uname;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// Release of the running kernel.
pub fn running_release() -> String {
    uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Folder of a release's modules.
pub fn folder(release: &str) -> PathBuf {
    Path::new(paths::MODULES).join(release)
}

/// Modules that are being loaded. Ends when all were tried.
pub type Ahead = Receiver<()>;

/// Waits for the modules that are loaded while the network comes up.
pub fn await_ahead(machine: &Machine) {
    // Nothing is sent: it ends.
    let _ = machine.ahead.take().map(|ahead| ahead.recv());
}

/// What should have been loaded while the network came up; loads what was not.
pub fn load_needed(machine: &Machine, wanted: &[(&str, &str)]) -> Result<(), PhaseError> {
    await_ahead(machine);
    load_named(machine.boot()?, wanted)
}

/// Loads modules by name, each with options (may be empty) that the command line's come after. For what is needed only
/// if the root or a volume turns out to need it.
pub fn load_named(boot: &Boot, wanted: &[(&str, &str)]) -> Result<(), PhaseError> {
    if wanted.iter().all(|(name, _)| boot.sys.has_module(&kernel_name(name))) {
        return Ok(());
    }
    let index = Index::load(&folder(&boot.config.modules.release))?;
    let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
    for (name, options) in wanted {
        loader.load_with(name, options)?;
    }
    Ok(())
}
