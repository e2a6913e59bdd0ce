//! The files of a folder that machines get: what a boot needs, and nothing that lies elsewhere.
//!
//! Every file is opened by openat2(2) with `RESOLVE_BENEATH` and `RESOLVE_NO_MAGICLINKS` (Linux 5.6): a link that leads out of the
//! folder leads nowhere, whoever made it and whenever. What a link leads to is held against the same list as what was asked for.

use crate::chain::{FOLDER, LOADERS_FOLDER};
use crate::entry::Sha256;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Error, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as Served};
use walkdir::WalkDir;

/// What loaders and PID1 fetch of an image.
const OF_IMAGE: [&str; 9] = [
    "vmlinuz",
    "initrd.img",
    "boot.ipxe",
    "root.img",
    "images.img",
    "root.json",
    "root.json.sig",
    "root.verity.json",
    "root.verity.json.sig",
];
/// What lies in the boot chain's folder for servers on this machine.
const NOT_OF_CHAIN: [&str; 3] = ["chain.json", "dnsmasq.conf", "matchbox"];
/// Folder of OCI layouts (image-spec, image-layout.md).
pub const LAYOUTS_FOLDER: &str = "registry";
/// How often a file is looked for that is being replaced.
const TRIES: u32 = 20;

/// What lies in a folder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shelf {
    /// Images, each in a folder of its own; the boot chain; and loaders and scripts of the user's own.
    Lab,
    /// One image.
    Image,
    /// OCI layouts, each in a folder of its own below [`LAYOUTS_FOLDER`].
    Layouts,
}

impl Shelf {
    /// Whether the file at that path below the folder is one that machines need. Nothing that begins with a dot is.
    fn has(self, path: &Path) -> bool {
        let parts: Option<Vec<&str>> = path.components().map(part).collect();
        let image = |name: &str| OF_IMAGE.contains(&name);
        match (self, parts.as_deref()) {
            (Self::Image, Some([name])) => image(name),
            (Self::Lab, Some([FOLDER, first, ..])) => !NOT_OF_CHAIN.contains(first),
            (Self::Lab, Some([LOADERS_FOLDER, _, ..])) => true,
            (Self::Lab, Some([_, name])) => image(name),
            (Self::Layouts, Some([LAYOUTS_FOLDER, _, "oci-layout" | "index.json"])) => true,
            (Self::Layouts, Some([LAYOUTS_FOLDER, _, "blobs", "sha256", hex])) => Sha256::parse(hex).is_some(),
            _ => false,
        }
    }
}

/// A part of a path that is a plain name.
fn part(component: Component<'_>) -> Option<&str> {
    let Component::Normal(name) = component else { return None };
    name.to_str().filter(|name| !name.starts_with('.') && !name.chars().any(char::is_control))
}

/// A folder with files for machines.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    shelf: Shelf,
}

impl Folder {
    pub fn new(path: &Path, shelf: Shelf) -> Self {
        Self { path: path.into(), shelf }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether files can be opened as they have to be.
    ///
    /// # Errors
    /// `Unsupported` where the kernel has no openat2(2); those of opening the folder.
    pub fn check(&self) -> io::Result<()> {
        let folder = self.folder()?;
        match beneath(&folder, Path::new("."), OFlag::O_PATH, ResolveFlag::empty()) {
            Err(Errno::ENOSYS | Errno::EPERM) => {
                let text = "this kernel, or the sandbox around this program, has no openat2(2)";
                Err(Error::new(ErrorKind::Unsupported, text))
            }
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Opens a file by its path below the folder.
    ///
    /// # Errors
    /// `NotFound` for all that is not there for machines; those of openat2(2).
    pub fn open(&self, path: &Path) -> io::Result<File> {
        if !self.shelf.has(path) {
            return Err(ErrorKind::NotFound.into());
        }
        for _ in 0..TRIES {
            let folder = self.folder()?;
            // A named pipe has nobody wait for its other end.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            let (opened, has_links) = match beneath(&folder, path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
                Err(Errno::ELOOP) => (beneath(&folder, path, flags, ResolveFlag::empty()), true),
                opened => (opened, false),
            };
            let file = match opened {
                // A folder on the way was renamed meanwhile.
                Err(Errno::EAGAIN) => continue,
                Err(Errno::EXDEV) => return Err(Error::new(ErrorKind::NotFound, "a link leads out of the folder")),
                Err(Errno::ELOOP | Errno::ENAMETOOLONG | Errno::ENXIO | Errno::ENOTDIR) => {
                    return Err(ErrorKind::NotFound.into());
                }
                opened => File::from(opened?),
            };
            if !file.metadata()?.is_file() {
                return Err(Error::new(ErrorKind::NotFound, "not a file"));
            }
            // Without links it lies where it was asked for, whatever it is called by now.
            if !has_links {
                return Ok(file);
            }
            let (base, place) = (place(&folder)?, place(&file)?);
            if place.strip_prefix(&base).is_ok_and(|place| self.shelf.has(place)) {
                return Ok(file);
            }
            // A link to what is not for machines; or the folder was replaced between the two calls, and the next try finds the new one.
        }
        Err(Error::new(ErrorKind::NotFound, "a link leads to a file that machines do not need"))
    }

    /// Opened by its path each time: it may be removed and made again.
    fn folder(&self) -> io::Result<OwnedFd> {
        Ok(openat(AT_FDCWD, &self.path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
    }

    /// All files for machines that are there, as paths below the folder.
    ///
    /// # Errors
    /// Those of listing the folder.
    pub fn list(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = PathBuf::from(entry?.file_name());
            found.extend(OF_IMAGE.iter().map(|file| name.join(file)));
        }
        let folders = [FOLDER, LOADERS_FOLDER].map(|folder| WalkDir::new(self.path.join(folder)));
        for entry in folders.into_iter().flatten().filter_map(Result::ok) {
            found.extend(entry.path().strip_prefix(&self.path).map(Path::to_path_buf));
        }
        found.retain(|path| self.open(path).is_ok());
        Ok(found)
    }
}

fn beneath(folder: &OwnedFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(folder, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Where an open file lies now (proc_pid_fd(5)).
fn place(file: &impl AsRawFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// For [`tower_http::services::ServeDir`]: off the thread that all connections share, a disk may take its time.
impl Backend for Folder {
    type File = OpenFile;
    type Metadata = Metadata;
    type OpenFuture = Pin<Box<dyn Future<Output = io::Result<OpenFile>> + Send>>;
    type MetadataFuture = Pin<Box<dyn Future<Output = io::Result<Metadata>> + Send>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let opened = self.on_a_thread(path);
        Box::pin(async move { Ok(OpenFile(tokio::fs::File::from_std(opened.await?))) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let opened = self.on_a_thread(path);
        Box::pin(async move { opened.await?.metadata() })
    }
}

impl Folder {
    fn on_a_thread(&self, path: PathBuf) -> impl Future<Output = io::Result<File>> + Send + use<> {
        let folder = self.clone();
        async move {
            let open = move || Self::open(&folder, path.strip_prefix(".").unwrap_or(&path));
            tokio::task::spawn_blocking(open).await.unwrap_or_else(|_| Err(ErrorKind::Interrupted.into()))
        }
    }
}

/// A file that is being served.
#[derive(Debug)]
pub struct OpenFile(tokio::fs::File);

impl AsyncRead for OpenFile {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}

impl Served for OpenFile {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Metadata>> + Send + 'a>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::mkfifo;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A folder `out/` beside a file that is nobody's business.
    fn lab() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        let out = dir.path().join("out");
        for folder in [
            "worker/root/etc",
            "worker/segments",
            "worker/smoke",
            "worker/servers",
            "loaders",
            "boot/nodes",
            "boot/matchbox/groups",
        ] {
            std::fs::create_dir_all(out.join(folder)).unwrap();
        }
        (dir, out)
    }

    fn put(out: &Path, files: &[&str]) {
        for file in files {
            std::fs::write(out.join(file), *file).unwrap();
        }
    }

    #[test]
    fn only_what_a_boot_needs() {
        let (_dir, out) = lab();
        let good = [
            "boot/boot.ipxe",
            "boot/grubx64.efi",
            "boot/nodes/n1.cpio.gz",
            "loaders/first.ipxe",
            "worker/initrd.img",
            "worker/vmlinuz",
        ];
        let bad = [
            "top",
            "vmlinuz",
            ".lock",
            "boot/.hidden",
            "boot/nodes/.hidden",
            "boot/chain.json",
            "boot/dnsmasq.conf",
            "boot/matchbox/groups/n1.json",
            "worker/.build.json",
            "worker/root/etc/passwd",
            "worker/root.tar",
            "worker/root/vmlinuz",
            "worker/smoke/console.log",
            "worker/segments/base.cpio",
            "worker/servers/exports",
        ];
        put(&out, &good);
        put(&out, &bad);
        let folder = Folder::new(&out, Shelf::Lab);
        for path in good {
            assert!(folder.open(Path::new(path)).is_ok(), "{path}");
        }
        for path in bad.into_iter().chain([
            "",
            ".",
            "worker",
            "boot",
            "boot/nodes",
            "../secret",
            "worker/../worker/vmlinuz",
            "/worker/vmlinuz",
            "nix/vmlinuz",
            "worker/vmlinuz/x",
        ]) {
            assert_eq!(folder.open(Path::new(path)).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
        }
        assert!(folder.list().unwrap().iter().eq(good.map(Path::new)), "{:?}", folder.list());
        let image = Folder::new(&out.join("worker"), Shelf::Image);
        assert!(image.open(Path::new("vmlinuz")).is_ok() && image.open(Path::new("root/vmlinuz")).is_err());
    }

    #[test]
    fn links_lead_nowhere_else() {
        let (dir, out) = lab();
        put(&out, &["worker/vmlinuz", "worker/root/etc/passwd", "worker/.build.json"]);
        let folder = Folder::new(&out, Shelf::Lab);
        let far = std::path::absolute(dir.path().join("secret")).unwrap();
        for (name, to, good) in [
            ("boot/near", Path::new("../worker/vmlinuz"), true),
            ("boot/absolute", &out.join("worker/vmlinuz"), false),
            ("boot/far", &far, false),
            ("boot/up", Path::new("../../secret"), false),
            ("boot/tree", Path::new("../worker/root/etc/passwd"), false),
            ("boot/dot", Path::new("../worker/.build.json"), false),
            ("boot/magic", Path::new("/proc/self/fd/0"), false),
            ("boot/round", Path::new("round"), false),
            ("worker/initrd.img", Path::new("../../secret"), false),
            ("stable", Path::new("worker"), true),
            ("elsewhere", dir.path(), false),
        ] {
            symlink(to, out.join(name)).unwrap();
            let path = if name.contains('/') { PathBuf::from(name) } else { Path::new(name).join("vmlinuz") };
            assert_eq!(folder.open(&path).is_ok(), good, "{name}");
        }
        assert!(folder.open(Path::new("boot/tree/etc/passwd")).is_err());
    }

    #[test]
    fn what_is_no_file_holds_nobody_up() {
        let (_dir, out) = lab();
        mkfifo(&out.join("worker/vmlinuz"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(out.join("worker/initrd.img")).unwrap();
        std::fs::create_dir(out.join("worker/root.img")).unwrap();
        let folder = Folder::new(&out, Shelf::Lab);
        for name in ["vmlinuz", "initrd.img", "root.img"] {
            assert_eq!(folder.open(&Path::new("worker").join(name)).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_exchanged_is_served_throughout() {
        use nix::fcntl::{RenameFlags, renameat2};
        let (_dir, out) = lab();
        let (now, next) = (out.join("worker"), out.join(".worker.new"));
        std::fs::create_dir(&next).unwrap();
        std::fs::write(now.join("vmlinuz"), "old").unwrap();
        std::fs::write(next.join("vmlinuz"), "new").unwrap();
        let folder = Folder::new(&out, Shelf::Lab);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    renameat2(AT_FDCWD, &now, AT_FDCWD, &next, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            });
            let opened: Vec<io::Result<File>> = (0..2000).map(|_| folder.open(Path::new("worker/vmlinuz"))).collect();
            over.store(true, Ordering::Relaxed);
            for file in opened {
                let text = io::read_to_string(file.unwrap()).unwrap();
                assert!(text == "old" || text == "new", "{text}");
            }
        });
        std::fs::remove_dir_all(&out).unwrap();
        assert!(folder.open(Path::new("worker/vmlinuz")).is_err());
        std::fs::create_dir_all(&now).unwrap();
        put(&out, &["worker/vmlinuz"]);
        assert!(folder.open(Path::new("worker/vmlinuz")).is_ok(), "made again");
    }
}
