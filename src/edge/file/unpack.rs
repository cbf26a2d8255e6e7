//! Plain, gzip and zstd files as one stream of bytes.
//!
//! 1. What a file is follows from its first bytes; its name is only checked against them.
//! 2. A compressed file may have several members or frames, one after the other (`cat a.gz b.gz`).
//! 3. One that ends too early or is damaged is an error that says where, never a shorter file.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::edge::file::find::refused;
use crate::port::PortError;

/// Bytes read from a compressed file at once.
const PACKED_BYTES: usize = 64 << 10;

/// The file from its start, of which the first bytes were looked at.
type Whole = Chain<Cursor<Vec<u8>>, File>;

/// Counts the bytes that were read through it.
struct Counted {
    file: Whole,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.read += read as u64;
        Ok(read)
    }
}

enum Stream {
    Plain(Whole),
    Gzip(Box<MultiGzDecoder<BufReader<Counted>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Counted>>),
}

/// An open file, unpacked while it is read.
pub struct Unpacked {
    stream: Stream,
    path: PathBuf,
}

impl Unpacked {
    /// Opens a file, whatever its compression.
    ///
    /// # Errors
    /// [`PortError::Setup`] if it may not be read; [`PortError::Data`] if its name promises a
    /// compression that its first bytes do not show.
    pub fn open(path: &Path) -> Result<Unpacked, PortError> {
        let mut file = File::open(path).map_err(|error| refused(path, &error))?;
        let mut start = Vec::with_capacity(4);
        (&mut file).take(4).read_to_end(&mut start).map_err(|error| refused(path, &error))?;
        let packed = |start: Vec<u8>| {
            let file = Cursor::new(start).chain(file.try_clone()?);
            let counted = Counted { file, read: 0 };
            Ok(BufReader::with_capacity(PACKED_BYTES, counted))
        };
        let stream = if start.starts_with(&[0x1F, 0x8B]) {
            let gzip = packed(start).map(|from| Box::new(MultiGzDecoder::new(from)));
            gzip.map(Stream::Gzip)
        } else if is_zstd(&start) {
            packed(start).and_then(zstd::stream::read::Decoder::with_buffer).map(Stream::Zstd)
        } else if let Some(name) = promised(path) {
            return Err(PortError::Data(format!(
                "`{}` is named as {name} data but does not start as such (its first bytes are \
                 {start:02x?}); was it cut short, or is it a plain file under a wrong name?",
                path.display()
            )));
        } else {
            Ok(Stream::Plain(Cursor::new(start).chain(file)))
        };
        Ok(Unpacked {
            stream: stream.map_err(|error| refused(path, &error))?,
            path: path.to_path_buf(),
        })
    }

    /// What a failed read after `unpacked` good bytes means.
    pub fn failure(&self, error: io::Error, unpacked: u64) -> PortError {
        let (name, at) = match &self.stream {
            Stream::Plain(_) => {
                return PortError::Io {
                    what: format!("cannot read `{}` at byte {unpacked}", self.path.display()),
                    source: error,
                };
            }
            Stream::Gzip(decoder) => ("gzip", position(decoder.get_ref())),
            Stream::Zstd(decoder) => ("zstd", position(decoder.get_ref())),
        };
        if error.raw_os_error().is_some() {
            return PortError::Io {
                what: format!("cannot read `{}` at byte {at}", self.path.display()),
                source: error,
            };
        }
        let why = if error.kind() == io::ErrorKind::UnexpectedEof {
            "the data ends too early; was the file copied whole, and is it still being written?"
                .to_string()
        } else {
            format!("the data is damaged: {error}")
        };
        PortError::Data(format!(
            "`{}`, {name}, at byte {at} (byte {unpacked} of what is in it): {why}",
            self.path.display()
        ))
    }
}

impl Read for Unpacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(file) => file.read(out),
            Stream::Gzip(decoder) => decoder.read(out),
            Stream::Zstd(decoder) => decoder.read(out),
        }
    }
}

/// Bytes of the file that were used, not only read.
fn position(from: &BufReader<Counted>) -> u64 {
    from.get_ref().read - from.buffer().len() as u64
}

/// A frame of zstd, or one of its skippable frames.
fn is_zstd(start: &[u8]) -> bool {
    matches!(start, [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18])
}

/// The compression that a file's name speaks of.
fn promised(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "gz" => Some("gzip"),
        "zst" | "zstd" => Some("zstd"),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// Bytes that do not compress to nothing.
    pub fn text(len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0u64.. {
            let word = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            bytes.extend_from_slice(format!("{{\"n\":{i},\"word\":{word}}}\n").as_bytes());
            if bytes.len() >= len {
                break;
            }
        }
        bytes
    }

    /// One gzip member.
    pub fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// One zstd frame, with its checksum.
    pub fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut file = Unpacked::open(&path).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        match file.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(file.failure(error, out.len() as u64).to_string()),
        }
    }

    /// Asserts what a file of that name and those bytes reads as.
    fn check(name: &str, bytes: &[u8], expected: &[u8]) {
        assert!(read(name, bytes).as_deref() == Ok(expected), "{name}");
    }

    #[test]
    fn every_compression_reads_as_what_was_packed() {
        let text = text(200_000);
        let halves = text.split_at(77_777);
        check("a.jsonl", &text, &text);
        check("a.jsonl.gz", &gzip(&text), &text);
        check("a.jsonl.zst", &zstd(&text), &text);
        check("told by its bytes.jsonl", &zstd(&text), &text);
        check("told by its bytes", &gzip(&text), &text);
        check("two.gz", &[gzip(halves.0), gzip(halves.1)].concat(), &text);
        check("two.zst", &[zstd(halves.0), zstd(halves.1)].concat(), &text);
        let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3], &*zstd(&text)].concat();
        check("skippable.zst", &skippable, &text);
        check("empty", b"", b"");
        check("three", b"abc", b"abc");
        check("packed nothing.gz", &gzip(b""), b"");
        check("packed nothing.zst", &zstd(b""), b"");
    }

    #[test]
    fn packed_data_cut_anywhere_is_an_error_that_says_where() {
        let text = text(300);
        for (name, packed) in [("a.gz", gzip(&text)), ("a.zst", zstd(&text))] {
            for len in 0..packed.len() {
                let error = read(name, &packed[..len]).unwrap_err();
                assert!(error.contains(name), "{error}");
                let said = error.contains("cut short") || error.contains("ends too early");
                assert!(said, "cut at {len}: {error}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_passes_as_other_data() {
        let text = text(300);
        for (name, packed) in [("a.gz", gzip(&text)), ("a.zst", zstd(&text))] {
            for bit in 0..packed.len() * 8 {
                let mut bad = packed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                if let Ok(read) = read(name, &bad) {
                    assert!(read == text, "{name}, bit {bit}");
                }
            }
        }
        let error =
            read("a.gz", &[&gzip(b"a"), &b"rubbish longer than a head"[..]].concat()).unwrap_err();
        assert!(error.contains("damaged") && error.contains("byte 1 of"), "{error}");
    }
}
