//! Where dm-verity's hashes lie behind the data: each level in whole blocks, the top first, as [`crate::pack::prove`] writes them.

use super::Hashes;

/// Hashes of 32 bytes in a block of 4096.
const IN_A_BLOCK: u64 = 128;

/// Blocks of each level above so many blocks of data, from the leaves on.
fn levels(data: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(data), |below| (*below > 1).then(|| below.div_ceil(IN_A_BLOCK))).skip(1)
}

/// How many blocks of a file are data, when the others are their hash tree.
pub(super) fn data_blocks(all: u64) -> Option<u64> {
    let with_tree = |data: u64| data + levels(data).sum::<u64>();
    let (mut low, mut high) = (1, all.checked_add(1)?);
    while low < high {
        let middle = low.midpoint(high);
        if with_tree(middle) < all { low = middle + 1 } else { high = middle }
    }
    (with_tree(low) == all).then_some(low)
}

/// What the block `block` of the tree behind `data` blocks is needed for. `block` lies in the tree.
pub(super) fn hashed_by(data: u64, block: u64) -> Hashes {
    let levels: Vec<(u32, u64)> = (0..).zip(levels(data)).collect();
    let mut start = data;
    for (level, count) in levels.into_iter().rev() {
        if block < start + count {
            let covers = IN_A_BLOCK.pow(level + 1);
            let first_block = (block - start) * covers;
            return Hashes { level, first_block, last_block: (first_block + covers).min(data) - 1 };
        }
        start += count;
    }
    Hashes { level: 0, first_block: 0, last_block: data - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Body, Sha256};
    use crate::pack::prove;

    /// The block that is told holds, at the place of each block that it covers, that block's hash.
    #[test]
    fn each_hash_is_where_it_is_looked_for() {
        for blocks in [2u64, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
            let bytes: Vec<u8> = (0..blocks).flat_map(|at| [(at % 251) as u8; 4096]).collect();
            let proven = prove("x", &Body::from_bytes(bytes.clone())).unwrap();
            let all = [bytes, proven.tail].concat();
            let block_at = |at: u64| &all[at as usize * 4096..(at as usize + 1) * 4096];
            let total = all.len() as u64 / 4096;
            assert_eq!(data_blocks(total), Some(blocks));
            let mut leaves = Vec::new();
            for block in blocks..total {
                let Hashes { level, first_block, last_block } = hashed_by(blocks, block);
                if level == 0 {
                    leaves.extend(first_block..=last_block);
                    for (at, hashed) in (first_block..=last_block).enumerate() {
                        let expected = Sha256::of(block_at(hashed)).0;
                        assert_eq!(block_at(block)[at * 32..][..32], expected, "{blocks}: {block} {hashed}");
                    }
                }
            }
            assert_eq!(leaves, (0..blocks).collect::<Vec<_>>(), "{blocks}: each block is hashed once");
            let top = hashed_by(blocks, blocks);
            assert_eq!((top.first_block, top.last_block), (0, blocks - 1), "{blocks}");
        }
    }

    #[test]
    fn sizes_that_no_file_with_a_tree_has() {
        // One block of data has no level above it; 130 blocks would be 129 of data with two leaves, whose top is missing.
        for (all, data) in
            [(0, None), (1, Some(1)), (2, None), (3, Some(2)), (129, Some(128)), (130, None), (132, Some(129))]
        {
            assert_eq!(data_blocks(all), data, "{all}");
        }
    }
}
