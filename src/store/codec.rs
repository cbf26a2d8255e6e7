//! Compression of table blocks.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// Level of zstd: blocks are small and compactions share a core with the rows.
const ZSTD_LEVEL: i32 = 1;

/// How blocks of a table are compressed (`state.compression`); the numbers are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    None = 0,
    #[default]
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    /// The codec of a number on disk.
    pub fn from_number(number: u8) -> Option<Codec> {
        [Codec::None, Codec::Lz4, Codec::Zstd].into_iter().find(|codec| *codec as u8 == number)
    }
}

/// A compressor with its memory.
pub struct Packer {
    codec: Codec,
    zstd: Option<Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    /// A compressor of this kind. If zstd has no memory, blocks are stored as they are.
    pub fn new(codec: Codec) -> Packer {
        let zstd = (codec == Codec::Zstd).then(|| Compressor::new(ZSTD_LEVEL).ok()).flatten();
        Packer { codec, zstd, packed: Vec::new() }
    }

    /// The bytes compressed; `None` where that does not make them fewer.
    pub fn pack(&mut self, raw: &[u8]) -> Option<(Codec, &[u8])> {
        let room = match self.codec {
            Codec::None => return None,
            Codec::Lz4 => lz4_flex::block::get_maximum_output_size(raw.len()),
            Codec::Zstd => zstd::zstd_safe::compress_bound(raw.len()),
        };
        self.packed.resize(self.packed.len().max(room), 0);
        let packed = match self.codec {
            Codec::Zstd => self.zstd.as_mut()?.compress_to_buffer(raw, &mut self.packed).ok(),
            _ => lz4_flex::block::compress_into(raw, &mut self.packed).ok(),
        };
        let len = packed.filter(|len| *len < raw.len())?;
        Some((self.codec, &self.packed[..len]))
    }
}

thread_local! {
    /// Making one takes longer than using it.
    static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Undoes [`Packer::pack`]; `None` if the bytes are not what it made of `raw_len` bytes.
pub fn unpack(codec: Codec, packed: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    if codec == Codec::None {
        return (packed.len() == raw_len).then(|| packed.to_vec());
    }
    let mut raw = vec![0; raw_len];
    unpack_into(codec, packed, &mut raw)?;
    Some(raw)
}

/// As [`unpack`], into memory of just the raw form's length. What is there on failure means nothing.
pub fn unpack_into(codec: Codec, packed: &[u8], raw: &mut [u8]) -> Option<()> {
    let len = match codec {
        Codec::None if packed.len() != raw.len() => None,
        Codec::None => {
            raw.copy_from_slice(packed);
            Some(raw.len())
        }
        Codec::Lz4 => lz4_flex::block::decompress_into(packed, raw).ok(),
        Codec::Zstd => ZSTD.with_borrow_mut(|zstd| {
            if zstd.is_none() {
                *zstd = Decompressor::new().ok();
            }
            zstd.as_mut()?.decompress_to_buffer(packed, raw).ok()
        }),
    };
    (len == Some(raw.len())).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_nothing_else_does() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            assert_eq!(Codec::from_number(codec as u8), Some(codec));
            let mut packer = Packer::new(codec);
            for len in [0, 1, 100, 5000, 100_000] {
                let raw: Vec<u8> = (0..len).map(|i| (i / 7 % 50) as u8).collect();
                let Some((used, packed)) = packer.pack(&raw) else { continue };
                assert!(packed.len() < len);
                assert_eq!(unpack(used, packed, len).as_ref(), Some(&raw));
                assert_eq!(unpack(used, packed, len + 1), None);
                assert_eq!(unpack(used, packed, len - 1), None);
                assert_eq!(unpack(used, &packed[..packed.len() / 2], len), None);
            }
            assert!(packer.pack(&[7]).is_none(), "a byte cannot be shortened");
        }
        assert_eq!(Codec::from_number(3), None);
    }
}
