//! What each operation does to the values of one row: the table of kernels behind [`Op::apply`].

use super::calendar;
use super::decimals as decimal;
use super::doubles as double;
use super::op::{Compare, Driver, Op};
use super::text;
use crate::ground::slot;

/// One closure for each comparison, so that the choice is outside the loop.
macro_rules! compare {
    ($driver:expr, $compare:expr, |$a:ident, $b:ident| $left:expr, $right:expr) => {
        match $compare {
            Compare::Eq => $driver.test2(|$a, $b| $left == $right),
            Compare::Ne => $driver.test2(|$a, $b| $left != $right),
            Compare::Lt => $driver.test2(|$a, $b| $left < $right),
            Compare::Le => $driver.test2(|$a, $b| $left <= $right),
            Compare::Gt => $driver.test2(|$a, $b| $left > $right),
            Compare::Ge => $driver.test2(|$a, $b| $left >= $right),
        }
    };
}

#[inline(always)]
fn f(word: u64) -> f64 {
    f64::from_bits(word)
}

#[inline(always)]
fn equal_texts(a: u64, a_heap: &[u8], b: u64, b_heap: &[u8]) -> bool {
    // Short texts are equal exactly if their slots are (invariant 1 of ground/slot.rs); the low
    // half of a long one's slot has its length.
    if slot::is_heaped(a) && a as u32 == b as u32 {
        slot::bytes(&a, a_heap) == slot::bytes(&b, b_heap)
    } else {
        a == b
    }
}

impl Op {
    /// Gives the driver the kernel of this operation.
    pub fn apply(&self, d: &mut impl Driver) {
        match self {
            Op::And => d.and(),
            Op::Or => d.or(),
            Op::Not => d.not(),
            Op::IsNull => d.is_null(),
            Op::IsTrue => d.is_true(),
            Op::Mask => d.test1(|a| a != 0),
            Op::Widen => d.widen(),
            Op::Select => d.select(),
            Op::Case => unreachable!("code.rs writes CASE as selects"),
            Op::Load => d.map1(|a| a),
            Op::Flag(bit) => d.test1(|a| a >> bit & 1 == 1),
            Op::InRange { .. }
            | Op::InWords(_)
            | Op::InTexts(_)
            | Op::CompareInt(_)
            | Op::CompareScaled { .. }
            | Op::CompareDouble(_)
            | Op::CompareText(_) => self.apply_comparison(d),
            Op::AddInt
            | Op::SubInt
            | Op::MulInt
            | Op::DivInt
            | Op::ModInt
            | Op::NegInt
            | Op::AbsInt
            | Op::SignInt { .. }
            | Op::MinInt
            | Op::MaxInt => self.apply_int(d),
            Op::AddDecimal { .. }
            | Op::MulDecimal { .. }
            | Op::DivDecimal { .. }
            | Op::ModDecimal { .. }
            | Op::Rescale { .. }
            | Op::FloorDecimal { .. }
            | Op::CeilDecimal { .. }
            | Op::TruncateDecimal { .. }
            | Op::RoundDecimal { .. } => self.apply_decimal(d),
            Op::AddDouble
            | Op::SubDouble
            | Op::MulDouble
            | Op::DivDouble
            | Op::ModDouble
            | Op::NegDouble
            | Op::AbsDouble
            | Op::SignDouble
            | Op::MinDouble
            | Op::MaxDouble
            | Op::FloorDouble
            | Op::CeilDouble
            | Op::RoundDouble { .. }
            | Op::Power
            | Op::Sqrt
            | Op::Ln
            | Op::Log10
            | Op::Exp => self.apply_double(d),
            Op::IntToDouble
            | Op::DecimalToDouble { .. }
            | Op::DoubleToInt
            | Op::DoubleToDecimal { .. }
            | Op::TextToInt
            | Op::TextToDouble
            | Op::TextToDecimal { .. }
            | Op::TextToBoolean
            | Op::TextToTime
            | Op::IntToText
            | Op::DoubleToText
            | Op::DecimalToText { .. }
            | Op::BooleanToText
            | Op::TimeToText
            | Op::BytesToText => self.apply_cast(d),
            Op::Truncate(unit) => d.try1(|a| calendar::truncate(*unit, a as i64).map(|t| t as u64)),
            Op::RoundUp(unit) => d.try1(|a| calendar::round_up(*unit, a as i64).map(|t| t as u64)),
            Op::Field(unit) => d.map1(|a| calendar::field(*unit, a as i64) as u64),
            Op::AddMonths => {
                d.try2(|a, b| calendar::add_months(a as i64, b as i64).map(|t| t as u64))
            }
            Op::MonthsBetween => {
                d.map2(|a, b| calendar::months_between(a as i64, b as i64) as u64);
            }
            Op::Format(format) => d.each(|args, heap| {
                let start = heap.len();
                format.write(args.int(0), heap);
                text::finish(start, heap)
            }),
            _ => self.apply_text(d),
        }
    }

    fn apply_comparison(&self, d: &mut impl Driver) {
        match self {
            Op::InRange { lo, span } => {
                let (lo, span) = (*lo, *span);
                d.test1(|a| (a as i64).wrapping_sub(lo) as u64 <= span);
            }
            Op::InWords(words) => d.test1(|a| words.has(a)),
            Op::InTexts(texts) => d.each_test(|args| {
                let found = texts.0.binary_search_by(|text| (**text).cmp(args.text(0)));
                Some(found.is_ok())
            }),
            Op::CompareInt(compare) => compare!(d, compare, |a, b| (a as i64), (b as i64)),
            Op::CompareScaled { compare, left, right } => {
                let (left, right) = (i128::from(*left), i128::from(*right));
                compare!(
                    d,
                    compare,
                    |a, b| (i128::from(a as i64) * left),
                    (i128::from(b as i64) * right)
                );
            }
            Op::CompareDouble(compare) => compare!(d, compare, |a, b| f(a), f(b)),
            Op::CompareText(Compare::Eq) => d.test_texts(equal_texts),
            Op::CompareText(Compare::Ne) => d.test_texts(|a, x, b, y| !equal_texts(a, x, b, y)),
            Op::CompareText(compare) => {
                d.test_texts(|a, x, b, y| {
                    compare.holds(slot::bytes(&a, x).cmp(slot::bytes(&b, y)))
                });
            }
            _ => unreachable!("apply sends comparisons here"),
        }
    }

    fn apply_int(&self, d: &mut impl Driver) {
        let word = |v: i64| v as u64;
        match self {
            Op::AddInt => d.try2(|a, b| (a as i64).checked_add(b as i64).map(word)),
            Op::SubInt => d.try2(|a, b| (a as i64).checked_sub(b as i64).map(word)),
            Op::MulInt => d.try2(|a, b| (a as i64).checked_mul(b as i64).map(word)),
            Op::DivInt => d.try2(|a, b| (a as i64).checked_div(b as i64).map(word)),
            // MIN % -1 is 0, though MIN / -1 does not fit.
            Op::ModInt => {
                d.try2(
                    |a, b| {
                        if b == 0 { None } else { Some((a as i64).wrapping_rem(b as i64) as u64) }
                    },
                )
            }
            Op::NegInt => d.try1(|a| (a as i64).checked_neg().map(word)),
            Op::AbsInt => d.try1(|a| (a as i64).checked_abs().map(word)),
            Op::SignInt { one } => d.map1(|a| ((a as i64).signum() * one) as u64),
            Op::MinInt => d.map2(|a, b| (a as i64).min(b as i64) as u64),
            Op::MaxInt => d.map2(|a, b| (a as i64).max(b as i64) as u64),
            _ => unreachable!("apply sends integer arithmetic here"),
        }
    }

    fn apply_decimal(&self, d: &mut impl Driver) {
        match *self {
            Op::AddDecimal { left, right, precision } => {
                d.try2(|a, b| decimal::add(a as i64, left, b as i64, right, precision))
            }
            Op::MulDecimal { drop, precision } => {
                d.try2(|a, b| decimal::multiply(a as i64, b as i64, drop, precision));
            }
            Op::DivDecimal { up, precision } => {
                d.try2(|a, b| decimal::divide(a as i64, b as i64, up, precision));
            }
            Op::ModDecimal { left, right, precision } => {
                d.try2(|a, b| decimal::remainder(a as i64, left, b as i64, right, precision))
            }
            Op::Rescale { from, to, precision } => {
                d.try1(|a| decimal::rescale(a as i64, from, to, precision))
            }
            Op::FloorDecimal { drop } => d.map1(|a| decimal::floor(a as i64, drop)),
            Op::CeilDecimal { drop } => d.map1(|a| decimal::ceil(a as i64, drop)),
            Op::TruncateDecimal { drop } => d.map1(|a| decimal::truncate(a as i64, drop)),
            Op::RoundDecimal { drop, up, precision } => {
                d.try1(|a| decimal::round(a as i64, drop, up, precision))
            }
            _ => unreachable!("apply sends decimal arithmetic here"),
        }
    }

    fn apply_double(&self, d: &mut impl Driver) {
        use double::finite;
        match *self {
            Op::AddDouble => d.try2(|a, b| finite(f(a) + f(b))),
            Op::SubDouble => d.try2(|a, b| finite(f(a) - f(b))),
            Op::MulDouble => d.try2(|a, b| finite(f(a) * f(b))),
            Op::DivDouble => d.try2(|a, b| finite(f(a) / f(b))),
            Op::ModDouble => d.try2(|a, b| finite(f(a) % f(b))),
            Op::NegDouble => d.map1(|a| (-f(a)).to_bits()),
            Op::AbsDouble => d.map1(|a| f(a).abs().to_bits()),
            Op::SignDouble => d.map1(|a| double::sign(f(a)).to_bits()),
            Op::MinDouble => d.map2(|a, b| f(a).min(f(b)).to_bits()),
            Op::MaxDouble => d.map2(|a, b| f(a).max(f(b)).to_bits()),
            Op::FloorDouble => d.map1(|a| f(a).floor().to_bits()),
            Op::CeilDouble => d.map1(|a| f(a).ceil().to_bits()),
            Op::RoundDouble { digits } => d.try1(|a| double::round(f(a), digits)),
            Op::Power => d.try2(|a, b| finite(f(a).powf(f(b)))),
            Op::Sqrt => d.try1(|a| finite(f(a).sqrt())),
            Op::Ln => d.try1(|a| finite(f(a).ln())),
            Op::Log10 => d.try1(|a| finite(f(a).log10())),
            Op::Exp => d.try1(|a| finite(f(a).exp())),
            _ => unreachable!("apply sends double arithmetic here"),
        }
    }

    fn apply_cast(&self, d: &mut impl Driver) {
        match *self {
            Op::IntToDouble => d.map1(|a| (a as i64 as f64).to_bits()),
            Op::DecimalToDouble { scale } => d.map1(|a| double::of_decimal(a as i64, scale)),
            Op::DoubleToInt => d.try1(|a| double::to_int(f(a))),
            Op::DoubleToDecimal { precision, scale } => {
                d.try1(|a| double::to_decimal(f(a), precision, scale));
            }
            Op::TextToInt => d.each(|args, _| decimal::parse_int(args.text(0))),
            Op::TextToDouble => d.each(|args, _| double::parse(args.text(0))),
            Op::TextToDecimal { precision, scale } => {
                d.each(|args, _| decimal::parse(args.text(0), precision, scale));
            }
            Op::TextToBoolean => d.each_test(|args| text::parse_boolean(args.text(0))),
            Op::TextToTime => {
                d.each(|args, _| calendar::parse(args.text(0)).map(|time| time as u64));
            }
            Op::IntToText => d.each(|args, heap| {
                let start = heap.len();
                heap.extend_from_slice(itoa::Buffer::new().format(args.int(0)).as_bytes());
                text::finish(start, heap)
            }),
            Op::DoubleToText => d.each(|args, heap| {
                let start = heap.len();
                double::format(f(args.word(0)), heap);
                text::finish(start, heap)
            }),
            Op::DecimalToText { scale } => d.each(|args, heap| {
                let start = heap.len();
                crate::ground::decimal::format(args.int(0), scale, heap);
                text::finish(start, heap)
            }),
            Op::BooleanToText => d.each(|args, heap| {
                let text: &[u8] = if args.word(0) != 0 { b"TRUE" } else { b"FALSE" };
                Some(slot::put(text, heap))
            }),
            Op::TimeToText => d.each(|args, heap| {
                let start = heap.len();
                calendar::format_default(args.int(0), heap);
                text::finish(start, heap)
            }),
            Op::BytesToText => d.each(|args, heap| {
                std::str::from_utf8(args.text(0)).ok()?;
                text::put(args.text(0), heap)
            }),
            _ => unreachable!("apply sends casts here"),
        }
    }

    fn apply_text(&self, d: &mut impl Driver) {
        match self {
            Op::Like(like) => d.each_test(|args| Some(like.matches(args.text(0)))),
            Op::LikeAny { escape } => {
                d.each_test(|args| Some(text::like(args.text(0), args.text(1), *escape)));
            }
            Op::Matches(regex) => d.each_test(|args| Some(regex.is_match(args.text(0)))),
            Op::Extract(regex, group) => {
                let mut places = regex.places();
                d.each(|args, heap| regex.extract(args.text(0), *group, &mut places, heap));
            }
            Op::ReplaceAll(regex, with) => {
                d.each(|args, heap| regex.replace_all(args.text(0), with, heap));
            }
            Op::Upper => d.each(|args, heap| text::upper(args.text(0), heap)),
            Op::Lower => d.each(|args, heap| text::lower(args.text(0), heap)),
            Op::Initcap => d.each(|args, heap| text::initcap(args.text(0), heap)),
            Op::Trim(ends) => {
                d.each(|args, heap| text::put(text::trim(args.text(0), args.text(1), *ends), heap));
            }
            Op::Length => d.each(|args, _| Some(text::length(args.text(0)) as u64)),
            Op::OctetLength => d.each(|args, _| Some(args.text(0).len() as u64)),
            Op::Substring => d.each(|args, heap| {
                let len = if args.len > 2 { args.int(2) } else { i64::MAX };
                text::put(text::substring(args.text(0), args.int(1), len)?, heap)
            }),
            Op::Concat => d.each(|args, heap| {
                let start = heap.len();
                for i in 0..args.len {
                    heap.extend_from_slice(args.text(i));
                }
                text::finish(start, heap)
            }),
            Op::Replace => {
                d.each(|args, heap| text::replace(args.text(0), args.text(1), args.text(2), heap));
            }
            Op::Position => {
                d.each(|args, _| Some(text::position(args.text(0), args.text(1)) as u64));
            }
            Op::Split => {
                let mut array = slot::array::ArrayBuilder::default();
                d.each(|args, heap| text::split(args.text(0), args.text(1), &mut array, heap));
            }
            Op::SplitIndex => d.each(|args, heap| {
                text::put(text::split_index(args.text(0), args.text(1), args.int(2))?, heap)
            }),
            Op::Repeat => d.each(|args, heap| text::repeat(args.text(0), args.int(1), heap)),
            Op::Reverse => d.each(|args, heap| text::reverse(args.text(0), heap)),
            Op::Left => d.each(|args, heap| text::put(text::left(args.text(0), args.int(1)), heap)),
            Op::Right => {
                d.each(|args, heap| text::put(text::right(args.text(0), args.int(1)), heap));
            }
            Op::Pad(ends) => {
                d.each(|args, heap| text::pad(args.text(0), args.int(1), args.text(2), *ends, heap))
            }
            Op::MinText => d.each(|args, heap| text::put(args.text(0).min(args.text(1)), heap)),
            Op::MaxText => d.each(|args, heap| text::put(args.text(0).max(args.text(1)), heap)),
            Op::Cardinality => d.each(|args, _| {
                slot::array::Elements::read(args.text(0)).map(|elements| elements.len() as u64)
            }),
            Op::Element => d.each(|args, _| Some(text::element(args.text(0), args.int(1))?.0)),
            Op::ElementText => d.each(|args, heap| {
                let (value, from) = text::element(args.text(0), args.int(1))?;
                text::put(slot::bytes(&value, from), heap)
            }),
            other => unreachable!("{other:?} has no kernel"),
        }
    }
}
