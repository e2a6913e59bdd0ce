//! A connection, as those see it who decide whether it may go on: how much it moved, and whether it waits for its client.

use super::client::Client;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// What is known of a connection.
#[derive(Debug)]
pub struct Connection {
    pub client: Client,
    /// Bytes in both directions.
    moved: AtomicU64,
    /// A request is being answered.
    asked: AtomicBool,
    /// The client takes nothing more: its window and our socket's buffer are full.
    full: AtomicBool,
    ended: Notify,
}

impl Connection {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            moved: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            full: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Nothing was asked, or not all of a question has come.
    pub fn is_idle(&self) -> bool {
        !self.asked.load(Ordering::Relaxed) && !self.is_full()
    }

    /// It waits for its client to take what was sent.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn set_asked(&self, asked: bool) {
        self.asked.store(asked, Ordering::Relaxed);
    }

    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub fn add(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends it, whatever it is at.
    pub fn end(&self) {
        self.ended.notify_one();
    }

    /// Returns when [`end`](Self::end) was called, be it before.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub struct Counted<S> {
    pub stream: S,
    pub connection: Arc<Connection>,
}

impl<S> Counted<S> {
    fn written(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.connection.set_full(poll.is_pending());
        if let Poll::Ready(Ok(bytes)) = poll {
            self.connection.add(bytes as u64);
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.connection.add((buf.filled().len() - before) as u64);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
