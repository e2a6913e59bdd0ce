//! exports(5) for the kernel's server, and a configuration of nfs-ganesha (ganesha-config(8), ganesha-export-config(8)).

use super::ServerFile;

/// `tree`: absolute path of the root's files on the server. `images`: container images lie in it.
pub fn files(tree: &str, images: bool) -> Vec<ServerFile> {
    let copy = if images { format!("# Copy images.img to {tree}/bootwright/images.img.\n") } else { String::new() };
    let file = |name, text: String| ServerFile { name, text: [&copy, text.as_str()].concat() };
    vec![file("exports", exports(tree)), file("ganesha.conf", ganesha(tree))]
}

/// Read-only, so that any number of machines share it; root on the machine reads root's files.
fn exports(tree: &str) -> String {
    format!(
        "# For /etc/exports or /etc/exports.d/, then: exportfs -ra\n\
         # Unpack root.tar to {tree} as root, or change the path. Name your network instead of *.\n\
         {tree} *(ro,no_root_squash,no_subtree_check,insecure,async)\n"
    )
}

/// Versions 3 and 4; version 3 needs rpcbind beside it.
fn ganesha(tree: &str) -> String {
    format!(
        "# ganesha.nfsd -F -f ganesha.conf\n\
         # Unpack root.tar to {tree} as root, or change the path (twice).\n\
         NFS_CORE_PARAM {{\n\
         \tProtocols = 3, 4;\n\
         \tNFS_Port = 2049;\n\
         }}\n\
         NFSv4 {{\n\
         \t# After a restart clients do not have to wait for others to reclaim their locks: nobody holds any.\n\
         \tGraceless = true;\n\
         \t# Names of owners would have to be looked up by a program on the root that is being repaired.\n\
         \tOnly_Numeric_Owners = true;\n\
         }}\n\
         EXPORT {{\n\
         \tExport_Id = 1;\n\
         \tPath = {tree};\n\
         \tPseudo = {tree};\n\
         \tProtocols = 3, 4;\n\
         \tTransports = TCP;\n\
         \tAccess_Type = RO;\n\
         \tSquash = No_Root_Squash;\n\
         \tSecType = sys;\n\
         \tPrivilegedPort = false;\n\
         \tFSAL {{ Name = VFS; }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_export_the_tree_read_only_to_root() {
        let files = files("/srv/x/root", true);
        assert!(files.iter().all(|file| file.text.starts_with("# Copy images.img to /srv/x/root/bootwright/")));
        assert!(files[0].text.contains("\n/srv/x/root *(ro,no_root_squash,"), "{}", files[0].text);
        for line in ["\tPath = /srv/x/root;", "\tPseudo = /srv/x/root;", "\tAccess_Type = RO;"] {
            assert!(files[1].text.contains(line), "no {line} in {}", files[1].text);
        }
        let (open, close) = (files[1].text.matches('{').count(), files[1].text.matches('}').count());
        assert_eq!(open, close);
    }
}
