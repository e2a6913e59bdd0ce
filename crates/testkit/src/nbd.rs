//! NBD servers on the loopback address.

use crate::running::free_port;
use crate::server::ServerProcess;
use std::path::Path;

pub const QEMU_NBD: &str = "qemu-nbd";
pub const STORAGE_DAEMON: &str = "qemu-storage-daemon";
pub const NBD_SERVER: &str = "nbd-server";

/// qemu-nbd with a root image for any number of clients.
pub fn qemu_nbd(disk: &Path, export: &str) -> ServerProcess {
    let (name, disk) = (format!("--export-name={export}"), text(disk));
    let port = "--port={port}";
    let how = ["--persistent", "--shared=0", "--read-only", "--format=raw", "--bind=127.0.0.1", port, &name, disk];
    ServerProcess::start(&[&[QEMU_NBD], &how[..]].concat())
}

/// QEMU's storage daemon with several disks, each under its name, for any number of clients. A process of its own: qemu-nbd has one disk.
pub fn storage_daemon(disks: &[(&Path, &str)]) -> ServerProcess {
    let mut command = vec![STORAGE_DAEMON.to_string(), "--nbd-server".into()];
    command.push("addr.type=inet,addr.host=127.0.0.1,addr.port={port},max-connections=0".into());
    for (disk, name) in disks {
        command.push(format!("--blockdev=driver=file,node-name={name},filename={},read-only=on", text(disk)));
        command.push(format!("--export=type=nbd,id={name},node-name={name},name={name}"));
    }
    ServerProcess::start(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Debian's nbd-server with a disk that may be written to, or not; its configuration lies in `folder`.
pub fn nbd_server(disk: &Path, export: &str, folder: &Path, writable: bool) -> ServerProcess {
    let (file, pid_file) = (folder.join("nbd-server.conf"), folder.join("nbd-server.pid"));
    let (port, disk) = (free_port(), text(disk));
    let config = format!(
        "[generic]\nport = {port}\nlistenaddr = 127.0.0.1\nallowlist = true\n[{export}]\nexportname = {disk}\nreadonly = {}\n",
        !writable
    );
    std::fs::write(&file, config).expect("a new file");
    ServerProcess::start_daemon(port, &[NBD_SERVER, "-C", text(&file), "-p", text(&pid_file)], &pid_file)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("cargo's folders are UTF-8")
}
