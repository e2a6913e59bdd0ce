//! The document behind the page, made anew only when something has changed, and not for every one who asks.

use super::state::{NodeStates, NodeView};
use crate::chain::{BootImage, load_images};
use axum::body::Bytes;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a list of images is shown before it is read again.
const IMAGES_AGE: Duration = Duration::from_secs(5);
/// Ages are shown in seconds: so old a document may be while nothing happens.
const OLDEST: Duration = Duration::from_secs(1);
/// Between two documents, however much happens.
const PAUSE: Duration = Duration::from_millis(100);

/// The document.
#[derive(Debug, Serialize)]
struct Status<'a> {
    /// Layout of this document; 1.
    version: u32,
    /// Under which address machines find this server, and who answers DHCP.
    server: &'a str,
    images: &'a [ImageView],
    nodes: Vec<NodeView>,
}

#[derive(Debug, Clone, Serialize)]
struct ImageView {
    name: String,
    recipe: String,
    summary: String,
    image_id: String,
    boot_bytes: u64,
}

/// What requests share.
#[derive(Debug)]
pub struct SharedStatus {
    out: PathBuf,
    server: String,
    nodes: Mutex<NodeStates>,
    images: Mutex<(Instant, Vec<ImageView>)>,
    /// Held while a document is made: who asks meanwhile gets that one.
    document: tokio::sync::Mutex<Option<StatusDocument>>,
}

#[derive(Debug, Clone)]
struct StatusDocument {
    /// The nodes' state that it shows.
    version: u64,
    made: Instant,
    text: Bytes,
}

impl SharedStatus {
    pub fn new(out: PathBuf, server: String, nodes: NodeStates, images: &[BootImage]) -> Self {
        Self {
            out,
            server,
            nodes: Mutex::new(nodes),
            images: Mutex::new((Instant::now(), views(images))),
            document: tokio::sync::Mutex::default(),
        }
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn nodes(&self) -> MutexGuard<'_, NodeStates> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document as it is, JSON. `None` only while this process ends.
    pub async fn document(self: Arc<Self>) -> Option<Bytes> {
        let mut document = self.document.lock().await;
        if let Some(last) = &*document {
            if last.made.elapsed() < OLDEST && last.version == self.nodes().version() {
                return Some(last.text.clone());
            }
            tokio::time::sleep(PAUSE.saturating_sub(last.made.elapsed())).await;
        }
        let lab = self.clone();
        let made = tokio::task::spawn_blocking(move || lab.make()).await.ok()?;
        let text = made.text.clone();
        *document = Some(made);
        Some(text)
    }

    fn make(&self) -> StatusDocument {
        let now = Instant::now();
        let (version, nodes) = {
            let nodes = self.nodes();
            (nodes.version(), nodes.views(now))
        };
        let images = self.images();
        let status = Status { version: 1, server: &self.server, images: &images, nodes };
        let text = serde_json::to_vec(&status).expect("plain data").into();
        StatusDocument { version, made: now, text }
    }

    /// The images as they are, or were a moment ago. While `out` cannot be read, the last ones.
    fn images(&self) -> Vec<ImageView> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.0.elapsed() > IMAGES_AGE
            && let Ok(found) = load_images(&self.out)
        {
            *images = (Instant::now(), views(&found));
        }
        images.1.clone()
    }
}

fn views(images: &[BootImage]) -> Vec<ImageView> {
    let view = |image: &BootImage| ImageView {
        name: image.name.clone(),
        recipe: image.recipe.clone(),
        summary: image.summary.clone(),
        image_id: image.image_id.clone(),
        boot_bytes: image.boot_bytes,
    };
    images.iter().map(view).collect()
}
