//! UEFI with Secure Boot on, and one key in its `db`: that of Debian's OVMF, whose private half is in the package too
//! (/usr/share/doc/ovmf/README.Debian, `snakeoil`).

use crate::folders::new_folder;
use crate::image::Image;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The firmware. It keeps its variables from the system by SMM, which the machine must have.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const PASSWORD: &str = "pass:snakeoil";
/// The certificate in `db` (PEM).
pub const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
/// A program that firmware can start, and which starts a kernel with an initrd and a command line.
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// Programs and files that tests with Secure Boot need.
pub const NEEDED: [&str; 5] = ["openssl", "sbsign", CODE, VARIABLES, LOADER];

/// The private half of the key in `db`, without a password (PEM), in `folder`.
pub fn key_in(folder: &Path) -> PathBuf {
    let path = folder.join("db.key");
    let mut openssl = Command::new("openssl");
    succeeded(openssl.args(["pkey", "-in", KEY, "-passin", PASSWORD, "-out"]).arg(&path));
    path
}

/// Signs a PE program with the key in `db`.
pub fn sign(program: &Path, signed: &Path) {
    let folder = new_folder();
    let mut sbsign = Command::new("sbsign");
    sbsign.arg("--key").arg(key_in(folder.path())).args(["--cert", CERTIFICATE, "--output"]).args([signed, program]);
    succeeded(&mut sbsign);
}

/// A disk that the firmware boots from (an EFI system partition), and the firmware's own variables.
pub struct BootDisk {
    folder: TempDir,
}

impl BootDisk {
    /// One with a signed program, such as a unified kernel image.
    pub fn with_program(program: &Path) -> Self {
        let disk = Self { folder: new_folder() };
        let place = disk.path("EFI/BOOT");
        fs::create_dir_all(&place).expect("a new folder");
        sign(program, &place.join("BOOTX64.EFI"));
        fs::copy(VARIABLES, disk.variables()).expect("a new file");
        disk
    }

    /// One with a loader and an image, whose kernel gets these words. Loader and kernel are signed.
    pub fn with_image(image: &Image, words: &str) -> Self {
        let disk = Self::with_program(Path::new(LOADER));
        sign(&image.dir().join("vmlinuz"), &disk.path("vmlinuz"));
        fs::copy(image.dir().join("initrd.img"), disk.path("initrd.img")).expect("the image was built");
        fs::create_dir_all(disk.path("loader/entries")).expect("a new folder");
        let entry = format!("title image\nlinux /vmlinuz\ninitrd /initrd.img\noptions {words}\n");
        fs::write(disk.path("loader/entries/image.conf"), entry).expect("a new file");
        fs::write(disk.path("loader/loader.conf"), "timeout 0\n").expect("a new file");
        disk
    }

    /// A file or folder on the disk.
    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("disk").join(below)
    }

    fn variables(&self) -> PathBuf {
        self.folder.path().join("variables")
    }

    /// QEMU's arguments for a machine that boots from it.
    pub fn arguments(&self) -> Vec<String> {
        let drives = [
            format!("if=pflash,format=raw,readonly=on,file={CODE}"),
            format!("if=pflash,format=raw,file={}", self.variables().display()),
            format!("if=none,id=boot,format=raw,file=fat:rw:{}", self.path("").display()),
        ];
        let plain = ["-machine", "q35,smm=on,graphics=off", "-global", "driver=cfi.pflash01,property=secure,value=on"];
        let drives = drives.into_iter().flat_map(|drive| ["-drive".to_string(), drive]);
        let device = ["-device", "virtio-blk-pci,drive=boot"].map(String::from);
        plain.map(String::from).into_iter().chain(drives).chain(device).collect()
    }
}

#[track_caller]
fn succeeded(command: &mut Command) -> Output {
    let output = command.output().expect("it was looked for");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
