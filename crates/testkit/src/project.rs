//! A project that builds in a blink and needs no network: a kernel with two modules and a root's file systems, a program,
//! files and an overlay, all in a temporary folder, and the real `bootwright` run in it.

use crate::tool::tool_path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The recipe; `@ROOT@` is the `[root]` section's keys.
const RECIPE: &str = r#"summary = "tiny"
[kernel]
component = "kernel"
cmdline = ["console=ttyS0"]
early = ["first"]
modules = ["second"]
[root]
@ROOT@
[[component]]
name = "kernel"
path = { path = "../kernel" }
[[component]]
name = "tool"
path = { path = "../tool", to = "opt/tool" }
[[overlay]]
dir = "../overlay"
[[file]]
path = "/etc/motd"
content = "hello\n"
"#;

/// The same in each test, so that locks and images of two projects are alike.
const EPOCH: &str = "1700000000";

pub struct Project {
    dir: TempDir,
}

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// With an uncompressed root, which needs no tool of the host.
    pub fn new() -> Self {
        Self::with_root("image = \"cpio\"")
    }

    /// With these keys in `[root]`.
    pub fn with_root(keys: &str) -> Self {
        let project = Self { dir: tempfile::tempdir().expect("tests may write to the temporary folder") };
        project.write("recipes/tiny.toml", RECIPE.replace("@ROOT@", keys));
        project.write("kernel/boot/vmlinuz-1.0", [b"MZ".as_slice(), &[7; 5000]].concat());
        project.write("kernel/lib/modules/1.0/kernel/lib/first.ko", module(&["license=GPL"]));
        project.write("kernel/lib/modules/1.0/kernel/net/second.ko", module(&["license=GPL", "depends=first"]));
        project.write(
            "kernel/lib/modules/1.0/modules.builtin",
            "kernel/fs/squashfs/squashfs.ko\nkernel/fs/erofs/erofs.ko\nkernel/drivers/md/dm-verity.ko\n",
        );
        project.write_program("tool/run", "a program");
        project.write("tool/data", vec![b'd'; 20_000]);
        project.write("overlay/etc/tiny.conf", "conf\n");
        project
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn write(&self, below: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("it lies in the project")).expect("the folder can be made");
        std::fs::write(path, bytes).expect("the file can be written");
    }

    /// A file that may be executed.
    pub fn write_program(&self, below: &str, bytes: impl AsRef<[u8]>) {
        self.write(below, bytes);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path(below), mode).expect("it was just written");
    }

    pub fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap_or_else(|e| panic!("{below}: {e}"))
    }

    /// Changes the recipe.
    pub fn edit(&self, from: &str, to: &str) {
        let text = self.read("recipes/tiny.toml");
        assert!(text.contains(from), "no {from:?} in the recipe");
        self.write("recipes/tiny.toml", text.replacen(from, to, 1));
    }

    /// Adds to the recipe's end.
    pub fn add(&self, text: &str) {
        self.write("recipes/tiny.toml", self.read("recipes/tiny.toml") + text);
    }

    /// The program in this project, with its own cache and nothing of the caller's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(tool_path());
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        for name in ["BOOTWRIGHT_RECIPES", "BOOTWRIGHT_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        // No test asks a host of somebody else's.
        command.env("BOOTWRIGHT_SNAPSHOT", "none");
        command.env("BOOTWRIGHT_CACHE", self.path("cache")).env("SOURCE_DATE_EPOCH", EPOCH);
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().expect("the program starts"))
    }

    /// `bootwright build` with more arguments.
    pub fn build(&self, more: &[&str]) -> Run {
        self.run(&[&["build", "--recipe", "tiny"], more].concat())
    }

    /// A build that must succeed; the image as it is afterwards.
    pub fn good_build(&self) -> ImageFiles {
        self.build(&[]).succeeds();
        self.image()
    }

    /// Everything in `out/tiny/` but what tells of the build.
    pub fn image(&self) -> ImageFiles {
        ImageFiles::load(&self.path("out/tiny"))
    }

    /// Names in `out/`, without its lock.
    pub fn out_names(&self) -> Vec<String> {
        names(&self.path("out")).into_iter().filter(|name| name != ".lock").collect()
    }
}

/// Sorted names in a folder; none when it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(found) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = found.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Files by path below the image's folder.
#[derive(PartialEq)]
pub struct ImageFiles(BTreeMap<PathBuf, Vec<u8>>);

impl ImageFiles {
    pub fn load(dir: &Path) -> Self {
        let files = walkdir::WalkDir::new(dir).into_iter().map(|e| e.expect("an image can be read").into_path());
        // These tell of the build, and of the one before.
        let of_build = [".build.json", ".report.json", "report.html"];
        let files = files.filter(|path| path.is_file() && !of_build.iter().any(|name| path.ends_with(name)));
        let load = |path: PathBuf| {
            let bytes = std::fs::read(&path).expect("an image can be read");
            (path.strip_prefix(dir).expect("the walk stays below").to_path_buf(), bytes)
        };
        Self(files.map(load).collect())
    }

    /// Fails with the names of the files that differ.
    #[track_caller]
    pub fn is_like(&self, other: &Self) {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differ: Vec<_> = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).collect();
        assert!(differ.is_empty() && !self.0.is_empty(), "these files differ: {differ:?}");
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Ended with that code, and the error says all of `said` and what to do.
    #[track_caller]
    pub fn fails(&self, code: i32, said: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for text in ["error: ", "\n  help: "].iter().chain(said) {
            assert!(self.err.contains(text), "no {text:?} in:\n{}", self.err);
        }
        self
    }

    /// What it printed on either stream holds all of `said`.
    #[track_caller]
    pub fn says(&self, said: &[&str]) -> &Self {
        let all = format!("{}\n{}", self.out, self.err);
        for text in said {
            assert!(all.contains(text), "no {text:?} in:\n{all}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{}", self.out))
    }
}

/// A kernel module: a relocatable ELF file with nothing but a `.modinfo` section (elf(5)).
fn module(fields: &[&str]) -> Vec<u8> {
    let info: Vec<u8> = fields.iter().flat_map(|field| [field.as_bytes(), &[0]].concat()).collect();
    let names = b"\0.modinfo\0.shstrtab\0";
    let (info_at, names_at) = (64u64, 64 + info.len() as u64);
    let table_at = (names_at + names.len() as u64).next_multiple_of(8);
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Type REL, machine x86-64, version; entry, program headers, section headers; flags; sizes and counts.
    out.extend([1u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    out.extend(1u32.to_le_bytes());
    out.extend([0, 0, table_at].iter().flat_map(|word| word.to_le_bytes()));
    out.extend(0u32.to_le_bytes());
    out.extend([64u16, 0, 0, 64, 3, 2].iter().flat_map(|half| half.to_le_bytes()));
    out.extend(info.iter().chain(names));
    out.resize(table_at as usize, 0);
    for (name, kind, at, size) in [(0u32, 0u32, 0, 0), (1, 1, info_at, info.len()), (10, 3, names_at, names.len())] {
        out.extend([name, kind].iter().flat_map(|half| half.to_le_bytes()));
        out.extend([0, 0, at, size as u64, 0, 1, 0].iter().flat_map(|word| word.to_le_bytes()));
    }
    out
}
