//! Which files a boot opens, on a root that is an image and on one that is unpacked.

use serde_json::Value;
use testkit::image::Image;
use testkit::need::have;
use testkit::tool::tool;
use testkit::{QEMU, folders::work_folder};

/// A service reads a file, a library and a file of the config segment; nobody reads what lies beside them.
const VARIANT: &str = r#"
summary = "what is read, and what is not"

[[component]]
name = "kept"
path = { path = "traced-files", to = "opt/kept" }

[[file]]
path = "/etc/asked"
content = "asked\n"

[[file]]
path = "/etc/idle"
content = "idle\n"

[[service]]
name = "reader"
exec = ["/bin/sh", "-c", "cat /opt/kept/asked /etc/asked"]
ready = "exited"

[smoke]
expect = ["phases-done", "service:reader", "ssh-answers"]
"#;

#[test]
fn files_that_a_boot_opens_are_told_from_those_that_nobody_reads() {
    if !have(&[QEMU]) {
        return;
    }
    let kept = work_folder().join("traced-files");
    std::fs::create_dir_all(&kept).unwrap();
    for name in ["asked", "idle"] {
        std::fs::write(kept.join(name), [name.as_bytes(), &[0; 5000]].concat()).unwrap();
    }
    for (name, root) in [("traced-image", "[root]\nimage = \"squashfs\"\n"), ("traced-cpio", "")] {
        let image = Image::build_variant(name, "rescue", &format!("{VARIANT}{root}"), &[]);
        let run = tool().args(["trace", "--json"]).args(image.arguments()).assert().success();
        let report: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        let idle: Vec<&str> =
            report["never_opened"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
        for path in ["opt/kept/idle", "etc/idle"] {
            assert!(idle.contains(&path), "{name}: `{path}` is never opened: {idle:?}");
        }
        let module = |path: &&str| path.contains("/virtio_net.ko");
        for path in ["init", "opt/kept/asked", "etc/asked", "usr/sbin/dropbear", "usr/bin/busybox"] {
            assert!(!idle.contains(&path), "{name}: `{path}` is opened: {idle:?}");
        }
        assert!(!idle.iter().any(|path| path.ends_with("/libc.so.6")), "{name}: libraries are mapped: {idle:?}");
        assert!(!idle.iter().any(module), "{name}: a module is loaded: {idle:?}");
        assert!(idle.iter().any(|path| path.contains(".ko")), "{name}: the machine lacks most devices: {idle:?}");
        let component = report["components"].as_array().unwrap().iter().find(|c| c["name"] == "kept").unwrap();
        assert_eq!((&component["files"], &component["never_opened_files"]), (&2.into(), &1.into()), "{name}");
    }
}
