//! tgt (tgt-admin(8), tgtadm(8)) and the kernel's target (LIO, targetcli(8)).

use super::ServerFile;

/// LUN of the image: tgt has its controller at 0, and LIO can have the same.
const LUN: u32 = 1;

/// `target`: iSCSI name; `image`: absolute path on the server.
pub fn files(target: &str, image: &str) -> Vec<ServerFile> {
    vec![
        ServerFile { name: "targets.conf", text: targets_conf(target, image) },
        ServerFile { name: "tgtadm.sh", text: tgtadm(target, image) },
        ServerFile { name: "targetcli.sh", text: targetcli(target, image) },
    ]
}

/// A read-only disk is shared by any number of machines.
fn targets_conf(target: &str, image: &str) -> String {
    format!(
        "# tgt-admin --conf targets.conf --execute, or a file in /etc/tgt/conf.d/\n\
         # Copy root.img to {image}, or change the path.\n\
         <target {target}>\n    \
             <backing-store {image}>\n        \
                 lun {LUN}\n        \
                 readonly 1\n    \
             </backing-store>\n    \
             # CHAP, and the target's own proof: secrets of 12 bytes and more, not the same for both.\n    \
             # incominguser NAME SECRET\n    \
             # outgoinguser NAME SECRET\n\
         </target>\n"
    )
}

/// The same for a tgtd that runs; `TID` is a number that no target of it has.
fn tgtadm(target: &str, image: &str) -> String {
    format!(
        "#!/bin/sh\n\
         # Copy root.img to {image}, or change the path.\n\
         set -e\n\
         tid=${{TID:-1}}\n\
         tgtadm --lld iscsi --mode target --op new --tid \"$tid\" --targetname {target}\n\
         tgtadm --lld iscsi --mode logicalunit --op new --tid \"$tid\" --lun {LUN} --backing-store {image}\n\
         tgtadm --lld iscsi --mode logicalunit --op update --tid \"$tid\" --lun {LUN} --params readonly=1\n\
         tgtadm --lld iscsi --mode target --op bind --tid \"$tid\" --initiator-address ALL\n"
    )
}

/// Any initiator may log in and read, none may write.
fn targetcli(target: &str, image: &str) -> String {
    let name = target.rsplit(':').next().unwrap_or(target);
    format!(
        "#!/bin/sh\n\
         # Copy root.img to {image}, or change the path.\n\
         set -e\n\
         targetcli /backstores/fileio create name={name} file_or_dev={image} write_back=false\n\
         targetcli /iscsi create {target}\n\
         targetcli /iscsi/{target}/tpg1/luns create storage_object=/backstores/fileio/{name} lun={LUN}\n\
         targetcli /iscsi/{target}/tpg1 set attribute authentication=0 generate_node_acls=1 cache_dynamic_acls=1 \
         demo_mode_write_protect=1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_name_target_and_image() {
        for file in files("iqn.2024-07.internal.bootwright:worker", "/srv/x/root.img") {
            let text = &file.text;
            assert!(
                text.contains("iqn.2024-07.internal.bootwright:worker") && text.contains("/srv/x/root.img"),
                "{text}"
            );
            assert!(text.contains("lun 1\n") || text.contains("--lun 1 ") || text.contains("lun=1\n"), "{text}");
        }
    }
}
