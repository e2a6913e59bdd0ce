//! Recognises what is on a block device: nothing, a file system, or something else.
//!
//! Sources of the marks: linux/magic.h and the headers of each file system; UEFI specification, section 5, for
//! partition tables; linux/raid/md_p.h for RAID.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// So many bytes at the start and at the end of the device are read in full.
pub const EDGE: usize = 1 << 20;
/// So many samples are taken between start and end: a device with damaged edges is not empty.
const SAMPLES: u64 = 64;
const SAMPLE: usize = 4096;

/// What a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// All bytes that were read are zero.
    Nothing,
    /// A file system, by the name under which it is mounted.
    FileSystem(&'static str),
    /// Something that is not a file system, in words.
    Other(&'static str),
}

/// Bytes by which a content is recognised, and their offset.
struct Mark {
    at: usize,
    bytes: &'static [u8],
    content: Content,
}

const fn fs(at: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark { at, bytes, content: Content::FileSystem(name) }
}

const fn other(at: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark { at, bytes, content: Content::Other(name) }
}

/// Marks near the start. Marks that may lie under a partition table's (the boot sector of FAT) come before it.
const MARKS: &[Mark] = &[
    fs(1080, b"\x53\xef", "ext4"),
    fs(0, b"XFSB", "xfs"),
    fs(0x1_0040, b"_BHRfS_M", "btrfs"),
    fs(1024, b"\x10\x20\xf5\xf2", "f2fs"),
    fs(0, b"hsqs", "squashfs"),
    fs(1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    fs(82, b"FAT32   ", "vfat"),
    fs(54, b"FAT16   ", "vfat"),
    fs(54, b"FAT12   ", "vfat"),
    fs(3, b"EXFAT   ", "exfat"),
    fs(3, b"NTFS    ", "ntfs3"),
    fs(32_769, b"CD001", "iso9660"),
    other(0, b"LUKS\xba\xbe", "a LUKS volume"),
    other(512, b"LABELONE", "an LVM volume"),
    other(4086, b"SWAPSPACE2", "swap"),
    other(0x1_0ff6, b"SWAPSPACE2", "swap"),
    other(0, b"\xfc\x4e\x2b\xa9", "a part of a RAID"),
    other(4096, b"\xfc\x4e\x2b\xa9", "a part of a RAID"),
    other(512, b"EFI PART", "a GPT partition table"),
    other(4096, b"EFI PART", "a GPT partition table"),
    other(510, b"\x55\xaa", "a partition table or boot sector"),
];

/// Reads the device, whose size in bytes is `size`.
pub fn read_content(device: &File, size: u64) -> io::Result<Content> {
    let edge = usize::try_from(size).unwrap_or(EDGE).min(EDGE);
    let mut buffer = vec![0; edge];
    device.read_exact_at(&mut buffer, 0)?;
    let found = identify(&buffer);
    if found != Content::Nothing {
        return Ok(found);
    }
    device.read_exact_at(&mut buffer, size - edge as u64)?;
    let mut empty = is_zero(&buffer);
    buffer.truncate(SAMPLE);
    for sample in 1..=SAMPLES {
        let at = (size / (SAMPLES + 1) * sample).next_multiple_of(SAMPLE as u64);
        if empty && buffer.len() == SAMPLE && at + SAMPLE as u64 <= size {
            device.read_exact_at(&mut buffer, at)?;
            empty = is_zero(&buffer);
        }
    }
    Ok(if empty { Content::Nothing } else { Content::Other("data that is not known") })
}

/// Recognises the first bytes of a device.
pub fn identify(start: &[u8]) -> Content {
    let has = |mark: &&Mark| start.get(mark.at..mark.at + mark.bytes.len()) == Some(mark.bytes);
    match MARKS.iter().find(has) {
        Some(mark) => mark.content,
        None if is_zero(start) => Content::Nothing,
        None => Content::Other("data that is not known"),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn device(name: &str, size: u64) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("bootwright-content-{}-{name}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(size).unwrap();
        (path, file)
    }

    #[test]
    fn one_byte_anywhere_at_the_edges_is_not_nothing() {
        let size = 64 << 20;
        let (path, file) = device("edges", size);
        assert_eq!(read_content(&file, size).unwrap(), Content::Nothing);
        for at in [0, 7, 511, 4096, EDGE as u64 - 1, size - EDGE as u64, size - 1] {
            file.write_all_at(b"\x01", at).unwrap();
            assert_eq!(read_content(&file, size).unwrap(), Content::Other("data that is not known"), "{at}");
            file.write_all_at(b"\0", at).unwrap();
        }
        file.write_all_at(&vec![1; 2 << 20], 30 << 20).unwrap();
        assert_eq!(read_content(&file, size).unwrap(), Content::Other("data that is not known"), "in the middle");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn devices_smaller_than_an_edge_are_looked_at_too() {
        for size in [0u64, 512, 4096, 70_000] {
            let (path, file) = device("small", size);
            assert_eq!(read_content(&file, size).unwrap(), Content::Nothing, "{size}");
            if size > 0 {
                file.write_all_at(b"x", size - 1).unwrap();
                assert_ne!(read_content(&file, size).unwrap(), Content::Nothing, "{size}");
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Each program makes what it makes; one that is not installed is passed over, but not all may be.
    #[test]
    fn what_real_programs_make_is_recognised() {
        let cases: &[(&[&str], Content)] = &[
            (&["mke2fs", "-q", "-F", "-t", "ext4"], Content::FileSystem("ext4")),
            (&["mkfs.xfs", "-q"], Content::FileSystem("xfs")),
            (&["mkfs.btrfs", "-q"], Content::FileSystem("btrfs")),
            (&["mkfs.vfat", "-F", "32"], Content::FileSystem("vfat")),
            (&["mkswap"], Content::Other("swap")),
        ];
        let mut made = 0;
        for (command, expected) in cases {
            let (path, file) = device("made", 320 << 20);
            let search = format!("{}:/sbin:/usr/sbin", std::env::var("PATH").unwrap_or_default());
            let run = Command::new("env").env("PATH", search).args(*command).arg(&path).output().unwrap();
            if run.status.success() {
                made += 1;
                assert_eq!(read_content(&file, 320 << 20).unwrap(), *expected, "{command:?}");
            }
            std::fs::remove_file(path).unwrap();
        }
        assert!(made >= 1, "no program that makes a file system is installed");
    }

    #[test]
    fn partition_tables_are_recognised() {
        let mut start = vec![0; EDGE];
        start[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(identify(&start), Content::Other("a partition table or boot sector"));
        start[512..520].copy_from_slice(b"EFI PART");
        assert_eq!(identify(&start), Content::Other("a GPT partition table"));
        start[82..90].copy_from_slice(b"FAT32   ");
        assert_eq!(identify(&start), Content::FileSystem("vfat"));
    }

    proptest! {
        #[test]
        fn nothing_is_only_zeros(start in proptest::collection::vec(0u8..3, 0..5000)) {
            prop_assert_eq!(identify(&start) == Content::Nothing, start.iter().all(|byte| *byte == 0));
        }
    }
}
