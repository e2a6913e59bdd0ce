//! The worker's `registry-mirrors`: what it writes for containerd, and that it follows what the network says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use testkit::folders::new_folder;
use testkit::need::{have, pinned_go};
use testkit::shipped::Shipped;
use testkit::worker::programs_of;

const LIMIT: Duration = Duration::from_secs(30);

/// As `[registry]` and overlays write it; the list is one that only looks like the head of a table.
const HOSTS: &str = r#"# ${gateway} is the rack's router.
ca = "/etc/lab.crt"

[host."http://${boot_server}:8080"]
capabilities = ["pull", "resolve"]

[host."https://${gateway}:5000"]
client = [
  ["/etc/lab.cert", "/etc/lab.key"],
]
[host."https://${gateway}:5000".header]
Authorization = "Basic eDp5"

[host."http://mirror.lab"]
"#;

/// The program while it runs, and what it says.
struct Mirrors {
    program: Child,
    says: Receiver<String>,
}

impl Mirrors {
    fn start(program: &Path, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["run/lease.json", "boot", "certs.d", "ready"]).current_dir(folder).stderr(Stdio::piped());
        let mut program = command.spawn().expect("it is a program");
        let lines = BufReader::new(program.stderr.take().expect("piped")).lines();
        let (said, says) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| said.send(line).is_ok()));
        Self { program, says }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.says.recv_timeout(LIMIT).expect("it says something in time")
    }
}

impl Drop for Mirrors {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// As PID1 does it.
fn replace(folder: &Path, lease: &str) {
    let new = folder.join("run/lease.json.new");
    fs::write(&new, lease).and_then(|()| fs::rename(&new, folder.join("run/lease.json"))).expect("it is writable");
}

#[test]
fn a_mirror_that_is_not_known_is_left_out_until_the_network_names_it_and_the_others_are_there_at_once() {
    if !have(&["mksquashfs", "unsquashfs"]) || pinned_go().is_none() {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let folder = new_folder();
    let folder = folder.path();
    let pod = programs_of(&project.build("worker", None, &[]), folder, &["pod"]).remove(0);
    let program = pod.with_file_name("registry-mirrors");
    std::os::unix::fs::symlink("pod", &program).expect("a new link");
    for new in ["run", "boot/registry.lab:5000", "boot/alone", "certs.d"] {
        fs::create_dir_all(folder.join(new)).expect("a new folder");
    }
    fs::write(folder.join("boot/registry.lab:5000/hosts.toml"), HOSTS).expect("a new file");
    fs::write(folder.join("boot/alone/hosts.toml"), "server = \"https://${ip6}\"\n").expect("a new file");
    let written = |registry: &str| fs::read_to_string(folder.join("certs.d").join(registry).join("hosts.toml"));

    replace(folder, r#"{"ip":"192.0.2.7","server":"192.0.2.1","gateway":null,"ip6":"2001:db8::7"}"#);
    let mirrors = Mirrors::start(&program, folder);
    let said = mirrors.next();
    let expected =
        "`registry.lab:5000` goes without the mirror `https://${gateway}:5000`: `${gateway}` is not known; help: ";
    assert!(said.starts_with(&format!("registry-mirrors: {expected}")), "{said}");
    testkit::vm::wait_until("it is ready", LIMIT, || folder.join("ready").exists());
    let filled = written("registry.lab:5000").expect("the others are there");
    assert_eq!(
        filled,
        "# ${gateway} is the rack's router.\nca = \"/etc/lab.crt\"\n\n[host.\"http://192.0.2.1:8080\"]\n\
         capabilities = [\"pull\", \"resolve\"]\n\n[host.\"http://mirror.lab\"]\n"
    );
    assert_eq!(written("alone").expect("all of it is known"), "server = \"https://[2001:db8::7]\"\n");

    for gateway in ["192.0.2.254", "192.0.2.253"] {
        replace(folder, &format!(r#"{{"server":"192.0.2.1","gateway":"{gateway}","ip6":"2001:db8::7"}}"#));
        let now = format!("`http://192.0.2.1:8080`, `https://{gateway}:5000`, `http://mirror.lab`");
        let said = mirrors.next();
        assert!(said.ends_with(&format!("`registry.lab:5000` has its mirrors as the network is now: {now}")), "{said}");
        let filled = written("registry.lab:5000").expect("it was written");
        for head in ["", ".header"] {
            let head = format!("\n[host.\"https://{gateway}:5000\"{head}]\n");
            assert!(filled.contains(&head), "{head}: {filled}");
        }
        assert!(filled.contains("client = [\n  [\"/etc/lab.cert\", \"/etc/lab.key\"],\n]\n"), "{filled}");
    }
    // What is known no longer is no longer asked.
    replace(folder, r#"{"server":"192.0.2.1","ip6":"2001:db8::7"}"#);
    assert!(mirrors.next().contains("goes without the mirror `https://${gateway}:5000`"));
    assert!(mirrors.next().ends_with(": `http://192.0.2.1:8080`, `http://mirror.lab`"));
}
