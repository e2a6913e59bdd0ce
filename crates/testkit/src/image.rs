//! Images of the shipped recipes, built by the tool itself, each once in a run of the tests, with the user's cache. Each
//! test has a folder of links to what was built, so that tests which boot the same image at once have their own logs.

use crate::console;
use crate::folders::{new_folder, project_root, work_folder};
use crate::tool::tool;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A cold build of the worker compiles kubelet.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
static VIEWS: AtomicUsize = AtomicUsize::new(0);

/// An image and how it was asked for.
#[derive(Debug, Clone)]
pub struct Image {
    /// As `--recipe` takes it.
    pub recipe: String,
    pub name: String,
    pub sets: Vec<String>,
    /// As `--root` takes it; `None`: the recipe's own.
    pub root: Option<String>,
    /// The folder above the image's own, as `--out` takes it.
    pub out: PathBuf,
}

impl Image {
    /// Builds a recipe that ships, unless an earlier test did. Tests that come at the same time wait.
    pub fn build(recipe: &str, sets: &[&str]) -> Self {
        Self::build_as(recipe, recipe, sets, None)
    }

    /// Builds a recipe that ships with its root over the network: `http`, `nfs`, `iscsi`, `nbd`.
    pub fn build_with_root(recipe: &str, root: &str, sets: &[&str]) -> Self {
        Self::build_as(recipe, &format!("{recipe}-{root}"), sets, Some(root))
    }

    /// Builds a variant of a recipe that ships, or of several, blanks between: `text` is all but the `extends`.
    pub fn build_variant(name: &str, base: &str, text: &str, sets: &[&str]) -> Self {
        Self::build_variant_with_root(name, base, text, sets, None)
    }

    /// The same with its root over the network.
    pub fn build_variant_with_root(
        name: &str,
        base_names: &str,
        text: &str,
        sets: &[&str],
        root: Option<&str>,
    ) -> Self {
        let recipe = write_variant(name, base_names, text);
        let name = root.map_or(name.to_string(), |root| format!("{name}-{root}"));
        Self::build_as(&recipe, &name, sets, root)
    }

    /// A variant whose kernel modules are signed: `pair` are the files of key and certificate.
    pub fn build_variant_signed(name: &str, base: &str, text: &str, sets: &[&str], pair: [&Path; 2]) -> Self {
        let recipe = write_variant(name, base, text);
        let pair = pair.map(|path| path.to_str().expect("the path is UTF-8"));
        let args = ["--module-key", pair[0], "--module-cert", pair[1]];
        Self::build_with(&recipe, name, sets, None, &args)
    }

    fn build_as(recipe: &str, name: &str, sets: &[&str], root: Option<&str>) -> Self {
        Self::build_with(recipe, name, sets, root, &[])
    }

    /// `more`: further arguments of the build.
    fn build_with(recipe: &str, name: &str, sets: &[&str], root: Option<&str>, more: &[&str]) -> Self {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let root = root.map(String::from);
        let key = format!("{recipe} {root:?} {} {}", sets.join(" "), more.join(" "));
        // A build that failed poisons the lock: the others then fail too, each in its own name.
        let mut built = BUILT.lock().expect("an earlier build failed");
        let number = built.len();
        let whole = built.entry(key).or_insert_with(|| build(recipe, &sets, root.as_deref(), more, number));
        let out = link(&whole.join(name), name);
        Self { recipe: recipe.into(), name: name.into(), sets, root, out }
    }

    /// Kernel, initrd and the rest.
    pub fn dir(&self) -> PathBuf {
        self.out.join(&self.name)
    }

    /// What the machine has said so far.
    pub fn console(&self) -> String {
        console::read(&self.dir().join("smoke/console.log"))
    }

    /// A copy whose files may be changed.
    pub fn copy(&self) -> (tempfile::TempDir, Self) {
        let out = new_folder();
        let dir = out.path().join(&self.name);
        std::fs::create_dir(&dir).expect("a new folder");
        for name in ["vmlinuz", "initrd.img", "boot.ipxe"] {
            std::fs::copy(self.dir().join(name), dir.join(name)).expect("the image holds it");
        }
        let copy = Self { out: out.path().into(), ..self.clone() };
        (out, copy)
    }

    /// `--recipe`, `--set`, `--root` and `--out` for it.
    pub fn arguments(&self) -> Vec<String> {
        arguments(&self.recipe, &self.sets, self.root.as_deref(), &self.out)
    }
}

/// The recipe's path.
fn write_variant(name: &str, bases: &str, text: &str) -> String {
    let recipe = work_folder().join(format!("{name}.toml"));
    let base = |base: &str| project_root().join("recipes").join(format!("{base}.toml"));
    let bases: Vec<PathBuf> = bases.split(' ').map(base).collect();
    std::fs::write(&recipe, format!("extends = {bases:?}\n{text}")).expect("cargo's folder for tests is writable");
    recipe.display().to_string()
}

fn arguments(recipe: &str, sets: &[String], root: Option<&str>, out: &Path) -> Vec<String> {
    let mut args = vec!["--recipe".into(), recipe.into(), "--out".into(), out.display().to_string()];
    args.extend(root.iter().flat_map(|root| ["--root".to_string(), root.to_string()]));
    args.extend(sets.iter().flat_map(|set| ["--set".to_string(), set.clone()]));
    args
}

fn build(recipe: &str, sets: &[String], root: Option<&str>, more: &[&str], number: usize) -> PathBuf {
    let out = work_folder().join(format!("vm-{number}"));
    let args = arguments(recipe, sets, root, &out);
    tool().arg("build").args(args).args(more).timeout(BUILD_DEADLINE).assert().success();
    out
}

/// A folder that holds the image's folder with links to all that was built, but for logs. Gives what `--out` takes.
fn link(built: &Path, name: &str) -> PathBuf {
    let number = VIEWS.fetch_add(1, Ordering::Relaxed);
    let out = work_folder().join("links").join(number.to_string());
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&out);
    let dir = out.join(name);
    std::fs::create_dir_all(&dir).expect("cargo's folder for tests is writable");
    for entry in std::fs::read_dir(built).expect("it was built") {
        let entry = entry.expect("it can be listed");
        if entry.file_name() == "smoke" {
            continue;
        }
        let (from, to) = (entry.path(), dir.join(entry.file_name()));
        let linked = if from.is_dir() { std::os::unix::fs::symlink(&from, to) } else { std::fs::hard_link(&from, to) };
        linked.expect("the folders are in one file system");
    }
    out
}

/// The image that is built fastest.
pub fn rescue() -> Image {
    Image::build("rescue", &[])
}
