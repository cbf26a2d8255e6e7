//! Accumulators: what a key's rows of a pane amount to, in the words of one line.
//!
//! The calls of a `select` are laid out side by side in a line of words, so that a row touches one
//! cache line; each call then runs over a batch in one typed loop. Panes of a window are merged
//! line by line, and a merged line is finished to values.
//!
//! 1. A line of zeros is the empty accumulator of every call, and merging it changes nothing.
//! 2. Integer and decimal sums are exact: what leaves 64 bits goes to the column's carries, so a
//!    result depends on the rows, not on their order. A result that does not fit its type is NULL
//!    and counted.
//! 3. FIRST, LAST and ARRAY_AGG go by order of arrival, as in Flink: rows are numbered.
//! 4. COUNT(DISTINCT) has no words: see [`crate::state::distinct`].

mod cardinality;
mod emit;
mod finish;
mod merge;
mod object;
mod show;
mod update;

pub use emit::Emitter;
pub use merge::Merged;
pub use object::Object;
pub use show::show_distinct;
pub use update::Batch;

use crate::expr::Program;
use crate::expr::aggregate::{AggregateCall, AggregateFunc};
use crate::ground::batch::RecordBatch;
use crate::ground::bits;
use crate::ground::schema::DataType;
use crate::state::lines::Lines;

/// How a value's slot becomes a word that grows with it, so that MIN and MAX are one unsigned
/// maximum whose identity is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Signed,
    Double,
}

/// What an accumulator is made of; `at` of its [`Call`] is its first word.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Rows that count.
    Count,
    /// sum | rows, the latter if a sum over no row is possible.
    SumInteger { rows: bool },
    /// sum as f64 | rows, as above.
    SumDouble { rows: bool },
    /// sum | rows.
    AverageInteger,
    /// sum as f64 | rows.
    AverageDouble,
    /// greatest mapped word | rows, as above.
    Extreme { max: bool, order: Order, rows: bool },
    /// 1 if any | slot, long texts as a mark | number of the long text.
    ExtremeText { max: bool },
    /// row number, 0 if none | slot, null for NULL | number of the long text.
    Nth { last: bool, heaped: bool },
    /// rows as f64 | mean | sum of squared distances (Welford; merged as Chan and others do).
    Variance { root: bool },
    /// number of the sketch.
    Percentile { quantile: f64 },
    /// number of the sketch.
    Cardinality,
    /// number of the list.
    TopK { k: usize },
    /// number of the list.
    Array,
    /// Which of the operator's sets of distinct values.
    Distinct { set: usize },
}

impl Kind {
    fn words(self) -> usize {
        match self {
            Kind::Distinct { .. } => 0,
            Kind::Count
            | Kind::Percentile { .. }
            | Kind::Cardinality
            | Kind::TopK { .. }
            | Kind::Array => 1,
            Kind::SumInteger { rows } | Kind::SumDouble { rows } | Kind::Extreme { rows, .. } => {
                1 + usize::from(rows)
            }
            Kind::AverageInteger | Kind::AverageDouble => 2,
            Kind::Nth { heaped, .. } => 2 + usize::from(heaped),
            Kind::ExtremeText { .. } | Kind::Variance { .. } => 3,
        }
    }

    /// The word, counted from `at`, that holds a pool number.
    fn owned(self) -> Option<usize> {
        match self {
            Kind::ExtremeText { .. } | Kind::Nth { heaped: true, .. } => Some(2),
            Kind::Percentile { .. } | Kind::Cardinality | Kind::TopK { .. } | Kind::Array => {
                Some(0)
            }
            _ => None,
        }
    }

    /// Whether merging is adding each word as an integer.
    fn is_additive(self) -> bool {
        matches!(
            self,
            Kind::Count | Kind::SumInteger { .. } | Kind::AverageInteger | Kind::Distinct { .. }
        )
    }
}

/// One call's place and types.
#[derive(Clone, Debug)]
struct Call {
    kind: Kind,
    at: usize,
    /// Type of the argument; BOOLEAN where there is none.
    argument: DataType,
    result: DataType,
}

/// Where each call of a `select` has its words.
#[derive(Clone, Debug)]
pub struct Layout {
    calls: Vec<Call>,
    words: usize,
    additive: bool,
}

impl Layout {
    /// Lays the calls out. O(calls).
    pub fn new(calls: &[AggregateCall]) -> Layout {
        let (mut laid, mut words, mut sets) = (Vec::new(), 0, 0);
        for call in calls {
            let argument = call.argument.as_ref().map(Program::data_type);
            let argument = argument.cloned().unwrap_or(DataType::Boolean);
            let nullable = call.argument.as_ref().is_some_and(Program::nullable);
            let mut kind = kind_of(&call.func, &argument, nullable || call.filter.is_some());
            if let Kind::Distinct { set } = &mut kind {
                *set = sets;
                sets += 1;
            }
            let at = words;
            words += kind.words();
            laid.push(Call { kind, at, argument, result: call.result.clone() });
        }
        Layout {
            additive: laid.iter().all(|call| call.kind.is_additive()),
            calls: laid,
            words: words.max(1),
        }
    }

    /// Words of a line.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Words that a line takes in memory.
    fn width(&self) -> usize {
        Lines::width_of(self.words)
    }

    /// Words that hold pool numbers.
    pub fn owned(&self) -> Vec<usize> {
        let owned = |call: &Call| call.kind.owned().map(|word| call.at + word);
        self.calls.iter().filter_map(owned).collect()
    }

    /// The calls that are COUNT(DISTINCT), and the types of their arguments, in the order of
    /// their sets.
    pub fn distinct(&self) -> Vec<(usize, DataType)> {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| matches!(call.kind, Kind::Distinct { .. }))
            .map(|(i, call)| (i, call.argument.clone()))
            .collect()
    }
}

fn kind_of(func: &AggregateFunc, argument: &DataType, rows: bool) -> Kind {
    let double = *argument == DataType::Double;
    match func {
        AggregateFunc::CountStar | AggregateFunc::Count => Kind::Count,
        AggregateFunc::CountDistinct => Kind::Distinct { set: 0 },
        AggregateFunc::Sum if double => Kind::SumDouble { rows },
        AggregateFunc::Sum => Kind::SumInteger { rows },
        AggregateFunc::Avg if double => Kind::AverageDouble,
        AggregateFunc::Avg => Kind::AverageInteger,
        AggregateFunc::Min | AggregateFunc::Max => {
            let max = matches!(func, AggregateFunc::Max);
            if argument.is_heaped() {
                return Kind::ExtremeText { max };
            }
            let order = if double { Order::Double } else { Order::Signed };
            Kind::Extreme { max, order, rows }
        }
        AggregateFunc::First | AggregateFunc::Last => {
            Kind::Nth { last: matches!(func, AggregateFunc::Last), heaped: argument.is_heaped() }
        }
        AggregateFunc::StddevPop => Kind::Variance { root: true },
        AggregateFunc::VarPop => Kind::Variance { root: false },
        AggregateFunc::ApproxPercentile(quantile) => Kind::Percentile { quantile: *quantile },
        AggregateFunc::ApproxCountDistinct => Kind::Cardinality,
        AggregateFunc::TopK(k) => Kind::TopK { k: *k },
        AggregateFunc::ArrayAgg => Kind::Array,
    }
}

/// A batch's arguments to one call.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The argument of each row; empty where there is none.
    pub values: &'a [u64],
    /// Bit i: the argument of row i is NULL.
    pub nulls: Option<&'a [u64]>,
    /// Long texts of the arguments.
    pub heap: &'a [u8],
    /// Bit i: row i passes the filter and its argument is not NULL; absent if all do.
    pub live: Option<&'a [u64]>,
    /// Bit i: row i passes the filter, whatever its argument; absent if all do.
    pub passed: Option<&'a [u64]>,
}

impl Input<'_> {
    #[inline(always)]
    pub fn is_live(&self, row: usize) -> bool {
        self.live.is_none_or(|live| bits::get(live, row))
    }
}

/// The programs of a call and the masks they make.
#[derive(Clone)]
struct Programs {
    argument: Option<Program>,
    filter: Option<Program>,
    passed: Vec<u64>,
    live: Vec<u64>,
}

/// Evaluates the arguments and filters of all calls, once a batch.
#[derive(Clone)]
pub struct Arguments {
    calls: Vec<Programs>,
}

impl Arguments {
    /// The programs of the calls.
    pub fn new(calls: &[AggregateCall]) -> Arguments {
        let programs = |call: &AggregateCall| Programs {
            argument: call.argument.clone(),
            filter: call.filter.clone(),
            passed: Vec::new(),
            live: Vec::new(),
        };
        Arguments { calls: calls.iter().map(programs).collect() }
    }

    /// The inputs of each call for the selected rows, in the order of `select`.
    pub fn eval<'a>(&'a mut self, batch: &'a RecordBatch, select: &[u32]) -> Vec<Input<'a>> {
        let calls = self.calls.iter_mut();
        calls.map(|call| call.eval(batch, select)).collect()
    }
}

impl Programs {
    fn eval<'a>(&'a mut self, batch: &'a RecordBatch, select: &[u32]) -> Input<'a> {
        if let Some(filter) = &mut self.filter {
            filter.mask(batch, select, &mut self.passed);
        }
        let filtered = self.filter.is_some();
        let mut input = Input { values: &[], nulls: None, heap: &[], live: None, passed: None };
        if let Some(argument) = &mut self.argument {
            let vector = argument.eval(batch, select);
            input.values = vector.values;
            input.nulls = vector.nulls;
            input.heap = vector.heap;
        }
        self.live.clear();
        match (filtered, input.nulls) {
            (false, None) => return input,
            (false, Some(nulls)) => {
                let words = nulls.iter().take(bits::words(select.len()));
                self.live.extend(words.map(|word| !word));
            }
            (true, None) => self.live.extend_from_slice(&self.passed),
            (true, Some(nulls)) => {
                let words = self.passed.iter().zip(nulls);
                self.live.extend(words.map(|(passed, null)| passed & !null));
            }
        }
        input.live = Some(&self.live);
        input.passed = filtered.then_some(&self.passed[..]);
        input
    }
}

/// The word of a value that grows with it.
#[inline(always)]
fn ordered(slot: u64, order: Order) -> u64 {
    const SIGN: u64 = 1 << 63;
    match order {
        Order::Signed => slot ^ SIGN,
        // The total order of IEEE 754: negative numbers have their bits turned round.
        Order::Double if slot & SIGN != 0 => !slot,
        Order::Double => slot | SIGN,
    }
}

/// The value of a word made by [`ordered`].
#[inline(always)]
fn unordered(word: u64, order: Order) -> u64 {
    const SIGN: u64 = 1 << 63;
    match order {
        Order::Signed => word ^ SIGN,
        Order::Double if word & SIGN != 0 => word & !SIGN,
        Order::Double => !word,
    }
}

/// A numeric slot as a float, for variances and sketches.
#[inline(always)]
fn as_double(slot: u64, data_type: &DataType) -> f64 {
    match data_type {
        DataType::Double => f64::from_bits(slot),
        DataType::Decimal { scale, .. } => {
            slot as i64 as f64 / crate::ground::decimal::POWERS[*scale as usize] as f64
        }
        _ => slot as i64 as f64,
    }
}
