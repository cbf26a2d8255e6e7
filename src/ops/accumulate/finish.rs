//! Lines into values: one column of the intermediate row for each call.

use super::{Call, Kind, Layout, Merged, Object, unordered};
use crate::ground::batch::BatchBuilder;
use crate::ground::decimal::{POWERS, divide_round, fits};
use crate::ground::schema::DataType;
use crate::ground::slot;
use crate::ground::slot::array::ArrayBuilder;

/// A value to be put out.
enum Finished {
    Null,
    /// It did not fit its type.
    Overflow,
    Slot(u64),
}

impl Layout {
    /// Writes the calls' values of all merged lines to `rows` rows of `out` that begin at row
    /// `first`, from column `column` on. `distinct[set]` has the counts of each line. Gives how
    /// many values did not fit their type.
    pub fn finish(
        &self,
        merged: &mut Merged,
        distinct: &[Vec<u64>],
        out: &mut BatchBuilder,
        first: usize,
        column: usize,
    ) -> u64 {
        let mut overflows = 0;
        let width = out.width();
        for (i, call) in self.calls.iter().enumerate() {
            let column = column + i;
            match call.kind {
                // The commonest calls, which cannot be NULL, by one plain loop.
                Kind::Count => {
                    let lines = merged.lines.chunks_exact(merged.width);
                    let rows = out.slots_mut()[first * width..].chunks_exact_mut(width);
                    for (row, line) in rows.zip(lines) {
                        row[column] = line[call.at];
                    }
                }
                Kind::Distinct { set } => {
                    let rows = out.slots_mut()[first * width..].chunks_exact_mut(width);
                    for (row, &count) in rows.zip(&distinct[set]) {
                        row[column] = count;
                    }
                }
                Kind::SumInteger { rows } if plain_sums(call, rows, merged, out, first, column) => {
                }
                _ => {
                    for index in 0..merged.slots.len() {
                        let value = finish_call(call, merged, index, &mut out.heap);
                        match value {
                            Finished::Slot(word) => {
                                out.slots_mut()[(first + index) * width + column] = word;
                            }
                            Finished::Null => out.set_null_at(first + index, column),
                            Finished::Overflow => {
                                overflows += 1;
                                out.set_null_at(first + index, column);
                            }
                        }
                    }
                }
            }
        }
        overflows
    }
}

/// Writes sums that all are as they stand in the lines; false if one is NULL or too large.
fn plain_sums(
    call: &Call,
    rows: bool,
    merged: &Merged,
    out: &mut BatchBuilder,
    first: usize,
    column: usize,
) -> bool {
    let most = match call.result {
        DataType::Decimal { precision, .. } => POWERS[precision as usize] as u64 - 1,
        DataType::Double => return false,
        _ => u64::MAX,
    };
    if !merged.carries.is_empty() {
        return false;
    }
    let (width, mut odd) = (out.width(), false);
    let lines = merged.lines.chunks_exact(merged.width);
    let values = out.slots_mut()[first * width..].chunks_exact_mut(width);
    for (row, line) in values.zip(lines) {
        let word = line[call.at];
        odd |= (word as i64).unsigned_abs() > most || (rows && line[call.at + 1] == 0);
        row[column] = word;
    }
    !odd
}

fn finish_call(call: &Call, merged: &mut Merged, index: usize, heap: &mut Vec<u8>) -> Finished {
    let at = call.at;
    let word = merged.lines[index * merged.width + at];
    let next = |offset: usize| merged.lines[index * merged.width + at + offset];
    match call.kind {
        Kind::Count | Kind::Distinct { .. } => Finished::Slot(word),
        Kind::SumInteger { rows } if rows && next(1) == 0 => Finished::Null,
        Kind::SumInteger { .. } => integer(merged.exact(index, at), &call.result),
        Kind::SumDouble { rows } if rows && next(1) == 0 => Finished::Null,
        Kind::SumDouble { .. } => Finished::Slot(word),
        Kind::AverageInteger if next(1) == 0 => Finished::Null,
        Kind::AverageInteger => average(merged.exact(index, at), next(1), call),
        Kind::AverageDouble if next(1) == 0 => Finished::Null,
        Kind::AverageDouble => Finished::Slot((f64::from_bits(word) / next(1) as f64).to_bits()),
        Kind::Extreme { rows, .. } if rows && next(1) == 0 => Finished::Null,
        Kind::Extreme { max, order, .. } => {
            Finished::Slot(unordered(word ^ if max { 0 } else { !0 }, order))
        }
        Kind::Nth { .. } | Kind::ExtremeText { .. } if word == 0 => Finished::Null,
        Kind::Nth { heaped: false, .. } => Finished::Slot(next(1)),
        Kind::Nth { .. } | Kind::ExtremeText { .. } => {
            let value = next(1);
            if slot::is_heaped(value) {
                let text = merged.pool.get(next(2)).map_or(&[][..], Object::text);
                Finished::Slot(slot::put_heaped(text, heap))
            } else {
                Finished::Slot(value)
            }
        }
        Kind::Variance { .. } if f64::from_bits(word) == 0.0 => Finished::Null,
        Kind::Variance { root } => {
            let variance = f64::from_bits(next(2)) / f64::from_bits(word);
            from_double(if root { variance.sqrt() } else { variance }, &call.result)
        }
        Kind::Percentile { quantile } => match merged.object(index, at) {
            Some(object) => match object.percentile().quantile(quantile) {
                Ok(Some(value)) => from_double(value, &call.result),
                _ => Finished::Null,
            },
            None => Finished::Null,
        },
        Kind::Cardinality => {
            let object = merged.object(index, at);
            Finished::Slot(object.map_or(0, |object| object.cardinality().estimate()))
        }
        Kind::TopK { k } => array(call, merged, index, heap, |list, argument| {
            list.keep_top(k, argument);
        }),
        Kind::Array => array(call, merged, index, heap, |list, _| list.sort_by_arrival()),
    }
}

fn integer(value: i128, result: &DataType) -> Finished {
    match (i64::try_from(value), result) {
        (Ok(value), DataType::Double) => Finished::Slot((value as f64).to_bits()),
        (Ok(value), DataType::Decimal { precision, .. }) if !fits(value, *precision) => {
            Finished::Overflow
        }
        (Ok(value), _) => Finished::Slot(value as u64),
        (Err(_), _) => Finished::Overflow,
    }
}

/// AVG: truncated for BIGINT, rounded half up at the result's scale for DECIMAL.
fn average(sum: i128, rows: u64, call: &Call) -> Finished {
    let from = match call.argument {
        DataType::Decimal { scale, .. } => scale,
        _ => 0,
    };
    match call.result {
        DataType::Decimal { scale, .. } => {
            let (up, down) = (scale.saturating_sub(from), from.saturating_sub(scale));
            let above = sum.checked_mul(i128::from(POWERS[up as usize]));
            let below = i128::from(rows).checked_mul(i128::from(POWERS[down as usize]));
            match (above, below) {
                (Some(above), Some(below)) => integer(divide_round(above, below), &call.result),
                _ => Finished::Overflow,
            }
        }
        DataType::Double => {
            let mean = sum as f64 / rows as f64 / POWERS[from as usize] as f64;
            Finished::Slot(mean.to_bits())
        }
        _ => integer(sum / i128::from(rows), &call.result),
    }
}

/// A float as a value of a numeric type: truncated for integers, rounded for decimals.
fn from_double(value: f64, result: &DataType) -> Finished {
    match result {
        DataType::Decimal { scale, .. } => {
            let scaled = (value * POWERS[*scale as usize] as f64).round();
            if scaled.abs() < i64::MAX as f64 {
                integer(scaled as i128, result)
            } else {
                Finished::Overflow
            }
        }
        DataType::BigInt | DataType::Timestamp => {
            if value.abs() < i64::MAX as f64 {
                Finished::Slot(value as i64 as u64)
            } else {
                Finished::Overflow
            }
        }
        _ => Finished::Slot(value.to_bits()),
    }
}

/// A list as an ARRAY; NULL over no row, as ARRAY_AGG and TOP_K are in Flink.
fn array(
    call: &Call,
    merged: &mut Merged,
    index: usize,
    heap: &mut Vec<u8>,
    order: impl FnOnce(&mut super::object::List, &DataType),
) -> Finished {
    let Some(object) = merged.object(index, call.at) else {
        return Finished::Null;
    };
    let list = object.list();
    order(list, &call.argument);
    let mut builder = ArrayBuilder::default();
    for value in list.values() {
        match value {
            Some(word) if call.argument.is_heaped() => builder.push_from(word, list.heap()),
            other => builder.push(other),
        }
    }
    builder.finish(heap).map_or(Finished::Overflow, Finished::Slot)
}
