//! The modules that a build takes along for a name, beside those that modprobe would load; and aliases as modprobe
//! resolves them.

use crate::run;
use bootwright_contract::modalias::serves;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use testkit::need::have;
use testkit::project::Project;

/// `kernel/<name>.ko` with lines of `.modinfo`, what it exports and what it calls.
struct Module<'a> {
    name: &'a str,
    infos: &'a [&'a str],
    exports: &'a [&'a str],
    calls: &'a [&'a str],
}

const fn module<'a>(name: &'a str, infos: &'a [&'a str]) -> Module<'a> {
    Module { name, infos, exports: &[], calls: &[] }
}

impl Module<'_> {
    fn compile(&self, folder: &Path) {
        let quoted = |text: &str| text.replace('\\', "\\\\");
        let infos = self.infos.iter().enumerate().map(|(i, info)| {
            format!("static const char i{i}[] __attribute__((section(\".modinfo\"), used)) = \"{}\";\n", quoted(info))
        });
        let exports = self.exports.iter().enumerate().map(|(i, name)| {
            format!(
                "static const char e{i}[] __attribute__((section(\"__ksymtab_strings\"), used)) = \"{name}\";\n\
                 int {name}(void) {{ return 0; }}\n"
            )
        });
        let externs = self.calls.iter().map(|name| format!("extern int {name}(void);\n"));
        let calls: String = self.calls.iter().map(|name| format!("{name}();")).collect();
        let source: String = infos.chain(exports).chain(externs).collect();
        let source = source + &format!("int init_module(void) {{ {calls} return 0; }}\n");
        let out = folder.join(format!("{}.ko", self.name));
        run("cc", &["-x", "c", "-c", "-o", out.to_str().expect("UTF-8"), "-"], source.as_bytes());
    }
}

const MODULES: [Module<'_>; 10] = [
    module(
        "board-x",
        &["depends=", "softdep=ec pre: platform:gpio_a acpi:PNP0C09: post: symbol:sym_owner b_dash none_such"],
    ),
    module("gpio-amd", &["depends=", "alias=platform:gpio-a"]),
    module("ec", &["depends=", "alias=acpi*:PNP0C09:*"]),
    Module { name: "owner", infos: &["depends=base-x"], exports: &["sym_owner"], calls: &["sym_base"] },
    Module { name: "base-x", infos: &["depends="], exports: &["sym_base"], calls: &[] },
    module("b-dash", &["depends=", "softdep=pre: builtin_thing built-alias x:abc"]),
    module("ext", &["depends=", "alias=x:a*", "alias=two-for-one"]),
    module("both", &["depends=", "alias=two_for_one"]),
    module("other", &["depends=", "alias=both", "alias=lib*"]),
    module("shadow", &["depends=", "alias=shadowed"]),
];

/// A kernel with those modules, two that are built in, and depmod's lists.
fn project() -> Project {
    let project = Project::new();
    let folder = project.path("kernel/lib/modules/1.0");
    std::fs::remove_dir_all(folder.join("kernel")).expect("the project has modules of its own");
    std::fs::create_dir_all(folder.join("kernel")).expect("the folder can be made");
    MODULES.iter().for_each(|module| module.compile(&folder.join("kernel")));
    let builtin = "kernel/fs/squashfs.ko\nkernel/fs/builtin-thing.ko\nkernel/fs/shadowed.ko\n";
    project.write("kernel/lib/modules/1.0/modules.builtin", builtin);
    project.write("kernel/lib/modules/1.0/modules.builtin.modinfo", "builtin_thing.alias=built-alias\0");
    project.write("kernel/lib/modules/1.0/modules.order", "");
    run("depmod", &["-b", project.path("kernel").to_str().expect("UTF-8"), "1.0"], b"");
    project.edit("early = [\"first\"]\n", "");
    project
}

/// The files that modprobe would load for a name; `None` when it knows no such name.
fn asked_modprobe(project: &Project, name: &str) -> Option<BTreeSet<String>> {
    let root = project.path("kernel");
    let output = Command::new("modprobe").arg("-d").arg(root).args(["-S", "1.0", "--show-depends", name]).output();
    let output = output.expect("it starts");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let file = |line: &str| Some(line.strip_prefix("insmod ")?.trim().rsplit('/').next()?.to_string());
    output.status.success().then(|| said.lines().filter_map(file).collect())
}

/// The modules of the image when the recipe asks for a name.
fn asked_us(project: &Project, name: &str, asked_before: &str) -> Option<BTreeSet<String>> {
    project.edit(&format!("modules = [\"{asked_before}\"]"), &format!("modules = [\"{name}\"]"));
    let built = project.build(&[]);
    if built.code == Some(2) {
        built.says(&["kernel 1.0"]);
        return None;
    }
    built.succeeds();
    let manifest: serde_json::Value = serde_json::from_str(&project.read("out/tiny/manifest.json")).expect("JSON");
    let files = manifest["files"].as_array().expect("a list").iter().filter_map(|file| file["path"].as_str());
    let modules = files.filter(|path| path.ends_with(".ko"));
    Some(modules.map(|path| path.rsplit('/').next().unwrap_or(path).to_string()).collect())
}

#[test]
fn every_kind_of_name_brings_what_modprobe_loads() {
    if !have(&["cc", "depmod", "modprobe"]) {
        return;
    }
    let project = project();
    let mut asked_before = "second";
    for (name, expected) in [
        ("board_x", Some("b-dash base-x board-x ec ext gpio-amd owner")),
        ("board-x", Some("b-dash base-x board-x ec ext gpio-amd owner")),
        ("platform:gpio-a", Some("gpio-amd")),
        ("platform:gpio_a", Some("gpio-amd")),
        ("symbol:sym_owner", Some("base-x owner")),
        ("symbol:sym_none", None),
        ("x:abc", Some("ext")),
        ("x:bc", None),
        // A module's name comes before an alias, and an alias before what is built in.
        ("both", Some("both")),
        ("shadowed", Some("shadow")),
        ("two-for-one", Some("both ext")),
        ("builtin-thing", Some("")),
        ("builtin_thing", Some("")),
        ("built_alias", Some("")),
        ("library", Some("other")),
        ("none", None),
    ] {
        let files = |names: &str| names.split_whitespace().map(|name| format!("{name}.ko")).collect::<BTreeSet<_>>();
        let expected = expected.map(files);
        assert_eq!(asked_modprobe(&project, name), expected, "{name}: modprobe");
        assert_eq!(asked_us(&project, name, asked_before), expected, "{name}: bootwright");
        asked_before = name;
    }
}

/// Patterns at the edges of what depmod takes and libkmod matches, each with texts.
const ALIASES: [(&str, &[&str]); 14] = [
    ("pci:v00008086d000010D3sv*sd*bc*sc*i*", &["pci:v00008086d000010D3sv1sd2bc3sc4i5", "pci:v00008086d000010D4sv1"]),
    (r"a\*b", &["a*b", r"a\xb", r"a\*b", "axb"]),
    (r"p:*\*q", &["p:1*q", "p:1xq", r"p:1\*q"]),
    (r"j:[a-c]*\-k", &["j:b1-k", "j:b1_k", r"j:b1\_k", "j:d1-k"]),
    (r"k:*\", &[r"k:a\", "k:a"]),
    ("o[b", &["o[b", "ob"]),
    ("x*o[b", &["xo[b"]),
    ("l:*]x", &["l:1]x"]),
    ("i:*-e[+-]z", &["i:1-e+z", "i:1-e-z", "i:1_e_z", "i:1_e-z"]),
    ("c:*[[:digit:]]", &["c:x7", "c:x:]"]),
    ("n-[!a]*n", &["n_bn", "n-bn", "n-an"]),
    ("q:*[^a]n", &["q:n", "q:bn", "q:an"]),
    ("s:[z-a]*", &["s:b", "s:z"]),
    ("t:?x", &["t:ax", "t:x", "t:-x"]),
];

#[test]
fn aliases_serve_what_modprobe_says() {
    if !have(&["cc", "depmod", "modprobe"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("lib/modules/1.0/kernel");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    // The module's name says which alias served.
    for (i, (alias, _)) in ALIASES.iter().enumerate() {
        module(&format!("m{i}"), &[&format!("alias={alias}")]).compile(&folder);
    }
    let root = dir.path().to_str().expect("UTF-8");
    run("depmod", &["-b", root, "1.0"], b"");
    let mut served = 0;
    for (_, texts) in &ALIASES {
        for text in *texts {
            let output = Command::new("modprobe").args(["-d", root, "-S", "1.0", "-R", "--", text]).output();
            let said = String::from_utf8(output.expect("it starts").stdout).expect("UTF-8");
            let theirs: BTreeSet<String> = said.lines().map(Into::into).collect();
            let ours = ALIASES.iter().enumerate().filter(|(_, (alias, _))| serves(alias, text));
            assert_eq!(ours.map(|(i, _)| format!("m{i}")).collect::<BTreeSet<_>>(), theirs, "{text}");
            served += theirs.len();
        }
    }
    assert!(served >= 12, "modprobe resolves some of them: {served}");
}
