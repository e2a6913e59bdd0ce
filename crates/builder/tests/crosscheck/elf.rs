//! The libraries that a build takes along for a program, beside those that ld.so loads for it in the same folder.

use crate::run;
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use testkit::need::have;
use testkit::project::Project;

const LD: &str = "/lib64/ld-linux-x86-64.so.2";

/// A program or library without code.
struct Object {
    path: &'static str,
    /// Empty: none.
    soname: &'static str,
    needed: &'static [&'static str],
    /// More options for the linker.
    options: &'static [&'static str],
}

const fn lib(path: &'static str, needed: &'static [&'static str]) -> Object {
    Object { path, soname: "", needed, options: &[] }
}

const fn app(needed: &'static [&'static str], options: &'static [&'static str]) -> Object {
    Object { path: "usr/bin/app", soname: "", needed, options }
}

impl Object {
    fn with(self, soname: &'static str, options: &'static [&'static str]) -> Self {
        Self { soname, options, ..self }
    }

    /// Links it against empty libraries of the names that it needs.
    fn compile(&self, root: &Path, scratch: &Path) {
        let out = root.join(self.path);
        std::fs::create_dir_all(out.parent().expect("it lies in a folder")).expect("the folder can be made");
        let mut words = vec!["-x".into(), "c".into(), "-nostdlib".into(), "-o".into(), text(&out).into(), "-".into()];
        words.push("-Wl,--no-as-needed".into());
        match self.path.starts_with("usr/bin/") {
            true => words.extend(["-pie".into(), format!("-Wl,--dynamic-linker={LD}")]),
            false => words.push("-shared".into()),
        }
        if !self.soname.is_empty() {
            words.push(format!("-Wl,-soname,{}", self.soname));
        }
        words.extend(self.options.iter().map(|option| format!("-Wl,{option}")));
        // `-l` would take what comes after `-x c` for a source.
        words.extend(["-x".into(), "none".into()]);
        words.extend(self.needed.iter().enumerate().map(|(i, name)| {
            let stub = scratch.join(format!("{i}-{}", name.replace('/', "_")));
            let soname = format!("-Wl,-soname,{name}");
            run("cc", &["-shared", "-nostdlib", &soname, "-o", text(&stub), "-x", "c", "-"], b"");
            text(&stub).to_string()
        }));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run("cc", &words, b"void _start(void) {}\n");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What becomes of a program: the files that are loaded, or the name that is not found or no library.
type Verdict = Result<BTreeSet<String>, String>;

/// What ld.so says in that folder.
fn asked_ld_so(root: &Path) -> Verdict {
    let output = in_root(root, &[LD, "--list", "/usr/bin/app"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let missing = said
        .split_once("error while loading shared libraries: ")
        .and_then(|(_, rest)| rest.split_once(": cannot open"));
    if let Some((name, _)) = missing {
        return Err(name.into());
    }
    let mut loaded = BTreeSet::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "=>", path, _] | [path, _] if path.starts_with('/') => {
                let real = root.join(path.trim_start_matches('/')).canonicalize().expect("it was loaded");
                loaded.insert(text(real.strip_prefix(root).expect("links lead nowhere else")).to_string());
            }
            ["statically", "linked"] | ["linux-vdso.so.1", _] => {}
            _ => return Err(said),
        }
    }
    loaded.remove("usr/lib64/ld-linux-x86-64.so.2");
    Ok(loaded)
}

/// Runs a program with `root` as its root.
fn in_root(root: &Path, args: &[&str]) -> Output {
    // Whoever is not root is so in a user namespace.
    let mut command = match nix::unistd::geteuid().is_root() {
        true => Command::new("chroot"),
        false => Command::new("unshare"),
    };
    if !nix::unistd::geteuid().is_root() {
        command.args(["-r", "chroot"]);
    }
    command.arg(root).args(args).env("LC_ALL", "C").output().expect("it starts")
}

/// What a build says.
fn asked_us(project: &Project) -> Verdict {
    let built = project.build(&[]);
    if built.code == Some(2) {
        let quoted = |mark: &str| Some(built.err.split_once(mark)?.1.split_once('`')?.0.to_string());
        return Err(quoted("library `").or_else(|| quoted("error: `")).expect("the error names a file"));
    }
    built.succeeds();
    let manifest: serde_json::Value = serde_json::from_str(&project.read("out/tiny/manifest.json")).expect("JSON");
    let files = manifest["files"].as_array().expect("a list");
    let of_case = files.iter().filter(|file| file["component"] == "case" && file["kind"] == "file");
    let mut paths: BTreeSet<String> = of_case.filter_map(|file| Some(file["path"].as_str()?.to_string())).collect();
    assert!(paths.remove("usr/bin/app") && paths.remove("usr/lib64/ld-linux-x86-64.so.2"), "{paths:?}");
    Ok(paths)
}

/// A folder as of a package: `case/` of a project, with an ld.so and the merged layout.
fn project_with(objects: &[Object]) -> Project {
    let project = Project::new();
    project
        .add("[[component]]\nname = \"case\"\npath = { path = \"../case\" }\npaths = [\"usr/bin/app\", \"lib64\"]\n");
    let (root, scratch) = (project.path("case"), project.path("scratch"));
    std::fs::create_dir_all(&scratch).expect("the folder can be made");
    for folder in ["lib", "lib64"] {
        std::fs::create_dir_all(root.join("usr").join(folder)).expect("the folder can be made");
        symlink(format!("usr/{folder}"), root.join(folder)).expect("the link can be made");
    }
    std::fs::copy(LD, root.join("usr/lib64/ld-linux-x86-64.so.2")).expect("this host has an ld.so");
    objects.iter().for_each(|object| object.compile(&root, &scratch));
    project
}

/// Compares both, and that they say what is written here: the files that are loaded, or what is missing.
fn check(name: &str, project: &Project, expected: Result<&[&str], &str>) {
    let root = project.path("case").canonicalize().expect("it was made");
    let expected: Verdict = match expected {
        Ok(paths) => Ok(paths.iter().map(|path| path.to_string()).collect()),
        Err(missing) => Err(missing.into()),
    };
    assert_eq!(asked_ld_so(&root), expected, "{name}: ld.so");
    assert_eq!(asked_us(project), expected, "{name}: bootwright");
}

/// What it shows, the files, and what both say.
type Case = (&'static str, Vec<Object>, Result<&'static [&'static str], &'static str>);

#[test]
fn libraries_are_those_that_ld_so_loads() {
    if !have(&["cc", "chroot"]) {
        return;
    }
    const APP: &str = "-rpath,/usr/lib/app";
    const OLD: &str = "--disable-new-dtags";
    const NEW: &str = "--enable-new-dtags";
    const CORE: &str = "usr/lib/app/libcore.so";
    const SHARED: &str = "usr/lib/app/libshared.so";
    let cases: Vec<Case> = vec![
        (
            "systemd: what the program has loaded satisfies its library too",
            vec![app(&["libcore.so", "libshared.so"], &[NEW, APP]), lib(CORE, &["libshared.so"]), lib(SHARED, &[])],
            Ok(&[CORE, SHARED]),
        ),
        (
            "DT_RUNPATH is for the program's own needs",
            vec![app(&["libcore.so"], &[NEW, APP]), lib(CORE, &["libshared.so"]), lib(SHARED, &[])],
            Err("libshared.so"),
        ),
        (
            "DT_RPATH is for those of its libraries too",
            vec![app(&["libcore.so"], &[OLD, APP]), lib(CORE, &["libshared.so"]), lib(SHARED, &[])],
            Ok(&[CORE, SHARED]),
        ),
        (
            "but not of one that has a DT_RUNPATH",
            vec![
                app(&["libcore.so"], &[OLD, APP]),
                lib(CORE, &["libshared.so"]).with("", &[NEW, "-rpath,/none"]),
                lib(SHARED, &[]),
            ],
            Err("libshared.so"),
        ),
        (
            "and again of what that one leads to",
            vec![
                app(&["libcore.so"], &[OLD, APP]),
                lib(CORE, &["libmid.so"]).with("", &[NEW, "-rpath,/opt"]),
                lib("opt/libmid.so", &["libshared.so"]),
                lib(SHARED, &[]),
            ],
            Ok(&[CORE, "opt/libmid.so", SHARED]),
        ),
        (
            "a soname satisfies, whatever the file is called",
            vec![
                app(&["libreal.so", "libuser.so"], &[]),
                lib("usr/lib/libreal.so", &[]).with("libother.so.1", &[]),
                lib("usr/lib/libuser.so", &["libother.so.1"]),
            ],
            Ok(&["usr/lib/libreal.so", "usr/lib/libuser.so"]),
        ),
        (
            "breadth first: of two of one name the one that is asked for first",
            vec![
                app(&["liba.so", "libb.so"], &[]),
                lib("usr/lib/liba.so", &["libtwin.so"]).with("", &[NEW, "-rpath,/opt/a"]),
                lib("usr/lib/libb.so", &["libtwin.so"]).with("", &[NEW, "-rpath,/opt/b"]),
                lib("opt/a/libtwin.so", &[]),
                lib("opt/b/libtwin.so", &[]),
            ],
            Ok(&["opt/a/libtwin.so", "usr/lib/liba.so", "usr/lib/libb.so"]),
        ),
        (
            "the program's needs come before those of its libraries",
            vec![
                app(&["liba.so", "libtwin.so"], &[NEW, "-rpath,/opt/b"]),
                lib("usr/lib/liba.so", &["libtwin.so"]).with("", &[NEW, "-rpath,/opt/a"]),
                lib("opt/a/libtwin.so", &[]),
                lib("opt/b/libtwin.so", &[]),
            ],
            Ok(&["opt/b/libtwin.so", "usr/lib/liba.so"]),
        ),
        (
            "tokens",
            vec![
                app(&["liba.so", "libb.so", "libc.so"], &[NEW, "-rpath,$ORIGIN/../a:${ORIGIN}/../b:/opt/$LIB"]),
                lib("usr/a/liba.so", &[]),
                lib("usr/b/libb.so", &[]),
                lib("opt/lib/x86_64-linux-gnu/libc.so", &[]),
            ],
            Ok(&["opt/lib/x86_64-linux-gnu/libc.so", "usr/a/liba.so", "usr/b/libb.so"]),
        ),
        (
            "a longer name is no token",
            vec![app(&["liba.so"], &[NEW, "-rpath,$ORIGINAL/../a:/opt/$LIBRARY"]), lib("usr/a/liba.so", &[])],
            Err("liba.so"),
        ),
        (
            "the default folders in their order",
            vec![
                app(&["liba.so"], &[]),
                lib("usr/lib/x86_64-linux-gnu/liba.so", &[]),
                lib("usr/lib/liba.so", &[]),
                lib("usr/lib64/liba.so", &[]),
            ],
            Ok(&["usr/lib/x86_64-linux-gnu/liba.so"]),
        ),
        ("no other folder", vec![app(&["liba.so"], &[]), lib("usr/local/lib/liba.so", &[])], Err("liba.so")),
        ("-z nodefaultlib", vec![app(&["liba.so"], &["-z,nodefaultlib"]), lib("usr/lib/liba.so", &[])], Err("liba.so")),
        (
            "a path is opened as it is, and then known by it",
            vec![
                app(&["/opt/liba.so", "libb.so"], &[]),
                lib("opt/liba.so", &[]),
                lib("usr/lib/libb.so", &["/opt/liba.so"]),
            ],
            Ok(&["opt/liba.so", "usr/lib/libb.so"]),
        ),
        ("nothing of that name", vec![app(&["libnone.so.1"], &[])], Err("libnone.so.1")),
        ("ld.so itself", vec![app(&["ld-linux-x86-64.so.2"], &[])], Ok(&[])),
    ];
    for (name, objects, expected) in cases {
        check(name, &project_with(&objects), expected);
    }
}

#[test]
fn a_linked_librarys_origin_is_where_the_link_lies() {
    if !have(&["cc", "chroot"]) {
        return;
    }
    let project = project_with(&[
        app(&["liba.so"], &["--enable-new-dtags", "-rpath,/opt/links"]),
        lib("opt/real/liba.so.1", &["libb.so"]).with("liba.so", &["--enable-new-dtags", "-rpath,$ORIGIN"]),
        lib("opt/links/libb.so", &[]),
        lib("opt/real/libb.so", &[]),
    ]);
    symlink("../real/liba.so.1", project.path("case/opt/links/liba.so")).expect("the link can be made");
    check("$ORIGIN", &project, Ok(&["opt/links/libb.so", "opt/real/liba.so.1"]));
}

#[test]
fn libraries_for_other_machines_are_passed_over_and_other_files_are_not() {
    if !have(&["cc", "chroot"]) {
        return;
    }
    // A 32-bit file, and one for ARM (e_ident and e_machine of elf(5)).
    for (at, byte) in [(4, 1), (18, 40)] {
        let project =
            project_with(&[app(&["liba.so"], &["-rpath,/opt"]), lib("opt/liba.so", &[]), lib("usr/lib/liba.so", &[])]);
        let mut bytes = std::fs::read(project.path("case/opt/liba.so")).expect("it was linked");
        bytes[at] = byte;
        project.write("case/opt/liba.so", bytes);
        check("another machine", &project, Ok(&["usr/lib/liba.so"]));
    }
    let project = project_with(&[app(&["liba.so"], &["-rpath,/opt"]), lib("usr/lib/liba.so", &[])]);
    project.write("case/opt/liba.so", "GROUP ( /usr/lib/liba.so ) is what only a linker understands, not a loader\n");
    let root = project.path("case").canonicalize().expect("it was made");
    let theirs = asked_ld_so(&root).expect_err("ld.so gives up");
    assert!(theirs.contains("/opt/liba.so: invalid ELF header"), "{theirs}");
    assert_eq!(asked_us(&project), Err("opt/liba.so".into()));
}

#[test]
fn the_cache_of_ld_so_is_looked_into() {
    if !have(&["cc", "chroot", "ldconfig"]) {
        return;
    }
    let project = project_with(&[
        app(&["liba.so.1", "libb.so.1"], &[]),
        lib("opt/lib/liba.so.1", &[]).with("liba.so.1", &[]),
        lib("opt/lib/libb.so.1", &[]).with("libb.so.1", &[]),
        lib("usr/lib/libb.so.1", &[]).with("libb.so.1", &[]),
    ]);
    project.write("case/etc/ld.so.conf", "/opt/lib\n");
    run("ldconfig", &["-X", "-r", text(&project.path("case"))], b"");
    project.edit("\"usr/bin/app\",", "\"usr/bin/app\", \"etc/ld.so.cache\",");
    let root = project.path("case").canonicalize().expect("it was made");
    let theirs = asked_ld_so(&root).expect("ld.so finds them");
    assert_eq!(theirs, BTreeSet::from(["opt/lib/liba.so.1".into(), "opt/lib/libb.so.1".into()]));
    let mut ours = asked_us(&project).expect("so do we");
    assert!(ours.remove("etc/ld.so.cache"));
    assert_eq!(ours, theirs);
}
