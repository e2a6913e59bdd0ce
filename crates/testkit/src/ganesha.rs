//! nfs-ganesha as an ordinary process on the loopback address. It opens files by handle, which only root may.

use crate::folders::new_folder;
use crate::need;
use crate::server::ServerProcess;
use std::path::Path;
use tempfile::TempDir;

pub const GANESHA: &str = "ganesha.nfsd";

/// Runs until it is dropped.
pub struct Ganesha {
    pub server: ServerProcess,
    _folder: TempDir,
}

/// A folder, the name under which it is exported, and `RO` or `RW`.
pub type Export<'a> = (&'a Path, &'a str, &'a str);

impl Ganesha {
    /// `protocols`: `4`, or `3, 4` with rpcbind beside it.
    pub fn start(protocols: &str, exports: &[Export<'_>]) -> Ganesha {
        let mut config = format!(
            "NFS_CORE_PARAM {{ Protocols = {protocols}; NFS_Port = @PORT@; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
             NFSv4 {{ Graceless = true; Only_Numeric_Owners = true; RecoveryBackend = fs; RecoveryRoot = @FOLDER@; }}\n"
        );
        for (number, (path, name, access)) in exports.iter().enumerate() {
            config += &format!(
                "EXPORT {{ Export_Id = {}; Path = {}; Pseudo = {name}; Protocols = {protocols}; Transports = TCP; Access_Type = {access}; \
                 Squash = No_Root_Squash; SecType = sys; PrivilegedPort = false; FSAL {{ Name = VFS; }} }}\n",
                number + 1,
                path.display(),
            );
        }
        Self::start_configured(&config)
    }

    /// With this configuration, in which `@PORT@` is its port and `@FOLDER@` a folder of its own.
    pub fn start_configured(config: &str) -> Ganesha {
        let folder = new_folder();
        let at = folder.path().display();
        std::fs::write(folder.path().join("template"), config).expect("a new file");
        // The shell becomes the server, so that the process that is killed is it.
        let start = format!(
            "cd {at} && sed 's/@PORT@/{{port}}/; s|@FOLDER@|{at}|' template > ganesha.conf && exec {GANESHA} -F -f ganesha.conf -L log -p pid -N EVENT"
        );
        Ganesha { server: ServerProcess::start(&["sh", "-c", &start]), _folder: folder }
    }
}

/// Whether this process may run it; if not, as [`need::can`].
#[track_caller]
pub fn is_root() -> bool {
    need::can(nix::unistd::geteuid().is_root(), "root for nfs-ganesha")
}
