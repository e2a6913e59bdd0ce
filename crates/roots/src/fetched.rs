//! A root image from a web server, and one of container images. It is downloaded into memory, checked, and mounted by a loop device.

use super::context::RootContext;
use super::http::{ExpectedSize, HttpError, Sink, get};
use super::source::{Http, Source};
use super::trust::{self, ImageFacts};
use bootwright_base::sys::{Mount, Sys, SysResult};
use bootwright_base::{Failure, memory};
use bootwright_contract::{Images, RootImage, hex};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mount points of the tmpfs for the image, in the initramfs.
const ROOT: &str = "/bootwright/fetched";
const IMAGES: &str = "/bootwright/fetched-images";
/// The file in it.
const NAME: &str = "image";
/// Memory that must be left beside the image so that the node can come up.
const SPARE_KIB: u64 = 24 << 10;

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("`{url}`: {cause}")]
    Get { url: String, cause: HttpError },
    #[error("`{url}` is damaged: its hash is {found}, expected {expected}; put the image of this build there")]
    Hash { url: String, found: String, expected: String },
    #[error("`{url}` has {need} KiB, and only {free} KiB of memory are free: give the machine more RAM")]
    Memory { url: String, need: u64, free: u64 },
    #[error("cannot mount a tmpfs for `{url}`: {source}")]
    Mount { url: String, source: Errno },
    #[error("cannot make a file for `{url}`: {source}")]
    File { url: String, source: io::Error },
}

/// A downloaded image in its own tmpfs.
pub struct FetchedImage {
    sys: Arc<dyn Sys>,
    folder: &'static str,
    /// The tmpfs can be swapped out, so the image must be pinned when there is swap.
    pub swappable: bool,
}

/// Unmounts the tmpfs lazily: whoever has the image open keeps it.
impl Drop for FetchedImage {
    fn drop(&mut self) {
        // A tmpfs that stays mounted does no harm.
        let _ = self.sys.unmount(Path::new(self.folder), MntFlags::MNT_DETACH);
    }
}

impl FetchedImage {
    pub fn image(&self) -> PathBuf {
        Path::new(self.folder).join(NAME)
    }
}

/// Downloads the root image and checks its hash. Returns its format too.
///
/// # Errors
/// [`FetchError`], or an error of [`trust::facts`].
pub fn fetch(context: &RootContext, source: &Http) -> Result<(FetchedImage, RootImage), Failure> {
    let ImageFacts { size, sha256, image, .. } = trust::facts(context, source)?;
    Ok((download(context, source, ROOT, size, sha256)?, image))
}

/// Downloads the image of container images and checks its hash.
///
/// # Errors
/// [`FetchError`]
pub fn fetch_images(context: &RootContext, source: &Http, images: &Images) -> Result<FetchedImage, Failure> {
    Ok(download(context, source, IMAGES, images.size, images.sha256.clone())?)
}

fn download(
    context: &RootContext,
    source: &Http,
    folder: &'static str,
    size: u64,
    expected: String,
) -> Result<FetchedImage, FetchError> {
    let url = || Source::Http(source.clone()).to_string();
    let free = memory::available_kib();
    let need = size.div_ceil(1024);
    if free < need + SPARE_KIB {
        return Err(FetchError::Memory { url: url(), need, free });
    }
    let fetched = mount_tmpfs(context.sys, folder, size).map_err(|source| FetchError::Mount { url: url(), source })?;
    let file = OpenOptions::new().write(true).create_new(true).open(fetched.image());
    let file = file.map_err(|source| FetchError::File { url: url(), source })?;
    let mut sink = Hashed { file, hasher: Sha256::new() };
    get(context, source, ExpectedSize::Exactly(size), &mut sink)
        .map_err(|cause| FetchError::Get { url: url(), cause })?;
    let found = hex::encode(&sink.hasher.finalize());
    if found != expected {
        return Err(FetchError::Hash { url: url(), found, expected });
    }
    Ok(fetched)
}

/// Mounts a tmpfs that cannot be swapped out where the kernel knows that option (since Linux 6.4): the image is
/// compressed already.
fn mount_tmpfs(sys: &Arc<dyn Sys>, folder: &'static str, size: u64) -> SysResult<FetchedImage> {
    let target = Path::new(folder);
    sys.make_dir(target)?;
    // Folder and file take a page each beside the content.
    let size = ["mode=0700,size=", &(size.div_ceil(4096) * 4096 + 65536).to_string()].concat();
    let mount = |data: &str| {
        sys.mount(Mount { source: Path::new("tmpfs"), target, fstype: "tmpfs", flags: MsFlags::empty(), data })
    };
    let swappable = match mount(&[&size[..], ",noswap"].concat()) {
        Err(Errno::EINVAL) => {
            mount(&size)?;
            true
        }
        mounted => {
            mounted?;
            false
        }
    };
    Ok(FetchedImage { sys: sys.clone(), folder, swappable })
}

/// A file whose content is hashed while it is written.
struct Hashed {
    file: File,
    hasher: Sha256,
}

impl Sink for Hashed {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.hasher = Sha256::new();
        self.file.rewind()?;
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::testing::{in_own_root, mounted_at};

    #[test]
    fn the_image_goes_where_it_fits_and_cannot_be_swapped() {
        in_own_root(|| {
            let sys: Arc<dyn Sys> = Arc::new(RealSys);
            let place = mount_tmpfs(&sys, ROOT, 5000).expect("mounted");
            let line = mounted_at(ROOT).expect("it is mounted");
            assert!(line.contains("size=72k"), "{line}");
            // Kernels before 6.4 know no `noswap`.
            assert!(place.swappable || line.contains("noswap"), "{line}");
            drop(place);
            assert_eq!(mounted_at(ROOT), None);
        });
    }
}
