//! Cuts bytes into blocks of whole lines.
//!
//! 1. Where blocks end is a pure function of the bytes, never of how many of them a read happened
//!    to give: a block is the longest run of whole lines of at most `block_bytes` in all, or a
//!    single line where that alone is longer. A last line without its newline counts as if it had
//!    one. (A live peer's pauses end blocks too, see
//!    [`Lines::next_live`].)
//! 2. The blocks of an input, one after the other, are its bytes, but for lines of more than
//!    `line_bytes`, which become [`Block::TooLong`], and for a header line that was asked for
//!    ([`Lines::head`]): invariant 1 then speaks of what comes after it.
//! 3. At most `line_bytes` and one block are held, whatever comes.
//! 4. Nothing but `\n` ends a line; a `\r` before it is the decoder's. The last line needs no end.

use std::io::{self, Read};
use std::sync::Arc;

use crate::ground::limits::{BLOCK_BYTES, BLOCKS_QUEUED, LINE_BYTES_MAX, REJECTED_RAW_BYTES};
use crate::port::{Block, Text};

/// How long blocks and lines may get, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    pub block_bytes: usize,
    pub line_bytes: usize,
}

impl Default for LineLimits {
    fn default() -> LineLimits {
        LineLimits { block_bytes: BLOCK_BYTES, line_bytes: LINE_BYTES_MAX }
    }
}

/// What [`Lines::next_live`] found.
#[derive(Debug)]
pub enum Live {
    Block(Block),
    /// The peer said nothing more in time.
    Idle,
    /// The peer is done.
    End,
}

/// What [`Lines::head`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// The first line, without its newline.
    Line(Arc<[u8]>),
    /// The input has no line.
    Empty,
    /// The first line is longer than a block, see [`LineLimits`].
    TooLong,
}

struct TooLong {
    start: Vec<u8>,
    len: u64,
}

/// Reads one input after the other and gives their blocks.
pub struct Lines {
    limits: LineLimits,
    origin: Arc<str>,
    /// The input's header line, which every block carries.
    head: Option<Arc<[u8]>>,
    /// Byte of the input at which `buffer` starts.
    at: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read; the rest is room.
    filled: usize,
    /// No newline stands before this place of `buffer`, if it is past `block_bytes`.
    searched: usize,
    too_long: Option<TooLong>,
    spare: Vec<Vec<u8>>,
}

impl Lines {
    /// For an input named `origin`.
    ///
    /// # Panics
    /// If a line may not be as long as a block.
    pub fn new(origin: Arc<str>, limits: LineLimits) -> Lines {
        assert!(
            0 < limits.block_bytes && limits.block_bytes <= limits.line_bytes,
            "a line may be as long as a block"
        );
        Lines {
            limits,
            origin,
            head: None,
            at: 0,
            buffer: Vec::new(),
            filled: 0,
            searched: 0,
            too_long: None,
            spare: Vec::new(),
        }
    }

    /// Goes on with another input, whose bytes count from 0; what was not taken of the one before
    /// is forgotten.
    pub fn restart(&mut self, origin: Arc<str>) {
        self.origin = origin;
        self.head = None;
        (self.at, self.filled, self.searched) = (0, 0, 0);
        self.too_long = None;
    }

    /// Byte of the input up to which it has been read.
    pub fn position(&self) -> u64 {
        let skipped = self.too_long.as_ref().map_or(0, |line| line.len);
        self.at + skipped + self.filled as u64
    }

    /// Takes memory back for a later block.
    pub fn recycle(&mut self, text: Text) {
        let bytes = text.into_bytes();
        if self.spare.len() < BLOCKS_QUEUED && !self.is_large(&bytes) && bytes.capacity() > 0 {
            self.spare.push(bytes);
        }
    }

    /// Whether memory was taken for a long line and should not be kept for the blocks after.
    fn is_large(&self, bytes: &Vec<u8>) -> bool {
        bytes.capacity() > 4 * self.limits.block_bytes + Text::PADDING
    }

    /// Reads the first line of an input apart from those below it: its header. To be called
    /// before the first block.
    ///
    /// # Errors
    /// What reading says; then nothing was lost, and the call may be repeated.
    pub fn head(&mut self, input: &mut impl Read) -> io::Result<Head> {
        assert!(self.at == 0 && self.too_long.is_none(), "no block was taken yet");
        let mut searched = 0;
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[searched..self.filled]);
            if let Some(len) = found {
                return Ok(self.take_head(searched + len, searched + len + 1));
            }
            if self.filled >= self.limits.block_bytes {
                return Ok(Head::TooLong);
            }
            searched = self.filled;
            if self.fill(input)? == 0 {
                let all = self.filled;
                return Ok(if all == 0 { Head::Empty } else { self.take_head(all, all) });
            }
        }
    }

    /// Makes the first `len` bytes the header; the blocks begin at `next`.
    fn take_head(&mut self, len: usize, next: usize) -> Head {
        let line: Arc<[u8]> = self.buffer[..len].into();
        self.buffer.copy_within(next..self.filled, 0);
        self.filled -= next;
        self.at = next as u64;
        self.head = Some(line.clone());
        Head::Line(line)
    }

    /// The next block of `input`, `None` at its end. Waits for as much as a block takes.
    ///
    /// # Errors
    /// What reading says; then nothing was lost, and the call may be repeated.
    pub fn next(&mut self, input: &mut impl Read) -> io::Result<Option<Block>> {
        loop {
            if let Some(block) = self.cut() {
                return Ok(Some(block));
            }
            if self.fill(input)? == 0 {
                return Ok(self.rest());
            }
        }
    }

    /// The next block of a peer that may pause: all whole lines that are there once a read gives
    /// less than it could, so that nothing waits for a block to fill. A line under way is kept.
    /// [`Live::Idle`] if a read timed out or would have blocked.
    ///
    /// # Errors
    /// What reading says otherwise.
    pub fn next_live(&mut self, input: &mut impl Read) -> io::Result<Live> {
        loop {
            if let Some(block) = self.cut() {
                return Ok(Live::Block(block));
            }
            let room = self.room();
            match self.fill(input) {
                Ok(0) => return Ok(self.rest().map_or(Live::End, Live::Block)),
                Ok(read) if read == room => {}
                Ok(_) => {
                    if let Some(block) = self.whole_lines() {
                        return Ok(Live::Block(block));
                    }
                }
                Err(error) => {
                    let waited =
                        matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                    return if waited { Ok(Live::Idle) } else { Err(error) };
                }
            }
        }
    }

    /// A block that follows from what is there alone (invariant 1).
    fn cut(&mut self) -> Option<Block> {
        if self.too_long.is_some() {
            return self.end_too_long();
        }
        if self.filled < self.limits.block_bytes {
            return None;
        }
        let start = &self.buffer[..self.limits.block_bytes];
        if let Some(last) = memchr::memrchr(b'\n', start) {
            return Some(self.take(last + 1));
        }
        let from = self.searched.max(self.limits.block_bytes);
        if let Some(first) = memchr::memchr(b'\n', &self.buffer[from..self.filled]) {
            let end = from + first;
            return Some(if end > self.limits.line_bytes {
                self.drop_line();
                self.end_too_long().expect("its end was just seen")
            } else {
                self.take(end + 1)
            });
        }
        self.searched = self.filled;
        if self.filled > self.limits.line_bytes {
            self.drop_line();
            return self.end_too_long();
        }
        None
    }

    /// All whole lines that are there, fewer than a block has.
    fn whole_lines(&mut self) -> Option<Block> {
        if self.too_long.is_some() || self.filled >= self.limits.block_bytes {
            return None;
        }
        let last = memchr::memrchr(b'\n', &self.buffer[..self.filled])?;
        Some(self.take(last + 1))
    }

    /// What is left at the end of the input.
    fn rest(&mut self) -> Option<Block> {
        if let Some(line) = self.too_long.take() {
            return Some(self.too_long_block(line));
        }
        (self.filled > 0).then(|| self.take(self.filled))
    }

    fn room(&self) -> usize {
        let block = self.limits.block_bytes;
        if self.filled < block { block - self.filled } else { block }
    }

    /// Reads once more, at most what makes a block or, in a longer line, a block's worth.
    fn fill(&mut self, input: &mut impl Read) -> io::Result<usize> {
        let end = self.filled + self.room();
        if self.buffer.len() < end {
            let (wanted, held) = (end + Text::PADDING, self.buffer.capacity());
            if held < wanted {
                // Grows by doubling, but never past what a line may take (invariant 3).
                let most = self.limits.line_bytes + self.limits.block_bytes + Text::PADDING;
                let more = wanted.max(2 * held).min(most);
                self.buffer.reserve_exact(more - self.buffer.len());
            }
            self.buffer.resize(end, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.filled..end]) {
                Ok(read) => {
                    self.filled += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the first `len` bytes a block; the rest starts the next one.
    fn take(&mut self, len: usize) -> Block {
        let mut next = self.spare.pop().unwrap_or_default();
        let rest = self.filled - len;
        if rest > 0 || !next.is_empty() {
            next.resize(next.len().max(rest), 0);
            next[..rest].copy_from_slice(&self.buffer[len..self.filled]);
        }
        let mut bytes = std::mem::replace(&mut self.buffer, next);
        bytes.truncate(len);
        let (text, origin) = (Text::new(bytes), self.origin.clone());
        let block = Block::Text { text, origin, at: self.at, head: self.head.clone() };
        self.at += len as u64;
        (self.filled, self.searched) = (rest, 0);
        block
    }

    /// Keeps no more of the line under way than its start.
    fn drop_line(&mut self) {
        let kept = REJECTED_RAW_BYTES.min(self.limits.line_bytes);
        self.too_long = Some(TooLong { start: self.buffer[..kept].to_vec(), len: 0 });
    }

    /// Counts what is there of a line that is too long, and gives it if its end is there.
    fn end_too_long(&mut self) -> Option<Block> {
        let line = self.too_long.as_mut()?;
        let end = memchr::memchr(b'\n', &self.buffer[..self.filled]);
        let Some(end) = end else {
            line.len += self.filled as u64;
            (self.filled, self.searched) = (0, 0);
            if self.is_large(&self.buffer) {
                self.buffer = Vec::new();
            }
            return None;
        };
        line.len += end as u64;
        let line = self.too_long.take()?;
        let block = self.too_long_block(line);
        self.at += 1;
        self.buffer.copy_within(end + 1..self.filled, 0);
        (self.filled, self.searched) = (self.filled - end - 1, 0);
        if self.is_large(&self.buffer) {
            self.buffer.truncate(self.filled);
            self.buffer.shrink_to_fit();
        }
        Some(block)
    }

    fn too_long_block(&mut self, line: TooLong) -> Block {
        let at = self.at;
        self.at += line.len;
        Block::TooLong { start: line.start, len: line.len, origin: self.origin.clone(), at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: LineLimits = LineLimits { block_bytes: 16, line_bytes: 40 };

    /// Gives at most so many bytes a read, as a pipe does.
    struct Drips<'a> {
        left: &'a [u8],
        sizes: Vec<usize>,
        reads: usize,
    }

    impl Read for Drips<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            let size = self.sizes[self.reads % self.sizes.len()].max(1);
            let len = size.min(out.len()).min(self.left.len());
            let (now, later) = self.left.split_at(len);
            out[..len].copy_from_slice(now);
            self.left = later;
            Ok(len)
        }
    }

    /// A block as plain values: where it starts, its bytes, its length.
    type Seen = (u64, Vec<u8>, u64);

    fn seen(block: Block) -> Seen {
        match block {
            Block::Text { text, at, .. } => {
                assert!(text.padded()[text.text().len()..].iter().all(|&b| b == 0));
                (at, text.text().to_vec(), text.text().len() as u64)
            }
            Block::TooLong { start, len, at, .. } => (at, start, len),
            other => panic!("no block of lines: {other:?}"),
        }
    }

    fn read(bytes: &[u8], sizes: Vec<usize>, recycle: bool) -> Vec<Seen> {
        let mut lines = Lines::new("test".into(), SMALL);
        let mut input = Drips { left: bytes, sizes, reads: 0 };
        let mut blocks = Vec::new();
        while let Some(block) = lines.next(&mut input).unwrap() {
            let most = SMALL.line_bytes + SMALL.block_bytes + Text::PADDING;
            assert!(lines.buffer.capacity() <= most, "invariant 3");
            if recycle && let Block::Text { text, origin, at, head } = block {
                let copy = Text::new(text.text().to_vec());
                lines.recycle(text);
                blocks.push(seen(Block::Text { text: copy, origin, at, head }));
            } else {
                blocks.push(seen(block));
            }
        }
        assert_eq!(lines.position(), bytes.len() as u64);
        blocks
    }

    /// Invariant 1 by the letter: lines of the whole text, gathered greedily.
    fn naive(bytes: &[u8]) -> Vec<Seen> {
        let mut blocks: Vec<Seen> = Vec::new();
        let (mut at, mut open) = (0u64, false);
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let content = line.strip_suffix(b"\n").unwrap_or(line).len();
            let last = blocks.last_mut().filter(|_| open);
            if content > SMALL.line_bytes {
                let start = line[..SMALL.line_bytes].to_vec();
                blocks.push((at, start, content as u64));
                open = false;
            } else if let Some(last) = last
                && last.1.len() + content < SMALL.block_bytes
            {
                last.1.extend_from_slice(line);
                last.2 += line.len() as u64;
            } else {
                blocks.push((at, line.to_vec(), line.len() as u64));
                open = true;
            }
            at += line.len() as u64;
        }
        blocks
    }

    fn check(bytes: &[u8], sizes: Vec<usize>) {
        let expected = naive(bytes);
        assert_eq!(read(bytes, sizes.clone(), false), expected);
        assert_eq!(read(bytes, sizes, true), expected);
    }

    proptest! {
        #[test]
        fn blocks_are_those_of_the_whole_text(
            lines in proptest::collection::vec((0..70usize, any::<bool>()), 0..30),
            end in any::<bool>(),
            sizes in proptest::collection::vec(1..60usize, 1..6),
        ) {
            let mut bytes = Vec::new();
            for (i, (len, short)) in lines.iter().enumerate() {
                let len = if *short { len % 8 } else { *len };
                bytes.extend((0..len).map(|j| b'a' + ((i + j) % 26) as u8));
                bytes.push(b'\n');
            }
            if !end {
                bytes.pop();
            }
            check(&bytes, sizes);
        }
    }

    #[test]
    fn lines_at_the_limits_fall_on_the_right_side() {
        for len in [14, 15, 16, 17, 31, 32, 33, 38, 39, 40, 41, 42, 55, 56, 57, 80] {
            for end in ["", "\n", "\nb", "\nb\n"] {
                let bytes = [&b"x".repeat(len), end.as_bytes()].concat();
                check(&bytes, vec![100]);
                check(&bytes, vec![1]);
                check(&[b"ab\n", bytes.as_slice()].concat(), vec![3, 7]);
            }
        }
        check(b"", vec![1]);
        check(b"\n\n\r\n", vec![1]);
    }

    /// Asserts the header of an input, and that the blocks after it are those of the rest.
    fn check_head(bytes: &[u8], head: Head, rest: &[u8]) {
        for sizes in [vec![1], vec![7, 3], vec![100]] {
            let mut lines = Lines::new("test".into(), SMALL);
            let mut input = Drips { left: bytes, sizes, reads: 0 };
            assert_eq!(lines.head(&mut input).unwrap(), head);
            if head == Head::TooLong {
                continue;
            }
            let skipped = (bytes.len() - rest.len()) as u64;
            let mut blocks = Vec::new();
            while let Some(block) = lines.next(&mut input).unwrap() {
                if let (Block::Text { head: Some(of), .. }, Head::Line(line)) = (&block, &head) {
                    assert_eq!(of, line);
                } else {
                    assert!(matches!(block, Block::TooLong { .. }), "every text has its header");
                }
                let (at, bytes, len) = seen(block);
                blocks.push((at - skipped, bytes, len));
            }
            assert_eq!(blocks, naive(rest));
        }
    }

    #[test]
    fn a_header_is_read_apart_and_goes_with_every_block() {
        let line = |text: &[u8]| Head::Line(text.into());
        let rest = [b"1,2\n345678,9\nabcdefg,hi\n".as_slice(), &b"x".repeat(60), b"\nend"].concat();
        check_head(&[b"a,b\r\n", rest.as_slice()].concat(), line(b"a,b\r"), &rest);
        check_head(
            &[b"0123456789abcde\n", rest.as_slice()].concat(),
            line(b"0123456789abcde"),
            &rest,
        );
        check_head(b"0123456789abcdef\n1\n", Head::TooLong, b"");
        check_head(b"a,b", line(b"a,b"), b"");
        check_head(b"a,b\n", line(b"a,b"), b"");
        check_head(b"\n1\n", line(b""), b"1\n");
        check_head(b"", Head::Empty, b"");
    }

    #[test]
    fn a_pause_of_a_live_peer_gives_the_whole_lines_so_far() {
        let mut lines = Lines::new("peer".into(), SMALL);
        let mut live = |mut bytes: &[u8]| match lines.next_live(&mut bytes).unwrap() {
            Live::Block(block) => Some(seen(block).1),
            Live::Idle | Live::End => None,
        };
        assert_eq!(live(b"ab\ncd"), Some(b"ab\n".to_vec()));
        assert_eq!(live(b"ef\n"), Some(b"cdef\n".to_vec()));
        assert_eq!(live(b""), None);
        struct Pause;
        impl Read for Pause {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        assert!(matches!(lines.next_live(&mut Pause), Ok(Live::Idle)));
    }
}
