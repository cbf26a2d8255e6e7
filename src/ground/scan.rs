//! Leaves of text scanning: newlines, text runs and digits, many bytes at a time.
//!
//! 1. Text is *padded*: at least [`PADDING`] readable bytes follow its end. A [`Window`] is the
//!    64 bytes at a place; past the buffer it is a window of zeros, so no place is out of bounds.
//! 2. A zero byte is no digit, no quote and no letter: a scan that runs into the padding stops.
//! 3. Vector code lives here only, each leaf with a plain twin in the tests.
//!
//! Sources of the ideas: eight digits at a time by multiplication, J. Lemire's "quickly parsing
//! eight digits"; classification by compare and movemask, simdjson's first stage.

/// Readable bytes that follow a padded text.
pub const PADDING: usize = 64;

/// The 64 bytes at one place of a padded text.
pub type Window = [u8; PADDING];

static NOTHING: Window = [0; PADDING];

/// The window at `at`; zeros where the buffer has ended.
#[inline(always)]
pub fn window(padded: &[u8], at: usize) -> &Window {
    match padded.get(at..) {
        Some(rest) => rest.first_chunk().unwrap_or(&NOTHING),
        None => &NOTHING,
    }
}

/// Eight bytes of a window as a little-endian word. `at` is taken modulo 32.
#[inline(always)]
pub fn word(window: &Window, at: usize) -> u64 {
    let at = at % 32;
    let bytes: &[u8; 8] =
        window[at..at + 8].try_into().expect("eight bytes of a window were sliced");
    u64::from_le_bytes(*bytes)
}

/// The low `len` <= 8 bytes of a word, the others zero.
#[inline(always)]
pub fn low_bytes(word: u64, len: usize) -> u64 {
    debug_assert!(len <= 8);
    word & !(!0u64).unbounded_shl(8 * len as u32)
}

const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The digits at the start of eight bytes: their value and how many they are (0 to 8).
#[inline(always)]
pub fn digits(word: u64) -> (u64, usize) {
    let values = word ^ ASCII_ZEROS;
    // A byte above 9 gets its high bit set; carries spoil later bytes only.
    let wrong = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGH_BITS;
    let count = (wrong.trailing_zeros() / 8) as usize;
    (fold_digits(values.unbounded_shl(64 - 8 * count as u32)), count)
}

/// Eight digit values (0 to 9, the first in the low byte) as one number: pairs, fours, eight.
#[inline(always)]
fn fold_digits(values: u64) -> u64 {
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let high = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// What [`short_text`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortText {
    /// Bytes before the first quote, backslash, control or non-ASCII byte; 16 if there is none.
    pub len: usize,
    /// Whether that byte is a quote.
    pub closed: bool,
}

/// Scans the first 16 bytes of a window for the end of a plain quoted text.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn short_text(window: &Window) -> ShortText {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86_64, and 16 bytes of the 64 are read, unaligned.
    let (quotes, stops) = unsafe {
        let text = _mm_loadu_si128(window.as_ptr().cast());
        let quotes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'"' as i8));
        let escapes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'\\' as i8));
        // Compared as signed bytes, non-ASCII is below the blank too.
        let odd = _mm_cmplt_epi8(text, _mm_set1_epi8(0x20));
        let stops = _mm_or_si128(quotes, _mm_or_si128(escapes, odd));
        (_mm_movemask_epi8(quotes) as u32, _mm_movemask_epi8(stops) as u32)
    };
    let len = (stops | 1 << 16).trailing_zeros();
    ShortText { len: len as usize, closed: quotes >> len & 1 == 1 }
}

/// As above, where there is no SSE2.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn short_text(window: &Window) -> ShortText {
    short_text_plain(window)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn short_text_plain(window: &Window) -> ShortText {
    let stop = |&byte: &u8| byte == b'"' || byte == b'\\' || !(0x20..0x80).contains(&byte);
    let len = window[..16].iter().position(stop).unwrap_or(16);
    ShortText { len, closed: len < 16 && window[len] == b'"' }
}

/// Whether a byte ends a run of text: a quote, a backslash or a control byte.
#[inline(always)]
fn ends_text(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// The end of the text that starts at `at`: the place of the first quote, backslash or control
/// byte, and whether all before it is ASCII. Stops at the padding at the latest. O(length).
#[inline(always)]
pub fn text_end(padded: &[u8], at: usize) -> (usize, bool) {
    let mut at = at;
    let mut ascii = true;
    while let Some(rest) = padded.get(at..)
        && let Some(part) = rest.first_chunk::<16>()
    {
        let (stops, high) = classify_text(part);
        if stops != 0 {
            let len = stops.trailing_zeros();
            ascii &= high & ((1 << len) - 1) == 0;
            return (at + len as usize, ascii);
        }
        ascii &= high == 0;
        at += 16;
    }
    while at < padded.len() && !ends_text(padded[at]) {
        ascii &= padded[at] < 0x80;
        at += 1;
    }
    (at, ascii)
}

/// As [`text_end`] for a text that nothing follows: its length if nothing in it ends it.
#[inline(always)]
pub fn text_end_of(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(eight) = rest.first_chunk::<8>()
    {
        let stops = text_stops(u64::from_le_bytes(*eight));
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    if text.len() >= 8 {
        // The last eight, some of them a second time.
        let last: &[u8; 8] = text.last_chunk().expect("there are eight");
        let stops = text_stops(u64::from_le_bytes(*last));
        if stops == 0 {
            return text.len();
        }
        return text.len() - 8 + stops.trailing_zeros() as usize / 8;
    }
    text.iter().position(|&byte| ends_text(byte)).unwrap_or(text.len())
}

/// Whether nothing ends a text in the first `len` of 32 bytes.
#[inline(always)]
pub fn is_plain_short(text: &[u8; 32], len: usize) -> bool {
    let (low, high) = text.split_at(16);
    let half = |half: &[u8]| classify_text(half.first_chunk().expect("sixteen bytes")).0;
    let stops = u64::from(half(low)) | u64::from(half(high)) << 16;
    low_bits(stops, len) == 0
}

#[inline(always)]
fn low_bits(bits: u64, len: usize) -> u64 {
    bits & !(!0 << (len % 64))
}

/// Whether nothing ends a text in the low `len` < 8 bytes of a word.
#[inline(always)]
pub fn is_plain_word(word: u64, len: usize) -> bool {
    // Blanks behind it.
    text_stops(word | 0x2020_2020_2020_2020 << (8 * len)) == 0
}

/// The high bit of each byte that ends a text; exact up to the first, which is all that is used.
#[inline(always)]
fn text_stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zero(word ^ (ONES * b'"' as u64));
    let escapes = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | escapes | control) & HIGH_BITS
}

/// Bit masks over 16 bytes: those that end a text, and those that are not ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn classify_text(part: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86_64, and exactly the 16 bytes of `part` are read, unaligned.
    unsafe {
        let text = _mm_loadu_si128(part.as_ptr().cast());
        let quotes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'"' as i8));
        let escapes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(text, _mm_set1_epi8(0x1F)), text);
        let stops = _mm_or_si128(quotes, _mm_or_si128(escapes, control));
        (_mm_movemask_epi8(stops) as u32, _mm_movemask_epi8(text) as u32)
    }
}

/// As above, where there is no SSE2.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn classify_text(part: &[u8; 16]) -> (u32, u32) {
    classify_text_plain(part)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn classify_text_plain(part: &[u8; 16]) -> (u32, u32) {
    let mask = |test: fn(u8) -> bool| {
        let bit = |(i, &byte): (usize, &u8)| u32::from(test(byte)) << i;
        part.iter().enumerate().map(bit).sum()
    };
    (mask(ends_text), mask(|byte| byte >= 0x80))
}

/// Finds the ends of lines in `padded[from..len]`, `len` being a place that padding follows.
///
/// Writes the distance of each newline from `from` to `ends` and gives how many it found. Stops
/// when `ends` has room for fewer than 64 more, or when `bytes_max` have been looked at and there
/// is one. About 4 ns a line of 120 bytes.
///
/// # Panics
/// If `ends` has not room for 64 to begin with, or no padding follows `len`.
#[inline]
pub fn newlines(
    padded: &[u8],
    from: usize,
    len: usize,
    bytes_max: usize,
    ends: &mut [u32],
) -> usize {
    assert!(padded.len() >= len + PADDING && ends.len() >= 64 && from <= len);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("bmi1") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { newlines_avx2(padded, from, len, bytes_max, ends) };
    }
    newlines_by(padded, from, len, bytes_max, ends, newline_mask)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1")]
fn newlines_avx2(
    padded: &[u8],
    from: usize,
    len: usize,
    bytes_max: usize,
    ends: &mut [u32],
) -> usize {
    use std::arch::x86_64::*;
    newlines_by(padded, from, len, bytes_max, ends, |block| {
        // SAFETY: the caller's features include AVX2; two halves of the 64 bytes are read,
        // unaligned.
        unsafe {
            let newline = _mm256_set1_epi8(b'\n' as i8);
            let low = _mm256_loadu_si256(block.as_ptr().cast());
            let high = _mm256_loadu_si256(block.as_ptr().add(32).cast());
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, newline)) as u32;
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, newline)) as u32;
            u64::from(low) | u64::from(high) << 32
        }
    })
}

/// The newlines of 64 bytes as bits, eight bytes at a time.
#[inline(always)]
fn newline_mask(block: &Window) -> u64 {
    let mut mask = 0;
    for (i, eight) in block.chunks_exact(8).enumerate() {
        let eight: &[u8; 8] = eight.try_into().expect("chunks of eight");
        let other = u64::from_le_bytes(*eight) ^ 0x0A0A_0A0A_0A0A_0A0A;
        // Exact per byte: the high bit of the sum is clear for 0 alone.
        let zeros = !((other & !HIGH_BITS).wrapping_add(!HIGH_BITS) | other) & HIGH_BITS;
        mask |= ((zeros >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    mask
}

#[inline(always)]
fn newlines_by(
    padded: &[u8],
    from: usize,
    len: usize,
    bytes_max: usize,
    ends: &mut [u32],
    mask_of: impl Fn(&Window) -> u64,
) -> usize {
    let (mut at, mut found) = (from, 0);
    while at < len && found + 64 <= ends.len() && (at - from < bytes_max || found == 0) {
        crate::ground::prefetch::read(padded, at + 2048);
        let mut mask = mask_of(window(padded, at));
        if len - at < 64 {
            mask &= (1 << (len - at)) - 1;
        }
        let base = (at - from) as u32;
        // Most blocks have none, one or two: written without a branch.
        let out = &mut ends[found..found + 64];
        out[0] = base + mask.trailing_zeros();
        let mut here = usize::from(mask != 0);
        mask &= mask.wrapping_sub(1);
        out[here] = base + mask.trailing_zeros();
        here += usize::from(mask != 0);
        mask &= mask.wrapping_sub(1);
        while mask != 0 {
            out[here] = base + mask.trailing_zeros();
            here += 1;
            mask &= mask - 1;
        }
        found += here;
        at += 64;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded(text: &[u8]) -> Vec<u8> {
        let mut padded = text.to_vec();
        padded.resize(text.len() + PADDING, 0);
        padded
    }

    /// Bytes in which everything that matters to a scanner is common.
    fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => any::<u8>(),
            4 => b'0'..=b'9',
            4 => b'a'..=b'z',
            1 => Just(b'"'), 1 => Just(b'\\'), 1 => Just(b'\n'), 1 => Just(0x1F), 1 => Just(0x7F)
        ];
        proptest::collection::vec(byte, 0..len)
    }

    proptest! {
        #[test]
        fn digits_are_what_a_loop_finds(text in bytes(9)) {
            let text = padded(&text);
            let count = text[..8].iter().position(|b| !b.is_ascii_digit()).unwrap_or(8);
            let value = text[..count].iter().fold(0, |v, b| v * 10 + u64::from(b - b'0'));
            prop_assert_eq!(digits(word(window(&text, 0), 0)), (value, count));
        }

        #[test]
        fn text_scans_are_what_loops_find(text in bytes(80)) {
            let text = padded(&text);
            let window = window(&text, 0);
            prop_assert_eq!(short_text(window), short_text_plain(window));
            let part = window.first_chunk().unwrap();
            prop_assert_eq!(classify_text(part), classify_text_plain(part));
            let end = text.iter().position(|&b| ends_text(b)).unwrap();
            prop_assert_eq!(text_end(&text, 0), (end, text[..end].is_ascii()));
            let bare = &text[..text.len() - PADDING];
            prop_assert_eq!(text_end_of(bare), end.min(bare.len()));
            let part = window.first_chunk().unwrap();
            for len in 0..=32 {
                prop_assert_eq!(is_plain_short(part, len), end >= len);
            }
            let len = bare.len().min(7);
            let word = low_bytes(word(window, 0), len);
            prop_assert_eq!(is_plain_word(word, len), end >= len);
        }

        #[test]
        fn newlines_are_what_a_loop_finds(
            text in bytes(600), from in 0..100usize, bytes_max in 1..500usize
        ) {
            let from = from.min(text.len());
            let all: Vec<u32> = (from..text.len())
                .filter(|&i| text[i] == b'\n').map(|i| (i - from) as u32).collect();
            let text = padded(&text);
            let len = text.len() - PADDING;
            for plain in [false, true] {
                let mut ends = vec![0; 70];
                let found = if plain {
                    newlines_by(&text, from, len, bytes_max, &mut ends, newline_mask)
                } else {
                    newlines(&text, from, len, bytes_max, &mut ends)
                };
                prop_assert_eq!(&ends[..found], &all[..found]);
                let stopped = found > 6 || found > 0 && bytes_max < len - from;
                prop_assert!(found == all.len() || stopped);
            }
        }

        #[test]
        fn low_bytes_are_a_prefix(word in any::<u64>(), len in 0..=8usize) {
            let mut bytes = word.to_le_bytes();
            bytes[len..].fill(0);
            prop_assert_eq!(low_bytes(word, len), u64::from_le_bytes(bytes));
        }
    }
}
