//! Lists of kernel modules: ours beside those of depmod and modprobe.

use crate::run;
use std::collections::BTreeMap;
use std::path::Path;
use testkit::need::have;

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
    use bootwright::kmod::{ListedModule, ModInfo, format_alias, format_dep, format_softdep, parse_modinfo};
    if !have(&["cc", "depmod", "modprobe"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("lib/modules/6.1.0-fake");
    std::fs::create_dir_all(folder.join("kernel")).expect("a folder");
    FAKES.iter().for_each(|fake| fake.compile(&folder));
    let root = dir.path().to_str().expect("UTF-8");
    run("depmod", &["-b", root, "6.1.0-fake"], b"");

    let infos: Vec<(String, String, ModInfo)> = FAKES
        .iter()
        .map(|fake| {
            let path = format!("kernel/{}.ko", fake.name);
            let bytes = std::fs::read(folder.join(&path)).expect("it was compiled");
            (fake.name.to_string(), path, parse_modinfo(&bytes).expect("it is whole"))
        })
        .collect();
    let listed: BTreeMap<String, ListedModule<'_>> =
        infos.iter().map(|(name, path, info)| (name.clone(), ListedModule { path, info })).collect();
    let theirs = |name: &str| std::fs::read_to_string(folder.join(name)).expect("depmod wrote it");
    let lines = |text: String| {
        let mut lines: Vec<String> = text.lines().filter(|l| !l.starts_with('#')).map(Into::into).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(format_dep(&listed)), lines(theirs("modules.dep")));
    assert_eq!(lines(format_alias(&listed)), lines(theirs("modules.alias")));
    assert_eq!(lines(format_softdep(&listed)), lines(theirs("modules.softdep")));

    // modprobe loads what is last in a line first.
    let shown = run("modprobe", &["--show-depends", "-d", root, "-S", "6.1.0-fake", "right"], b"");
    let shown = String::from_utf8(shown).expect("UTF-8");
    let order: Vec<&str> = shown.lines().filter_map(|line| line.trim().rsplit('/').next()).collect();
    assert_eq!(order, ["bottom.ko", "left.ko", "right.ko"]);
    assert!(format_dep(&listed).contains("kernel/right.ko: kernel/left.ko kernel/bottom.ko\n"));
}
