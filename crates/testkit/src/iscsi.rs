//! What tgtd does not do: a portal that sends initiators elsewhere, and one that asks them out (RFC 7143 section 11).

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Size of a basic header segment.
const HEADER: usize = 48;

/// A PDU: header, then additional headers and padded data.
struct Pdu {
    header: [u8; HEADER],
    rest: Vec<u8>,
}

impl Pdu {
    fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header)?;
        let data = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let mut rest = vec![0; usize::from(header[4]) * 4 + data.next_multiple_of(4)];
        stream.read_exact(&mut rest)?;
        Ok(Self { header, rest })
    }

    fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&[&self.header[..], &self.rest].concat())
    }
}

/// Serves connections until the test's process ends; what goes wrong with one of them shows in the guest.
fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// A portal that tells every initiator that the target moved to a port of the guest's host, for now.
pub fn redirect(to: u16) -> u16 {
    listen(move |mut stream| {
        let asked = Pdu::read(&mut stream)?;
        let mut header = [0; HEADER];
        header[0] = 0x23;
        header[8..20].copy_from_slice(&asked.header[8..20]);
        // Class 1: redirection, detail 1: temporary.
        (header[36], header[37]) = (1, 1);
        let mut rest = format!("TargetAddress=10.0.2.2:{to},1\0").into_bytes();
        header[7] = rest.len() as u8;
        rest.resize(rest.len().next_multiple_of(4), 0);
        Pdu { header, rest }.write(&mut stream)
    })
}

/// A portal that passes on what both sides say.
pub struct Relay {
    pub port: u16,
    /// The current connection's target side is to ask for a logout.
    ask: Arc<AtomicBool>,
    /// Opcodes of what initiators sent, without the flag for immediate delivery.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    pub fn start(target: u16) -> Self {
        let (ask, said) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (asking, saying) = (ask.clone(), said.clone());
        let port = listen(move |mut initiator| {
            let mut target = TcpStream::connect(("127.0.0.1", target))?;
            let (mut from, mut to) = (initiator.try_clone()?, target.try_clone()?);
            let said = saying.clone();
            thread::spawn(move || -> io::Result<()> {
                loop {
                    let pdu = Pdu::read(&mut from)?;
                    said.lock().expect("no other thread failed").push(pdu.header[0] & 0x3f);
                    pdu.write(&mut to)?;
                }
            });
            loop {
                let pdu = Pdu::read(&mut target)?;
                pdu.write(&mut initiator)?;
                // A status, by itself or with the last data: its numbers are those of the message that follows it.
                let status = matches!((pdu.header[0] & 0x3f, pdu.header[1] & 1), (0x21, _) | (0x25, 1));
                if status && asking.swap(false, Ordering::SeqCst) {
                    ask_out(&pdu.header).write(&mut initiator)?;
                }
            }
        });
        Self { port, ask, said }
    }

    /// The target's next answer to a command is followed by the request to log out.
    pub fn ask_out(&self) {
        self.ask.store(true, Ordering::SeqCst);
    }

    /// Whether an initiator has sent such a PDU.
    pub fn has_seen(&self, opcode: u8) -> bool {
        self.said.lock().expect("no other thread failed").contains(&opcode)
    }
}

/// An asynchronous message, event 1: log out within 5 s. StatSN is not a new one, so that the target need not know.
fn ask_out(after: &[u8; HEADER]) -> Pdu {
    let mut header = [0; HEADER];
    (header[0], header[1]) = (0x32, 0x80);
    header[16..20].fill(0xff);
    header[24..36].copy_from_slice(&after[24..36]);
    (header[36], header[43]) = (1, 5);
    Pdu { header, rest: Vec::new() }
}
