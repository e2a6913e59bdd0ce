//! The probe, and what its lines in the kernel's log say.

use super::TraceError;
use std::collections::BTreeSet;

/// The name of the event.
const EVENT: &str = "opened";
/// Names that a line holds: that of the file and of folders above it. An argument of an event has at most 63 characters
/// (`MAX_ARGSTR_LEN`, kernel/trace/trace_probe.h), which is what limits them.
const NAMES: usize = 9;
/// `MAY_EXEC | MAY_READ` (include/linux/fs.h): what is opened for writing alone, or made, is not used.
const READS: u32 = 1 | 4;

/// Words for the kernel command line. `may_open(idmap, path, acc_mode, flag)` (fs/namei.c) is passed once a file has been found by
/// its name, so links are resolved, and the names of folders are true whatever root or mounts a process sees. Its second argument
/// is in %si and its third one in %dx. Offsets on x86-64, the same since Linux 3.11 but for `d_sb` (include/linux/dcache.h): in
/// `struct path` the dentry is at 8; in `struct dentry` the parent at 24, the name at 40, the superblock at 104; in
/// `struct super_block` the type at 40, whose name comes first.
pub fn words() -> Vec<String> {
    let dentry = "+8(%si)";
    let mut event = format!(
        "p:bootwright/{EVENT},may_open,mode=%dx:x32,sb=+104({dentry}):x64,fs=+0(+0(+40(+104({dentry})))):string"
    );
    let mut folder = dentry.to_string();
    for i in 0..NAMES {
        event += &format!(",n{i}=+0(+40({folder})):string");
        folder = format!("+24({folder})");
    }
    [
        format!("kprobe_event={event}").as_str(),
        "tp_printk",
        "log_buf_len=16M",
        // The console takes as long for a line as the kernel for a hundred opens.
        "loglevel=4",
        // PID1 reads what it compares with sums, which is no use of it.
        "bw.verify=0",
    ]
    .map(String::from)
    .to_vec()
}

/// Paths without a leading `/` that were opened for reading or to be run.
#[derive(Debug, Default, PartialEq)]
pub struct Opened {
    /// Of the initramfs before the root is there.
    pub initramfs: Paths,
    /// Of the root that the node's programs see.
    pub root: Paths,
}

#[derive(Debug, Default, PartialEq)]
pub struct Paths {
    whole: BTreeSet<String>,
    /// Last parts of longer ones.
    ends: BTreeSet<String>,
}

impl Paths {
    pub fn hold(&self, path: &str) -> bool {
        let is_end =
            |end: &String| path.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        self.whole.contains(path) || self.ends.iter().any(is_end)
    }

    fn add(&mut self, path: OpenedPath) {
        match path.is_whole {
            true => self.whole.insert(path.text),
            false => self.ends.insert(path.text),
        };
    }
}

/// What a line says.
#[derive(Debug)]
struct Open<'a> {
    mode: u32,
    superblock: &'a str,
    fs: &'a str,
    path: OpenedPath,
}

#[derive(Debug)]
struct OpenedPath {
    text: String,
    is_whole: bool,
}

impl Opened {
    /// Reads the kernel's log.
    ///
    /// # Errors
    /// [`TraceError::NothingRecorded`] when not even `/init` is in it; [`TraceError::Lost`].
    pub fn parse(log: &str) -> Result<Self, TraceError> {
        let mut opened = Self::default();
        // PID1 mounts the root before anything else can be mounted of these kinds: containers have overlays too.
        let (mut overlay, mut image) = (None, None);
        for line in log.lines() {
            if line.starts_with("... ") && line.ends_with(" records were lost here") {
                return Err(TraceError::Lost);
            }
            let Some(open) = parse_line(line).filter(|open| open.mode & READS != 0) else { continue };
            let is_first =
                |first: &mut Option<String>| first.get_or_insert_with(|| open.superblock.into()) == open.superblock;
            match open.fs {
                "overlay" if is_first(&mut overlay) => opened.root.add(open.path),
                "squashfs" | "erofs" if is_first(&mut image) => opened.root.add(open.path),
                "rootfs" => opened.add_initramfs(open.path),
                _ => {}
            }
        }
        if !opened.initramfs.hold("init") {
            return Err(TraceError::NothingRecorded);
        }
        Ok(opened)
    }

    /// A root that is no image stays in the initramfs, below `/bootwright/root`; beside it are files that PID1 copies.
    fn add_initramfs(&mut self, path: OpenedPath) {
        let OpenedPath { text, is_whole } = path;
        match text.strip_prefix("bootwright/") {
            Some(own) => {
                if let Some(text) = own.strip_prefix("root/") {
                    self.root.add(OpenedPath { text: text.into(), is_whole });
                }
            }
            None if is_whole => self.initramfs.add(OpenedPath { text, is_whole }),
            // Too deep to tell which of both it is.
            None => {
                self.root.whole.extend(text.strip_prefix("root/").map(String::from));
                self.root.ends.insert(text.clone());
                self.initramfs.ends.insert(text);
            }
        }
    }
}

/// `... opened: (may_open+0x0/0x140) mode=0x4 sb=0xff3e47db4104a800 fs="overlay" n0="passwd" n1="etc" n2="/" n3="/" ...`
fn parse_line(line: &str) -> Option<Open<'_>> {
    let (_, rest) = line.split_once(&format!("] {EVENT}: (may_open+"))?;
    let (mode, rest) = rest.split_once(" mode=0x")?.1.split_once(' ')?;
    let (superblock, rest) = rest.strip_prefix("sb=")?.split_once(' ')?;
    let (fs, mut rest) = rest.strip_prefix("fs=\"")?.split_once('"')?;
    let (mut names, mut is_whole) = (Vec::new(), false);
    for i in 0..NAMES {
        let Some(name) = rest.strip_prefix(&format!(" n{i}=\"")) else { break };
        // A name may hold quotes; a line that was cut has no end.
        let end = name.find(&format!("\" n{}=\"", i + 1)).or(name.strip_suffix('"').map(str::len))?;
        rest = &name[end + 1..];
        is_whole |= &name[..end] == "/";
        names.extend((!is_whole).then(|| unescape(&name[..end])));
    }
    names.reverse();
    let path = OpenedPath { text: names.join("/"), is_whole };
    Some(Open { mode: u32::from_str_radix(mode, 16).ok()?, superblock, fs, path })
}

/// `/dev/kmsg` writes bytes that are not printable, and backslashes, as `\xNN` (kernel/printk/printk.c, `msg_print_ext_body`).
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend([b"\\x", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
