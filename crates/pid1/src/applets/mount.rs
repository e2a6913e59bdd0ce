//! `mount`, as kubelet, CNI plugins and people call it: mount(8) without fstab and helpers. Exit status as mount(8): 0
//! done, 1 wrong usage, 32 the mount failed.

use crate::base::words::{ArgumentNotText, word};
use bootwright_base::mount_options::{MountFlags, parse_options, propagation};
use bootwright_base::output::{self, complain};
use bootwright_base::sys::{Mount, RealSys, Sys};
use nix::errno::Errno;
use nix::mount::MsFlags;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const USAGE: u8 = 1;
const FAILED: u8 = 32;
const MOUNTS: &str = "/proc/mounts";

/// The parsed arguments.
#[derive(Debug, Default, PartialEq)]
struct MountRequest {
    fstype: String,
    options: Vec<String>,
    /// The propagation of `--make-...`.
    make: Option<MsFlags>,
    places: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum MountUsageError {
    #[error("option `{0}` needs a value")]
    NoValue(String),
    #[error(transparent)]
    NotText(#[from] ArgumentNotText),
    #[error("option `{0}` is not known")]
    Unknown(String),
    #[error("expected a source and a target, found {0} of them")]
    Places(usize),
}

/// Runs the program; returns its exit status.
pub fn run(args: &[OsString]) -> u8 {
    if args.iter().any(|a| a == "--version" || a == "-V") {
        // Callers parse a list of features from this line. Here it is empty.
        println!("mount from bootwright");
        return 0;
    }
    let request = match parse_args(args) {
        Ok(request) => request,
        Err(error) => {
            complain(&["mount: ", &error.to_string()]);
            return USAGE;
        }
    };
    if request.places.is_empty() && request.make.is_none() {
        let listed = fs::read(MOUNTS).and_then(|mounts| output::stdout().write_all(&list(&mounts)));
        return match listed {
            Ok(()) => 0,
            Err(error) => {
                complain(&["mount: cannot list `", MOUNTS, "`: ", &error.to_string()]);
                FAILED
            }
        };
    }
    match carry_out(&RealSys, &request) {
        Ok(()) => 0,
        Err(error) => {
            complain(&["mount: ", &error.to_string()]);
            match error {
                MountError::Usage(_) => USAGE,
                MountError::Mount { .. } => FAILED,
            }
        }
    }
}

/// Formats `/proc/mounts` as mount(8) does. Paths and sources may hold any bytes.
fn list(mounts: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (source, target, fstype, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some([source, b" on ", target, b" type ", fstype, b" (", options, b")\n"].concat())
    };
    mounts.split(|byte| *byte == b'\n').filter_map(line).flatten().collect()
}

fn parse_args(args: &[OsString]) -> Result<MountRequest, MountUsageError> {
    let mut request = MountRequest::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if !arg.as_encoded_bytes().starts_with(b"-") {
            request.places.push(arg.into());
            continue;
        }
        let arg = word(arg)?;
        let mut value = || match args.next() {
            Some(value) => Ok(word(value)?.into()),
            None => Err(MountUsageError::NoValue(arg.into())),
        };
        match arg {
            "-t" | "--types" => request.fstype = value()?,
            "-o" | "--options" => request.options.push(value()?),
            "-r" | "--read-only" => request.options.push("ro".into()),
            "-w" | "--rw" | "--read-write" => request.options.push("rw".into()),
            "-B" | "--bind" => request.options.push("bind".into()),
            "-R" | "--rbind" => request.options.push("rbind".into()),
            "-M" | "--move" => request.options.push("move".into()),
            // There are no helpers, no mtab, and no canonical paths here.
            "-n" | "--no-mtab" | "-i" | "--internal-only" | "-c" | "--no-canonicalize" | "-v" | "--verbose" => {}
            "--" => request.places.extend(args.by_ref().map(PathBuf::from)),
            _ => match long_or_joined(arg) {
                Some((Joined::Type, value)) => request.fstype = value.into(),
                Some((Joined::Options, value)) => request.options.push(value.into()),
                Some((Joined::Make, value)) => {
                    request.make = Some(propagation(value).ok_or_else(|| MountUsageError::Unknown(arg.into()))?);
                }
                None if arg.len() > 1 && arg.starts_with('-') => return Err(MountUsageError::Unknown(arg.into())),
                None => request.places.push(arg.into()),
            },
        }
    }
    Ok(request)
}

enum Joined {
    Type,
    Options,
    Make,
}

/// Splits `--types=T`, `-tT`, `--options=O`, `-oO` and `--make-rshared`.
fn long_or_joined(arg: &str) -> Option<(Joined, &str)> {
    let strip = |prefix| arg.strip_prefix(prefix);
    let make = strip("--make-").map(|v| (Joined::Make, v));
    let types = strip("--types=").or_else(|| strip("-t")).map(|v| (Joined::Type, v));
    make.or(types).or_else(|| strip("--options=").or_else(|| strip("-o")).map(|v| (Joined::Options, v)))
}

#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("{0}")]
    Usage(#[from] MountUsageError),
    // Callers look for the errno's text as mount(8) prints it.
    #[error("{}: {}", target.display(), source.desc())]
    Mount { target: PathBuf, source: Errno },
}

fn carry_out(sys: &dyn Sys, request: &MountRequest) -> Result<(), MountError> {
    let (mut flags, data) = parse_options(&request.options);
    flags.propagation |= request.make.unwrap_or(MsFlags::empty());
    let changes_only = flags.set.contains(MsFlags::MS_REMOUNT) || !flags.propagation.is_empty();
    let (source, target) = match &request.places[..] {
        [target] if changes_only => (Path::new("none"), target),
        [source, target] => (source.as_path(), target),
        other => return Err(MountUsageError::Places(other.len()).into()),
    };
    let failed = |source| MountError::Mount { target: target.into(), source };
    let call = |flags, data: &str| {
        let fstype = if flags_need_no_type(flags) { "" } else { request.fstype.as_str() };
        sys.mount(Mount { source, target, fstype, flags, data }).map_err(failed)
    };
    if request.places.len() == 2 || flags.set.contains(MsFlags::MS_REMOUNT) {
        mount_itself(flags, &data, &call)?;
    }
    if flags.propagation.is_empty() { Ok(()) } else { call(flags.propagation, "") }
}

/// A bind mount ignores all other flags, so they are set by a second call, as in mount(8).
fn mount_itself(
    flags: MountFlags,
    data: &str,
    call: &dyn Fn(MsFlags, &str) -> Result<(), MountError>,
) -> Result<(), MountError> {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let rest = flags.set & !bind;
    if !flags.set.contains(MsFlags::MS_BIND) || flags.set.contains(MsFlags::MS_REMOUNT) {
        return call(flags.set, data);
    }
    call(flags.set & bind, "")?;
    if rest.is_empty() { Ok(()) } else { call(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | rest, "") }
}

fn flags_need_no_type(flags: MsFlags) -> bool {
    let typeless = MsFlags::MS_BIND
        | MsFlags::MS_MOVE
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_SHARED
        | MsFlags::MS_SLAVE
        | MsFlags::MS_PRIVATE
        | MsFlags::MS_UNBINDABLE;
    flags.intersects(typeless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::RealSys;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_base::testing::{in_own_root, mounted_at};
    use std::os::unix::ffi::OsStringExt;

    fn mount(line: &str, sys: &dyn Sys) -> Result<(), String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let request = parse_args(&args).map_err(|e| e.to_string())?;
        carry_out(sys, &request).map_err(|e| e.to_string())
    }

    fn real(line: &str) -> Result<(), String> {
        mount(line, &RealSys)
    }

    /// What the kernel then says of the mounts, for lines as kubelet, containerd and people write them.
    #[test]
    fn lines_do_what_mount_8_does() {
        in_own_root(|| {
            for folder in ["/a/below", "/b", "/c", "/d", "/e"] {
                std::fs::create_dir_all(folder).unwrap();
            }
            let run = |line: &str| real(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let options = |path: &str, wanted: &str| {
                let line = mounted_at(path).unwrap_or_else(|| panic!("nothing at {path}"));
                assert!(line.contains(wanted), "no {wanted:?} in {line}");
            };
            run("-t tmpfs -o size=65536,nosuid none /a");
            options("/a", "nosuid");
            options("/a", "size=64k");
            std::fs::create_dir("/a/below").unwrap();
            run("-ttmpfs -n -v -- none /a/below");
            run("--bind /a /b");
            assert_eq!(mounted_at("/b/below"), None, "without what is below it");
            run("--rbind --make-rslave /a /c");
            options("/c/below", " ");
            run("-o bind,ro /a /d");
            options("/d", " ro,");
            assert!(std::fs::write("/d/x", "").is_err() && std::fs::write("/b/x", "").is_ok(), "one view is read-only");
            run("-o bind,remount,ro /b");
            options("/b", " ro,");
            run("-o remount,rw,bind /b");
            options("/b", " rw,");
            run("--make-rshared /");
            options("/", " shared:");
            run("--make-rprivate /");
            run("--move /d /e");
            assert_eq!(mounted_at("/d"), None);
            options("/e", " ro,");
        });
    }

    #[test]
    fn paths_of_any_bytes_and_options_of_text() {
        let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
        let request = parse_args(&["--bind".into(), odd(b"/a\xff"), "--".into(), odd(b"-\xff")]).unwrap();
        assert_eq!(request.places, [odd(b"/a\xff"), odd(b"-\xff")].map(PathBuf::from));
        for args in [[odd(b"-o\xff"), "/x".into()], ["-t".into(), odd(b"\xff")]] {
            let told = parse_args(&args).unwrap_err().to_string();
            assert!(told.starts_with("argument `") && told.ends_with("` is not UTF-8"), "{told}");
        }
    }

    #[test]
    fn listing() {
        let mounts = b"tmpfs /tmp tmpfs rw,size=4k 0 0\nbroken\ntmpfs /run/a\xffb tmpfs rw 0 0\n";
        assert_eq!(list(mounts), b"tmpfs on /tmp type tmpfs (rw,size=4k)\ntmpfs on /run/a\xffb type tmpfs (rw)\n");
    }

    #[test]
    fn bad_usage_and_failures() {
        let cases = [
            ("-t", "option `-t` needs a value"),
            ("--frobnicate a b", "option `--frobnicate` is not known"),
            ("--make-happy /", "option `--make-happy` is not known"),
            ("a", "expected a source and a target, found 1 of them"),
            ("a b c", "expected a source and a target, found 3 of them"),
        ];
        for (line, expected) in cases {
            assert_eq!(mount(line, &FakeSys::default()).unwrap_err(), expected, "{line}");
        }
        assert_eq!(mount("a /b", &FakeSys::failing(&["mount"])).unwrap_err(), "/b: Operation not permitted");
    }
}
