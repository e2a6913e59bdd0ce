//! Phase `devices`: modules for what the machine has, swap, kernel parameters, and the files that name the machine.

use crate::background;
use crate::boot::{Boot, Machine};
use crate::identity;
use crate::modules::{self, Index, Loader, Uevents};
use crate::phases::PhaseError;
use crate::{sysctl, zram};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

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
    let index = Arc::new(Index::load(&modules::folder(&wanted.release))?);
    let mut loader = Loader::new(boot.sys, &index, &boot.cmdline);
    // Before the walk: a device that appears meanwhile is told by an event.
    let events = if wanted.coldplug { Some(Uevents::open()?) } else { None };
    let named = load_named_aside(boot, &index)?;
    let mut failed = Vec::new();
    if let Some(events) = &events {
        failed.extend(modules::load_for_devices(&mut loader, events));
    }
    // Nothing came: the thread has died, which PID1 does not survive.
    failed.extend(named.recv().unwrap_or_default());
    if let Some(zram) = &boot.config.zram {
        failed.extend(zram::start(boot.sys, &mut loader, zram).err().map(|e| e.to_string()));
    }
    drop(loader);
    let (timeline, known) = (boot.timeline.clone(), index.clone());
    let look = move || timeline.set_unserved(modules::unserved(Path::new("/sys"), &known));
    background::spawn("unserved", Box::new(look))?;
    if let Some(events) = events {
        modules::follow(boot, index, events, Arc::default())?;
    }
    Ok(failed)
}

/// Loads the modules that the recipe names, in a thread: many of them wait for the kernel more than they work. Gives what
/// went wrong when it is done.
fn load_named_aside(boot: &Arc<Boot>, index: &Arc<Index>) -> io::Result<Receiver<Vec<String>>> {
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
