//! OCI layouts below `/v2/`: pulls, questions that are wrong, and files that lie elsewhere.

use bootwright::entry::Sha256;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::layout::{INDEX, MANIFEST, PutImage, add_entry, add_image, descriptor, put_blob};
use testkit::registry::Registry;
use testkit::serve::Serve;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// A lab with two layouts, and the images in them: `tools` with tags of its own and docker's name for one, `kubernetes` with `pause`.
fn lab() -> (tempfile::TempDir, PathBuf, [PutImage; 3]) {
    let lab = crate::lab();
    let registry = lab.path().join("out/registry");
    let image = |folder: &str, name, text: &str| {
        add_image(&registry.join(folder), name, &[("file", text.as_bytes())], &["/file"])
    };
    let pause = image("kubernetes", (FULL_NAME, "registry.k8s.io/pause:3.10.1"), "pause");
    let tool = image("tools", (REF_NAME, "v1"), "tool");
    let busybox = image("tools", (REF_NAME, "busybox:1.36"), "busybox");
    (lab, registry, [pause, tool, busybox])
}

/// Status line's code, head and body.
fn ask(serve: &Serve, method: &str, path: &str) -> (u16, String, String) {
    let answer = serve.ask(&format!("{method} {path} HTTP/1.1"), "");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.into(), body.into())
}

fn get(serve: &Serve, path: &str) -> (u16, String, String) {
    ask(serve, "GET", path)
}

/// The code of a refusal, in the form that the distribution-spec gives it.
fn refusal(serve: &Serve, method: &str, path: &str) -> (u16, String) {
    let (status, head, body) = ask(serve, method, path);
    assert!(head.contains("\r\nContent-Type: application/json"), "{path}: {head}");
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
    assert!(body["errors"][0]["message"].is_string(), "{path}: {body}");
    (status, body["errors"][0]["code"].as_str().unwrap_or_default().into())
}

#[test]
fn images_of_layouts_are_pulled_by_tag_and_digest_under_the_names_that_they_have() {
    let (lab, _, [pause, tool, busybox]) = lab();
    let serve = Serve::start(lab.path(), &[]);
    let (status, head, body) = get(&serve, "/v2/");
    assert!(status == 200 && head.contains("Docker-Distribution-Api-Version: registry/2.0"), "{head}");
    assert_eq!(body, "{}");
    for (name, image, more) in [
        // As containerd asks a mirror, as others do, and as docker does.
        ("pause", &pause, "?ns=registry.k8s.io"),
        ("registry.k8s.io/pause", &pause, ""),
        ("library/busybox", &busybox, "?ns=docker.io"),
        ("docker.io/library/busybox", &busybox, ""),
        ("library/busybox", &busybox, ""),
        ("tools", &tool, ""),
    ] {
        let tag = if name == "tools" { "v1" } else { "3.10.1" };
        let tag = if name.ends_with("busybox") { "1.36" } else { tag };
        let digest = format!("sha256:{}", image.manifest);
        for reference in [tag, &digest] {
            let path = format!("/v2/{name}/manifests/{reference}{more}");
            let (status, head, body) = get(&serve, &path);
            assert_eq!(status, 200, "{path}: {body}");
            assert!(head.contains(&format!("\r\nContent-Type: {MANIFEST}\r\n")), "{path}: {head}");
            assert!(head.contains(&format!("\r\nDocker-Content-Digest: {digest}")), "{path}: {head}");
            assert_eq!(Sha256::of(body.as_bytes()), image.manifest, "{path}");
            let (status, asked, nothing) = ask(&serve, "HEAD", &path);
            assert_eq!((status, nothing.as_str()), (200, ""), "{path}");
            for line in [format!("Content-Length: {}", body.len()), format!("Docker-Content-Digest: {digest}")] {
                assert!(asked.contains(&line), "{path}: {asked}");
            }
        }
        let path = format!("/v2/{name}/blobs/sha256:{}{more}", image.config);
        let (status, head, body) = get(&serve, &path);
        assert!(status == 200 && head.contains("\r\nContent-Type: application/octet-stream\r\n"), "{path}: {head}");
        assert_eq!(Sha256::of(body.as_bytes()), image.config, "{path}");
    }
    let layer = format!("GET /v2/tools/blobs/sha256:{} HTTP/1.1", tool.layer);
    let part = serve.ask(&format!("{layer}\r\nRange: bytes=512-515"), "");
    assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\ntool"), "{part}");
    assert!(part.contains("\r\nContent-Range: bytes 512-515/"), "{part}");
    assert!(serve.ask(&format!("{layer}\r\nRange: bytes=99999999-"), "").starts_with("HTTP/1.1 416"));
    let log = serve.wait_for_log(&format!("GET /v2/tools/blobs/sha256:{} (bytes=512-515) 206 4\n", tool.layer));
    assert!(log.contains("images for containers: 3, below /v2/"), "{log}");
}

#[test]
fn a_name_never_stands_for_the_image_of_another_registry() {
    let (lab, registry, [pause, tool, _]) = lab();
    add_image(&registry.join("z"), (REF_NAME, "ghcr.io/library/busybox:1.36"), &[], &["/other"]);
    let serve = Serve::start(lab.path(), &[]);
    for path in [
        "/v2/pause/manifests/3.10.1",
        "/v2/pause/manifests/3.10.1?ns=docker.io",
        "/v2/tools/manifests/v1?ns=registry.k8s.io",
        "/v2/registry.k8s.io/pause/manifests/3.10.1?ns=registry.k8s.io",
        &format!("/v2/pause/manifests/sha256:{}", pause.manifest),
        &format!("/v2/nothing/blobs/sha256:{}", pause.layer),
        "/v2/kubernetes/tags/list",
    ] {
        assert_eq!(refusal(&serve, "GET", path), (404, "NAME_UNKNOWN".into()), "{path}");
    }
    // A blob of another layout is no blob of this one.
    let path = format!("/v2/tools/blobs/sha256:{}", pause.layer);
    assert_eq!(refusal(&serve, "GET", &path), (404, "BLOB_UNKNOWN".into()));
    let (_, _, body) = get(&serve, "/v2/library/busybox/manifests/1.36?ns=ghcr.io");
    assert_ne!(body, get(&serve, "/v2/library/busybox/manifests/1.36?ns=docker.io").2);
    assert_eq!(get(&serve, &format!("/v2/tools/blobs/sha256:{}", tool.layer)).0, 200);
}

#[test]
fn tags_come_in_pages_and_layouts_that_are_added_meanwhile_are_found() {
    let (lab, registry, _) = lab();
    for tag in ["v3", "v2", "1"] {
        add_image(&registry.join("tools"), (REF_NAME, tag), &[], &[tag]);
    }
    let serve = Serve::start(lab.path(), &[]);
    let tags = |path: &str| -> (Value, Option<String>) {
        let (status, head, body) = get(&serve, path);
        assert_eq!(status, 200, "{path}: {body}");
        let link = head.lines().find_map(|line| line.strip_prefix("Link: ")).map(String::from);
        (serde_json::from_str::<Value>(&body).unwrap()["tags"].clone(), link)
    };
    assert_eq!(tags("/v2/tools/tags/list"), (json!(["1", "v1", "v2", "v3"]), None));
    let next = "</v2/tools/tags/list?n=2&last=v1>; rel=\"next\"";
    assert_eq!(tags("/v2/tools/tags/list?n=2"), (json!(["1", "v1"]), Some(next.into())));
    assert_eq!(tags("/v2/tools/tags/list?n=2&last=v1"), (json!(["v2", "v3"]), None));
    assert_eq!(tags("/v2/tools/tags/list?n=0"), (json!([]), None));
    assert_eq!(tags("/v2/tools/tags/list?last=v9"), (json!([]), None));
    assert_eq!(tags("/v2/pause/tags/list?ns=registry.k8s.io"), (json!(["3.10.1"]), None));
    // Never more than 500 at once, however many are asked for.
    let many = registry.join("many");
    let image = add_image(&many, (REF_NAME, "first"), &[], &["/x"]);
    let entry = descriptor(MANIFEST, &blob(&many, image.manifest));
    let named = |n: usize| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({ REF_NAME: format!("t{n:03}") });
        entry
    };
    let entries: Vec<Value> = (0..700).map(named).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    std::fs::write(many.join("index.json"), index.to_string()).unwrap();
    testkit::running::wait_until("it is found", Duration::from_secs(10), || get(&serve, "/v2/many/tags/list").0 == 200);
    let count = |path: &str| tags(path).0.as_array().unwrap().len();
    let next = "</v2/many/tags/list?n=500&last=t499>; rel=\"next\"";
    assert_eq!(tags("/v2/many/tags/list?n=9999").1.as_deref(), Some(next));
    assert_eq!((count("/v2/many/tags/list"), count("/v2/many/tags/list?n=500&last=t499")), (500, 200));
    let late = add_image(&registry.join("late"), (REF_NAME, "r.example/late:v1"), &[], &["/late"]);
    testkit::running::wait_until("it is found", Duration::from_secs(10), || {
        get(&serve, &format!("/v2/late/manifests/sha256:{}?ns=r.example", late.manifest)).0 == 200
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_in_the_words_of_the_specification() {
    let (lab, _, [_, tool, _]) = lab();
    let serve = Serve::start(lab.path(), &[]);
    let (digest, long) = ("ab".repeat(32), "a".repeat(8000));
    for (path, expected) in [
        ("/v2/tools/manifests/v9", (404, "MANIFEST_UNKNOWN")),
        (&format!("/v2/tools/manifests/sha256:{digest}"), (404, "MANIFEST_UNKNOWN")),
        // A blob, but no manifest.
        (&format!("/v2/tools/manifests/sha256:{}", tool.layer), (404, "MANIFEST_UNKNOWN")),
        (&format!("/v2/tools/manifests/sha256:{}", tool.config), (404, "MANIFEST_UNKNOWN")),
        (&format!("/v2/tools/blobs/sha256:{digest}"), (404, "BLOB_UNKNOWN")),
        ("/v2/tools/blobs/sha256:abc", (400, "DIGEST_INVALID")),
        ("/v2/tools/blobs/../../index.json", (404, "UNSUPPORTED")),
        ("/v2/tools/blobs/%2e%2e", (400, "DIGEST_INVALID")),
        (&format!("/v2/tools/blobs/sha256%3a{digest}"), (400, "DIGEST_INVALID")),
        ("/v2/../../secret/manifests/v1", (400, "NAME_INVALID")),
        ("/v2/%2e%2e/%2e%2e/manifests/v1", (400, "NAME_INVALID")),
        ("/v2/Tools/manifests/v1", (400, "NAME_INVALID")),
        (&format!("/v2/{long}/manifests/v1"), (400, "NAME_INVALID")),
        (&format!("/v2/tools/manifests/{long}"), (404, "MANIFEST_UNKNOWN")),
        (&format!("/v2/tools/manifests/v1?ns={long}/x"), (400, "NAME_INVALID")),
        ("/v2/tools/tags/list?n=many", (400, "UNSUPPORTED")),
        ("/v2/_catalog", (404, "UNSUPPORTED")),
        ("/v2/tools/manifests/%ff", (404, "MANIFEST_UNKNOWN")),
    ] {
        let (status, code) = refusal(&serve, "GET", path);
        assert_eq!((status, code.as_str()), expected, "{path:.200}");
        let (status, _, body) = ask(&serve, "HEAD", path);
        assert_eq!((status, body.as_str()), (expected.0, ""), "{path:.200}");
    }
    for (method, path) in [
        ("POST", "/v2/tools/blobs/uploads/"),
        ("DELETE", "/v2/tools/manifests/v1"),
        ("PUT", "/v2/tools/manifests/v1"),
        ("PATCH", "/v2/"),
    ] {
        assert_eq!(refusal(&serve, method, path), (405, "UNSUPPORTED".into()), "{method} {path}");
        assert!(ask(&serve, method, path).1.contains("\r\nAllow: GET, HEAD"), "{method} {path}");
    }
    assert_eq!(get(&serve, "/v2/tools/manifests/v1").0, 200, "it serves on");
}

/// What lies outside of the layouts is not served, by whatever link; nor is what is no file, or not what it is called.
#[test]
fn nothing_outside_of_the_layouts_is_a_blob() {
    let (lab, registry, [pause, tool, _]) = lab();
    let secret = lab.path().join("secret");
    let digest = |text: &str| Sha256::of(text.as_bytes()).to_string();
    let tools = registry.join("tools/blobs/sha256");
    symlink(&secret, tools.join(digest("absolute"))).unwrap();
    symlink("../../../../../secret", tools.join(digest("up"))).unwrap();
    symlink("../../../../worker/vmlinuz", tools.join(digest("kernel"))).unwrap();
    symlink("/proc/self/environ", tools.join(digest("magic"))).unwrap();
    nix::unistd::mkfifo(&tools.join(digest("fifo")), Mode::S_IRWXU).unwrap();
    std::fs::create_dir(tools.join(digest("folder"))).unwrap();
    // A link within the layouts leads where it says.
    symlink(format!("../../../kubernetes/blobs/sha256/{}", pause.layer), tools.join(pause.layer.to_string())).unwrap();
    // A whole layout, its list and its blobs elsewhere.
    let elsewhere = lab.path().join("elsewhere");
    let image = add_image(&elsewhere, (REF_NAME, "v1"), &[("secret", b"secret")], &["/x"]);
    symlink(&elsewhere, registry.join("linked")).unwrap();
    let copied = add_image(&registry.join("copied"), (REF_NAME, "v1"), &[], &["/y"]);
    std::fs::remove_dir_all(registry.join("copied/blobs")).unwrap();
    symlink(elsewhere.join("blobs"), registry.join("copied/blobs")).unwrap();
    symlink(elsewhere.join("blobs"), registry.join("copied/more")).unwrap();
    std::fs::create_dir(registry.join("listed")).unwrap();
    symlink(elsewhere.join("oci-layout"), registry.join("listed/oci-layout")).unwrap();
    symlink(elsewhere.join("index.json"), registry.join("listed/index.json")).unwrap();
    let serve = Serve::start(lab.path(), &[]);
    for name in ["absolute", "up", "kernel", "magic", "fifo", "folder"] {
        for kind in ["blobs", "manifests"] {
            let path = format!("/v2/tools/{kind}/sha256:{}", digest(name));
            assert_eq!(refusal(&serve, "GET", &path).0, 404, "{name}: {path}");
        }
    }
    for layout in ["linked", "listed"] {
        let path = format!("/v2/{layout}/manifests/v1");
        assert_eq!(refusal(&serve, "GET", &path), (404, "NAME_UNKNOWN".into()), "{path}");
        let said = format!(
            "warning: `registry/{layout}` is not served: cannot read `oci-layout`: a link leads out of the folder"
        );
        assert!(serve.log().contains(&said), "{}", serve.log());
    }
    for digest in [copied.manifest, image.manifest, image.layer] {
        assert_eq!(refusal(&serve, "GET", &format!("/v2/copied/blobs/sha256:{digest}")).0, 404);
    }
    // Nor are the layouts' files served by their own paths.
    for path in ["index.json".to_string(), "oci-layout".into(), format!("blobs/sha256/{}", tool.layer)] {
        assert!(serve.ask(&format!("GET /registry/tools/{path} HTTP/1.1"), "").starts_with("HTTP/1.1 404"), "{path}");
    }
    let linked = get(&serve, &format!("/v2/tools/blobs/sha256:{}", pause.layer));
    assert_eq!(Sha256::of(linked.2.as_bytes()), pause.layer);
}

#[test]
fn layouts_that_are_broken_hold_up_no_other_and_are_told() {
    let (lab, registry, [_, tool, _]) = lab();
    let write = |path: &str, text: &str| {
        let path = registry.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let good = r#"{"imageLayoutVersion":"1.0.0"}"#;
    write("a-old/oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    write("a-empty/oci-layout", good);
    write("a-deep/oci-layout", good);
    write("a-deep/index.json", &"[".repeat(100_000));
    write("a-large/oci-layout", good);
    write("a-large/index.json", &format!("{{}}{}", " ".repeat(5 << 20)));
    write("a-file", "x");
    write(".hidden/oci-layout", "x");
    let named = |layout: &str, key: &str, name: &str| {
        add_image(&registry.join(layout), (key, name), &[], &["/x"]);
    };
    named("a-unnamed", "other", "x");
    named("a-untagged", REF_NAME, &format!("r.example/x@sha256:{}", "ab".repeat(32)));
    named("a-badly", REF_NAME, "r.example/UPPER:v1");
    named("a\u{202e}b", REF_NAME, &format!("\u{9b}2J{}", "x".repeat(10_000)));
    // A manifest that is not what its name says, one that is too large, and one that could be two things.
    let tools = registry.join("tools");
    std::fs::write(tools.join("blobs/sha256").join(Sha256::of(b"x").to_string()), "y").unwrap();
    let huge = put_blob(&tools, format!(r#"{{"schemaVersion":2,"manifests":[]}}{}"#, " ".repeat(5 << 20)).as_bytes());
    let both = put_blob(&tools, br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#);
    let serve = Serve::start(lab.path(), &[]);
    let log = serve.wait_for_log("images for containers");
    for (layout, problem) in [
        ("a-old", "it is no OCI layout of version 1.0.0"),
        ("a-empty", "cannot read `index.json`: "),
        ("a-deep", "`index.json`: is no manifest: "),
        ("a-large", "cannot read `index.json`: it has more than 4 MiB"),
        ("a-file", "cannot read `oci-layout`: "),
        ("a-unnamed", "has no name (`org.opencontainers.image.ref.name`)"),
        ("a-untagged", "which is none with a tag"),
        ("a-badly", "has the name `r.example/UPPER:v1`"),
    ] {
        let line = log.lines().find(|line| line.contains(&format!("warning: `registry/{layout}` is not served: ")));
        assert!(line.is_some_and(|line| line.contains(problem)), "{layout}: {log}");
    }
    assert!(!log.contains(".hidden") && !log.contains(['\u{202e}', '\u{9b}']), "{log}");
    assert!(log.lines().all(|line| line.len() < 500), "{log}");
    for digest in [Sha256::of(b"x"), huge, both] {
        let path = format!("/v2/tools/manifests/sha256:{digest}");
        assert_eq!(refusal(&serve, "GET", &path), (404, "MANIFEST_UNKNOWN".into()));
    }
    assert_eq!(get(&serve, &format!("/v2/tools/manifests/sha256:{}", tool.manifest)).0, 200);
}

/// A registry of somebody else's, which caches what it fetches from this one: a client that checks all that it is told. Its configuration
/// is that of the docs, but for places.
#[test]
fn a_cache_that_is_set_up_as_the_docs_say_pulls_through_this_registry() {
    let (lab, registry, [pause, _, _]) = lab();
    let entry = descriptor(MANIFEST, &blob(&registry.join("kubernetes"), pause.manifest));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
    let index_digest = put_blob(&registry.join("kubernetes"), index.as_bytes());
    let named = (REF_NAME, "registry.k8s.io/pause:multi");
    add_entry(&registry.join("kubernetes"), named, descriptor(INDEX, index.as_bytes()));
    let serve = Serve::start(lab.path(), &[]);
    let docs = std::fs::read_to_string(testkit::folders::project_root().join("docs/registry.md")).unwrap();
    let mut config = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_string();
    for (theirs, ours) in [
        ("/var/lib/docker-registry/k8s", "DATA"),
        ("':5000'", "'127.0.0.1:0'"),
        ("https://registry.k8s.io", &format!("http://127.0.0.1:{}", serve.port)),
    ] {
        assert_eq!(config.matches(theirs).count(), 1, "{config}");
        config = config.replace(theirs, ours);
    }
    let Some(cache) = Registry::start_with(&config) else { return };
    let pull = |path: &str, accept: &str| {
        let url = format!("http://{}/v2/registry.k8s.io/pause/{path}", cache.address);
        let mut answer = ureq::get(&url).header("Accept", accept).call().unwrap_or_else(|e| panic!("{path}: {e}"));
        let digest = answer.headers()["docker-content-digest"].to_str().unwrap().to_string();
        (digest, answer.body_mut().read_to_vec().unwrap())
    };
    for (path, accept, expected) in [
        ("manifests/multi".to_string(), INDEX, index_digest),
        ("manifests/3.10.1".into(), MANIFEST, pause.manifest),
        (format!("manifests/sha256:{}", pause.manifest), MANIFEST, pause.manifest),
        (format!("blobs/sha256:{}", pause.config), "*/*", pause.config),
        (format!("blobs/sha256:{}", pause.layer), "*/*", pause.layer),
    ] {
        let (digest, bytes) = pull(&path, accept);
        assert_eq!((digest, Sha256::of(&bytes)), (format!("sha256:{expected}"), expected), "{path}");
    }
    let log = serve.wait_for_log(&format!("GET /v2/registry.k8s.io/pause/blobs/sha256:{} 200", pause.layer));
    assert!(log.contains("/v2/registry.k8s.io/pause/manifests/multi 200"), "{log}");
}

fn blob(layout: &Path, digest: Sha256) -> Vec<u8> {
    std::fs::read(layout.join("blobs/sha256").join(digest.to_string())).unwrap()
}
