//! Container images that are baked in, from the recipe to what lies beside the kernel.

use bootwright::entry::Sha256;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use testkit::http::{PageServer, Step};
use testkit::layout::add_image;
use testkit::need::have;
use testkit::project::{Project, Run, names};
use testkit::trees::noise;

const SANDBOX: &str = "r.example/pause:1";
const APP: &str = "r.example/team/app:2";
const NAME: &str = "io.containerd.image.name";
const CONFIG: &str = "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = \"r.example/pause:1\"\n";

/// A project with a containerd of that version, its configuration, and two images in one layout.
struct Lab {
    project: Project,
    _server: PageServer,
}

impl Lab {
    /// With an image that is too large for the initrd of a root on a server.
    fn new(root: &str, version: &str) -> Self {
        Self::with_sandbox_of(root, version, 300_000)
    }

    fn with_sandbox_of(root: &str, version: &str, bytes: usize) -> Self {
        let project = Project::with_root(root);
        let server = PageServer::start();
        let program = b"#!/proc/self/exe";
        let url = server.page(&format!("/v{version}/containerd"), program, &[Step::Serve]);
        let sha256 = Sha256::of(program);
        project.add(&format!(
            "[[component]]\nname = \"containerd\"\n\
             url = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {}, name = \"usr/bin/containerd\" }}\n\
             [[service]]\nname = \"containerd\"\nexec = [\"/usr/bin/containerd\"]\n\
             [state]\n\"/var/lib/containerd\" = {{ tmpfs = \"60%\", mode = \"0711\" }}\n",
            program.len()
        ));
        project.write("overlay/etc/containerd/config.toml", CONFIG);
        let layout = project.path("images");
        add_image(&layout, (NAME, SANDBOX), &[("pause", &noise(bytes))], &["/pause"]);
        add_image(&layout, (NAME, APP), &[("app", &[b'x'; 9000])], &["/app"]);
        let lab = Self { project, _server: server };
        lab.image(SANDBOX, "");
        lab
    }

    fn image(&self, name: &str, more: &str) {
        self.project.add(&format!("[[image]]\nref = \"{name}\"\nlayout = \"../images\"\n{more}"));
    }

    fn manifest(&self, folder: &str) -> Value {
        serde_json::from_str(&self.project.read(&format!("out/{folder}/manifest.json"))).expect("it is JSON")
    }
}

const SQUASHFS: &str = "image = \"squashfs\"";

fn needed() -> bool {
    have(&["mksquashfs", "unsquashfs"])
}

/// What a squashfs holds, as `unsquashfs -ll` lists it.
fn listing(image: &Path) -> String {
    let output = Command::new("unsquashfs").args(["-lln", "-d", ""]).arg(image).env("TZ", "UTC").output();
    String::from_utf8(output.expect("it starts").stdout).expect("UTF-8")
}

#[test]
fn a_ram_root_has_a_segment_of_images_that_nothing_else_changes_with() {
    if !needed() {
        return;
    }
    let lab = Lab::new(SQUASHFS, "2.4.2");
    let first = lab.project.build(&["--json"]).succeeds().json();
    let manifest = lab.manifest("tiny");
    let segments: Vec<&str> = manifest["segments"]
        .as_array()
        .expect("segments")
        .iter()
        .map(|s| s["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(segments, ["boot", "root", "images", "config"]);
    assert_eq!(manifest["images"][0]["name"], SANDBOX);
    let terms = first["budget"]["steady"]["terms"].as_array().expect("terms").clone();
    let term = terms.iter().find(|term| term["name"] == "container images").expect("they are counted");
    assert_eq!(term["bytes"], manifest["segments"][2]["resident"]);
    assert!(
        lab.project.read("out/tiny/sbom.spdx.json").contains(manifest["images"][0]["digest"].as_str().expect("one"))
    );
    lab.project.run(&["explain", "--recipe", "tiny", SANDBOX]).succeeds().says(&["images segment", "tiny.toml:"]);

    lab.image(APP, "");
    // Some time later: the root holds the time of the lock.
    let later =
        lab.project.command(&["build", "--recipe", "tiny", "--json"]).env("SOURCE_DATE_EPOCH", "1800000000").output();
    let second = Run::of(later.expect("it starts")).succeeds().json();
    assert_eq!(second["reused"], serde_json::json!(["boot", "root"]));
    assert_ne!(second["image_id"], first["image_id"]);
    assert_eq!(lab.manifest("tiny")["images"][1]["name"], APP);
    let digest = || lab.manifest("tiny")["images"][1]["digest"].clone();
    let pinned = digest();
    // An image that changes in its layout is pinned anew, with a line.
    std::fs::remove_dir_all(lab.project.path("images")).expect("it was made");
    let layout = lab.project.path("images");
    add_image(&layout, (NAME, SANDBOX), &[("pause", &noise(20_000))], &["/pause"]);
    add_image(&layout, (NAME, APP), &[("app", b"another")], &["/app"]);
    lab.project.build(&[]).succeeds().says(&["component `r.example/team/app:2` changed: pinning it anew"]);
    assert_ne!(digest(), pinned);
}

/// Whether more than the squashfs is there: its head says where that ends (fs/squashfs/squashfs_fs.h, `bytes_used`).
fn ends_with_hashes(image: &Path) -> bool {
    let bytes = std::fs::read(image).expect("it is there");
    let used = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")).next_multiple_of(4096);
    bytes.len() as u64 > used && (bytes.len() as u64 - used).is_multiple_of(4096)
}

#[test]
fn a_root_on_a_server_has_a_file_of_images_beside_it() {
    if !needed() {
        return;
    }
    let lab = Lab::new(SQUASHFS, "2.2.1");
    lab.image(APP, "when = \"false\"\n");
    for mode in ["nbd", "http", "nfs"] {
        let report = lab.project.build(&["--root", mode, "--json"]).succeeds().json();
        let folder = format!("tiny-{mode}");
        let image = lab.project.path(&format!("out/{folder}/images.img"));
        let (sha256, size) = Sha256::of_file(&image).expect("it is there");
        let manifest = lab.manifest(&folder);
        let files = manifest["root"]["files"].as_array().expect("files");
        let file = files.iter().find(|file| file["path"] == "images.img").expect("its server has to hold it");
        assert_eq!((&file["size"], &file["sha256"]), (&size.into(), &sha256.to_string().into()));
        assert!(manifest["images"].as_array().is_some_and(|images| images.len() == 1), "the other one is switched off");
        assert!(ends_with_hashes(&image), "it ends with what proves it");
        // A block of the large layer, which lies there as it is.
        let (bytes, wanted) = (std::fs::read(&image).expect("it is there"), &noise(300_000)[8192..8256]);
        let block = bytes.windows(64).position(|part| part == wanted).expect("noise does not compress") / 4096;
        let explain = ["explain", "--recipe", "tiny", "--root", mode, "images.img", "--block", &block.to_string()];
        lab.project.run(&explain).succeeds().says(&[
            "of `images.img`",
            ": data, bytes ",
            "  /snapshots/1/fs/pause: its bytes 0 to",
        ]);
        if mode == "nfs" {
            let tree = lab.project.path(&format!("out/{folder}/root/bootwright/images.img"));
            assert_eq!(Sha256::of_file(&tree).expect("the tree has it too"), (sha256, size));
        }
        let counted = report["budget"]["steady"]["terms"].as_array().expect("terms").iter();
        let counted = counted.filter(|term| term["name"] == "container images").count();
        assert_eq!(counted, usize::from(mode == "http"), "{mode}");
        let listing = listing(&image);
        for line in [
            "/seed/io.containerd.metadata.v1.bolt/meta.db",
            "/seed/io.containerd.snapshotter.v1.overlayfs/metadata.db",
            "/seed/io.containerd.snapshotter.v1.overlayfs/snapshots/1 -> /run/images/snapshots/1",
            "/snapshots/1/fs/pause",
        ] {
            assert!(listing.lines().any(|found| found.ends_with(line)), "{line}: {listing}");
        }
    }
}

#[test]
fn a_few_kilobytes_of_images_are_in_the_initrd_whatever_the_root() {
    if !needed() {
        return;
    }
    let lab = Lab::with_sandbox_of(SQUASHFS, "2.2.1", 20_000);
    for mode in ["nbd", "http", "nfs"] {
        lab.project.build(&["--root", mode]).succeeds();
        let folder = format!("tiny-{mode}");
        assert!(
            !lab.project.path(&format!("out/{folder}/images.img")).exists(),
            "{mode}: its server needs no other file"
        );
        let segments = lab.manifest(&folder)["segments"].as_array().expect("segments").clone();
        let names: Vec<&str> = segments.iter().filter_map(|segment| segment["name"].as_str()).collect();
        assert_eq!(names, ["boot", "images", "config"], "{mode}");
        let servers = lab.project.path(&format!("out/{folder}/servers"));
        for file in std::fs::read_dir(servers).into_iter().flatten() {
            let text = std::fs::read_to_string(file.expect("it can be listed").path()).expect("a text");
            assert!(!text.contains("images"), "{mode}: {text}");
        }
    }
}

#[test]
fn who_builds_it_and_when_does_not_show() {
    if !needed() || !have(&["setpriv"]) {
        return;
    }
    let sums = |command: &mut Command, dir: &Path| {
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Sha256::of_file(&dir.join("out/tiny-nbd/images.img")).expect("it was built")
    };
    let build = ["build", "--recipe", "tiny", "--root", "nbd"];
    let first = Lab::new(SQUASHFS, "2.4.2");
    first.image(APP, "");
    let here = sums(&mut first.project.command(&build), &first.project.path("."));

    // Another folder, user, umask, time zone and number of threads; the images' files belong to several users either way.
    let second = Lab::new(SQUASHFS, "2.4.2");
    second.image(APP, "");
    let place = second.project.path(".");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let command = second.project.command(&[]);
    let script = "umask 077; sleep 1; exec \"$0\" build --recipe tiny --root nbd --jobs 1";
    let tool = second.project.path("bootwright");
    std::fs::copy(testkit::tool::tool_path(), &tool).expect("it was built");
    let mut there = Command::new("sh");
    if nix::unistd::geteuid().is_root() {
        for entry in walkdir::WalkDir::new(&place) {
            let path = entry.expect("it was just made").into_path();
            std::os::unix::fs::lchown(path, Some(65534), Some(65534)).expect("root may");
        }
        there = Command::new("setpriv");
        there.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh"]);
    }
    there
        .args(["-c", script])
        .arg(&tool)
        .current_dir(&place)
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    there.env("TZ", "Asia/Tokyo").env("HOME", "/nonexistent").env("TMPDIR", &place);
    assert_eq!(sums(&mut there, &place), here);
}

#[test]
fn what_could_not_be_used_is_refused_with_the_recipe_or_the_build() {
    if !needed() {
        return;
    }
    let lab = Lab::new(SQUASHFS, "2.5.0");
    lab.project.build(&[]).fails(2, &["baked in for containerd 2.2, 2.3, 2.4", "has 2.5.0"]);
    let lab = Lab::new(SQUASHFS, "2.4.2");
    lab.project.write("overlay/etc/containerd/config.toml", CONFIG.replace("pause:1", "pause:3"));
    lab.project.build(&[]).fails(2, &["pods need `r.example/pause:3` for their sandboxes"]);
    lab.project.write("overlay/etc/containerd/config.toml", CONFIG);
    lab.image("r.example/other:1", "");
    lab.project.build(&[]).fails(3, &["holds no image called `r.example/other:1`"]);
    let lab = Lab::new(SQUASHFS, "2.4.2");
    lab.image("app:1", "");
    lab.project.run(&["check", "--recipe", "tiny"]).fails(2, &["`app:1` is no name of an image", "tiny.toml:"]);
}

#[test]
fn secrets_in_images_are_refused_or_said() {
    if !needed() {
        return;
    }
    let lab = Lab::new(SQUASHFS, "2.4.2");
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n";
    let name = "r.example/key:1";
    add_image(&lab.project.path("images"), (NAME, name), &[("key.pem", key.as_bytes())], &["/x"]);
    lab.image(name, "");
    lab.project.build(&[]).fails(2, &["snapshots/", "key.pem", "in image `r.example/key:1`"]);
    lab.project.add("secrets = \"allowed\"\nsecrets_reason = \"for tests\"\n");
    lab.project.build(&[]).succeeds().says(&["secrets are allowed in image `r.example/key:1`", "for tests"]);
    let mode = lab.project.path("out/tiny").metadata().expect("it was built").permissions().mode();
    assert_eq!(mode & 0o7, 0, "closed to others");
}

#[test]
fn images_are_inherited_vendored_and_built_without_their_layout() {
    if !needed() {
        return;
    }
    let lab = Lab::new(SQUASHFS, "2.4.2");
    lab.project.build(&[]).succeeds();
    lab.project.write(
        "recipes/more.toml",
        format!("extends = \"tiny\"\n[[image]]\nref = \"{APP}\"\nlayout = \"../images\"\n"),
    );
    let build = |more: &[&str]| lab.project.run(&[&["build", "--recipe", "more"], more].concat());
    build(&[]).succeeds();
    let pins = |recipe: &str| {
        let lock: toml::Table = lab.project.read(&format!("recipes/{recipe}.lock")).parse().expect("it is TOML");
        let all = lock["component"].as_array().expect("components").clone();
        all.into_iter().find(|component| component["name"].as_str() == Some(SANDBOX)).expect("it is pinned")
    };
    assert_eq!(pins("more"), pins("tiny"), "what is inherited is pinned as there");
    let folder = lab.project.path("vendored");
    lab.project.run(&["vendor", "--recipe", "more", &folder.to_string_lossy()]).succeeds();
    std::fs::remove_dir_all(lab.project.path("cache")).expect("it was made");
    build(&["--locked", "--vendor", &folder.to_string_lossy()]).succeeds();
    let removed = format!("extends = \"tiny\"\n[[image]]\nref = \"{SANDBOX}\"\nremove = true\n");
    lab.project.write("recipes/less.toml", removed);
    lab.project.run(&["build", "--recipe", "less"]).succeeds();
    assert!(!names(&lab.project.path("out/less/segments")).iter().any(|name| name.starts_with("images")));
}
