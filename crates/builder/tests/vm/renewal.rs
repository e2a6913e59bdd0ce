//! Roots that were built after the initrd, with a manifest that is signed by a key that it knows.

use bootwright::emit::manifest::load_manifest;
use bootwright::entry::Body;
use bootwright::pack::prove;
use bootwright::signing::{SigningKey, generate, load_signing_key};
use bootwright_contract::manifest::{KIND, RootManifest, VERITY_KIND, VERSION, VerityManifest};
use bootwright_contract::{RootImage, Verity};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::http::{PageServer as Web, Step};
use testkit::image::Image;
use testkit::nbd::{QEMU_NBD, qemu_nbd};
use testkit::tgt::{NAME, Target, Tgt};
use testkit::vm::{Outcome, smoke};
use testkit::{QEMU, need::have};

/// An image that trusts a key, and a web server for what the key signs.
struct Lab {
    folder: TempDir,
    key: SigningKey,
    image: Image,
    web: Web,
}

impl Lab {
    fn new(root: &str) -> Lab {
        let folder = testkit::folders::new_folder();
        let path = folder.path().join("key");
        let public = generate(&path).expect("a new file");
        let key = load_signing_key(&path).expect("it was just made");
        let recipe = format!("[root]\ntrust = {public:?}\nrefuse_downgrade = true\n");
        // Each has a key of its own, so a recipe too.
        let image = Image::build_variant_with_root(&format!("trusting-{root}"), "rescue", &recipe, &[], Some(root));
        Lab { folder, key, image, web: Web::start() }
    }

    /// What the manifest says of another root. The serial of the build is the time of its lock.
    fn manifest(&self, disk: &[u8], sums: &[u8], serial: u64) -> RootManifest {
        let about = load_manifest(&self.image.dir().join("manifest.json")).expect("the image was built");
        RootManifest {
            kind: KIND.into(),
            version: VERSION,
            recipe: about.recipe,
            image_id: "renewed".into(),
            release: about.kernel_release,
            serial,
            image: RootImage::Squashfs,
            size: disk.len() as u64,
            sha256: hash(disk),
            tree_sums_sha256: hash(sums),
        }
    }

    /// The image and a page of nothing, which can be mounted as well, as a server's disk.
    fn other_disk(&self) -> (Vec<u8>, PathBuf) {
        let disk = [std::fs::read(self.image.dir().join("root.img")).expect("it was built"), vec![0; 4096]].concat();
        let path = self.folder.path().join("renewed.img");
        std::fs::write(&path, &disk).expect("a new file");
        (disk, path)
    }

    /// A manifest's text and its signature.
    fn sign(&self, manifest: &RootManifest) -> (Vec<u8>, Vec<u8>) {
        let text = serde_json::to_vec(manifest).expect("plain data");
        let signature = self.key.sign(&text);
        (text, signature)
    }

    /// Puts `NAME.json` and its signature on the web server; gives the guest's URL without `.json`.
    fn publish(&self, name: &str, manifest: &RootManifest, forge: impl FnOnce(&mut Vec<u8>)) -> String {
        let (text, mut signature) = self.sign(manifest);
        forge(&mut signature);
        page(&self.web, &format!("{name}.json.sig"), &signature);
        let url = page(&self.web, &format!("{name}.json"), &text).replace("127.0.0.1", "10.0.2.2");
        url.trim_end_matches(".json").into()
    }

    fn boot(&self, words: &[String], more: &[&str]) -> Outcome {
        smoke(&self.image, &[&["--append", &words.join(" "), "--deadline-s", "180"], more].concat())
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[track_caller]
fn assert_renewed(outcome: &Outcome) {
    outcome.assert_passed();
    let console = outcome.console();
    assert!(console.contains(RENEWED), "{console}");
}

const RENEWED: &str = "root.json` names another root, signed by the key of this initrd";

#[test]
fn a_signed_image_is_taken_without_a_new_initrd() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let lab = Lab::new("http");
    let (disk, path) = lab.other_disk();
    let manifest = |serial| lab.manifest(&disk, b"", serial);
    let old = lab.publish("old", &manifest(1), |_| ());
    let forged = lab.publish("forged", &manifest(u64::MAX), |signature| signature[5] ^= 1);
    let good = lab.publish("root", &manifest(u64::MAX), |_| ());
    lab.web.page("/root.img", &disk, &[Step::Serve]);
    let outcome = lab.boot(&[&old, &forged, &good].map(|url| format!("bw.root={url}.img")), &[]);
    outcome.assert_passed();
    let console = outcome.console();
    for message in [
        "old.json`: its serial is 1, and this initrd refuses what is older than ",
        "forged.json`: its signature is not by the key of this initrd",
        RENEWED,
    ] {
        assert!(console.contains(message), "no {message:?} in {console}");
    }
    // A server of blocks has no files beside the image: the command line says where the manifest is. This one is from before there
    // was a second file that says how the image is proven.
    let server = qemu_nbd(&path, "trusting");
    let root = format!("bw.root=nbd://10.0.2.2:{}/trusting", server.port);
    assert_renewed(&lab.boot(&[root, format!("bw.manifest={good}.json")], &[]));
}

/// With the second file the image of another build is proven at each read too, by what the key signed.
#[test]
fn a_signed_image_is_proven_by_the_hashes_that_were_signed_with_it() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let lab = Lab::new("nbd");
    let (disk, path) = lab.other_disk();
    let proven = prove("renewed.img", &Body::from_bytes(disk.clone())).expect("memory can be read");
    let disk = [&disk[..], &proven.tail].concat();
    std::fs::write(&path, &disk).expect("the test's own");
    let server = qemu_nbd(&path, "trusting");
    let root = format!("bw.root=nbd://10.0.2.2:{}/trusting", server.port);
    let publish = |name: &str, root_hash: String| {
        let url = lab.publish(name, &lab.manifest(&disk, b"", u64::MAX), |_| ());
        let (kind, sha256) = (VERITY_KIND.into(), hash(&disk));
        let verity = Verity { root_hash, ..proven.verity.clone() };
        let proof = VerityManifest { kind, version: VERSION, sha256, verity };
        let text = serde_json::to_vec(&proof).expect("plain data");
        page(&lab.web, &format!("{name}.verity.json.sig"), &lab.key.sign(&text));
        page(&lab.web, &format!("{name}.verity.json"), &text);
        format!("bw.manifest={url}.json")
    };
    assert_renewed(&lab.boot(&[root.clone(), publish("root", proven.verity.root_hash.clone())], &[]));
    let wrong = publish("wrong", "0".repeat(64));
    let outcome = lab.boot(&[root, wrong, "bw.policy.root=reboot:1".into()], &[]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    // The hash of the tree's top is compared first.
    let expected = format!("block {} (hash tree) is not that of this build and is refused", proven.verity.blocks);
    assert!(outcome.console().contains(&expected), "no {expected:?} in {}", outcome.console());
}

fn page(web: &Web, name: &str, body: &[u8]) -> String {
    web.page(&format!("/{name}"), body, &[Step::Serve])
}

/// The image's own script for iPXE says where the manifest is: beside itself.
#[test]
fn a_signed_disk_is_taken_as_ipxes_script_says() {
    if !have(&[QEMU, "tgtd"]) {
        return;
    }
    let lab = Lab::new("iscsi");
    let (disk, path) = lab.other_disk();
    let (text, signature) = lab.sign(&lab.manifest(&disk, b"", u64::MAX));
    for (name, bytes) in [("root.json", text), ("root.json.sig", signature)] {
        std::fs::write(lab.image.dir().join(name), bytes).expect("an unsigned build has none");
    }
    let tgt = Tgt::start(Target::open(&path));
    let root = format!("bw.root=iscsi://10.0.2.2:{}/{NAME}", tgt.port());
    assert_renewed(&lab.boot(&[root], &["--via", "ipxe"]));
}

#[test]
fn a_signed_tree_is_taken_without_a_new_initrd() {
    if !have(&[QEMU, GANESHA, "cp"]) || !is_root() {
        return;
    }
    let lab = Lab::new("nfs");
    let tree = lab.folder.path().join("tree");
    let copied = Command::new("cp").arg("-aH").arg(lab.image.dir().join("root")).arg(&tree).status();
    assert!(copied.expect("cp runs").success());
    let sums = renew(&tree);
    let server = Ganesha::start("4", &[(&tree, "/root", "RO")]);
    let good = lab.publish("root", &lab.manifest(b"", &sums, u64::MAX), |_| ());
    let root = format!("bw.root=nfs://10.0.2.2:{}/root", server.server.port);
    assert_renewed(&lab.boot(&[root, format!("bw.manifest={good}.json")], &[]));
}

/// Adds a file to an exported tree; gives the new sums.
fn renew(tree: &Path) -> Vec<u8> {
    std::fs::write(tree.join("opt/new"), "new").expect("a new file");
    let path = tree.join("bootwright/sums/root");
    let text = std::fs::read_to_string(&path).expect("the tree holds it");
    let text = format!("{text}{} 3 /opt/new\n", hash(b"new"));
    std::fs::write(&path, &text).expect("it can be written");
    text.into_bytes()
}
