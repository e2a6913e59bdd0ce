//! `umount`, by path. Exit status as umount(8): 0 done, 1 wrong usage, 32 the unmount failed.

use crate::base::words::{ArgumentNotText, word};
use bootwright_base::mounts::mount_points;
use bootwright_base::output::complain;
use bootwright_base::sys::{RealSys, Sys};
use nix::errno::Errno;
use nix::mount::MntFlags;
use std::ffi::OsString;
use std::path::PathBuf;

const USAGE: u8 = 1;
const FAILED: u8 = 32;

/// The parsed arguments.
#[derive(Debug, PartialEq)]
struct UmountRequest {
    flags: MntFlags,
    /// Also unmount everything below.
    recursive: bool,
    targets: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum UmountUsageError {
    #[error(transparent)]
    NotText(#[from] ArgumentNotText),
    #[error("option `{0}` is not known")]
    Unknown(String),
    #[error("expected a path")]
    NoTarget,
}

/// Runs the program; returns its exit status.
pub fn run(args: &[OsString]) -> u8 {
    let request = match parse_args(args) {
        Ok(request) => request,
        Err(error) => {
            complain(&["umount: ", &error.to_string()]);
            return USAGE;
        }
    };
    // The table of mounts is only needed for `-R`.
    let mounted = match request.recursive.then(mount_points).transpose() {
        Ok(mounted) => mounted.unwrap_or_default(),
        Err(error) => {
            complain(&["umount: ", &error.to_string()]);
            return FAILED;
        }
    };
    let mut code = 0;
    for (target, errno) in carry_out(&RealSys, &request, &mounted) {
        // The text of umount(8): kubelet unmounts a plain folder once and looks for it.
        let text = if errno == Errno::EINVAL { "not mounted" } else { errno.desc() };
        complain(&["umount: ", &target.to_string_lossy(), ": ", text]);
        code = FAILED;
    }
    code
}

fn parse_args(args: &[OsString]) -> Result<UmountRequest, UmountUsageError> {
    let mut request = UmountRequest { flags: MntFlags::empty(), recursive: false, targets: Vec::new() };
    let mut only_targets = false;
    for arg in args {
        if only_targets || arg == "-" || !arg.as_encoded_bytes().starts_with(b"-") {
            request.targets.push(arg.into());
            continue;
        }
        match word(arg)? {
            "--" => only_targets = true,
            long if long.starts_with("--") => request.take_long(long)?,
            short => request.take_short(short)?,
        }
    }
    if request.targets.is_empty() { Err(UmountUsageError::NoTarget) } else { Ok(request) }
}

impl UmountRequest {
    fn take_long(&mut self, option: &str) -> Result<(), UmountUsageError> {
        let letter = match option {
            "--lazy" => 'l',
            "--force" => 'f',
            "--recursive" => 'R',
            "--no-mtab" | "--no-canonicalize" | "--internal-only" | "--verbose" | "--quiet" => 'n',
            other => return Err(UmountUsageError::Unknown(other.into())),
        };
        self.take_letter(letter);
        Ok(())
    }

    fn take_short(&mut self, options: &str) -> Result<(), UmountUsageError> {
        match options[1..].chars().all(|c| "lfRncivq".contains(c)) {
            true => options[1..].chars().for_each(|c| self.take_letter(c)),
            false => return Err(UmountUsageError::Unknown(options.into())),
        }
        Ok(())
    }

    fn take_letter(&mut self, letter: char) {
        match letter {
            'l' => self.flags |= MntFlags::MNT_DETACH,
            'f' => self.flags |= MntFlags::MNT_FORCE,
            'R' => self.recursive = true,
            // Other options have no effect here: there is no mtab and no helper.
            _ => {}
        }
    }
}

/// Unmounts; returns the targets that failed, with the errno.
fn carry_out(sys: &dyn Sys, request: &UmountRequest, mounted: &[PathBuf]) -> Vec<(PathBuf, Errno)> {
    let mut failed = Vec::new();
    for target in &request.targets {
        let mut paths = vec![target.clone()];
        if request.recursive {
            paths = mounted.iter().rev().filter(|m| m.starts_with(target)).cloned().collect();
        }
        for path in paths {
            if let Err(errno) = sys.unmount(&path, request.flags) {
                failed.push((path, errno));
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::sys::{Mount, RealSys};
    use bootwright_base::testing::{in_own_root, mounted_at};
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    fn umount(line: &str, sys: &dyn Sys) -> Result<(), String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let mounted: Vec<PathBuf> = ["/", "/a", "/a/b", "/ab"].iter().map(PathBuf::from).collect();
        let request = parse_args(&args).map_err(|e| e.to_string())?;
        match carry_out(sys, &request, &mounted).first() {
            Some((path, errno)) => Err(format!("{} {errno:?}", path.display())),
            None => Ok(()),
        }
    }

    #[test]
    fn lines_do_what_umount_8_does() {
        in_own_root(|| {
            let mount = |path: &str| {
                std::fs::create_dir_all(path).unwrap();
                let target = Path::new(path);
                let flags = nix::mount::MsFlags::empty();
                RealSys.mount(Mount { source: Path::new("tmpfs"), target, fstype: "tmpfs", flags, data: "" }).unwrap();
            };
            let gone = |line: &str, paths: &[&str]| {
                umount(line, &RealSys).unwrap_or_else(|error| panic!("{line}: {error}"));
                paths.iter().for_each(|path| assert_eq!(mounted_at(path), None, "{line}"));
            };
            mount("/x");
            gone("/x", &["/x"]);
            ["/a", "/a/b", "/ab"].into_iter().for_each(mount);
            assert_eq!(umount("/a", &RealSys).unwrap_err(), "/a EBUSY");
            gone("-R /a", &["/a", "/a/b"]);
            assert!(mounted_at("/ab").is_some(), "its name only begins so");
            ["/a", "/a/b", "/-x"].into_iter().for_each(mount);
            gone("-l /a /ab", &["/a", "/a/b", "/ab"]);
            mount("/x");
            gone("-fl -n -- /-x /x", &["/-x", "/x"]);
        });
    }

    #[test]
    fn paths_of_any_bytes() {
        let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
        let request = parse_args(&[odd(b"/a\xff"), "--".into(), odd(b"-\xff")]).unwrap();
        assert_eq!(request.targets, [odd(b"/a\xff"), odd(b"-\xff")].map(PathBuf::from));
        assert!(matches!(parse_args(&[odd(b"-\xff")]), Err(UmountUsageError::NotText(_))));
    }

    #[test]
    fn bad_usage_and_failures() {
        assert_eq!(umount("-l", &FakeSys::default()).unwrap_err(), "expected a path");
        assert_eq!(umount("-z /x", &FakeSys::default()).unwrap_err(), "option `-z` is not known");
        assert_eq!(umount("--all /x", &FakeSys::default()).unwrap_err(), "option `--all` is not known");
        assert_eq!(umount("/x", &FakeSys::failing(&["unmount"])).unwrap_err(), "/x EPERM");
    }
}
