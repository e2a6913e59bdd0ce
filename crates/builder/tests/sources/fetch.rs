//! Fetching from servers that misbehave, on loopback.

use crate::lab::Lab;
use bootwright::cache::Cache;
use bootwright::entry::{Kind, Sha256};
use bootwright::error::{Exit, Failure};
use bootwright::fetch::{
    Context, FetchError, Patience, Request, Via, fetch_patiently, fetch_small, fetch_small_patiently,
};
use bootwright::recipe::UrlSpec;
use bootwright::source::Source;
use bootwright::source::url::Url;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::http::{Asked, Step};

impl Lab {
    fn fetch(&self, urls: &[String], body: &[u8]) -> Result<PathBuf, FetchError> {
        self.fetch_patiently(urls, body, patience())
    }

    fn fetch_patiently(&self, urls: &[String], body: &[u8], patience: Patience) -> Result<PathBuf, FetchError> {
        let (sha256, size) = (Sha256::of(body), body.len() as u64);
        let request = Request { name: "tool", version: "1", urls, sha256, size, headers: &[], via: Via::Environment };
        fetch_patiently(&request, &self.context(), patience)
    }

    fn partial(&self, body: &[u8]) -> PathBuf {
        self.cache.partial(&Sha256::of(body)).unwrap()
    }
}

/// Long waits: a busy machine is no failure.
fn patience() -> Patience {
    let s = Duration::from_secs;
    let pause = Duration::from_millis(1);
    Patience { connect: s(60), stall: s(60), window: s(600), least: 1, least_alone: 0, rounds: 3, pause }
}

/// Notices a server that stalls soon; a server that is merely slow gets many more chances.
fn impatience() -> Patience {
    Patience { stall: Duration::from_millis(300), rounds: 100, ..patience() }
}

fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn a_proxy_is_asked_to_connect() {
    let lab = Lab::new();
    let proxy = lab.server.page("", b"", &[Step::Serve]);
    let (sha256, urls) = (Sha256::of(b"x"), ["http://far.invalid/tool".to_string()]);
    let fetch = |via| {
        let request = Request { name: "tool", version: "1", urls: &urls, sha256, size: 1, headers: &[], via };
        fetch_patiently(&request, &lab.context(), patience()).unwrap_err()
    };
    assert!(matches!(fetch(Via::Proxy("no address")), FetchError::Unusable { .. }));
    assert!(matches!(fetch(Via::Direct), FetchError::Failed { .. }));
    assert!(lab.server.asked().is_empty());
    assert!(matches!(fetch(Via::Proxy(&proxy)), FetchError::Failed { .. }));
    assert_eq!(lab.server.asked()[0].path, "far.invalid:80");
}

#[test]
fn a_body_is_fetched_once() {
    let lab = Lab::new();
    let body = body();
    let url = lab.server.page("/tool", &body, &[Step::Serve]);
    let path = lab.fetch(std::slice::from_ref(&url), &body).unwrap();
    assert!(std::fs::read(&path).unwrap() == body);
    assert!(!lab.partial(&body).exists());
    assert_eq!(lab.fetch(&[url], &body).unwrap(), path);
    assert_eq!(lab.server.asked().len(), 1, "fetched although the cache had it");
}

#[test]
fn a_server_that_stops_is_asked_for_the_rest_only() {
    let lab = Lab::new();
    let body = body();
    let url = lab.server.page("/tool", &body, &[Step::StopAfter(700_000), Step::StopAfter(200_000), Step::Serve]);
    lab.fetch(&[url], &body).unwrap();
    let asked = lab.server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].range, None);
    // What was still in a buffer when the connection broke may be asked for again, but no more than that.
    let from: Vec<u64> = asked[1..]
        .iter()
        .map(|a| a.range.as_ref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap())
        .collect();
    assert!((500_000..=700_000).contains(&from[0]), "{from:?}");
    assert!((from[0] + 1..=900_000).contains(&from[1]), "{from:?}");
}

/// The real default is a minute.
fn brisk() -> Patience {
    Patience { window: Duration::from_millis(400), least: 2000, ..patience() }
}

#[test]
fn a_server_that_drips_is_left_for_another_place() {
    let lab = Lab::new();
    let body = body();
    let drip = Step::Drip(Duration::from_millis(20));
    let slow = lab.server.page("/slow", &body, std::slice::from_ref(&drip));
    let good = lab.server.page("/good", &body, &[Step::Serve]);
    lab.fetch_patiently(&[slow, good], &body, brisk()).unwrap();
    let asked = lab.server.asked();
    let paths: Vec<&str> = asked.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["/slow", "/good"]);
    let range = asked[1].range.as_ref().expect("what dripped in is not fetched again");
    assert!(range.starts_with("bytes=") && range != "bytes=0-", "{range}");
}

#[test]
fn a_server_that_drips_is_waited_for_when_no_other_place_is_faster() {
    let lab = Lab::new();
    let body = &body()[..60];
    let drip = Step::Drip(Duration::from_millis(20));
    let one = lab.server.page("/one", body, std::slice::from_ref(&drip));
    lab.fetch_patiently(&[one], body, brisk()).unwrap();
    assert_eq!(lab.server.asked().len(), 1);
    let lab = Lab::new();
    let urls = ["/a", "/b"].map(|path| lab.server.page(path, body, std::slice::from_ref(&drip)));
    lab.fetch_patiently(&urls, body, brisk()).unwrap();
    let paths: Vec<String> = lab.server.asked().into_iter().map(|a| a.path).collect();
    assert_eq!(paths, ["/a", "/b"], "the second of two slow ones is waited for");
}

/// As the manifests, tokens and layers of a registry, which has one address.
#[test]
fn the_only_server_is_given_up_too_when_it_sends_next_to_nothing() {
    let lab = Lab::new();
    let body = body();
    let patience = Patience { least_alone: 200, ..brisk() };
    let url = lab.server.page("/tool", &body, &[Step::Drip(Duration::from_millis(20))]);
    let slow = lab.fetch_patiently(std::slice::from_ref(&url), &body, patience).unwrap_err();
    assert!(slow.to_string().contains("too slow"), "{slow}");
    let asked = lab.server.asked();
    assert_eq!(asked.len(), 3, "once in each round");
    assert!(asked[1].range.is_some(), "what dripped in is not fetched again");
    let slow = fetch_small_patiently("index", &[url], &[], 4 << 20, &lab.context(), patience).unwrap_err();
    assert!(slow.to_string().contains("too slow"), "{slow}");
    assert_eq!(lab.server.asked().len(), 6);
}

#[test]
fn a_later_run_resumes() {
    let lab = Lab::new();
    let body = body();
    std::fs::write(lab.partial(&body), &body[..1_000_000]).unwrap();
    let url = lab.server.page("/tool", &body, &[Step::Serve]);
    lab.fetch(&[url], &body).unwrap();
    let expected = Asked { path: "/tool".into(), range: Some("bytes=1000000-".into()), sent: body.len() - 1_000_000 };
    assert_eq!(lab.server.asked(), [expected]);
}

#[test]
fn a_server_without_ranges_serves_from_the_start() {
    let lab = Lab::new();
    let body = body();
    std::fs::write(lab.partial(&body), &body[..1_000_000]).unwrap();
    let url = lab.server.page("/tool", &body, &[Step::IgnoreRange]);
    assert!(std::fs::read(lab.fetch(&[url], &body).unwrap()).unwrap() == body);
}

#[test]
fn a_partial_file_that_was_wrong_is_given_up() {
    let lab = Lab::new();
    let body = body();
    std::fs::write(lab.partial(&body), vec![b'x'; 1_000_000]).unwrap();
    let url = lab.server.page("/tool", &body, &[Step::Serve]);
    lab.fetch(&[url], &body).unwrap();
    let ranges: Vec<bool> = lab.server.asked().iter().map(|a| a.range.is_some()).collect();
    assert_eq!(ranges, [true, false]);
}

#[test]
fn the_next_mirror_takes_over() {
    let lab = Lab::new();
    let body = body();
    let good = lab.server.page("/good", &body, &[Step::Serve]);
    for bad in [
        Step::Status(404),
        Step::Status(403),
        Step::Status(500),
        Step::TooMuch(1),
        Step::Other(vec![b'x'; body.len()]),
        Step::Other(b"<html>login first</html>".to_vec()),
    ] {
        let cache = Cache::open(&lab.dir.path().join(format!("{:.12}", format!("{bad:?}")))).unwrap();
        let bad_url = lab.server.page("/bad", &body, std::slice::from_ref(&bad));
        let (sha256, size) = (Sha256::of(&body), body.len() as u64);
        let urls = [bad_url, good.clone()];
        let request =
            Request { name: "tool", version: "1", urls: &urls, sha256, size, headers: &[], via: Via::Environment };
        let path = fetch_patiently(&request, &Context { cache: &cache, ..lab.context() }, patience());
        assert!(std::fs::read(path.unwrap()).unwrap() == body, "{bad:?}");
    }
}

#[test]
fn failures_that_pass_are_tried_again_and_redirects_followed() {
    let lab = Lab::new();
    let body = body();
    let real = lab.server.page("/real", &body, &[Step::Status(500), Step::Status(429), Step::Serve]);
    let url = lab.server.page("/tool", &body, &[Step::Redirect(real)]);
    assert!(std::fs::read(lab.fetch(&[url], &body).unwrap()).unwrap() == body);
}

#[test]
fn a_server_that_stalls_is_left_and_resumed() {
    let lab = Lab::new();
    let body = body();
    let url = lab.server.page("/tool", &body, &[Step::StallAfter(1000), Step::StallAfter(0), Step::Serve]);
    let path = lab.fetch_patiently(&[url], &body, impatience()).unwrap();
    assert!(std::fs::read(path).unwrap() == body);
    assert!(lab.server.asked().len() >= 3);
}

#[test]
fn gone_means_gone_from_every_place() {
    let lab = Lab::new();
    let gone = [lab.server.page("/a", b"", &[Step::Status(404)]), lab.server.page("/b", b"", &[Step::Status(410)])];
    let error = lab.fetch(&gone, b"body").unwrap_err();
    assert!(matches!(&error, FetchError::Gone { name, version, .. } if name == "tool" && version == "1"), "{error}");
    assert_eq!(lab.server.asked().len(), 2, "asked again although it is gone");
    let unsure = [gone[0].clone(), lab.server.page("/c", b"", &[Step::Status(503)])];
    let error = lab.fetch(&unsure, b"body").unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("/a: not there; ") && text.ends_with("/c: answers with status 503"), "{text}");
    assert_eq!(Failure::from(error).exit, Exit::Source);
}

#[test]
fn a_wrong_body_says_what_came_and_leaves_what_is_good() {
    let lab = Lab::new();
    let (_, good) = lab.cache.put_blob(b"good").unwrap();
    let url = lab.server.page("/tool", b"", &[Step::Other(b"evil".to_vec())]);
    let error = lab.fetch(&[url], b"body").unwrap_err();
    let expected = "`tool` has the wrong hash: \
        expected 230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5, \
        got b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73";
    assert_eq!(error.to_string(), expected);
    assert!(!lab.partial(b"body").exists());
    assert_eq!(std::fs::read(good).unwrap(), b"good");
}

#[test]
fn a_server_that_sends_too_much_is_cut() {
    let lab = Lab::new();
    let body = body();
    let url = lab.server.page("/tool", &body, &[Step::TooMuch(5_000_000)]);
    let error = lab.fetch(&[url], &body).unwrap_err();
    let FetchError::WrongSize { expected, got, .. } = error else { panic!("{error}") };
    assert_eq!((expected, got), (1_200_000, 1_200_001));
    assert!(!lab.partial(&body).exists());
}

#[test]
fn a_truncated_download_is_named_and_kept_for_later() {
    let lab = Lab::new();
    let body = body();
    let url = lab.server.page("/tool", &body, &[Step::StopAfter(700_000), Step::Status(503)]);
    let error = lab.fetch(&[url], &body).unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error}");
    assert!(error.help().contains("it resumes"));
    let kept = std::fs::read(lab.partial(&body)).unwrap();
    assert!(kept.len() >= 500_000 && body.starts_with(&kept));
}

#[test]
fn offline_works_from_the_cache_only() {
    let mut lab = Lab::new();
    let url = lab.server.page("/tool", b"body", &[Step::Serve]);
    lab.settings.offline = true;
    let error = lab.fetch(std::slice::from_ref(&url), b"body").unwrap_err();
    assert_eq!(error.to_string(), "`tool` is not in the cache and --offline is set");
    assert!(fetch_small("index", std::slice::from_ref(&url), &[], 9, &lab.context()).is_err());
    lab.cache.put_blob(b"body").unwrap();
    lab.fetch(&[url], b"body").unwrap();
    assert_eq!(lab.server.asked(), []);
}

#[test]
fn no_secret_of_an_address_is_shown() {
    let lab = Lab::new();
    let url = lab.server.page("/tool?token=hush", b"", &[Step::Status(403)]).replace("//", "//me:hush@");
    let text = lab.fetch(&[url], b"body").unwrap_err().to_string();
    assert!(text.contains("/tool: answers with status 403") && !text.contains("hush"), "{text}");
}

#[test]
fn small_texts_are_bounded() {
    let lab = Lab::new();
    let url = lab.server.page("/index", b"12345", &[Step::Status(503), Step::Serve]);
    assert_eq!(fetch_small("index", std::slice::from_ref(&url), &[], 5, &lab.context()).unwrap(), b"12345");
    let error = fetch_small("index", &[url], &[], 4, &lab.context()).unwrap_err();
    assert!(error.to_string().contains("larger than 4 bytes"), "{error}");
}

#[test]
fn a_url_component_is_a_file_or_an_unpacked_archive() {
    let lab = Lab::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "tool-1/bin/tool", &b"#!"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let url = lab.server.page("/tool-1.tar?x=y", &tar, &[Step::Serve]);
    let mut spec = UrlSpec {
        urls: vec![url],
        sha256: Sha256::of(&tar).to_string(),
        size: tar.len() as u64,
        unpack: true,
        strip: 1,
        name: String::new(),
        mode: "0755".into(),
    };
    let open = |spec: &UrlSpec| {
        let source = Url { spec };
        let pins = source.lock(&lab.context()).unwrap();
        source.fetch(&pins, &lab.context()).unwrap();
        (source.open(&pins, &lab.context()).unwrap(), pins)
    };
    let (pool, pins) = open(&spec);
    assert_eq!((pins[0].name.as_str(), pins[0].size), ("tool-1.tar", tar.len() as u64));
    assert_eq!(pool.entries.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["bin/tool"]);
    (spec.unpack, spec.name) = (false, "usr/bin/tool".into());
    let (pool, _) = open(&spec);
    assert_eq!((pool.entries[0].path.as_str(), pool.entries[0].mode), ("usr/bin/tool", 0o755));
    assert!(matches!(&pool.entries[0].kind, Kind::File(body) if body.size == tar.len() as u64));
    assert_eq!(lab.server.asked().len(), 1, "one download, and nothing to be pinned");
}

/// A tmpfs of 1 MiB in a mount namespace of its own: needs no root where user namespaces are allowed.
#[test]
fn a_full_or_read_only_disk_is_an_error_that_says_so() {
    let lab = Lab::new();
    let url = lab.server.page("/tool", &body(), &[Step::Serve]);
    let dir = lab.dir.path().join("small");
    std::fs::create_dir(&dir).unwrap();
    let script = format!("mount -t tmpfs -o size=1m none '{}' && exec \"$@\"", dir.display());
    let unshare = || {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command
    };
    if !testkit::need::user_namespaces() {
        return;
    }
    let output = unshare()
        .args(["sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "fetch::inside_a_small_disk"])
        .env(SMALL_DISK, &dir)
        .env(SMALL_DISK_URL, &url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("both were noticed"), "{said}");
}

const SMALL_DISK: &str = "BOOTWRIGHT_TEST_SMALL_DISK";
const SMALL_DISK_URL: &str = "BOOTWRIGHT_TEST_SMALL_DISK_URL";

/// The part of [`a_full_or_read_only_disk_is_an_error_that_says_so`] that runs in the namespace.
#[test]
fn inside_a_small_disk() {
    let (Some(dir), Ok(url)) = (std::env::var_os(SMALL_DISK), std::env::var(SMALL_DISK_URL)) else { return };
    let mut lab = Lab::new();
    lab.cache = Cache::open(Path::new(&dir)).unwrap();
    let (sha256, good) = lab.cache.put_blob(b"good").unwrap();
    let error = lab.fetch(&[url], &body()).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(error.help().starts_with("the disk is full"), "{}", error.help());
    assert_eq!(Failure::from(error).exit, Exit::Other);
    std::fs::remove_file(lab.partial(&body())).unwrap();
    let error = lab.cache.put_blob(&body()).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(std::fs::read(&good).unwrap(), b"good");

    // Files that are open for writing keep a file system writable.
    lab.cache = Cache::open(lab.dir.path()).unwrap();
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).status();
    assert!(remounted.unwrap().success());
    let cache = Cache::open(Path::new(&dir)).unwrap();
    assert_eq!(cache.blob(&sha256), Some(good));
    let error = cache.put_blob(b"more").unwrap_err();
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    assert!(error.help().contains("--cache"), "{}", error.help());
    println!("both were noticed");
}
