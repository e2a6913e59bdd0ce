//! A root image from a web server: into memory, checked, then mounted by loop.

pub mod connection;
mod download;
pub mod message;
pub mod pace;
#[cfg(test)]
mod tests;
mod tls;

use super::source::{Host, Http, Source};
use super::trust::{self, ImageFacts};
use super::{Context, NetrootError, addresses, wanted};
use bootwright_base::Failure;
use bootwright_base::memory;
use bootwright_base::sys::{Mount, Sys};
use bootwright_contract::{RootImage, hex};
use connection::Stream;
use download::Sink;
pub use download::{Size, get};
use message::HeadError;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use pace::Rate;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tmpfs for the image, in the initramfs.
const FOLDER: &str = "/bootwright/fetched";
const IMAGE: &str = "/bootwright/fetched/root.img";
/// What must be left beside the image for the node to come up at all.
const SPARE_KIB: u64 = 24 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long TLS waits for the clock to be set.
const CLOCK_WAIT: Duration = Duration::from_secs(20);
/// Without a byte for so long a connection is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Server(#[from] NetrootError),
    #[error("cannot reach {address}: {cause}")]
    Connect { address: SocketAddr, cause: io::Error },
    #[error("this image has no program for https: its recipe must ask for it")]
    NoTls,
    #[error("no TLS connection to {address}: {cause}")]
    Tls { address: SocketAddr, cause: String },
    #[error("the server's certificate is not good: {0}")]
    Certificate(String),
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("the server closed the connection before the end")]
    Closed,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("the server's answer is too long")]
    TooLong,
    #[error("the server's chunks make no sense")]
    Chunk,
    #[error("the server answered {status}{}", meaning(*status))]
    Status { status: u16 },
    #[error("the server sent another part than was asked for")]
    Range,
    #[error("more than 5 redirects")]
    Redirects,
    #[error("a redirect leads to `{0}`")]
    Location(String),
    #[error("the server has a file of {found} bytes, the root image has {expected}")]
    Size { expected: u64, found: u64 },
    #[error("the file has more than {most} bytes")]
    TooLarge { most: u64 },
    #[error("only {bytes} bytes came in {seconds} s; another place is tried")]
    Slow { bytes: u64, seconds: u64 },
    #[error("cannot keep it in memory: {0}")]
    Store(#[source] io::Error),
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => " (not allowed)",
        404 => " (not found)",
        _ => "",
    }
}

impl HttpError {
    /// Whether asking again cannot help.
    fn is_final(&self) -> bool {
        match self {
            HttpError::Status { status } => (400..500).contains(status) && ![408, 416, 429].contains(status),
            HttpError::Location(_)
            | HttpError::Redirects
            | HttpError::NoTls
            | HttpError::Slow { .. }
            | HttpError::Store(_)
            | HttpError::Certificate(_) => true,
            HttpError::Size { .. } | HttpError::TooLarge { .. } | HttpError::Head(HeadError::NotHttp) => true,
            _ => false,
        }
    }
}

/// The way to web servers.
pub trait Web {
    /// A connection to the place's server.
    fn open(&self, place: &Http) -> Result<Box<dyn Stream>, HttpError>;
    /// A line for people.
    fn note(&self, text: &str);
    /// How long to go on without a byte.
    fn patience(&self, usual: Duration) -> Duration {
        usual
    }
    /// How much must come in which time; `None`: whatever comes, as there is no other place to get the file from.
    fn least_rate(&self) -> Option<Rate> {
        None
    }
}

impl Web for Context<'_> {
    fn open(&self, place: &Http) -> Result<Box<dyn Stream>, HttpError> {
        if place.tls && !tls::is_there() {
            return Err(HttpError::NoTls);
        }
        if place.tls {
            // Certificates are good at their time only; a clock that nobody sets is tried as it is.
            self.owner.await_clock(CLOCK_WAIT);
        }
        let mut outcome = None;
        for address in addresses(self, &place.host, &Source::Http(place.clone()).to_string())? {
            let address = SocketAddr::new(address, place.port);
            let stream = match place.tls {
                true => tls::connect(address, &server_name(&place.host, address)).map(boxed),
                false => connect(address).map(boxed),
            };
            match stream {
                Ok(stream) => return Ok(stream),
                Err(error) => outcome = Some(error),
            }
        }
        // There is at least one address: none is an error of its own.
        Err(outcome.unwrap_or(HttpError::Closed))
    }

    fn note(&self, text: &str) {
        self.journal.note(text);
    }

    fn least_rate(&self) -> Option<Rate> {
        let places = wanted(self.config, self.cmdline).ok()?.len();
        (places > 1).then(Rate::default)
    }
}

fn boxed<S: Stream + 'static>(stream: S) -> Box<dyn Stream> {
    Box::new(stream)
}

/// Who the server's certificate must be for: its name, or its address without a port or brackets.
fn server_name(host: &Host, address: SocketAddr) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::BootServer | Host::Address(_) => address.ip().to_string(),
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, HttpError> {
    let failed = |cause| HttpError::Connect { address, cause };
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(failed)?;
    Ok(stream)
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("`{url}`: {cause}")]
    Get { url: String, cause: HttpError },
    #[error("`{url}` is damaged: its hash is {found}, expected {expected}; put the image of this build there")]
    Hash { url: String, found: String, expected: String },
    #[error("`{url}` has {need} KiB, and only {free} KiB of memory are free: give the machine more RAM")]
    Memory { url: String, need: u64, free: u64 },
    #[error("cannot mount a tmpfs on `{FOLDER}`: {0}")]
    Mount(#[source] Errno),
    #[error("cannot make `{IMAGE}`: {0}")]
    File(#[source] io::Error),
}

/// The image, in a tmpfs of its own.
pub struct Fetched {
    sys: &'static dyn Sys,
    /// The tmpfs may be swapped out: pin the image if there is swap.
    pub swappable: bool,
    /// What kind of image it is.
    pub kind: RootImage,
}

/// The name goes; who has the image open keeps it.
impl Drop for Fetched {
    fn drop(&mut self) {
        // It is in nobody's way if it stays.
        let _ = self.sys.unmount(Path::new(FOLDER), MntFlags::MNT_DETACH);
    }
}

impl Fetched {
    pub fn image(&self) -> PathBuf {
        IMAGE.into()
    }
}

/// Fetches the root image and checks it.
pub fn fetch(context: &Context, source: &Http) -> Result<Fetched, Failure> {
    let ImageFacts { size, sha256: expected, image, .. } = trust::facts(context, source)?;
    let url = || Source::Http(source.clone()).to_string();
    let free = memory::available_kib();
    let need = size.div_ceil(1024);
    if free < need + SPARE_KIB {
        return Err(FetchError::Memory { url: url(), need, free }.into());
    }
    let fetched = mount_tmpfs(context.sys, size, image)?;
    let file = OpenOptions::new().write(true).create_new(true).open(IMAGE).map_err(FetchError::File)?;
    let mut sink = Hashed { file, hasher: Sha256::new() };
    get(context, source, Size::Exactly(size), &mut sink).map_err(|cause| FetchError::Get { url: url(), cause })?;
    let found = hex::encode(&sink.hasher.finalize());
    if found != expected {
        return Err(FetchError::Hash { url: url(), found, expected }.into());
    }
    Ok(fetched)
}

/// Where the image cannot be swapped out, if the kernel has that (since Linux 6.4): it is compressed already.
fn mount_tmpfs(sys: &'static dyn Sys, size: u64, image: RootImage) -> Result<Fetched, FetchError> {
    let target = Path::new(FOLDER);
    sys.make_dir(target).map_err(FetchError::Mount)?;
    // The folder and the file have a page each beside the content.
    let size = ["mode=0700,size=", &(size.div_ceil(4096) * 4096 + 65536).to_string()].concat();
    let mount =
        |data: &str| sys.mount(Mount { source: "tmpfs", target, fstype: "tmpfs", flags: MsFlags::empty(), data });
    let swappable = match mount(&[&size[..], ",noswap"].concat()) {
        Err(Errno::EINVAL) => {
            mount(&size).map_err(FetchError::Mount)?;
            true
        }
        mounted => {
            mounted.map_err(FetchError::Mount)?;
            false
        }
    };
    Ok(Fetched { sys, swappable, kind: image })
}

/// A file whose content is hashed as it comes.
struct Hashed {
    file: File,
    hasher: Sha256,
}

impl Sink for Hashed {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.hasher = Sha256::new();
        self.file.rewind()?;
        self.file.set_len(0)
    }
}
