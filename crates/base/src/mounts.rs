//! Reads the tables of mounts and swap devices. A table that cannot be read is an error and never an empty table:
//! whoever believes that nothing is mounted detaches disks under mounted file systems.

use bootwright_contract::mountinfo::{parse_mounts, parse_swaps};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A table cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`: {source}")]
pub struct TableError {
    path: &'static str,
    source: io::Error,
}

/// Paths of all mounts, in the order in which they were made.
pub fn mount_points() -> Result<Vec<PathBuf>, TableError> {
    read("/proc/self/mountinfo").map(|table| parse_mounts(&table).into_iter().map(|mount| mount.point).collect())
}

/// Paths of the active swap devices.
pub fn swaps() -> Result<Vec<PathBuf>, TableError> {
    read("/proc/swaps").map(|table| parse_swaps(&table))
}

fn read(path: &'static str) -> Result<Vec<u8>, TableError> {
    fs::read(path).map_err(|source| TableError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_mounted_and_a_table_that_is_not_there_is_an_error() {
        assert!(mount_points().expect("a table").contains(&PathBuf::from("/")));
        assert!(read("/proc/self/no-such-table").expect_err("no table").to_string().starts_with("cannot read `/proc/"));
    }
}
