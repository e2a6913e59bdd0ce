//! nbd-server(5) and qemu-nbd(8).

use super::ServerFile;

/// `export`: the name that clients ask for; `image`: absolute path on the server.
pub fn files(export: &str, image: &str) -> Vec<ServerFile> {
    vec![
        ServerFile { name: "nbd-server.conf", text: nbd_server(export, image) },
        ServerFile { name: "qemu-nbd.sh", text: qemu_nbd(export, image) },
    ]
}

/// A read-only export is shared by any number of machines.
fn nbd_server(export: &str, image: &str) -> String {
    format!(
        "# nbd-server -C nbd-server.conf\n\
         # Copy root.img to {image}, or change the path.\n\
         [generic]\n\
         \tport = 10809\n\
         \tallowlist = true\n\
         [{export}]\n\
         \texportname = {image}\n\
         \treadonly = true\n"
    )
}

/// `--persistent`: it stays when the last client has gone; `--shared=0`: any number of clients.
fn qemu_nbd(export: &str, image: &str) -> String {
    format!(
        "#!/bin/sh\n\
         # Copy root.img to {image}, or change the path.\n\
         exec qemu-nbd --persistent --shared=0 --read-only --format=raw --port=10809 --export-name={export} {image}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_name_export_and_image() {
        for file in files("worker", "/srv/x/root.img") {
            assert!(file.text.contains("worker") && file.text.contains("/srv/x/root.img"), "{}", file.text);
        }
    }
}
