//! Kernel modules: what they need, what asks for them, and loading them.

mod coldplug;
mod index;
mod loader;
mod pattern;
mod uevent;

pub use coldplug::{Devices, follow, hardware, load_for_devices, unserved};
#[cfg(test)]
pub use index::tests;
pub use index::{Index, kernel_name};
pub use loader::{LoadError, Loader};
pub use uevent::Uevents;

use crate::background;
use crate::boot::{Boot, Machine};
use crate::netroot;
use crate::phases::PhaseError;
use crate::root;
use bootwright_contract::paths;
use nix::sys::utsname::uname;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel is `{running}`, the image's modules are for `{baked}`: boot the kernel that was built with this image"
)]
struct OtherKernel {
    running: String,
    baked: String,
}

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

/// Phase `early`: what the root needs, from the initramfs. With a root on a server what the network needs: the rest follows
/// while that comes up.
pub fn load_early(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let modules = &boot.config.modules;
    let running = running_release();
    if modules.release != running {
        return Err(OtherKernel { running, baked: modules.release.clone() }.into());
    }
    if modules.early.is_empty() && !machine.wants_network() {
        return Ok(());
    }
    let index = Arc::new(Index::load(&folder(&modules.release))?);
    let mut loader = Loader::new(machine.sys, &index, &boot.cmdline);
    let waits = |name: &&String| machine.wants_network() && root::MODULES.contains(&name.as_str());
    for name in modules.early.iter().filter(|name| !waits(name)) {
        loader.load(name)?;
    }
    if machine.wants_network() {
        let later = Uevents::open()?;
        let devices = Devices::find()?;
        for failed in load_for_devices(&mut loader, &devices) {
            boot.timeline.note(&failed);
        }
        drop(loader);
        // The root's modules are for the same devices, and for those that come meanwhile: nobody has to walk again.
        machine.devices.keep(Devices { modaliases: devices.modaliases, events: later });
        machine.ahead.keep(load_ahead(boot, index.clone())?);
        follow(boot, index, devices.events, machine.initramfs_over())?;
    }
    Ok(())
}

/// Loads in a thread what the root needs beside the network. What fails fails again where it is needed, and is told there.
fn load_ahead(boot: &Arc<Boot>, index: Arc<Index>) -> io::Result<Ahead> {
    let (done, wait) = mpsc::channel();
    let boot = boot.clone();
    let work = move || {
        let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
        for (name, options) in netroot::modules(&boot.config, &boot.cmdline) {
            let _ = loader.load_with(name, options);
        }
        for name in root::modules(&boot.config) {
            let _ = loader.load(name);
        }
        drop(done);
    };
    background::spawn("ahead", Box::new(work))?;
    Ok(wait)
}

/// Waits for the modules that are loaded while the network comes up.
pub fn await_ahead(machine: &Machine) {
    // Nothing is sent: it ends.
    let _ = machine.ahead.take().map(|ahead| ahead.recv());
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
