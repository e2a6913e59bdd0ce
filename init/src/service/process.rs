//! Starting one process of a service.

use super::{Millis, Paths};
use crate::net::Facts;
use bootwright_contract::Service;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a service finds when its own `env` does not say otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the service has no command")]
    NoCommand,
    #[error("`${{{0}}}` is not known")]
    Unknown(String),
    #[error("cannot make `{}`: {cause}", path.display())]
    Cgroup { path: PathBuf, cause: io::Error },
    #[error("cannot start `{program}`: {cause}")]
    Spawn { program: String, cause: io::Error },
}

/// A running process.
pub struct Running {
    pub pid: i32,
    pub since: Millis,
    /// Standard output and error; `None` once all writers are gone.
    pub output: Option<PipeReader>,
}

/// Replaces `${ip}`, `${hostname}`, `${mac}` and `${gateway}`. The error names the first that is not known (yet).
pub fn substitute(text: &str, facts: &Facts) -> Result<String, StartError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        out.push_str(&rest[..start]);
        let name = &rest[start + 2..start + length];
        let value = match name {
            "ip" => facts.ip.map(|ip| ip.to_string()),
            "gateway" => facts.gateway.map(|ip| ip.to_string()),
            "mac" => facts.mac.clone(),
            "hostname" => Some(facts.hostname.clone()).filter(|name| !name.is_empty()),
            _ => None,
        };
        out.push_str(&value.ok_or_else(|| StartError::Unknown(name.into()))?);
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Starts the service's program: a session and a cgroup of its own, no input, output to a pipe.
///
/// Only the main thread may call this: std waits for a child whose `exec` failed, and the main loop, which waits for
/// every child, must not take that away from it.
pub fn start(service: &Service, facts: &Facts, paths: &Paths, now: Millis) -> Result<Running, StartError> {
    let argv: Vec<String> = service.exec.iter().map(|arg| substitute(arg, facts)).collect::<Result<_, _>>()?;
    let mut command = command(&argv)?;
    for (key, value) in &service.env {
        command.env(key, substitute(value, facts)?);
    }
    let failed = |cause| StartError::Spawn { program: argv[0].clone(), cause };
    let (output, input) = io::pipe().map_err(failed)?;
    set_nonblocking(&output).map_err(failed)?;
    command.stdout(input.try_clone().map_err(failed)?).stderr(input);
    enter_on_exec(&mut command, paths.service_cgroup(&service.name), service.oom_score_adj)?;
    let child = command.spawn().map_err(failed)?;
    Ok(Running { pid: child.id() as i32, since: now, output: Some(output) })
}

/// Starts a probe's command; its pid is for the main loop to wait for. Main thread only, as with [`start`].
pub fn start_probe(argv: &[String]) -> Result<i32, StartError> {
    let mut command = command(argv)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    enter_on_exec(&mut command, None, 0)?;
    let child = command.spawn().map_err(|cause| StartError::Spawn { program: argv[0].clone(), cause })?;
    Ok(child.id() as i32)
}

fn command(argv: &[String]) -> Result<Command, StartError> {
    let (program, args) = argv.split_first().ok_or(StartError::NoCommand)?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).env("HOME", "/").current_dir("/").stdin(Stdio::null());
    Ok(command)
}

/// Between fork and exec: a session of its own, no blocked signals, the cgroup, the OOM score.
fn enter_on_exec(command: &mut Command, cgroup: Option<PathBuf>, oom_score_adj: i32) -> Result<(), StartError> {
    if let Some(path) = &cgroup {
        std::fs::create_dir_all(path).map_err(|cause| StartError::Cgroup { path: path.clone(), cause })?;
    }
    let procs = cgroup.map(|path| path.join("cgroup.procs"));
    let score = oom_score_adj.to_string();
    let enter = move || {
        nix::unistd::setsid()?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        if let Some(procs) = &procs {
            std::fs::write(procs, "0")?;
        }
        std::fs::write("/proc/self/oom_score_adj", &score)
    };
    // SAFETY: only system calls between fork and exec, on strings made before; short paths are not allocated.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

fn set_nonblocking(pipe: &PipeReader) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A signal by its name without `SIG`.
pub fn parse_signal(name: &str) -> Option<Signal> {
    ["SIG", name].concat().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_filled_in() {
        let facts = Facts {
            ip: Some([10, 0, 2, 15].into()),
            mac: Some("52:54:00:12:34:56".into()),
            hostname: "n1".into(),
            ..Facts::default()
        };
        for (text, expected) in [
            ("--node-ip=${ip}", Ok("--node-ip=10.0.2.15")),
            ("${hostname}/${mac}$", Ok("n1/52:54:00:12:34:56$")),
            ("$ip {ip} ${ip", Ok("$ip {ip} ${ip")),
            ("${gateway}", Err("`${gateway}` is not known")),
            ("${ipp}", Err("`${ipp}` is not known")),
        ] {
            let found = substitute(text, &facts).map_err(|e| e.to_string());
            assert_eq!(found, expected.map(String::from).map_err(String::from), "{text}");
        }
    }

    #[test]
    fn signals_by_name() {
        assert_eq!(parse_signal("TERM"), Some(Signal::SIGTERM));
        assert_eq!(parse_signal("SIGTERM"), None);
        assert_eq!(parse_signal("NOPE"), None);
    }
}
