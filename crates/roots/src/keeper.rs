//! Who keeps the connections of roots and volumes.

use bootwright_base::Failure;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A block device from the network, and who keeps its connection.
pub struct Attached {
    pub device: PathBuf,
    pub keeper: Box<dyn Keeper>,
}

/// Keeps the connection of a root or a volume: repairs it while it is needed, and ends it in order.
pub trait Keeper: Send {
    /// Ends the connection; all that lies on it is unmounted. A server that is gone must not hold it past `deadline`.
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure>;
    /// What it keeps, for people: `nbd://10.0.0.1/worker as /dev/nbd0`.
    fn describe(&self) -> String;
}

/// All that is attached, in the order in which it was.
#[derive(Default)]
pub struct Keepers(Mutex<Vec<Box<dyn Keeper>>>);

impl Keepers {
    /// Keeps it until the machine goes down.
    pub fn add(&self, keeper: Box<dyn Keeper>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(keeper);
    }

    /// Takes all, the last one first.
    pub fn take(&self) -> Vec<Box<dyn Keeper>> {
        let mut keepers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        keepers.reverse();
        keepers
    }
}
