//! Mounts the container images that are baked in: an image file of their own, beside the root.

use super::{DETACH_WAIT, attach_loop, mount_image_device, pin_image};
use crate::boot::server_access::ServerAccess;
use bootwright_base::Failure;
use bootwright_contract::{Images, Verity, paths};
use bootwright_roots as netroot;
use bootwright_roots::Attachment;
use bootwright_roots::source::Source;
use bootwright_roots::verity::{self, VerityAttachment};
use std::path::Path;

/// The device that is proven, as dmsetup(8) shows it.
const DEVICE: &str = "bootwright-images";

/// Why the images cannot be mounted from where they are.
#[derive(Debug, thiserror::Error)]
#[error("`{place}` does not have the container images of this build: {cause}; put its `images.img` there")]
struct NotThere {
    place: String,
    cause: Failure,
}

/// Mounts the images of the initramfs.
pub fn mount_ram(servers: &ServerAccess) -> Result<(), Failure> {
    if servers.node.config.images.is_none() {
        return Ok(());
    }
    mount_file(servers, Path::new(paths::IMAGES_FILE), true)
}

/// Mounts the images that belong to a root of that source, or those of the initramfs if it has them. `top`: where the files of an
/// NFS root are mounted.
pub fn mount_served(servers: &ServerAccess, root: &Source, top: &Path) -> Result<(), Failure> {
    let Some(images) = &servers.node.config.images else { return Ok(()) };
    let Some(proof) = &images.verity else { return mount_ram(servers) };
    let source = root.of_images();
    mount_from(servers, &source, (images, proof), top)
        .map_err(|cause| NotThere { place: source.to_string(), cause }.into())
}

fn mount_from(
    servers: &ServerAccess,
    source: &Source,
    (images, proof): (&Images, &Verity),
    top: &Path,
) -> Result<(), Failure> {
    let context = servers.context();
    match source {
        Source::Ram => mount_ram(servers),
        Source::Http(http) => {
            let fetched = netroot::fetch_images(&context, http, images)?;
            mount_file(servers, &fetched.image(), fetched.swappable)
        }
        Source::Nfs(_) => {
            let file = top.join(paths::IMAGES_FILE.trim_start_matches('/'));
            let image = attach_loop(&*servers.sys, &file)?;
            mount_proven(servers, proof, &image.path, None, source)
        }
        Source::Iscsi(_) | Source::Nbd(_) => {
            let attached = netroot::attach(&context, source, true)?;
            mount_proven(servers, proof, &attached.device, Some(attached.attachment), source)
        }
    }
}

/// Mounts a file that is held in memory and was compared as a whole.
fn mount_file(servers: &ServerAccess, file: &Path, swappable: bool) -> Result<(), Failure> {
    let sys = &*servers.sys;
    let image = attach_loop(sys, file)?;
    mount_image_device(sys, "squashfs", &image.path, paths::IMAGES)?;
    if swappable {
        pin_image(servers, file);
    }
    Ok(())
}

/// Mounts a device that is compared with its hashes while it is read. When that fails, what lies `below` it is detached.
fn mount_proven(
    servers: &ServerAccess,
    proof: &Verity,
    device: &Path,
    below: Option<Box<dyn Attachment>>,
    source: &Source,
) -> Result<(), Failure> {
    let made = verity::make(&servers.context(), DEVICE, device, proof, &source.to_string());
    let attachment = Box::new(VerityAttachment { name: DEVICE, below });
    let mounted = made.and_then(|proven| Ok(mount_image_device(&*servers.sys, "squashfs", &proven, paths::IMAGES)?));
    match mounted {
        Ok(()) => servers.node.attachments.add(attachment),
        Err(_) => {
            if let Err(error) = attachment.detach(DETACH_WAIT) {
                servers.node.timeline.note(&error.to_string());
            }
        }
    }
    mounted
}
