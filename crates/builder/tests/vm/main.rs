//! Built images in real machines. One scenario a file; each has a deadline, and needs QEMU.

#[path = "../support/console.rs"]
mod console;
#[path = "../support/ganesha.rs"]
mod ganesha;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/image.rs"]
mod image;
#[path = "../support/iscsi.rs"]
mod iscsi;
#[path = "../support/lan.rs"]
mod lan;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/nbd.rs"]
mod nbd;
#[path = "../support/need.rs"]
mod need;
#[path = "../support/newc.rs"]
mod newc;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/qmp.rs"]
mod qmp;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/serve.rs"]
mod serve;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/ssh.rs"]
mod ssh;
#[path = "../support/tgt.rs"]
mod tgt;
#[path = "../support/vm.rs"]
mod vm;

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
mod load;
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

/// What every scenario runs.
const QEMU: &str = "qemu-system-x86_64";

/// The image that is built fastest.
fn rescue() -> image::Image {
    image::Image::build("rescue", &[])
}
