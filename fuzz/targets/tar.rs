//! An archive of a component, plain or compressed.
#![no_main]

use bootwright::cache::unpacked::Unpacker;
use bootwright::entry::{Kind, parse_entry_path};
use bootwright::source::archive::rootfs::{Manner, Rootfs};
use bootwright::source::archive::{Limits, decompress, read_tar};

/// Small enough that no input is slow.
const LIMITS: Limits = Limits { file_bytes: 1 << 20, total_bytes: 4 << 20, entries: 1 << 10 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let mut into = Unpacker::create(&dir.path().join("tar")).expect("the temporary folder is writable");
    if let Ok(reader) = decompress(bytes, 1) {
        // What is wrong with an input is an error; nothing else may happen.
        let _ = read_tar(reader, "input", LIMITS, &mut into);
        for manner in [Manner::Tar, Manner::Layers] {
            let mut rootfs = Rootfs::new(manner);
            // The second time everything meets something that is there.
            rootfs.lay("input", into.members());
            rootfs.lay("input", into.members());
            let entries = rootfs.finish().entries;
            assert!(entries.is_sorted_by(|a, b| a.path < b.path));
            for entry in &entries {
                assert_eq!(parse_entry_path(&entry.path).as_ref(), Ok(&entry.path));
                let of = |path: &str| entries.iter().find(|e| e.path == path).map(|e| &e.kind);
                if let Kind::Hardlink(target) = &entry.kind {
                    assert!(matches!(of(target), Some(Kind::File(_))));
                }
                for (end, _) in entry.path.match_indices('/') {
                    assert!(matches!(of(&entry.path[..end]), None | Some(Kind::Dir)));
                }
            }
        }
    }
});
