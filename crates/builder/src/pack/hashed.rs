//! A file that is hashed while it is written.

use super::PackError;
use crate::entry::Sha256;
use sha2::Digest;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A new file that counts and hashes what is written to it.
pub struct HashedFile {
    file: BufWriter<File>,
    hasher: sha2::Sha256,
    /// Bytes written so far.
    pub size: u64,
}

impl HashedFile {
    /// # Errors
    /// [`PackError::Io`], also when it is there already.
    pub fn create(path: &Path) -> Result<Self, PackError> {
        let file = File::create_new(path).map_err(PackError::io("make", path))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 17, file), hasher: sha2::Sha256::new(), size: 0 })
    }

    /// Brings it to the disk, readable for all whatever the umask. Returns size and hash.
    ///
    /// # Errors
    /// [`PackError::Io`]
    pub fn finish(self, path: &Path) -> Result<(u64, Sha256), PackError> {
        let failed = |cause| PackError::io("write", path)(cause);
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok((self.size, Sha256(self.hasher.finalize().into())))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
