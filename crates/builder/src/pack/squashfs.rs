//! The root as a squashfs, made by mksquashfs from a tar stream on its standard input: owners, modes, links and devices
//! are exact and nothing needs root rights.

use super::PackError;
use super::tar::write_tar_with_times;
use super::tool::{FoundPackTool, MKSQUASHFS};
use crate::entry::Entry;
use crate::interrupt::ProcessGroup;
use crate::recipe::Root;
use nix::unistd::{getegid, geteuid};
use std::ffi::OsString;
use std::io::{BufWriter, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// mksquashfs's options for the compressor, in its own order of meaning.
fn compressor_args(root: &Root) -> Result<Vec<String>, PackError> {
    let bad_level = |range| match root.level {
        Some(level) => Err(PackError::BadLevel { compressor: root.compressor.clone(), level: level.into(), range }),
        None => Ok(()),
    };
    let with_level = |name: &str, most: u32, range| match root.level {
        Some(level) if level == 0 || level > most => bad_level(range).map(|()| Vec::new()),
        Some(level) => Ok(vec![name.into(), "-Xcompression-level".into(), level.to_string()]),
        None => Ok(vec![name.into()]),
    };
    match root.compressor.as_str() {
        "zstd" => with_level("zstd", 22, "1 to 22"),
        "gzip" => with_level("gzip", 9, "1 to 9"),
        "xz" => bad_level("no level").map(|()| vec!["xz".into(), "-Xbcj".into(), "x86".into()]),
        "lz4" => bad_level("no level").map(|()| vec!["lz4".into()]),
        "lz4hc" => bad_level("no level").map(|()| vec!["lz4".into(), "-Xhc".into()]),
        other => Err(PackError::BadCompressor {
            image: "squashfs",
            compressor: other.into(),
            known: "zstd, xz, gzip, lz4, lz4hc",
        }),
    }
}

/// Refuses settings that mksquashfs would not take.
pub fn check_settings(root: &Root) -> Result<(), PackError> {
    if !root.block_kib.is_power_of_two() || !(4..=1024).contains(&root.block_kib) {
        return Err(PackError::BadBlock { image: "squashfs", block_kib: root.block_kib });
    }
    compressor_args(root).map(drop)
}

/// Makes the image at `out`. Entries are sorted by path; the bytes depend on them, `root` and the tool's version only.
pub fn make_squashfs(
    entries: &[Entry],
    root: &Root,
    tool: &FoundPackTool,
    jobs: usize,
    out: &Path,
) -> Result<(), PackError> {
    check_settings(root)?;
    let entries: Vec<(&Entry, u32)> = entries.iter().map(|entry| (entry, 0)).collect();
    let mut command = command_for(&entries, tool);
    command.args(common_args(&entries, jobs, out)).args(["-mkfs-time", "0", "-all-time", "0"]);
    command.args(["-b", &format!("{}K", root.block_kib), "-comp"]).args(compressor_args(root)?);
    run(command, &entries, tool)
}

/// Makes an image whose entries keep their times, at `out`. Entries are sorted by path; the bytes depend on them and the tool's
/// version only.
pub fn make_dated_squashfs(
    entries: &[(&Entry, u32)],
    tool: &FoundPackTool,
    jobs: usize,
    out: &Path,
) -> Result<(), PackError> {
    let mut command = command_for(entries, tool);
    command.args(common_args(entries, jobs, out)).args(DATED);
    // The image's own time, and that of its top folder, which no option of 4.5 sets. Later times would be set to it, too.
    let newest = entries.iter().map(|(_, mtime)| *mtime).max().unwrap_or(0);
    command.env("SOURCE_DATE_EPOCH", newest.to_string());
    run(command, entries, tool)
}

/// How container images are packed: what is read of them is a few large programs, and a block is what a page fault unpacks.
pub const DATED: [&str; 6] = ["-b", "128K", "-comp", "zstd", "-Xcompression-level", "19"];

fn common_args(entries: &[(&Entry, u32)], jobs: usize, out: &Path) -> Vec<OsString> {
    let plain = ["-tar", "-noappend", "-quiet", "-no-progress", "-root-mode", "0755", xattr_arg(entries)];
    let mut args: Vec<OsString> = vec!["-".into(), out.into()];
    args.extend(plain.iter().chain(owner_args(entries)).map(OsString::from));
    args.extend(["-processors".into(), jobs.max(1).to_string().into()]);
    args
}

/// Runs mksquashfs on the entries as a tar.
fn run(mut command: Command, entries: &[(&Entry, u32)], tool: &FoundPackTool) -> Result<(), PackError> {
    let stderr = tempfile::tempfile().map_err(PackError::io("make", &std::env::temp_dir()))?;
    let log = stderr.try_clone().map_err(PackError::io("make", &std::env::temp_dir()))?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let mut group = ProcessGroup::spawn(&mut command).map_err(PackError::io("run", &tool.path))?;
    let fed = feed(group.child(), entries);
    let status = group.child().wait().map_err(PackError::io("wait for", &tool.path))?;
    let stderr = read_log(stderr);
    match fed {
        // A pipe that broke is what happens when the tool fails: its own words say more.
        Ok(()) | Err(PackError::Io { .. }) if !status.success() => {
            Err(PackError::Tool { tool: MKSQUASHFS.name, status: status.to_string(), stderr })
        }
        // The tool warns and goes on where it cannot keep an entry.
        Ok(()) if !stderr.is_empty() => {
            Err(PackError::Tool { tool: MKSQUASHFS.name, status: "with a warning".into(), stderr })
        }
        other => other,
    }
}

/// The tool's own default depends on how it was built.
fn xattr_arg(entries: &[(&Entry, u32)]) -> &'static str {
    if entries.iter().all(|(e, _)| e.xattrs.is_empty()) { "-no-xattrs" } else { "-xattrs" }
}

fn all_roots(entries: &[(&Entry, u32)]) -> bool {
    entries.iter().all(|(e, _)| (e.uid, e.gid) == (0, 0))
}

/// mksquashfs 4.5 ignores `-root-uid` beside `-tar` (plougher/squashfs-tools issue 173): its own user would own the root.
fn owner_args(entries: &[(&Entry, u32)]) -> &'static [&'static str] {
    if all_roots(entries) { &["-all-root"] } else { &["-root-uid", "0", "-root-gid", "0"] }
}

/// Where [`owner_args`] does not help, root is what it thinks it is run by: unshare(1), a user namespace.
fn command_for(entries: &[(&Entry, u32)], tool: &FoundPackTool) -> Command {
    if all_roots(entries) || (geteuid().is_root() && getegid().as_raw() == 0) {
        return tool.command();
    }
    let unshare = FoundPackTool { path: "unshare".into(), ..tool.clone() };
    let mut command = unshare.command();
    command.args(["--user", "--map-root-user"]).arg(&tool.path);
    command
}

fn read_log(mut file: std::fs::File) -> String {
    let mut text = Vec::new();
    // Only the words of an error message are lost when this fails.
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(4096).read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().to_string()
}

fn feed(child: &mut Child, entries: &[(&Entry, u32)]) -> Result<(), PackError> {
    let pipe = child.stdin.take().expect("standard input is a pipe");
    write_tar_with_times(entries.iter().copied(), &mut BufWriter::with_capacity(1 << 17, pipe), pipe_failed)
}

fn pipe_failed(cause: std::io::Error) -> PackError {
    PackError::Io { action: "write to", path: MKSQUASHFS.name.into(), cause }
}
