//! Control commands: PID1 answers on a unix socket; this binary under other names is the client.
//!
//! A request is one line of JSON ([`ControlRequest`]), and so is the answer ([`ControlReply`]). Then PID1 closes the
//! connection.

mod client;
mod host_key;
mod logs;
mod render;
pub mod server;
mod sysinfo;

#[cfg(test)]
mod tests;

pub use client::{NAMES, run};

use bootwright_contract::record;
use serde::Serialize;

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct ControlRequest {
    /// One of [`COMMANDS`].
    command: String,
    /// The name of the service, for commands that need one.
    name: Option<String>,
    /// Whether the answer is JSON instead of a table.
    json: bool,
}

/// An answer of PID1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ControlReply {
    /// Exit status of the client: 0 done, 1 refused, 2 not understood.
    exit: u8,
    /// Text for standard output, or for standard error if the exit status is not 0.
    text: String,
}

record!(ControlRequest { command, name, json });
record!(ControlReply { exit, text });

/// A command, its argument, and what it does, for `help`.
struct ControlCommand {
    name: &'static str,
    argument: &'static str,
    help: &'static str,
}

const fn command(name: &'static str, argument: &'static str, help: &'static str) -> ControlCommand {
    ControlCommand { name, argument, help }
}

/// All commands.
const COMMANDS: &[ControlCommand] = &[
    command("status", "[--json]", "services, memory, network, image"),
    command("timeline", "[--json]", "what happened since the kernel started"),
    command("hardware", "", "what the devices ask for, for `[kernel] modaliases`"),
    command("sbom", "", "what the image is made from, as SPDX in JSON"),
    command("sysinfo", "[ADD-ON...]", "what add-ons of a cluster need that this node lacks"),
    command("logs", "NAME [-f] [-n N]", "what a service wrote; -f follows it"),
    command("start", "NAME", "start a service that is stopped"),
    command("stop", "NAME", "stop a service; it stays stopped"),
    command("kill", "NAME", "end at once all that a service started and left; it stays stopped"),
    command("restart", "NAME", "stop a service and start it again"),
    command("reboot", "", "stop everything and reboot"),
    command("poweroff", "", "stop everything and power off"),
    command("halt", "", "stop everything and halt"),
    command("help", "", "this list"),
    command("exit", "", "leave the prompt"),
];
