//! tgt (tgt-admin(8), tgtadm(8)) and the kernel's target (LIO, targetcli(8)).

use super::{Disk, ServerFile, copy_words};

/// LUN of the first disk: tgt has its controller at 0, and LIO can have the same.
const FIRST_LUN: usize = 1;

/// `target`: iSCSI name; `disks`: the root, and container images, which PID1 looks for at the next LUN.
pub fn files(target: &str, disks: &[Disk]) -> Vec<ServerFile> {
    vec![
        ServerFile { name: "targets.conf", text: targets_conf(target, disks) },
        ServerFile { name: "tgtadm.sh", text: tgtadm(target, disks) },
        ServerFile { name: "targetcli.sh", text: targetcli(target, disks) },
    ]
}

fn numbered(disks: &[Disk]) -> impl Iterator<Item = (usize, &str)> {
    (FIRST_LUN..).zip(disks.iter().map(|disk| disk.path.as_str()))
}

/// Read-only disks are shared by any number of machines.
fn targets_conf(target: &str, disks: &[Disk]) -> String {
    let mut text = format!(
        "# tgt-admin --conf targets.conf --execute, or a file in /etc/tgt/conf.d/\n{}<target {target}>\n",
        copy_words(disks)
    );
    for (lun, image) in numbered(disks) {
        text += &format!("    <backing-store {image}>\n        lun {lun}\n        readonly 1\n    </backing-store>\n");
    }
    text + "    # CHAP, and the target's own proof: secrets of 12 bytes and more, not the same for both.\n    \
            # incominguser NAME SECRET\n    \
            # outgoinguser NAME SECRET\n\
            </target>\n"
}

/// The same for a tgtd that runs; `TID` is a number that no target of it has.
fn tgtadm(target: &str, disks: &[Disk]) -> String {
    let mut text = format!(
        "#!/bin/sh\n\
         {}\
         set -e\n\
         tid=${{TID:-1}}\n\
         tgtadm --lld iscsi --mode target --op new --tid \"$tid\" --targetname {target}\n",
        copy_words(disks)
    );
    for (lun, image) in numbered(disks) {
        text += &format!(
            "tgtadm --lld iscsi --mode logicalunit --op new --tid \"$tid\" --lun {lun} --backing-store {image}\n\
             tgtadm --lld iscsi --mode logicalunit --op update --tid \"$tid\" --lun {lun} --params readonly=1\n"
        );
    }
    text + "tgtadm --lld iscsi --mode target --op bind --tid \"$tid\" --initiator-address ALL\n"
}

/// Any initiator may log in and read, none may write.
fn targetcli(target: &str, disks: &[Disk]) -> String {
    let name = target.rsplit(':').next().unwrap_or(target);
    let store = |lun| if lun == FIRST_LUN { name.to_string() } else { format!("{name}-images") };
    let mut text = format!("#!/bin/sh\n{}set -e\n", copy_words(disks));
    for (lun, image) in numbered(disks) {
        let name = store(lun);
        text += &format!("targetcli /backstores/fileio create name={name} file_or_dev={image} write_back=false\n");
    }
    text += &format!("targetcli /iscsi create {target}\n");
    for (lun, _) in numbered(disks) {
        let name = store(lun);
        text +=
            &format!("targetcli /iscsi/{target}/tpg1/luns create storage_object=/backstores/fileio/{name} lun={lun}\n");
    }
    text + &format!(
        "targetcli /iscsi/{target}/tpg1 set attribute authentication=0 generate_node_acls=1 cache_dynamic_acls=1 \
         demo_mode_write_protect=1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_name_target_and_images() {
        let disks = ["root.img", "images.img"].map(|file| Disk { file, path: format!("/srv/x/{file}") });
        for count in 1..=2 {
            for file in files("iqn.2024-07.internal.bootwright:worker", &disks[..count]) {
                let text = &file.text;
                assert!(text.contains("iqn.2024-07.internal.bootwright:worker"), "{text}");
                for (lun, disk) in (1..=2).zip(&disks) {
                    let named = [format!("lun {lun}\n"), format!("--lun {lun} "), format!("lun={lun}\n")];
                    let is_there = text.contains(&disk.path) && named.iter().any(|lun| text.contains(lun));
                    assert_eq!(is_there, lun <= count, "{text}");
                }
            }
        }
    }
}
