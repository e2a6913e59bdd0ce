use super::*;
use crate::assembly::TreeBuild;
use crate::entry::{Entry, Kind};
use crate::recipe::{Firmware, SegmentName};
use crate::tree::Reason;
use crate::tree::fixture::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A relocatable ELF file with a `.modinfo` section.
fn ko(fields: &[&str]) -> Vec<u8> {
    let modinfo: Vec<u8> = fields.iter().flat_map(|f| [f.as_bytes(), &[0]].concat()).collect();
    let names = b"\0.modinfo\0.shstrtab\0";
    let table = (64 + modinfo.len() + names.len()).next_multiple_of(8) as u64;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 0, table] {
        out.extend(word.to_le_bytes());
    }
    for half in [0u16, 0, 64, 0, 0, 64, 3, 2] {
        out.extend(half.to_le_bytes());
    }
    out.extend(&modinfo);
    out.extend(names);
    out.resize(table as usize, 0);
    let mut section = |name: u32, kind: u32, at: u64, size: u64| {
        out.extend(name.to_le_bytes());
        out.extend(kind.to_le_bytes());
        for word in [0, 0, at, size, 0, 1, 0] {
            out.extend(u64::to_le_bytes(word));
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, 64, modinfo.len() as u64);
    section(10, 3, 64 + modinfo.len() as u64, names.len() as u64);
    out
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 1).unwrap()
}

fn module(path: &str, fields: &[&str]) -> Entry {
    let bytes = if path.ends_with(".xz") { xz(&ko(fields)) } else { ko(fields) };
    file(&format!("usr/lib/modules/{RELEASE}/kernel/{path}"), bytes, 0o644)
}

fn fixture() -> Fixture {
    let mut f = Fixture::new();
    f.give(
        "kernel",
        vec![
            module("fs/erofs/erofs.ko.xz", &["depends=libcrc32c", "alias=fs-erofs"]),
            module("lib/libcrc32c.ko.xz", &["depends=", "softdep=pre: crc32c"]),
            module("crypto/crc32c_generic.ko.xz", &["alias=crypto-crc32c", "alias=crc32c"]),
            module("arch/x86/crypto/crc32c-intel.ko.xz", &["alias=crc32c", "alias=cpu:type:x86,*"]),
            module(
                "drivers/net/net-a.ko.xz",
                &["depends=mii,base-lib", "alias=pci:v00008086d000010D3sv*sd*bc*sc*i*", "firmware=a/fw.bin"],
            ),
            module(
                "drivers/net/b.ko.xz",
                &["depends=base_lib", "alias=pci:v00008086d00001533sv*sd*bc*sc*i*", "softdep=post: none_such"],
            ),
            module("drivers/net/mii.ko.xz", &["depends=base-lib"]),
            module("lib/base_lib.ko", &[]),
            file(
                &format!("usr/lib/modules/{RELEASE}/modules.builtin"),
                "kernel/fs/ext4/ext4.ko\nkernel/lib/x-y.ko\n",
                0o644,
            ),
            file(
                &format!("usr/lib/modules/{RELEASE}/modules.builtin.modinfo"),
                "ext4.alias=fs-ext3\0virtio.alias=pci:v00001AF4d*\0",
                0o644,
            ),
        ],
    );
    f
}

fn modules(build: &TreeBuild, segment: SegmentName) -> Vec<String> {
    let paths = build.tree.segment(segment).filter(|e| matches!(e.reason, Reason::Module { .. }));
    paths.map(|e| e.entry.path.split("/kernel/").nth(1).unwrap().to_string()).collect()
}

fn text(build: &TreeBuild, path: &str) -> String {
    let Some(Kind::File(body)) = build.tree.find(path).next().map(|e| &e.entry.kind) else { panic!("no {path}") };
    String::from_utf8(body.read_start(1 << 20).unwrap()).unwrap()
}

#[test]
fn dependencies_and_softdeps_by_alias_come_along() {
    let mut f = fixture();
    f.recipe.kernel.early = vec![request("erofs"), request("ext4"), request("x_y")];
    f.recipe.kernel.modules = vec![request("net_a"), request("erofs")];
    f.recipe.kernel.load = vec![request("b"), request("libcrc32c")];
    let build = f.build().unwrap();
    let boot = ["arch/x86/crypto/crc32c-intel.ko", "crypto/crc32c_generic.ko", "fs/erofs/erofs.ko", "lib/libcrc32c.ko"];
    assert_eq!(modules(&build, SegmentName::Boot), boot);
    let root = ["drivers/net/b.ko.xz", "drivers/net/mii.ko.xz", "drivers/net/net-a.ko.xz", "lib/base_lib.ko"];
    assert_eq!(modules(&build, SegmentName::Root), root, "nothing that is in the boot segment");
    assert_eq!(build.kernel.early, ["erofs"]);
    assert_eq!(build.kernel.load, ["b"]);
    assert_eq!(build.kernel.release, RELEASE);

    let file = |name: &str| text(&build, &format!("usr/lib/modules/{RELEASE}/{name}"));
    assert_eq!(
        file("modules.dep"),
        "kernel/drivers/net/b.ko.xz: kernel/lib/base_lib.ko\n\
         kernel/drivers/net/mii.ko.xz: kernel/lib/base_lib.ko\n\
         kernel/drivers/net/net-a.ko.xz: kernel/drivers/net/mii.ko.xz kernel/lib/base_lib.ko\n\
         kernel/lib/base_lib.ko:\n"
    );
    assert!(file("modules.alias").contains("\nalias pci:v00008086d000010D3sv*sd*bc*sc*i* net_a\n"));
    assert_eq!(file("modules.softdep").lines().nth(1), Some("softdep b post: none_such"));
    // What is loaded before the root is there counts as present in it, with what it needs.
    let builtin = file("modules.builtin");
    for path in ["fs/ext4/ext4", "fs/erofs/erofs", "lib/libcrc32c", "crypto/crc32c_generic"] {
        assert!(builtin.contains(&format!("kernel/{path}.ko\n")), "{path}: {builtin}");
    }
    assert!(!text(&build, &format!("lib/modules/{RELEASE}/modules.builtin")).contains("erofs"), "it is a file there");
    let sums = file("modules.sums");
    let of_mii = "kernel/drivers/net/mii.ko.xz";
    let Some(Kind::File(body)) =
        build.tree.find(&format!("usr/lib/modules/{RELEASE}/{of_mii}")).next().map(|e| &e.entry.kind)
    else {
        panic!("no {of_mii}")
    };
    assert_eq!(sums.lines().nth(1), Some(format!("{} {of_mii}", body.xxh64().unwrap()).as_str()), "{sums}");
    assert_eq!(sums.lines().count(), root.len());
    let lists: Vec<&str> = build
        .tree
        .segment(SegmentName::Root)
        .filter_map(|e| e.entry.path.rsplit_once("/modules."))
        .map(|(_, list)| list)
        .collect();
    assert_eq!(
        lists,
        ["alias", "alias.bin", "builtin", "builtin.alias.bin", "builtin.bin", "dep", "dep.bin", "softdep", "sums"]
    );
    let early = text(&build, &format!("lib/modules/{RELEASE}/modules.dep"));
    assert!(early.contains("kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n"), "{early}");
    assert!(text(&build, &format!("lib/modules/{RELEASE}/modules.sums")).contains(" kernel/fs/erofs/erofs.ko\n"));
    let softdep = text(&build, &format!("lib/modules/{RELEASE}/modules.softdep"));
    assert!(softdep.contains("softdep libcrc32c pre: crc32c\n"), "{softdep}");
}

#[test]
fn modules_are_listed_as_the_kernels_build_linked_them() {
    let mut f = fixture();
    let order = "kernel/drivers/net/net-a.ko\nkernel/lib/base_lib.ko\nkernel/drivers/net/b.ko\n";
    f.give("kernel", vec![file(&format!("usr/lib/modules/{RELEASE}/modules.order"), order, 0o644)]);
    f.recipe.kernel.modules = vec![request("net_a"), request("b")];
    let build = f.build().unwrap();
    let dep = text(&build, &format!("usr/lib/modules/{RELEASE}/modules.dep"));
    let names: Vec<&str> = dep.lines().filter_map(|line| line.split_once(".ko")?.0.rsplit('/').next()).collect();
    assert_eq!(names, ["net-a", "base_lib", "b", "mii"], "what the list does not name comes last");
    let alias = text(&build, &format!("usr/lib/modules/{RELEASE}/modules.alias"));
    let names: Vec<&str> = alias.lines().skip(1).filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(names, ["net_a", "b"]);
}

/// Each as `modprobe --show-depends` finds it; the crosscheck suite asks modprobe itself.
#[test]
fn softdeps_and_requests_may_be_any_name_that_kmod_resolves() {
    let mut f = fixture();
    let path = |name: &str| format!("drivers/platform/{name}.ko.xz");
    let more = [
        module(
            &path("board"),
            &["softdep=none-such pre: platform:gpio-a acpi:PNP0C09: post: symbol:sym_of_c weak", "depends="],
        ),
        module(&path("gpio-amd"), &["alias=platform:gpio_a"]),
        module(&path("c"), &["alias=platform:other"]),
        module(&path("ec"), &["alias=acpi*:PNP0C09:*"]),
        module(&path("weak"), &["weakdep=b-new fs-erofs none-such"]),
        module(&path("b_new"), &["softdep=pre: ext4 x-y pci:v00001AF4d00001000 none_such"]),
    ];
    f.give("kernel", more.into());
    f.recipe.kernel.modules = vec![request("board")];
    let found = modules(&f.build().unwrap(), SegmentName::Root);
    let expected = ["b_new", "board", "ec", "gpio-amd", "weak"].map(path);
    assert!(expected.iter().all(|path| found.contains(path)), "{found:?}");
    assert!(found.contains(&"fs/erofs/erofs.ko.xz".into()), "by an alias: {found:?}");
    assert!(!found.contains(&path("c")), "nothing exports the symbol: {found:?}");

    f.recipe.kernel.modules = vec![request("platform:gpio-a"), request("fs-ext3"), request("ext4"), request("x-y")];
    f.recipe.kernel.load = vec![request("platform:gpio_a"), request("b-new")];
    let build = f.build().unwrap();
    assert_eq!(modules(&build, SegmentName::Root), ["b_new", "gpio-amd"].map(path));
    assert_eq!(build.kernel.load, ["gpio_amd", "b_new"]);
}

#[test]
fn an_early_module_is_unpacked() {
    let mut f = fixture();
    f.recipe.kernel.early = vec![request("mii")];
    let build = f.build().unwrap();
    let entry = build.tree.find(&format!("lib/modules/{RELEASE}/kernel/drivers/net/mii.ko")).next().unwrap();
    let Kind::File(body) = &entry.entry.kind else { panic!("no file") };
    assert_eq!(body.read_start(1 << 20).unwrap(), ko(&["depends=base-lib"]));
    assert_eq!(
        modules(&f.build().unwrap(), SegmentName::Boot),
        modules(&build, SegmentName::Boot),
        "from the cache too"
    );
}

#[test]
fn patterns_match_aliases_and_devices() {
    let mut f = fixture();
    f.recipe.kernel.modules = vec![request("pci:v00008086d*")];
    let found = modules(&f.build().unwrap(), SegmentName::Root);
    assert!(
        found.contains(&"drivers/net/b.ko.xz".into()) && found.contains(&"drivers/net/net-a.ko.xz".into()),
        "{found:?}"
    );
    f.recipe.kernel.modules = vec![request("pci:v00008086d00001533sv00001AF4sd00000001bc02sc00i00")];
    assert_eq!(modules(&f.build().unwrap(), SegmentName::Root), ["drivers/net/b.ko.xz", "lib/base_lib.ko"]);
    f.recipe.kernel.modules = vec![request("pci:v00001AF4d00001000*")];
    assert!(modules(&f.build().unwrap(), SegmentName::Root).is_empty(), "built in");
    f.recipe.kernel.modules = vec![request("usb:v1234*")];
    assert!(
        f.error().contains("test.toml:40: no module of kernel 6.12.0-test has an alias like `usb:v1234*`"),
        "{}",
        f.error()
    );
}

#[test]
fn what_machines_ask_for_comes_along_and_the_rest_is_listed() {
    let mut f = fixture();
    let devices = [
        "pci:v00008086d000010D3sv00001AF4sd00000001bc02sc00i00",
        "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
        "pci:v0000BEEFd00000001sv00000000sd00000000bc02sc00i00",
        "fs-erofs",
    ];
    f.recipe.kernel.modaliases = devices.iter().map(|device| request(device)).collect();
    let build = f.build().unwrap();
    assert!(modules(&build, SegmentName::Boot).is_empty(), "the root is in memory");
    let drivers = ["drivers/net/mii.ko.xz", "drivers/net/net-a.ko.xz", "lib/base_lib.ko"];
    let root = modules(&build, SegmentName::Root);
    assert!(drivers.iter().all(|d| root.iter().any(|m| m == d)), "{root:?}");
    let unserved: Vec<&str> = build.kernel.unserved.iter().map(|u| u.modalias.as_str()).collect();
    assert_eq!(unserved, [devices[2]], "neither a module nor the kernel itself serves it");
    assert_eq!(build.kernel.unserved[0].origin, "test.toml:40");

    f.recipe.kernel.netroot = Some(Vec::new());
    let build = f.build().unwrap();
    let boot = ["drivers/net/mii.ko", "drivers/net/net-a.ko", "lib/base_lib.ko"];
    assert_eq!(modules(&build, SegmentName::Boot), boot, "only network drivers, with what they need");
    assert_eq!(modules(&build, SegmentName::Root), root, "the root is the same");
}

#[test]
fn a_network_root_changes_the_boot_segment_only() {
    let mut f = fixture();
    f.recipe.kernel.early = vec![request("erofs")];
    f.recipe.kernel.modules = vec![request("net_a")];
    let ram = f.build().unwrap();
    f.recipe.kernel.netroot = Some(vec![request("b"), request("net_a")]);
    let network = f.build().unwrap();
    assert_eq!(modules(&network, SegmentName::Root), modules(&ram, SegmentName::Root));
    assert_eq!(network.kernel.early, ram.kernel.early, "the others wait for their devices");
    let boot = modules(&network, SegmentName::Boot);
    for module in ["drivers/net/b.ko", "drivers/net/net-a.ko", "drivers/net/mii.ko", "fs/erofs/erofs.ko"] {
        assert!(boot.iter().any(|m| m == module), "{module} in {boot:?}");
    }
    let alias = text(&network, &format!("lib/modules/{RELEASE}/modules.alias"));
    assert!(alias.contains(" net_a\n"), "coldplug finds it: {alias}");
}

#[test]
fn what_does_not_exist_is_named() {
    let mut f = fixture();
    f.recipe.kernel.modules = vec![request("libcrc32")];
    let error = f.error();
    assert!(error.contains("test.toml:40: kernel 6.12.0-test has no module `libcrc32`"), "{error}");
    assert!(error.contains("did you mean `libcrc32c`?"), "{error}");
    f.recipe.kernel.modules = vec![request("mii")];
    f.recipe.components[0].exclude = vec!["**/base_lib.ko".into()];
    assert!(f.error().contains("module `mii` depends on `base_lib`"), "{}", f.error());

    let mut f = fixture();
    f.give("kernel", vec![file("boot/vmlinuz-other", "MZ", 0o644)]);
    assert!(f.error().contains("component `kernel` holds 2 kernels"), "{}", f.error());
    f.recipe.kernel.component = "kernal".into();
    assert!(f.error().contains("kernel component `kernal` does not exist"), "{}", f.error());
}

#[test]
fn declared_firmware_is_there_or_named() {
    let mut f = fixture();
    f.recipe.kernel.modules = vec![request("net_a")];
    f.build().expect("no firmware is asked for");
    f.recipe.kernel.firmware = Firmware::Declared;
    assert!(
        f.error().contains("a firmware file that a module declares is in no component: `a/fw.bin` (net_a)"),
        "{}",
        f.error()
    );
    f.recipe.kernel.firmware_skip = vec!["a/*".into()];
    f.build().expect("it does without");
    f.recipe.kernel.firmware_skip = Vec::new();
    let mut firmware = component("fw", &[]);
    firmware.only_needed = true;
    let pool =
        vec![link("lib/firmware/a/fw.bin.xz", "../b/real.bin.xz"), file("lib/firmware/b/real.bin.xz", "F", 0o644)];
    f.add(firmware, pool);
    let tree = f.build().unwrap().tree;
    assert_eq!(
        tree.find("usr/lib/firmware/b/real.bin.xz").next().unwrap().reason,
        Reason::Firmware { by: "net_a".into() }
    );
    assert!(tree.find("usr/lib/firmware/a/fw.bin.xz").next().is_some());
    f.recipe.kernel.early = vec![request("net_a")];
    let tree = f.build().unwrap().tree;
    let early = tree.entries.get(&(SegmentName::Boot, "lib/firmware/a/fw.bin.xz".into())).unwrap();
    assert!(matches!(early.entry.kind, Kind::File(_)));
}

#[test]
fn a_damaged_module_is_named() {
    for bytes in [b"no ELF".to_vec(), xz(b"no ELF"), xz(&ko(&["depends="]))[..50].to_vec(), Vec::new()] {
        let mut f = Fixture::new();
        f.give("kernel", vec![file(&format!("usr/lib/modules/{RELEASE}/kernel/x.ko.xz"), bytes, 0o644)]);
        f.recipe.kernel.modules = vec![request("x")];
        let error = f.build().unwrap_err().to_string();
        assert!(error.contains("module file `kernel/x.ko.xz` is damaged"), "{error}");
    }
}

#[test]
fn dependencies_come_in_an_order_in_which_they_can_be_loaded() {
    let info =
        |depends: &[&str]| ModInfo { depends: depends.iter().map(|d| d.to_string()).collect(), ..ModInfo::default() };
    let infos: BTreeMap<&str, ModInfo> = BTreeMap::from([
        ("top", info(&["left", "right"])),
        ("left", info(&["bottom"])),
        ("right", info(&["left", "bottom"])),
        ("bottom", info(&[])),
        ("loop", info(&["loop"])),
    ]);
    let listed = infos.iter().map(|(name, info)| (name.to_string(), ListedModule { path: name, info, place: 0 }));
    let dep = list_dep(&listed.collect()).text;
    assert!(dep.contains("top: right left bottom\n"), "loaded from the last to the first: {dep}");
    assert!(dep.contains("loop:\n"), "{dep}");
}

proptest! {
    #[test]
    fn damaged_modules_never_panic(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..12), cut in 1usize..400) {
        let mut bytes = ko(&["depends=a,b", "alias=x*", "firmware=f"]);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        let _ = parse_modinfo(&bytes);
    }
}
