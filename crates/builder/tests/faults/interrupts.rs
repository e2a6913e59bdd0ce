//! Builds that are killed, interrupted, or not alone.

use bootwright::entry::Sha256;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::http::{PageServer, Step};
use testkit::need::have;
use testkit::project::{ImageFiles, Project, Run, names};

/// Enough that each stage takes its time: a download, a root that is packed by mksquashfs, a large component.
fn project(server: &PageServer) -> Project {
    let project = Project::with_root("image = \"squashfs\"");
    let text: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
    project.write("tool/text", &text);
    let body = &text[..1_000_000];
    let (url, sha256) = (server.page("/file", body, &[Step::Serve]), Sha256::of(body));
    project.add(&format!(
        "[[component]]\nname = \"file\"\nurl = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {}, name = \"opt/file\" }}\n",
        body.len()
    ));
    project
}

/// With SIGINT as it is at a terminal: a shell that runs these tests in the background has it ignored, and children inherit that.
fn start(command: &mut Command) -> Child {
    // SAFETY: setting a signal's disposition is async-signal-safe, and no handler is replaced in the child.
    let set_up = || unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.map(|_| ()).map_err(Into::into);
    // SAFETY: the closure makes one system call between fork and exec; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(set_up) };
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn build(project: &Project, more: &[&str]) -> Child {
    start(&mut project.command(&[&["build", "--recipe", "tiny"], more].concat()))
}

/// Nothing of a build that did not end is left, and what is there is whole.
fn assert_tidy(project: &Project, expected: &ImageFiles) {
    project.good_build().is_like(expected);
    assert_eq!(project.out_names(), ["tiny"]);
    assert_eq!(names(&project.path("cache/tmp")), [""; 0], "a killed build's folder is removed by the next one");
    assert_eq!(names(&project.path("cache/partial")), [""; 0]);
    assert_eq!(names(&project.path("recipes")), ["tiny.lock", "tiny.toml"]);
    for entry in walkdir::WalkDir::new(project.path("cache/blobs")).into_iter().flatten() {
        if entry.file_type().is_file() {
            let sha256 = Sha256::of(&std::fs::read(entry.path()).unwrap()).to_string();
            assert_eq!(entry.file_name().to_str(), Some(sha256.as_str()));
        }
    }
}

#[test]
fn killed_at_any_moment_the_next_build_is_as_if_nothing_had_been() {
    if !have(&["mksquashfs"]) {
        return;
    }
    let server = PageServer::start();
    let undisturbed = project(&server);
    let begin = Instant::now();
    let expected = undisturbed.good_build();
    let whole = begin.elapsed();
    let (mut killed, mut cut) = (0, 0);
    for step in 0..14 {
        let project = project(&server);
        let mut child = build(&project, &[]);
        // Spread over a whole build, and a little beyond.
        std::thread::sleep(whole * step / 12);
        child.kill().expect("it is our child");
        let status = child.wait().expect("it is our child");
        killed += usize::from(status.signal() == Some(9));
        cut += usize::from(!project.path("out/tiny").exists());
        if project.path("out/tiny").exists() {
            project.image().is_like(&expected);
        }
        assert_tidy(&project, &expected);
    }
    assert!(killed >= 3 && cut >= 3, "killed {killed} times, {cut} times before the image was there");
}

#[test]
fn killed_while_it_replaces_an_image_there_is_always_a_whole_one() {
    let server = PageServer::start();
    let after = Project::new();
    after.write("tool/data", "new");
    let begin = Instant::now();
    let expected = after.good_build();
    let whole = begin.elapsed();
    drop(server);
    for step in 0..10 {
        let project = Project::new();
        let old = project.good_build();
        project.write("tool/data", "new");
        let mut child = build(&project, &[]);
        std::thread::sleep(whole * step / 9);
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        let found = project.image();
        assert!(found == old || found == expected, "step {step}: neither the old image nor the new one");
        assert_tidy(&project, &expected);
    }
}

/// Sends the signal while a download stalls: the most patient moment of a build.
#[test]
fn a_signal_ends_a_build_at_once_and_leaves_nothing_half_written() {
    for signal in ["INT", "TERM", "HUP"] {
        let server = PageServer::start();
        let project = project(&server);
        let expected = project.good_build();
        std::fs::remove_dir_all(project.path("cache")).unwrap();
        std::fs::remove_dir_all(project.path("out")).unwrap();
        let body = std::fs::read(project.path("tool/text")).unwrap()[..1_000_000].to_vec();
        server.page("/file", &body, &[Step::StallAfter(300_000), Step::Serve]);
        let asked = server.asked().len();
        let mut child = build(&project, &[]);
        wait_until(|| server.asked().len() > asked);
        let sent = Instant::now();
        let kill = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(kill.unwrap().success());
        let status = child.wait().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(5), "{signal}: it took {:?}", sent.elapsed());
        assert!(!status.success(), "{signal}: {status}");
        assert!(!project.path("out/tiny").exists());
        assert_tidy(&project, &expected);
    }
}

/// mksquashfs ends with the build, be it by `kill -9`.
#[test]
fn a_signal_ends_the_tools_too() {
    if !have(&["mksquashfs"]) {
        return;
    }
    for signal in ["INT", "KILL"] {
        check_that_tools_end(signal);
    }
}

fn check_that_tools_end(signal: &str) {
    let server = PageServer::start();
    let project = project(&server);
    // Runs until it is told to end, and says who it is.
    let script = format!(
        "#!/bin/sh\n[ $1 = -version ] && echo mksquashfs version 4.5.1 && exit\necho $$ > {}\nexec sleep 600\n",
        project.path("tool.pid").display()
    );
    project.write_program("bin/mksquashfs", script);
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let mut child = start(project.command(&["build", "--recipe", "tiny"]).env("PATH", path));
    wait_until(|| std::fs::read_to_string(project.path("tool.pid")).is_ok_and(|pid| pid.ends_with('\n')));
    let tool = project.read("tool.pid").trim().to_string();
    let kill = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert!(!child.wait().unwrap().success());
    // Neither running nor a zombie that nobody has taken yet (proc(5)).
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{tool}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    };
    wait_until(|| !runs());
    let expected = self::project(&server).good_build();
    assert_tidy(&project, &expected);
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_builds_at_once_both_succeed() {
    if !have(&["mksquashfs"]) {
        return;
    }
    let server = PageServer::start();
    let expected = project(&server).good_build();
    for _ in 0..3 {
        let project = project(&server);
        let runs: Vec<Child> = (0..3).map(|_| build(&project, &[])).collect();
        for child in runs {
            Run::of(child.wait_with_output().unwrap()).succeeds();
        }
        assert_tidy(&project, &expected);
        project.build(&["--locked"]).succeeds().says(&["nothing changed"]);
    }
}

#[test]
fn two_recipes_share_cache_and_out() {
    let (project, alone) = (Project::new(), Project::new());
    let expected = alone.good_build();
    let other = project.read("recipes/tiny.toml").replace("hello", "other");
    project.write("recipes/other.toml", other);
    let runs = [build(&project, &[]), start(&mut project.command(&["build", "--recipe", "other"]))];
    for child in runs {
        Run::of(child.wait_with_output().unwrap()).succeeds();
    }
    assert_eq!(project.out_names(), ["other", "tiny"]);
    project.image().is_like(&expected);
}

/// What is edited while a build runs is in the next image, not taken for built.
#[test]
fn an_edit_during_a_build_is_not_lost() {
    let server = PageServer::start();
    let project = project(&server);
    let body = std::fs::read(project.path("tool/text")).unwrap()[..1_000_000].to_vec();
    server.page("/file", &body, &[Step::Status(503), Step::Status(503), Step::Serve]);
    let asked = server.asked().len();
    let child = build(&project, &[]);
    // The recipe was read before the first request, and the pause before the next is long enough to edit it.
    wait_until(|| server.asked().len() > asked);
    project.edit("hello", "edited");
    project.write("overlay/etc/tiny.conf", "edited\n");
    Run::of(child.wait_with_output().unwrap()).succeeds();
    let run = project.build(&[]);
    run.succeeds();
    assert!(!run.out.contains("nothing changed"), "the edit was taken for built:\n{}", run.out);
    let fresh = self::project(&server);
    fresh.edit("hello", "edited");
    fresh.write("overlay/etc/tiny.conf", "edited\n");
    project.image().is_like(&fresh.good_build());
}
