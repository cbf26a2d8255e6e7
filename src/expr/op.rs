//! The one table of operations: what each means for the values of one row, said once.
//!
//! [`Op::apply`] hands a kernel to a [`Driver`]; the vector machine is the driver that runs it in
//! a loop over a batch, the scalar machine the one that runs it for a row. Both are instances of
//! the same code, so they cannot differ in meaning.
//!
//! 1. A kernel is total: it never panics, whatever the slots (the slots of NULLs may be garbage
//!    that an earlier operation left, except texts, for which kernels are not called on NULL).
//! 2. Strict operations are NULL where an argument is NULL; a kernel that gives `None` is NULL too.
//! 3. Masks (BOOLEANs inside a program) have no bit set where they are NULL.

use std::cmp::Ordering;

use super::calendar::{self, Format, Unit};
use super::decimals as decimal;
use super::doubles as double;
use super::text::{self, Like, Regex};
use crate::ground::slot;

/// Most arguments of an operation; longer CONCATs are cut into several.
pub(crate) const ARGS_MAX: usize = 8;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Compare {
    /// The comparison with its sides exchanged.
    pub fn flipped(self) -> Compare {
        match self {
            Compare::Lt => Compare::Gt,
            Compare::Le => Compare::Ge,
            Compare::Gt => Compare::Lt,
            Compare::Ge => Compare::Le,
            same => same,
        }
    }

    #[inline(always)]
    fn holds(self, order: Ordering) -> bool {
        match self {
            Compare::Eq => order.is_eq(),
            Compare::Ne => order.is_ne(),
            Compare::Lt => order.is_lt(),
            Compare::Le => order.is_le(),
            Compare::Gt => order.is_gt(),
            Compare::Ge => order.is_ge(),
        }
    }
}

/// Which end of a text TRIM cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Both,
    Leading,
    Trailing,
}

/// The words of an IN list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Words(pub Box<[u64]>);

impl Words {
    #[inline(always)]
    fn has(&self, word: u64) -> bool {
        if self.0.len() <= 8 {
            self.0.iter().fold(false, |found, &w| found | (w == word))
        } else {
            self.0.binary_search(&word).is_ok()
        }
    }
}

/// The long texts of an IN list, sorted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Texts(pub Box<[Box<[u8]>]>);

/// An operation. Numbers in a variant are powers of ten, scales and precisions of DECIMALs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    // Logic, on masks.
    And,
    Or,
    Not,
    IsNull,
    IsTrue,
    /// BOOLEAN word to mask, and back.
    Mask,
    Widen,
    /// Mask, then, else: else where the mask is false or NULL.
    Select,
    /// Condition, result, ..., else. Lowered to `Select`s by [`super::code`].
    Case,
    /// A column's values side by side.
    Load,

    // Comparison.
    /// `lo <= x <= lo + span`, as i64.
    InRange {
        lo: i64,
        span: u64,
    },
    InWords(Words),
    InTexts(Texts),
    CompareInt(Compare),
    CompareScaled {
        compare: Compare,
        left: i64,
        right: i64,
    },
    CompareDouble(Compare),
    CompareText(Compare),

    // BIGINT, and what DECIMAL and TIMESTAMP share with it.
    AddInt,
    SubInt,
    MulInt,
    DivInt,
    ModInt,
    NegInt,
    AbsInt,
    SignInt {
        one: i64,
    },
    MinInt,
    MaxInt,

    // DECIMAL.
    AddDecimal {
        left: i64,
        right: i64,
        precision: u8,
    },
    MulDecimal {
        drop: u8,
        precision: u8,
    },
    DivDecimal {
        up: u8,
        precision: u8,
    },
    ModDecimal {
        left: i64,
        right: i64,
        precision: u8,
    },
    Rescale {
        from: u8,
        to: u8,
        precision: u8,
    },
    FloorDecimal {
        drop: u8,
    },
    CeilDecimal {
        drop: u8,
    },
    TruncateDecimal {
        drop: u8,
    },
    /// Rounds `drop` digits away, then appends `up` zeros.
    RoundDecimal {
        drop: u8,
        up: u8,
        precision: u8,
    },

    // DOUBLE.
    AddDouble,
    SubDouble,
    MulDouble,
    DivDouble,
    ModDouble,
    NegDouble,
    AbsDouble,
    SignDouble,
    MinDouble,
    MaxDouble,
    FloorDouble,
    CeilDouble,
    RoundDouble {
        digits: i32,
    },
    Power,
    Sqrt,
    Ln,
    Log10,
    Exp,

    // Casts.
    IntToDouble,
    DecimalToDouble {
        scale: u8,
    },
    DoubleToInt,
    DoubleToDecimal {
        precision: u8,
        scale: u8,
    },
    TextToInt,
    TextToDouble,
    TextToDecimal {
        precision: u8,
        scale: u8,
    },
    TextToBoolean,
    TextToTime,
    IntToText,
    DoubleToText,
    DecimalToText {
        scale: u8,
    },
    BooleanToText,
    TimeToText,
    BytesToText,

    // Texts.
    Like(Like),
    LikeAny {
        escape: Option<u8>,
    },
    Matches(Regex),
    Extract(Regex, usize),
    ReplaceAll(Regex, Box<str>),
    Upper,
    Lower,
    Initcap,
    Trim(Ends),
    Length,
    OctetLength,
    Substring,
    Concat,
    Replace,
    Position,
    Split,
    SplitIndex,
    Repeat,
    Reverse,
    Left,
    Right,
    Pad(Ends),
    MinText,
    MaxText,
    Cardinality,
    /// An array's element that is a word, or a text.
    Element,
    ElementText,

    // Time.
    Truncate(Unit),
    RoundUp(Unit),
    Field(Unit),
    AddMonths,
    /// Whole months from the first time to the second.
    MonthsBetween,
    Format(Format),
}

/// What an operation yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One word a row.
    Word,
    /// One bit a row.
    Mask,
    /// One word a row, which may point into the result's own heap.
    Text,
}

/// The arguments of one row.
pub(crate) struct Args<'a> {
    pub slots: [u64; ARGS_MAX],
    pub heaps: [&'a [u8]; ARGS_MAX],
    pub len: usize,
}

impl Args<'_> {
    #[inline(always)]
    pub fn word(&self, i: usize) -> u64 {
        self.slots[i]
    }

    #[inline(always)]
    pub fn int(&self, i: usize) -> i64 {
        self.slots[i] as i64
    }

    #[inline(always)]
    pub fn text(&self, i: usize) -> &[u8] {
        slot::bytes(&self.slots[i], self.heaps[i])
    }
}

/// Runs kernels over the arguments of an instruction.
pub(crate) trait Driver {
    fn map1(&mut self, kernel: impl Fn(u64) -> u64);
    fn try1(&mut self, kernel: impl Fn(u64) -> Option<u64>);
    fn map2(&mut self, kernel: impl Fn(u64, u64) -> u64);
    fn try2(&mut self, kernel: impl Fn(u64, u64) -> Option<u64>);
    fn test1(&mut self, kernel: impl Fn(u64) -> bool);
    fn test2(&mut self, kernel: impl Fn(u64, u64) -> bool);
    /// Two texts, as slots with their heaps.
    fn test_texts(&mut self, kernel: impl Fn(u64, &[u8], u64, &[u8]) -> bool);
    /// Any arguments, a word or a text out (long ones into the heap given).
    fn each(&mut self, kernel: impl FnMut(&Args<'_>, &mut Vec<u8>) -> Option<u64>);
    /// Any arguments, a mask out.
    fn each_test(&mut self, kernel: impl FnMut(&Args<'_>) -> Option<bool>);
    fn and(&mut self);
    fn or(&mut self);
    fn not(&mut self);
    fn is_null(&mut self);
    fn is_true(&mut self);
    fn widen(&mut self);
    fn select(&mut self);
}

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

    /// Whether the operation is NULL exactly where an argument is, or its kernel says so.
    pub fn is_strict(&self) -> bool {
        !matches!(self, Op::And | Op::Or | Op::IsNull | Op::IsTrue | Op::Select | Op::Case)
    }

    /// Whether the operation may be NULL though no argument is.
    pub fn may_fail(&self) -> bool {
        !matches!(
            self,
            Op::And
                | Op::Or
                | Op::Not
                | Op::IsNull
                | Op::IsTrue
                | Op::Mask
                | Op::Widen
                | Op::Select
                | Op::Case
                | Op::Load
                | Op::InRange { .. }
                | Op::InWords(_)
                | Op::InTexts(_)
                | Op::CompareInt(_)
                | Op::CompareScaled { .. }
                | Op::CompareDouble(_)
                | Op::CompareText(_)
                | Op::SignInt { .. }
                | Op::MinInt
                | Op::MaxInt
                | Op::FloorDecimal { .. }
                | Op::CeilDecimal { .. }
                | Op::TruncateDecimal { .. }
                | Op::NegDouble
                | Op::AbsDouble
                | Op::SignDouble
                | Op::MinDouble
                | Op::MaxDouble
                | Op::FloorDouble
                | Op::CeilDouble
                | Op::IntToDouble
                | Op::DecimalToDouble { .. }
                | Op::IntToText
                | Op::DoubleToText
                | Op::DecimalToText { .. }
                | Op::BooleanToText
                | Op::TimeToText
                | Op::Like(_)
                | Op::LikeAny { .. }
                | Op::Matches(_)
                | Op::Trim(_)
                | Op::Length
                | Op::OctetLength
                | Op::Position
                | Op::Left
                | Op::Right
                | Op::MinText
                | Op::MaxText
                | Op::Field(_)
                | Op::MonthsBetween
        )
    }
}
