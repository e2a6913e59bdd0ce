//! Phase `early`: modules that the root needs, from the initramfs. With a root on a server those that the network needs; the
//! others are loaded while that comes up.

use crate::boot::machine::{Boot, Machine};
use crate::boot::root;
use crate::boot::table::PhaseError;
use crate::modules::{self, Ahead, Devices, Index, Loader, Uevents};
use bootwright_base::background;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;

#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel is `{running}`, the image's modules are for `{baked}`: boot the kernel that was built with this image"
)]
struct OtherKernel {
    running: String,
    baked: String,
}

/// Phase `early`.
pub fn load_modules(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let wanted = &boot.config.modules;
    let running = modules::running_release();
    if wanted.release != running {
        return Err(OtherKernel { running, baked: wanted.release.clone() }.into());
    }
    let over_network = machine.wants_network();
    if wanted.early.is_empty() && !over_network {
        return Ok(());
    }
    let index = Arc::new(Index::load(&modules::folder(&wanted.release))?);
    let mut loader = Loader::new(machine.sys, &index, &boot.cmdline);
    let waits = |name: &&String| over_network && root::MODULES.contains(&name.as_str());
    for name in wanted.early.iter().filter(|name| !waits(name)) {
        loader.load(name)?;
    }
    if over_network {
        let later = Uevents::open()?;
        let devices = Devices::find()?;
        for failed in modules::load_for_devices(&mut loader, &devices) {
            boot.timeline.note(&failed);
        }
        drop(loader);
        // The root's modules are for the same devices, and for those that come meanwhile: nobody has to walk again.
        machine.devices.keep(Devices { modaliases: devices.modaliases, events: later });
        machine.ahead.keep(load_ahead(boot, index.clone())?);
        modules::follow(boot, index, devices.events, machine.initramfs_over())?;
    }
    Ok(())
}

/// Loads in a thread what the root needs beside the network. What fails fails again where it is needed, and is told there.
fn load_ahead(boot: &Arc<Boot>, index: Arc<Index>) -> io::Result<Ahead> {
    let (done, wait) = mpsc::channel();
    let boot = boot.clone();
    let work = move || {
        let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
        for (name, options) in bootwright_roots::modules(&boot.config, &boot.cmdline) {
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
