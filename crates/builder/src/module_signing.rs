//! Signs modules as the kernel's `scripts/sign-file` does: a detached CMS signature (DER) behind the module, then
//! `struct module_signature` (include/linux/module_signature.h) and a magic text. openssl(1) makes the signature.
//!
//! The private key is read by openssl alone, by its path. It is never in memory of ours, in the cache, or in what is written.

use crate::entry::Sha256;
use crate::error::{Exit, Failure};
use crate::input_file::read_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `MODULE_SIG_STRING`.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// `PKEY_ID_PKCS7`; the other fields before the length are 0 with it (kernel/module_signature.c, `mod_check_sig`).
const ID_PKCS7: u8 = 2;
/// `rsaEncryption` in DER (RFC 8017, appendix C).
const RSA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Exit code 2 for what the user named, 1 for the tool.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("the key `{}` is encrypted", .0.display())]
    Encrypted(PathBuf),
    #[error("`{}` is no {expected}: {complaint}", path.display())]
    Unreadable { path: PathBuf, expected: &'static str, complaint: String },
    #[error("the key `{}` is not that of the certificate `{}`", key.display(), certificate.display())]
    OtherKey { key: PathBuf, certificate: PathBuf },
    #[error("the certificate `{}` is not for signing code: its {extension} is `{found}`", certificate.display())]
    NotForCode { certificate: PathBuf, extension: &'static str, found: String },
    #[error("the key `{}` is no RSA key", .0.display())]
    NotRsa(PathBuf),
    #[error("`strip = false` keeps the signatures that the kernel's package has: there is nothing to sign")]
    NothingToSign,
    #[error("cannot run `openssl`: {cause}")]
    NoOpenssl { cause: std::io::Error },
    #[error("`openssl` cannot sign a module: {complaint}")]
    Signing { complaint: String },
}

impl SignError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Read { .. } => "check the path and its permissions".into(),
            Self::Encrypted(_) => "a build asks nobody for passwords: `openssl pkey -in KEY -out PLAIN` in a place that only the build can read".into(),
            Self::Unreadable { .. } => {
                "make a pair: `openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=modules -addext keyUsage=digitalSignature \
                 -addext extendedKeyUsage=codeSigning -keyout KEY -out CERT`"
                    .into()
            }
            Self::OtherKey { .. } => "name the two halves of one pair".into(),
            Self::NotForCode { .. } => {
                "take a certificate with keyUsage digitalSignature and extendedKeyUsage codeSigning, or with neither".into()
            }
            Self::NotRsa(_) => "take an RSA key: other signatures differ each time, and so would the image".into(),
            Self::NothingToSign => "leave --module-key out, or set `strip = true` in [kernel]".into(),
            Self::NoOpenssl { .. } => "install it (Debian: `apt-get install openssl`), or leave --module-key out".into(),
            Self::Signing { .. } => "check that key and certificate are as they were when the build began".into(),
        }
    }
}

impl From<SignError> for Failure {
    fn from(e: SignError) -> Self {
        let exit = match e {
            SignError::NoOpenssl { .. } | SignError::Signing { .. } => Exit::Other,
            _ => Exit::Usage,
        };
        Self { exit, message: e.to_string(), help: Some(e.help()) }
    }
}

/// Signs modules with one key.
#[derive(Debug, Clone)]
pub struct ModuleSigner {
    key: PathBuf,
    certificate: PathBuf,
    identity: Sha256,
}

impl ModuleSigner {
    /// Checks that these PEM files are an RSA key without a password and its certificate, and that it may sign code.
    ///
    /// # Errors
    /// All of [`SignError`] but [`SignError::NothingToSign`] and [`SignError::Signing`].
    pub fn load(key: &Path, certificate: &Path) -> Result<Self, SignError> {
        let read = |path: &Path| read_text(path).map_err(|cause| SignError::Read { path: path.into(), cause });
        let text = read(key)?;
        if text.contains("ENCRYPTED") {
            return Err(SignError::Encrypted(key.into()));
        }
        read(certificate)?;
        let of_key = ask(key, "private key (PEM)", &["pkey", "-pubout", "-passin", "pass:"])?;
        let of_certificate = ask(certificate, "certificate (PEM)", &["x509", "-noout", "-pubkey"])?;
        if of_key != of_certificate {
            return Err(SignError::OtherKey { key: key.into(), certificate: certificate.into() });
        }
        if !pem_body(&of_key).is_some_and(|der| der.windows(RSA.len()).any(|part| part == RSA)) {
            return Err(SignError::NotRsa(key.into()));
        }
        check_usage(certificate)?;
        let der = ask(certificate, "certificate (PEM)", &["x509", "-outform", "DER"])?;
        Ok(Self { key: key.into(), certificate: certificate.into(), identity: Sha256::of(&der) })
    }

    /// Names the pair: another one makes other modules.
    pub fn identity(&self) -> Sha256 {
        self.identity
    }

    /// The module with a signature behind it: the same for the same module.
    ///
    /// # Errors
    /// [`SignError::NoOpenssl`], [`SignError::Signing`].
    pub fn sign(&self, module: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut command = Command::new("openssl");
        // As sign-file does: no attributes, hence no time; and no certificate, as the kernel has its own.
        command.args(["cms", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha256", "-outform", "DER", "-signer"]);
        command.arg(&self.certificate).arg("-inkey").arg(&self.key).args(["-passin", "pass:"]);
        let output = run(&mut command, module)?;
        let length = u32::try_from(output.stdout.len()).ok().filter(|length| *length > 0 && output.status.success());
        let length = length.ok_or_else(|| SignError::Signing { complaint: complaint(&output) })?;
        let info = [&[0, 0, ID_PKCS7, 0, 0, 0, 0, 0], &length.to_be_bytes()[..]].concat();
        Ok([module, &output.stdout, &info, MAGIC].concat())
    }
}

/// What openssl prints of a file that the user named.
fn ask(path: &Path, expected: &'static str, args: &[&str]) -> Result<Vec<u8>, SignError> {
    let output = run(Command::new("openssl").args(args).arg("-in").arg(path), b"")?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(SignError::Unreadable { path: path.into(), expected, complaint: complaint(&output) }),
    }
}

/// RFC 5280 sections 4.2.1.3 and 4.2.1.12: an extension that is there has to name the use; without it all uses are allowed.
fn check_usage(certificate: &Path) -> Result<(), SignError> {
    for (extension, wanted) in [("keyUsage", "Digital Signature"), ("extendedKeyUsage", "Code Signing")] {
        let said = ask(certificate, "certificate (PEM)", &["x509", "-noout", "-ext", extension])?;
        let said = String::from_utf8_lossy(&said);
        // A title, and the uses behind it.
        let Some((_, found)) = said.split_once('\n').filter(|(title, _)| title.starts_with("X509v3")) else { continue };
        if !found.split(',').any(|usage| usage.trim() == wanted) {
            let found = found.trim().into();
            return Err(SignError::NotForCode { certificate: certificate.into(), extension, found });
        }
    }
    Ok(())
}

fn run(command: &mut Command, stdin: &[u8]) -> Result<Output, SignError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |cause| SignError::NoOpenssl { cause };
    let mut child = command.spawn().map_err(failed)?;
    let mut pipe = child.stdin.take().expect("standard input was set to a pipe");
    std::thread::scope(|scope| {
        // One that ends early closes the pipe: its status tells.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        child.wait_with_output().map_err(failed)
    })
}

/// The first line of what openssl says went wrong; it names files and never what is in them.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().next().unwrap_or("it says nothing").trim().to_string()
}

/// The bytes of the only block of a PEM text (RFC 7468).
fn pem_body(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    STANDARD.decode(text.lines().filter(|line| !line.starts_with("-----")).collect::<String>()).ok()
}
