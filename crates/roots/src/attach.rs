//! Finds out which source a root comes from, and attaches its device.

use super::attach_context::{NetrootError, addresses, attach_context, await_network};
use super::attachment::AttachedDevice;
use super::context::RootContext;
use super::source::{self, Source, Wanted};
use super::{iscsi, nbd, nfs, verity};
use bootwright_base::Failure;
use bootwright_contract::RootMode;
use std::net::SocketAddr;

/// The error of a PID1 without network roots that is told to use one.
pub fn refuse(wanted: &Wanted) -> NetrootError {
    let what = match wanted {
        Wanted::Source(source) => source.to_string(),
        Wanted::RootPath => "DHCP's root path".into(),
        Wanted::Unread(text) => text.clone(),
    };
    NetrootError::NotBuiltIn { what }
}

/// The source, once the network is up and DHCP's root path is known.
///
/// # Errors
/// [`NetrootError`], or why DHCP's root path is no source.
pub fn resolve(context: &RootContext, wanted: &Wanted) -> Result<Source, Failure> {
    match wanted {
        Wanted::Source(source) => Ok(Source::clone(source)),
        Wanted::RootPath => {
            let facts = await_network(context, "DHCP's root path")?;
            let path = facts.root_path.ok_or_else(|| no_root_path(context));
            Ok(source::parse_root_path(&path?)?)
        }
        Wanted::Unread(_) => Err(refuse(wanted).into()),
    }
}

fn no_root_path(context: &RootContext) -> NetrootError {
    match context.config.root.mode {
        RootMode::Ram => NetrootError::NoRootPath,
        mode => NetrootError::Nowhere { mode: mode.word() },
    }
}

/// Name and options of a module. The options may be empty.
pub type ModuleOptions = (&'static str, &'static str);

/// What has to be loaded before the source can be reached.
pub fn modules(source: &Source) -> Vec<ModuleOptions> {
    match source {
        Source::Nbd(_) => [nbd::MODULES, &[verity::MODULE]].concat(),
        Source::Iscsi(_) => [iscsi::MODULES, &[verity::MODULE]].concat(),
        Source::Nfs(nfs) => nfs::modules(nfs),
        Source::Ram | Source::Http(_) => Vec::new(),
    }
}

/// Attaches a source that is a block device. `read_only`: the device holds a root image.
///
/// # Errors
/// Why the server cannot be reached or gives no device.
pub fn attach(context: &RootContext, source: &Source, read_only: bool) -> Result<AttachedDevice, Failure> {
    match source {
        Source::Nbd(nbd) => {
            let attach = attach_context(context, &nbd.host, &source.to_string())?;
            context.node.load_modules(nbd::MODULES)?;
            nbd::attach(nbd, attach, read_only)
        }
        Source::Iscsi(iscsi) => attach_iscsi(context, iscsi),
        Source::Ram | Source::Http(_) | Source::Nfs(_) => {
            Err(NetrootError::NoDevice { root: source.to_string() }.into())
        }
    }
}

/// Attaches a disk of an iSCSI target.
fn attach_iscsi(context: &RootContext, asked: &source::Iscsi) -> Result<AttachedDevice, Failure> {
    let disk = iscsi::complete(context, asked)?;
    let attach = attach_context(context, &disk.host, &Source::Iscsi(asked.clone()).to_string())?;
    context.node.load_modules(iscsi::MODULES)?;
    let mut portals: Vec<SocketAddr> = attach.addresses.iter().map(|ip| SocketAddr::new(*ip, disk.port)).collect();
    for (host, port) in &disk.portals {
        match addresses(context, host, &host.to_string()) {
            Ok(found) => portals.extend(found.into_iter().map(|ip| SocketAddr::new(ip, *port))),
            // Other portals may work.
            Err(error) => attach.status.note(&error.to_string()),
        }
    }
    iscsi::attach(&attach, &disk, &portals)
}

#[cfg(test)]
mod tests {
    use super::super::source::Host;
    use super::*;

    #[test]
    fn without_network_roots_it_says_how_to_build_an_image_with_them() {
        for (wanted, what) in [
            (Source::Nbd(source::Nbd { host: Host::BootServer, port: 10809, export: "x".into() }).into(), "nbd:///x"),
            (Wanted::RootPath, "DHCP's root path"),
        ] {
            let text = refuse(&wanted).to_string();
            assert!(
                text.contains(&["cannot reach `", what, "`: build the image with `--root http`"].concat()),
                "{text}"
            );
        }
    }
}
