//! What `bootwright boot` writes, checked by the programs that read it.

use assert_cmd::Command;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::need::have;
use testkit::programs::test_program;

const NODES: &str = r#"
[server]
url = "http://192.0.2.1:8080"

[defaults]
recipe = "worker"
gateway = "192.0.2.1"

[[node]]
name = "n1"
mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
address = "192.0.2.11/24"
overlay = "files"
cmdline = ["a=(b)", "c={d}", "e=#f", "g=h*"]

[[node]]
name = "n2"
uuid = "0e3c1a5b-0000-4000-8000-0123456789ab"
root = "http"
"#;

/// A folder with a `nodes.toml`, a node's files, and two images that no machine could boot.
struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new(server: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("files/etc")).unwrap();
        std::fs::write(dir.path().join("files/etc/motd.j2"), "{{ hostname }}\n").unwrap();
        std::fs::write(dir.path().join("nodes.toml"), NODES.replacen("[server]\n", &format!("[server]\n{server}"), 1))
            .unwrap();
        let lab = Self { dir };
        lab.image("worker", Value::Null);
        let sha256 = "00".repeat(32);
        let root = json!({
            "mode": "http", "sources": ["http:///worker-http/root.img"], "files": [], "image_size": 4096, "image_sha256": sha256, "tree_sums_sha256": sha256, "components": {} });
        lab.image("worker-http", root);
        lab
    }

    fn image(&self, name: &str, root: Value) {
        let dir = self.dir.path().join("out").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut manifest = json!({
            "schema": 1, "recipe": "worker", "summary": "", "image_id": "0123456789abcdef", "time": 0,
            "kernel_release": "6.12", "kernel_component": "kernel", "cmdline": ["console=tty0 panic=30"],
            "boot_files": [], "segments": [], "sources": [], "tools": {}, "files": [],
        });
        if !root.is_null() {
            manifest["root"] = root;
        }
        std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        for file in ["vmlinuz", "initrd.img"] {
            std::fs::write(dir.join(file), format!("{name} {file}")).unwrap();
        }
    }

    fn tool(&self, args: &[&str]) -> Command {
        let mut command = Command::new(testkit::tool::tool_path());
        command.current_dir(self.dir.path()).arg("boot").args(args);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("out/boot").join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn passes(program: &str, args: &[&str]) {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn every_file_is_there_and_a_second_run_gives_the_same() {
    let lab = Lab::new("");
    let run = lab.tool(&[]).assert().success();
    let said = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(said.starts_with("out/boot: images worker, worker-http; 2 nodes\n"), "{said}");
    let files = || -> Vec<(String, Vec<u8>)> {
        let top = lab.path("");
        let found = walkdir::WalkDir::new(&top).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = found.filter(|entry| entry.file_type().is_file()).map(|entry| {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o644, "{entry:?}");
            (entry.path().strip_prefix(&top).unwrap().display().to_string(), std::fs::read(entry.path()).unwrap())
        });
        files.collect()
    };
    let first = files();
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "boot.ipxe",
        "by-mac/52-54-00-00-00-01.ipxe",
        "by-mac/52-54-00-00-00-02.ipxe",
        "by-uuid/0e3c1a5b-0000-4000-8000-0123456789ab.ipxe",
        "chain.json",
        "dnsmasq.conf",
        "grub.cfg",
        "matchbox/groups/default.json",
        "matchbox/groups/node-n1-52-54-00-00-00-01.json",
        "matchbox/groups/node-n1-52-54-00-00-00-02.json",
        "matchbox/groups/node-n2-0e3c1a5b-0000-4000-8000-0123456789ab.json",
        "matchbox/profiles/image-worker-http.json",
        "matchbox/profiles/image-worker.json",
        "matchbox/profiles/node-n1.json",
        "matchbox/profiles/node-n2.json",
        "menu.ipxe",
        "nodes/n1.cpio.gz",
        "nodes/n1.ipxe",
        "nodes/n2.ipxe",
        "pxelinux.cfg/01-52-54-00-00-00-01",
        "pxelinux.cfg/01-52-54-00-00-00-02",
        "pxelinux.cfg/0e3c1a5b-0000-4000-8000-0123456789ab",
        "pxelinux.cfg/default",
        "x86_64-efi/command.lst",
        "x86_64-efi/crypto.lst",
        "x86_64-efi/fs.lst",
        "x86_64-efi/terminal.lst",
    ];
    assert_eq!(names, expected);
    std::fs::write(lab.path("nodes/stale.ipxe"), "of a node that is gone").unwrap();
    lab.tool(&[]).assert().success();
    assert_eq!(files(), first);
}

/// Loaders of PXELINUX lie in `out/boot/`, as docs/boot-chain.md says. Generated files of the run before go.
#[test]
fn what_its_owner_puts_into_the_folder_stays() {
    let lab = Lab::new("");
    lab.tool(&[]).assert().success();
    std::fs::write(lab.path("pxelinux.0"), "loader").unwrap();
    std::fs::create_dir(lab.path("bios")).unwrap();
    std::fs::write(lab.path("bios/menu.c32"), "module").unwrap();
    std::os::unix::fs::symlink("pxelinux.0", lab.path("lpxelinux.0")).unwrap();
    std::fs::write(lab.path("menu.ipxe"), "somebody's").unwrap();
    // A run that was killed between the exchange of the folders and the move of what stays.
    let killed = lab.dir.path().join("out/.boot.new");
    std::fs::create_dir(&killed).unwrap();
    std::fs::write(killed.join("ldlinux.c32"), "module").unwrap();
    for _ in 0..2 {
        lab.tool(&[]).assert().success();
        assert_eq!((lab.text("pxelinux.0").as_str(), lab.text("bios/menu.c32").as_str()), ("loader", "module"));
        assert_eq!(lab.text("ldlinux.c32"), "module");
        assert_eq!(std::fs::read_link(lab.path("lpxelinux.0")).unwrap(), PathBuf::from("pxelinux.0"));
        assert!(lab.text("menu.ipxe").starts_with("#!ipxe"), "what is generated is written anew");
    }
    let nodes = std::fs::read_to_string(lab.dir.path().join("nodes.toml")).unwrap();
    std::fs::write(lab.dir.path().join("nodes.toml"), nodes.replace("name = \"n2\"", "name = \"n3\"")).unwrap();
    lab.tool(&[]).assert().success();
    assert!(!lab.path("nodes/n2.ipxe").exists() && lab.path("pxelinux.0").exists());
}

#[test]
fn dnsmasq_takes_its_configuration() {
    if !have(&["dnsmasq"]) {
        return;
    }
    for server in [
        "",
        "proxy = \"192.0.2.0\"\ninterface = \"lo\"\n",
        "dhcp_range = \"192.0.2.100,192.0.2.199,255.255.255.0,12h\"\n",
    ] {
        let lab = Lab::new(server);
        lab.tool(&[]).assert().success();
        let path = lab.path("dnsmasq.conf");
        passes("dnsmasq", &["--test", &format!("--conf-file={}", path.display())]);
    }
}

#[test]
fn grub_takes_its_configuration() {
    if !have(&["grub-script-check"]) {
        return;
    }
    let lab = Lab::new("");
    lab.tool(&[]).assert().success();
    passes("grub-script-check", &[&lab.path("grub.cfg").display().to_string()]);
}

/// matchbox gives each machine its own script, and strangers the default's, and has what the scripts name.
#[test]
fn matchbox_serves_its_groups_and_profiles() {
    let program = test_program("matchbox");
    if !have(&[&program]) {
        return;
    }
    let lab = Lab::new("");
    lab.tool(&[]).assert().success();
    let matchbox = Matchbox::start(&program, &lab);
    for (machine, image, words) in [
        ("mac=52:54:00:00:00:01", "worker", "bw.hostname=n1"),
        ("mac=52-54-00-00-00-02&uuid=11111111-0000-4000-8000-0123456789ab", "worker", "bw.hostname=n1"),
        ("uuid=0e3c1a5b-0000-4000-8000-0123456789ab&mac=52:54:00:00:00:09", "worker-http", "bw.hostname=n2"),
        ("mac=52:54:00:00:00:09", "worker", "panic=30"),
    ] {
        let script = matchbox.ask(&format!("/ipxe?{machine}"));
        let script = script.strip_prefix("#!ipxe\n").unwrap_or_else(|| panic!("{machine}: {script}"));
        let kernel = script.lines().next().unwrap();
        assert!(kernel.starts_with(&format!("kernel /assets/{image}/vmlinuz initrd=initrd.img ")), "{kernel}");
        assert!(kernel.contains(" BOOTIF=01-${netX/mac:hexhyp} ") && kernel.contains(words), "{kernel}");
        assert_eq!(kernel.contains("initrd=n1.cpio.gz"), words == "bw.hostname=n1", "{kernel}");
        assert!(script.ends_with("\nboot\n"), "{script}");
        let initrds = script.lines().filter_map(|line| line.strip_prefix("initrd "));
        for path in initrds.chain([kernel.split(' ').nth(1).unwrap()]) {
            let name = path.strip_prefix("/assets/").unwrap();
            let file = std::fs::read(lab.dir.path().join("out").join(name)).unwrap();
            assert_eq!(matchbox.ask(path), String::from_utf8_lossy(&file), "{path}");
        }
    }
}

/// A running matchbox; it is killed on drop.
struct Matchbox {
    child: Child,
    port: u16,
}

impl Matchbox {
    fn start(program: &str, lab: &Lab) -> Self {
        // Free a moment ago: nothing else on this machine asks for this one.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = std::process::Command::new(program);
        command.current_dir(lab.dir.path()).args(["-address", &format!("127.0.0.1:{port}")]);
        command.args(["-data-path", "out/boot/matchbox", "-assets-path", "out"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut matchbox = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline && matchbox.child.try_wait().unwrap().is_none(), "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        matchbox
    }

    /// The body of what it answers.
    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200"), "{path}: {head}");
        body.to_string()
    }
}

impl Drop for Matchbox {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of matchbox's `storage.proto`: it passes over others without a word.
#[test]
fn matchbox_files_refer_to_each_other_and_to_what_is_there() {
    let lab = Lab::new("");
    lab.tool(&[]).assert().success();
    let load = |folder: &str| -> Vec<Value> {
        let files = std::fs::read_dir(lab.path(folder)).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            let value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(Some(value["id"].as_str().unwrap()), path.file_stem().unwrap().to_str());
            value
        };
        files.map(read).collect()
    };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let of = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<String>>();
    let profiles = load("matchbox/profiles");
    for profile in &profiles {
        assert_eq!(keys(profile), of(&["boot", "id", "name"]));
        assert_eq!(keys(&profile["boot"]), of(&["args", "initrd", "kernel"]));
        let initrds = profile["boot"]["initrd"].as_array().unwrap().iter();
        for path in initrds.chain([&profile["boot"]["kernel"]]) {
            let path = path.as_str().unwrap().strip_prefix("/assets/").unwrap();
            assert!(lab.path("..").join(path).is_file(), "{path}");
        }
        assert!(profile["boot"]["args"].as_array().unwrap().iter().all(Value::is_string));
    }
    for group in load("matchbox/groups") {
        assert!(keys(&group).is_subset(&of(&["id", "name", "profile", "selector"])), "{group}");
        assert!(profiles.iter().any(|profile| profile["id"] == group["profile"]), "{group}");
        let selector = group.get("selector").map(keys).unwrap_or_default();
        assert!(selector.is_subset(&of(&["mac", "uuid"])), "{group}");
    }
}

#[test]
fn signatures_are_openssls_own() {
    if !have(&["openssl"]) {
        return;
    }
    let lab = Lab::new("");
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl").current_dir(lab.dir.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let subject = ["-subj", "/CN=code", "-addext", "extendedKeyUsage=codeSigning"];
    openssl(
        &[
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "2"],
            &subject[..],
        ]
        .concat(),
    );
    lab.tool(&["--codesign-cert", "cert", "--codesign-key", "key"]).assert().success();
    let verify = ["cms", "-verify", "-binary", "-inform", "DER", "-CAfile", "cert", "-purpose", "any", "-out", "seen"];
    for (signature, file) in [
        ("out/boot/signatures/worker/vmlinuz.sig", "out/worker/vmlinuz"),
        ("out/boot/signatures/worker-http/initrd.img.sig", "out/worker-http/initrd.img"),
        ("out/boot/nodes/n1.cpio.gz.sig", "out/boot/nodes/n1.cpio.gz"),
    ] {
        openssl(&[&verify[..], &["-in", signature, "-content", file]].concat());
    }
    assert!(lab.text("nodes/n1.ipxe").contains("set bw-segment-signature ../boot/nodes/n1.cpio.gz.sig\n"));
    let wrong = lab.tool(&["--codesign-cert", "key", "--codesign-key", "key"]).assert().code(1);
    let said = String::from_utf8_lossy(&wrong.get_output().stderr).into_owned();
    assert!(said.contains("`openssl` cannot sign `out/worker/vmlinuz`"), "{said}");
    assert!(lab.path("signatures").is_dir(), "what was there stays");
}

#[test]
fn bad_input_is_told_and_nothing_is_written() {
    let lab = Lab::new("");
    let fails = |args: &[&str], code: i32, reason: &str| {
        let run = lab.tool(args).assert().code(code);
        let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(said.contains(reason) && said.contains("help: "), "{said}");
        assert!(!lab.path("").exists());
    };
    fails(&["--nodes", "gone.toml"], 2, "cannot read `gone.toml`");
    fails(&["--out", "gone"], 1, "no images in `gone`");
    std::fs::write(lab.dir.path().join("files/etc/motd.j2"), "{{ hostnam }}").unwrap();
    fails(&[], 2, "nodes.toml:9: the files of node `n1`");
    std::fs::write(lab.dir.path().join("nodes.toml"), "[[node]]\nname = \"n1\"\nmac = \"x\"\n").unwrap();
    fails(&[], 2, "nodes.toml:3:7");
    std::fs::create_dir(lab.path("")).unwrap();
    std::fs::write(lab.path("mine"), "").unwrap();
    std::fs::write(lab.dir.path().join("nodes.toml"), "").unwrap();
    let run = lab.tool(&[]).assert().code(1);
    assert!(String::from_utf8_lossy(&run.get_output().stderr).contains("is there and no image of ours"));
    assert!(lab.path("mine").exists());
}
