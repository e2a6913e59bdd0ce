//! nbd-server(5) and qemu-nbd(8).

use super::{Disk, ServerFile, copy_words};

/// `export`: the name that clients ask for; `disks`: the root, and container images.
pub fn files(export: &str, disks: &[Disk]) -> Vec<ServerFile> {
    let exports: Vec<(String, &Disk)> = [export.into(), images_of(export)].into_iter().zip(disks).collect();
    let qemu = match disks {
        [root] => ServerFile { name: "qemu-nbd.sh", text: qemu_nbd(export, root) },
        _ => ServerFile { name: "qemu-storage-daemon.sh", text: qemu_storage_daemon(&exports, disks) },
    };
    vec![ServerFile { name: "nbd-server.conf", text: nbd_server(&exports, disks) }, qemu]
}

/// The export with the container images of the root that another one has: PID1 looks for it there.
fn images_of(export: &str) -> String {
    format!("{export}-images")
}

/// A read-only export is shared by any number of machines.
fn nbd_server(exports: &[(String, &Disk)], disks: &[Disk]) -> String {
    let mut text = format!(
        "# nbd-server -C nbd-server.conf\n\
         {}\
         [generic]\n\
         \tport = 10809\n\
         \tallowlist = true\n",
        copy_words(disks)
    );
    for (name, disk) in exports {
        text += &format!("[{name}]\n\texportname = {}\n\treadonly = true\n", disk.path);
    }
    text
}

/// `--persistent`: it stays when the last client has gone; `--shared=0`: any number of clients.
fn qemu_nbd(export: &str, disk: &Disk) -> String {
    format!(
        "#!/bin/sh\n\
         {}\
         exec qemu-nbd --persistent --shared=0 --read-only --format=raw --port=10809 --export-name={export} {}\n",
        copy_words(std::slice::from_ref(disk)),
        disk.path
    )
}

/// qemu-nbd has one export. `max-connections=0`: any number of clients.
fn qemu_storage_daemon(exports: &[(String, &Disk)], disks: &[Disk]) -> String {
    let mut text = format!(
        "#!/bin/sh\n\
         {}\
         exec qemu-storage-daemon --nbd-server addr.type=inet,addr.host=0.0.0.0,addr.port=10809,max-connections=0",
        copy_words(disks)
    );
    for (name, disk) in exports {
        text += &format!(
            " \\\n    --blockdev driver=file,node-name={name},filename={},read-only=on \\\n    --export type=nbd,id={name},node-name={name},name={name}",
            disk.path
        );
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(file: &'static str) -> Disk {
        Disk { file, path: format!("/srv/x/{file}") }
    }

    #[test]
    fn all_name_exports_and_images() {
        for file in files("worker", &[disk("root.img")]) {
            assert!(file.text.contains("worker") && file.text.contains("/srv/x/root.img"), "{}", file.text);
            assert!(!file.text.contains("images"), "{}", file.text);
        }
        for file in files("worker", &[disk("root.img"), disk("images.img")]) {
            assert!(file.text.contains("/srv/x/root.img") && file.text.contains("/srv/x/images.img"), "{}", file.text);
            assert!(
                file.text.contains("[worker-images]\n") || file.text.contains(",name=worker-images\n"),
                "{}",
                file.text
            );
        }
    }
}
