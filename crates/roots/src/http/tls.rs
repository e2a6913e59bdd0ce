//! TLS by a separate program, which is only in images that need it. It carries bytes between a socket and the server,
//! after saying whether the server's certificate is right.

use super::{HttpError, SILENCE};
use bootwright_base::spawn::{Program, spawn};
use bootwright_contract::paths;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Limit for the handshake. The program's own limit is 15 s.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(25);
/// Longest line with which the program reports the outcome, in bytes.
const LONGEST_LINE: usize = 1000;

/// Whether the image has the program.
pub fn is_there() -> bool {
    Path::new(paths::HTTPS).exists()
}

/// Connects to the server, whose certificate must be for `name`. Returns the socket to the program.
///
/// # Errors
/// [`HttpError`]
pub fn connect(address: SocketAddr, name: &str) -> Result<UnixStream, HttpError> {
    let argv = [paths::HTTPS.to_string(), address.to_string(), name.to_string(), paths::HTTPS_CAS.to_string()];
    open(&argv).map_err(|error| match error {
        HttpError::Tls { cause, .. } => HttpError::Tls { address, cause },
        error => error,
    })
}

fn open(argv: &[String]) -> Result<UnixStream, HttpError> {
    let failed = |cause: String| HttpError::Tls { address: SocketAddr::from(([0; 4], 0)), cause };
    let broken = |error: io::Error| failed(error.to_string());
    let (ours, theirs) = UnixStream::pair().map_err(broken)?;
    let ends = Some(theirs.as_fd());
    // The program ends with the socket. It is reaped like all children, and its exit status is not needed.
    drop(
        spawn(&Program { argv, input: ends, output: ends, ..Program::default() })
            .map_err(|errno| broken(errno.into()))?,
    );
    drop(theirs);
    ours.set_read_timeout(Some(HANDSHAKE_WAIT)).map_err(broken)?;
    let line = read_line(&ours).map_err(broken)?;
    if let Some(cause) = line.strip_prefix("certificate: ") {
        return Err(HttpError::Certificate(cause.into()));
    }
    if line != "ok" {
        return Err(failed(line));
    }
    ours.set_read_timeout(Some(SILENCE)).map_err(broken)?;
    ours.set_write_timeout(Some(SILENCE)).map_err(broken)?;
    Ok(ours)
}

/// Reads to the first newline, byte by byte: what follows belongs to the connection.
fn read_line(mut stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST_LINE {
        match stream.read(&mut byte)? {
            0 => break,
            _ if byte[0] == b'\n' => break,
            _ => line.push(byte[0]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn script(text: &str) -> Result<UnixStream, HttpError> {
        open(&["/bin/sh".into(), "-c".into(), text.into()])
    }

    #[test]
    fn bytes_go_both_ways_once_the_program_is_content() {
        let mut tunnel = script("echo ok; read line; echo \"got $line\"").expect("a tunnel");
        tunnel.write_all(b"hello\n").expect("it reads");
        let mut text = String::new();
        tunnel.read_to_string(&mut text).expect("it ends");
        assert_eq!(text, "got hello\n");
    }

    #[test]
    fn what_it_complains_of_is_told() {
        let error =
            script("echo 'certificate: x509: certificate signed by unknown authority'; exit 1").expect_err("no tunnel");
        assert_eq!(
            error.to_string(),
            "the server's certificate is not good: x509: certificate signed by unknown authority"
        );
        let error = script("echo 'connection refused'; exit 1").expect_err("no tunnel");
        assert!(error.to_string().ends_with(": connection refused"), "{error}");
        assert!(script("exit 1").is_err() && open(&["/no/such/program".into()]).is_err());
    }
}
