//! Lists of kernel modules: ours beside those of depmod and modprobe.

use crate::run;
use bootwright::kmod::{
    ListedModule, ListedModules, ModInfo, format_softdep, index_builtin_alias, list_alias, list_builtin, list_dep,
    parse_modinfo,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::process::Command;
use testkit::folders::new_folder;
use testkit::image::Image;
use testkit::need::have;
use testkit::worker::unpack_root;

/// A module as depmod sees it: what it says of itself, what it exports, what it needs.
struct FakeModule {
    name: &'static str,
    needs: &'static [&'static str],
    more_info: &'static [&'static str],
}

const FAKES: [FakeModule; 5] = [
    FakeModule {
        name: "top",
        needs: &["left", "right"],
        more_info: &["softdep=pre: bottom post: alone", "alias=pci:v1d2*"],
    },
    FakeModule { name: "left", needs: &["bottom"], more_info: &["alias=net-pf-7"] },
    FakeModule { name: "right", needs: &["left", "bottom"], more_info: &[] },
    FakeModule { name: "bottom", needs: &[], more_info: &["alias=crypto-x", "alias=x"] },
    FakeModule { name: "alone", needs: &[], more_info: &[] },
];

impl FakeModule {
    /// Compiles it to `folder/kernel/<name>.ko`.
    fn compile(&self, folder: &Path) {
        let mut infos = vec![format!("depends={}", self.needs.join(","))];
        infos.extend(self.more_info.iter().map(|s| s.to_string()));
        let name = self.name;
        let mut source = String::new();
        for (i, info) in infos.iter().enumerate() {
            source += &format!("static const char i{i}[] __attribute__((section(\".modinfo\"), used)) = \"{info}\";\n");
        }
        source +=
            &format!("static const char e[] __attribute__((section(\"__ksymtab_strings\"), used)) = \"sym_{name}\";\n");
        let calls: String = self.needs.iter().map(|need| format!("sym_{need}();")).collect();
        let externs: String = self.needs.iter().map(|need| format!("extern int sym_{need}(void);\n")).collect();
        source += &format!("{externs}int sym_{name}(void) {{ {calls} return 0; }}\n");
        let out = folder.join(format!("kernel/{name}.ko"));
        run("cc", &["-x", "c", "-c", "-o", out.to_str().expect("UTF-8"), "-"], source.as_bytes());
    }
}

#[test]
fn depmod_and_modprobe_agree_about_modules() {
    if !have(&["cc", "depmod", "modprobe"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    let (their_lists, our_lists) = (theirs.join("lib/modules/1.0"), ours.join("lib/modules/1.0"));
    std::fs::create_dir_all(their_lists.join("kernel")).expect("a folder");
    FAKES.iter().for_each(|fake| fake.compile(&their_lists));
    let order: String = FAKES.iter().map(|fake| format!("kernel/{}.ko\n", fake.name)).collect();
    std::fs::write(their_lists.join("modules.order"), order).expect("it is written");
    std::fs::write(their_lists.join("modules.builtin"), "kernel/built-in.ko\n").expect("it is written");
    run("depmod", &["-b", theirs.to_str().expect("UTF-8"), "1.0"], b"");
    std::fs::create_dir_all(&our_lists).expect("a folder");
    std::os::unix::fs::symlink(their_lists.join("kernel"), our_lists.join("kernel")).expect("a link");
    write_lists(&their_lists, &our_lists);

    // The host's modprobe takes from our indexes what it takes from depmod's.
    let names = "top right left bottom alone net-pf-7 net_pf_7 pci:v1d2sv3 crypto-x x built_in y";
    for name in names.split(' ') {
        assert_eq!(show_depends(&ours, name), show_depends(&theirs, name), "{name}");
        assert_eq!(show_depends(&ours, name).0, Some(i32::from(name == "y")), "{name}");
    }
    assert_eq!(show_depends(&ours, "early-one"), (Some(0), "builtin early_one\n".into()));
    // It loads what is last in a line first.
    let (_, shown) = show_depends(&ours, "right");
    let order: Vec<&str> = shown.lines().filter_map(|line| line.trim().rsplit('/').next()).collect();
    assert_eq!(order, ["bottom.ko", "left.ko", "right.ko"]);
}

/// Writes what modprobe reads of ours, whose texts have to be depmod's.
fn write_lists(theirs: &Path, ours: &Path) {
    let info = |fake: &FakeModule| {
        let path = format!("kernel/{}.ko", fake.name);
        let bytes = std::fs::read(theirs.join(&path)).expect("it was compiled");
        (path, parse_modinfo(&bytes).expect("it is whole"))
    };
    let infos: Vec<(String, ModInfo)> = FAKES.iter().map(info).collect();
    let listed = infos.iter().enumerate().map(|(place, (path, info))| ListedModule { path, info, place });
    let listed: ListedModules<'_> = FAKES.iter().map(|fake| fake.name.to_string()).zip(listed).collect();
    let (dep, alias, softdep) = (list_dep(&listed), list_alias(&listed), format_softdep(&listed));
    let builtin = list_builtin("kernel/built-in.ko\n", ["kernel/fs/early-one.ko"].into_iter());
    let text = |name: &str| std::fs::read_to_string(theirs.join(name)).expect("depmod wrote it");
    assert_eq!(dep.text, text("modules.dep"));
    assert_eq!(alias.text, text("modules.alias"));
    assert_eq!(softdep, text("modules.softdep"));
    for (name, bytes) in [
        ("modules.dep.bin", dep.index()),
        ("modules.alias.bin", alias.index()),
        ("modules.builtin.bin", builtin.index()),
        ("modules.softdep", softdep.into_bytes()),
    ] {
        std::fs::write(ours.join(name), bytes).expect("it is written");
    }
}

/// Status and words of the host's modprobe about a name.
fn show_depends(root: &Path, name: &str) -> (Option<i32>, String) {
    let output = Command::new("modprobe").arg("-d").arg(root).args(["-S", "1.0", "--show-depends", name]).output();
    let output = output.expect("it starts");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code(), said.replace(root.to_str().expect("UTF-8"), ""))
}

/// Debian's modules as they are, what depmod reads beside them, and the kmod that Debian has for that kernel.
const DEBIAN: &str = r#"
[kernel]
strip = false
modules = ["@nic-all", "@cni", "@csi", "@storage"]
[root]
image = "squashfs"
[[component]]
name = "kernel"
paths = ["boot/vmlinuz-*", "usr/lib/modules/*/modules.order", "usr/lib/modules/*/modules.builtin.modinfo"]
[[component]]
name = "kmod"
deb = { suite = "${suite}", packages = ["kmod"] }
paths = ["usr/bin/kmod"]
[budget]
boot_files_mb = 200
ram_mib = 1024
"#;

/// Trees as a build leaves them: the root of an image of [`DEBIAN`], and its release.
fn debian() -> (tempfile::TempDir, String) {
    let image = Image::build_variant("kmod", "base", DEBIAN, &[]);
    let dir = new_folder();
    unpack_root(&image.dir(), dir.path(), &[]);
    let modules = std::fs::read_dir(dir.path().join("tree/usr/lib/modules")).expect("it has modules");
    let release = modules.map(|entry| entry.expect("it can be read").file_name()).next().expect("there is one kernel");
    (dir, release.into_string().expect("UTF-8"))
}

/// A program of kmod, from the image and with its libraries.
fn kmod(tree: &Path, program: &str, args: &[&str]) {
    let loader = tree.join("usr/lib64/ld-linux-x86-64.so.2").display().to_string();
    let libraries = tree.join("usr/lib/x86_64-linux-gnu").display().to_string();
    let kmod = tree.join("usr/bin/kmod").display().to_string();
    run(&loader, &[&["--library-path", &libraries, "--argv0", program, &kmod], args].concat(), b"");
}

#[test]
fn indexes_are_those_of_debians_depmod_byte_for_byte() {
    if !have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    let (dir, release) = debian();
    let tree = dir.path().join("tree");
    let ours =
        |list: &str| std::fs::read(tree.join("usr/lib/modules").join(&release).join(list)).expect("it is in the image");
    // Not that of aliases of what is built in: ours has those of modules that the initrd loads too.
    let lists =
        ["dep", "alias", "softdep", "dep.bin", "alias.bin", "builtin.bin"].map(|list| format!("modules.{list}"));
    let before: Vec<Vec<u8>> = lists.iter().map(|list| ours(list)).collect();
    kmod(&tree, "depmod", &["-b", tree.to_str().expect("UTF-8"), &release]);
    for (list, before) in lists.iter().zip(before) {
        assert!(before == ours(list), "{list}: {} bytes, depmod has {}", before.len(), ours(list).len());
    }
    assert!(ours("modules.alias.bin").len() > 50_000, "it has aliases to compare");
    random_names_are_indexed_as_by_depmod(&tree, dir.path());
}

/// Names and aliases that share beginnings, end within each other, and have what libkmod writes otherwise.
fn random_names_are_indexed_as_by_depmod(tree: &Path, dir: &Path) {
    let lists = dir.join("random/lib/modules/1.0");
    std::fs::create_dir_all(lists.join("kernel")).expect("a folder");
    let mut random = TestRunner::deterministic();
    for _ in 0..20 {
        let names = prop::collection::vec("[ab_-]{1,9}", 1..60).new_tree(&mut random).expect("no filter").current();
        let aliases =
            prop::collection::vec(r"([a-c]|-|_|\*|\?|:|\[[a-c]-[a-c-]\]|\[|\]){1,9}", 60).new_tree(&mut random);
        let aliases = aliases.expect("no filter").current();
        let builtin: String = names.iter().map(|name| format!("kernel/x/{name}.ko\n")).collect();
        let pairs: Vec<(String, &str)> =
            names.iter().map(|name| name.replace('-', "_")).zip(aliases.iter().map(String::as_str)).collect();
        let modinfo: String = pairs.iter().map(|(name, alias)| format!("{name}.alias={alias}\0")).collect();
        std::fs::write(lists.join("modules.builtin"), &builtin).expect("it is written");
        std::fs::write(lists.join("modules.builtin.modinfo"), &modinfo).expect("it is written");
        kmod(tree, "depmod", &["-b", dir.join("random").to_str().expect("UTF-8"), "1.0"]);
        let theirs = |list: &str| std::fs::read(lists.join(list)).expect("depmod wrote it");
        assert_eq!(list_builtin(&builtin, [].into_iter()).index(), theirs("modules.builtin.bin"), "{builtin}");
        let pairs = pairs.iter().map(|(name, alias)| (name.as_str(), *alias));
        assert_eq!(index_builtin_alias(pairs), theirs("modules.builtin.alias.bin"), "{modinfo:?}");
    }
}
