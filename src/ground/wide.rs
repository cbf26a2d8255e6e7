//! Loops over text that run with the widest instructions the processor has.
//!
//! A [`Kernel`] is a loop written once over a [`Level`]; [`run`] compiles it for each level and
//! picks at run time. So a decoder in a higher floor stays plain code, and the choice costs a few
//! instructions a loop, not a call a value.
//!
//! 1. All levels give the same where both say `ok`; a level may say `ok` of fewer texts.
//! 2. An [`Avx2`] exists only where the processor has what its methods were compiled for.
//!
//! Sources of the ideas: digits by multiply-and-add of neighbours, W. Muła, "SIMD-ized parsing of
//! unsigned integers"; aligning them by a shuffle whose control is read from a sliding table.

use super::scan::{self, Window, digits, word};

/// The start of a padded text, readable anywhere by whole windows.
#[derive(Clone, Copy)]
pub struct Padded<'a> {
    bytes: &'a [u8],
    last: usize,
}

impl<'a> Padded<'a> {
    /// A padded text.
    ///
    /// # Panics
    /// If it is shorter than its padding.
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Padded<'a> {
        assert!(bytes.len() >= scan::PADDING, "a padded text has its padding");
        Padded { bytes, last: bytes.len() - scan::PADDING }
    }

    /// The window at `at`; the last one, of zeros, where the text has ended.
    #[inline(always)]
    pub fn window(self, at: usize) -> &'a Window {
        let at = at.min(self.last);
        // SAFETY: at + 64 <= last + 64 == bytes.len(), and a Window is 64 bytes, unaligned.
        unsafe { &*self.bytes.as_ptr().add(at).cast() }
    }

    /// All from `at` on, the padding too.
    #[inline(always)]
    pub fn rest(self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }
}

/// A number at the start of a window, without exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its digits as an integer, without sign and point.
    pub digits: u64,
    /// Digits behind it.
    pub part: usize,
    /// 1 if there is a minus sign.
    pub negative: usize,
    /// Bytes of the text.
    pub len: usize,
    /// Whether it is such a number in JSON's grammar, of so few digits that all are read.
    pub ok: bool,
}

/// A member of a JSON object at the start of a window: `"name": value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes of the name.
    pub name_len: usize,
    /// Where the value starts.
    pub value: usize,
    /// Where it ends: behind a text's closing quote, or at the first comma, closing brace, blank or
    /// byte that is not plain.
    pub end: usize,
    /// Whether the value is a text.
    pub is_text: bool,
    /// Whether the member ends in the window, is plain (ASCII, no escapes), and has its colon, with
    /// at most one blank behind it. If not, the rest means nothing.
    pub ok: bool,
}

/// A text of up to 32 bytes to be looked for.
#[derive(Clone, Copy, Debug)]
pub struct Needle {
    bytes: [u8; 32],
    /// A bit for each byte that does not matter.
    free: u32,
}

impl Needle {
    /// Most bytes of it.
    pub const MAX: usize = 32;

    /// The first 32 bytes of a text.
    pub fn new(text: &[u8]) -> Needle {
        let len = text.len().min(32);
        let mut bytes = [0; 32];
        bytes[..len].copy_from_slice(&text[..len]);
        Needle { bytes, free: (!0u64 << len) as u32 }
    }
}

/// The instructions that a loop may use. `SIGNED` says whether a number may have a minus sign; if
/// not, one that has is not `ok`.
pub trait Level: Copy {
    /// Bytes of a text that [`Level::short_text`] looks at.
    const TEXT_BYTES: usize;

    /// The integer at the start of a window; a point may follow it.
    fn integer<const SIGNED: bool>(self, window: &Window) -> Number;

    /// The number at the start of a window.
    fn number<const SIGNED: bool>(self, window: &Window) -> Number;

    /// The number at the start of a window, its digits scaled by 10^`scale`: `ok` only if it has no
    /// more fraction digits than that.
    fn scaled_number<const SIGNED: bool>(self, window: &Window, scale: usize) -> Number;

    /// The end of the plain text at the start of a window.
    fn short_text(self, window: &Window) -> scan::ShortText;

    /// The member of a JSON object whose name's opening quote is the window's first byte.
    fn member(self, window: &Window) -> Member;

    /// Whether a window starts with a text.
    fn starts_with(self, window: &Window, needle: &Needle) -> bool;
}

/// A loop to be compiled for every level.
pub trait Kernel {
    /// What it gives.
    type Out;

    /// The loop. To be marked `#[inline(always)]`: it is then compiled with the level's
    /// instructions.
    fn run<L: Level>(self, level: L) -> Self::Out;
}

/// Runs a kernel at the best level.
#[inline(always)]
pub fn run<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if let Some(level) = Avx2::detect() {
        // SAFETY: the level is the proof that the processor has the features.
        return unsafe { run_avx2(kernel, level) };
    }
    run_plain(kernel)
}

#[inline(never)]
fn run_plain<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Plain)
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2<K: Kernel>(kernel: K, level: Avx2) -> K::Out {
    kernel.run(level)
}

/// What every processor has: words of eight bytes (and SSE2 where that is so).
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// 10^n for n in 0..=19.
const POWERS: [u64; 32] = {
    let mut powers = [0u64; 32];
    powers[0] = 1;
    let mut i = 1;
    while i < 20 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// 10^n, for n up to 19; 0 beyond.
#[inline(always)]
pub fn power(exponent: usize) -> u64 {
    POWERS[exponent % 32]
}

/// Digits of a window from `at` on: value and count; more than 19 are 24, of no value.
#[inline(always)]
fn digits_at(window: &Window, at: usize) -> (u64, usize) {
    let (value, count) = digits(word(window, at));
    if count < 8 { (value, count) } else { more_digits(window, at, value) }
}

fn more_digits(window: &Window, at: usize, first: u64) -> (u64, usize) {
    let (second, count) = digits(word(window, at + 8));
    let value = first * power(count) + second;
    if count < 8 {
        return (value, 8 + count);
    }
    let (third, count) = digits(word(window, at + 16));
    if count > 3 {
        return (0, 24);
    }
    (value.wrapping_mul(power(count)).wrapping_add(third), 16 + count)
}

/// 1 for a minus sign that may be there.
#[inline(always)]
fn minus<const SIGNED: bool>(window: &Window) -> usize {
    if SIGNED { usize::from(window[0] == b'-') } else { 0 }
}

/// The member at the start of a window, a byte at a time.
fn member_plain(window: &Window) -> Option<Member> {
    let plain = |&byte: &u8| byte != b'\\' && (0x20..0x80).contains(&byte);
    let close = |at: usize| Some(at + window.get(at..)?.iter().position(|&byte| byte == b'"')?);
    let name_end = close(1)?;
    let value = name_end + 2 + usize::from(window.get(name_end + 2) == Some(&b' '));
    let is_text = *window.get(value)? == b'"';
    let end = if is_text {
        close(value + 1)? + 1
    } else {
        let ends = |&byte: &u8| b",} ".contains(&byte) || !plain(&byte);
        value + window[value..].iter().position(ends)?
    };
    let ok = window[0] == b'"'
        && window[name_end + 1] == b':'
        && end < window.len()
        && window[..end].iter().all(plain);
    ok.then_some(Member { name_len: name_end - 1, value, end, is_text, ok })
}

impl Plain {
    #[inline(always)]
    fn read<const SIGNED: bool>(self, window: &Window) -> (u64, u64, Number) {
        let negative = minus::<SIGNED>(window);
        let (value, whole) = digits_at(window, negative);
        let point = (negative + whole) % 32;
        let has_point = usize::from(window[point] == b'.');
        let (part_value, part) = digits_at(window, point + 1);
        let part = part * has_point;
        let part_value = part_value * has_point as u64;
        let whole_ok = (whole == 1) | ((whole > 1) & (window[negative] != b'0'));
        let number = Number {
            digits: value,
            part,
            negative,
            len: point + has_point + part,
            ok: whole_ok & (whole < 24) & (whole + part <= 19) & (part >= has_point),
        };
        (value, part_value, number)
    }
}

impl Level for Plain {
    const TEXT_BYTES: usize = 16;

    #[inline(always)]
    fn integer<const SIGNED: bool>(self, window: &Window) -> Number {
        let negative = minus::<SIGNED>(window);
        let (digits, whole) = digits_at(window, negative);
        let ok = (whole == 1) | ((whole > 1) & (whole < 20) & (window[negative] != b'0'));
        Number { digits, part: 0, negative, len: negative + whole, ok }
    }

    #[inline(always)]
    fn number<const SIGNED: bool>(self, window: &Window) -> Number {
        let (whole, part, number) = self.read::<SIGNED>(window);
        Number { digits: whole.wrapping_mul(power(number.part)).wrapping_add(part), ..number }
    }

    #[inline(always)]
    fn scaled_number<const SIGNED: bool>(self, window: &Window, scale: usize) -> Number {
        let (whole, part, number) = self.read::<SIGNED>(window);
        let part = part.wrapping_mul(power(scale.wrapping_sub(number.part)));
        let digits = whole.wrapping_mul(power(scale)).wrapping_add(part);
        // The whole part's digits and the scale's fit a word.
        let fits = (whole < power(19usize.wrapping_sub(scale))) & (number.part <= scale);
        Number { digits, ok: number.ok & fits, ..number }
    }

    #[inline(always)]
    fn short_text(self, window: &Window) -> scan::ShortText {
        scan::short_text(window)
    }

    #[inline(always)]
    fn member(self, window: &Window) -> Member {
        member_plain(window).unwrap_or(Member {
            name_len: 0,
            value: 0,
            end: 0,
            is_text: false,
            ok: false,
        })
    }

    #[inline(always)]
    fn starts_with(self, window: &Window, needle: &Needle) -> bool {
        let len = needle.free.trailing_zeros() as usize;
        window[..len] == needle.bytes[..len]
    }
}

/// AVX2 and bit manipulation: every x86-64 since about 2013.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Avx2 {
    _detected: (),
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Member, Needle, Number, Window};
    use crate::ground::scan::ShortText;
    use std::arch::x86_64::*;

    /// Sliding tables: the 16 bytes at some offset are a mask or a shuffle's control.
    static ONES_THEN_ZEROS: [u8; 32] = {
        let mut table = [0; 32];
        let mut i = 0;
        while i < 16 {
            table[i] = 0xFF;
            i += 1;
        }
        table
    };
    static ZEROS_THEN_ONE_EACH: [u8; 64] = {
        let mut table = [1; 64];
        let mut i = 0;
        while i < 16 {
            table[i] = 0;
            i += 1;
        }
        table
    };
    static NOTHING_THEN_PLACES: [u8; 64] = {
        let mut table = [0x80; 64];
        let mut i = 0;
        while i < 16 {
            table[16 + i] = i as u8;
            i += 1;
        }
        table
    };

    /// The least number of so many digits that does not begin with a zero for nothing; none is
    /// that large where they are too few or too many.
    static LEAST: [u64; 33] = {
        let mut table = [u64::MAX; 33];
        table[1] = 0;
        let mut i = 2;
        while i < 16 {
            table[i] = super::POWERS[i - 1];
            i += 1;
        }
        table
    };

    /// 16 bytes of a table of 64 at an offset taken modulo 32.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn slide(table: &[u8; 64], at: usize) -> __m128i {
        // SAFETY: at % 32 + 16 <= 64.
        unsafe { _mm_loadu_si128(table.as_ptr().add(at % 32).cast()) }
    }

    /// 16 digit values, the last in the last byte, as one number: pairs, fours, eights, all.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold(digits: __m128i) -> u64 {
        let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
        let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
        let fours = _mm_packus_epi32(fours, fours);
        let eights = _mm_cvtsi128_si64(_mm_madd_epi16(fours, _mm_set1_epi32(0x0001_2710))) as u64;
        (eights & 0xFFFF_FFFF) * 100_000_000 + (eights >> 32)
    }

    /// The 16 bytes behind the sign as digit values, and a bit for each that is none.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn values(window: &Window, negative: usize) -> (__m128i, u32) {
        debug_assert!(negative <= 1);
        // SAFETY: `negative` is 0 or 1, so 17 bytes of the 64 are read, unaligned.
        let text = unsafe { _mm_loadu_si128(window.as_ptr().add(negative).cast()) };
        let values = _mm_sub_epi8(text, _mm_set1_epi8(b'0' as i8));
        let above = _mm_cmpeq_epi8(_mm_max_epu8(values, _mm_set1_epi8(10)), values);
        (values, _mm_movemask_epi8(above) as u32)
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn integer<const SIGNED: bool>(window: &Window) -> Number {
        let negative = super::minus::<SIGNED>(window);
        let (values, others) = values(window, negative);
        let whole = others.trailing_zeros() as usize;
        // SAFETY: a u32 has at most 32 trailing zeros: 48 bytes of 64, 33 words of 33.
        let (control, least) = unsafe {
            let control = _mm_loadu_si128(NOTHING_THEN_PLACES.as_ptr().add(whole).cast());
            (control, *LEAST.get_unchecked(whole))
        };
        let digits = fold(_mm_shuffle_epi8(values, control));
        Number { digits, part: 0, negative, len: negative + whole, ok: digits >= least }
    }

    /// Reads a number; `scale` is how many fraction digits to make of those that it has.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn number<const SIGNED: bool>(window: &Window, scale: Option<usize>) -> Number {
        let negative = super::minus::<SIGNED>(window);
        let (values, others) = values(window, negative);
        let others = others | 0xFFFF_0000;
        let whole = others.trailing_zeros() as usize;
        let has_point = window[negative + whole] == b'.';
        let behind = (others & others.wrapping_sub(1)).trailing_zeros() as usize;
        let end = if has_point { behind } else { whole };
        let part = end - whole - usize::from(has_point);
        // Made: zeros, the whole part's digits, the fraction's, zeros up to the scale.
        let made = scale.unwrap_or(part);
        // SAFETY: the offset is at most 16, and 16 bytes of 32 are read.
        let kept = unsafe {
            _mm_loadu_si128(ONES_THEN_ZEROS.as_ptr().add(16usize.saturating_sub(end)).cast())
        };
        let control = _mm_add_epi8(
            slide(&NOTHING_THEN_PLACES, whole + made),
            slide(&ZEROS_THEN_ONE_EACH, made),
        );
        let digits = fold(_mm_shuffle_epi8(_mm_and_si128(values, kept), control));
        // A point has digits before and behind it; a zero stands alone.
        let shaped =
            (whole > 0) & ((part > 0) | !has_point) & ((whole == 1) | (window[negative] != b'0'));
        let ok = shaped & (end < 16) & (whole + made < 16) & (part <= made);
        Number { digits, part, negative, len: negative + end, ok }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn short_text(window: &Window) -> ShortText {
        // SAFETY: 32 bytes of the 64 are read, unaligned.
        let text = unsafe { _mm256_loadu_si256(window.as_ptr().cast()) };
        let quotes = _mm256_cmpeq_epi8(text, _mm256_set1_epi8(b'"' as i8));
        let escapes = _mm256_cmpeq_epi8(text, _mm256_set1_epi8(b'\\' as i8));
        // Compared as signed bytes, non-ASCII is below the blank too.
        let odd = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), text);
        let stops = _mm256_or_si256(quotes, _mm256_or_si256(escapes, odd));
        let stops = _mm256_movemask_epi8(stops) as u32;
        let quotes = _mm256_movemask_epi8(quotes) as u32;
        let first = stops & stops.wrapping_neg();
        ShortText { len: stops.trailing_zeros() as usize, closed: first & quotes != 0 }
    }

    /// Bits over 64 bytes where `test` holds, given for 32 of them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bits(low: __m256i, high: __m256i) -> u64 {
        let low = _mm256_movemask_epi8(low) as u32;
        let high = _mm256_movemask_epi8(high) as u32;
        u64::from(low) | u64::from(high) << 32
    }

    /// Everything is taken from masks over the 64 bytes: one load, no branch, a short chain.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn member(window: &Window) -> Member {
        // SAFETY: two halves of the 64 bytes are read, unaligned.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(window.as_ptr().cast()),
                _mm256_loadu_si256(window.as_ptr().add(32).cast()),
            )
        };
        let is = |text: __m256i, byte: u8| _mm256_cmpeq_epi8(text, _mm256_set1_epi8(byte as i8));
        // Compared as signed bytes, non-ASCII is below the blank too.
        let below = |text: __m256i, byte: i8| _mm256_cmpgt_epi8(_mm256_set1_epi8(byte), text);
        let quotes = bits(is(low, b'"'), is(high, b'"'));
        let ends = |text| _mm256_or_si256(is(text, b','), is(text, b'}'));
        let ends = bits(ends(low), ends(high));
        let odd = |text| _mm256_or_si256(below(text, 0x20), is(text, b'\\'));
        let odd = bits(odd(low), odd(high));
        let low_bytes = bits(below(low, 0x21), below(high, 0x21));
        let blanks = low_bytes & !odd;

        // 64 where there is none; shifts by 64 and more are taken modulo 64, and `ok` is false.
        let name_end = (quotes & quotes.wrapping_sub(1)).trailing_zeros();
        let value = name_end + 2 + (blanks.wrapping_shr(name_end + 2) & 1) as u32;
        let is_text = quotes.wrapping_shr(value) & 1;
        let from_value = (!0u64).wrapping_shl(value);
        let bare_end = ((ends | low_bytes | odd) & from_value).trailing_zeros();
        let inside = from_value & from_value.wrapping_sub(1);
        let text_end = (quotes & inside).trailing_zeros() + 1;
        let either = (bare_end ^ text_end) & (is_text as u32).wrapping_neg();
        let end = bare_end ^ either;
        let before_end = !(!0u64).wrapping_shl(end);
        let colon = window[(name_end + 1) as usize % 64] == b':';
        Member {
            name_len: name_end as usize - 1,
            value: value as usize,
            end: end as usize,
            is_text: is_text == 1,
            ok: (quotes & 1 == 1) & (value < 63) & (end < 64) & colon & (odd & before_end == 0),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn starts_with(window: &Window, needle: &Needle) -> bool {
        // SAFETY: 32 bytes of the 64 and of the needle's 32 are read, unaligned.
        let (here, wanted) = unsafe {
            (
                _mm256_loadu_si256(window.as_ptr().cast()),
                _mm256_loadu_si256(needle.bytes.as_ptr().cast()),
            )
        };
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(here, wanted)) as u32 | needle.free == !0
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The level, if the processor has it.
    #[inline(always)]
    pub fn detect() -> Option<Avx2> {
        let has = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("lzcnt")
            && std::is_x86_feature_detected!("popcnt");
        has.then_some(Avx2 { _detected: () })
    }
}

#[cfg(target_arch = "x86_64")]
impl Level for Avx2 {
    const TEXT_BYTES: usize = 32;

    #[inline(always)]
    fn integer<const SIGNED: bool>(self, window: &Window) -> Number {
        // SAFETY: an `Avx2` exists only where the features do (invariant 2).
        unsafe { avx2::integer::<SIGNED>(window) }
    }

    #[inline(always)]
    fn number<const SIGNED: bool>(self, window: &Window) -> Number {
        // SAFETY: as above.
        unsafe { avx2::number::<SIGNED>(window, None) }
    }

    #[inline(always)]
    fn scaled_number<const SIGNED: bool>(self, window: &Window, scale: usize) -> Number {
        // SAFETY: as above.
        unsafe { avx2::number::<SIGNED>(window, Some(scale)) }
    }

    #[inline(always)]
    fn short_text(self, window: &Window) -> scan::ShortText {
        // SAFETY: as above.
        unsafe { avx2::short_text(window) }
    }

    #[inline(always)]
    fn member(self, window: &Window) -> Member {
        // SAFETY: as above.
        unsafe { avx2::member(window) }
    }

    #[inline(always)]
    fn starts_with(self, window: &Window, needle: &Needle) -> bool {
        // SAFETY: as above.
        unsafe { avx2::starts_with(window, needle) }
    }
}

#[cfg(test)]
mod tests;
