//! A project with a Go program and a module proxy of its own, which need no network.

use crate::project::Project;
use bootwright::source::go::Toolchain;
use std::process::Command;

/// Makes a module proxy of a folder (https://go.dev/ref/mod, "GOPROXY protocol") with one module, in which `tool` is a program.
const PROXY: &str = r#"
import os, sys, zipfile
place = sys.argv[1] + "/example.com/dep/@v"
os.makedirs(place)
files = {"go.mod": "module example.com/dep\n\ngo 1.21\n", "dep.go": "package dep\n\nconst Name = \"good\"\n",
    "tool/tool.go": "package main\n\nfunc main() {}\n\nconst Name = \"tool\"\n"}
with zipfile.ZipFile(place + "/v1.0.0.zip", "w") as z:
    for name, text in files.items():
        z.writestr("example.com/dep@v1.0.0/" + name, text)
open(place + "/v1.0.0.mod", "w").write(files["go.mod"])
open(place + "/v1.0.0.info", "w").write('{"Version": "v1.0.0"}')
open(place + "/list", "w").write("v1.0.0\n")
"#;

/// A project with a Go program that prints what the module says, and the caches of the machine's user, below `host/`.
pub fn go_program() -> Project {
    let project = Project::new();
    project.write("prog/go.mod", "module example/prog\n\ngo 1.21\n\nrequire example.com/dep v1.0.0\n");
    let main = "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Name) }\n";
    project.write("prog/main.go", main);
    project.write("prog/evil.go", "//go:build evil\n\npackage main\n\nfunc init() { println(\"evil\") }\n");
    project
        .add("[[component]]\nname = \"prog\"\ngo = { dir = \"../prog\", packages = { \".\" = \"usr/bin/prog\" } }\n");
    succeeds(Command::new("python3").args(["-c", PROXY]).arg(project.path("proxy")));
    let go = &Toolchain::find_all("tests", false).expect("Go is installed")[0].go;
    let proxy = format!("file://{}", project.path("proxy").display());
    let mut tidy = Command::new(go);
    tidy.args(["mod", "tidy"]).current_dir(project.path("prog")).env("GOPROXY", proxy).env("GOSUMDB", "off");
    succeeds(tidy.env("GOMODCACHE", project.path("host/mod")).env("GOFLAGS", "-modcacherw"));
    project
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
