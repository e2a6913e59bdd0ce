//! Kernel modules that are signed by a key of one's own: as other people's programs verify them, the same each time, and without a
//! trace of the key; and keys and certificates that do not do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::need::have;
use testkit::project::{Project, Run};
use testkit::worker::unpack_root;

const ROOT: &str = "image = \"squashfs\"\ncompressor = \"gzip\"";
const MODULE: &str = "usr/lib/modules/1.0/kernel/net/second.ko";
/// Documentation/admin-guide/module-signing.rst, "Signed modules and stripping"; include/linux/module_signature.h.
const MAGIC: &[u8] = b"~Module signature appended~\n";

fn openssl(args: &[&str], dir: &Path) -> bool {
    let output = Command::new("openssl").args(args).current_dir(dir).output().expect("it was looked for");
    output.status.success()
}

/// Makes `NAME.key` and `NAME.crt` in the project.
fn pair(project: &Project, name: &str, kind: &[&str], extensions: &[&str]) {
    let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
    let mut args =
        vec!["req", "-x509", "-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate];
    args.extend(kind);
    args.extend(extensions.iter().flat_map(|extension| ["-addext", extension]));
    assert!(openssl(&args, &project.path("")), "{args:?}");
}

const RSA: [&str; 2] = ["-newkey", "rsa:2048"];
const CODE: [&str; 2] = ["keyUsage=digitalSignature", "extendedKeyUsage=codeSigning"];

fn build(project: &Project, key: &str, certificate: &str) -> Run {
    project.build(&["--module-key", key, "--module-cert", certificate])
}

/// The module in the root.
fn module(project: &Project) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = unpack_root(&project.path("out/tiny"), folder.path(), &[MODULE.into()]);
    fs::read(tree.join(MODULE)).expect("it is in the root")
}

/// The module and its signature (DER).
fn split(signed: &[u8]) -> (&[u8], &[u8]) {
    let rest = signed.strip_suffix(MAGIC).expect("it is signed");
    let (rest, info) = rest.split_at(rest.len() - 12);
    // Algorithm, hash and length of names are said by PKCS#7 itself (type 2).
    assert_eq!(info[..8], [0, 0, 2, 0, 0, 0, 0, 0]);
    let length = u32::from_be_bytes(info[8..].try_into().expect("four bytes")) as usize;
    rest.split_at(rest.len() - length)
}

fn is_signed_by(folder: &Path, module: &[u8], signature: &[u8], certificate: &str) -> bool {
    fs::write(folder.join("module"), module).expect("it is the test's own");
    fs::write(folder.join("signature"), signature).expect("it is the test's own");
    let verify =
        ["cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", "module", "-out", "verified"];
    let trusted = ["-certfile", certificate, "-CAfile", certificate, "-purpose", "any"];
    openssl(&[&verify[..], &trusted].concat(), folder)
}

#[test]
fn modules_are_signed_as_others_verify_them_and_the_same_each_time() {
    if !have(&["openssl", "modinfo", "mksquashfs", "unsquashfs"]) {
        return;
    }
    let project = Project::with_root(ROOT);
    project.good_build();
    let unsigned = module(&project);
    pair(&project, "lab", &RSA, &CODE);
    pair(&project, "other", &RSA, &[]);
    build(&project, "lab.key", "lab.crt").succeeds();
    let (image, signed) = (project.image(), module(&project));
    let (inner, signature) = split(&signed);
    assert!(inner == unsigned, "the module itself is as it was without a key");
    assert!(is_signed_by(&project.path(""), inner, signature, "lab.crt"));
    assert!(!is_signed_by(&project.path(""), inner, signature, "other.crt"));
    let mut changed = inner.to_vec();
    changed[70] ^= 1;
    assert!(!is_signed_by(&project.path(""), &changed, signature, "lab.crt"), "a changed module");
    let file = project.path("second.ko");
    fs::write(&file, &signed).expect("it is the test's own");
    let said =
        |field| Command::new("modinfo").args(["-F", field]).arg(&file).output().expect("it was looked for").stdout;
    assert_eq!((said("signer"), said("sig_hashalgo")), (b"lab\n".to_vec(), b"sha256\n".to_vec()));
    // That of the initrd too.
    let report = project.run(&["inspect", "--files", "--json", "out/tiny/initrd.img"]).succeeds().json();
    let entries = report["segments"][0]["entries"].as_array().expect("entries").clone();
    let first =
        entries.iter().find(|entry| entry["path"] == "lib/modules/1.0/kernel/lib/first.ko").expect("it is early");
    assert!(first["size"].as_u64().is_some_and(|size| size as usize > signature.len() + MAGIC.len()), "{first}");

    build(&project, "lab.key", "lab.crt").succeeds().says(&["nothing changed"]);
    fs::remove_dir_all(project.path("cache")).expect("a build made it");
    fs::remove_dir_all(project.path("out")).expect("a build made it");
    build(&project, "lab.key", "lab.crt").succeeds();
    project.image().is_like(&image);

    // Another key is another image, and so is none.
    for again in [build(&project, "other.key", "other.crt"), project.build(&[])] {
        assert!(!again.succeeds().out.contains("nothing changed"), "{}", again.out);
        assert!(module(&project) != signed);
    }
    assert!(module(&project) == unsigned);
}

/// All that a build leaves and says, but the files that it was given.
fn left(project: &Project, run: &Run) -> Vec<(PathBuf, Vec<u8>)> {
    let files = ["out", "cache", "recipes"].into_iter().flat_map(|folder| walkdir::WalkDir::new(project.path(folder)));
    let files = files.map(|entry| entry.expect("it can be listed").into_path()).filter(|path| path.is_file());
    let said = [&run.out, &run.err].map(|text| (PathBuf::from("what it says"), text.clone().into_bytes()));
    files.map(|path| (path.clone(), fs::read(path).expect("it can be read"))).chain(said).collect()
}

#[test]
fn nothing_that_a_build_leaves_holds_the_key() {
    if !have(&["openssl", "mksquashfs"]) {
        return;
    }
    let project = Project::with_root(ROOT);
    pair(&project, "lab", &RSA, &CODE);
    let run = project.run(&["build", "--recipe", "tiny", "-v", "--module-key", "lab.key", "--module-cert", "lab.crt"]);
    run.succeeds();
    let pem = project.read("lab.key");
    let line = pem.lines().nth(12).expect("a key of 2048 bits has as many lines");
    assert!(openssl(&["pkey", "-in", "lab.key", "-outform", "DER", "-out", "lab.der"], &project.path("")));
    let der = fs::read(project.path("lab.der")).expect("it was just written");
    // Behind the modulus, which the public half has too.
    let parts = [line.as_bytes(), &der[400..432], &der[der.len() - 32..]];
    for (path, bytes) in left(&project, &run) {
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!parts.iter().any(|part| holds(part)), "{}", path.display());
    }
}

#[test]
fn keys_and_certificates_that_do_not_do_are_refused_by_name() {
    if !have(&["openssl", "mksquashfs"]) {
        return;
    }
    let project = Project::with_root(ROOT);
    pair(&project, "lab", &RSA, &CODE);
    pair(&project, "other", &RSA, &[]);
    pair(&project, "web", &RSA, &["extendedKeyUsage=serverAuth"]);
    pair(&project, "ca", &RSA, &["keyUsage=keyCertSign,cRLSign"]);
    pair(&project, "ec", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], &CODE);
    let dir = project.path("");
    for (out, more) in [("pkcs8.key", &[][..]), ("old.key", &["-traditional"][..])] {
        let args = ["pkey", "-in", "lab.key", "-aes256", "-passout", "pass:x", "-out", out];
        assert!(openssl(&[&args[..], more].concat(), &dir));
    }
    project.write("empty", "");
    for (key, certificate, said) in [
        ("other.key", "lab.crt", "the key `other.key` is not that of the certificate `lab.crt`"),
        ("pkcs8.key", "lab.crt", "the key `pkcs8.key` is encrypted"),
        ("old.key", "lab.crt", "the key `old.key` is encrypted"),
        (
            "web.key",
            "web.crt",
            "the certificate `web.crt` is not for signing code: its extendedKeyUsage is `TLS Web Server Authentication`",
        ),
        (
            "ca.key",
            "ca.crt",
            "the certificate `ca.crt` is not for signing code: its keyUsage is `Certificate Sign, CRL Sign`",
        ),
        ("ec.key", "ec.crt", "the key `ec.key` is no RSA key"),
        ("lab.crt", "lab.crt", "`lab.crt` is no private key (PEM): "),
        ("lab.key", "lab.key", "`lab.key` is no certificate (PEM): "),
        ("empty", "lab.crt", "`empty` is no private key (PEM): "),
        ("none", "lab.crt", "cannot read `none`: "),
        ("lab.key", "none", "cannot read `none`: "),
        ("recipes", "lab.crt", "cannot read `recipes`: it is a folder"),
    ] {
        build(&project, key, certificate).fails(2, &[said]);
        assert!(!project.path("out/tiny").exists(), "{said}");
    }
    assert_eq!(project.build(&["--module-key", "lab.key"]).code, Some(2), "without a certificate");
    let mut without =
        project.command(&["build", "--recipe", "tiny", "--module-key", "lab.key", "--module-cert", "lab.crt"]);
    Run::of(without.env("PATH", "/nonexistent").output().expect("it starts"))
        .fails(1, &["cannot run `openssl`", "apt-get install openssl"]);
    project.edit("early = [\"first\"]", "strip = false\nearly = [\"first\"]");
    build(&project, "lab.key", "lab.crt").fails(2, &["there is nothing to sign", "strip = true"]);
}
