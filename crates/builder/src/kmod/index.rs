//! The binary indexes that libkmod looks names up in: it opens nothing else, whatever the texts beside them say.
//!
//! Layout of kmod 34 (tools/depmod.c `index_write`), big-endian: the head (magic, version, root), then each node before its
//! children, which come in order. Older kmods wrote children first; every reader follows references, so all read both
//! (libkmod/libkmod-index.c).
//!
//! | part of a node | where its reference says so |
//! |---|---|
//! | what follows in every key below, a zero | [`PREFIX`] |
//! | first and last byte that leads on, a reference for each from first to last (0: none) | [`CHILDREN`] |
//! | number of values, then for each its priority and its text, a zero | [`VALUES`] |

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
/// 2.1.
const VERSION: u32 = 0x0002_0001;
/// Flags of a reference, beside the node's offset in the file.
const PREFIX: u32 = 1 << 31;
const VALUES: u32 = 1 << 30;
const CHILDREN: u32 = 1 << 29;

/// Keys with their values, a tree of what keys have in common at their beginning.
#[derive(Debug, Default)]
pub struct Index {
    root: Node,
}

/// A place in keys: the byte that leads to a node is not in its prefix.
#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    /// By priority, the lowest first.
    values: Vec<(u32, String)>,
}

impl Index {
    /// One more value for a key. Of values of one priority the later one comes first, as in depmod.
    pub fn insert(&mut self, key: &[u8], value: &str, priority: u32) {
        let (mut node, mut rest) = (&mut self.root, key);
        loop {
            let shared = node.prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if shared < node.prefix.len() {
                node.split(shared);
            }
            let Some((arc, after)) = rest[shared..].split_first() else { break };
            node = node.children.entry(*arc).or_insert_with(|| Node { prefix: after.to_vec(), ..Node::default() });
            rest = after;
        }
        let at = node.values.partition_point(|(other, _)| *other < priority);
        node.values.insert(at, (priority, value.into()));
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = [MAGIC, VERSION, 0].map(u32::to_be_bytes).concat();
        let root = self.root.write(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }
}

impl Node {
    /// Leaves `shared` bytes of the prefix here; all else moves to a child.
    fn split(&mut self, shared: usize) {
        let mut below = std::mem::take(self);
        let tail = below.prefix.split_off(shared);
        self.prefix = std::mem::replace(&mut below.prefix, tail[1..].to_vec());
        self.children.insert(tail[0], below);
    }

    /// Appends the node and all below it; its reference.
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let mut reference = out.len() as u32;
        if !self.prefix.is_empty() {
            reference |= PREFIX;
            out.extend(&self.prefix);
            out.push(0);
        }
        let (first, last) = (self.children.keys().next(), self.children.keys().next_back());
        let (first, table) = (first.copied().unwrap_or_default(), out.len() + 2);
        if let Some(last) = last {
            reference |= CHILDREN;
            out.extend([first, *last]);
            out.resize(table + 4 * (1 + usize::from(last - first)), 0);
        }
        if !self.values.is_empty() {
            reference |= VALUES;
            out.extend((self.values.len() as u32).to_be_bytes());
        }
        for (priority, value) in &self.values {
            out.extend(priority.to_be_bytes());
            out.extend(value.bytes().chain([0]));
        }
        for (arc, child) in &self.children {
            let child = child.write(out).to_be_bytes();
            out[table + 4 * usize::from(arc - first)..][..4].copy_from_slice(&child);
        }
        reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that a file holds, as a reader finds it from the root: key, priority, value.
    fn read(file: &[u8]) -> Vec<(String, u32, String)> {
        assert_eq!(file[..8], *b"\xb0\x07\xf4\x57\x00\x02\x00\x01");
        let mut found = Vec::new();
        read_node(file, u32_at(file, 8), String::new(), &mut found);
        found
    }

    fn u32_at(file: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(file[at..at + 4].try_into().unwrap())
    }

    fn string_at(file: &[u8], at: &mut usize) -> String {
        let text: Vec<u8> = file[*at..].iter().copied().take_while(|b| *b != 0).collect();
        *at += text.len() + 1;
        String::from_utf8(text).unwrap()
    }

    fn read_node(file: &[u8], reference: u32, mut key: String, found: &mut Vec<(String, u32, String)>) {
        let mut at = (reference & 0x1fff_ffff) as usize;
        if reference & PREFIX != 0 {
            key += &string_at(file, &mut at);
        }
        let mut children = Vec::new();
        if reference & CHILDREN != 0 {
            let (first, last) = (file[at], file[at + 1]);
            at += 2;
            for arc in first..=last {
                children.push((arc, u32_at(file, at)));
                at += 4;
            }
        }
        if reference & VALUES != 0 {
            let count = u32_at(file, at);
            at += 4;
            for _ in 0..count {
                let priority = u32_at(file, at);
                at += 4;
                found.push((key.clone(), priority, string_at(file, &mut at)));
            }
        }
        for (arc, child) in children.into_iter().filter(|(_, child)| *child != 0) {
            read_node(file, child, format!("{key}{}", char::from(arc)), found);
        }
    }

    #[test]
    fn a_file_is_laid_out_as_kmod_34_does() {
        let mut index = Index::default();
        index.insert(b"abc", "x", 2);
        index.insert(b"abe", "y", 1);
        index.insert(b"ab", "z", 0);
        let expected: [&[u8]; 4] = [
            // The head, and the root: one byte leads on.
            b"\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0caa\xe0\x00\x00\x12",
            // `ab`: prefix, children c to e, its value.
            b"b\0ce\x40\x00\x00\x2c\0\0\0\0\x40\x00\x00\x36\0\0\0\x01\0\0\0\0z\0",
            b"\0\0\0\x01\0\0\0\x02x\0",
            b"\0\0\0\x01\0\0\0\x01y\0",
        ];
        assert_eq!(index.to_bytes(), expected.concat());
    }

    #[test]
    fn values_come_by_priority_and_the_latest_of_one_priority_first() {
        let mut index = Index::default();
        for (value, priority) in [("a", 3), ("b", 1), ("c", 3), ("d", 2)] {
            index.insert(b"k", value, priority);
        }
        let values: Vec<String> = read(&index.to_bytes()).into_iter().map(|(_, _, value)| value).collect();
        assert_eq!(values, ["b", "d", "c", "a"]);
        assert_eq!(Index::default().to_bytes().len(), 12, "an empty one is a head");
    }

    proptest! {
        #[test]
        fn a_reader_finds_each_key_with_its_values(keys in prop::collection::vec("[ab_*\\[-]{0,6}", 0..40)) {
            let mut index = Index::default();
            for (number, key) in keys.iter().enumerate() {
                index.insert(key.as_bytes(), &format!("m{number}"), number as u32);
            }
            let mut expected: Vec<_> =
                keys.iter().enumerate().map(|(n, key)| (key.clone(), n as u32, format!("m{n}"))).collect();
            expected.sort();
            prop_assert_eq!(read(&index.to_bytes()), expected);
        }
    }
}
