//! OCI layouts in `out/registry/` as a registry that hands out and takes nothing (distribution-spec 1.1, "Pull" and "Listing tags").
//!
//! Blobs are files like all others that are served: [`Folder`] opens them, so that no link leads out of the layouts.

mod catalog;
mod manifests;
mod question;
mod refusal;

use super::http::{Folder, Shelf, files};
use crate::entry::Sha256;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use catalog::Catalog;
use manifests::Manifests;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use question::{ManifestReference, Page, RegistryRequest};
use refusal::Refusal;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};
use tower::ServiceExt;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Tags of a page: an answer waits in memory for its client, as many of them as there may be connections.
const MOST_TAGS: usize = 500;
/// Manifests that are read at the same time to see what they are.
const READ_AT_ONCE: usize = 2;
/// How long the layouts are taken for what they were.
const CATALOG_AGE: Duration = Duration::from_secs(1);

/// What requests share.
#[derive(Debug)]
pub struct Registry {
    folder: Folder,
    files: Router,
    /// Held while the layouts are read: who asks meanwhile gets what was found.
    catalog: Mutex<Option<(Instant, Arc<Catalog>)>>,
    reading: Semaphore,
    manifests: Arc<Manifests>,
}

/// A blob of a layout, and what it is.
struct FoundBlob {
    path: PathBuf,
    digest: Sha256,
    content_type: HeaderValue,
    /// The answer when the file is not there.
    missing: Refusal,
}

impl Registry {
    /// With the layouts below `out`.
    pub fn new(out: &Path) -> Arc<Self> {
        let folder = Folder::new(out, Shelf::Layouts);
        let files = files(folder.clone());
        Arc::new(Self {
            folder,
            files,
            catalog: Mutex::default(),
            reading: Semaphore::new(READ_AT_ONCE),
            manifests: Arc::default(),
        })
    }

    /// What is wrong with layouts, a line each, and how many images are served.
    pub fn look(&self) -> (usize, Vec<String>) {
        let catalog = Catalog::load(&self.folder);
        (catalog.count(), catalog.problems)
    }

    /// The answers below `/v2/`.
    pub fn routes(self: &Arc<Self>) -> MethodRouter {
        get(answer).fallback(|| async { Refusal::ReadOnly }).with_state(self.clone())
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        let mut held = self.catalog.lock().await;
        if let Some((read, catalog)) = &*held
            && read.elapsed() < CATALOG_AGE
        {
            return Ok(catalog.clone());
        }
        let folder = self.folder.clone();
        let load = move || Arc::new(Catalog::load(&folder));
        let catalog = tokio::task::spawn_blocking(load).await.map_err(|_| Refusal::Ending)?;
        *held = Some((Instant::now(), catalog.clone()));
        Ok(catalog)
    }

    async fn find(&self, uri: &Uri) -> Result<RegistryAnswer, Refusal> {
        match RegistryRequest::parse(uri)? {
            RegistryRequest::Base => Ok(RegistryAnswer::Text(json!({}).to_string(), None)),
            RegistryRequest::Tags { names, name, page } => {
                let catalog = self.catalog().await?;
                let tags = catalog.tags(&names).ok_or(Refusal::NameUnknown)?;
                Ok(list(&name, &tags, &page))
            }
            RegistryRequest::Manifest { names, reference } => {
                let catalog = self.catalog().await?;
                let layouts = catalog.layouts_with(&names);
                if layouts.is_empty() {
                    return Err(Refusal::NameUnknown);
                }
                let (digest, layouts) = match reference {
                    ManifestReference::Digest(digest) => (digest, layouts),
                    ManifestReference::Tag(tag) => {
                        let (layout, digest) = catalog.tagged(&names, &tag).ok_or(Refusal::ManifestUnknown)?;
                        (digest, vec![layout])
                    }
                };
                let path = self.first(&layouts, digest).await?.ok_or(Refusal::ManifestUnknown)?;
                let content_type = self.manifest_type(path.clone(), digest).await?;
                Ok(RegistryAnswer::Blob(FoundBlob { path, digest, content_type, missing: Refusal::ManifestUnknown }))
            }
            RegistryRequest::Blob { names, digest } => {
                let catalog = self.catalog().await?;
                let layouts = catalog.layouts_with(&names);
                if layouts.is_empty() {
                    return Err(Refusal::NameUnknown);
                }
                let path = self.first(&layouts, digest).await?.ok_or(Refusal::BlobUnknown)?;
                let content_type = HeaderValue::from_static("application/octet-stream");
                Ok(RegistryAnswer::Blob(FoundBlob { path, digest, content_type, missing: Refusal::BlobUnknown }))
            }
        }
    }

    /// The first of the layouts that has a blob: where it lies below `out`.
    async fn first(&self, layouts: &[&str], digest: Sha256) -> Result<Option<PathBuf>, Refusal> {
        let paths: Vec<PathBuf> = layouts.iter().map(|layout| catalog::blob(layout, digest)).collect();
        let folder = self.folder.clone();
        let find = move || paths.into_iter().find(|path| folder.open(path).is_ok());
        tokio::task::spawn_blocking(find).await.map_err(|_| Refusal::Ending)
    }

    /// The media type of a manifest. Reading and hashing it is not for the thread that all connections share.
    async fn manifest_type(&self, path: PathBuf, digest: Sha256) -> Result<HeaderValue, Refusal> {
        let _turn = self.reading.acquire().await.map_err(|_| Refusal::Ending)?;
        let (folder, manifests) = (self.folder.clone(), self.manifests.clone());
        let read = move || manifests.media_type(&folder, &path, digest);
        tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::Ending)?
    }

    async fn send(&self, found: FoundBlob, mut request: Request) -> Response {
        let parts =
            found.path.iter().map(|part| utf8_percent_encode(part.to_str().unwrap_or_default(), NON_ALPHANUMERIC));
        let place: String = parts.map(|part| format!("/{part}")).collect();
        let Ok(uri) = place.parse() else { return found.missing.into_response() };
        *request.uri_mut() = uri;
        let mut response = match self.files.clone().oneshot(request).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => return found.missing.into_response(),
            Ok(response) => response,
            Err(never) => match never {},
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, found.content_type);
        if let Ok(digest) = format!("sha256:{}", found.digest).parse() {
            headers.insert(DIGEST, digest);
        }
        response
    }
}

/// What is handed out.
enum RegistryAnswer {
    Blob(FoundBlob),
    /// JSON, and the address of the next page.
    Text(String, Option<String>),
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let mut response = match registry.find(request.uri()).await {
        Ok(RegistryAnswer::Blob(found)) => registry.send(found, request).await,
        Ok(RegistryAnswer::Text(text, next)) => {
            let mut response = ([(CONTENT_TYPE, JSON)], text).into_response();
            let next = next.and_then(|next| format!("<{next}>; rel=\"next\"").parse().ok());
            next.map(|next: HeaderValue| response.headers_mut().insert(LINK, next));
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().insert(VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// A page of tags (distribution-spec, "Listing tags").
fn list(name: &str, tags: &BTreeSet<String>, page: &Page) -> RegistryAnswer {
    let after = |tag: &&String| page.last.as_ref().is_none_or(|last| *tag > last);
    let rest: Vec<&String> = tags.iter().filter(after).collect();
    let taken = &rest[..rest.len().min(page.most.unwrap_or(MOST_TAGS).min(MOST_TAGS))];
    let next = taken.last().filter(|_| taken.len() < rest.len()).map(|last| page.next(name, taken.len(), last));
    RegistryAnswer::Text(json!({ "name": name, "tags": taken }).to_string(), next)
}
