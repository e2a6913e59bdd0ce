//! CHAP names and secrets in a file of the config segment, for recipes that keep them off the command line.

use bootwright_contract::paths;
use bootwright_iscsi::target::{Auth, Credentials, Secret};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file in bytes.
const LIMIT: u64 = 4096;

/// Why the file is not used. No message contains a part of it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read the iscsi credentials `{path}`: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the iscsi credentials `{path}` may be read by others than root (mode {mode:04o}): give the file mode 0600"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("line {line} of the iscsi credentials `{path}` is none of user=, secret=, user_in= and secret_in=")]
    Line { path: PathBuf, line: usize },
    #[error("the iscsi credentials `{path}` name no user with a secret")]
    Incomplete { path: PathBuf },
}

/// Reads the file, which is in the initramfs at first, and in the root after the switch.
///
/// # Errors
/// [`CredentialsError`]
pub fn load(path: &Path) -> Result<Auth, CredentialsError> {
    let early = Path::new(paths::CONFIG_TREE).join(path.strip_prefix("/").unwrap_or(path));
    load_from(if early.exists() { &early } else { path })
}

fn load_from(path: &Path) -> Result<Auth, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    match parse(&text) {
        Ok(Some(auth)) => Ok(auth),
        Ok(None) => Err(CredentialsError::Incomplete { path: path.into() }),
        Err(line) => Err(CredentialsError::Line { path: path.into(), line }),
    }
}

/// Parses `KEY=VALUE` lines; `#` begins a comment. The error is the number of the first bad line. `None` when our own
/// user or secret is missing.
fn parse(text: &str) -> Result<Option<Auth>, usize> {
    let mut found: [Option<&str>; 4] = [None; 4];
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(number + 1)?;
        let at = ["user", "secret", "user_in", "secret_in"].iter().position(|k| *k == key).ok_or(number + 1)?;
        if let Some(place) = found.get_mut(at) {
            *place = Some(value).filter(|value| !value.is_empty());
        }
    }
    let [user, secret, user_in, secret_in] = found;
    let (Some(user), Some(secret)) = (user, secret) else { return Ok(None) };
    let credentials = |user: &str, secret: &str| Credentials { user: user.into(), secret: Secret::new(secret) };
    // Without a user name of the target, any name is accepted that comes with the right secret.
    let theirs = secret_in.map(|secret| credentials(user_in.unwrap_or_default(), secret));
    Ok(Some(Auth { ours: Some(credentials(user, secret)), theirs }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_file_says() {
        let auth = parse("# node 7\nuser=node7\nsecret=a=b c\n\nuser_in=san\nsecret_in=other\n").unwrap().unwrap();
        let (ours, theirs) = (auth.ours.unwrap(), auth.theirs.unwrap());
        assert_eq!((ours.user.as_str(), ours.secret.bytes()), ("node7", &b"a=b c"[..]));
        assert_eq!((theirs.user.as_str(), theirs.secret.bytes()), ("san", &b"other"[..]));
        let one_way = parse("user=node7\nsecret=x\n").unwrap().unwrap();
        assert!(one_way.theirs.is_none());
        for (text, expected) in
            [("user=a\nkey=b\n", Err(2)), ("user a\n", Err(1)), ("user=a\n", Ok(None)), ("", Ok(None))]
        {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("bootwright-credentials-{}", std::process::id()));
        fs::write(&path, "user=node7\nsecret=x\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(&path);
            assert_eq!(loaded.is_ok(), good, "{mode:o}: {loaded:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&path), Err(CredentialsError::Read { .. })));
    }
}
