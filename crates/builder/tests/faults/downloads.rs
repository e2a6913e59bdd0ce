//! Servers that fail, lie or stop, met by a component of kind `url`.

use bootwright::entry::Sha256;
use std::process::{Command, Stdio};
use testkit::http::{PageServer, Step};
use testkit::project::{ImageFiles, Project, names};

/// What the component `file` is.
fn body() -> Vec<u8> {
    (0..120_000u32).map(|i| (i % 251) as u8).collect()
}

/// A project with a component from this address.
fn project(url: &str) -> Project {
    let (body, project) = (body(), Project::new());
    let sha256 = Sha256::of(&body);
    project.add(&format!(
        "[[component]]\nname = \"file\"\nurl = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {}, name = \"opt/file\" }}\n",
        body.len()
    ));
    project
}

/// The image when all goes well. The address is recorded in it, so it is the same server's.
fn expected(server: &PageServer, path: &str) -> ImageFiles {
    let project = project(&server.page(path, &body(), &[Step::Serve]));
    project.good_build()
}

/// What the caches hold under their hashes is right.
fn assert_blobs_are_whole(project: &Project) {
    for entry in walkdir::WalkDir::new(project.path("cache/blobs")).into_iter().flatten() {
        if entry.file_type().is_file() {
            let sha256 = Sha256::of(&std::fs::read(entry.path()).unwrap()).to_string();
            assert_eq!(entry.file_name().to_str(), Some(sha256.as_str()));
        }
    }
}

/// What a build of a new project says, with a terminal or without. script(1) is in every Debian.
fn said(url: &str, on_a_terminal: bool) -> String {
    let project = project(url);
    let mut command = project.command(&["build", "--recipe", "tiny"]);
    if on_a_terminal {
        let program = command.get_program().to_string_lossy().into_owned();
        let line = format!("{program} build --recipe tiny");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(project.path(""));
        command = script;
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn progress_is_a_bar_on_a_terminal_and_a_line_elsewhere() {
    let server = PageServer::start();
    let url = server.page("/file", &body(), &[Step::Serve]);
    let (plain, drawn) = (said(&url, false), said(&url, true));
    let bars = |text: &str| text.matches("\u{1b}[2K").count();
    assert!(plain.lines().any(|line| line == "fetch opt/file") && bars(&plain) == 0, "{plain}");
    assert!(drawn.contains("/117.19 KiB") && bars(&drawn) > 0, "{drawn:?}");
}

#[test]
fn each_bad_answer_fails_with_its_reason_and_a_later_build_is_as_if_nothing_had_been() {
    let short = body()[..1000].to_vec();
    let mut evil = body();
    evil[70_000] ^= 1;
    let (wanted, got) = (Sha256::of(&body()), Sha256::of(&evil));
    let hashes = format!("expected {wanted}, got {got}");
    let cases: [(&str, Vec<Step>, Vec<&str>); 7] = [
        ("/moved", vec![Step::Redirect("/nowhere".into())], vec!["/moved", "bootwright lock"]),
        ("/gone", vec![Step::Status(404)], vec!["/gone", "bootwright lock"]),
        ("/denied", vec![Step::Status(403)], vec!["/denied: answers with status 403"]),
        ("/evil", vec![Step::Other(evil)], vec!["has the wrong hash", &hashes]),
        ("/more", vec![Step::TooMuch(5_000_000)], vec!["120000", "120001"]),
        ("/short", vec![Step::Other(short)], vec!["120000", "1000"]),
        ("/stops", vec![Step::StopAfter(50_000), Step::StopAfter(0)], vec!["stopped after 50000 of 120000 bytes"]),
    ];
    for (path, steps, said) in cases {
        let server = PageServer::start();
        let expected = expected(&server, path);
        let project = project(&server.page(path, &body(), &steps));
        let run = project.build(&[]);
        run.fails(3, &[&["component `file` (recipes/tiny.toml:", "opt/file"][..], &said].concat());
        assert!(!project.path("out").exists(), "{path}: a failed build writes nothing");
        assert_blobs_are_whole(&project);
        server.page(path, &body(), &[Step::Serve]);
        project.good_build().is_like(&expected);
        assert_eq!(names(&project.path("cache/partial")), [""; 0], "{path}");
    }
}

#[test]
fn what_was_cut_short_is_resumed() {
    for then in [Step::Serve, Step::IgnoreRange] {
        let server = PageServer::start();
        let expected = expected(&server, "/cut");
        let project = project(&server.page("/cut", &body(), &[Step::StopAfter(70_000), then]));
        let before = server.asked().len();
        project.good_build().is_like(&expected);
        let asked = server.asked().split_off(before);
        let ranges: Vec<_> = asked.iter().map(|a| a.range.as_deref()).collect();
        assert_eq!(ranges, [None, Some("bytes=70000-")]);
    }
}

#[test]
fn a_failed_download_keeps_the_last_image() {
    let server = PageServer::start();
    let project = project(&server.page("/file", &body(), &[Step::Serve]));
    let image = project.good_build();
    let recipe = project.read("recipes/tiny.toml");
    project.edit(&Sha256::of(&body()).to_string(), &Sha256::of(b"else").to_string());
    project.build(&[]).fails(3, &["has the wrong hash", &Sha256::of(b"else").to_string()]);
    project.image().is_like(&image);
    assert_blobs_are_whole(&project);
    project.write("recipes/tiny.toml", recipe);
    project.good_build().is_like(&image);
}

#[test]
fn offline_needs_nothing_but_the_cache_and_says_what_that_lacks() {
    let server = PageServer::start();
    let project = project(&server.page("/file", &body(), &[Step::Serve]));
    project.build(&["--offline"]).fails(3, &["`opt/file` is not in the cache", "without --offline"]);
    assert_eq!(server.asked(), []);
    let image = project.good_build();
    let asked = server.asked().len();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    std::fs::remove_dir_all(project.path("cache/derived")).ok();
    project.build(&["--offline", "--locked"]).succeeds();
    project.image().is_like(&image);
    assert_eq!(server.asked().len(), asked, "--offline asks no server");

    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    project.build(&["--offline", "--locked"]).fails(3, &["component `file`", "`opt/file` is not in the cache"]);
    project.good_build().is_like(&image);
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_the_source() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let project = project(&format!("http://{address}/file"));
    project.build(&[]).fails(3, &["component `file`", &address.to_string(), "check the network"]);
}
