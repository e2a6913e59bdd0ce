//! What is in the images of the recipes that ship, as text: a change of it is a diff to look at.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` rewrites `tests/golden/`. What Debian or a compiler decides (sizes, hashes,
//! version numbers) is not in it; all of ours is.

use bootwright::emit::manifest::{FileKind, FileRecord, Manifest, load_manifest};
use bootwright::profiles::PROFILES;
use bootwright::recipe::SegmentName;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use testkit::shipped::Shipped;

/// PID1's component: its size is the compiler's.
const INIT: &str = "init";

#[test]
fn rescue() {
    check_recipe("rescue", None);
}

#[test]
fn rescue_over_nbd() {
    if testkit::need::have(&["mksquashfs"]) {
        check_recipe("rescue", Some("nbd"));
    }
}

#[test]
fn worker() {
    if testkit::need::have(&["mksquashfs"]) {
        check_recipe("worker", None);
    }
}

/// What docs/addons.md says of the worker is what `bootwright addons` does.
#[test]
fn addons_of_the_worker() {
    if !testkit::need::have(&["go"]) {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
    let output = project.tool().args(["addons", "--recipe", "worker", "--json"]).args(names).output().expect("it runs");
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let addons = document["addons"].as_array().expect("a list");
    let rows: String = addons.iter().map(addon_row).collect();
    let table = format!("| profile | read in | `worker` | lacks |\n|---|---|---|---|\n{rows}");
    let docs = testkit::folders::project_root().join("docs/addons.md");
    let text = std::fs::read_to_string(&docs).expect("the document is there");
    let (before, rest) = text.split_once(TABLE_START).expect("the document marks its table");
    let (old, after) = rest.split_once(TABLE_END).expect("the table ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&docs, format!("{before}{TABLE_START}{table}{TABLE_END}{after}"))
            .expect("the checkout is writable");
        return;
    }
    assert!(
        old == table,
        "docs/addons.md:\n{}\nif this is meant: UPDATE_GOLDEN=1 cargo test --test golden",
        difference(old, &table)
    );
}

const TABLE_START: &str = "<!-- made by tests/golden.rs -->\n\n";
const TABLE_END: &str = "\n<!-- end -->";

/// What lacks, by the feature that asks for it; those that the add-on does not run without first.
fn addon_row(addon: &Value) -> String {
    let mut lacking: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for need in addon["needs"].as_array().expect("a list") {
        let (name, only) = (need["name"].as_str().expect("a name"), need["only"].as_str().unwrap_or_default());
        let shown = match need["standing"].as_str() {
            Some("has") => continue,
            Some("unknown") => format!("`{}`?", name.replace('|', "` or `")),
            _ => format!("`{}`", name.replace('|', "` or `")),
        };
        lacking.entry(only.into()).or_default().push(shown);
    }
    let parts = lacking.iter().map(|(only, names)| match only.as_str() {
        "" => names.join(", "),
        only => format!("for {only}: {}", names.join(", ")),
    });
    let parts: Vec<String> = parts.collect();
    let text = |key: &str| addon[key].as_str().unwrap_or_default().to_string();
    format!("| {} | {} | {} | {} |\n", text("name"), text("version"), text("verdict"), parts.join("; "))
}

/// Builds it and compares listing, boot script and the manifest's shape with what is recorded.
fn check_recipe(recipe: &str, root: Option<&str>) {
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let image = project.build(recipe, root, &[]);
    let name = root.map_or(recipe.to_string(), |root| format!("{recipe}-{root}"));
    let manifest = load_manifest(&image.join("manifest.json")).expect("a finished image has a manifest");
    let text = |name: &str| std::fs::read_to_string(image.join(name)).expect("the image holds it");
    let shape = shape(&serde_json::from_str(&text("manifest.json")).expect("the manifest is JSON"));
    let script = text("boot.ipxe").replace(&manifest.image_id, "<image>");
    let documents = [
        (format!("{name}.txt"), listing(&manifest)),
        (format!("{name}.boot.ipxe"), script),
        (format!("{name}.manifest-shape.txt"), shape),
    ];
    let changed: Vec<String> = documents.iter().filter_map(|(name, text)| compare_with_golden(name, text)).collect();
    assert!(changed.is_empty(), "{}\nif this is meant: UPDATE_GOLDEN=1 cargo test --test golden", changed.concat());
}

/// One line an entry, by segment and path.
fn listing(manifest: &Manifest) -> String {
    let packaged: BTreeSet<&str> = manifest.sources.iter().map(|s| s.component.as_str()).chain([INIT]).collect();
    let mut out = String::new();
    for name in SegmentName::OF_TREE {
        let _ = writeln!(out, "# {}", name.as_str());
        let lines = manifest.files.iter().filter(|f| f.segment == name);
        let mut lines: Vec<(String, String)> =
            lines.map(|f| line(f, packaged.contains(f.component.as_str()), &manifest.kernel_release)).collect();
        lines.sort();
        lines.iter().for_each(|(_, line)| out.push_str(&format!("{line}\n")));
    }
    out
}

/// Path to sort by, and the line. Of what is `packaged` only what its version does not decide.
fn line(file: &FileRecord, packaged: bool, release: &str) -> (String, String) {
    let stable = |text: &str| stable_path(text, release);
    let path = if packaged { stable(&file.path) } else { file.path.clone() };
    let kind = match file.kind {
        FileKind::Dir => "dir",
        FileKind::File => "file",
        FileKind::Hardlink => "hardlink",
        FileKind::Symlink => "symlink",
        FileKind::Char => "char",
        FileKind::Block => "block",
        FileKind::Fifo => "fifo",
    };
    let mut line = format!("{} {}:{} {kind:7} {path}", file.mode, file.uid, file.gid);
    if let Some(target) = &file.target {
        let _ = write!(line, " -> {}", if packaged { stable(target) } else { target.clone() });
    }
    if let (false, Some(size), Some(sha256)) = (packaged, file.size, file.sha256) {
        let _ = write!(line, " {size} {sha256}");
    }
    let _ = write!(line, " [{}]", file.component);
    (path, line)
}

/// A path without what moves with a package's version: the kernel's release, and all of a library's version but the
/// part that programs are linked against: `libx.so.1` stays, `libx.so.1.2.3` becomes `libx.so.<version>`.
fn stable_path(path: &str, release: &str) -> String {
    let path = path.replace(release, "<release>");
    match path.split_once(".so.") {
        Some((name, version)) if version.contains('.') => format!("{name}.so.<version>"),
        _ => path,
    }
}

/// Where in a document which types are: `files[].path: string`. Keys that are names of components or programs are `*`.
fn shape(document: &Value) -> String {
    let mut types = BTreeMap::<String, BTreeSet<&str>>::new();
    describe(document, String::new(), &mut types);
    types.iter().map(|(at, t)| format!("{at}: {}\n", t.iter().copied().collect::<Vec<_>>().join(" or "))).collect()
}

fn describe(value: &Value, at: String, types: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            return items.iter().for_each(|item| describe(item, format!("{at}[]"), types));
        }
        Value::Object(items) => {
            let free = ["tools", "segments[].components", "root.components"].contains(&at.as_str());
            let key = |key: &str| if free { "*".to_string() } else { key.to_string() };
            let below = |k: &str| if at.is_empty() { key(k) } else { format!("{at}.{}", key(k)) };
            return items.iter().for_each(|(k, item)| describe(item, below(k), types));
        }
    };
    types.entry(at).or_default().insert(name);
}

/// What differs from the recorded text, line by line; `None` when nothing does.
fn compare_with_golden(name: &str, text: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the checkout is writable");
        return None;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    (golden != text).then(|| format!("\ntests/golden/{name}:\n{}", difference(&golden, text)))
}

/// Lines that only one of them has, in order; where there are none, the order itself differs.
fn difference(old: &str, new: &str) -> String {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        let there: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|l| !there.contains(l)).map(|l| format!("{sign}{l}\n")).collect()
    };
    let lines = [only(old, new, '-'), only(new, old, '+')].concat().concat();
    if lines.is_empty() { "the same lines in another order, or as often\n".into() } else { lines }
}

#[test]
fn a_difference_shows_what_came_and_went() {
    assert_eq!(difference("a\nb\nc\n", "a\nB\nc\n"), "-b\n+B\n");
    assert_eq!(difference("a\nb\n", "b\na\n"), "the same lines in another order, or as often\n");
}

#[test]
fn versions_of_packages_are_left_out_of_paths() {
    let stable = |path| stable_path(path, "6.12.1-amd64");
    assert_eq!(stable("usr/lib/modules/6.12.1-amd64/kernel/fs/x.ko"), "usr/lib/modules/<release>/kernel/fs/x.ko");
    assert_eq!(stable("usr/lib/libc.so.6"), "usr/lib/libc.so.6");
    assert_eq!(stable("usr/lib/libx.so.2.6.0"), "usr/lib/libx.so.<version>");
}
