//! What is mounted, and what is swapped to. A table that cannot be read is an error, never an empty one: who believes that
//! nothing is mounted pulls disks away from under file systems.

use bootwright_contract::mountinfo::{parse_mount_points, parse_swaps};
use std::fs;
use std::io;
use std::path::PathBuf;

/// The tables cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`: {source}")]
pub struct TableError {
    path: &'static str,
    source: io::Error,
}

/// Paths of all mounts, in the order in which they were made.
pub fn mount_points() -> Result<Vec<PathBuf>, TableError> {
    read("/proc/self/mountinfo").map(|table| parse_mount_points(&table))
}

/// Devices that memory is swapped to.
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
