//! The one table of operations: what each means for the values of one row, said once.
//!
//! [`Op::apply`] (in [`super::kernels`]) hands a kernel to a [`Driver`]; the vector machine is the
//! driver that runs it in a loop over a batch, the scalar machine the one that runs it for a row.
//! Both are instances of the same code, so they cannot differ in meaning.
//!
//! 1. A kernel is total: it never panics, whatever the slots (the slots of NULLs may be garbage
//!    that an earlier operation left, except texts, for which kernels are not called on NULL).
//! 2. Strict operations are NULL where an argument is NULL; a kernel that gives `None` is NULL too.
//! 3. Masks (BOOLEANs inside a program) have no bit set where they are NULL.

use std::cmp::Ordering;

use super::calendar::{Format, Unit};
use super::text::{Like, Regex};
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
    pub fn holds(self, order: Ordering) -> bool {
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
    pub fn has(&self, word: u64) -> bool {
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
    /// Whether this bit of a word is set.
    Flag(u32),

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

impl Op {
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
                | Op::Flag(_)
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
