//! Swap on compressed memory (Documentation/admin-guide/blockdev/zram.rst).

use crate::modules::{LoadError, ModuleLoader};
use bootwright_base::sys::Sys;
use bootwright_contract::Zram;
use nix::errno::Errno;
use std::path::Path;

const DEVICE: &str = "/dev/zram0";
const KNOBS: &str = "/sys/block/zram0";
/// Higher than the priority of disks (-2 and below) and than most that people set.
const PRIORITY: u16 = 100;
/// The page size of x86_64, the unit of swap.
const PAGE_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ZramError {
    #[error("no zram: {0}")]
    Module(#[from] LoadError),
    #[error("zram does not take `{value}` as `{knob}`: {source}")]
    Knob { knob: &'static str, value: String, source: Errno },
    #[error("cannot write the swap header of `{DEVICE}`: {0}")]
    Header(#[source] std::io::Error),
    #[error("cannot swap on `{DEVICE}`: {0}")]
    SwapOn(#[source] Errno),
}

/// Loads the module, sets the size of the device, and swaps on it.
///
/// # Errors
/// [`ZramError`]
pub fn start(sys: &dyn Sys, loader: &mut ModuleLoader, zram: &Zram) -> Result<(), ZramError> {
    loader.load("zram")?;
    let knob = |knob: &'static str, value: String| {
        sys.write(&Path::new(KNOBS).join(knob), &value).map_err(|source| ZramError::Knob { knob, value, source })
    };
    // The kernel demands this order: the algorithm cannot be set after the size.
    knob("comp_algorithm", zram.algorithm.clone())?;
    knob("disksize", format!("{}M", zram.size_mib))?;
    // `Sys::write` takes text, and the header is bytes. Nobody but this function knows the device before swapon(2).
    std::fs::write(DEVICE, swap_header(zram.size_mib)).map_err(ZramError::Header)?;
    sys.swap_on(Path::new(DEVICE), PRIORITY).map_err(ZramError::SwapOn)?;
    let (name, value) = ("vm.swappiness", zram.swappiness.to_string());
    sys.write(Path::new("/proc/sys/vm/swappiness"), &value).map_err(|source| ZramError::Knob {
        knob: name,
        value,
        source,
    })
}

/// The first page of a swap area, version 1 (`union swap_header` of linux/swap.h).
fn swap_header(size_mib: u32) -> Vec<u8> {
    let pages = size_mib as usize * (1 << 20) / PAGE_BYTES;
    let last_page = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut page = vec![0; PAGE_BYTES];
    // After 1024 bytes for boot code: version, last_page, nr_badpages.
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_ne_bytes());
    page[PAGE_BYTES - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_what_mkswap_writes() {
        let page = swap_header(64);
        assert_eq!(page.len(), 4096);
        assert_eq!(&page[4086..], b"SWAPSPACE2");
        assert_eq!(page[1024..1036], [1, 0, 0, 0, 0xff, 0x3f, 0, 0, 0, 0, 0, 0]);
    }
}
