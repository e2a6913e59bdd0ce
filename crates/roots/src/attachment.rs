//! Attachments: connections to roots and volumes that are kept alive until they are detached.

use bootwright_base::Failure;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A block device from a server, and its attachment.
pub struct AttachedDevice {
    pub device: PathBuf,
    pub attachment: Box<dyn Attachment>,
}

/// The connection of a root or volume. It is repaired while it is needed, by a thread or by the kernel, and ended by
/// `detach`.
pub trait Attachment: Send {
    /// Ends the connection. Everything on it is unmounted before. Returns after `deadline` even when the server does
    /// not answer.
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure>;
    /// The attachment in words: `nbd://10.0.0.1/worker as /dev/nbd0`.
    fn describe(&self) -> String;
}

/// All attachments, in the order in which they were made.
#[derive(Default)]
pub struct Attachments(Mutex<Vec<Box<dyn Attachment>>>);

impl Attachments {
    /// Keeps an attachment until the machine goes down.
    pub fn add(&self, attachment: Box<dyn Attachment>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(attachment);
    }

    /// Takes all attachments, the last one first.
    pub fn take(&self) -> Vec<Box<dyn Attachment>> {
        let mut attachments = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        attachments.reverse();
        attachments
    }
}
