//! Phase `devices`: modules for what the machine has, swap, and the files that name the machine. Phase `modules`: those that
//! the recipe names, and kernel parameters, of which some are a module's.

use crate::background;
use crate::boot::{Boot, Machine};
use crate::identity;
use crate::modules::{self, Devices, Index, Loader};
use crate::phases::PhaseError;
use crate::{sysctl, zram};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

/// Modules that are being loaded: what went wrong, once all were tried.
pub type Loading = Receiver<Vec<String>>;

/// What did not work; the boot goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Incomplete(Vec<String>);

/// Phase `devices`. Everything is tried; what failed is told together.
pub fn prepare(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let mut failed = load_modules(machine, boot)?;
    failed.extend(identity::write_missing_files().iter().map(|e| e.to_string()));
    told_together(failed)
}

/// Phase `modules`. All parameters are tried.
pub fn finish(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    // Nothing came: the thread has died, which PID1 does not survive.
    let failed = machine.loading.take().and_then(|loading| loading.recv().ok()).unwrap_or_default();
    for error in sysctl::set_all(boot.sys, &boot.config.sysctls) {
        // A kernel without the feature has no knob for it.
        boot.timeline.note(&error.to_string());
    }
    told_together(failed)
}

fn told_together(failed: Vec<String>) -> Result<(), PhaseError> {
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Incomplete(failed).into()),
    }
}

fn load_modules(machine: &Machine, boot: &Arc<Boot>) -> Result<Vec<String>, PhaseError> {
    let wanted = &boot.config.modules;
    if wanted.load.is_empty() && !wanted.coldplug && boot.config.zram.is_none() {
        return Ok(Vec::new());
    }
    let index = Arc::new(Index::load(&modules::folder(&wanted.release))?);
    let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
    let devices = match machine.devices.take() {
        _ if !wanted.coldplug => None,
        None => Some(Devices::find()?),
        early => early,
    };
    let mut failed = Vec::new();
    if let Some(devices) = &devices {
        failed.extend(modules::load_for_devices(&mut loader, devices));
    }
    if let Some(zram) = &boot.config.zram {
        failed.extend(zram::start(boot.sys, &mut loader, zram).err().map(|e| e.to_string()));
    }
    drop(loader);
    if !wanted.load.is_empty() {
        machine.loading.keep(load_named(boot, &index)?);
    }
    let (timeline, known) = (boot.timeline.clone(), index.clone());
    let look = move || timeline.set_unserved(modules::unserved(Path::new("/sys"), &known));
    background::spawn("unserved", Box::new(look))?;
    if let Some(devices) = devices {
        modules::follow(boot, index, devices.events, Arc::default())?;
    }
    Ok(failed)
}

/// Loads the modules that the recipe names, in a thread: only the services need them, and what comes before those waits for
/// servers. Gives what went wrong when it is done.
fn load_named(boot: &Arc<Boot>, index: &Arc<Index>) -> io::Result<Loading> {
    let (done, wait) = mpsc::channel();
    let (boot, index) = (boot.clone(), index.clone());
    let work = move || {
        let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
        let names = boot.config.modules.load.iter();
        let failed: Vec<String> = names.filter_map(|name| loader.load(name).err()).map(|e| e.to_string()).collect();
        // Whoever asked waits, or has given up.
        let _ = done.send(failed);
    };
    background::spawn("modules", Box::new(work))?;
    Ok(wait)
}
