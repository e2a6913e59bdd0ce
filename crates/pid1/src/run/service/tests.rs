//! The supervisor with real processes.

use super::status::AfterStop;
use super::*;
use crate::base::network::NetState;
use crate::base::timeline::Timeline;
use bootwright_base::spawn::closed::Closed;
use bootwright_base::wake;
use bootwright_contract::fixture::service;
use bootwright_contract::{Ready, Restart, Service};
use nix::sys::signal::Signal;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("bootwright-service-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a writable temp folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shell(name: &str, script: &str) -> Service {
    service(name, &["/bin/sh", "-c", script])
}

/// A console that the test reads.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A supervisor with its surroundings; time is the real one.
struct World {
    supervisor: Supervisor,
    lines: Lines,
    folder: Folder,
    began: Instant,
}

impl World {
    fn new(name: &str, make: impl FnOnce(&str) -> Vec<Service>) -> World {
        let folder = Folder::new(name);
        let services = make(folder.0.to_str().expect("UTF-8"));
        let lines = Lines::default();
        let timeline = Arc::new(Timeline::new(&[], Box::new(lines.clone())));
        let (waker, _) = wake::pair().expect("a socket pair");
        let paths = ServicePaths { cgroups: None, logs: folder.0.join("log") };
        let mut supervisor = Supervisor::new(&services, paths, timeline, waker).expect("a good order");
        supervisor.set_network(NetState { over: true, ..NetState::default() });
        World { supervisor, lines, folder, began: Instant::now() }
    }

    fn now(&self) -> Millis {
        1_000_000 + self.began.elapsed().as_millis() as Millis
    }

    /// What the main loop does.
    fn turn(&mut self) {
        self.supervisor.read_outputs();
        self.supervisor.tick(self.now());
    }

    fn until(&mut self, what: &str, mut reached: impl FnMut(&World) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.turn();
            if reached(self) {
                return;
            }
            let status = self.supervisor.status(self.now());
            assert!(Instant::now() < deadline, "no {what}: {status:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_state(&mut self, name: &str, state: &str) {
        let what = format!("{name} {state}");
        self.until(&what, |world| world.state(name) == state);
    }

    fn state(&self, name: &str) -> &'static str {
        self.status(name).state
    }

    fn status(&self, name: &str) -> ServiceStatus {
        let status = self.supervisor.status(self.now());
        status.into_iter().find(|s| s.name == name).expect("the service")
    }

    fn said(&self) -> String {
        self.lines.text()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.0.join("log").join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for running in self.supervisor.services.iter().filter_map(|service| service.running.as_ref()) {
            running.child().signal(Signal::SIGKILL);
            running.child().wait(None);
        }
    }
}

#[test]
fn starts_wait_for_what_they_come_after() {
    let mut world = World::new("order", |folder| {
        let mut first = shell("first", &format!("sleep 0.2; touch {folder}/up; exec sleep 60"));
        first.ready = Ready::File { path: format!("{folder}/up") };
        let mut second = shell("second", &format!("test -e {folder}/up && echo in order; exec sleep 60"));
        second.after = vec!["first".into(), "network".into()];
        // A file from before must not count.
        std::fs::write(format!("{folder}/up"), "").expect("writable");
        vec![second, first]
    });
    world.supervisor.set_network(NetState::default());
    world.until_state("first", "ready");
    world.turn();
    assert_eq!(world.status("second").detail, "waits for network");
    assert!(!world.supervisor.is_settled());
    world.supervisor.set_network(NetState { over: true, ..NetState::default() });
    world.until_state("second", "ready");
    assert!(world.supervisor.is_settled());
    world.until("output", |world| world.log("second") == "in order\n");
    assert!(world.said().contains("service first ready in 0."), "{}", world.said());
}

#[test]
fn facts_are_awaited_and_filled_in() {
    let mut world = World::new("facts", |_| {
        let mut node = service("node", &["/bin/echo", "--node-ip=${ip}"]);
        node.ready = Ready::Exited;
        node.after = vec!["network".into()];
        vec![node]
    });
    world.turn();
    assert_eq!(world.status("node").detail, "`${ip}` is not known");
    assert!(world.supervisor.is_settled(), "a degraded network must not keep the boot waiting for ever");
    let mut network = NetState { over: true, up: true, ..NetState::default() };
    network.facts.ip = Some([10, 0, 2, 15].into());
    world.supervisor.set_network(network);
    world.until_state("node", "done");
    world.until("output", |world| world.log("node") == "--node-ip=10.0.2.15\n");
}

#[test]
fn crashes_are_restarted_with_back_off_and_other_ends_are_not() {
    let mut world = World::new("restart", |_| {
        let mut crash = shell("crash", "echo run; exit 3");
        crash.restart = Restart::Failure;
        let mut clean = shell("clean", "sleep 0.1");
        clean.restart = Restart::Failure;
        let mut missing = service("missing", &["/nowhere/x"]);
        missing.restart = Restart::Always;
        vec![crash, clean, missing, shell("once", "kill -9 $$")]
    });
    world.until("three restarts", |world| world.status("crash").restarts >= 3);
    world.until_state("clean", "done");
    world.until_state("once", "failed");
    assert_eq!(world.status("once").detail, "killed by SIGKILL");
    assert!(world.said().contains("service crash failed: exit status 3"));
    world.until("output", |world| world.log("crash").starts_with("run\nrun\nrun\n"));
    world.until("a reason", |world| world.status("missing").detail.contains("cannot start `/nowhere/x`"));
    // 10, 20, 40 ms: three restarts cannot come sooner.
    assert!(world.began.elapsed() >= Duration::from_millis(70));
}

#[test]
fn probes_by_command_and_the_time_limit() {
    let mut world = World::new("probe", |folder| {
        let mut good = shell("good", &format!("sleep 0.2; touch {folder}/good; exec sleep 60"));
        good.ready = Ready::Exec { argv: vec!["/usr/bin/test".into(), "-e".into(), format!("{folder}/good")] };
        let mut late = service("late", &["/bin/sleep", "60"]);
        late.ready = Ready::Unix { path: format!("{folder}/none") };
        late.ready_timeout_s = 1;
        vec![good, late]
    });
    world.until_state("good", "ready");
    world.until_state("late", "failed");
    assert_eq!(world.status("late").detail, "not ready within 1 s");
    assert_eq!(world.status("late").pid, None);
}

#[test]
fn commands_by_hand() {
    let mut world = World::new("hand", |_| vec![service("s", &["/bin/sleep", "60"])]);
    world.until_state("s", "ready");
    let first = world.status("s").pid;
    let now = world.now();
    assert_eq!(world.supervisor.start("s", now).expect_err("it runs").to_string(), "`s` is ready already");
    assert_eq!(
        world.supervisor.command("x", AfterStop::Stay, now).expect_err("unknown").to_string(),
        "no service `x`: there are s"
    );
    world.supervisor.command("s", AfterStop::Start, now).expect("a restart");
    world.until("a new process", |world| world.state("s") == "ready" && world.status("s").pid != first);
    assert_eq!(world.status("s").restarts, 1);
    world.supervisor.command("s", AfterStop::Stay, now).expect("a stop");
    world.until_state("s", "stopped");
    world.supervisor.start("s", now).expect("a start");
    world.until_state("s", "ready");
    assert!(!world.said().contains("failed"), "{}", world.said());
}

#[test]
fn shutdown_goes_in_reverse_and_kills_what_does_not_end() {
    let mut world = World::new("down", |folder| {
        let mut base =
            shell("base", &format!("trap 'echo base >>{folder}/order; exit 0' TERM; while :; do sleep 0.05; done"));
        base.restart = Restart::Always;
        let mut top =
            shell("top", &format!("trap 'echo top >>{folder}/order; exit 0' TERM; while :; do sleep 0.05; done"));
        top.after = vec!["base".into()];
        let mut deaf = shell("deaf", "trap '' TERM; while :; do sleep 0.05; done");
        deaf.after = vec!["base".into()];
        deaf.stop_timeout_s = 1;
        vec![base, top, deaf, service("broken", &["/nowhere"])]
    });
    world.until("all up", |world| ["base", "top", "deaf"].iter().all(|name| world.state(name) == "ready"));
    // The shells must have set their traps.
    std::thread::sleep(Duration::from_millis(300));
    world.supervisor.begin_shutdown();
    let began = Instant::now();
    world.until("down", |world| world.supervisor.is_down());
    assert!(began.elapsed() >= Duration::from_secs(1), "the deaf one has its time");
    let order = std::fs::read_to_string(world.folder.0.join("order")).expect("both wrote");
    assert_eq!(order, "top\nbase\n");
    assert_eq!(world.status("deaf").detail, "killed by SIGKILL");
    let now = world.now();
    assert!(world.supervisor.start("base", now).is_err());
}

#[test]
fn a_program_that_cannot_be_read_is_awaited_and_told_and_can_be_stopped() {
    let closed = Closed::new("service");
    let mut world = World::new("closed", |folder| {
        let mut late = service("late", &[&closed.path, "60"]);
        // Of an earlier run; and the time to become ready is none in which the program is read.
        late.ready = Ready::File { path: format!("{folder}/up") };
        late.ready_timeout_s = 1;
        std::fs::write(format!("{folder}/up"), "").expect("writable");
        vec![late, service("other", &["/bin/sleep", "60"])]
    });
    let begin = Instant::now();
    world.until_state("other", "ready");
    assert!(begin.elapsed() < Duration::from_secs(20), "nobody waits for it: {:?}", begin.elapsed());
    world.until("a word", |world| world.status("late").detail == "its program is being read since 2 s");
    let first = world.status("late");
    assert_eq!((first.state, first.restarts), ("starting", 0));
    let now = world.now();
    world.supervisor.command("late", AfterStop::Start, now).expect("a restart");
    world.until("another process", |world| world.state("late") == "starting" && world.status("late").pid != first.pid);
    world.supervisor.command("late", AfterStop::Stay, now).expect("a stop");
    world.until_state("late", "stopped");
    world.supervisor.start("late", now).expect("a start");
    world.until_state("late", "starting");
    closed.open_up();
    world.until("the program", |world| world.supervisor.services.iter().all(|service| service.runs()));
    assert!(!world.folder.0.join("up").exists(), "what an earlier run left is removed");
    std::fs::write(world.folder.0.join("up"), "").expect("writable");
    world.until_state("late", "ready");
    assert!(!world.said().contains("failed"), "{}", world.said());
}
