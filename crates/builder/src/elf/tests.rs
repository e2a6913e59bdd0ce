use super::*;
use crate::recipe::SegmentName;
use crate::tree::Reason;
use crate::tree::fixture::*;
use proptest::prelude::*;

/// A little-endian ELF64 file for x86_64 with what [`parse_elf`] reads and no code.
pub fn elf(interpreter: Option<&str>, needed: &[&str], runpath: &str, rpath: &str) -> Vec<u8> {
    let mut strings = vec![0u8];
    let mut text = |s: &str| {
        let at = strings.len() as u64;
        strings.extend(s.as_bytes());
        strings.push(0);
        at
    };
    let mut dynamic: Vec<(u64, u64)> = needed.iter().map(|name| (1, text(name))).collect();
    if !runpath.is_empty() {
        dynamic.push((29, text(runpath)));
    }
    if !rpath.is_empty() {
        dynamic.push((15, text(rpath)));
    }
    let interpreter_bytes = interpreter.map(|s| [s.as_bytes(), &[0]].concat()).unwrap_or_default();
    let count = if interpreter.is_some() { 3u16 } else { 2 };
    let strings_at = 64 + 56 * u64::from(count);
    let interpreter_at = strings_at + strings.len() as u64;
    let dynamic_at = (interpreter_at + interpreter_bytes.len() as u64).next_multiple_of(8);
    // The load address shows whether addresses are taken for file offsets.
    let base = 0x10000;
    dynamic.extend([(5, base + strings_at), (10, strings.len() as u64), (0, 0)]);
    let size = dynamic_at + 16 * dynamic.len() as u64;

    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    for half in [0u16, 0, 64, 56, count, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, at: u64, size: u64| {
        out.extend(kind.to_le_bytes());
        out.extend(5u32.to_le_bytes());
        for word in [at, base + at, base + at, size, size, 8] {
            out.extend(word.to_le_bytes());
        }
    };
    segment(1, 0, size);
    segment(2, dynamic_at, 16 * dynamic.len() as u64);
    if interpreter.is_some() {
        segment(3, interpreter_at, interpreter_bytes.len() as u64);
    }
    out.extend(&strings);
    out.extend(&interpreter_bytes);
    out.resize(dynamic_at as usize, 0);
    for (tag, value) in dynamic {
        out.extend(tag.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out
}

const LD: &str = "/lib64/ld-linux-x86-64.so.2";

#[test]
fn parses_what_the_linker_reads() {
    let info = parse_elf(&elf(Some(LD), &["libc.so.6", "libm.so.6"], "$ORIGIN/../lib:/opt", "")).unwrap();
    assert_eq!(info.interpreter.as_deref(), Some(LD));
    assert_eq!(info.needed, ["libc.so.6", "libm.so.6"]);
    assert_eq!(info.runpath.unwrap(), ["$ORIGIN/../lib", "/opt"]);
    assert!(info.rpath.is_empty());
    // A real one: the test itself.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let info = parse_elf(&own).unwrap();
    assert_eq!(info.interpreter.as_deref(), Some(LD));
    assert!(info.needed.iter().any(|name| name == "libc.so.6"), "{info:?}");
}

#[test]
fn other_machines_are_refused() {
    let good = elf(None, &[], "", "");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(parse_elf(&with(18, 183)), Err(ElfProblem::OtherMachine(183)));
    assert_eq!(parse_elf(&with(4, 1)), Err(ElfProblem::Not64Bit));
    assert!(parse_elf(&with(5, 2)).is_err());
    assert!(matches!(parse_elf(&good[..100]), Err(ElfProblem::Malformed(_))));
    assert!(parse_elf(b"").is_err());
}

proptest! {
    #[test]
    fn damaged_files_never_panic(changes in prop::collection::vec((0usize..600, any::<u8>()), 1..12), cut in 0usize..600) {
        let mut bytes = elf(Some(LD), &["libc.so.6"], "$ORIGIN", "/x");
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.max(1));
        let _ = parse_elf(&bytes);
    }
}

/// A component with a program, and one with a C library as Debian 13 packs it.
fn fixture() -> Fixture {
    let mut f = Fixture::new();
    f.add(
        component("app", &["usr/bin/app"]),
        vec![
            file("usr/bin/app", elf(Some(LD), &["libx.so.1", "libc.so.6"], "", ""), 0o755),
            link("usr/lib/x86_64-linux-gnu/libx.so.1", "libx.so.1.2.3"),
            file("usr/lib/x86_64-linux-gnu/libx.so.1.2.3", elf(None, &["liby.so.1"], "", ""), 0o644),
        ],
    );
    let mut libc = component("libc", &[]);
    libc.only_needed = true;
    f.add(
        libc,
        vec![
            link("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld.so"),
            file("usr/lib/x86_64-linux-gnu/ld.so", elf(None, &[], "", ""), 0o755),
            file("lib/x86_64-linux-gnu/libc.so.6", elf(None, &["ld-linux-x86-64.so.2"], "", ""), 0o755),
            file("usr/lib/x86_64-linux-gnu/liby.so.1", elf(None, &["libc.so.6"], "", ""), 0o644),
            file("usr/lib/x86_64-linux-gnu/libnss_files.so.2", elf(None, &[], "", ""), 0o644),
            file("usr/bin/ldd", "#!/bin/bash\n", 0o755),
        ],
    );
    f.give("libc", vec![link("lib64", "usr/lib64")]);
    f.recipe.components[2].paths = vec!["lib64".into()];
    f
}

#[test]
fn libraries_of_libraries_come_along_with_their_links() {
    let f = fixture();
    let paths = f.paths(SegmentName::Root);
    let expected = [
        "lib64",
        "usr/bin",
        "usr/bin/app",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu/ld.so",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/libx.so.1",
        "usr/lib/x86_64-linux-gnu/libx.so.1.2.3",
        "usr/lib/x86_64-linux-gnu/liby.so.1",
        "usr/lib64",
        "usr/lib64/ld-linux-x86-64.so.2",
    ];
    assert_eq!(paths, expected);
    let tree = f.build().unwrap().tree;
    let y = tree.find("usr/lib/x86_64-linux-gnu/liby.so.1").next().unwrap();
    assert_eq!(y.component, "libc");
    let by = "usr/lib/x86_64-linux-gnu/libx.so.1.2.3".to_string();
    assert_eq!(y.reason, Reason::Library { by, soname: "liby.so.1".into() });
}

#[test]
fn what_is_missing_is_named() {
    let mut f = fixture();
    f.recipe.components[2].exclude = vec!["usr/lib/x86_64-linux-gnu/liby*".into()];
    let error = f.error();
    assert!(
        error.contains("library `liby.so.1`, which `usr/lib/x86_64-linux-gnu/libx.so.1.2.3` of component `app`"),
        "{error}"
    );
    assert!(error.contains("`apt-file search liby.so.1`"), "{error}");
    f.pools[1].1.depends = vec!["libc6".into(), "liby1".into()];
    assert!(f.error().contains("add the package `liby1`, on which"), "{}", f.error());

    let mut f = fixture();
    f.recipe.components[1].libraries = vec!["libnss_files.so.2".into()];
    assert!(f.paths(SegmentName::Root).iter().any(|p| p.ends_with("libnss_files.so.2")));
    f.recipe.components[1].libraries = vec!["libnss_nis.so.2".into()];
    assert!(f.error().contains("library `libnss_nis.so.2`, which `test.toml:3` of component `app`"), "{}", f.error());

    let mut f = fixture();
    f.recipe.components[2].paths = vec!["usr/lib64".into()];
    f.recipe.components[2].exclude = vec!["lib64".into()];
    assert!(f.error().contains("`/lib64/ld-linux-x86-64.so.2`, which runs `usr/bin/app`"), "{}", f.error());

    let mut f = fixture();
    f.recipe.components[2].paths.push("usr/bin/ldd".into());
    assert!(f.error().contains("`/bin/bash`, which runs `usr/bin/ldd` of component `libc`"), "{}", f.error());
}

#[test]
fn search_paths_lead_to_libraries() {
    for (runpath, rpath) in [("$ORIGIN/../lib/app", ""), ("", "/usr/lib/app"), ("${ORIGIN}/../lib/app:/x", "/wrong")] {
        let mut f = fixture();
        f.add(
            component("own", &["usr/bin/own"]),
            vec![
                file("usr/bin/own", elf(Some(LD), &["libown.so"], runpath, rpath), 0o755),
                file("usr/lib/app/libown.so", elf(None, &["libdeep.so"], "", ""), 0o644),
                file("usr/lib/x86_64-linux-gnu/libdeep.so", elf(None, &[], "", ""), 0o644),
            ],
        );
        assert!(f.paths(SegmentName::Root).iter().any(|p| p == "usr/lib/app/libown.so"), "{runpath} {rpath}");
    }
    // DT_RPATH counts for what is drawn in by it, DT_RUNPATH does not.
    for (runpath, rpath, found) in [("", "/usr/lib/app", true), ("/usr/lib/app", "", false)] {
        let mut f = fixture();
        f.add(
            component("own", &["usr/bin/own"]),
            vec![
                file("usr/bin/own", elf(Some(LD), &["libown.so"], runpath, rpath), 0o755),
                file("usr/lib/app/libown.so", elf(None, &["libdeep.so"], "", ""), 0o644),
                file("usr/lib/app/libdeep.so", elf(None, &[], "", ""), 0o644),
            ],
        );
        assert_eq!(f.build().is_ok(), found, "{runpath} {rpath}");
    }
}

#[test]
fn a_components_own_library_comes_first() {
    let mut f = fixture();
    f.add(
        component("bundle", &["usr/bin/b"]),
        vec![
            file("usr/bin/b", elf(None, &["libz.so.1"], "", ""), 0o755),
            file("usr/lib/x86_64-linux-gnu/libz.so.1", elf(None, &[], "", "mine"), 0o644),
        ],
    );
    f.give("app", vec![file("usr/lib/x86_64-linux-gnu/libz.so.1", elf(None, &[], "", "theirs"), 0o644)]);
    let tree = f.build().unwrap().tree;
    assert_eq!(tree.find("usr/lib/x86_64-linux-gnu/libz.so.1").next().unwrap().component, "bundle");
}

#[test]
fn unusable_programs_are_refused() {
    let mut f = fixture();
    let mut arm = elf(None, &[], "", "");
    arm[18] = 183;
    f.add(component("arm", &[]), vec![file("usr/bin/arm", &arm, 0o755)]);
    assert!(f.error().contains("`usr/bin/arm` of component `arm` (test.toml:3) cannot run here"), "{}", f.error());
    f.pools[3].1.entries = vec![file("usr/lib/firmware/arm.so", &arm, 0o755), file("usr/share/arm", &arm, 0o644)];
    f.build().expect("data is no program");

    let mut f = fixture();
    let mut early = component("early", &[]);
    early.segment = SegmentName::Boot;
    f.add(early, vec![file("bin/x", elf(None, &["libc.so.6"], "", ""), 0o755)]);
    assert!(f.error().contains("needs libraries, which the boot segment does not have"), "{}", f.error());
}

/// Runs `usr/bin/script`, which begins with that line, with a shell and a Python in the image.
fn run_script(line: &str, more: Vec<crate::entry::Entry>) -> Fixture {
    let mut f = Fixture::new();
    let mut entries = vec![
        file("usr/bin/script", line, 0o755),
        file("usr/bin/sh", elf(None, &[], "", ""), 0o755),
        file("usr/bin/env", elf(None, &[], "", ""), 0o755),
        file("usr/bin/python3", elf(None, &[], "", ""), 0o755),
        file("usr/bin/data", "x", 0o644),
        link("bin", "usr/bin"),
    ];
    entries.extend(more);
    f.add(component("own", &[]), entries);
    f
}

#[test]
fn scripts_are_run_by_what_the_kernel_opens() {
    let long = format!("#!/{}\n", "x".repeat(253));
    for (line, problem) in [
        ("#!/usr/bin/sh\n", None),
        ("#! /bin/sh -e -u\n", None),
        ("#!/usr/bin/env python3\n", None),
        ("#!/usr/bin/env -S python3 -u\n", None),
        ("#!/proc/self/exe\n", None),
        ("#!/usr/bin/sh\r\necho\r\n", Some("`/usr/bin/sh\\r`, which runs `usr/bin/script` of component `own`")),
        ("#!/usr/bin/env python3\r\n", Some("`python3\\r`, which runs")),
        ("#!/usr/bin/env python3 -u\n", Some("write `env -S` before several words")),
        ("#!/usr/bin/bash\n", Some("`/usr/bin/bash`, which runs")),
        ("#!sh\n", Some("write the whole path after `#!`")),
        ("#!usr/bin/sh\n", Some("`usr/bin/sh`, which runs")),
        (
            "#!/usr/bin/data\n",
            Some(
                "`/usr/bin/data`, which runs `usr/bin/script` of component `own` (test.toml:3), is no file that may be executed",
            ),
        ),
        ("#!/usr/bin\n", Some("is no file that may be executed")),
        ("#!\n", Some("its `#!` line names no interpreter")),
        (long.as_str(), Some("does not end within 256 bytes")),
        ("#!/usr/bin/script\n", Some("is run by more than 5 scripts")),
    ] {
        let f = run_script(line, Vec::new());
        match problem {
            None => drop(f.build().unwrap_or_else(|e| panic!("{line:?}: {e}"))),
            Some(problem) => assert!(f.error().contains(problem), "{line:?}: {}", f.error()),
        }
    }
    let error = run_script("#!/usr/bin/sh\r\n", Vec::new()).error();
    assert!(error.contains(r"`sed -i 's/\r$//'` takes them out of `usr/bin/script`"), "{error}");
    run_script("", vec![file("usr/share/x.source.py", "#!/none\n", 0o644)]).build().expect("nobody runs it");
}

#[test]
fn at_most_five_scripts_run_one_another() {
    let chain = |n: usize| -> Vec<crate::entry::Entry> {
        let line = |i: usize| if i == n { "#!/bin/sh\n".into() } else { format!("#!/usr/bin/s{}\n", i + 1) };
        (2..=n).map(|i| file(&format!("usr/bin/s{i}"), line(i), 0o755)).collect()
    };
    run_script("#!/usr/bin/s2\n", chain(5)).build().unwrap();
    let error = run_script("#!/usr/bin/s2\n", chain(6)).error();
    assert!(
        error.contains("`usr/bin/script` of component `own` (test.toml:3) is run by more than 5 scripts"),
        "{error}"
    );
}

/// A library that programs open by themselves finds what they have loaded, or what lies in its own component (a JDK's).
#[test]
fn what_is_opened_later_finds_what_is_loaded_already() {
    let mut f = fixture();
    f.add(
        component("own", &["usr/bin/own", "usr/lib/own/plugin.so"]),
        vec![
            file("usr/bin/own", elf(Some(LD), &["libown.so"], "/usr/lib/own", ""), 0o755),
            file("usr/lib/own/libown.so", elf(None, &[], "", ""), 0o644),
            file("usr/lib/own/plugin.so", elf(None, &["libown.so", "libvm.so"], "", ""), 0o644),
            file("usr/lib/own/server/libvm.so", elf(None, &[], "", ""), 0o644),
        ],
    );
    let paths = f.paths(SegmentName::Root);
    assert!(
        ["libown.so", "server/libvm.so"].iter().all(|name| paths.contains(&format!("usr/lib/own/{name}"))),
        "{paths:?}"
    );
    f.recipe.components[3].exclude = vec!["**/libvm.so".into()];
    assert!(
        f.error().contains("library `libvm.so`, which `usr/lib/own/plugin.so` of component `own`"),
        "{}",
        f.error()
    );
}
