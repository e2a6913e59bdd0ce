//! Built images in real machines. One scenario a file; each has a deadline, and needs QEMU.

mod chain;
mod chain_network;
mod chain_signed;
mod container;
mod control;
mod damaged;
mod hardware;
mod initrd;
mod interrupts;
mod links;
mod min_ram;
mod netroot_http;
mod netroot_ipxe;
mod netroot_iscsi;
mod netroot_nbd;
mod netroot_network;
mod netroot_nfs;
mod network;
mod outage;
mod powerdown;
mod renewal;
mod rescue;
mod small_ram;
mod state;
mod watchdog;
mod worker;
