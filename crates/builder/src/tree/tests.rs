use super::fixture::*;
use super::*;
use crate::entry::{Body, Kind};
use crate::local::parse_stated;
use crate::recipe::{InlineBody, InlineFile, Overlay};
use bootwright_contract::{StateFolder, StatePlace, Tmpfs};
use std::os::unix::fs::{PermissionsExt, symlink};

fn inline(path: &str, body: InlineBody, mode: u32, segment: SegmentName) -> InlineFile {
    InlineFile { origin: origin(70), changes: Vec::new(), path: path.into(), body, mode, uid: 0, gid: 0, segment }
}

#[test]
fn globs_choose_and_parents_are_completed() {
    let mut f = Fixture::new();
    let pool = || {
        vec![
            file("usr/bin/a", "a", 0o755),
            file("usr/bin/sub/b", "b", 0o755),
            file("usr/share/doc/a/copyright", "c", 0o644),
            file("etc/a.conf", "d", 0o644),
            file("etc/a.d/x", "e", 0o644),
        ]
    };
    f.add(component("a", &["usr/bin/*", "etc/a.d"]), pool());
    assert_eq!(f.paths(SegmentName::Root), ["etc", "etc/a.d", "etc/a.d/x", "usr/bin", "usr/bin/a"]);
    f.recipe.components[1].paths = vec!["**/copyright".into()];
    assert_eq!(f.paths(SegmentName::Root).last().unwrap(), "usr/share/doc/a/copyright");
    f.recipe.components[1].paths = Vec::new();
    f.recipe.components[1].exclude = vec!["usr/share/**".into(), "etc/a.d".into()];
    assert_eq!(
        f.paths(SegmentName::Root),
        ["etc", "etc/a.conf", "usr/bin", "usr/bin/a", "usr/bin/sub", "usr/bin/sub/b"]
    );
    f.recipe.components[1].only_needed = true;
    assert!(f.paths(SegmentName::Root).is_empty());
}

#[test]
fn a_glob_that_matches_nothing_is_an_error() {
    let mut f = Fixture::new();
    f.add(component("tools", &["usr/bin/*", "usr/sbin/x"]), vec![file("usr/bin/a", "a", 0o755)]);
    let error = f.error();
    assert!(error.contains("test.toml:5: `usr/sbin/x` matches nothing in component `tools`"), "{error}");
    f.recipe.components[1].paths = vec!["usr/bin/[".into()];
    assert!(f.error().contains("`usr/bin/[` of component `tools` is no glob"), "{}", f.error());
}

#[test]
fn of_the_kernels_files_its_configuration_comes_by_a_glob() {
    let mut f = Fixture::new();
    let config = format!("boot/config-{RELEASE}");
    let folder = format!("usr/lib/modules/{RELEASE}");
    let [module, order, builtin] =
        ["kernel/x.ko", "modules.order", "modules.builtin"].map(|name| format!("{folder}/{name}"));
    f.give("kernel", [&config, &module, &order, &builtin].map(|path| file(path, "", 0o644)).into());
    assert!(f.paths(SegmentName::Root).is_empty(), "no glob names them");
    f.recipe.components[0].paths = vec!["boot/*".into(), "usr/lib/modules/**".into()];
    assert_eq!(f.paths(SegmentName::Root), ["boot", &config]);
    let tree = f.build().unwrap().tree;
    assert!(tree.find(&order).next().is_some(), "nobody makes this list");
    assert!(tree.find(&module).next().is_none(), "modules come by name");
    assert_eq!(tree.find(&builtin).next().map(|entry| &entry.reason), Some(&Reason::Computed));
}

#[test]
fn the_layout_is_usr_merged_in_the_root_only() {
    let mut f = Fixture::new();
    f.add(component("a", &[]), vec![file("bin/a", "a", 0o755), dir("lib", 0o755), file("sbin/b", "b", 0o755)]);
    let mut boot = component("microcode", &[]);
    boot.segment = SegmentName::Boot;
    f.add(boot, vec![file("lib/early", "x", 0o644)]);
    f.recipe.files.push(inline("bin", InlineBody::Symlink("usr/bin".into()), 0, SegmentName::Root));
    f.recipe.files.push(inline("sbin/init", InlineBody::Init, 0, SegmentName::Root));
    assert_eq!(f.paths(SegmentName::Root), ["bin", "usr/bin", "usr/bin/a", "usr/sbin", "usr/sbin/b", "usr/sbin/init"]);
    assert!(f.paths(SegmentName::Boot).contains(&"lib/early".into()));
    let tree = f.build().unwrap().tree;
    let init = tree.find("usr/sbin/init").next().unwrap();
    assert_eq!((&init.entry.kind, &init.reason), (&Kind::Symlink("/proc/1/exe".into()), &Reason::Init));
}

#[test]
fn renames_follow_into_folders_and_hard_links() {
    let mut f = Fixture::new();
    let mut a = component("a", &[]);
    a.rename = [("opt/a".into(), "usr/lib/a".into()), ("top".into(), "usr/bin/tool".into())].into();
    let hard = Entry { kind: Kind::Hardlink("opt/a/x".into()), ..file("second", "", 0o644) };
    f.add(a, vec![file("opt/a/x", "x", 0o644), file("top", "t", 0o644), hard]);
    assert_eq!(f.paths(SegmentName::Root), ["second", "usr/bin", "usr/bin/tool", "usr/lib/a", "usr/lib/a/x"]);
    let tree = f.build().unwrap().tree;
    assert_eq!(tree.find("second").next().unwrap().entry.kind, Kind::Hardlink("usr/lib/a/x".into()));
    f.recipe.components[1].rename.insert("nothing".into(), "x".into());
    assert!(f.error().contains("`nothing` of `rename` is not in component `a`"), "{}", f.error());
}

#[test]
fn wanted_files_become_one() {
    let mut f = Fixture::new();
    let mut certificates = component("certificates", &["usr/share/ca", "usr/share/more.crt"]);
    certificates.join = Some("lib/ca.crt".into());
    let hard = Entry { kind: Kind::Hardlink("usr/share/ca/b".into()), ..file("usr/share/more.crt", "", 0o644) };
    let pool =
        [file("usr/share/ca/b", "two", 0o600), dir("usr/share/ca", 0o700), file("usr/share/ca/a", "one\n", 0o755)];
    f.add(certificates, pool.into_iter().chain([hard, file("usr/share/other", "x", 0o644)]).collect());
    assert_eq!(f.paths(SegmentName::Root), ["usr/lib/ca.crt"]);
    let tree = f.build().unwrap().tree;
    let joined = tree.find("usr/lib/ca.crt").next().unwrap();
    assert_eq!(joined.entry, file("usr/lib/ca.crt", "one\ntwo\ntwo\n", 0o644));
    f.pools[1].1.entries.push(link("usr/share/ca/c", "a"));
    let error = f.error();
    assert!(
        error.contains("`usr/share/ca/c` of `certificates` (test.toml:12) cannot be joined with others"),
        "{error}"
    );
}

#[test]
fn a_hard_link_without_its_file_becomes_the_file() {
    let mut f = Fixture::new();
    let hard = |path: &str| Entry { kind: Kind::Hardlink("usr/bin/perl".into()), ..file(path, "", 0o755) };
    f.add(
        component("perl", &["usr/bin/p?"]),
        vec![file("usr/bin/perl", "P", 0o755), hard("usr/bin/p1"), hard("usr/bin/p2")],
    );
    let tree = f.build().unwrap().tree;
    let kind = |path: &str| tree.find(path).next().unwrap().entry.kind.clone();
    assert_eq!(kind("usr/bin/p1"), Kind::File(Body::from_bytes(*b"P")));
    assert_eq!(kind("usr/bin/p2"), Kind::Hardlink("usr/bin/p1".into()));
    f.recipe.components[1].exclude = vec!["usr/bin/perl".into()];
    assert!(f.error().contains("the hard link's target `usr/bin/perl` is not in the component"), "{}", f.error());
}

#[test]
fn what_a_link_points_to_comes_along() {
    let mut f = Fixture::new();
    let pool = vec![
        link("usr/bin/vi", "../../etc/alternatives/vi"),
        link("etc/alternatives/vi", "/usr/bin/vim.tiny"),
        file("usr/bin/vim.tiny", "vim", 0o755),
        link("usr/bin/gone", "/run/somewhere"),
    ];
    f.add(component("vim", &["usr/bin/vi", "usr/bin/gone"]), pool);
    f.recipe.files.push(inline("usr/bin/ed", InlineBody::Symlink("vi".into()), 0, SegmentName::Root));
    let paths = f.paths(SegmentName::Root);
    for path in ["etc/alternatives/vi", "usr/bin/vim.tiny", "usr/bin/gone", "usr/bin/ed"] {
        assert!(paths.iter().any(|p| p == path), "{path} in {paths:?}");
    }
    let tree = f.build().unwrap().tree;
    let reason = &tree.find("usr/bin/vim.tiny").next().unwrap().reason;
    assert!(matches!(reason, Reason::LinkTarget { .. }), "{reason:?}");
}

#[test]
fn components_agree_or_fail() {
    let mut f = Fixture::new();
    f.add(component("one", &[]), vec![file("etc/x", "same", 0o644), dir("etc", 0o755)]);
    f.add(component("twenty", &[]), vec![file("etc/x", "same", 0o644)]);
    f.build().unwrap();
    f.pools[2].1.entries = vec![file("etc/x", "other", 0o644)];
    let error = f.error();
    assert!(error.contains("`etc/x` is in `one` (test.toml:3) and in `twenty` (test.toml:6): they differ"), "{error}");
    f.pools[2].1.entries = vec![file("etc/x", "same", 0o600)];
    assert!(f.error().contains("their modes differ"), "{}", f.error());
    f.pools[2].1.entries = vec![Entry { uid: 7, ..file("etc/x", "same", 0o644) }];
    assert!(f.error().contains("their owners differ"), "{}", f.error());
    f.pools[2].1.entries = vec![link("etc/x", "y")];
    assert!(f.error().contains("they differ"), "{}", f.error());
    f.pools[2].1.entries = vec![file("etc/x/y", "same", 0o644)];
    assert!(f.error().contains("`etc/x` of `one` (test.toml:3) is no folder"), "{}", f.error());
}

#[test]
fn a_config_file_lies_over_the_roots() {
    let mut f = Fixture::new();
    f.add(component("one", &[]), vec![dir("root", 0o700), file("root/x", "from the package", 0o644)]);
    let text = |text: &str| InlineBody::Text(text.into());
    f.recipe.files.push(inline("root/x", text("mine"), 0o600, SegmentName::Config));
    let tree = f.build().unwrap().tree;
    assert_eq!(tree.find("root/x").count(), 2);
    let folder = tree.entries.get(&(SegmentName::Config, "root".into())).unwrap();
    assert_eq!(folder.entry.mode, 0o700, "laid over the root, it must not open the folder");
    f.recipe.files.push(inline("root/x", text("twice"), 0o600, SegmentName::Config));
    assert!(f.error().contains("they differ"), "{}", f.error());
}

#[test]
fn the_images_own_places_are_refused() {
    let mut f = Fixture::new();
    f.recipe.files.push(inline("bootwright/boot.json", InlineBody::Text("{}".into()), 0o600, SegmentName::Boot));
    assert!(f.error().contains("lies in a folder that the image itself uses"), "{}", f.error());
    f.recipe.files[0] = inline("init", InlineBody::Text("x".into()), 0o755, SegmentName::Boot);
    assert!(f.error().contains("`init` is in `init`"), "{}", f.error());
    f.recipe.files[0] = inline("a/../../b", InlineBody::Dir, 0o755, SegmentName::Root);
    assert!(f.error().contains("a path with `..`"), "{}", f.error());
    f.recipe.files[0] = inline("a\nb", InlineBody::Dir, 0o755, SegmentName::Root);
    assert!(f.error().contains("newline"), "{}", f.error());
}

#[test]
fn a_body_that_no_archive_holds_is_refused_before_it_is_read() {
    let disk = tempfile::tempdir().unwrap();
    let sparse = std::fs::File::create(disk.path().join("huge")).unwrap();
    sparse.set_len(100 << 30).unwrap();
    let mut f = Fixture::new();
    f.recipe.overlays.push(Overlay { segment: SegmentName::Root, ..Overlay::of(disk.path().into(), origin(80)) });
    assert!(f.error().contains("`huge` of `overlay` (test.toml:80) is too large: 107374182400 bytes"), "{}", f.error());
}

#[test]
fn overlays_have_modes_of_their_own() {
    let disk = tempfile::tempdir().unwrap();
    let at = |path: &str| disk.path().join(path);
    let write = |path: &str, text: &str, mode: u32| {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), text).unwrap();
        std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("etc/plain", "p", 0o600);
    write("bin/run", "r", 0o700);
    write("etc/hostname.j2", "{{ name }}\n", 0o664);
    symlink("plain", at("etc/link")).unwrap();
    // As a checkout under umask 077.
    for dir in ["etc", "bin", ""] {
        std::fs::set_permissions(at(dir), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut f = Fixture::new();
    let dir = disk.path();
    let overlay = |to: &str, segment| Overlay { to: to.into(), segment, ..Overlay::of(dir.into(), origin(80)) };
    f.recipe.overlays = vec![overlay("", SegmentName::Config), overlay("/opt/", SegmentName::Root)];
    let tree = f.build().unwrap().tree;
    let get = |path: &str| tree.find(path).last().unwrap_or_else(|| panic!("{path}")).entry.clone();
    assert_eq!(get("etc/plain").mode, 0o644);
    assert_eq!(get("etc").mode, 0o755);
    assert_eq!(get("usr/bin/run").mode, 0o755);
    assert_eq!(get("etc/link").kind, Kind::Symlink("plain".into()));
    assert_eq!(get("etc/hostname").kind, Kind::File(Body::from_bytes(*b"node\n")));
    assert_eq!(get("opt/bin/run").mode, 0o755, "below `to` nothing is merged");

    write("etc/bad.j2", "{{ broken", 0o644);
    assert!(f.error().contains("no such variable"), "{}", f.error());
    std::fs::remove_file(at("etc/bad.j2")).unwrap();
    std::os::unix::net::UnixListener::bind(at("etc/socket")).unwrap();
    assert!(f.error().contains("neither a file, nor a folder, nor a symlink"), "{}", f.error());
    std::fs::remove_file(at("etc/socket")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(disk.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    assert!(f.error().contains("is not UTF-8"), "{}", f.error());
}

/// An overlay in a folder that is open to all, as a checkout is, and how building with it fails.
fn open_overlay(f: &mut Fixture) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    std::fs::set_permissions(disk.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    f.recipe.overlays.push(Overlay { segment: SegmentName::Root, ..Overlay::of(disk.path().into(), origin(80)) });
    disk
}

#[test]
fn what_an_overlay_would_lose_is_refused_until_the_recipe_says_it() {
    for mode in [0o600, 0o640, 0o4755, 0o2755, 0o1755, 0o700, 0o711] {
        let mut f = Fixture::new();
        let disk = open_overlay(&mut f);
        std::fs::write(disk.path().join("x"), "x").unwrap();
        std::fs::set_permissions(disk.path().join("x"), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = f.error();
        assert!(error.contains("test.toml:80: `") && error.contains("/x`: on this disk"), "{error}");
        assert!(error.contains(&format!("permissions are {mode:04o}")), "{error}");
        f.recipe.overlays[0].modes.insert("x".into(), parse_stated(&format!("{mode:04o} 7:8")).unwrap());
        let entry = f.build().unwrap().tree.find("x").next().unwrap().entry.clone();
        assert_eq!((entry.mode, entry.uid, entry.gid), (mode, 7, 8));
        f.recipe.overlays[0].modes.insert("none".into(), parse_stated("0600").unwrap());
        assert!(f.error().contains("`modes` names `none`, which is not there"), "{}", f.error());
    }
}

#[test]
fn folders_of_an_overlay_take_the_modes_that_the_recipe_says() {
    let mut f = Fixture::new();
    let disk = open_overlay(&mut f);
    f.add(component("a", &[]), vec![file("var/tmp/x", "x", 0o644)]);
    std::fs::create_dir_all(disk.path().join("var/tmp")).unwrap();
    std::fs::set_permissions(disk.path().join("var/tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(f.error().contains("permissions are 1777"), "{}", f.error());
    f.recipe.overlays[0].modes.insert("var/tmp".into(), parse_stated("1777").unwrap());
    assert_eq!(f.build().unwrap().tree.find("var/tmp").next().unwrap().entry.mode, 0o1777);
}

#[test]
fn names_of_one_file_in_an_overlay_stay_names_of_one_file() {
    let mut f = Fixture::new();
    let disk = open_overlay(&mut f);
    std::fs::create_dir(disk.path().join("bin")).unwrap();
    std::fs::write(disk.path().join("bin/a"), "x").unwrap();
    std::fs::hard_link(disk.path().join("bin/a"), disk.path().join("z")).unwrap();
    let tree = f.build().unwrap().tree;
    assert_eq!(tree.find("z").next().unwrap().entry.kind, Kind::Hardlink("usr/bin/a".into()));
}

#[test]
fn every_path_has_its_folder() {
    let mut f = Fixture::new();
    f.add(component("a", &[]), vec![file("a/b/c/d", "x", 0o644)]);
    let tree = f.build().unwrap().tree;
    for (segment, path) in tree.entries.keys() {
        if let Some((folder, _)) = path.rsplit_once('/') {
            let parent = tree.entries.get(&(*segment, folder.to_string()));
            assert!(parent.is_some_and(|p| p.entry.kind == Kind::Dir), "{folder}");
        }
    }
}

#[test]
fn what_is_to_be_formatted_needs_its_program() {
    let mut f = Fixture::new();
    let place = StatePlace::Volume { source: "nbd://h/x".into(), format: Some("ext4".into()), folder: None };
    f.recipe.state.push(StateFolder { path: "/srv".into(), overlay: false, place });
    let expected = "`/srv` is to be formatted with ext4 on first use, but `/usr/sbin/mke2fs` is not in the image";
    assert!(f.error().contains(expected), "{}", f.error());
    f.add(component("mke2fs", &[]), vec![file("sbin/mke2fs", "x", 0o755)]);
    f.build().unwrap();
}

#[test]
fn what_a_tmpfs_would_hide_is_refused() {
    let mut f = Fixture::new();
    f.recipe.root.tmpfs.push(Tmpfs {
        path: "/var/lib/x".into(),
        size: "1%".into(),
        mode: "0755".into(),
        reserve: false,
    });
    f.add(component("x", &[]), vec![dir("var/lib/x", 0o700), file("var/lib/xy", "beside it", 0o644)]);
    f.build().unwrap();
    for segment in [SegmentName::Root, SegmentName::Config] {
        f.recipe.files = vec![inline("var/lib/x/conf", InlineBody::Text("c".into()), 0o644, segment)];
        let expected = "test.toml:70: `/var/lib/x/conf` lies below the mount `/var/lib/x` of `[root]`, which hides it";
        assert!(f.error().contains(expected), "{}", f.error());
    }
    f.recipe.root.tmpfs.clear();
    f.build().unwrap();
}

#[test]
fn what_no_file_system_can_hold_is_refused_whatever_the_format() {
    let long = |bytes: usize| format!("opt/{}", "n".repeat(bytes));
    let deep = |bytes: usize| format!("opt/{}{}", "d/".repeat(2000), "x".repeat(bytes - 4004));
    let cases = [
        (file(&long(255), "x", 0o644), None),
        (file(&long(256), "x", 0o644), Some("a name of 256 bytes, Linux takes at most 255")),
        (dir(&format!("{}/sub", long(300)), 0o755), Some("a name of 300 bytes")),
        (file(&format!("opt/{}", "\u{e4}".repeat(128)), "x", 0o644), Some("a name of 256 bytes")),
        (file(&deep(4076), "x", 0o644), None),
        (file(&deep(4077), "x", 0o644), Some("a path of 4077 bytes, Linux takes at most 4076")),
        (link("opt/link", &"t".repeat(4095)), None),
        (link("opt/link", &"t".repeat(4096)), Some("a target of 4096 bytes, Linux takes at most 4095")),
    ];
    for (entry, problem) in cases {
        let mut f = Fixture::new();
        let path = entry.path.clone();
        f.add(component("a", &[]), vec![entry]);
        match problem {
            None => drop(f.build().unwrap_or_else(|e| panic!("{path}: {e}"))),
            Some(problem) => {
                let error = f.error();
                assert!(error.contains(problem) && error.contains("`a` (test.toml:1)"), "{error}");
                assert!(error.contains("exclude it, or give it a shorter name"), "{error}");
                // What is not wanted of an archive is nobody's problem.
                f.recipe.components[1].exclude = vec!["opt/**".into()];
                f.build().unwrap();
            }
        }
    }
}
