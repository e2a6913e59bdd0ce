//! Phase `state`: mounts the folders of `[state]`, which are in memory or on volumes that outlive the boot, and gives containerd the
//! container images that are baked in, wherever its root is by then.
//!
//! A volume is attached and mounted once below [`PLACES`]. Each entry shows a folder of it at its own path, by a bind
//! mount or as the upper layer of an overlay. In the end the mounts below [`PLACES`] are removed: the entries keep the
//! file systems, and a shutdown has less to unmount.

mod format;
mod seed;

use crate::boot::server_access::ServerAccess;
use crate::run::service::substitute;
use bootwright_base::Failure;
use bootwright_base::identity;
use bootwright_base::mounts::{TableError, mount_points};
use bootwright_base::sys::{Mount, Sys, errno};
use bootwright_contract::{StateFolder, StatePlace};
use bootwright_roots::source::{Source, parse_source};
use bootwright_roots::{self as netroot, NodeControl, nfs};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where volumes are mounted during this phase.
const PLACES: &str = "/run/bootwright/state";
/// Limit for ending a connection that is not needed.
const DETACH_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error("`{path}`: cannot mount {what} on `{}`: {source}", target.display())]
    Mount { path: String, what: String, target: PathBuf, source: Errno },
    #[error("`{path}`: cannot make `{}`: {source}", folder.display())]
    Folder { path: String, folder: PathBuf, source: Errno },
    #[error("`{path}`: {reason}")]
    Volume { path: String, reason: String },
}

/// Phase `state`. Mounts of an earlier attempt are kept.
///
/// # Errors
/// [`StateError`] of the first entry that fails, or why containerd's root cannot be filled.
pub fn prepare_state(servers: &ServerAccess) -> Result<(), Failure> {
    let node = &servers.node;
    if !node.config.state.is_empty() {
        mount_all(servers)?;
    }
    if let Some(images) = &node.config.images
        && seed::fill(&*servers.sys, images)?
    {
        node.timeline.note("containerd's root held other container images: it was emptied");
    }
    Ok(())
}

fn mount_all(servers: &ServerAccess) -> Result<(), Failure> {
    let (node, sys) = (&servers.node, &*servers.sys);
    let entries = &node.config.state;
    for (number, entry) in entries.iter().enumerate() {
        if is_mounted(Path::new(&entry.path))? {
            continue;
        }
        let place = match &entry.place {
            StatePlace::Tmpfs { size, mode } => mount_tmpfs(sys, entry, number, size, mode)?,
            StatePlace::Volume { source, .. } if !netroot::BUILT_IN => {
                Err(netroot::NetrootError::NotBuiltIn { what: source.clone() })?
            }
            StatePlace::Volume { source, folder, .. } => {
                let place = mount_volume(servers, entry, source)?;
                folder.as_ref().map_or(place.clone(), |folder| place.join(folder))
            }
            StatePlace::Folder { source, mode } => folder_elsewhere(sys, entry, source, *mode)?,
        };
        show(sys, entry, &place)?;
    }
    for number in 0..entries.len() {
        // Fails for most numbers, which were never mounted.
        let _ = sys.unmount(&place_of(number), MntFlags::MNT_DETACH);
    }
    if entries.iter().any(|entry| entry.path == "/etc") {
        write_etc_again(servers);
    }
    Ok(())
}

fn place_of(number: usize) -> PathBuf {
    Path::new(PLACES).join(number.to_string())
}

fn is_mounted(path: &Path) -> Result<bool, TableError> {
    Ok(mount_points()?.iter().any(|mounted| mounted == path))
}

fn mount_tmpfs(
    sys: &dyn Sys,
    entry: &StateFolder,
    number: usize,
    size: &str,
    mode: &str,
) -> Result<PathBuf, StateError> {
    let place = place_of(number);
    make_folder(sys, entry, &place)?;
    let data = ["size=", size, ",mode=", mode].concat();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(sys, entry, Mount { source: Path::new("tmpfs"), target: &place, fstype: "tmpfs", flags, data: &data })?;
    Ok(place)
}

/// Makes the folder that the entry shows.
fn folder_elsewhere(sys: &dyn Sys, entry: &StateFolder, source: &str, mode: u32) -> Result<PathBuf, StateError> {
    let place = PathBuf::from(source);
    make_folder(sys, entry, &place)?;
    match set_permissions(&place, Permissions::from_mode(mode)) {
        Ok(()) => Ok(place),
        Err(error) => Err(StateError::Folder { path: entry.path.clone(), folder: place, source: errno(error) }),
    }
}

/// Mounts the entry at its path.
fn show(sys: &dyn Sys, entry: &StateFolder, place: &Path) -> Result<(), StateError> {
    let target = Path::new(&entry.path);
    make_folder(sys, entry, target)?;
    if !entry.overlay {
        make_folder(sys, entry, place)?;
        return mount(sys, entry, Mount { source: place, target, fstype: "", flags: MsFlags::MS_BIND, data: "" });
    }
    let (upper, work) = (place.join("upper"), place.join("work"));
    make_folder(sys, entry, &upper)?;
    make_folder(sys, entry, &work)?;
    let (upper, work) = (upper.to_string_lossy(), work.to_string_lossy());
    let data = ["lowerdir=", &entry.path, ",upperdir=", &upper, ",workdir=", &work].concat();
    mount(
        sys,
        entry,
        Mount { source: Path::new("overlay"), target, fstype: "overlay", flags: MsFlags::empty(), data: &data },
    )
}

fn make_folder(sys: &dyn Sys, entry: &StateFolder, folder: &Path) -> Result<(), StateError> {
    sys.make_dir(folder).map_err(|source| {
        let (path, folder) = (entry.path.clone(), folder.to_path_buf());
        StateError::Folder { path, folder, source }
    })
}

fn mount(sys: &dyn Sys, entry: &StateFolder, mount: Mount) -> Result<(), StateError> {
    sys.mount(mount).map_err(|source| {
        let what = [&mount.source.to_string_lossy(), " ", mount.data].concat();
        StateError::Mount { path: entry.path.clone(), what, target: mount.target.into(), source }
    })
}

/// Attaches and mounts the volume, unless an earlier entry did. Returns where it is mounted.
fn mount_volume(servers: &ServerAccess, entry: &StateFolder, source: &str) -> Result<PathBuf, Failure> {
    let (node, context) = (&servers.node, servers.context());
    let same = |other: &StateFolder| matches!(&other.place, StatePlace::Volume { source: s, .. } if s == source);
    let number = node.config.state.iter().position(same).unwrap_or_default();
    let place = place_of(number);
    if is_mounted(&place)? {
        return Ok(place);
    }
    make_folder(&*servers.sys, entry, &place)?;
    let facts = netroot::await_network(&context, source)?;
    let text = substitute(source, &facts).map_err(|error| volume_error(entry, &error))?;
    let volume = parse_source(&text)?;
    let attached = match &volume {
        Source::Nfs(nfs) => {
            let attach = netroot::attach_context(&context, &nfs.host, &volume.to_string())?;
            let attachment =
                nfs::mount(&attach, nfs, &place, nfs::MountUse::Volume).map_err(|error| volume_error(entry, &error))?;
            node.attachments.add(attachment);
            return Ok(place);
        }
        _ => netroot::attach(&context, &volume, false).map_err(|error| volume_error(entry, &error))?,
    };
    match prepare(servers, entry, &attached.device, &place) {
        Ok(()) => {
            node.attachments.add(attached.attachment);
            Ok(place)
        }
        Err(error) => {
            if let Err(error) = attached.attachment.detach(DETACH_WAIT) {
                node.timeline.note(&error.to_string());
            }
            Err(error)
        }
    }
}

/// Makes a file system if the volume is empty and the recipe says so, and mounts the volume.
fn prepare(servers: &ServerAccess, entry: &StateFolder, device: &Path, place: &Path) -> Result<(), Failure> {
    let StatePlace::Volume { format, .. } = &entry.place else { return Ok(()) };
    let fstype = format::ensure(&*servers.sys, &servers.node.timeline, device, format.as_deref())
        .map_err(|error| volume_error(entry, &error))?;
    servers.load_modules(&[(fstype, "")])?;
    mount(&*servers.sys, entry, Mount { source: device, target: place, fstype, flags: MsFlags::empty(), data: "" })?;
    Ok(())
}

fn volume_error(entry: &StateFolder, error: &dyn std::fmt::Display) -> StateError {
    StateError::Volume { path: entry.path.clone(), reason: error.to_string() }
}

/// Writes files of `/etc` again: a volume on `/etc` hides what this boot wrote before, and has those of an earlier
/// boot.
fn write_etc_again(servers: &ServerAccess) {
    if let Some(network) = &servers.network {
        network.write_files_again(&servers.node);
    }
    for error in identity::write_files(&servers.node.config) {
        servers.node.timeline.note(&error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::{in_own_root, mounted_at};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn entry(path: &str, overlay: bool) -> StateFolder {
        StateFolder { path: path.into(), overlay, place: StatePlace::Tmpfs { size: "1M".into(), mode: "0711".into() } }
    }

    #[test]
    fn a_tmpfs_shows_at_its_path_with_its_size_and_mode() {
        in_own_root(|| {
            let entry = entry("/var/lib/x", false);
            let place = mount_tmpfs(&RealSys, &entry, 3, "1M", "0711").unwrap();
            show(&RealSys, &entry, &place).unwrap();
            let line = mounted_at("/var/lib/x").expect("it is mounted");
            assert!(line.contains("nosuid,nodev") && line.contains("size=1024k"), "{line}");
            assert_eq!(fs::metadata("/var/lib/x").unwrap().mode() & 0o7777, 0o711);
            // As in the end of the phase: the place goes, and what it holds stays.
            RealSys.unmount(&place, MntFlags::MNT_DETACH).unwrap();
            fs::write("/var/lib/x/kept", vec![0; 500_000]).unwrap();
            let error = fs::write("/var/lib/x/too-much", vec![0; 700_000]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        });
    }

    #[test]
    fn a_folder_elsewhere_shares_its_file_system_and_has_its_mode() {
        in_own_root(|| {
            let source = Path::new("/run/elsewhere/logs");
            let folder = entry("/var/log/x", false);
            let place = folder_elsewhere(&RealSys, &folder, "/run/elsewhere/logs", 0o750).unwrap();
            show(&RealSys, &folder, &place).unwrap();
            fs::write("/var/log/x/said", "here").unwrap();
            assert_eq!(fs::read_to_string(source.join("said")).unwrap(), "here");
            assert_eq!(fs::metadata("/var/log/x").unwrap().mode() & 0o7777, 0o750);
            assert!(mounted_at("/var/log/x").is_some());
        });
    }

    #[test]
    fn an_overlay_keeps_what_the_root_has_and_writes_to_its_place() {
        in_own_root(|| {
            let place = Path::new("/run/place");
            fs::create_dir_all("/etc").unwrap();
            fs::write("/etc/old", "the root's").unwrap();
            show(&RealSys, &entry("/etc", true), place).unwrap();
            assert_eq!(fs::read_to_string("/etc/old").unwrap(), "the root's");
            fs::write("/etc/new", "written").unwrap();
            assert_eq!(fs::read_to_string(place.join("upper/new")).unwrap(), "written");
        });
    }

    #[test]
    fn failures_name_the_entry() {
        let error =
            show(&FakeSys::failing(&["mount"]), &entry("/var/x", false), Path::new("/p")).unwrap_err().to_string();
        assert_eq!(error, "`/var/x`: cannot mount /p  on `/var/x`: EPERM: Operation not permitted");
        let error = show(&FakeSys::failing(&["make_dir"]), &entry("/var/x", false), Path::new("/p")).unwrap_err();
        assert!(error.to_string().starts_with("`/var/x`: cannot make `/var/x`: EPERM"), "{error}");
    }
}
