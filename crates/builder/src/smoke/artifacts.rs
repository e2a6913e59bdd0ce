//! What a smoke boot leaves in `out/<recipe>/smoke/`.

use super::SmokeError;
use crate::report::SAMPLES;
use crate::whole_file;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The files of one boot.
#[derive(Debug, Clone)]
pub struct Files {
    pub dir: PathBuf,
    /// Every byte of the first serial port.
    pub console: PathBuf,
    /// What QEMU itself said.
    pub qemu_log: PathBuf,
    /// Every byte of the second serial port: a timeline a line, each newer than the one before.
    pub timeline_raw: PathBuf,
    /// The last timeline, JSON.
    pub timeline: PathBuf,
    pub junit: PathBuf,
    /// Memory that the machine had touched when phases and services were done, JSON.
    pub ram: PathBuf,
    /// The QEMU command.
    pub command: PathBuf,
    pub http_log: PathBuf,
    /// The kernel's whole log, of a boot that failed.
    pub kernel_log: PathBuf,
    /// Folder of services' logs, of a boot that failed.
    pub services: PathBuf,
}

impl Files {
    /// Makes the folder and removes what an earlier boot left, so that nothing old is taken for a result.
    pub fn prepare(dir: &Path) -> Result<Self, SmokeError> {
        std::fs::create_dir_all(dir).map_err(|cause| SmokeError::io("make", dir, cause))?;
        let files = Self {
            dir: dir.into(),
            console: dir.join("console.log"),
            qemu_log: dir.join("qemu.log"),
            timeline_raw: dir.join("timeline.raw"),
            timeline: dir.join("timeline.json"),
            junit: dir.join("junit.xml"),
            ram: dir.join(SAMPLES),
            command: dir.join("qemu.txt"),
            http_log: dir.join("http.log"),
            kernel_log: dir.join("kernel.log"),
            services: dir.join("services"),
        };
        let old = [&files.console, &files.qemu_log, &files.timeline_raw, &files.timeline, &files.junit];
        for path in old.into_iter().chain([&files.command, &files.http_log, &files.kernel_log, &files.ram]) {
            match std::fs::remove_file(path) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SmokeError::io("remove", path, cause));
                }
                _ => {}
            }
        }
        match std::fs::remove_dir_all(&files.services) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(SmokeError::io("remove", &files.services, cause))
            }
            _ => Ok(files),
        }
    }

    /// Copies the last whole timeline out of the raw bytes, if PID1 wrote one.
    pub fn write_timeline(&self) -> Result<(), SmokeError> {
        let raw = match std::fs::read(&self.timeline_raw) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            raw => raw.map_err(|cause| SmokeError::io("read", &self.timeline_raw, cause))?,
        };
        match last_timeline(&String::from_utf8_lossy(&raw)) {
            Some(line) => write_whole(&self.timeline, format!("{line}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

/// The last line that is a whole timeline: the machine may go down in the middle of one.
fn last_timeline(raw: &str) -> Option<&str> {
    let whole = |line: &&str| serde_json::from_str::<bootwright_contract::console::TimelineRecord>(line).is_ok();
    raw.lines().rev().map(str::trim).find(whole)
}

/// Creates a file that is written as events come.
pub fn create(path: &Path) -> Result<File, SmokeError> {
    File::create(path).map_err(|cause| SmokeError::io("write", path, cause))
}

/// Writes a file of its owner's alone: it is whole, or not there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), SmokeError> {
    whole_file::write_whole(path, bytes, 0o600).map_err(|cause| SmokeError::io("write", path, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_timeline_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::prepare(dir.path()).unwrap();
        files.write_timeline().unwrap();
        assert!(!files.timeline.exists());
        let line = |id| format!(r#"{{"version":1,"recipe":"r","image_id":"{id}","phases":[],"services":[]}}"#);
        let raw = format!("noise\r\n{}\r\n{}\r\n{}", line("a"), line("b"), &line("c")[..20]);
        std::fs::write(&files.timeline_raw, raw).unwrap();
        files.write_timeline().unwrap();
        assert_eq!(std::fs::read_to_string(&files.timeline).unwrap(), line("b") + "\n");
        Files::prepare(dir.path()).unwrap();
        assert!(!files.timeline.exists(), "an old result is gone");
    }
}
