//! A way to a machine's own addresses, which QEMU's user networking does not lead to.

use crate::running::{Running, free_port, wait_until};
use crate::ssh::command;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const LIMIT: Duration = Duration::from_secs(60);

/// A SOCKS proxy (RFC 1928) on the loopback address, whose connections the machine makes: `ssh -D`. It ends with its owner.
pub struct NodeProxy {
    client: Child,
    port: u16,
}

impl NodeProxy {
    /// Returns when it answers.
    pub fn start(machine: &Running) -> Self {
        let port = free_port();
        let place = format!("127.0.0.1:{port}");
        let mut ssh = Command::new("ssh");
        ssh.args(["-N", "-D", &place, "-o", "ExitOnForwardFailure=yes"]);
        // Without the command, which comes last: it only forwards.
        let arguments = command(machine.ssh_port(), "unused");
        let arguments: Vec<_> = arguments.get_args().collect();
        ssh.args(&arguments[..arguments.len() - 1]);
        bootwright::interrupt::die_with_parent(&mut ssh);
        let client = ssh.stdin(Stdio::null()).spawn().expect("ssh runs");
        let proxy = Self { client, port };
        wait_until("ssh listens as a proxy", LIMIT, || TcpStream::connect(&place).is_ok());
        proxy
    }

    /// Answers at a Unix socket as an HTTP proxy that knows CONNECT alone (RFC 9110 section 9.3.6). Its thread goes on until the
    /// test's process ends.
    pub fn answer_connect_at(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).expect("the folder is the test's own");
        let socks = self.port;
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || client.and_then(|client| tunnel(client, socks)));
            }
        });
    }

    /// What somebody without credentials is answered who asks that address of the machine: status and body.
    pub fn get_as_stranger(&self, url: &str) -> (u16, String) {
        self.get(url, TlsConfig::builder().disable_verification(true).build())
    }

    /// The same for somebody who knows the authority, in PEM, that the machine's certificate has to be signed by.
    pub fn get_verified(&self, url: &str, authority: &str) -> (u16, String) {
        let authority = Certificate::from_pem(authority.as_bytes()).expect("a certificate in PEM");
        self.get(url, TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority])).build())
    }

    fn get(&self, url: &str, tls: TlsConfig) -> (u16, String) {
        let proxy = ureq::Proxy::new(&format!("socks5://127.0.0.1:{}", self.port)).expect("a proxy's URL");
        let agent = ureq::Agent::config_builder().proxy(Some(proxy)).tls_config(tls).http_status_as_error(false);
        let agent = agent.timeout_global(Some(LIMIT)).build().new_agent();
        let mut answer = agent.get(url).call().unwrap_or_else(|error| panic!("no answer to GET {url}: {error}"));
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
    }
}

impl Drop for NodeProxy {
    fn drop(&mut self) {
        // Both calls only fail when it has ended already.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// Answers one client.
fn tunnel(mut client: UnixStream, socks: u16) -> io::Result<()> {
    let head = read_head(&mut client)?;
    let place = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let place = place.and_then(|place| place.rsplit_once(':'));
    let Some((host, port)) = place.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    let Ok(node) = connect(host, port, socks) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut client_reads, mut node_writes) = (client.try_clone()?, node.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut client_reads, &mut node_writes);
        let _ = node_writes.shutdown(Shutdown::Write);
    });
    io::copy(&mut &node, &mut client)?;
    client.shutdown(Shutdown::Write)
}

fn read_head(client: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Asks the SOCKS proxy, which wants no credentials, for a connection by name.
fn connect(host: &str, port: u16, socks: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", socks))?;
    let length = u8::try_from(host.len()).map_err(io::Error::other)?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    stream.write_all(&[&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat())?;
    // ssh tells an IPv4 address, which means nothing.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    if answer[1] == 0 { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}
