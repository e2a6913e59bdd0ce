//! The same image from other surroundings: another folder, umask, time zone, locale, number of threads, and another user
//! with a cache of its own. Nothing in the image may tell.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::shipped::Shipped;
use walkdir::WalkDir;

/// Debian's user without rights, for tests that root runs.
const NOBODY: &str = "65534";
/// What was packed: exactly what the second build shall do again.
const PACKED: &str = "derived/segments";
/// Not shared between two caches.
const OWN_FOLDERS: [&str; 5] = ["tmp", "locks", "partial", "go", PACKED];

/// Differences that a failure shows.
const SHOWN: usize = 20;

#[test]
fn rescue() {
    if testkit::need::have(&["setpriv"]) {
        same_everywhere("rescue", None);
    }
}

/// The export tree is another one for who may not give files away; the tar is not.
#[test]
fn rescue_over_nfs() {
    if testkit::need::have(&["setpriv", "mksquashfs"]) {
        same_everywhere("rescue", Some("nfs"));
    }
}

#[test]
fn worker() {
    if testkit::need::have(&["setpriv", "mksquashfs"]) {
        same_everywhere("worker", None);
    }
}

/// Builds with the user's cache, then everything that is packed anew as somebody else, somewhere else.
fn same_everywhere(recipe: &str, root: Option<&str>) {
    let here = Shipped::copy_below(&testkit::folders::work_folder());
    let first = here.build(recipe, root, &["--jobs", "2"]);
    let name = first.file_name().expect("an image has a name").to_os_string();

    // A folder that another user can reach; a longer path on purpose.
    let there = Shipped::copy_below(&std::env::temp_dir());
    let place = there.path().join("a folder/with a longer name");
    std::fs::create_dir_all(&place).expect("a new folder");
    for name in ["recipes", "overlays", "patches", "programs"] {
        std::fs::rename(there.path().join(name), place.join(name)).expect("it was copied");
    }
    // The first build may have renewed the lock: both pin the same.
    let lock = format!("recipes/{recipe}.lock");
    std::fs::copy(here.path().join(&lock), place.join(&lock)).expect("a build leaves a lock");
    copy_cache(&user_cache(), &place.join("cache"));
    let tool = place.join("bootwright");
    std::fs::copy(testkit::tool::tool_path(), &tool).expect("the tool was built");
    let user = hand_over(there.path());

    // SOURCE_DATE_EPOCH is a time to pin at, not a time in an image that is pinned.
    let script =
        "umask 077; exec \"$0\" build --recipe \"$1\" --jobs 1 --offline --locked --cache cache --out images $2";
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--clear-groups", "sh"]);
            command
        }
        None => Command::new("sh"),
    };
    command
        .args(["-c", script])
        .arg(&tool)
        .arg(recipe)
        .arg(root.map_or(String::new(), |root| format!("--root={root}")))
        .current_dir(&place);
    command.env_remove("XDG_CACHE_HOME").env_remove("BOOTWRIGHT_CACHE").env_remove("BOOTWRIGHT_RECIPES");
    command.env("HOME", "/nonexistent").env("TZ", "Asia/Tokyo").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "de_DE.UTF-8");
    command.env("SOURCE_DATE_EPOCH", "1700000000").env("TMPDIR", &place);
    let output = command.output().expect("setpriv and sh start");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let second = place.join("images").join(name);
    let sums = |dir: &Path| std::fs::read_to_string(dir.join("SHA256SUMS")).expect("a finished image has sums");
    assert_eq!(sums(&first), sums(&second), "{}", difference(&first, &second));
    assert!(place.join("cache").join(PACKED).is_dir(), "the second build packed for itself");
}

/// Where the manifests part, without the ids that follow from it: what to look at when sums differ.
fn difference(first: &Path, second: &Path) -> String {
    let text =
        |dir: &Path| std::fs::read_to_string(dir.join("manifest.json")).expect("a finished image has a manifest");
    let (a, b) = (text(first), text(second));
    let pairs = a.lines().zip(b.lines()).enumerate().filter(|(_, (a, b))| a != b && !a.contains("\"image_id\""));
    pairs.take(SHOWN).map(|(at, (a, b))| format!("\nmanifest.json:{}:\n-{a}\n+{b}", at + 1)).collect()
}

/// The default cache of whoever runs the tests, as the tool finds it.
fn user_cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let xdg = || set("XDG_CACHE_HOME").map(|dir| dir.join("bootwright"));
    let home = || set("HOME").map(|dir| dir.join(".cache/bootwright"));
    set("BOOTWRIGHT_CACHE").or_else(xdg).or_else(home).expect("whoever runs tests has a home")
}

/// Copies all that was fetched, unpacked and compiled. Other builds may go on there: what they are at work on is not taken.
fn copy_cache(from: &Path, to: &Path) {
    let wanted = |path: &Path| !OWN_FOLDERS.iter().any(|own| path == from.join(own));
    for entry in WalkDir::new(from).into_iter().filter_entry(|e| wanted(e.path())) {
        let entry = entry.expect("the cache can be read");
        let target = to.join(entry.path().strip_prefix(from).expect("it was walked"));
        match entry.file_type().is_dir() {
            true => std::fs::create_dir(&target).expect("a new folder"),
            false => drop(std::fs::copy(entry.path(), &target).expect("the file is copied")),
        }
    }
}

/// Gives all below to a user without rights when the test has root's; the user's number.
fn hand_over(dir: &Path) -> Option<&'static str> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("it is ours");
    let root = nix::unistd::geteuid().is_root();
    if root {
        let nobody = NOBODY.parse().expect("a number");
        for entry in WalkDir::new(dir) {
            let path = entry.expect("it was just made").into_path();
            std::os::unix::fs::lchown(path, Some(nobody), Some(nobody)).expect("root may");
        }
    }
    root.then_some(NOBODY)
}
