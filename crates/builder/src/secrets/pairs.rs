//! Values that are a secret by the name of their key: `token: x`, `--password=x`, `SECRET=x`.

use super::Secret;
use regex::Regex;
use std::sync::LazyLock;

/// How names of secret values end, in lower case and without `-`, `_` and `.`.
const ENDS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secretin",
    "token",
    "apikey",
    "secretkey",
    "privatekey",
    "accesskey",
    "clientkeydata",
    "certificatekey",
    "presharedkey",
    "psk",
    "credential",
    "credentials",
];
/// Names of secret values that are the end of other words too (`bypass`): they have to be a word of their own.
const LAST_WORDS: [&str; 3] = ["pass", "pwd", "pw"];
/// Values that say no secret.
const WORDS: [&str; 14] = [
    "true", "false", "null", "none", "nil", "yes", "no", "on", "off", "optional", "required", "redacted", "default",
    "files",
];

static PAIR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"([A-Za-z][A-Za-z0-9_.-]*)["']?[ \t]*[:=][ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^\s"'][^\n]*))"#)
        .expect("the form is written here")
});

/// Pairs in a text, by line. Lines of comments are left out.
pub fn find(path: &str, text: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    // nsswitch.conf(5) says where passwords are looked up.
    if path.ends_with("nsswitch.conf") {
        return found;
    }
    for (line, text) in (1..).zip(text.lines()) {
        let comment = ["#", "//", ";", "--", "*", "<!--"].iter().any(|start| text.trim_start().starts_with(start));
        if !comment && holds_secret(text) {
            found.push(Secret { line, what: "a password or token" });
        }
    }
    found
}

/// A value may hold pairs itself, as `env = { TOKEN = "x" }` does: the next pair is looked for behind a key, not behind its value.
fn holds_secret(line: &str) -> bool {
    let mut start = 0;
    while let Some(pair) = PAIR.captures_at(line, start) {
        if is_secret(&pair) {
            return true;
        }
        let Some(value) = pair.get(2).or(pair.get(3)).or(pair.get(4)) else { return false };
        start = value.start();
    }
    false
}

fn is_secret(pair: &regex::Captures<'_>) -> bool {
    let key = &pair[1];
    let quoted = pair.get(2).or(pair.get(3)).map(|value| value.as_str());
    match (quoted, pair.get(4)) {
        (Some(value), _) => is_secret_pair(key, value),
        // Without quotes it may be an expression of a program; it ends where the next one begins.
        (None, Some(rest)) => {
            let value = rest.as_str().split(" #").next().unwrap_or_default();
            let value = value.trim_end().trim_end_matches([',', ';', '}', ']']).trim_end();
            // `self.password = password`: the value is the key's own name.
            let same = key.to_ascii_lowercase().ends_with(&value.to_ascii_lowercase()) && is_secret_name(value);
            let expression = value.contains(['(', ')', '[', ']', '{', '}', '$']) || same;
            !expression && is_secret_pair(key, value)
        }
        (None, None) => false,
    }
}

/// Whether a value under that name is a secret.
pub fn is_secret_pair(key: &str, value: &str) -> bool {
    is_secret_name(key) && !is_placeholder(value)
}

fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let last_word = name.rsplit(['-', '_', '.']).next().unwrap_or_default();
    // `dbPass`
    let last_hump = last_word
        .rfind(|c: char| c.is_ascii_uppercase())
        .filter(|_| last_word.contains(|c: char| c.is_ascii_lowercase()));
    let last_word = last_word[last_hump.unwrap_or(0)..].to_ascii_lowercase();
    ENDS.iter().any(|end| plain.ends_with(end)) || LAST_WORDS.contains(&last_word.as_str())
}

/// Nothing, a path, a reference, a type, or a word that stands for a value.
pub fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let first = value.chars().next();
    let reference = value.starts_with(['/', '$', '<', '{', '[', '*', '%', '~', '|', '>', '&', '.']);
    let prefix = ["file:", "env:", "unix:"].iter().any(|start| value.starts_with(start));
    let word = WORDS.contains(&value.to_ascii_lowercase().as_str());
    let number = value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit());
    // `xxxx`, `----`
    let filler = value.len() > 1 && value.chars().all(|c| Some(c) == first);
    // `PASSWORD`, `YOUR_TOKEN`: how manuals write what the reader fills in.
    let filled_in = is_secret_name(value) && value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'-');
    value.is_empty() || reference || prefix || word || number || filler || filled_in
}

/// A word of a command line that is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretWord {
    /// Its place in the list.
    pub at: usize,
    pub what: &'static str,
}

/// Secrets among words: `--token=x`, `--token x`, `rd.iscsi.password=x`, and any word that is one by its form.
pub fn secret_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<SecretWord> {
    let mut found = Vec::new();
    let mut option: Option<&str> = None;
    for (at, word) in words.into_iter().enumerate() {
        let what = "a password or token";
        let by_name = match (option.take(), word.split_once('=')) {
            (_, Some((key, value))) if is_secret_pair(key, value) => true,
            (Some(option), _) => !word.starts_with('-') && is_secret_pair(option, word),
            (None, _) => false,
        };
        option = Some(word).filter(|word| word.starts_with('-') && !word.contains('='));
        if let Some(what) = super::in_value(word).or(by_name.then_some(what)) {
            found.push(SecretWord { at, what });
        }
    }
    found
}
