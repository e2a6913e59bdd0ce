//! A plain newc archive with one file, to lay something over an initrd (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::Write;
use std::path::Path;

/// Appends an archive with `path` (no leading `/`) to an initrd; its folders must be there already.
pub fn append_file(initrd: &Path, path: &str, content: &[u8]) {
    let mut archive = entry(path, 0o100_644, content);
    archive.extend(entry("TRAILER!!!", 0, b""));
    append(initrd, &archive);
}

/// Appends bytes at the next multiple of 4.
pub fn append(initrd: &Path, bytes: &[u8]) {
    let size = std::fs::metadata(initrd).expect("the initrd is there").len();
    let padding = vec![0; (size.next_multiple_of(4) - size) as usize];
    let mut file = std::fs::OpenOptions::new().append(true).open(initrd).expect("the initrd can be written");
    file.write_all(&padding).and_then(|()| file.write_all(bytes)).expect("there is space");
}

/// One newc entry: magic, 13 fields of 8 hex digits, the name, the content, each padded to 4.
pub fn entry(path: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
    let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut out = b"070701".to_vec();
    for field in fields {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(path.bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(content);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
