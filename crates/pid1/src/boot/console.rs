//! Phase `console`: standard streams on `/dev/console`, and the timeline's device.

use crate::base::console::take_stdio;
use crate::base::timeline::Timeline;
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use nix::unistd::setsid;
use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
#[error("cannot open `{path}` of bw.timeline: {source}")]
struct TimelineDevice {
    path: String,
    source: io::Error,
}

/// Phase `console`. Without `/dev/console` the lines go to the kernel's log.
pub fn take_console(cmdline: &Cmdline, timeline: &Timeline) -> Result<(), Failure> {
    timeline.set_verbose(cmdline.flag("bw.debug"));
    // A session of its own lets a shell use the console as its terminal. The call fails if PID1 leads a session
    // already.
    let _ = setsid();
    take_stdio()?;
    if let Some(path) = cmdline.value("bw.timeline") {
        let opened = timeline.open_device(Path::new(path));
        opened.map_err(|source| TimelineDevice { path: path.into(), source })?;
    }
    Ok(())
}
