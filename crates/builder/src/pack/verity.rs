//! The hash tree behind an image file that a server gives out, for the kernel's dm-verity: see [`bootwright_contract::Verity`].
//!
//! Source: Documentation/admin-guide/device-mapper/verity.rst, and `verity_hash_at_level` of drivers/md/dm-verity-target.c.

use super::PackError;
use crate::entry::{Body, Sha256};
use crate::segment::Proven;
use bootwright_contract::Verity;
use sha2::Digest;
use std::io::{BufReader, Read};

/// Of data and of hashes.
const BLOCK: usize = 4096;

/// Reads the image once.
///
/// # Errors
/// [`PackError::Read`]
pub fn prove(path: &str, image: &Body) -> Result<Proven, PackError> {
    let failed = |cause| PackError::Read { path: path.into(), place: image.place(), cause };
    let mut reader = BufReader::with_capacity(1 << 20, image.open().map_err(failed)?);
    let mut whole = sha2::Sha256::new();
    let (mut hashes, mut block) = (Vec::new(), Vec::with_capacity(BLOCK));
    let mut size = 0;
    loop {
        block.clear();
        reader.by_ref().take(BLOCK as u64).read_to_end(&mut block).map_err(failed)?;
        if block.is_empty() {
            break;
        }
        whole.update(&block);
        size += block.len();
        block.resize(BLOCK, 0);
        hashes.push(sha2::Sha256::digest(&block).into());
    }
    let blocks = hashes.len() as u64;
    let mut tail = vec![0; size.next_multiple_of(BLOCK) - size];
    let (root_hash, levels) = hash_levels(hashes);
    levels.iter().rev().for_each(|level| tail.extend(level));
    whole.update(&tail);
    let verity = Verity { blocks, root_hash: Sha256(root_hash).to_string() };
    Ok(Proven { size: (size + tail.len()) as u64, sha256: Sha256(whole.finalize().into()), tail, verity })
}

/// Packs hashes into blocks and hashes these, until one hash is left. Returns it and the levels from the leaves on, each of whole
/// blocks. A single leaf has no level above it.
fn hash_levels(mut hashes: Vec<[u8; 32]>) -> ([u8; 32], Vec<Vec<u8>>) {
    let mut levels = Vec::new();
    while hashes.len() > 1 {
        let mut level = hashes.concat();
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        hashes = level.chunks(BLOCK).map(|block| sha2::Sha256::digest(block).into()).collect();
        levels.push(level);
    }
    (hashes.pop().unwrap_or_default(), levels)
}
