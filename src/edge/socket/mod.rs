//! The `socket` source: lines of one TCP peer, until it closes.
//!
//! 1. A line is given as soon as it is whole; what came with it comes along, up to a block.
//! 2. The end of the peer's stream is the end of the source. A connection that breaks is an error,
//!    since rows may be missing.
//! 3. Nothing waits without a bound: not for a peer's answer, not for a line.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::edge::lines::{LineLimits, Lines, Live};
use crate::ground::limits::CONNECT_MS_MAX;
use crate::port::{Next, PortError, Source, Text};

/// How often a listener looks for its peer, in ms.
const ACCEPT_MS: u64 = 2;

/// Who calls whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketMode {
    /// The source calls a server at the address (`nc -lk 9000` is one).
    #[default]
    Connect,
    /// The source waits at the address for one peer to call.
    Listen,
}

/// What a `socket` source is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSourceOptions {
    /// `host:port`.
    pub address: String,
    pub mode: SocketMode,
}

enum Peer {
    Awaited(TcpListener),
    Connected(TcpStream),
    Gone,
}

/// The source.
pub struct SocketSource {
    peer: Peer,
    lines: Lines,
    address: String,
    /// What the stream's read timeout is set to, ms.
    timeout_ms: u64,
}

impl SocketSource {
    /// Connects, or starts to listen.
    ///
    /// # Errors
    /// [`PortError::Setup`], naming the address: it cannot be resolved, is refused, does not answer
    /// within `CONNECT_MS_MAX`, or is in use.
    pub fn open(options: &SocketSourceOptions) -> Result<SocketSource, PortError> {
        let addresses = resolve(&options.address)?;
        let peer = match options.mode {
            SocketMode::Connect => Peer::Connected(connect(&options.address, &addresses)?),
            SocketMode::Listen => Peer::Awaited(listen(&options.address, &addresses)?),
        };
        Ok(SocketSource {
            peer,
            lines: Lines::new(options.address.as_str().into(), LineLimits::default()),
            address: options.address.clone(),
            timeout_ms: 0,
        })
    }

    /// Where a listening source listens, once port 0 has become a real one; `None` if it does not.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.peer {
            Peer::Awaited(listener) => listener.local_addr().ok(),
            _ => None,
        }
    }

    fn broken(&self, source: io::Error) -> PortError {
        PortError::Io {
            what: format!(
                "the connection with `{}` broke after {} bytes; rows may be missing",
                self.address,
                self.lines.position()
            ),
            source,
        }
    }

    /// Waits for the peer of a listener; whether it is there.
    fn accept(&mut self, until: Instant) -> Result<bool, PortError> {
        let Peer::Awaited(listener) = &self.peer else {
            return Ok(true);
        };
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let ready = stream.set_nonblocking(false);
                    self.peer = Peer::Connected(stream);
                    self.timeout_ms = 0;
                    return ready.map(|()| true).map_err(|error| self.broken(error));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(Duration::from_millis(ACCEPT_MS)));
        }
    }
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>, PortError> {
    let found = address.to_socket_addrs().map(Vec::from_iter);
    let why = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "the name has no address".to_string(),
        Err(error) => error.to_string(),
    };
    Err(PortError::Setup(format!(
        "`{address}` is no address to reach: {why}; write it as \"host:port\", for instance \
         \"127.0.0.1:9000\""
    )))
}

fn connect(address: &str, addresses: &[SocketAddr]) -> Result<TcpStream, PortError> {
    let until = Instant::now() + Duration::from_millis(CONNECT_MS_MAX);
    let mut why = String::new();
    for candidate in addresses {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(candidate, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{candidate}: {error}"),
        }
    }
    Err(PortError::Setup(format!(
        "cannot connect to `{address}` ({why}); start the server first (`nc -lk 9000` is one), or \
         set mode = \"listen\" to let the peer call"
    )))
}

fn listen(address: &str, addresses: &[SocketAddr]) -> Result<TcpListener, PortError> {
    let listener = TcpListener::bind(addresses);
    let ready = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    ready.map_err(|error| {
        PortError::Setup(format!(
            "cannot listen at `{address}`: {error}; choose a free port of this machine"
        ))
    })
}

/// Reads a stream until a point in time, however often it gives too little.
struct Until<'a> {
    stream: &'a TcpStream,
    until: Instant,
    timeout_ms: &'a mut u64,
    has_read: bool,
}

impl Read for Until<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() && self.has_read {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.has_read = true;
        // A timeout of 0 would mean for ever.
        let left_ms = (left.as_millis() as u64).max(1);
        if *self.timeout_ms != left_ms {
            self.stream.set_read_timeout(Some(Duration::from_millis(left_ms)))?;
            *self.timeout_ms = left_ms;
        }
        let mut stream = self.stream;
        stream.read(out)
    }
}

impl Source for SocketSource {
    fn next(&mut self, wait_ms: u64) -> Result<Next, PortError> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        if !self.accept(until)? {
            return Ok(Next::Idle);
        }
        let Peer::Connected(stream) = &self.peer else {
            return Ok(Next::End);
        };
        let mut input = Until { stream, until, timeout_ms: &mut self.timeout_ms, has_read: false };
        match self.lines.next_live(&mut input) {
            Ok(Live::Block(block)) => Ok(Next::Block(block)),
            Ok(Live::Idle) => Ok(Next::Idle),
            Ok(Live::End) => {
                self.peer = Peer::Gone;
                Ok(Next::End)
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    fn recycle(&mut self, text: Text) {
        self.lines.recycle(text);
    }

    /// It does end when the peer closes, but nobody can wait for that, and what a block holds
    /// depends on when its bytes came.
    fn is_bounded(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Block;
    use std::io::Write;

    /// Ample: a test that waits so long has failed.
    const WAIT_MS: u64 = 20_000;

    fn pair(mode: SocketMode) -> (SocketSource, TcpStream) {
        match mode {
            SocketMode::Connect => {
                let server = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = server.local_addr().unwrap().to_string();
                let source = SocketSource::open(&SocketSourceOptions { address, mode }).unwrap();
                (source, server.accept().unwrap().0)
            }
            SocketMode::Listen => {
                let address = "127.0.0.1:0".to_string();
                let source = SocketSource::open(&SocketSourceOptions { address, mode }).unwrap();
                let peer = TcpStream::connect(source.local_address().unwrap()).unwrap();
                (source, peer)
            }
        }
    }

    /// Asks until bytes come: all blocks up to that many bytes or the end.
    fn take(source: &mut SocketSource, bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < bytes {
            match source.next(WAIT_MS).unwrap() {
                Next::Block(Block::Text { text, at, .. }) => {
                    assert!(at >= taken.len() as u64);
                    taken.extend_from_slice(text.text());
                    source.recycle(text);
                }
                Next::Block(other) => panic!("no lines: {other:?}"),
                Next::Idle => panic!("waited {WAIT_MS} ms for nothing"),
                Next::End => break,
            }
        }
        taken
    }

    #[test]
    fn lines_come_while_the_peer_is_there_and_the_rest_when_it_closes() {
        for mode in [SocketMode::Connect, SocketMode::Listen] {
            let (mut source, mut peer) = pair(mode);
            peer.write_all(b"a\nb").unwrap();
            assert_eq!(take(&mut source, 2), b"a\n");
            assert!(matches!(source.next(1), Ok(Next::Idle)));
            peer.write_all(b"c\nd").unwrap();
            assert_eq!(take(&mut source, 3), b"bc\n");
            drop(peer);
            assert_eq!(take(&mut source, 1), b"d");
            for _ in 0..2 {
                assert!(matches!(source.next(WAIT_MS), Ok(Next::End)));
            }
        }
    }

    #[test]
    fn much_at_once_comes_whole_and_in_order() {
        let (mut source, mut peer) = pair(SocketMode::Connect);
        let sent: Vec<u8> = (0..200_000u32).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || peer.write_all(&copy).unwrap());
        assert!(take(&mut source, usize::MAX) == sent);
        writer.join().unwrap();
    }

    #[test]
    fn a_listener_without_a_peer_is_idle() {
        let address = "127.0.0.1:0".to_string();
        let mode = SocketMode::Listen;
        let mut source = SocketSource::open(&SocketSourceOptions { address, mode }).unwrap();
        assert!(matches!(source.next(1), Ok(Next::Idle)));
    }

    /// Asserts that an address is refused with these words.
    fn check_refused(address: &str, mode: SocketMode, word: &str) {
        let address = address.to_string();
        let options = SocketSourceOptions { address, mode };
        let error = SocketSource::open(&options).err().unwrap().to_string();
        assert!(error.contains(word) && error.contains(&options.address), "{error}");
    }

    #[test]
    fn addresses_that_lead_nowhere_are_named() {
        let free = {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            server.local_addr().unwrap().to_string()
        };
        check_refused(&free, SocketMode::Connect, "start the server first");
        check_refused("127.0.0.1", SocketMode::Connect, "host:port");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        check_refused(&address, SocketMode::Listen, "free port");
    }
}
