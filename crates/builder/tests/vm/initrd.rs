//! What the kernel unpacks of an initrd, beside what `inspect` lists of it: archives at the edges of init/initramfs.c,
//! appended to one with an init that prints what is there. What the kernel takes is asked in one boot; what it refuses ends
//! the unpacking, and has a boot of its own.

use bootwright::emit::manifest::FileKind;
use bootwright::inspect::initrd::{InitrdSegment, read_initrd};
use bootwright::inspect::newc::InitrdLimits;
use bootwright::smoke::Engine;
use liblzma::stream::{Check, LzmaOptions, Stream};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::{QEMU, need::have};

/// Lists `/case`: type, size and path of each.
const INIT: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
static void walk(const char *path) {
    struct stat st;
    if (lstat(path, &st)) return;
    char kind = S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : S_ISLNK(st.st_mode) ? 'l'
              : S_ISCHR(st.st_mode) ? 'c' : S_ISBLK(st.st_mode) ? 'b' : S_ISFIFO(st.st_mode) ? 'p' : '?';
    printf("landed %c %lld %s\n", kind, kind == 'f' ? (long long)st.st_size : 0, path + 1);
    DIR *dir = kind == 'd' ? opendir(path) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char inner[8192];
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        walk(inner);
    }
    if (dir) closedir(dir);
}
int main(void) {
    walk("/case");
    puts("that is all");
    fflush(stdout);
    /* The machine ends at once, with what its serial port has not sent yet. */
    tcdrain(STDOUT_FILENO);
    reboot(RB_POWER_OFF);
    for (;;) pause();
}
"#;
/// For one boot; this machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// An entry of an archive, of which any field can be another.
#[derive(Clone)]
struct Entry {
    magic: &'static str,
    /// Inode, mode, owner, group, links, time, size, device (2), special device (2), bytes of the name, sum.
    fields: [String; 13],
    name: Vec<u8>,
    body: Vec<u8>,
}

const INODE: usize = 0;
const UID: usize = 2;
const LINKS: usize = 4;
const NAME_BYTES: usize = 11;
const SUM: usize = 12;

fn entry(name: &str, mode: u32, body: &[u8]) -> Entry {
    let fields = [0, mode, 0, 0, 1, 0, body.len() as u32, 0, 0, 5, 1, name.len() as u32 + 1, 0];
    let fields = fields.map(|field| format!("{field:08X}"));
    Entry { magic: "070701", fields, name: [name.as_bytes(), b"\0"].concat(), body: body.into() }
}

impl Entry {
    fn with(mut self, field: usize, value: u32) -> Self {
        self.fields[field] = format!("{value:08x}");
        self
    }

    fn linked(self, inode: u32) -> Self {
        self.with(INODE, inode).with(LINKS, 2)
    }

    fn summed(mut self, more: u32) -> Self {
        self.magic = "070702";
        let sum = self.body.iter().map(|b| u32::from(*b)).sum::<u32>() + more;
        self.with(SUM, sum)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = [self.magic.as_bytes(), self.fields.concat().as_bytes(), &self.name].concat();
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
}

/// Without a trailer.
fn bare(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(Entry::bytes).collect()
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    [bare(entries), entry("TRAILER!!!", 0, b"").bytes()].concat()
}

fn zeros(n: usize) -> Vec<u8> {
    vec![0; n]
}

/// The folder of a case with one file in it.
fn sample(case: &str) -> Vec<Entry> {
    vec![entry(&format!("case/{case}"), DIR, b""), entry(&format!("case/{case}/file"), FILE, b"12345")]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::GzBuilder::new().filename("a name").write(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn xz(bytes: &[u8], stream: Stream) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn xz_with(bytes: &[u8], check: Check) -> Vec<u8> {
    xz(bytes, Stream::new_easy_encoder(0, check).expect("a level of xz"))
}

/// With a window of that power of two, which the content fills.
fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 1).expect("a level of zstd");
    out.window_log(window_log).and_then(|()| out.include_checksum(true)).expect("known to zstd");
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

/// What the kernel takes, in an order in which each can stand behind the others.
fn taken() -> Vec<(&'static str, Vec<u8>)> {
    let of = |case: &str| archive(&sample(case));
    let long = |case: &str, name: &str| format!("case/{case}/{name}");
    let more = |case: &str, entries: &[Entry]| archive(&[sample(case), entries.to_vec()].concat());
    let mut not_hex = entry("case/not-hex/zz", FILE, b"1");
    not_hex.fields[UID] = "12zz0x-1".into();
    let mut wrong_sum = gzip(&of("gzip-wrong-sum"));
    *wrong_sum.iter_mut().rev().nth(6).expect("a trailer of 8 bytes") ^= 1;
    // Not even of an extra field that is not there.
    let mut flags = gzip(&of("gzip-flags"));
    flags[3] |= 4;
    let cut = bare(&sample("cut-short"));
    vec![
        ("no trailer", bare(&sample("no-trailer"))),
        ("zeros between entries", sample("zeros").iter().map(Entry::bytes).collect::<Vec<_>>().join(&zeros(8)[..])),
        ("zeros between archives", [of("zeros-a"), zeros(516), of("zeros-b")].concat()),
        ("a sum", more("sum", &[entry("case/sum/ok", FILE, b"abc").summed(0)])),
        (
            "links, the data with the last name",
            more(
                "links-last",
                &[
                    entry("case/links-last/a", FILE, b"").linked(7),
                    entry("case/links-last/b", FILE, b"1234567").linked(7),
                ],
            ),
        ),
        (
            "links, the data with the first name",
            more(
                "links-first",
                &[
                    entry("case/links-first/a", FILE, b"1234567").linked(7),
                    entry("case/links-first/b", FILE, b"").linked(7),
                ],
            ),
        ),
        (
            "links over two archives",
            [
                bare(&[sample("links-over"), vec![entry("case/links-over/a", FILE, b"12").linked(8)]].concat()),
                archive(&[entry("case/links-over/b", FILE, b"").linked(8)]),
            ]
            .concat(),
        ),
        ("no links after a trailer", archive(&[entry("case/links-over/c", FILE, b"").linked(8)])),
        (
            "names that no file system takes",
            more(
                "long",
                &[
                    entry(&long("long", &"n".repeat(255)), FILE, b"1"),
                    entry(&long("long", &"n".repeat(256)), FILE, b"1"),
                    entry("case/long/after", FILE, b"1"),
                ],
            ),
        ),
        (
            "names and targets over PATH_MAX",
            more(
                "path-max",
                &[
                    entry(&long("path-max", &"d/".repeat(2100)), FILE, b"1"),
                    entry("case/path-max/link", LINK, &[b'x'; 4097]),
                    entry("case/path-max/after", FILE, b"1"),
                ],
            ),
        ),
        (
            "a folder with a body",
            more("body", &[entry("case/body/dir", DIR, b"body"), entry("case/body/after", DIR, b"")]),
        ),
        ("no hex digits", more("not-hex", &[not_hex])),
        (
            "other kinds",
            more(
                "kinds",
                &[
                    entry("case/kinds/link", LINK, b"file"),
                    entry("case/kinds/char", 0o020_600, b""),
                    entry("case/kinds/block", 0o060_600, b""),
                    entry("case/kinds/pipe", 0o010_600, b""),
                    entry("case/kinds/none", 0o000_600, b""),
                ],
            ),
        ),
        ("leading slashes", archive(&[entry("/case/slash", DIR, b""), entry("./case/slash/dot", FILE, b"1")])),
        ("gzip", gzip(&of("gzip"))),
        ("gzip, one after another", [gzip(&of("gzip-a")), gzip(&of("gzip-b"))].concat()),
        ("gzip with a wrong sum", wrong_sum),
        ("gzip with a flag", flags),
        ("gzip, no trailer", gzip(&bare(&sample("gzip-bare")))),
        (
            "gzip, zeros all around",
            gzip(&[zeros(512), of("gzip-zeros"), zeros(512), of("gzip-zeros-b"), zeros(7)].concat()),
        ),
        ("xz, CRC32", xz_with(&of("xz"), Check::Crc32)),
        ("xz, no sum", xz_with(&of("xz-none"), Check::None)),
        (
            "lzma",
            xz(&of("lzma"), Stream::new_lzma_encoder(&LzmaOptions::new_preset(1).expect("a level")).expect("a level")),
        ),
        ("zstd", zstd(&of("zstd"), 20)),
        ("zstd, the largest window", zstd(&of("zstd-window"), 27)),
        ("cut short in a file", cut[..cut.len() - 6].to_vec()),
    ]
}

/// What it refuses, with its words and a part of ours.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    const MAGIC: &str = "invalid magic at start of compressed archive";
    let of = |case: &str| archive(&sample(case));
    let mut old = sample("old");
    old[1].magic = "070707";
    let mut other = sample("other");
    other[1].magic = "070703";
    let mut without_zero = entry("case/no-zero/name", FILE, b"1");
    without_zero.name.pop();
    let without_zero = without_zero.with(NAME_BYTES, 17);
    let unaligned = gzip(&of("unaligned"));
    let padding = zeros(5 - unaligned.len() % 4);
    let mut extra = flate2::GzBuilder::new().extra(*b"AB\x02\0xy").write(Vec::new(), flate2::Compression::fast());
    extra.write_all(&of("extra")).expect("memory");
    let extra = extra.finish().expect("memory");
    let mut magic = gzip(&of("9e"));
    magic[1] = 0x9e;
    let whole = bare(&sample("half"));
    vec![
        ("odd padding", [bare(&sample("odd")), zeros(2), of("odd-b")].concat(), "broken padding", "broken padding"),
        ("odd padding, gzip", gzip(&[of("oddz"), zeros(2), of("oddz-b")].concat()), "broken padding", "broken padding"),
        (
            "odd padding before gzip",
            [of("oddg"), zeros(1), gzip(&of("oddg-b"))].concat(),
            "broken padding",
            "broken padding",
        ),
        ("junk", [of("junk"), b"junk".to_vec()].concat(), MAGIC, MAGIC),
        ("plain at no multiple of four", [unaligned, padding, of("unaligned-b")].concat(), MAGIC, MAGIC),
        (
            "the old format",
            bare(&old),
            "incorrect cpio method used: use -H newc option",
            "incorrect cpio method used: use -H newc option",
        ),
        ("an unknown format", bare(&other), "no cpio magic", "no cpio magic"),
        ("a wrong sum", bare(&[entry("case/sum", FILE, b"abc").summed(1)]), "bad data checksum", "bad data checksum"),
        (
            "a name without its zero",
            bare(&[sample("no-zero"), vec![without_zero]].concat()),
            "malformed archive",
            "malformed archive",
        ),
        (
            "gzip of half an entry",
            gzip(&whole[..whole.len() - 6]),
            "junk at the end of compressed archive",
            "junk at the end of compressed archive",
        ),
        (
            "gzip with junk",
            gzip(&[of("gjunk"), b"junk".to_vec()].concat()),
            "junk within compressed archive",
            "junk within compressed archive",
        ),
        ("gzip with an extra field", extra, "uncompression error", "deflate"),
        ("the other magic of gzip", magic, "Not a gzip file", "Not a gzip file"),
        ("xz, CRC64", xz_with(&of("crc64"), Check::Crc64), "Input was encoded with settings", "CRC64"),
        ("xz, SHA-256", xz_with(&of("sha256"), Check::Sha256), "Input was encoded with settings", "SHA-256"),
        ("zstd, a larger window", zstd(&of("window"), 28), "ZSTD-compressed data", "too much memory"),
        ("a frame of lz4", b"\x04\x22\x4d\x18\x64\x40\xa7".to_vec(), MAGIC, MAGIC),
    ]
}

/// The start of each initrd: the folder of the cases, and the init.
fn base(scratch: &Path) -> Vec<u8> {
    let (source, program) = (scratch.join("init.c"), scratch.join("init"));
    std::fs::write(&source, INIT).expect("the folder can be written");
    let compiled = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source).output();
    let compiled = compiled.expect("cc starts");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let init = std::fs::read(program).expect("it was compiled");
    archive(&[entry("case", DIR, b""), entry("init", 0o100_755, &init)])
}

/// What landed below `case`, by path: type and size.
type Landed = BTreeMap<String, (char, u64)>;

/// Boots an initrd; gives what landed, and the words in which the kernel refused the rest.
fn boot(kernel: &Path, initrd: &[u8], scratch: &Path) -> (Landed, Option<String>) {
    let (path, log) = (scratch.join("initrd"), scratch.join("console"));
    std::fs::write(&path, initrd).expect("the folder can be written");
    let _ = std::fs::remove_file(&log);
    let mut qemu = Command::new(QEMU);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35,graphics=off"]);
    qemu.args(Engine::Tcg.arguments()).args(["-m", "512", "-append", "console=ttyS0 quiet panic=-1"]);
    qemu.arg("-serial").arg(format!("file:{}", log.display())).arg("-kernel").arg(kernel).arg("-initrd").arg(&path);
    let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("QEMU was found");
    let start = Instant::now();
    while qemu.try_wait().expect("it is our child").is_none() {
        if start.elapsed() > LIMIT {
            let _ = qemu.kill().and_then(|()| qemu.wait());
            panic!("no end after {LIMIT:?}: {}", testkit::console::read(&log));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let console = testkit::console::read(&log);
    assert!(console.contains("that is all"), "{console}");
    let landed = console.lines().filter_map(|line| {
        let mut words = line.split_once("landed ")?.1.splitn(3, ' ');
        let (kind, size, path) = (words.next()?, words.next()?, words.next()?);
        Some((path.trim_end().to_string(), (kind.chars().next()?, size.parse().ok()?)))
    });
    let words = console.lines().find_map(|line| line.split_once("Initramfs unpacking failed: "));
    (landed.collect(), words.map(|(_, words)| words.trim().to_string()))
}

/// The same, as `inspect` has it.
fn inspected(initrd: &[u8]) -> (Landed, Option<String>, Vec<InitrdSegment>) {
    let segments = read_initrd(initrd, InitrdLimits::default()).expect("bytes in memory");
    let mut landed = Landed::new();
    for entry in segments.iter().flat_map(|segment| &segment.entries).filter(|entry| entry.path.starts_with("case")) {
        let kind = match entry.kind {
            FileKind::Hardlink => {
                let first = landed[entry.target.as_deref().expect("it names the first")];
                landed.insert(entry.path.clone(), first);
                continue;
            }
            FileKind::Dir => 'd',
            FileKind::File => 'f',
            FileKind::Symlink => 'l',
            FileKind::Char => 'c',
            FileKind::Block => 'b',
            FileKind::Fifo => 'p',
        };
        landed.insert(entry.path.clone(), (kind, entry.size));
    }
    let problem = segments.iter().find_map(|segment| segment.problem.clone());
    (landed, problem, segments)
}

#[test]
fn the_kernel_and_inspect_agree_about_what_is_taken() {
    if !have(&[QEMU, "cc"]) {
        return;
    }
    let kernel = testkit::rescue().dir().join("vmlinuz");
    let scratch = testkit::folders::new_folder();
    let mut initrd = base(scratch.path());
    for (_, part) in taken() {
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(part);
    }
    let (theirs, words) = boot(&kernel, &initrd, scratch.path());
    let (ours, problem, segments) = inspected(&initrd);
    assert_eq!((words, problem), (None, None), "{segments:#?}");
    assert_eq!(ours, theirs);
    assert!(theirs.contains_key("case/zstd-window/file") && theirs.contains_key("case/links-over/b"), "{theirs:?}");
}

#[test]
fn the_kernel_and_inspect_agree_about_what_is_refused() {
    if !have(&[QEMU, "cc"]) {
        return;
    }
    let kernel = testkit::rescue().dir().join("vmlinuz");
    let scratch = testkit::folders::new_folder();
    let base = base(scratch.path());
    for (name, part, their_words, our_words) in refused() {
        let initrd = [base.clone(), zeros(base.len().next_multiple_of(4) - base.len()), part].concat();
        let (theirs, words) = boot(&kernel, &initrd, scratch.path());
        let (ours, problem, _) = inspected(&initrd);
        assert!(words.as_ref().is_some_and(|words| words.starts_with(their_words)), "{name}: the kernel: {words:?}");
        assert!(problem.as_ref().is_some_and(|words| words.contains(our_words)), "{name}: inspect: {problem:?}");
        assert_eq!(ours, theirs, "{name}: what comes before has landed");
    }
}
