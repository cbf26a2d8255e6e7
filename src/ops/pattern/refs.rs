//! What `FIRST(step.col)`, `SUM(step.col)` and the like are over the rows of a match or partial
//! match.
//!
//! NULLs: FIRST and LAST give the value of that row, NULL or not; the others pass NULLs over;
//! over no row they are NULL, COUNT is 0 and ARRAY_AGG empty. A sum that does not fit is NULL.

use crate::expr::{StepFunc, StepRef, Value};
use crate::ground::batch::BatchBuilder;
use crate::ground::decimal;
use crate::ground::schema::{DataType, Schema};
use crate::ground::slot::array::ArrayBuilder;

/// The rows of a match, from the last to the first: how both executors show theirs.
pub trait Rows {
    /// Place of a kept row; meaningful to [`Rows::value`].
    type Row: Copy;
    /// The rows of a step (of all steps if `step` is `None`), newest first.
    fn newest_first(&self, step: Option<u32>) -> impl Iterator<Item = Self::Row>;
    /// The first row of a step.
    fn first(&self, step: u32) -> Option<Self::Row> {
        self.newest_first(Some(step)).last()
    }
    /// A kept value.
    fn value(&self, row: Self::Row, place: usize) -> Value<'_>;
}

/// NULL.
pub const NULL: Value<'static> = Value { slot: 0, null: true, heap: &[] };

/// A reference, ready to be worked out.
#[derive(Clone, Debug)]
pub struct Ref {
    func: StepFunc,
    step: u32,
    /// Place of the argument among the kept columns, and its type.
    argument: Option<(usize, DataType)>,
    result: DataType,
}

impl Ref {
    /// Binds a reference to the places of kept columns.
    pub fn new(of: &StepRef, event: &Schema, place: impl Fn(usize) -> Option<usize>) -> Ref {
        let argument = of.argument.map(|column| {
            let place = place(column).expect("every referenced column is kept");
            (place, event.columns[column].data_type.clone())
        });
        Ref { func: of.func, step: of.step as u32, argument, result: of.data_type.clone() }
    }

    /// For FIRST and LAST: whether it is FIRST, the step, and the argument's place.
    pub fn single(&self) -> Option<(bool, u32, usize)> {
        let place = self.argument.as_ref().map(|(place, _)| *place)?;
        match self.func {
            StepFunc::First => Some((true, self.step, place)),
            StepFunc::Last => Some((false, self.step, place)),
            _ => None,
        }
    }

    /// Its value; not for ARRAY_AGG. O(rows of the match), LAST mostly O(1).
    pub fn scalar<'a, R: Rows>(&self, rows: &'a R) -> Value<'a> {
        let found = || rows.newest_first(Some(self.step));
        let Some((place, data_type)) = &self.argument else {
            return word(found().count() as i64);
        };
        let one = match self.func {
            StepFunc::Last => Some(found().next()),
            StepFunc::First => Some(rows.first(self.step)),
            _ => None,
        };
        if let Some(row) = one {
            return row.map_or(NULL, |row| rows.value(row, *place));
        }
        let values = || found().map(|row| rows.value(row, *place));
        let known = || values().filter(|value| !value.null);
        match self.func {
            StepFunc::Count => word(known().count() as i64),
            StepFunc::Min => known().reduce(|a, b| pick(a, b, data_type, true)).unwrap_or(NULL),
            StepFunc::Max => known().reduce(|a, b| pick(a, b, data_type, false)).unwrap_or(NULL),
            StepFunc::Sum | StepFunc::Avg if *data_type == DataType::Double => {
                self.of_doubles(known())
            }
            StepFunc::Sum | StepFunc::Avg => self.of_words(known(), data_type),
            StepFunc::Identity => word(identity(rows, self.step, *place)),
            StepFunc::First | StepFunc::Last | StepFunc::ArrayAgg => NULL,
        }
    }

    fn of_doubles<'a>(&self, values: impl Iterator<Item = Value<'a>>) -> Value<'static> {
        // Doubles are added in the order of the rows, as Flink adds them: oldest first.
        let (mut sum, mut count) = (Vec::new(), 0u64);
        for value in values {
            sum.push(f64::from_bits(value.slot));
            count += 1;
        }
        if count == 0 {
            return NULL;
        }
        let sum: f64 = sum.into_iter().rev().sum();
        let value = if self.func == StepFunc::Avg { sum / count as f64 } else { sum };
        Value { slot: value.to_bits(), ..word(0) }
    }

    fn of_words<'a>(
        &self,
        values: impl Iterator<Item = Value<'a>>,
        data_type: &DataType,
    ) -> Value<'static> {
        let (mut sum, mut count) = (0i128, 0i128);
        for value in values {
            sum += i128::from(value.slot as i64);
            count += 1;
        }
        if count == 0 {
            return NULL;
        }
        let value = match (self.func, data_type, &self.result) {
            (StepFunc::Sum, ..) => sum,
            (_, DataType::Decimal { scale: from, .. }, DataType::Decimal { scale: to, .. }) => {
                let up = i128::from(decimal::POWERS[to.saturating_sub(*from) as usize]);
                decimal::divide_round(sum * up, count)
            }
            _ => sum / count,
        };
        let fits = |value: &i64| match self.result {
            DataType::Decimal { precision, .. } => decimal::fits(*value, precision),
            _ => true,
        };
        i64::try_from(value).ok().filter(fits).map_or(NULL, word)
    }

    /// Appends its value to the row added last to `out`, at `column`. `array` is scratch.
    pub fn write<R: Rows>(
        &self,
        rows: &R,
        out: &mut BatchBuilder,
        column: usize,
        array: &mut ArrayBuilder,
    ) {
        let value = if self.func == StepFunc::ArrayAgg {
            self.collect(rows, array);
            array.finish(&mut out.heap)
        } else {
            let value = self.scalar(rows);
            let in_heap = self.result.is_heaped() && crate::ground::slot::is_heaped(value.slot);
            let slot = if in_heap {
                crate::ground::slot::rehome(value.slot, value.heap, &mut out.heap)
            } else {
                value.slot
            };
            (!value.null).then_some(slot)
        };
        match value {
            Some(slot) => out.last_row_mut()[column] = slot,
            None => out.set_null(column),
        }
    }

    fn collect<R: Rows>(&self, rows: &R, array: &mut ArrayBuilder) {
        array.clear();
        let Some((place, data_type)) = &self.argument else { return };
        let mut found: Vec<Value<'_>> =
            rows.newest_first(Some(self.step)).map(|row| rows.value(row, *place)).collect();
        found.reverse();
        for value in found {
            if value.null {
                array.push(None);
            } else if data_type.is_heaped() {
                array.push_from(value.slot, value.heap);
            } else {
                array.push(Some(value.slot));
            }
        }
    }
}

/// A number of the rows that steps took, by their values at `place`; not below 0, so that it reads
/// the same everywhere.
fn identity<R: Rows>(rows: &R, steps: u32, place: usize) -> i64 {
    let mut mixed = 0u64;
    for step in 0..steps {
        for row in rows.newest_first(Some(step)) {
            let word = rows.value(row, place).slot ^ u64::from(step).rotate_left(32);
            // The finaliser of splitmix64: every bit of what came so far tells.
            mixed = (mixed ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
        }
    }
    (mixed >> 1) as i64
}

fn word(value: i64) -> Value<'static> {
    Value { slot: value as u64, null: false, heap: &[] }
}

fn pick<'a>(a: Value<'a>, b: Value<'a>, data_type: &DataType, least: bool) -> Value<'a> {
    use crate::ground::slot::bytes;
    let order = match data_type {
        DataType::Double => f64::from_bits(a.slot).total_cmp(&f64::from_bits(b.slot)),
        DataType::String | DataType::Bytes | DataType::Array(_) => {
            bytes(&a.slot, a.heap).cmp(bytes(&b.slot, b.heap))
        }
        _ => (a.slot as i64).cmp(&(b.slot as i64)),
    };
    if order.is_le() == least { a } else { b }
}
