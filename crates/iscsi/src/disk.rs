//! Finds the disk of a session in sysfs, after telling the kernel to scan for it.

use bootwright_base::background;
use bootwright_base::channel::channel;
use nix::libc;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks. A disk appears within milliseconds.
const LOOK: Duration = Duration::from_millis(10);

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot look for disks of iscsi target `{target}`: {source}")]
    Scan { target: String, source: io::Error },
    #[error("iscsi target `{target}` has no disk with LUN {lun}; it has {found}")]
    NoLun { target: String, lun: u16, found: String },
    #[error("iscsi target `{target}` has no disk; it has {found}")]
    NoDisk { target: String, found: String },
}

/// Whether the disk can be opened. The kernel makes its file a moment before that (`device_add_disk` of block/genhd.c), and until then
/// says ENXIO.
fn is_ready(device: &Path) -> bool {
    match File::open(device) {
        Ok(_) => true,
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)),
    }
}

/// A logical unit of the session's target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LogicalUnit {
    lun: u64,
    /// Name of its block device, when the driver has made it.
    block: Option<String>,
}

/// The search for the disk with number `lun`, else for the one with the lowest number. `system` is `/sys`, `devices` is
/// `/dev`.
pub struct DiskSearch<'a> {
    pub system: &'a Path,
    pub devices: &'a Path,
    pub session: u32,
    pub host: u32,
    pub target: &'a str,
    pub lun: Option<u16>,
}

impl DiskSearch<'_> {
    /// Scans and waits for the disk, at most for `patience`. Returns its path below `/dev`. The scan runs in its own
    /// thread, which hangs when the target stops answering.
    ///
    /// # Errors
    /// [`DiskError`]
    pub fn run(&self, patience: Duration) -> Result<PathBuf, DiskError> {
        let knob = self.system.join("class/scsi_host").join(["host", &self.host.to_string()].concat()).join("scan");
        let what = self.lun.map_or_else(|| "- - -".into(), |lun| ["0 0 ", &lun.to_string()].concat());
        let failed = |source| DiskError::Scan { target: self.target.into(), source };
        let (done, scanned) = channel();
        // Nobody listens any more when the patience is over.
        let scan = move || drop(done.send(fs::write(knob, what)));
        background::spawn_small("scan", 32 << 10, Box::new(scan)).map_err(failed)?;
        let until = Instant::now() + patience;
        if let Ok(Err(source)) = scanned.recv_timeout(patience) {
            return Err(failed(source));
        }
        loop {
            // After the scan all units are known, but their drivers start one by one: the first device need not be the
            // lowest.
            let units = self.units();
            let settled = units.iter().all(|unit| unit.block.is_some() || !self.may_be_disk(unit.lun));
            if let Some(disk) = pick(&units, self.lun).filter(|_| settled || self.lun.is_some())
                && is_ready(&self.devices.join(disk))
            {
                return Ok(self.devices.join(disk));
            }
            if Instant::now() >= until || (settled && units.is_empty()) {
                return Err(self.missing(&units));
            }
            thread::sleep(LOOK);
        }
    }

    /// Units are the folders `device/target*/H:C:T:L` of the session.
    fn units(&self) -> Vec<LogicalUnit> {
        let session = ["session", &self.session.to_string()].concat();
        let device = self.system.join("class/iscsi_session").join(session).join("device");
        let targets = names(&device).into_iter().filter(|name| name.starts_with("target"));
        let mut units = Vec::new();
        for target in targets {
            let folder = device.join(target);
            for name in names(&folder) {
                let Some(lun) = parse_address(&name) else { continue };
                let block = names(&folder.join(name).join("block")).into_iter().next();
                units.push(LogicalUnit { lun, block });
            }
        }
        bootwright_base::order::sort_by_key(&mut units, |unit| unit.lun);
        units
    }

    /// Whether the unit's peripheral device type is 0, a disk (SPC-4 section 6.4.2). Controllers and tapes never get a
    /// block device.
    fn may_be_disk(&self, lun: u64) -> bool {
        let address = [&self.host.to_string(), ":0:0:", &lun.to_string()].concat();
        let kind = self.system.join("class/scsi_device").join(address).join("device/type");
        fs::read_to_string(kind).is_ok_and(|kind| kind.trim() == "0")
    }

    fn missing(&self, units: &[LogicalUnit]) -> DiskError {
        let mut found = String::new();
        for unit in units {
            let lun = unit.lun.to_string();
            let what = if unit.block.is_some() { " (disk)" } else { " (no disk)" };
            found = [&found[..], if found.is_empty() { "LUN " } else { ", " }, &lun, what].concat();
        }
        if found.is_empty() {
            found = "none that this initiator may see".into();
        }
        let target = self.target.into();
        match self.lun {
            Some(lun) => DiskError::NoLun { target, lun, found },
            None => DiskError::NoDisk { target, found },
        }
    }
}

/// The block device of the wanted unit, whose number may be in flat addressing (SAM-5 section 4.7.7); without `lun`
/// that of the lowest.
fn pick(units: &[LogicalUnit], lun: Option<u16>) -> Option<&str> {
    let fits = |unit: &&LogicalUnit| match lun {
        Some(lun) => unit.lun == u64::from(lun) || unit.lun == 0x4000 | u64::from(lun),
        None => true,
    };
    units.iter().filter(fits).find_map(|unit| unit.block.as_deref())
}

/// The LUN in `host:channel:target:lun`.
fn parse_address(name: &str) -> Option<u64> {
    let mut numbers = name.split(':').map(str::parse);
    let [Some(Ok(_)), Some(Ok(_)), Some(Ok(_)), Some(Ok(lun)), None] = std::array::from_fn(|_| numbers.next()) else {
        return None;
    };
    Some(lun)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What does not come is waited for so long.
    const SHORT: Duration = Duration::from_millis(30);

    /// A sysfs of one session with these units: LUN, device type, block device.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(name: &str, units: &[(u64, u8, Option<&str>)]) -> Sysfs {
            let top = std::env::temp_dir().join(format!("bootwright-disk-{name}-{}", std::process::id()));
            fs::create_dir_all(top.join("class/scsi_host/host3")).unwrap();
            fs::create_dir_all(top.join("class/iscsi_session/session7/device/power")).unwrap();
            fs::create_dir_all(top.join("dev")).unwrap();
            for (lun, kind, block) in units {
                let unit = format!("3:0:0:{lun}");
                let target = top.join("class/iscsi_session/session7/device/target3:0:0");
                fs::create_dir_all(target.join(&unit)).unwrap();
                let device = top.join("class/scsi_device").join(&unit).join("device");
                fs::create_dir_all(&device).unwrap();
                fs::write(device.join("type"), format!("{kind}\n")).unwrap();
                if let Some(block) = block {
                    fs::create_dir_all(target.join(&unit).join("block").join(block)).unwrap();
                    fs::write(top.join("dev").join(block), "").unwrap();
                }
            }
            Sysfs(top)
        }

        /// For a unit that is there, and for a scan whose outcome counts: there is time for it on any machine.
        fn search(&self, lun: Option<u16>) -> Result<String, DiskError> {
            self.search_for(lun, Duration::from_secs(60))
        }

        fn search_for(&self, lun: Option<u16>, patience: Duration) -> Result<String, DiskError> {
            let devices = self.0.join("dev");
            let search = DiskSearch { system: &self.0, devices: &devices, session: 7, host: 3, target: "iqn.t", lun };
            search.run(patience).map(|path| path.file_name().unwrap().to_string_lossy().into())
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_disk_is_ready_when_it_can_be_opened() {
        let folder = std::env::temp_dir().join(format!("bootwright-ready-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a new folder");
        let file = folder.join("sda");
        assert!(!is_ready(&file), "there is no file yet");
        fs::write(&file, "").expect("a new file");
        assert!(is_ready(&file));
        fs::remove_file(&file).expect("it is there");
        // A socket cannot be opened either, and says the same.
        let _socket = std::os::unix::net::UnixListener::bind(&file).expect("a new socket");
        assert!(!is_ready(&file), "ENXIO");
        fs::remove_dir_all(folder).expect("it is the test's own");
    }

    #[test]
    fn the_wanted_disk_or_the_first() {
        let units = [(0, 12, None), (2, 0, Some("sdb")), (1, 0, Some("sda")), (0x4005, 0, Some("sdc"))];
        let sysfs = Sysfs::new("some", &units);
        for (lun, expected) in [(None, "sda"), (Some(1), "sda"), (Some(2), "sdb"), (Some(5), "sdc")] {
            assert_eq!(sysfs.search(lun).unwrap(), expected);
        }
        let scan = fs::read_to_string(sysfs.0.join("class/scsi_host/host3/scan")).unwrap();
        assert_eq!(scan, "0 0 5");
        let error = sysfs.search_for(Some(9), SHORT).unwrap_err().to_string();
        let found = "LUN 0 (no disk), 1 (disk), 2 (disk), 16389 (disk)";
        assert_eq!(error, format!("iscsi target `iqn.t` has no disk with LUN 9; it has {found}"));
    }

    #[test]
    fn no_disk_at_all() {
        let sysfs = Sysfs::new("none", &[(0, 12, None)]);
        let error = sysfs.search_for(None, SHORT).unwrap_err().to_string();
        assert_eq!(error, "iscsi target `iqn.t` has no disk; it has LUN 0 (no disk)");
        let empty = Sysfs::new("empty", &[]);
        assert!(empty.search(None).unwrap_err().to_string().ends_with("it has none that this initiator may see"));
        fs::remove_dir(empty.0.join("class/scsi_host/host3")).unwrap_or_else(|_| {
            fs::remove_dir_all(empty.0.join("class/scsi_host")).unwrap();
        });
        assert!(matches!(empty.search(None), Err(DiskError::Scan { .. })));
    }

    #[test]
    fn addresses() {
        for (name, lun) in
            [("3:0:0:1", Some(1)), ("3:0:0", None), ("3:0:0:1:2", None), ("power", None), ("a:b:c:d", None)]
        {
            assert_eq!(parse_address(name), lun, "{name}");
        }
    }
}
