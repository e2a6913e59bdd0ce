//! Phase `root`: mounts the image below an overlay in memory, or the unpacked files, and copies the files of the config
//! segment over it.

use crate::boot::server_access::ServerAccess;
use crate::boot::verify::{self, ContentCheck};
use bootwright_base::Failure;
use bootwright_base::sys::{LoopDevice, Mount, Sys};
use bootwright_contract::{BootConfig, Root, RootImage, paths};
use bootwright_roots::NodeControl;
use bootwright_roots::nfs::MountUse;
use bootwright_roots::source::{Http, Nfs, Source, SourceError, Wanted};
use bootwright_roots::verity::{self, VerityAttachment};
use bootwright_roots::{self as netroot, AttachedDevice, Attachment};
use copy::CopyError;
pub use copy::copy_tree;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod copy;
mod images;

/// Where the new root is mounted until phase `switch`.
pub const NEW_ROOT: &str = "/bootwright/new";
/// Where the files of the image are mounted.
const LOWER: &str = "/bootwright/lower";
/// The root's device that is proven, as dmsetup(8) shows it.
const DEVICE: &str = "bootwright-root";
/// Where the tmpfs for changes is mounted.
const WRITES: &str = "/bootwright/writes";

/// Modules that are needed only to mount the root, if phase `early` has to load them.
pub const MODULES: [&str; 4] = ["loop", "overlay", "squashfs", "erofs"];

/// Limit for ending a connection that is not needed.
const DETACH_WAIT: Duration = Duration::from_secs(5);

/// Folders that every root has, whatever is in the image.
const FOLDERS: &[&str] = &["dev", "proc", "sys", "run", "tmp", "etc", "root", "var/log", "var/lib"];

#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error("no loop device for `{}`: {source}; are the modules `loop` and the file system's in `early`?", path.display())]
    Loop { path: PathBuf, source: Errno },
    #[error("cannot mount {what} on `{target}`: {source}")]
    Mount { what: &'static str, target: PathBuf, source: Errno },
    #[error("cannot make `{path}`: {source}")]
    Folder { path: PathBuf, source: Errno },
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Those of [`MODULES`] that are in this image.
pub fn modules(config: &BootConfig) -> impl Iterator<Item = &str> {
    config.modules.early.iter().map(String::as_str).filter(|name| MODULES.contains(name))
}

/// Phase `root`: tries the sources in turn until one works; failures of the others are noted. `images` are the checks
/// of images in the initramfs. Returns them and those of the root that was mounted, which run later.
///
/// # Errors
/// Why the last source failed.
pub fn assemble(servers: &ServerAccess, mut images: Vec<ContentCheck>) -> Result<Vec<ContentCheck>, Failure> {
    let (node, sys) = (&servers.node, &*servers.sys);
    // An attempt that was given up may have left mounts.
    undo(sys);
    let mut outcome = Ok(Vec::new());
    for wanted in node.plan.sources.as_ref().map_err(SourceError::clone)? {
        if let Err(error) = &outcome {
            node.timeline.note(&Failure::to_string(error));
        }
        outcome = match wanted {
            Wanted::Source(source) if **source == Source::Ram => mount_ram(servers, &images),
            wanted if netroot::BUILT_IN => mount_wanted(servers, wanted, &images),
            wanted => Err(netroot::refuse(wanted).into()),
        };
        if outcome.is_ok() {
            break;
        }
        undo(sys);
    }
    images.extend(outcome?);
    make_folders(sys)?;
    Ok(images)
}

/// Puts the root together, whatever its source.
struct Assembly<'a> {
    sys: &'a dyn Sys,
    root: &'a Root,
    /// Whether the files of the node segment are copied over the root.
    node: bool,
}

impl<'a> Assembly<'a> {
    fn of(servers: &'a ServerAccess) -> Result<Assembly<'a>, Failure> {
        let node = &servers.node;
        if node.plan.root_is_served() {
            let wanted: Vec<_> = self::modules(&node.config).map(|name| (name, "")).collect();
            servers.load_modules(&wanted)?;
        }
        let laid = node.cmdline.value(verify::NODE_KEY).is_some();
        Ok(Assembly { sys: &*servers.sys, root: &node.config.root, node: laid })
    }

    fn mount_root(&self) -> Result<(), RootError> {
        if self.root.image == RootImage::Cpio {
            make_folder(self.sys, Path::new(NEW_ROOT))?;
            mount(self.sys, "the unpacked root", paths::ROOT_TREE, NEW_ROOT, "", MsFlags::MS_BIND, "")?;
            return Ok(self.lay_files(Path::new(NEW_ROOT))?);
        }
        self.mount_image(Path::new(paths::ROOT_IMAGE), self.root.image)
    }

    /// Mounts an image file by a loop device.
    fn mount_image(&self, file: &Path, kind: RootImage) -> Result<(), RootError> {
        let image = attach_loop(self.sys, file)?;
        // The loop device detaches itself after its last close, so it is held open until it is mounted.
        let mounted = self.mount_device(&image.path, kind);
        drop(image.held);
        mounted
    }

    /// Mounts an image on a block device, below an overlay.
    fn mount_device(&self, device: &Path, kind: RootImage) -> Result<(), RootError> {
        let fstype = if kind == RootImage::Erofs { "erofs" } else { "squashfs" };
        mount_image_device(self.sys, fstype, device, LOWER)?;
        // Less read-ahead is faster: it decompresses blocks that nobody has asked for, and evicts others. A failure
        // only costs time.
        let _ = self.root.read_ahead_kb.map(|kib| self.sys.set_read_ahead(device, kib));
        self.cover_lower()
    }

    /// Copies the files of the config segment, then those of the node segment.
    fn lay_files(&self, over: &Path) -> Result<(), CopyError> {
        copy_tree(self.sys, Path::new(paths::CONFIG_TREE), over)?;
        match self.node {
            true => copy_tree(self.sys, Path::new(paths::NODE_TREE), over),
            false => Ok(()),
        }
    }

    /// Mounts the overlay over what is mounted on [`LOWER`].
    fn cover_lower(&self) -> Result<(), RootError> {
        make_folder(self.sys, Path::new(NEW_ROOT))?;
        make_folder(self.sys, Path::new(WRITES))?;
        let size = format!("mode=0755,size={}", self.root.overlay_size);
        mount(self.sys, "tmpfs", "tmpfs", WRITES, "tmpfs", MsFlags::empty(), &size)?;
        let (upper, work) = (format!("{WRITES}/upper"), format!("{WRITES}/work"));
        make_folder(self.sys, Path::new(&upper))?;
        make_folder(self.sys, Path::new(&work))?;
        // Before the overlay is mounted: writing a file through the overlay would first look up and copy every folder
        // above it.
        self.lay_files(Path::new(&upper))?;
        let layers = format!("lowerdir={LOWER},upperdir={upper},workdir={work}");
        mount(self.sys, "overlay", "overlay", NEW_ROOT, "overlay", MsFlags::empty(), &layers)?;
        // The overlay keeps both mounted. Without their paths no container inherits them.
        for path in [LOWER, WRITES] {
            let target = PathBuf::from(path);
            self.sys.unmount(&target, MntFlags::MNT_DETACH).map_err(|source| RootError::Mount {
                what: "nothing",
                target,
                source,
            })?;
        }
        Ok(())
    }
}

fn mount_wanted(
    servers: &ServerAccess,
    wanted: &Wanted,
    images: &[ContentCheck],
) -> Result<Vec<ContentCheck>, Failure> {
    let context = servers.context();
    let source = netroot::resolve(&context, wanted)?;
    match &source {
        Source::Ram => mount_ram(servers, images),
        Source::Http(http) => mount_fetched(servers, http, &source),
        Source::Nfs(nfs) => mount_nfs(servers, nfs, &source),
        Source::Iscsi(_) | Source::Nbd(_) => {
            mount_attached(servers, netroot::attach(&context, &source, true)?, &source)
        }
    }
}

/// Mounts the root from the initramfs.
fn mount_ram(servers: &ServerAccess, checks: &[ContentCheck]) -> Result<Vec<ContentCheck>, Failure> {
    let config = &servers.node.config;
    let mounted = Assembly::of(servers)?.mount_root().map_err(Failure::from).and_then(|()| images::mount_ram(servers));
    if let Err(error) = mounted {
        undo(&*servers.sys);
        // An image that cannot be mounted is often damaged, and that reason says more.
        verify::check_images(checks)?;
        return Err(error);
    }
    if config.root.image != RootImage::Cpio {
        pin_image(servers, Path::new(paths::ROOT_IMAGE));
    }
    Ok(Vec::new())
}

/// Downloads an image into memory and mounts it. Its hash was checked while it was downloaded.
fn mount_fetched(servers: &ServerAccess, http: &Http, source: &Source) -> Result<Vec<ContentCheck>, Failure> {
    let (fetched, kind) = netroot::fetch(&servers.context(), http)?;
    Assembly::of(servers)?.mount_image(&fetched.image(), kind)?;
    if fetched.swappable {
        pin_image(servers, &fetched.image());
    }
    images::mount_served(servers, source, Path::new(LOWER))?;
    Ok(Vec::new())
}

/// Mounts the files of an NFS export: below an overlay, or with `rw` directly.
fn mount_nfs(servers: &ServerAccess, nfs: &Nfs, source: &Source) -> Result<Vec<ContentCheck>, Failure> {
    let writable = netroot::nfs::asks_for_writing(&nfs.options);
    let (target, used) = if writable { (NEW_ROOT, MountUse::WritableRoot) } else { (LOWER, MountUse::Root) };
    let target = Path::new(target);
    let context = servers.context();
    let attach = netroot::attach_context(&context, &nfs.host, &source.to_string())?;
    servers.ahead.pass();
    let attachment = netroot::nfs::mount(&attach, nfs, target, used)?;
    let assembly = Assembly::of(servers)?;
    let checked = verify::check_tree(servers, target, &source.to_string(), writable);
    let mounted = checked.and_then(|images| {
        images::mount_served(servers, source, target)?;
        match writable {
            true => assembly.lay_files(target)?,
            false => assembly.cover_lower()?,
        }
        Ok(images)
    });
    if mounted.is_ok() {
        servers.node.attachments.add(attachment);
        return mounted;
    }
    undo(&*servers.sys);
    attachment.detach(DETACH_WAIT).and(mounted)
}

/// Mounts the image on an attached block device. The device stays attached when that works, and is detached otherwise.
fn mount_attached(
    servers: &ServerAccess,
    attached: AttachedDevice,
    source: &Source,
) -> Result<Vec<ContentCheck>, Failure> {
    let node = &servers.node;
    let assembly = Assembly::of(servers)?;
    let mut images = Vec::new();
    let mounted = verify::check_device(servers, &attached.device).and_then(|disk| {
        images.extend(disk.check);
        match &disk.verity {
            Some(proof) => {
                let context = servers.context();
                let proven = verity::make(&context, DEVICE, &attached.device, proof, &source.to_string())?;
                assembly.mount_device(&proven, disk.image)?;
            }
            None => assembly.mount_device(&attached.device, disk.image)?,
        }
        images::mount_served(servers, source, Path::new(LOWER))
    });
    let attachment = Box::new(VerityAttachment { name: DEVICE, below: Some(attached.attachment) });
    let Err(error) = mounted else {
        node.attachments.add(attachment);
        return Ok(images);
    };
    undo(&*servers.sys);
    let damaged = verify::check_images(&images);
    // The checks hold the device open.
    drop(images);
    if let Err(error) = attachment.detach(DETACH_WAIT) {
        node.timeline.note(&error.to_string());
    }
    damaged?;
    Err(error)
}

/// Keeps an image in memory where there is swap: the tmpfs could be swapped out, but it is compressed already and would take more
/// memory in zram.
fn pin_image(servers: &ServerAccess, image: &Path) {
    if servers.node.config.zram.is_none() {
        return;
    }
    if let Err(errno) = servers.sys.pin(image) {
        servers.node.timeline.note(&format!("`{}` may be swapped out: {errno}", image.display()));
    }
}

/// Unmounts what a failed attempt has mounted.
fn undo(sys: &dyn Sys) {
    for path in [paths::IMAGES, NEW_ROOT, WRITES, LOWER] {
        // Fails for most of them, which were never mounted.
        let _ = sys.unmount(Path::new(path), MntFlags::MNT_DETACH);
    }
}

fn attach_loop(sys: &dyn Sys, file: &Path) -> Result<LoopDevice, RootError> {
    sys.attach_loop(file).map_err(|source| RootError::Loop { path: file.into(), source })
}

/// Mounts what is on a block device, which nobody writes to.
fn mount_image_device(sys: &dyn Sys, fstype: &'static str, device: &Path, target: &str) -> Result<(), RootError> {
    make_folder(sys, Path::new(target))?;
    mount(sys, fstype, &device.to_string_lossy(), target, fstype, MsFlags::MS_RDONLY, "")
}

fn make_folders(sys: &dyn Sys) -> Result<(), RootError> {
    FOLDERS.iter().try_for_each(|folder| make_folder(sys, &Path::new(NEW_ROOT).join(folder)))
}

fn make_folder(sys: &dyn Sys, path: &Path) -> Result<(), RootError> {
    sys.make_dir(path).map_err(|source| RootError::Folder { path: path.into(), source })
}

fn mount(
    sys: &dyn Sys,
    what: &'static str,
    source: &str,
    target: &str,
    fstype: &str,
    flags: MsFlags,
    data: &str,
) -> Result<(), RootError> {
    let target = Path::new(target);
    sys.mount(Mount { source: Path::new(source), target, fstype, flags, data }).map_err(|source| RootError::Mount {
        what,
        target: target.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::{in_own_root, mounted_at};
    use bootwright_contract::fixture::boot_config;

    #[test]
    fn unpacked_files_are_bound() {
        in_own_root(|| {
            std::fs::create_dir_all("/bootwright/root/etc").unwrap();
            std::fs::write("/bootwright/root/etc/motd", "unpacked").unwrap();
            let root = Root { image: RootImage::Cpio, ..boot_config().root };
            Assembly { sys: &RealSys, root: &root, node: false }.mount_root().unwrap();
            assert_eq!(std::fs::read_to_string(Path::new(NEW_ROOT).join("etc/motd")).unwrap(), "unpacked");
            assert!(mounted_at(NEW_ROOT).is_some(), "it is a mount, which can be moved over the first root");
        });
    }

    #[test]
    fn failures_name_what_and_where() {
        let root = boot_config().root;
        let error = |what| {
            let fake = FakeSys::failing(&[what]);
            Assembly { sys: &fake, root: &root, node: true }.mount_root().unwrap_err().to_string()
        };
        let error_of_overlay = error("mount overlay");
        assert!(error_of_overlay.starts_with("cannot mount overlay on `/bootwright/new`: EPERM"), "{error_of_overlay}");
        let error = error("attach_loop");
        assert!(error.starts_with("no loop device for `/bootwright/root.img`"), "{error}");
    }
}
