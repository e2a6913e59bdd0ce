//! Starts the process of a service.

use super::{Millis, ServicePaths};
use bootwright_base::children::Child;
use bootwright_base::spawn::{Launch, Program, launch};
use bootwright_contract::{Ready, Service};
use bootwright_netconf::setup::NetworkFacts;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The PATH of a service that sets none in its `env`.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a service cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the service has no command")]
    NoCommand,
    #[error("`${{{0}}}` is not known")]
    Unknown(String),
    #[error("cannot make `{}`: {cause}", path.display())]
    Cgroup { path: PathBuf, cause: io::Error },
    #[error("cannot make a pipe: {0}")]
    Pipe(io::Error),
    #[error("cannot start `{program}`: {}", errno.desc())]
    Spawn { program: String, errno: Errno },
}

/// A process of a service, which may still be reading its program.
pub struct ServiceProcess {
    pub launch: Launch,
    /// When the program has begun to run, or, before that, when the process was started.
    pub since: Millis,
    pub program: ProgramState,
    /// Standard output and error. `None` when all writers have closed them.
    pub output: Option<PipeReader>,
}

/// The state of a process's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramState {
    /// Being read from the root. While the root's server is away, that takes until it is back.
    Awaited,
    Runs,
    /// The program cannot be run, and the process ends.
    Failed(Errno),
}

impl ServiceProcess {
    pub fn child(&self) -> &Child {
        &self.launch.child
    }

    /// Whether the program has begun to run since the last call.
    pub fn has_begun(&mut self, now: Millis) -> bool {
        if self.program != ProgramState::Awaited {
            return false;
        }
        match self.launch.outcome() {
            None => return false,
            Some(Ok(())) => (self.program, self.since) = (ProgramState::Runs, now),
            Some(Err(errno)) => self.program = ProgramState::Failed(errno),
        }
        self.program == ProgramState::Runs
    }
}

/// Replaces `${ip}`, `${hostname}`, `${mac}` and `${gateway}`.
///
/// # Errors
/// [`StartError`] for the first that is not known (yet).
pub fn substitute(text: &str, facts: &NetworkFacts) -> Result<String, StartError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        out.push_str(&rest[..start]);
        let name = &rest[start + 2..start + length];
        let value = match name {
            "ip" => facts.ip.map(|ip| ip.to_string()),
            "ip6" => facts.ip6.map(|ip| ip.to_string()),
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

/// Begins to start the program of a service, in its own cgroup, with its output on a pipe. Waits for nothing.
///
/// # Errors
/// [`StartError`]
pub fn start(
    service: &Service,
    facts: &NetworkFacts,
    paths: &ServicePaths,
    now: Millis,
) -> Result<ServiceProcess, StartError> {
    let argv: Vec<String> = service.exec.iter().map(|arg| substitute(arg, facts)).collect::<Result<_, _>>()?;
    let mut env = default_env();
    for (key, value) in service.env.iter() {
        // Of two entries with the same name the first one would count.
        env.retain(|entry| entry.split('=').next() != Some(key));
        env.push([key, "=", &substitute(value, facts)?].concat());
    }
    let cgroup = paths.service_cgroup(&service.name);
    if let Some(path) = &cgroup {
        std::fs::create_dir_all(path).map_err(|cause| StartError::Cgroup { path: path.clone(), cause })?;
    }
    let (output, input) = io::pipe().map_err(StartError::Pipe)?;
    set_nonblocking(&output).map_err(StartError::Pipe)?;
    // The file may be left from an earlier run, and the service is not ready yet.
    let remove = match &service.ready {
        Ready::File { path } => Some(Path::new(path)),
        _ => None,
    };
    let program = Program {
        argv: &argv,
        env,
        output: Some(input.as_fd()),
        remove,
        cgroup: cgroup.as_deref(),
        oom_score_adj: service.oom_score_adj,
        ..Program::default()
    };
    Ok(ServiceProcess {
        launch: launch_named(&program)?,
        since: now,
        program: ProgramState::Awaited,
        output: Some(output),
    })
}

/// Begins to start the command of a probe, in the service's cgroup, so that its limits hold.
///
/// # Errors
/// [`StartError`]
pub fn start_probe(argv: &[String], cgroup: Option<&Path>) -> Result<Launch, StartError> {
    launch_named(&Program { argv, env: default_env(), cgroup, ..Program::default() })
}

fn launch_named(program: &Program) -> Result<Launch, StartError> {
    let name = program.argv.first().ok_or(StartError::NoCommand)?;
    launch(program).map_err(|errno| StartError::Spawn { program: name.clone(), errno })
}

fn default_env() -> Vec<String> {
    [PATH, "HOME=/"].map(String::from).into()
}

fn set_nonblocking(pipe: &PipeReader) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The signal of a name without `SIG`.
pub fn parse_signal(name: &str) -> Option<Signal> {
    ["SIG", name].concat().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_filled_in() {
        let facts = NetworkFacts {
            ip: Some([10, 0, 2, 15].into()),
            mac: Some("52:54:00:12:34:56".into()),
            hostname: "n1".into(),
            ..NetworkFacts::default()
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
