//! The wide operations against their plain twins.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum How {
    Integer,
    Number,
    Scaled(usize),
}

struct Read<'a, const SIGNED: bool>(&'a Window, How);
impl<const SIGNED: bool> Kernel for Read<'_, SIGNED> {
    type Out = Number;
    #[inline(always)]
    fn run<L: Level>(self, level: L) -> Number {
        match self.1 {
            How::Integer => level.integer::<SIGNED>(self.0),
            How::Number => level.number::<SIGNED>(self.0),
            How::Scaled(scale) => level.scaled_number::<SIGNED>(self.0, scale),
        }
    }
}

struct Text<'a>(&'a Window, &'a Needle);
impl Kernel for Text<'_> {
    type Out = (scan::ShortText, bool, usize);
    #[inline(always)]
    fn run<L: Level>(self, level: L) -> Self::Out {
        (level.short_text(self.0), level.starts_with(self.0, self.1), L::TEXT_BYTES)
    }
}

/// A number as a plain reader finds it: digits, fraction digits, bytes, whether it is right.
fn read(text: &[u8], signed: bool, point: bool) -> (u128, usize, usize, bool) {
    let sign = usize::from(signed && text[0] == b'-');
    let run = |at: usize| text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = run(sign);
    let (mut len, mut part) = (sign + whole, 0);
    let mut right = whole == 1 || whole > 1 && text[sign] != b'0';
    if point && text[len] == b'.' {
        part = run(len + 1);
        len += 1 + part;
        right &= part > 0;
    }
    let digits = text[sign..len].iter().filter(|&&b| b != b'.');
    // Past 38 digits the value is nobody's: only that it is too long counts.
    let value = digits.fold(0u128, |v, b| v.wrapping_mul(10).wrapping_add(u128::from(b - b'0')));
    (value, part, len, right)
}

fn padded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(text.len() + scan::PADDING, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn numbers_are_what_a_plain_reader_finds(
        text in "(-?[0-9]{0,20}(\\.[0-9]{0,20})?|[-0-9.]{0,24}).{0,3}",
        how in prop_oneof![
            Just(How::Integer), Just(How::Number), (0..19usize).prop_map(How::Scaled)
        ]
    ) {
        let bytes = padded(&text);
        let window = Padded::new(&bytes).window(0);
        let found = [
            (true, run(Read::<true>(window, how))),
            (true, run_plain(Read::<true>(window, how))),
            (false, run(Read::<false>(window, how))),
            (false, run_plain(Read::<false>(window, how))),
        ];
        for (signed, number) in found {
            let (digits, part, len, right) = read(&bytes, signed, !matches!(how, How::Integer));
            let made = if let How::Scaled(scale) = how { scale } else { part };
            if number.ok {
                prop_assert!(right && part <= made);
                let digits = digits * 10u128.pow((made - part) as u32);
                let got = (u128::from(number.digits), number.part, number.len);
                prop_assert_eq!(got, (digits, part, len));
                prop_assert_eq!(number.negative == 1, signed && bytes[0] == b'-');
            } else {
                prop_assert!(!right || part > made || len + made > 14, "{:?}", number);
            }
        }
    }

    #[test]
    fn texts_are_what_a_loop_finds(
        text in "[a-z]{0,40}[\"\\\\\nä,}]?.{0,9}", len in 0..40usize, wrong in any::<bool>()
    ) {
        let bytes = padded(&text);
        let window = Padded::new(&bytes).window(0);
        let stop = |&b: &u8| b == b'"' || b == b'\\' || !(0x20..0x80).contains(&b);
        let end = bytes.iter().position(stop).unwrap();
        let mut wanted = bytes[..len].to_vec();
        if wrong && len > 0 {
            wanted[len / 2] ^= 1;
        }
        let needle = Needle::new(&wanted);
        let right = bytes.starts_with(&wanted[..len.min(32)]);
        for (found, starts, max) in
            [run(Text(window, &needle)), run_plain(Text(window, &needle))]
        {
            prop_assert_eq!(found.closed, end < max && bytes[end] == b'"');
            prop_assert!(found.len == end || end >= max && found.len >= max);
            prop_assert_eq!(starts, right);
        }
    }

    #[test]
    fn members_are_what_a_loop_finds(
        text in "\"[a-z]{0,30}\": ?([0-9]{1,30}|\"[a-z,}]{0,30}\"?)[,}\n] ?",
        at in any::<proptest::sample::Index>(), byte in any::<u8>(), change in any::<bool>()
    ) {
        let mut bytes = padded(&text);
        if change {
            bytes[at.index(text.len())] = byte;
        }
        let window = Padded::new(&bytes).window(0);
        let expected = Plain.member(window);
        let found = run(Members(window));
        prop_assert_eq!(found.ok, expected.ok);
        prop_assert!(!found.ok || found == expected);
    }
}

struct Members<'a>(&'a Window);
impl Kernel for Members<'_> {
    type Out = Member;
    #[inline(always)]
    fn run<L: Level>(self, level: L) -> Member {
        level.member(self.0)
    }
}
