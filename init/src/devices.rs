//! Phase `devices`: modules for what the machine has, swap, kernel parameters, and the files that name the machine.

use crate::boot::{Boot, Machine};
use crate::identity;
use crate::modules::{self, Index, Loader, Uevents};
use crate::phases::PhaseError;
use crate::{sysctl, zram};
use std::path::Path;
use std::sync::Arc;

/// What did not work; the boot goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Incomplete(Vec<String>);

/// Phase `devices`. Everything is tried; what failed is told together.
pub fn prepare(machine: &Machine) -> Result<(), PhaseError> {
    let boot = machine.boot()?;
    let mut failed = load_modules(boot)?;
    for error in sysctl::set_all(boot.sys, &boot.config.sysctls) {
        // A kernel without the feature has no knob for it.
        boot.timeline.note(&error.to_string());
    }
    failed.extend(identity::write_missing_files().iter().map(|e| e.to_string()));
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Incomplete(failed).into()),
    }
}

fn load_modules(boot: &Arc<Boot>) -> Result<Vec<String>, PhaseError> {
    let wanted = &boot.config.modules;
    if wanted.load.is_empty() && !wanted.coldplug && boot.config.zram.is_none() {
        return Ok(Vec::new());
    }
    let index = Index::load(&modules::folder(&wanted.release))?;
    let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
    // Before the walk: a device that appears meanwhile is told by an event.
    let events = if wanted.coldplug { Some(Uevents::open()?) } else { None };
    let mut failed = Vec::new();
    if wanted.coldplug {
        failed.extend(modules::load_for_devices(&mut loader));
    }
    failed.extend(wanted.load.iter().filter_map(|name| loader.load(name).err()).map(|e| e.to_string()));
    if let Some(zram) = &boot.config.zram {
        failed.extend(zram::start(boot.sys, &mut loader, zram).err().map(|e| e.to_string()));
    }
    drop(loader);
    boot.timeline.set_unserved(modules::unserved(Path::new("/sys"), &index));
    if let Some(events) = events {
        modules::follow(boot, index, events, Arc::default())?;
    }
    Ok(failed)
}
