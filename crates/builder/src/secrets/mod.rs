//! What gives a secret away: private keys, tokens and passwords in files and in values of a recipe. Whoever can fetch an
//! image can read all that is in it, so each is refused unless the recipe allows it, with a reason.
//!
//! There is one detector for images, for the files of nodes and for values. It knows forms, not meanings: a secret without
//! any form is not seen. What people write by hand (recipes, overlays, local files) is judged by the names of its keys too; what
//! others published only by forms that nothing else has, as programs and their documentation are full of examples.

mod binary;
mod marks;
mod pairs;
#[cfg(test)]
mod tests;

pub use pairs::{SecretWord, is_secret_pair, secret_words};

/// Bytes of a file that are looked at.
pub const LOOKED_AT: u64 = 16 << 20;

/// Who wrote what is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The people who build the image.
    Own,
    /// Somebody who published it.
    Others,
}

/// A place in a text that gives a secret away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret {
    /// 1-based; 0 for what has no lines.
    pub line: u32,
    /// `a private key`
    pub what: &'static str,
}

/// All secrets of a file, by line; at most one of a kind a line. `path` is the file's place in the image.
pub fn in_file(path: &str, bytes: &[u8], author: Author) -> Vec<Secret> {
    if let Some(text) = from_utf16(bytes) {
        return in_file(path, text.as_bytes(), author);
    }
    if author == Author::Others && (is_documentation(path) || bytes.starts_with(b"\x7fELF")) {
        return Vec::new();
    }
    let mut found: Vec<Secret> = binary::kind(path, bytes).map(|what| Secret { line: 0, what }).into_iter().collect();
    found.extend(marks::find(bytes, author));
    if author == Author::Own
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        found.extend(pairs::find(path, text));
    }
    // A line that is a token by its form and by its key is one secret: the form says more.
    found.sort_by_key(|secret| secret.line);
    found.dedup_by_key(|secret| secret.line);
    found
}

/// A text in UTF-16, as editors of Windows write it, in UTF-8. Known by its byte order mark (RFC 2781 section 3.2).
fn from_utf16(bytes: &[u8]) -> Option<String> {
    let (mark, text) = bytes.split_first_chunk::<2>()?;
    let unit = match mark {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let (units, _) = text.as_chunks::<2>();
    Some(String::from_utf16_lossy(&units.iter().map(|bytes| unit(*bytes)).collect::<Vec<_>>()))
}

/// What a single value gives away by its form, whatever its key is.
pub fn in_value(value: &str) -> Option<&'static str> {
    marks::find(value.as_bytes(), Author::Own).first().map(|secret| secret.what)
}

/// Debian policy 12.1 and 12.3.
fn is_documentation(path: &str) -> bool {
    ["usr/share/doc/", "usr/share/man/", "usr/share/info/"].iter().any(|dir| path.starts_with(dir))
}

/// `line 3: a token`, or `a keystore`.
impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}
