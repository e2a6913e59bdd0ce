//! Ed25519 keys (RFC 8032) and the signed manifest of a root image. Private keys are PEM files in PKCS#8 (RFC 8410 section 7), as
//! `openssl genpkey -algorithm ed25519` and `bootwright keygen` write them; public ones are PEM files in SPKI (section 4).

use crate::error::{Exit, Failure};
use crate::root_mode::{RootMode, any_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, PublicKey, Seed};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// DER up to the 32 bytes of a private key without attributes: SEQUENCE, version 0, the algorithm 1.3.101.112, OCTET STRING.
const PRIVATE: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// DER up to the 32 bytes of a public key: SEQUENCE, the algorithm, BIT STRING.
const PUBLIC: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// No key file is as large.
const LARGEST: u64 = 64 << 10;

/// Exit code 2: keys are named by the user.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("`{}` is no {expected}", path.display())]
    NotAKey { path: PathBuf, expected: &'static str },
    #[error("`{}` is not the key of `[root] trust`, `{}`", signing.display(), trusted.display())]
    OtherKey { signing: PathBuf, trusted: PathBuf },
    #[error("a root that comes with the initrd is not signed by itself")]
    NotOnServer,
}

impl SigningError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { action, path: path.into(), cause }
    }

    /// The `help:` line.
    pub fn help(&self) -> String {
        match self {
            Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::AlreadyExists => {
                "keys are never overwritten: move it away, or name another file".into()
            }
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::NotAKey { .. } => {
                "make one with `bootwright keygen FILE` or `openssl genpkey -algorithm ed25519 -out FILE`; \
                 `openssl pkey -in FILE -pubout` writes its public half"
                    .into()
            }
            Self::OtherKey { .. } => "sign with the private half of that key, or change `[root] trust`".into(),
            Self::NotOnServer => format!("build with --root {}", any_of(RootMode::on_network())),
        }
    }
}

impl From<SigningError> for Failure {
    fn from(e: SigningError) -> Self {
        Self { exit: Exit::Usage, message: e.to_string(), help: Some(e.help()) }
    }
}

/// A private key.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// The 32 bytes of its public half.
    pub fn public(&self) -> [u8; 32] {
        *self.0.pk
    }

    /// The 64 bytes of the signature; the same for the same bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sk.sign(bytes, None).to_vec()
    }
}

/// Reads a private key.
pub fn load_signing_key(path: &Path) -> Result<SigningKey, SigningError> {
    let seed = parse_pem(&read(path)?, "PRIVATE KEY", PRIVATE);
    let not_a_key = || SigningError::NotAKey { path: path.into(), expected: "Ed25519 private key in PKCS#8 (PEM)" };
    Ok(SigningKey(KeyPair::from_seed(Seed::new(seed.ok_or_else(not_a_key)?))))
}

/// Reads a public key: its 32 bytes.
pub fn load_public_key(path: &Path) -> Result<[u8; 32], SigningError> {
    let key = parse_pem(&read(path)?, "PUBLIC KEY", PUBLIC).filter(|key| PublicKey::new(*key).validate().is_ok());
    key.ok_or_else(|| SigningError::NotAKey { path: path.into(), expected: "Ed25519 public key (PEM)" })
}

/// Makes a key pair: the private half in `path`, for its owner only, the public one in `path` with `.pub` behind it. A folder that
/// is missing is made.
pub fn generate(path: &Path) -> Result<PathBuf, SigningError> {
    let random = Path::new("/dev/urandom");
    let mut seed = [0; 32];
    let read = std::fs::File::open(random).and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(SigningError::io("read", random))?;
    let pair = KeyPair::from_seed(Seed::new(seed));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(SigningError::io("make", folder))?;
    }
    let public = public_path(path);
    write_new(path, 0o600, &format_pem("PRIVATE KEY", PRIVATE, &seed))?;
    write_new(&public, 0o644, &format_pem("PUBLIC KEY", PUBLIC, &*pair.pk))?;
    Ok(public)
}

/// Where the public half of a key is.
pub fn public_path(private: &Path) -> PathBuf {
    let mut public = private.as_os_str().to_owned();
    public.push(".pub");
    public.into()
}

fn read(path: &Path) -> Result<String, SigningError> {
    let mut text = String::new();
    let file = crate::input_file::open_regular(path).map_err(SigningError::io("read", path))?;
    file.take(LARGEST).read_to_string(&mut text).map_err(SigningError::io("read", path))?;
    Ok(text)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), SigningError> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = open.map_err(SigningError::io("make", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(SigningError::io("write", path))
}

/// The 32 bytes behind `prefix` in the first PEM block of that label (RFC 7468).
fn parse_pem(text: &str, label: &str, prefix: &[u8]) -> Option<[u8; 32]> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let der = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    der.strip_prefix(prefix)?.try_into().ok()
}

fn format_pem(label: &str, prefix: &[u8], key: &[u8]) -> String {
    let body = STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 section 10.
    const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn the_rfcs_keys_are_a_pair() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = (folder.path().join("key"), folder.path().join("key.pub"));
        std::fs::write(&private, RFC_PRIVATE).unwrap();
        std::fs::write(&public, RFC_PUBLIC).unwrap();
        let key = load_signing_key(&private).unwrap();
        assert_eq!(key.public(), load_public_key(&public).unwrap());
        assert_eq!(key.sign(b"x"), key.sign(b"x"));
        // One is not taken for the other.
        for error in [load_signing_key(&public).err().unwrap(), load_public_key(&private).unwrap_err()] {
            assert!(matches!(&error, SigningError::NotAKey { .. }), "{error}");
            assert!(error.help().contains("bootwright keygen"));
        }
    }

    #[test]
    fn made_keys_are_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let public = generate(&path).unwrap();
        assert_eq!(load_signing_key(&path).unwrap().public(), load_public_key(&public).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = generate(&path).unwrap_err();
        assert!(error.help().contains("never overwritten"), "{error}");
    }

    #[test]
    fn other_files_are_no_keys() {
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTu\n-----END PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
        ] {
            assert_eq!(parse_pem(text, "PRIVATE KEY", PRIVATE), None, "{text}");
        }
    }
}
