//! What a machine has said, for a test to look for a line in.

use bootwright_contract::console::untangle::untangle;
use std::path::Path;

/// A console's log so far, each line whole, though the kernel may have cut it; empty while there is none.
pub fn read(log: &Path) -> String {
    untangle(&String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()))
}
