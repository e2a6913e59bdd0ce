//! Phase `devices`: modules for the machine's devices, swap, and files that identify the machine. Phase `modules`:
//! modules that the recipe names, and kernel parameters, some of which come with a module.

use crate::base::node::Node;
use crate::boot::memory;
use crate::boot::mounts::mount_what_is_there;
use crate::modules::{self, ModuleIndex, ModuleLoader, SeenDevices};
use bootwright_base::Failure;
use bootwright_base::background;
use bootwright_base::channel::{Receiver, channel};
use bootwright_base::identity;
use bootwright_base::sys::Sys;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod sysctl;
mod zram;

/// Modules that are being loaded. The first message lists failures with the modules for devices and with swap, the
/// second those with the modules that the recipe names.
pub type Loading = Receiver<Vec<String>>;

/// Failures that the boot goes on with.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Incomplete(Vec<String>);

/// Phase `devices`. Everything is tried, and all failures are reported together. With a root on a server the drivers
/// are loaded already, so phase `modules` reports the failures instead, and the server need not be waited for. `seen`:
/// the devices that phase `early` has found.
pub fn prepare(node: &Arc<Node>, seen: Option<SeenDevices>) -> (Option<Loading>, Result<(), Failure>) {
    let wanted = &node.config.modules;
    let mut failed = Vec::new();
    let mut found = None;
    if !wanted.load.is_empty() || wanted.coldplug || node.config.zram.is_some() {
        match load_modules(node, seen) {
            Err(error) => failed.push(error.to_string()),
            Ok(loading) => {
                if !node.plan.root_is_served() {
                    failed = loading.recv().unwrap_or_default();
                }
                found = Some(loading);
            }
        }
    }
    failed.extend(identity::write_files(&node.config).iter().map(|e| e.to_string()));
    (found, told_together(failed))
}

/// Phase `modules`. All kernel parameters are tried.
pub fn finish(sys: &dyn Sys, node: &Node, loading: Option<Loading>) -> Result<(), Failure> {
    let mut failed = loading.map_or(Vec::new(), |loading| loading.iter().flatten().collect());
    failed.extend(memory::tell_kubelet(node));
    mount_what_is_there(sys);
    for error in sysctl::set_all(sys, &node.config.sysctls) {
        // A kernel without the feature has no such parameter, so this is no failure.
        node.timeline.note(&error.to_string());
    }
    told_together(failed)
}

fn told_together(failed: Vec<String>) -> Result<(), Failure> {
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Incomplete(failed).into()),
    }
}

/// Loads modules in a thread, because only services need all of them. The thread goes on when the phase is given up.
/// `early`: the devices that phase `early` has found.
fn load_modules(node: &Arc<Node>, early: Option<SeenDevices>) -> io::Result<Loading> {
    let (done, wait) = channel();
    let node = node.clone();
    let work = move || {
        let index = match ModuleIndex::load(&modules::folder(&node.config.modules.release)) {
            Ok(index) => Arc::new(index),
            Err(error) => return drop(done.send(vec![error.to_string()])),
        };
        // Nobody receives this after the deadline of the phase.
        let _ = done.send(load_for_machine(&node, &index, early));
        let _ = done.send(load_named(&node, &index));
        drop(done);
        node.timeline.set_unserved(modules::unserved(Path::new("/sys"), &index));
    };
    background::spawn("modules", Box::new(work))?;
    Ok(wait)
}

/// Loads modules for the machine's devices, now and later, and starts swap. Returns lines about failures.
fn load_for_machine(node: &Arc<Node>, index: &Arc<ModuleIndex>, early: Option<SeenDevices>) -> Vec<String> {
    let mut failed = Vec::new();
    let mut loader = ModuleLoader::new(node.sys, index, &node.cmdline);
    if node.config.modules.coldplug {
        match early.map_or_else(SeenDevices::find, Ok) {
            Err(error) => failed.push(["no modules for the machine's devices: ", &error.to_string()].concat()),
            Ok(devices) => {
                failed.extend(modules::load_for_devices(&mut loader, &devices));
                let followed = modules::follow(node, index.clone(), devices.events, Arc::default());
                failed
                    .extend(followed.err().map(|error| ["no modules for new devices: ", &error.to_string()].concat()));
            }
        }
    }
    if let Some(zram) = &node.config.zram {
        failed.extend(zram::start(node.sys, &mut loader, zram).err().map(|e| e.to_string()));
    }
    failed
}

/// Loads the modules that the recipe names. Returns lines about failures.
fn load_named(node: &Node, index: &ModuleIndex) -> Vec<String> {
    let mut loader = ModuleLoader::new(node.sys, index, &node.cmdline);
    let names = node.config.modules.load.iter();
    names.filter_map(|name| loader.load(name).err()).map(|e| e.to_string()).collect()
}
