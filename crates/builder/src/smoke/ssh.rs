//! Asks whether an SSH server answers: its version line (RFC 4253 section 4.2) is enough, no key is needed.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the first attempt and the longest one wait. QEMU accepts at once, even when the guest does not answer yet, and such a
/// connection answers late: so the first attempts are short; later ones leave time to a slow guest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(200);

/// Tries again and again until the server answers (then calls `answered`), or `stop` is set.
pub fn watch_port(port: u16, stop: Arc<AtomicBool>, answered: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut wait = FIRST_WAIT;
        while !stop.load(Ordering::Relaxed) {
            if answers(port, wait) {
                return answered();
            }
            wait = (wait * 3 / 2).min(LONGEST_WAIT);
            std::thread::sleep(PAUSE);
        }
    });
}

/// One attempt. A server may send other lines before its version line, at most some.
fn answers(port: u16, wait: Duration) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect_timeout(&address, wait) else { return false };
    if stream.set_read_timeout(Some(wait)).is_err() {
        return false;
    }
    let lines = BufReader::new(stream.take(4096)).split(b'\n');
    lines.map_while(Result::ok).any(|line| line.starts_with(b"SSH-2.0-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    #[test]
    fn the_version_line_counts_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            for text in ["", "HTTP/1.1 400\r\n", "hello\r\nSSH-2.0-x\r\n"] {
                listener.accept().unwrap().0.write_all(text.as_bytes()).unwrap();
            }
        });
        let (sender, receiver) = channel();
        watch_port(port, Arc::default(), move || sender.send(()).unwrap());
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        server.join().unwrap();
    }
}
