//! An archive of all packages that Debian ever published, asked for what no mirror has any more: mirrors drop a version when the
//! next one comes. Its interface is that of <https://snapshot.debian.org> (its `misc/API` document): files are known by SHA-1, so
//! what comes is compared with the lock's SHA-256 as a mirror's is.

use super::resolve::{FILENAME, percent_encode};
use crate::fetch::{Context, FetchError, Request, Via, fetch_small, fetch_to_cache, redact};
use crate::source::Pin;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Debian's own.
pub const DEBIAN: &str = "https://snapshot.debian.org";

/// The list of a package's files is some hundred bytes a file.
const LIST_BYTES: u64 = 1 << 20;

/// More files of one name, version and architecture were never published; each is fetched whole before its hash is known.
const MOST_FILES: usize = 4;

/// The answer to `/mr/binary/NAME/VERSION/binfiles?fileinfo=1`, as far as it is needed.
#[derive(Debug, Deserialize)]
struct BinFiles {
    result: Vec<BinFile>,
    /// By SHA-1: the places and sizes under which a file was published.
    #[serde(default)]
    fileinfo: BTreeMap<String, Vec<FileInfo>>,
}

#[derive(Debug, Deserialize)]
struct BinFile {
    /// SHA-1 in hex.
    hash: String,
    architecture: String,
}

#[derive(Debug, Deserialize)]
struct FileInfo {
    name: String,
    /// Bytes.
    size: u64,
}

/// Fetches a package from the archive at `address`. `failure` is what mirrors said.
///
/// # Errors
/// The same failure, with what the archive said beside it.
pub fn fetch_dropped(pin: &Pin, address: &str, failure: FetchError, cx: &Context<'_>) -> Result<(), FetchError> {
    cx.ui.say(format_args!("{failure}: asking the snapshot archive {}", redact(address)));
    match fetch(pin, address, cx) {
        Ok(()) => Ok(()),
        Err(e @ FetchError::Cache(_)) => Err(e),
        Err(second) => Err(join(failure, &second)),
    }
}

fn fetch(pin: &Pin, address: &str, cx: &Context<'_>) -> Result<(), FetchError> {
    let Pin { name, version, size, sha256, .. } = pin;
    let list = format!("{address}/mr/binary/{}/{}/binfiles?fileinfo=1", percent_encode(name), percent_encode(version));
    let answer = fetch_small(name, std::slice::from_ref(&list), &[], LIST_BYTES, cx)?;
    let found: BinFiles = serde_json::from_slice(&answer).map_err(|e| FetchError::Failed {
        name: name.clone(),
        cause: format!("{}: unexpected answer: {e}", redact(&list)),
    })?;
    let urls: Vec<String> = hashes(&found, pin).take(MOST_FILES).map(|hash| format!("{address}/file/{hash}")).collect();
    if urls.is_empty() {
        let (name, version, place) = (name.clone(), version.clone(), redact(&list));
        return Err(FetchError::Gone { name, version, place });
    }
    let request =
        Request { name, version, urls: &urls, sha256: *sha256, size: *size, headers: &[], via: Via::Environment };
    fetch_to_cache(&request, cx).map(drop)
}

/// Files that may be the pinned one: of its name or architecture, and of its size. A version may have been built twice, so there
/// can be several. Only what is a SHA-1 becomes part of an address.
fn hashes<'a>(found: &'a BinFiles, pin: &'a Pin) -> impl Iterator<Item = &'a str> {
    let filename = pin.detail.get(FILENAME).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let architecture = filename.trim_end_matches(".deb").rsplit('_').next().unwrap_or_default();
    let fits = move |file: &&BinFile| match found.fileinfo.get(&file.hash) {
        Some(infos) => infos
            .iter()
            .any(|info| info.size == pin.size && (info.name == filename || file.architecture == architecture)),
        None => file.architecture == architecture,
    };
    let is_sha1 = |hash: &&str| hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    found.result.iter().filter(fits).map(|file| file.hash.as_str()).filter(is_sha1)
}

fn join(failure: FetchError, second: &FetchError) -> FetchError {
    let no_help = |first: &str| format!("{first}; nor from the snapshot archive: {second}");
    match failure {
        FetchError::Gone { name, version, place } => FetchError::Gone { name, version, place: no_help(&place) },
        FetchError::Failed { name, cause } => FetchError::Failed { name, cause: no_help(&cause) },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Sha256;

    fn pin(filename: &str, size: u64) -> Pin {
        let detail = [(FILENAME.to_string(), format!("pool/main/t/tool/{filename}"))].into();
        Pin { name: "tool".into(), version: "1:2".into(), size, sha256: Sha256::of(b""), detail }
    }

    fn found(pin: &Pin, answer: &str) -> Vec<String> {
        let files: BinFiles = serde_json::from_str(answer).expect("the test's JSON");
        hashes(&files, pin).map(String::from).collect()
    }

    /// As snapshot.debian.org answers, shortened.
    #[test]
    fn files_are_chosen_by_architecture_and_size() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let info = |name: &str, size: u64| {
            format!(
                r#"[{{"archive_name":"debian","first_seen":"20260101T000000Z","name":"{name}","path":"/pool","size":{size}}}]"#
            )
        };
        let answer = format!(
            r#"{{"_comment":"foo","binary":"tool","binary_version":"1:2","fileinfo":{{"{a}":{},"{b}":{},"{c}":{}}},
            "result":[{{"architecture":"amd64","hash":"{a}"}},{{"architecture":"arm64","hash":"{b}"}},{{"architecture":"amd64","hash":"{c}"}}]}}"#,
            info("tool_2_amd64.deb", 10),
            info("tool_2_arm64.deb", 10),
            info("tool_2_amd64.deb", 11),
        );
        assert_eq!(found(&pin("tool_2_amd64.deb", 10), &answer), [&*a]);
        assert_eq!(found(&pin("tool_2_amd64.deb", 11), &answer), [c]);
        assert_eq!(found(&pin("tool_2_arm64.deb", 10), &answer), [b]);
        assert!(found(&pin("tool_2_amd64.deb", 12), &answer).is_empty());
        let bare = format!(
            r#"{{"result":[{{"architecture":"amd64","hash":"{a}"}},{{"architecture":"amd64","hash":"../x"}}]}}"#
        );
        assert_eq!(found(&pin("tool_2_amd64.deb", 10), &bare), [a], "only hashes become addresses");
    }
}
