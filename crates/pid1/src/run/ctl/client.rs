//! The client's side of control commands: `bootwright-ctl`, `poweroff`, `reboot`, `halt`. It is also the login shell of
//! images without a shell.

use super::logs::{self, TerminalWriter, parse_logs_args};
use super::{COMMANDS, ControlReply, ControlRequest, host_key, sysinfo::sysinfo};
use crate::base::printable::printable;
use crate::base::words::words;
use crate::modules::{hardware, running_release};
use bootwright_base::{Failure, output};
use bootwright_contract::json;
use bootwright_contract::paths;
use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Names under which the binary is a control command.
pub const NAMES: &[&str] = &["bootwright-ctl", "poweroff", "reboot", "halt"];

const LOGS: &str = "/var/log";
const REFUSED: u8 = 1;
const USAGE: u8 = 2;

/// Runs a control command. `args` are the arguments without the name.
pub fn run(name: &str, args: &[OsString]) -> u8 {
    // Options such as `-f` of other systems are ignored: services are always stopped in order.
    if name == "bootwright-ctl" { run_args(args) } else { run_words(&[name]).unwrap_or(0) }
}

fn run_args(args: &[OsString]) -> u8 {
    let words = match words(args) {
        Ok(words) => words,
        Err(problem) => return complain(&problem.to_string(), USAGE),
    };
    match words[..] {
        [] => prompt(),
        // sshd runs a remote command as `<login shell> -c "<command>"`.
        ["-c", line] => run_line(line).unwrap_or(0),
        _ => run_words(&words).unwrap_or(0),
    }
}

/// Reads commands until `exit` or the end of input. The prompt is only shown on a terminal.
fn prompt() -> u8 {
    let tty = io::stdin().is_terminal();
    if tty {
        say("bootwright node, `help` lists the commands\n");
    }
    let mut last = 0;
    let mut line = Vec::new();
    loop {
        if tty {
            say("> ");
        }
        line.clear();
        match io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => match run_line(&String::from_utf8_lossy(&line)) {
                Some(code) => last = code,
                None => return last,
            },
        }
    }
}

fn run_line(line: &str) -> Option<u8> {
    let words = words_of(line);
    if words.is_empty() { Some(0) } else { run_words(&words) }
}

/// The words of a line. The first word may be `bootwright-ctl`, so that `ssh NODE bootwright-ctl status` works on nodes
/// where this is the login shell, too.
fn words_of(line: &str) -> Vec<&str> {
    let mut words = line.split_whitespace().peekable();
    words.next_if_eq(&"bootwright-ctl");
    words.collect()
}

/// Runs a command. Returns its exit status; `None` when the prompt is to end.
fn run_words(words: &[&str]) -> Option<u8> {
    Some(match words {
        ["exit" | "quit" | "logout"] => return None,
        ["help" | "--help" | "-h"] => {
            say(&help());
            0
        }
        ["hardware"] => {
            say(&hardware(Path::new("/sys")));
            0
        }
        ["sbom"] => show_file(paths::SBOM),
        ["sysinfo", addons @ ..] => show_sysinfo(addons),
        // Called by the service of that name.
        ["ssh-host-key", file] => host_key::run(file).map_or_else(|problem| complain(&problem, REFUSED), |()| 0),
        ["logs", rest @ ..] => show_logs(rest),
        _ => match parse_request(words) {
            Ok(request) => ask(Path::new(paths::CONTROL_SOCKET), &request),
            Err(problem) => complain(&[&problem, "; `help` lists the commands"].concat(), USAGE),
        },
    })
}

/// Parses a command that PID1 carries out.
///
/// # Errors
/// The problem in words.
fn parse_request(words: &[&str]) -> Result<ControlRequest, String> {
    let (name, rest) = words.split_first().map_or(("", words), |(name, rest)| (*name, rest));
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(["unknown command `", name, "`"].concat());
    };
    let request = ControlRequest { command: name.into(), ..ControlRequest::default() };
    match (command.argument, rest) {
        (_, []) if command.argument != "NAME" => Ok(request),
        ("[--json]", ["--json"]) => Ok(ControlRequest { json: true, ..request }),
        ("NAME", [service]) if !service.starts_with('-') => {
            Ok(ControlRequest { name: Some((*service).into()), ..request })
        }
        ("NAME", []) => Err(["`", name, "` wants the name of a service"].concat()),
        (_, rest) => Err(["`", name, "` does not know `", &rest.join(" "), "`"].concat()),
    }
}

pub(super) fn help() -> String {
    let width = COMMANDS.iter().map(|c| c.name.len() + c.argument.len()).max().unwrap_or(0);
    let mut text = String::new();
    for command in COMMANDS {
        let gap = width - command.name.len() - command.argument.len() + 2;
        text.push_str(&["  ", command.name, " ", command.argument, &" ".repeat(gap), command.help, "\n"].concat());
    }
    text
}

fn show_logs(args: &[&str]) -> u8 {
    let Some(args) = parse_logs_args(args) else { return complain("usage: logs NAME [-f] [-n N]", USAGE) };
    let stdout = output::stdout();
    let shown = match stdout.is_terminal() {
        true => logs::show(Path::new(LOGS), &args, &mut TerminalWriter::new(stdout)),
        false => logs::show(Path::new(LOGS), &args, &mut output::stdout()),
    };
    match shown {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            complain(&["no log of a service `", &args.name, "`"].concat(), REFUSED)
        }
        Err(error) => complain(&["cannot read the log of `", &args.name, "`: ", &error.to_string()].concat(), REFUSED),
    }
}

fn show_sysinfo(addons: &[&str]) -> u8 {
    match sysinfo(Path::new("/"), &running_release(), addons) {
        Ok((text, fits)) => {
            say(&text);
            if fits { 0 } else { REFUSED }
        }
        Err(error) => complain(&["cannot read `", paths::ADDONS, "`: ", &error.to_string()].concat(), REFUSED),
    }
}

/// Writes a file as it is.
fn show_file(path: &str) -> u8 {
    match std::fs::read(path) {
        Ok(bytes) => {
            // A write fails when the reader is gone (`| head`), which is no error.
            let _ = output::stdout().write_all(&bytes);
            0
        }
        Err(error) => complain(&["cannot read `", path, "`: ", &error.to_string()].concat(), REFUSED),
    }
}

/// Sends a request and prints the answer. Returns the exit status.
fn ask(socket: &Path, request: &ControlRequest) -> u8 {
    match exchange(socket, request) {
        Ok(ControlReply { exit: 0, text }) => {
            say(&text);
            0
        }
        Ok(ControlReply { exit, text }) => complain(text.trim_end(), exit),
        Err(error) => {
            let path = socket.to_string_lossy();
            complain(&["cannot ask PID1 at `", &path, "`: ", &error.to_string()].concat(), REFUSED)
        }
    }
}

pub(super) fn exchange(socket: &Path, request: &ControlRequest) -> Result<ControlReply, Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(json::from_slice(&answer)?)
}

fn say(text: &str) {
    // A write fails when the reader is gone (`| head`), which is no error.
    let _ = output::stdout().write_all(printable(text).as_bytes());
}

fn complain(text: &str, code: u8) -> u8 {
    output::complain(&["bootwright-ctl: ", &printable(text)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let request = |command: &str, name: Option<&str>, json| {
            Ok(ControlRequest { command: command.into(), name: name.map(String::from), json })
        };
        for (line, expected) in [
            ("status", request("status", None, false)),
            ("status --json", request("status", None, true)),
            ("restart kubelet", request("restart", Some("kubelet"), false)),
            ("poweroff", request("poweroff", None, false)),
            ("restart", Err("`restart` wants the name of a service".into())),
            ("restart -x", Err("`restart` does not know `-x`".into())),
            ("status now", Err("`status` does not know `now`".into())),
            ("bootwright-ctl status", request("status", None, false)),
            ("scp -t /tmp", Err("unknown command `scp`".into())),
        ] {
            let words = words_of(line);
            assert_eq!(parse_request(&words), expected, "{line}");
        }
    }
}
