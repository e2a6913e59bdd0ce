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
/// Bytes of older documents that clients are still taking. While there are as many, all get the newest one that is there:
/// clients that read slowly must not make this process hold a document each.
const MOST_TAKEN: usize = 16 << 20;

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
    document: tokio::sync::Mutex<Documents>,
}

#[derive(Debug, Default)]
struct Documents {
    newest: Option<StatusDocument>,
    /// Those before it that somebody still takes.
    older: Vec<Bytes>,
}

impl Documents {
    fn may_be_more(&mut self) -> bool {
        self.older.retain(|text| !text.is_unique());
        self.older.iter().map(Bytes::len).sum::<usize>() < MOST_TAKEN
    }

    fn put(&mut self, made: StatusDocument) {
        self.older.extend(self.newest.replace(made).map(|before| before.text));
    }
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
        let mut documents = self.document.lock().await;
        let may_be_more = documents.may_be_more();
        if let Some(last) = &documents.newest {
            let is_current = last.made.elapsed() < OLDEST && last.version == self.nodes().version();
            if is_current || !may_be_more {
                return Some(last.text.clone());
            }
            tokio::time::sleep(PAUSE.saturating_sub(last.made.elapsed())).await;
        }
        let lab = self.clone();
        let made = tokio::task::spawn_blocking(move || lab.make()).await.ok()?;
        let text = made.text.clone();
        documents.put(made);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn document(byte: u8) -> StatusDocument {
        StatusDocument { version: 0, made: Instant::now(), text: vec![byte; MOST_TAKEN / 4].into() }
    }

    #[test]
    fn documents_that_clients_still_take_are_bounded() {
        let mut documents = Documents::default();
        let mut taken = Vec::new();
        for n in 0..5 {
            assert!(documents.may_be_more(), "{n}");
            documents.put(document(n));
            taken.extend(documents.newest.as_ref().map(|newest| newest.text.clone()));
        }
        assert!(!documents.may_be_more());
        // One was taken whole, by all who took it.
        taken.remove(0);
        assert!(documents.may_be_more());
        assert_eq!(documents.older.len(), 3);
    }

    #[test]
    fn what_nobody_takes_does_not_count() {
        let mut documents = Documents::default();
        for n in 0..9 {
            assert!(documents.may_be_more(), "{n}");
            documents.put(document(n));
        }
    }
}
