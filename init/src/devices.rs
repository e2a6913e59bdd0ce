//! Phase `devices`: modules for what the machine has, swap, kernel parameters, and the files that name the machine.

use crate::background;
use crate::boot::{Boot, Machine};
use crate::identity;
use crate::modules::{self, Devices, Index, Loader};
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
    let mut failed = load_modules(machine, boot)?;
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

fn load_modules(machine: &Machine, boot: &Arc<Boot>) -> Result<Vec<String>, PhaseError> {
    let wanted = &boot.config.modules;
    if wanted.load.is_empty() && !wanted.coldplug && boot.config.zram.is_none() {
        return Ok(Vec::new());
    }
    let index = Arc::new(Index::load(&modules::folder(&wanted.release))?);
    let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
    let devices = match machine.take_devices() {
        _ if !wanted.coldplug => None,
        None => Some(Devices::find()?),
        early => early,
    };
    let mut failed = Vec::new();
    if let Some(devices) = &devices {
        failed.extend(modules::load_for_devices(&mut loader, devices));
    }
    failed.extend(wanted.load.iter().filter_map(|name| loader.load(name).err()).map(|e| e.to_string()));
    if let Some(zram) = &boot.config.zram {
        failed.extend(zram::start(boot.sys, &mut loader, zram).err().map(|e| e.to_string()));
    }
    drop(loader);
    let (timeline, known) = (boot.timeline.clone(), index.clone());
    let look = move || timeline.set_unserved(modules::unserved(Path::new("/sys"), &known));
    background::spawn("unserved", Box::new(look))?;
    if let Some(devices) = devices {
        modules::follow(boot, index, devices.events, Arc::default())?;
    }
    Ok(failed)
}
