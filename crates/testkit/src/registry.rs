//! A real registry on loopback, a proxy in front of it that wants tokens, and pushes by plain HTTP.

use crate::cluster::Identity;
use crate::need::have;
use base64::Engine;
use bootwright::entry::Sha256;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

/// Debian's `docker-registry` on a free port, with an empty folder.
pub struct Registry {
    pub address: SocketAddr,
    server: Child,
    _dir: TempDir,
}

impl Registry {
    /// `None` where it is not installed, which is a failure in CI.
    pub fn start() -> Option<Self> {
        Self::start_with(
            "version: 0.1\nstorage:\n  filesystem: { rootdirectory: DATA }\nhttp: { addr: '127.0.0.1:0' }\n",
        )
    }

    /// At a port, over TLS; it fetches what it does not have from the registry at `upstream`, which has to answer already.
    pub fn start_cache(port: u16, upstream: &str, identity: &Identity) -> Option<Self> {
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem: {{ rootdirectory: DATA }}\nproxy: {{ remoteurl: '{upstream}' }}\n\
             http:\n  addr: '127.0.0.1:{port}'\n  tls: {{ certificate: DATA.crt, key: DATA.key }}\n"
        );
        Self::start_in(&config, Some(identity))
    }

    /// With a configuration, in which DATA stands for the folder.
    pub fn start_with(config: &str) -> Option<Self> {
        Self::start_in(config, None)
    }

    fn start_in(config: &str, identity: Option<&Identity>) -> Option<Self> {
        if !have(&["docker-registry"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        if let Some(identity) = identity {
            std::fs::write(dir.path().join("data.crt"), &identity.certificate).unwrap();
            std::fs::write(dir.path().join("data.key"), &identity.key).unwrap();
        }
        let text = config.replace("DATA", &dir.path().join("data").display().to_string());
        let config = dir.path().join("config.yml");
        std::fs::write(&config, text).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is on the path");
        let (found, address) = mpsc::channel();
        let log = BufReader::new(server.stderr.take().unwrap());
        // Reads to the end, so that the server never waits for its log.
        std::thread::spawn(move || {
            let mut all = String::new();
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
                    let _ = found.send(Ok(rest[..end].parse().unwrap()));
                }
                all += &format!("{line}\n");
            }
            let _ = found.send(Err(all));
        });
        let address = address.recv_timeout(DEADLINE).expect("the registry did not start in time");
        let address = address.unwrap_or_else(|log| panic!("the registry ended:\n{log}"));
        Some(Self { address, server, _dir: dir })
    }

    /// Uploads a blob in one piece (distribution-spec, "POST then PUT").
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let answer =
            ureq::post(format!("http://{}/v2/{repository}/blobs/uploads/", self.address)).send_empty().unwrap();
        let location = answer.headers()["location"].to_str().unwrap().to_string();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest=sha256:{}", Sha256::of(bytes));
        let answer = ureq::put(url).header("Content-Type", "application/octet-stream").send(bytes).unwrap();
        assert_eq!(answer.status(), 201);
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, text: &str) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        let answer = ureq::put(url).header("Content-Type", media_type).send(text.as_bytes()).unwrap();
        assert_eq!(answer.status(), 201);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Stands in front of a registry: answers 401 until the token of its own `/token` is presented.
pub struct TokenProxy {
    pub address: SocketAddr,
    /// Target and whether a token came with it, of each request so far.
    pub seen: Arc<Mutex<Vec<(String, bool)>>>,
}

/// What it wants as `Authorization: Bearer`.
pub const TOKEN: &str = "opensesame";

impl TokenProxy {
    /// `login` (`user:password`) is what the token server wants, if anything.
    pub fn start(registry: SocketAddr, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        // Ends with the test process: it waits in accept.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let log = log.clone();
                std::thread::spawn(move || serve(client, address, registry, login, &log));
            }
        });
        Self { address, seen }
    }
}

/// One request a connection.
fn serve(
    mut client: TcpStream,
    own: SocketAddr,
    registry: SocketAddr,
    login: Option<&str>,
    seen: &Mutex<Vec<(String, bool)>>,
) -> Option<()> {
    let mut lines = BufReader::new(client.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let found = head.iter().filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_string())
    };
    let target = first.split(' ').nth(1)?.to_string();
    let authorization = header("authorization");
    let answer = |status: &str, more: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}")
    };
    let has_token = authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    seen.lock().unwrap().push((target.clone(), has_token));
    if target.starts_with("/token?") {
        let wanted = login.map(|login| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login)));
        let known = target.contains("scope=repository:team/tool:pull") && target.contains("service=loopback%20reg");
        let text = match wanted.is_none_or(|wanted| authorization == Some(wanted)) && known {
            true => answer("200 OK", "Content-Type: application/json\r\n", &format!("{{\"token\":\"{TOKEN}\"}}")),
            false => answer("401 Unauthorized", "", ""),
        };
        return client.write_all(text.as_bytes()).ok();
    }
    if !has_token {
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"loopback reg\",scope=\"repository:team/tool:pull\"\r\n"
        );
        return client.write_all(answer("401 Unauthorized", &challenge, "").as_bytes()).ok();
    }
    let mut upstream = TcpStream::connect(registry).ok()?;
    let kept = head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
    upstream.write_all(format!("{first}\r\n{kept}Connection: close\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    upstream.read_to_end(&mut bytes).ok()?;
    client.write_all(&bytes).ok()
}
