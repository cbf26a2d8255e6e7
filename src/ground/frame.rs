//! The native file: record batches, framed and checksummed, to be mapped and read in place.
//!
//! ```text
//! file   = head | frame*
//! head   = "CUTWATER" | version: u32 | schema_len: u32 | schema (JSON text) | 0-padding to 16
//!          | xxh3-64 of all before: u64 | 8 bytes of 0
//! frame  = "BATC" | rows: u32 | len: u64 | xxh3-64 of rows, len and the payload: u64
//!          | 8 bytes of 0 | payload (an archived RecordBatch) | 0-padding to 16
//! ```
//!
//! 1. All integers are little-endian and of fixed width; every head and payload starts at a
//!    multiple of 16, so that a mapped payload is aligned as an archive wants it.
//! 2. A frame is whole and has its checksum or it is an error that names its offset: a file cut
//!    short is not a shorter file.

use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// First bytes of a native file.
pub const MAGIC: &[u8; 8] = b"CUTWATER";
/// Version of the format written here.
pub const VERSION: u32 = 1;
/// Bytes of a frame's head.
pub const FRAME_HEAD: usize = 32;

const FRAME_MAGIC: &[u8; 4] = b"BATC";

/// What is wrong with a native file, and where (bytes from its start).
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("not a native file: it does not start with CUTWATER")]
    Magic,
    #[error("native file of version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("native file cut short at byte {at}: {missing} bytes are missing")]
    Short { at: usize, missing: usize },
    #[error("damaged native file: the checksum at byte {at} is wrong")]
    Checksum { at: usize },
    #[error("damaged native file: no batch starts at byte {at}")]
    Frame { at: usize },
}

/// Where a frame's payload lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Byte at which the frame's head starts.
    pub at: usize,
    /// Byte at which the payload starts.
    pub payload: usize,
    /// Bytes of the payload.
    pub len: usize,
    /// Rows in the payload.
    pub rows: usize,
}

impl Frame {
    /// Byte at which the next frame starts.
    pub fn end(&self) -> usize {
        (self.payload + self.len).next_multiple_of(16)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

/// The head of a file whose schema is described by `schema`.
pub fn write_head(schema: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(schema.len() as u32).to_le_bytes());
    out.extend_from_slice(schema.as_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(16), 0);
    let sum = xxh3_64(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
}

/// Reads a file's head: the schema's text and the byte at which the first frame starts.
///
/// # Errors
/// Any [`FrameError`].
pub fn read_head(file: &[u8]) -> Result<(&str, usize), FrameError> {
    if file.len() < 16 || &file[..8] != MAGIC {
        return Err(FrameError::Magic);
    }
    if half(file, 8) != VERSION {
        return Err(FrameError::Version(half(file, 8)));
    }
    let schema_end = 16 + half(file, 12) as usize;
    let sum_at = schema_end.next_multiple_of(16);
    if file.len() < sum_at + 16 {
        return Err(FrameError::Short { at: file.len(), missing: sum_at + 16 - file.len() });
    }
    if xxh3_64(&file[..sum_at]) != word(file, sum_at) {
        return Err(FrameError::Checksum { at: sum_at });
    }
    let schema = std::str::from_utf8(&file[16..schema_end]);
    Ok((schema.map_err(|_| FrameError::Checksum { at: 16 })?, sum_at + 16))
}

fn sum(rows: u32, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&rows.to_le_bytes());
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

/// Writes one batch's archive as a frame. `out` must so far hold a multiple of 16 bytes.
pub fn write_frame(rows: usize, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(out.len() % 16, 0);
    out.extend_from_slice(FRAME_MAGIC);
    out.extend_from_slice(&(rows as u32).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&sum(rows as u32, payload).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(16), 0);
}

/// Finds the frame at a byte of a file, `None` at its end; reads the head only.
///
/// # Errors
/// [`FrameError::Frame`] or [`FrameError::Short`].
pub fn find_frame(file: &[u8], at: usize) -> Result<Option<Frame>, FrameError> {
    if at == file.len() {
        return Ok(None);
    }
    if file.len() < at + FRAME_HEAD {
        let missing = at + FRAME_HEAD - file.len();
        return Err(FrameError::Short { at: file.len(), missing });
    }
    if &file[at..at + 4] != FRAME_MAGIC {
        return Err(FrameError::Frame { at });
    }
    let len = usize::try_from(word(file, at + 8)).map_err(|_| FrameError::Frame { at })?;
    let frame = Frame { at, payload: at + FRAME_HEAD, len, rows: half(file, at + 4) as usize };
    let end = frame.payload.checked_add(len).ok_or(FrameError::Frame { at })?;
    let end = end.checked_next_multiple_of(16).ok_or(FrameError::Frame { at })?;
    if file.len() < end {
        return Err(FrameError::Short { at: file.len(), missing: end - file.len() });
    }
    Ok(Some(frame))
}

/// Checks a frame's checksum.
///
/// # Errors
/// [`FrameError::Checksum`].
pub fn check_frame(file: &[u8], frame: &Frame) -> Result<(), FrameError> {
    let payload = &file[frame.payload..frame.payload + frame.len];
    if sum(frame.rows as u32, payload) == word(file, frame.at + 16) {
        Ok(())
    } else {
        Err(FrameError::Checksum { at: frame.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        write_head("[\"a\"]", &mut file);
        write_frame(3, b"payload of some length", &mut file);
        write_frame(1, b"", &mut file);
        file
    }

    fn read(file: &[u8]) -> Result<Vec<(usize, Vec<u8>)>, FrameError> {
        let (_, mut at) = read_head(file)?;
        let mut frames = Vec::new();
        while let Some(frame) = find_frame(file, at)? {
            check_frame(file, &frame)?;
            let payload = file[frame.payload..frame.payload + frame.len].to_vec();
            frames.push((frame.rows, payload));
            at = frame.end();
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_back() {
        assert_eq!(read_head(&file()).unwrap().0, "[\"a\"]");
        let expected = vec![(3, b"payload of some length".to_vec()), (1, Vec::new())];
        assert_eq!(read(&file()), Ok(expected));
    }

    #[test]
    fn every_cut_is_an_error_but_between_frames() {
        let (file, (_, first)) = (file(), read_head(&file()).unwrap());
        let second = find_frame(&file, first).unwrap().unwrap().end();
        for len in 0..file.len() {
            let whole = len == first || len == second;
            assert_eq!(read(&file[..len]).is_ok(), whole, "cut at {len}");
        }
    }

    #[test]
    fn every_flipped_bit_that_matters_is_found() {
        let good = file();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(frames) = read(&bad) {
                assert_eq!(Ok(frames), read(&good), "bit {bit} changed the answer");
            }
        }
    }
}
