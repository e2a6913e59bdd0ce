//! Why a registry does not answer (distribution-spec, "Error codes").

use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NameInvalid,
    NameUnknown,
    ManifestUnknown,
    BlobUnknown,
    DigestInvalid,
    /// The file does not hash to its name.
    Damaged,
    /// The blob is neither an image nor an index.
    NoManifest,
    /// `n` or another part of the question after `?`.
    BadQuery,
    /// A part of the interface that this registry does not have.
    Unsupported,
    ReadOnly,
    /// This process ends.
    Ending,
}

impl Refusal {
    fn told(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::NameInvalid => (S::BAD_REQUEST, "NAME_INVALID", "the name of the repository is malformed"),
            Self::NameUnknown => (S::NOT_FOUND, "NAME_UNKNOWN", "no layout holds an image of this name"),
            Self::ManifestUnknown => (S::NOT_FOUND, "MANIFEST_UNKNOWN", "no layout holds this manifest of that name"),
            Self::BlobUnknown => (S::NOT_FOUND, "BLOB_UNKNOWN", "no layout with that name holds this blob"),
            Self::DigestInvalid => {
                (S::BAD_REQUEST, "DIGEST_INVALID", "a digest is `sha256:` and 64 hex digits in lower case")
            }
            Self::Damaged => (S::NOT_FOUND, "MANIFEST_UNKNOWN", "the layout's file does not have this digest"),
            Self::NoManifest => (S::NOT_FOUND, "MANIFEST_UNKNOWN", "the blob is no manifest"),
            Self::BadQuery => (S::BAD_REQUEST, "UNSUPPORTED", "the question after `?` is malformed"),
            Self::Unsupported => (S::NOT_FOUND, "UNSUPPORTED", "this registry hands out manifests, blobs and tags"),
            Self::ReadOnly => (S::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry hands out and takes nothing"),
            Self::Ending => (S::SERVICE_UNAVAILABLE, "UNSUPPORTED", "the server ends"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = self.told();
        let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        if self == Self::ReadOnly {
            response.headers_mut().insert(ALLOW, axum::http::HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
