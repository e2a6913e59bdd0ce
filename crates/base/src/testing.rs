//! What tests of PID1's crates need of the host.
#![expect(clippy::expect_used, reason = "what a test needs and does not get ends the test")]

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};
use std::io::Write;
use std::path::Path;

/// Folders of the root that [`in_own_root`] gives.
const FOLDERS: [&str; 5] = ["dev", "proc", "sys", "run", "tmp"];

/// Returns `can`. When it is false, writes that the test is skipped for lack of `what`; with CI=1 that is a failure.
#[track_caller]
pub fn can(can: bool, what: &str) -> bool {
    if !can {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}, and in CI nothing is skipped");
        let test = std::thread::current();
        // Not by `eprintln!`, whose output is hidden in tests that pass.
        let line = format!("skipped {}: it needs {what}\n", test.name().unwrap_or("a test"));
        std::io::stderr().write_all(line.as_bytes()).expect("the terminal takes a line");
    }
    can
}

/// Runs the test in a thread with its own mount namespace (mount_namespaces(7)). Its root is an empty tmpfs with `/run`
/// and the host's `/dev`, `/proc` and `/sys`. Mounts of the test are not seen outside.
///
/// `/proc/self` is the process there, which has the old root still; the thread is `/proc/thread-self`.
pub fn in_own_root(test: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().unwrap_or_default().to_string();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let made = unshare(CloneFlags::CLONE_NEWNS);
        if can(made.is_ok(), "root for a mount namespace") {
            enter_own_root().expect("root may mount in a namespace of its own");
            test();
        }
    });
    thread.expect("a thread").join().expect("the test");
}

fn enter_own_root() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    // First of all: mounts that are shared with the host would appear there too.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let root = Path::new("/tmp");
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some("mode=0755,size=64M"))?;
    for folder in FOLDERS {
        std::fs::create_dir(root.join(folder)).expect("a new tmpfs");
    }
    for folder in ["dev", "proc", "sys"] {
        let host = Path::new("/").join(folder);
        mount(Some(&host), &root.join(folder), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    }
    mount(Some("tmpfs"), &root.join("run"), Some("tmpfs"), MsFlags::empty(), NONE)?;
    // With the same folder for both, the old root is mounted over the new one and can be detached (pivot_root(2)).
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// A line of mountinfo for what is mounted on top at `path` in this thread's namespace; `None` where nothing is.
pub fn mounted_at(path: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc is mounted");
    table.lines().rev().find(|line| line.split(' ').nth(4) == Some(path)).map(String::from)
}
