//! A little room in a full tmpfs for whoever has to clear it: kubelet writes a file before it takes away the volumes of a pod that it has
//! evicted, in the file system which that pod has filled.

use crate::base::node::Node;
use crate::run::service::Millis;
use bootwright_base::sys::{Mount, RealSys, Sys, SysResult};
use nix::mount::MsFlags;
use nix::sys::statfs::statfs;
use std::path::Path;

/// What is free is looked at this often.
const EVERY: Millis = 5_000;
/// What is added at a time, 4 KiB pages and as many files. Somebody who goes on to fill it takes it at once: more comes a while later.
const STEP: u64 = 16;
const MOST_STEPS: u64 = 16;
/// With so many pages free all that was added is taken back.
const PLENTY: u64 = 2 * STEP * MOST_STEPS;

/// The tmpfs of the recipe that has a reserve.
#[derive(Debug)]
pub struct Spare {
    path: String,
    steps: u64,
    at: Millis,
}

impl Spare {
    /// `None` when no tmpfs of the recipe has one.
    pub fn of(node: &Node) -> Option<Self> {
        let tmpfs = node.config.root.tmpfs.iter().find(|tmpfs| tmpfs.reserve)?;
        Some(Self { path: tmpfs.path.clone(), steps: 0, at: 0 })
    }

    pub fn deadline(&self) -> Millis {
        self.at
    }

    /// Adds to the tmpfs when it is full, and takes it back when it is not.
    pub fn tick(&mut self, now: Millis, node: &Node) {
        if now < self.at {
            return;
        }
        self.at = now + EVERY;
        let before = self.steps;
        match self.look() {
            // Once for each time that it is full.
            Ok(()) if before == 0 && self.steps == 1 => {
                node.timeline.note(&["`", &self.path, "` is full: it gets a little more room, to be cleared"].concat());
            }
            Ok(()) => {}
            // It is tried again with the next look: nothing else can be done.
            Err(_) => self.steps = before,
        }
    }

    fn look(&mut self) -> SysResult<()> {
        let path = Path::new(&self.path);
        let found = statfs(path)?;
        let (free, files_free) = (found.blocks_available(), found.files_free());
        let steps = match free.min(files_free) {
            ..STEP => (self.steps + 1).min(MOST_STEPS),
            PLENTY.. => 0,
            _ => return Ok(()),
        };
        if steps == self.steps {
            return Ok(());
        }
        let resized = |count: u64| count + steps * STEP - self.steps * STEP;
        let data = format!("size={}k,nr_inodes={}", resized(found.blocks()) * 4, resized(found.files()));
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        RealSys.mount(Mount { source: Path::new("tmpfs"), target: path, fstype: "tmpfs", flags, data: &data })?;
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::testing::in_own_root;
    use std::fs;

    fn small_tmpfs() -> Spare {
        let (path, flags) = ("/spare", MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        fs::create_dir(path).unwrap();
        let data = "size=4m,nr_inodes=1000";
        RealSys
            .mount(Mount { source: Path::new("tmpfs"), target: Path::new(path), fstype: "tmpfs", flags, data })
            .unwrap();
        Spare { path: path.into(), steps: 0, at: 0 }
    }

    fn fill() -> usize {
        let size = 8 << 20;
        let _ = fs::write("/spare/filled", vec![1; size]);
        fs::metadata("/spare/filled").unwrap().len() as usize
    }

    #[test]
    fn a_full_tmpfs_gets_room_in_steps_and_loses_it_when_it_is_cleared() {
        in_own_root(|| {
            let mut spare = small_tmpfs();
            spare.look().unwrap();
            assert_eq!((spare.steps, fill()), (0, 4 << 20), "not before it is full");
            spare.look().unwrap();
            fs::write("/spare/checkpoint", [1; 4096]).unwrap();
            spare.look().unwrap();
            assert_eq!(spare.steps, 2, "what was added is not free any more");
            for _ in 0..40 {
                fill();
                spare.look().unwrap();
            }
            assert!(fill() <= (4 << 20) + (1 << 20), "it does not grow for ever");
            fs::remove_file("/spare/filled").unwrap();
            spare.look().unwrap();
            let found = statfs("/spare").unwrap();
            assert_eq!((spare.steps, found.blocks(), found.files()), (0, 1024, 1000));
        });
    }

    #[test]
    fn files_are_room_too() {
        in_own_root(|| {
            let mut spare = small_tmpfs();
            while fs::write(format!("/spare/{}", statfs("/spare").unwrap().files_free()), "").is_ok() {}
            spare.look().unwrap();
            fs::write("/spare/checkpoint", "").unwrap();
        });
    }
}
