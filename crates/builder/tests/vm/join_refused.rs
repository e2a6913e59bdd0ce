//! Who does not become a node: machines that nodes.toml does not have, nodes in another one's name, and nodes that are told lies. What
//! asks is the program of the image.

use crate::join_by_serve::Lab;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright::cluster::join::{JoinPlace, PLACE_FILE};
use bootwright::cluster::{Login, load_kubeconfig};
use bootwright::signing::load_public_key;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::cluster::{Cluster, Identity, certificate_request};
use testkit::folders::new_folder;
use testkit::running::wait_until;
use testkit::serve::Serve;
use testkit::shipped::Shipped;
use testkit::worker::programs_of;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const OWN: &str = "52:54:00:00:00:32";

#[test]
fn nobody_becomes_a_node_but_the_machines_of_nodes_toml_in_their_own_names() {
    let Some(lab) = Lab::new() else { return };
    let serve = &lab.serve();
    let secrets = lab.project.path().join(".bootwright");
    check_secrets(&lab.cluster, &lab.project, &secrets);
    let key = load_public_key(&secrets.join("lab.key.pub")).expect("`cluster add` made it");
    let folder = new_folder();
    let program = folder.path().join("node-join");
    symlink(&programs_of(&lab.image(), folder.path(), &["pod"])[0], &program).expect("a new folder");
    let place = |port: u16, key: &[u8; 32]| JoinPlace::new(&format!("http://127.0.0.1:{port}"), key).document();
    let there = place(serve.port, &key);
    let machine = |place: &[u8]| Machine::new(&program, place);

    for (name, mac, said) in [
        ("lab9", "52:54:00:00:00:99", "refuses (403): nodes.toml has no machine with MAC `52:54:00:00:00:99`"),
        ("lab1", OWN, "refuses (403): this machine is `lab2` by nodes.toml, and asks to be `lab1`"),
    ] {
        machine(&there).is_told(name, mac, said);
    }
    check_questions(serve);
    machine(&place(serve.port, &[7; 32])).is_told(
        "lab2",
        OWN,
        "is not signed by the key that this node was booted with",
    );

    let between = Between::new(serve.port);
    let node = machine(&place(between.port, &key));
    between.set(Lie::Tamper);
    node.is_told("lab2", OWN, "is not signed by the key that this node was booted with");
    between.set(Lie::None);
    let identity = node.joins("lab2", OWN);
    between.set(Lie::Replay);
    machine(&place(between.port, &key)).is_told("lab2", OWN, "the answer is to another question: somebody replays it");

    check_foreign_address(&lab.cluster, serve, &identity);
}

/// What was kept is its owner's, is good for what it has to do and no more, and is nowhere in what is served.
fn check_secrets(cluster: &Cluster, project: &Shipped, secrets: &Path) {
    let mode = |name: &str| std::fs::metadata(secrets.join(name)).expect("it was made").permissions().mode() & 0o777;
    assert_eq!((mode("lab.kubeconfig"), mode("lab.key")), (0o600, 0o600));
    let access = load_kubeconfig(&secrets.join("lab.kubeconfig"), None).expect("a kubeconfig");
    let Login::Token(token) = access.login else { panic!("a ServiceAccount has a token") };
    let account = cluster.api_with_token(&token);
    assert_eq!(account.get("/api/v1/nodes").status, 200);
    assert_eq!(account.get("/api/v1/namespaces/kube-system/secrets").status, 403);
    let foreign = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "lab9" } });
    assert_eq!(account.post("/api/v1/nodes", &foreign).status, 403);

    let segment = project.path().join("out/boot/nodes/lab1.cpio.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(segment).output().expect("gzip runs").stdout;
    let holds = |text: &str| unpacked.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(PLACE_FILE) && holds("public_key"));
    assert!(!holds(&token) && !holds("PRIVATE KEY"));
}

/// Questions that no image of ours asks.
fn check_questions(serve: &Serve) {
    let ask = |request: &str| {
        let question = json!({
            "version": 1, "node": "lab2", "mac": OWN, "nonce": STANDARD.encode([1; 32]), "request": request,
        });
        serve.ask("POST /join HTTP/1.1", &question.to_string())
    };
    for (user, group, said) in [
        ("system:node:lab1", "system:nodes", "403 Forbidden"),
        ("system:node:lab2", "system:masters", "does not ask for exactly one name"),
        ("kubernetes-admin", "system:nodes", "does not ask for exactly one name"),
    ] {
        let answer = ask(&certificate_request(user, &[group]).0);
        assert!(answer.contains(said), "{user} {group}: {answer}");
    }
    assert!(serve.ask("POST /join HTTP/1.1", "{}").contains("400 Bad Request"));
}

/// A node's own certificate gets it no address of another machine.
fn check_foreign_address(cluster: &Cluster, serve: &Serve, identity: &Identity) {
    let node = cluster.api_with_certificate(identity);
    let mut params = CertificateParams::new(vec!["lab2".into(), "10.0.2.2".into()]).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, "system:node:lab2");
    let request =
        params.serialize_request(&KeyPair::generate().expect("random bytes")).and_then(|request| request.pem());
    let request = STANDARD.encode(request.expect("the key can sign"));
    let spec = json!({
        "request": request, "signerName": "kubernetes.io/kubelet-serving", "usages": ["digital signature", "server auth"],
    });
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": "foreign" },
        "spec": spec,
    });
    node.create(REQUESTS, &body);
    wait_until("`serve` says why it does not approve", Duration::from_secs(30), || {
        serve.log().contains("it asks for the address 10.0.2.2, which is neither its `address` in nodes.toml")
    });
    let left = cluster.admin.get(&format!("{REQUESTS}/foreign")).body;
    assert_eq!(left["status"], json!({}), "{left:#}");
}

/// A folder that stands for a machine's root.
struct Machine {
    program: PathBuf,
    root: tempfile::TempDir,
}

impl Machine {
    fn new(program: &Path, place: &[u8]) -> Self {
        let root = new_folder();
        let file = root.path().join(PLACE_FILE);
        std::fs::create_dir_all(file.parent().expect("it has one")).expect("a new folder");
        std::fs::write(file, place).expect("a new folder");
        Self { program: program.into(), root }
    }

    fn start(&self, name: &str, mac: &str) -> Asking {
        let mut command = Command::new(&self.program);
        let root = format!("--root={}", self.root.path().display());
        command.args(["certify", &root, &format!("--node={name}"), &format!("--mac={mac}")]);
        bootwright::interrupt::die_with_parent(&mut command);
        Asking(command.stderr(Stdio::piped()).spawn().expect("it is a static program"))
    }

    /// It is told so, and writes nothing.
    #[track_caller]
    fn is_told(&self, name: &str, mac: &str, expected: &str) {
        let mut asking = self.start(name, mac);
        let mut line = String::new();
        let stderr = asking.0.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut line).expect("it says something");
        assert!(line.starts_with(&format!("waiting to join as {name}: ")) && line.contains(expected), "{line}");
        assert!(!self.root.path().join("var/lib/kubelet").exists());
    }

    /// It joins: its certificate, and the key that only it has.
    #[track_caller]
    fn joins(&self, name: &str, mac: &str) -> Identity {
        let status = self.start(name, mac).0.wait().expect("it ends");
        assert!(status.success(), "{status}");
        let at = |path: &str| self.root.path().join(path);
        let current = at("var/lib/kubelet/pki/kubelet-client-current.pem");
        for secret in [&current, &at("var/lib/kubelet/kubeconfig")] {
            assert_eq!(std::fs::metadata(secret).expect("it was written").permissions().mode() & 0o777, 0o600);
        }
        let config = std::fs::read(at("var/lib/kubelet/kubeconfig")).expect("it was written");
        let config: Value = serde_json::from_slice(&config).expect("it is JSON");
        assert_eq!(config["users"][0]["user"]["client-key"], "/var/lib/kubelet/pki/kubelet-client-current.pem");
        let pem = std::fs::read_to_string(current).expect("it was written");
        Identity { certificate: pem.clone(), key: pem }
    }
}

/// It ends with the test.
struct Asking(Child);

impl Drop for Asking {
    fn drop(&mut self) {
        // Both calls only fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    None,
    /// A byte of what is signed is another one.
    Tamper,
    /// The last true answer, whatever is asked.
    Replay,
}

/// Somebody between machine and boot server, who sees all and changes what it likes. Its thread goes on until the test's process ends.
struct Between {
    port: u16,
    lie: Arc<Mutex<Lie>>,
}

impl Between {
    fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let lie = Arc::new(Mutex::new(Lie::None));
        let told = lie.clone();
        std::thread::spawn(move || {
            let mut last = String::new();
            for client in listener.incoming() {
                let lie = *told.lock().expect("nobody panics with it");
                // A client that goes away is its own business.
                let _ = client.and_then(|client| answer(client, server, lie, &mut last));
            }
        });
        Self { port, lie }
    }

    fn set(&self, lie: Lie) {
        *self.lie.lock().expect("nobody panics with it") = lie;
    }
}

fn answer(mut client: TcpStream, server: u16, lie: Lie, last: &mut String) -> std::io::Result<()> {
    let mut question = vec![0; 16 << 10];
    let mut length = 0;
    // The question ends with the brace of its JSON.
    while !question[..length].ends_with(b"}") {
        match client.read(&mut question[length..])? {
            0 => return Ok(()),
            read => length += read,
        }
    }
    let told = match lie {
        Lie::Replay => last.clone(),
        Lie::None | Lie::Tamper => {
            let mut there = TcpStream::connect(("127.0.0.1", server))?;
            there.write_all(&question[..length])?;
            let mut told = String::new();
            there.read_to_string(&mut told)?;
            told
        }
    };
    let sent = match lie {
        // JSON in base64 begins so; with this it begins with `|`.
        Lie::Tamper => told.replacen("\"answer\":\"e", "\"answer\":\"f", 1),
        Lie::None | Lie::Replay => told.clone(),
    };
    *last = told;
    client.write_all(sent.as_bytes())?;
    client.shutdown(Shutdown::Write)
}
