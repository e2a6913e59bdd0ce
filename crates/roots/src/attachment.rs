//! Who keeps the connections of roots and volumes.

use bootwright_base::Failure;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A block device from the network, and who keeps its connection.
pub struct AttachedDevice {
    pub device: PathBuf,
    pub attachment: Box<dyn Attachment>,
}

/// Keeps the connection of a root or a volume: repairs it while it is needed, and ends it in order.
pub trait Attachment: Send {
    /// Ends the connection; all that lies on it is unmounted. A server that is gone must not hold it past `deadline`.
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure>;
    /// What it keeps, for people: `nbd://10.0.0.1/worker as /dev/nbd0`.
    fn describe(&self) -> String;
}

/// All that is attached, in the order in which it was.
#[derive(Default)]
pub struct Attachments(Mutex<Vec<Box<dyn Attachment>>>);

impl Attachments {
    /// Keeps it until the machine goes down.
    pub fn add(&self, attachment: Box<dyn Attachment>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(attachment);
    }

    /// Takes all, the last one first.
    pub fn take(&self) -> Vec<Box<dyn Attachment>> {
        let mut attachments = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        attachments.reverse();
        attachments
    }
}
