//! Phase `early`: loads modules that the root needs from the initramfs. With a root on a server, it loads those for the
//! network, and the others while the network comes up.

use crate::base::node::Node;
use crate::boot::root;
use crate::modules::{self, ModuleIndex, ModuleLoader, SeenDevices, Uevents};
use bootwright_base::Failure;
use bootwright_base::background;
use bootwright_base::gate::Gate;
use bootwright_base::sys::Sys;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel is `{running}`, the image's modules are for `{baked}`: boot the kernel that was built with this image"
)]
struct OtherKernel {
    running: String,
    baked: String,
}

/// Findings for later phases.
pub struct Early {
    /// The devices of the machine, if the phase has looked for them.
    pub seen: Option<SeenDevices>,
    /// Opens when all modules that are loaded beside the network were tried.
    pub ahead: Arc<Gate>,
}

/// Phase `early`. Modules for devices that appear later are loaded until `over` is set, when the initramfs is gone.
///
/// # Errors
/// [`Failure`]
pub fn load_modules(sys: &dyn Sys, node: &Arc<Node>, over: Arc<AtomicBool>) -> Result<Early, Failure> {
    let wanted = &node.config.modules;
    let running = modules::running_release();
    if wanted.release != running {
        return Err(OtherKernel { running, baked: wanted.release.clone() }.into());
    }
    let over_network = node.plan.root_is_served();
    let mut found = Early { seen: None, ahead: Arc::new(Gate::opened()) };
    if wanted.early.is_empty() && !over_network {
        return Ok(found);
    }
    let index = Arc::new(ModuleIndex::load(&modules::folder(&wanted.release))?);
    let mut loader = ModuleLoader::new(sys, &index, &node.cmdline);
    let waits = |name: &&String| over_network && root::MODULES.contains(&name.as_str());
    for name in wanted.early.iter().filter(|name| !waits(name)) {
        loader.load(name)?;
    }
    if over_network {
        let later = Uevents::open()?;
        let devices = SeenDevices::find()?;
        for failed in modules::load_for_devices(&mut loader, &devices) {
            node.timeline.note(&failed);
        }
        drop(loader);
        // Modules in the root serve the same devices and those that appear meanwhile, so phase `devices` need not look
        // again.
        found.seen = Some(SeenDevices { modaliases: devices.modaliases, events: later });
        found.ahead = load_ahead(node, index.clone())?;
        modules::follow(node, index, devices.events, over)?;
    }
    Ok(found)
}

/// Loads in a thread what the root needs beside the network. A module that fails here fails again where it is needed,
/// and is reported there.
fn load_ahead(node: &Arc<Node>, index: Arc<ModuleIndex>) -> io::Result<Arc<Gate>> {
    let gate = Arc::new(Gate::default());
    let (node, ahead) = (node.clone(), gate.clone());
    let work = move || {
        let mut loader = ModuleLoader::new(node.sys, &index, &node.cmdline);
        for (name, options) in node.plan.modules() {
            let _ = loader.load_with(name, options);
        }
        for name in root::modules(&node.config) {
            let _ = loader.load(name);
        }
        ahead.open();
    };
    background::spawn("ahead", Box::new(work))?;
    Ok(gate)
}
