//! What TFTP serves: a folder of links to files, which dnsmasq's own user may read.
//!
//! dnsmasq follows links, so there is one for each file that HTTP would serve too, and none to a folder.

use super::ServeError;
use super::http::Folder;
use crate::chain::LOADERS;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often new files are looked for. One that is replaced is found by its name at once.
const RENEWED_AFTER: Duration = Duration::from_secs(5);

/// The folder; it is removed on drop.
#[derive(Debug)]
pub struct TftpRoot {
    dir: TempDir,
    folder: Folder,
    links: BTreeSet<PathBuf>,
    renewed: Instant,
}

impl TftpRoot {
    /// With iPXE from `loaders`, and what is for machines in `folder`.
    pub fn new(folder: Folder, loaders: &Path) -> Result<Self, ServeError> {
        let dir = tempfile::tempdir().map_err(|cause| io("make", &std::env::temp_dir(), cause))?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))
            .map_err(|cause| io("make", dir.path(), cause))?;
        let mut root = Self { dir, folder, links: BTreeSet::new(), renewed: Instant::now() };
        for name in LOADERS {
            let path = loaders.join(name);
            if !path.is_file() {
                return Err(ServeError::NoLoader { path });
            }
            root.link(&path, Path::new(name))?;
        }
        root.fill()?;
        Ok(root)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Follows the folder, now and then.
    pub fn renew(&mut self) -> Result<(), ServeError> {
        if self.renewed.elapsed() < RENEWED_AFTER {
            return Ok(());
        }
        self.renewed = Instant::now();
        self.fill()
    }

    fn fill(&mut self) -> Result<(), ServeError> {
        // While `out` cannot be read, the last ones.
        let Ok(found) = self.folder.list() else { return Ok(()) };
        for gone in self.links.difference(&found) {
            let path = self.path().join(gone);
            std::fs::remove_file(&path).map_err(|cause| io("remove", &path, cause))?;
        }
        for new in found.difference(&self.links) {
            self.link(&self.folder.path().join(new), new)?;
        }
        self.links = found;
        Ok(())
    }

    fn link(&self, from: &Path, name: &Path) -> Result<(), ServeError> {
        let to = self.path().join(name);
        let failed = |cause| io("make", &to, cause);
        if let Some(parent) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
        }
        let from = std::path::absolute(from).map_err(|cause| io("find", from, cause))?;
        symlink(&from, &to).map_err(failed)
    }
}

fn io(action: &'static str, path: &Path, cause: std::io::Error) -> ServeError {
    ServeError::Io { action, path: path.into(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::Shelf;

    #[test]
    fn links_to_what_is_for_machines_and_follow_it() {
        let dir = tempfile::tempdir().unwrap();
        let (out, loaders) = (dir.path().join("out"), dir.path().join("loaders"));
        for folder in [&out.join("worker-nfs/root/var"), &out.join("boot/nodes"), &loaders] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let put = |path: &str| std::fs::write(out.join(path), path).unwrap();
        for path in ["worker-nfs/vmlinuz", "worker-nfs/.build.json", "worker-nfs/root/passwd", "boot/boot.ipxe"] {
            put(path);
        }
        symlink("/run", out.join("worker-nfs/root/var/run")).unwrap();
        symlink("/etc/hostname", out.join("boot/far")).unwrap();
        assert!(matches!(TftpRoot::new(Folder::new(&out, Shelf::Lab), &loaders), Err(ServeError::NoLoader { .. })));
        for name in LOADERS {
            std::fs::write(loaders.join(name), name).unwrap();
        }
        let mut root = TftpRoot::new(Folder::new(&out, Shelf::Lab), &loaders).unwrap();
        let served = |root: &TftpRoot| {
            let entries = walkdir::WalkDir::new(root.path()).sort_by_file_name().into_iter().map(Result::unwrap);
            let links = entries.filter(|entry| entry.path_is_symlink()).map(|entry| {
                assert!(entry.path().is_file(), "no folder is linked to: {}", entry.path().display());
                entry.path().strip_prefix(root.path()).unwrap().display().to_string()
            });
            links.collect::<Vec<String>>().join(" ")
        };
        assert_eq!(served(&root), "boot/boot.ipxe ipxe.efi undionly.kpxe worker-nfs/vmlinuz");
        put("boot/nodes/n1.ipxe");
        std::fs::remove_file(out.join("worker-nfs/vmlinuz")).unwrap();
        root.fill().unwrap();
        assert_eq!(served(&root), "boot/boot.ipxe boot/nodes/n1.ipxe ipxe.efi undionly.kpxe");
    }
}
