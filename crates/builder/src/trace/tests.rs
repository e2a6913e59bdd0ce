use super::opened::words;
use super::*;
use crate::emit::manifest::{FileKind, FileRecord, Manifest};
use crate::recipe::SegmentName;
use crate::tree::Reason;

/// A line as Linux 6.12 writes it.
fn line(mode: u32, sb: &str, fs: &str, path: &str) -> String {
    let mut names: Vec<&str> = path.split('/').rev().chain(["/"; 9]).take(9).collect();
    names.truncate(9);
    let names: String = names.iter().enumerate().map(|(i, name)| format!(" n{i}=\"{name}\"")).collect();
    format!("[    0.986433] opened: (may_open+0x0/0x140) mode={mode:#x} sb=0x{sb} fs=\"{fs}\"{names}\n")
}

fn init() -> String {
    line(1, "a", "rootfs", "init")
}

#[test]
fn words_are_as_short_as_the_kernel_takes_them() {
    let words = words();
    let event = words[0].strip_prefix("kprobe_event=").unwrap();
    for argument in event.split(',').skip(2) {
        let body = argument.split_once('=').unwrap().1;
        assert!(body.len() <= 63, "MAX_ARGSTR_LEN: {body}");
    }
    assert!(words.join(" ").len() < 1000, "there is room for a recipe's own words");
}

#[test]
fn paths_are_put_together_for_each_place_of_the_root() {
    let deep = "usr/lib/modules/6.12.117+deb13-amd64/kernel/drivers/net/ethernet/intel/ixgbe/ixgbe.ko";
    let log = [
        "[    0.000000] Kernel command line: kprobe_event=p:bootwright/opened,may_open,mode=%dx:x32\n".to_string(),
        line(0, "a", "rootfs", "written/by/the/kernel"),
        init(),
        line(4, "a", "rootfs", "bootwright/config/etc/copied"),
        line(4, "a", "rootfs", "bootwright/root/usr/bin/unpacked"),
        line(4, "a", "rootfs", "bootwright/root/usr/lib/modules/6.12/kernel/drivers/net/nine.ko"),
        line(4, "a", "rootfs", "bootwright/root/usr/lib/modules/6.12/kernel/drivers/net/ethernet/ten.ko"),
        line(4, "b", "overlay", "etc/passwd"),
        line(2, "b", "overlay", "var/log/written"),
        line(1, "b", "overlay", deep),
        line(4, "c", "overlay", "of/a/container"),
        line(4, "d", "proc", "cmdline"),
        line(4, "e", "squashfs", "usr/lib/below"),
        line(4, "f", "squashfs", "of/a/layer"),
        line(4, "b", "overlay", r"odd/a\x22 n1=b\xc3\xa4\x5c"),
        "[    1.000000] opened: (may_open+0x0/0x140) mode=0x4 sb=0xb fs=\"overlay\" n0=\"cut".to_string(),
    ];
    let opened = Opened::parse(&log.concat()).unwrap();
    let nine = "usr/lib/modules/6.12/kernel/drivers/net/nine.ko";
    let ten = "usr/lib/modules/6.12/kernel/drivers/net/ethernet/ten.ko";
    for path in [nine, ten, "etc/passwd", "usr/bin/unpacked", deep, "usr/lib/below", "odd/a\" n1=b\u{e4}\\"] {
        assert!(opened.root.hold(path), "{path}: {opened:?}");
    }
    let others = ["etc/copied", "var/log/written", "of/a/container", "of/a/layer", "cmdline", "passwd", "init", "cut"];
    for path in others {
        assert!(!opened.root.hold(path), "{path}: {opened:?}");
    }
    assert!(opened.initramfs.hold("init") && !opened.initramfs.hold("written/by/the/kernel"));
    let other = deep.replace("6.12.117", "6.12.118").replace("modules/", "mod/");
    assert!(!opened.root.hold(&other[4..]), "only what ends in the nine names that are known: {other}");
}

#[test]
fn a_log_without_opens_or_with_gaps_is_no_result() {
    let nothing = Opened::parse("[    0.000000] Linux version 6.12\n");
    assert!(matches!(nothing, Err(TraceError::NothingRecorded)), "{nothing:?}");
    let gap = Opened::parse(&[init(), "... 3 records were lost here\n".into()].concat());
    assert!(matches!(gap, Err(TraceError::Lost)), "{gap:?}");
}

fn record(segment: SegmentName, path: &str, packed: u64) -> FileRecord {
    FileRecord {
        path: path.into(),
        segment,
        kind: FileKind::File,
        mode: "0644".into(),
        uid: 0,
        gid: 0,
        xattrs: Default::default(),
        size: Some(packed * 2),
        packed: Some(packed),
        sha256: None,
        target: None,
        component: if path.starts_with("usr") { "tool" } else { "base" }.into(),
        origin: "r.toml:1".into(),
        reason: Reason::Inline,
        gave_way: Vec::new(),
    }
}

#[test]
fn what_was_never_opened_is_counted_by_component() {
    use SegmentName::{Boot, Config, Root};
    let mut link = record(Root, "usr/bin/name", 0);
    (link.kind, link.target, link.packed) = (FileKind::Hardlink, Some("usr/bin/first".into()), None);
    let files = vec![
        record(Boot, "init", 5),
        record(Boot, "lib/idle.ko", 7),
        record(Root, "etc/covered", 11),
        record(Config, "etc/covered", 13),
        record(Root, "usr/bin/first", 17),
        record(Root, "usr/bin/idle", 19),
        record(Root, "init", 23),
        link,
    ];
    let log = [init(), line(1, "b", "overlay", "usr/bin/name"), line(4, "b", "overlay", "etc/covered")];
    let manifest = Manifest { files, ..crate::emit::manifest::tests::empty() };
    let report = TraceReport::new(&manifest, &Opened::parse(&log.concat()).unwrap(), 1.0);
    let idle: Vec<&str> = report.never_opened.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(idle, ["init", "usr/bin/idle", "etc/covered", "lib/idle.ko"], "largest first");
    assert_eq!((report.files, report.packed), (7, 95));
    assert_eq!((report.never_opened_files, report.never_opened_packed), (4, 60));
    let base = &report.components[0];
    assert_eq!((base.name.as_str(), base.never_opened_files, base.never_opened_packed), ("base", 3, 41));
    let text = report.to_text(2);
    assert!(text.contains("3 of 7 files were opened") && text.contains("... and 2 more"), "{text}");
}
