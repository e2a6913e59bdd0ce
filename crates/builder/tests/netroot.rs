//! Images whose root is on a server: what each mode's server is given, read by other people's programs.

use bootwright::emit::manifest::{Manifest, RootRecord, load_manifest};
use bootwright::entry::Sha256;
use bootwright_contract::sums::parse_sums;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use testkit::project::{ImageFiles, Project, names};

const SQUASHFS: &str = "image = \"squashfs\"\ncompressor = \"gzip\"";

fn manifest(project: &Project, image: &str) -> Manifest {
    load_manifest(&project.path(&format!("out/{image}/manifest.json"))).expect("a finished image has a manifest")
}

fn root_of(project: &Project, image: &str) -> RootRecord {
    manifest(project, image).root.expect("its root is on a server")
}

/// Standard output of a program that must succeed.
fn output(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).env("LC_ALL", "C").output().expect("it starts");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

#[test]
fn all_modes_have_the_root_that_was_packed_once() {
    if !testkit::need::have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.good_build();
    let ram = fs::read(project.path("out/tiny/initrd.img")).unwrap();
    for mode in ["http", "iscsi", "nbd"] {
        let run = project.run(&["build", "--recipe", "tiny", "--root", mode, "--json"]);
        let reused = run.succeeds().json()["reused"].to_string();
        assert!(reused.contains("\"root\""), "{mode}: {reused}");
        let root = root_of(&project, &format!("tiny-{mode}"));
        let dir = project.path(&format!("out/tiny-{mode}"));
        let image = fs::read(dir.join("root.img")).unwrap();
        assert_eq!((image.len() as u64, Sha256::of(&image)), (root.image_size, root.image_sha256));
        assert_eq!(image.len() % 4096, 0, "whole sectors");
        // A squashfs says how long it is (Documentation/filesystems/squashfs.rst); the hash tree follows.
        let used = u64::from_le_bytes(image[40..48].try_into().unwrap()).next_multiple_of(4096) as usize;
        assert!(used < image.len(), "{mode}: it is proven by what follows");
        assert!(ram.windows(used).any(|part| part == &image[..used]), "{mode}: the RAM root's own bytes");
        assert_eq!(names(&dir.join("segments")).len(), 2, "boot and config");
        output("sha256sum", &["--check", "--strict", "--quiet", "SHA256SUMS"], &dir);
        let listed = output("unsquashfs", &["-lls", "root.img"], &dir);
        assert!(listed.contains("squashfs-root/opt/tool/run"), "{listed}");
    }
    assert_eq!(project.out_names(), ["tiny", "tiny-http", "tiny-iscsi", "tiny-nbd"]);
}

#[test]
fn an_nfs_root_is_a_tree_and_a_tar_of_the_same() {
    if !testkit::need::have(&["mksquashfs", "tar", "diff", "find"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.add("[[file]]\npath = \"/opt/link\"\nlink = \"tool/run\"\nsegment = \"root\"\n");
    project.add("[[file]]\npath = \"/tmp\"\ndir = true\nmode = \"1777\"\nsegment = \"root\"\n");
    project.run(&["build", "--recipe", "tiny", "--root", "nfs"]).succeeds();
    let dir = project.path("out/tiny-nfs");
    let tree = dir.join("root");
    output("sha256sum", &["--check", "--strict", "--quiet", "SHA256SUMS"], &dir);
    let unpacked = project.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    output("tar", &["--numeric-owner", "-xpf", "../out/tiny-nfs/root.tar"], &unpacked);
    output("diff", &["-r", "--no-dereference", &tree.display().to_string(), "."], &unpacked);
    // Owners where they can be told.
    let facts = if nix::unistd::geteuid().is_root() { "%P %m %U:%G %T@ %l\n" } else { "%P %m %T@ %l\n" };
    let facts_of = |dir: &Path| {
        let mut lines: Vec<String> =
            output("find", &[".", "-mindepth", "1", "-printf", facts], dir).lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(facts_of(&tree), facts_of(&unpacked));
    assert!(facts_of(&tree).iter().any(|line| line.starts_with("tmp 1777 ")), "{:?}", facts_of(&tree));

    let sums = fs::read(tree.join("bootwright/sums/root")).unwrap();
    assert_eq!(Sha256::of(&sums), root_of(&project, "tiny-nfs").tree_sums_sha256);
    let sums = parse_sums(&String::from_utf8(sums).unwrap()).unwrap();
    assert!(sums.iter().any(|sum| sum.path == "/opt/tool/run"), "paths are the root's own");
    for sum in sums {
        let bytes = fs::read(tree.join(sum.path.trim_start_matches('/'))).unwrap();
        assert_eq!((bytes.len() as u64, Sha256::of(&bytes).to_string()), (sum.size, sum.sha256));
    }
    project.run(&["build", "--recipe", "tiny", "--root", "nfs"]).succeeds().says(&["nothing changed"]);
    fs::remove_file(tree.join("opt/link")).unwrap();
    project.run(&["build", "--recipe", "tiny", "--root", "nfs"]).succeeds();
    assert!(tree.join("opt/link").is_symlink(), "what was taken away is made again");
    let other = project.path("elsewhere").display().to_string();
    project.run(&["build", "--recipe", "tiny", "--root", "nfs", "--out", &other]).succeeds();
    ImageFiles::load(&dir).is_like(&ImageFiles::load(&project.path("elsewhere/tiny-nfs")));
}

#[test]
fn an_unpacked_root_becomes_an_image_for_a_server() {
    if !testkit::need::have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    let project = Project::new();
    project.run(&["build", "--recipe", "tiny", "--root", "nbd"]).succeeds();
    output("unsquashfs", &["-lls", "root.img"], &project.path("out/tiny-nbd"));
    assert!(!project.path("out/tiny").exists(), "the RAM root's image is another one");
    project.run(&["inspect", "--recipe", "tiny", "--json"]).succeeds().says(&["\"tool\""]);
    project.run(&["explain", "/opt/tool/run", "--recipe", "tiny", "--root", "nbd"]).succeeds();
}

#[test]
fn sources_are_the_recipes_or_the_boot_servers() {
    if !testkit::need::have(&["mksquashfs"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    let built = |mode: &str| {
        project.run(&["build", "--recipe", "tiny", "--root", mode]).succeeds();
        let sources = root_of(&project, &format!("tiny-{mode}")).sources;
        (sources, project.read(&format!("out/tiny-{mode}/boot.ipxe")))
    };
    for (mode, source, word) in [
        ("http", "http:///tiny-http/root.img", "bw.root=${bw-url}root.img ||\n:root_is_set\n"),
        ("nfs", "nfs:///srv/bootwright/tiny-nfs/root", "bw.root=nfs://${next-server}/srv/bootwright/tiny-nfs/root"),
        (
            "iscsi",
            "iscsi:///iqn.2024-07.internal.bootwright:tiny",
            "bw.root=iscsi://${next-server}/iqn.2024-07.internal.bootwright:tiny",
        ),
        ("nbd", "nbd:///tiny", "bw.root=nbd://${next-server}/tiny"),
    ] {
        let (sources, script) = built(mode);
        assert_eq!(sources, [source]);
        assert!(script.contains(&format!("isset ${{bw-root}} || set bw-root {word}")), "{script}");
    }
    project.edit(
        "image = \"squashfs\"",
        "image = \"squashfs\"\nmode = \"nbd\"\nsource = [\"nbd://a/x\", \"nfs://b/y\", \"nbd://c/z\"]",
    );
    let (sources, script) = built("nfs");
    assert_eq!(sources, ["nfs://b/y"], "of another mode than the recipe's what is meant for it");
    assert!(!script.contains("set bw-root"), "the boot config names it: {script}");
    project.run(&["build", "--recipe", "tiny"]).succeeds();
    assert_eq!(root_of(&project, "tiny-nbd").sources, ["nbd://a/x", "nfs://b/y", "nbd://c/z"]);
    let json = project.run(&["check", "--recipe", "tiny", "--root", "ram", "--json"]).json();
    assert_eq!(json["sources"], serde_json::json!([]), "a RAM root has none");
    project.run(&["check", "--recipe", "tiny"]).succeeds().says(&["root over nbd: nbd://a/x, nfs://b/y, nbd://c/z"]);
}

/// PID1 is told where `root.json` is, if it takes what others sign, and would not know.
#[test]
fn boot_scripts_say_where_the_manifest_of_a_signed_root_is() {
    if !testkit::need::have(&["mksquashfs"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.run(&["keygen", "keys/root"]).succeeds();
    let ipxe = "isset ${bw-url} && set bw-manifest bw.manifest=${bw-url}root.json ||\n";
    let pxelinux = "bw.manifest=http://192.0.2.1/tiny-nbd/root.json";
    let check = |args: &[&str], expected: bool| {
        project.run(&[&["build", "--recipe", "tiny"], args].concat()).succeeds();
        let image = format!("tiny-{}", args.last().expect("each has a root"));
        let script = project.read(&format!("out/{image}/boot.ipxe"));
        assert_eq!((script.contains(ipxe), script.contains(" ${bw-manifest} ")), (expected, expected), "{script}");
        project.run(&["boot", "--url", "http://192.0.2.1"]).succeeds();
        assert_eq!(project.read("out/boot/pxelinux.cfg/default").contains(pxelinux), expected);
        project.path(&format!("out/{image}/root.json.sig")).is_file()
    };
    let sign = |root| ["--sign", "keys/root", "--root", root];
    assert!(!check(&["--root", "nbd"], false), "nobody signs");
    assert!(check(&sign("http"), false), "it lies beside the image");
    assert!(check(&sign("nbd"), true));
    project.edit("image = \"squashfs\"", "image = \"squashfs\"\ntrust = \"../keys/root.pub\"");
    assert!(!check(&["--root", "nbd"], true), "what is signed comes later");
    project.edit("cmdline = [", "cmdline = [\"bw.manifest=http://192.0.2.9/x.json\", ");
    assert!(check(&sign("nbd"), false), "the recipe says it");
}

#[test]
fn what_is_wrong_with_a_network_root_is_named_with_its_line() {
    for (keys, said) in [
        ("source = \"ftp://a/x\"", "`ftp://a/x` is not where a network root comes from"),
        ("source = [\"nbd://a/x\", \"nbd://a\"]", "`nbd://a` is not where a network root comes from"),
        ("source = \"nbd://a/ x\"", "is not where a network root comes from"),
        ("mode = \"nbdd\"", "`nbdd` is no value of this key"),
        ("choices = [\"smb\"]", "`smb` is no value of this key"),
    ] {
        let project = Project::with_root(&format!("{SQUASHFS}\n{keys}"));
        project.run(&["check", "--recipe", "tiny"]).fails(2, &[said, "recipes/tiny.toml:"]);
    }
    let project = Project::with_root(SQUASHFS);
    assert_eq!(project.run(&["build", "--recipe", "tiny", "--root", "floppy"]).code, Some(2));
    if testkit::need::have(&["mksquashfs"]) {
        project.add("[budget]\nnetroot_initrd_mb = 0.001\n");
        let run = project.run(&["build", "--recipe", "tiny", "--root", "nbd"]);
        run.fails(4, &["the initrd of the network root is", "(`netroot_initrd_mb`)"]);
        project.run(&["build", "--recipe", "tiny"]).succeeds();
    }
}

#[test]
fn modaliases_that_nothing_serves_are_reported_each_time() {
    let project = Project::new();
    project.write("recipes/fleet/node.txt", "# a node\npci:v00008086d000010D3sv0sd0bc02sc00i00\n");
    project.edit("modules = [\"second\"]", "modules = [\"second\"]\nmodaliases = \"fleet/*.txt\"");
    for _ in 0..2 {
        let run = project.run(&["build", "--recipe", "tiny"]);
        run.succeeds().says(&["no module serves", "  pci:v00008086d000010D3", "(recipes/fleet/node.txt:2)"]);
    }
    let json = project.run(&["build", "--recipe", "tiny", "--json"]).json();
    assert_eq!(json["unserved"][0]["origin"], "recipes/fleet/node.txt:2");
    project.write("recipes/fleet/node.txt", "# nothing\n");
    let run = project.run(&["build", "--recipe", "tiny", "--json"]);
    assert_eq!((&run.json()["unchanged"], &run.json()["unserved"]), (&false.into(), &serde_json::json!([])));
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// qemu-img says what an export holds; it is asked until the server answers.
fn exported_size(port: u16, export: &str) -> u64 {
    let url = format!("nbd://127.0.0.1:{port}/{export}");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let info = Command::new("qemu-img").args(["info", "--output=json", &url]).output().expect("qemu-img starts");
        if info.status.success() {
            let info: serde_json::Value = serde_json::from_slice(&info.stdout).expect("it prints JSON");
            return info["virtual-size"].as_u64().expect("an image has a size");
        }
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&info.stderr));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nbd_servers_take_their_configuration() {
    if !testkit::need::have(&["mksquashfs", "nbd-server", "qemu-nbd", "qemu-img"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.run(&["build", "--recipe", "tiny", "--root", "nbd"]).succeeds();
    let dir = project.path("out/tiny-nbd");
    let size = root_of(&project, "tiny-nbd").image_size;
    let here = |text: String, port: u16| {
        let text = text.replace("10809", &port.to_string());
        text.replace("/srv/bootwright/tiny-nbd/root.img", &dir.join("root.img").display().to_string())
    };
    let start = |name: &str, port: u16, command: &mut Command| {
        let file: PathBuf = project.path(name);
        fs::write(&file, here(project.read(&format!("out/tiny-nbd/servers/{name}")), port)).unwrap();
        Server(command.arg(&file).spawn().expect("it starts"))
    };
    let port = free_port();
    let server = start("nbd-server.conf", port, Command::new("nbd-server").args(["-d", "-C"]));
    assert_eq!(exported_size(port, "tiny"), size);
    drop(server);
    let port = free_port();
    let _server = start("qemu-nbd.sh", port, &mut Command::new("sh"));
    assert_eq!(exported_size(port, "tiny"), size);
}

#[test]
fn iscsi_targets_take_their_configuration() {
    if !testkit::need::have(&["mksquashfs", "tgtd", "tgtadm", "tgt-admin"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.run(&["build", "--recipe", "tiny", "--root", "iscsi"]).succeeds();
    let dir = project.path("out/tiny-iscsi");
    for (name, program) in [("targets.conf", "tgt-admin"), ("tgtadm.sh", "sh")] {
        // A socket's path is short (unix(7)).
        let folder = tempfile::tempdir().unwrap();
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.env("TGT_IPC_SOCKET", folder.path().join("tgt"));
            command
        };
        let portal = format!("portal=127.0.0.1:{}", free_port());
        let _server = Server(command("tgtd").args(["-f", "--iscsi", &portal]).spawn().expect("it starts"));
        let show = || command("tgtadm").args(["--lld", "iscsi", "--mode", "target", "--op", "show"]).output().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !show().status.success() {
            assert!(Instant::now() < deadline, "tgtd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = project.read(&format!("out/tiny-iscsi/servers/{name}"));
        let text = text.replace("/srv/bootwright/tiny-iscsi/root.img", &dir.join("root.img").display().to_string());
        let file = project.path(name);
        fs::write(&file, text).unwrap();
        let args: &[&str] = if program == "sh" { &[] } else { &["--execute", "--conf"] };
        let done = command(program).args(args).arg(&file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let shown = String::from_utf8_lossy(&show().stdout).into_owned();
        for line in ["Target 1: iqn.2024-07.internal.bootwright:tiny", "LUN: 1", "Readonly: Yes", "ALL"] {
            assert!(shown.contains(line), "no {line:?} after {name}:\n{shown}");
        }
        assert!(shown.contains(&format!("Backing store path: {}", dir.join("root.img").display())), "{shown}");
    }
}

/// Options of exports(5) that may stand in what is emitted.
const EXPORT_OPTIONS: [&str; 5] = ["ro", "no_root_squash", "no_subtree_check", "insecure", "async"];

#[test]
fn exports_is_a_line_of_a_path_and_a_client_with_known_options() {
    let project = Project::new();
    project.run(&["build", "--recipe", "tiny", "--root", "nfs"]).succeeds();
    let text = project.read("out/tiny-nfs/servers/exports");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let [line] = lines[..] else { panic!("one line: {text}") };
    let [path, client] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("a path and a client: {line}") };
    assert_eq!(path, "/srv/bootwright/tiny-nfs/root");
    let options = client.strip_prefix("*(").and_then(|rest| rest.strip_suffix(')')).expect("a client's options");
    assert!(options.split(',').all(|option| EXPORT_OPTIONS.contains(&option)), "{options}");
    assert!(options.split(',').any(|option| option == "ro"), "{options}");
}

#[test]
fn targetcli_is_called_for_store_target_disk_and_access() {
    if !testkit::need::have(&["mksquashfs"]) {
        return;
    }
    let project = Project::with_root(SQUASHFS);
    project.run(&["build", "--recipe", "tiny", "--root", "iscsi"]).succeeds();
    // It would configure the kernel of this machine: what it would be told is written down instead.
    project.write_program("bin/targetcli", "#!/bin/sh\necho \"$*\" >> calls\n");
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").expect("there is a PATH"));
    let script = project.path("out/tiny-iscsi/servers/targetcli.sh");
    let done = Command::new("sh").arg(script).env("PATH", path).current_dir(project.path("")).status();
    assert!(done.expect("a shell").success());
    let target = "iqn.2024-07.internal.bootwright:tiny";
    let expected = [
        "/backstores/fileio create name=tiny file_or_dev=/srv/bootwright/tiny-iscsi/root.img write_back=false".into(),
        format!("/iscsi create {target}"),
        format!("/iscsi/{target}/tpg1/luns create storage_object=/backstores/fileio/tiny lun=1"),
        format!(
            "/iscsi/{target}/tpg1 set attribute authentication=0 generate_node_acls=1 cache_dynamic_acls=1 \
             demo_mode_write_protect=1"
        ),
    ];
    assert_eq!(project.read("calls").lines().collect::<Vec<_>>(), expected);
}
