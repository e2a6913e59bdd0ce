//! A folder with all that a lock pins builds the same image where there is no network, and says what it lacks.

use crate::oci::{REPOSITORY, push_image};
use bootwright::entry::Sha256;
use bootwright::lock::{LockedComponent, load_lock, save_lock};
use bootwright::recipe::load_recipe;
use bootwright::source::Pin;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::go_program::go_program;
use testkit::http::{PageServer, Step};
use testkit::need::{have, user_namespaces};
use testkit::project::{Project, Run};
use testkit::registry::Registry;

const FILE: &[u8] = b"a release file";
const DEB: &str = "pool/app_1:2+b_all.deb";

/// A project with components of all kinds, its lock, and the servers of the bodies.
struct Lab {
    project: Project,
    server: PageServer,
    mirror: String,
    _registry: Registry,
}

impl Lab {
    /// `None` where a program is missing.
    fn new() -> Option<Self> {
        if !have(&["python3", "dpkg-deb"]) || !user_namespaces() {
            return None;
        }
        let (registry, server, project) = (Registry::start()?, PageServer::start(), go_program());
        push_image(&registry, "a tool");
        patch_tool(&project);
        let url = server.page("/file", FILE, &[Step::Serve]);
        let (image, sha256) = (format!("{}/{REPOSITORY}:v1", registry.address), Sha256::of(FILE));
        project.add(&format!(
            "[[component]]\nname = \"file\"\nurl = {{ url = \"{url}\", sha256 = \"{sha256}\", size = {}, name = \"opt/file\" }}\n\
             [[component]]\nname = \"pulled\"\npaths = [\"usr/bin/tool\"]\noci = {{ image = \"{image}\", plain_http = true }}\n",
            FILE.len()
        ));
        let base = url.trim_end_matches("/file").to_string();
        let lab = Self { project, server, mirror: format!("{base}/debian"), _registry: registry };
        lab.run(&["lock", "--recipe", "tiny"]).succeeds();
        lab.add_deb();
        Some(lab)
    }

    /// A package, pinned without apt.
    fn add_deb(&self) {
        self.project.write(
            "deb/DEBIAN/control",
            "Package: app\nVersion: 1:2+b\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n",
        );
        self.project.write("deb/usr/share/app", "of the package\n");
        let built = self.project.path("app.deb");
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--root-owner-group", "-b"]).arg(self.project.path("deb")).arg(&built);
        assert!(dpkg.output().expect("it is on the path").status.success());
        let deb = std::fs::read(built).unwrap();
        self.server.page("/debian/pool/app_1%3a2%2bb_all.deb", &deb, &[Step::Serve]);
        self.project.add("[[component]]\nname = \"app\"\ndeb = { suite = \"trixie\", packages = [\"app\"] }\npaths = [\"usr/share/app\"]\n");
        let path = self.project.path("recipes/tiny.toml");
        let recipe = load_recipe(&path.display().to_string(), &[], None).expect("the recipe is good");
        let component = recipe.components.iter().find(|c| c.name == "app").expect("it was added");
        let detail = [("archive", "debian"), ("filename", DEB)].map(|(k, v)| (k.to_string(), v.to_string())).into();
        let (size, sha256) = (deb.len() as u64, Sha256::of(&deb));
        let pin = Pin { name: "app".into(), version: "1:2+b".into(), size, sha256, detail };
        let mut lock = load_lock(&recipe.lock_path).unwrap().expect("it was made");
        lock.components.push(LockedComponent { name: "app".into(), spec: component.source.clone(), pins: vec![pin] });
        save_lock(&recipe.lock_path, &lock).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        command
            .env("GOMODCACHE", self.project.path("host/mod"))
            .env("GOSUMDB", "off")
            .env("BOOTWRIGHT_MIRROR", &self.mirror);
        command.env("GOPROXY", format!("file://{}", self.project.path("proxy").display()));
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().expect("the program starts"))
    }

    /// Fills the folder; what is printed at the end.
    fn vendor(&self) -> Run {
        let run = self.run(&["vendor", "--recipe", "tiny", "vendor"]);
        run.succeeds();
        assert!(!self.project.path("vendor/unfinished").exists());
        run
    }

    /// Builds from the folder with the cache `far`, in a network namespace without anything, and a mount namespace without the
    /// Go, the caches and the proxy of this machine.
    fn build_far(&self) -> Run {
        let inner = self.command(&[]);
        let hidden = ["/usr/local/go", "proxy", "host", "cache"].map(|path| self.project.path(path));
        let hide = hidden
            .iter()
            .filter(|path| path.exists())
            .map(|path| format!("mount -t tmpfs none '{}'\n", path.display()));
        let script = format!(
            "set -e\n{}test -z \"$(ip -brief link | grep -v ^lo)\"\nexec '{}' --cache far build --recipe tiny --locked --vendor vendor --out out-far",
            hide.collect::<String>(),
            inner.get_program().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", &script]);
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for (name, _) in inner.get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(name);
        }
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
        command.current_dir(self.project.path(""));
        Run::of(command.output().expect("unshare was there a moment ago"))
    }

    /// Removes the image, and what the far cache has below these folders, so that the next build needs it again.
    fn forget(&self, places: &[&str]) {
        let far = places.iter().map(|place| Path::new("far").join(place));
        // `go` makes its folders read-only, which root in a test need not mind.
        let mut remove = Command::new("rm");
        remove.args(["-rf", "out-far"]).args(far).current_dir(self.project.path(""));
        assert!(remove.status().expect("rm runs").success());
    }

    fn blob(&self, body: &[u8]) -> PathBuf {
        let hex = Sha256::of(body).to_string();
        self.project.path("vendor/blobs/sha256").join(&hex[..2]).join(&hex)
    }
}

/// Has the program import what is a program itself until a patch makes it a package, in a module that no pin names.
fn patch_tool(project: &Project) {
    let main = project.read("prog/main.go").replace("import \"example.com/dep\"", "import \"example.com/dep/tool\"");
    project.write("prog/main.go", main.replace("dep.Name", "tool.Name"));
    let patch = "Module: example.com/dep\nDescription: lets its tool be imported\nForwarded: not-needed\nGuard: a test\n\n\
        --- a/tool/tool.go\n+++ b/tool/tool.go\n@@ -1,3 +1,3 @@\n-package main\n+package tool\n \n func main() {}\n";
    project.write("patches/1-tool.patch", patch);
    project.edit(
        "packages = { \".\" = \"usr/bin/prog\" }",
        "packages = { \".\" = \"usr/bin/prog\" }, patches = [\"../patches\"]",
    );
}

/// Makes a file another one of the same size.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(path, bytes).unwrap();
}

const AGAIN: &str = "run `bootwright vendor` for this recipe and folder again";

#[test]
fn a_vendor_folder_builds_the_same_image_without_a_network() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.vendor();
    first.says(&["vendor app 1:2+b\n", "vendor opt/file\n", "layer-000\n", "vendor example.com/dep/@v/v1.0.0.zip\n"]);
    first.says(&["0 were there; build with --locked --vendor vendor"]);
    lab.build_far().succeeds();
    lab.run(&["build", "--recipe", "tiny", "--locked"]).succeeds();
    for file in ["initrd.img", "vmlinuz"] {
        let built = |out: &str| std::fs::read(lab.project.path(out).join("tiny").join(file)).unwrap();
        assert!(built("out-far") == built("out"), "{file} is another one");
    }

    // What a killed one left is removed; the rest is there.
    lab.project.write("vendor/unfinished/x", "half");
    let again = lab.vendor();
    again.says(&["vendor: 0 added, "]);
    assert!(!again.err.contains("\nvendor "), "{}", again.err);

    let blobs = ["blobs", "derived/unpacked"];
    let file = lab.blob(FILE);
    damage(&file);
    lab.forget(&blobs);
    let damaged = format!("`{}` in the vendor folder is no good for `opt/file`", file.display());
    lab.build_far().fails(3, &["component `file`", &damaged, AGAIN]);
    lab.vendor().says(&["vendor opt/file: it was damaged, and is replaced", "vendor: 1 added, "]);
    lab.forget(&blobs);
    let deb = lab.blob(&std::fs::read(lab.project.path("app.deb")).unwrap());
    std::fs::remove_file(&deb).unwrap();
    let missing = format!("`app` is not in the vendor folder: there is no `{}`", deb.display());
    lab.build_far().fails(3, &["component `app`", &missing, AGAIN]);
    lab.vendor().says(&["vendor app 1:2+b", "vendor: 1 added, "]);

    let (zip, go) =
        (lab.project.path("vendor/go/proxy/example.com/dep/@v/v1.0.0.zip"), lab.project.path("vendor/go/toolchains"));
    let programs = ["go", "derived/go"];
    damage(&zip);
    lab.build_far().succeeds();
    lab.forget(&programs);
    let module = ["component `prog`", "vendor/go/proxy` in the vendor folder is no good for", "example.com/dep", AGAIN];
    lab.build_far().fails(3, &module);
    std::fs::remove_file(&zip).unwrap();
    lab.forget(&programs);
    lab.build_far().fails(3, &module);
    lab.vendor().says(&["vendor example.com/dep/@v/v1.0.0.zip", "vendor: 1 added, "]);

    let version = std::fs::read_dir(&go).unwrap().flatten().find(|found| found.path().is_dir()).expect("a toolchain");
    damage(&version.path().join("src/fmt/print.go"));
    let damaged = format!("`{}` in the vendor folder is no good for", version.path().display());
    lab.build_far().fails(3, &["component `prog`", &damaged, AGAIN]);
    std::fs::remove_dir_all(version.path()).unwrap();
    let missing = format!("there is no `{}`", version.path().display());
    lab.build_far().fails(3, &["component `prog`", &missing, AGAIN]);
}

#[test]
fn a_folder_that_is_none_or_cannot_be_made_and_a_build_that_may_renew_are_refused() {
    let project = Project::new();
    project.good_build();
    project.build(&["--vendor", "nowhere"]).says(&["--locked"]);
    project
        .build(&["--locked", "--vendor", "nowhere"])
        .fails(3, &["`nowhere`: is no vendor folder", "bootwright vendor"]);
    project.write("mine/unfinished/thesis", "precious");
    project
        .run(&["vendor", "--recipe", "tiny", "mine"])
        .fails(3, &["holds what `vendor` did not put there", "empty folder"]);
    assert_eq!(project.read("mine/unfinished/thesis"), "precious");
    project.write("a-file", "");
    let refused = project.run(&["vendor", "--recipe", "tiny", "a-file/vendor"]);
    refused.fails(1, &["cannot make `a-file/vendor` of the vendor folder: ", "help: check the vendor folder, "]);
    assert!(!refused.err.contains("--cache"), "the cache has nothing to do with it: {}", refused.err);
    project.edit("opt/tool", "opt/other");
    project.run(&["vendor", "--recipe", "tiny", "v"]).fails(2, &["lock"]);
    assert!(!project.path("v").exists(), "nothing is made for a lock that does not fit");
}
