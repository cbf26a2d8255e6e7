//! The scalar functions: their names, how many arguments they take, what they become.

use super::calendar::{Format, Unit};
use super::functions::{Call, Made, case, ceil, concat, element, regex};
use super::node::Node;
use super::op::{Compare, Ends, Op};
use super::operators::{self, Arithmetic};
use super::types;
use crate::ground::schema::DataType;

/// Name, fewest and most arguments, what it becomes.
pub(crate) type Function = (&'static str, usize, usize, fn(&mut Call<'_>) -> Made);

pub(crate) const MANY: usize = usize::MAX;

pub(crate) const FUNCTIONS: &[Function] = &[
    ("ABS", 1, 1, abs),
    ("BTRIM", 1, 2, |call| trimmed(call, Ends::Both)),
    ("CARDINALITY", 1, 1, cardinality),
    ("CEILING", 1, 1, |call| Ok(ceil(call.number(0)?))),
    ("CHARACTER_LENGTH", 1, 1, |call| length(call)),
    ("CHAR_LENGTH", 1, 1, |call| length(call)),
    ("COALESCE", 1, MANY, coalesce),
    ("CONCAT", 1, MANY, concat_all),
    ("DATE_FORMAT", 2, 2, date_format),
    ("DATE_TRUNC", 2, 2, date_trunc),
    ("DAYOFMONTH", 1, 1, |call| field(call, Unit::Day)),
    ("DAYOFWEEK", 1, 1, |call| field(call, Unit::DayOfWeek)),
    ("DAYOFYEAR", 1, 1, |call| field(call, Unit::DayOfYear)),
    ("ELEMENT_AT", 2, 2, element_at),
    ("EXP", 1, 1, |call| call.doubles(Op::Exp)),
    ("GREATEST", 1, MANY, |call| extreme(call, true)),
    ("HOUR", 1, 1, |call| field(call, Unit::Hour)),
    ("IF", 3, 3, if_else),
    ("IFNULL", 2, 2, coalesce),
    ("INITCAP", 1, 1, |call| call.texts(Op::Initcap, DataType::String)),
    ("INSTR", 2, 2, |call| {
        call.args.swap(0, 1);
        call.spans.swap(0, 1);
        call.texts(Op::Position, DataType::BigInt)
    }),
    ("LEAST", 1, MANY, |call| extreme(call, false)),
    ("LEFT", 2, 2, |call| text_and_int(call, Op::Left)),
    ("LENGTH", 1, 1, |call| length(call)),
    ("LN", 1, 1, |call| call.doubles(Op::Ln)),
    ("LOCATE", 2, 2, |call| call.texts(Op::Position, DataType::BigInt)),
    ("LOG", 1, 2, log),
    ("LOG10", 1, 1, |call| call.doubles(Op::Log10)),
    ("LOWER", 1, 1, |call| call.texts(Op::Lower, DataType::String)),
    ("LPAD", 2, 3, |call| padded(call, Ends::Leading)),
    ("LTRIM", 1, 2, |call| trimmed(call, Ends::Leading)),
    ("MINUTE", 1, 1, |call| field(call, Unit::Minute)),
    ("MOD", 2, 2, modulo),
    ("MONTH", 1, 1, |call| field(call, Unit::Month)),
    ("NULLIF", 2, 2, null_if),
    ("NVL", 2, 2, coalesce),
    ("OCTET_LENGTH", 1, 1, octet_length),
    ("POW", 2, 2, |call| call.doubles(Op::Power)),
    ("POWER", 2, 2, |call| call.doubles(Op::Power)),
    ("QUARTER", 1, 1, |call| field(call, Unit::Quarter)),
    ("REGEXP", 2, 2, regexp),
    ("REGEXP_EXTRACT", 2, 3, regexp_extract),
    ("REGEXP_LIKE", 2, 2, regexp),
    ("REGEXP_REPLACE", 3, 3, regexp_replace),
    ("REPEAT", 2, 2, |call| text_and_int(call, Op::Repeat)),
    ("REPLACE", 3, 3, |call| call.texts(Op::Replace, DataType::String)),
    ("REVERSE", 1, 1, |call| call.texts(Op::Reverse, DataType::String)),
    ("RIGHT", 2, 2, |call| text_and_int(call, Op::Right)),
    ("ROUND", 1, 2, round),
    ("RPAD", 2, 3, |call| padded(call, Ends::Trailing)),
    ("RTRIM", 1, 2, |call| trimmed(call, Ends::Trailing)),
    ("SECOND", 1, 1, |call| field(call, Unit::Second)),
    ("SIGN", 1, 1, sign),
    ("SPLIT", 2, 2, split),
    ("SPLIT_INDEX", 3, 3, split_index),
    ("SQRT", 1, 1, |call| call.doubles(Op::Sqrt)),
    ("TO_TIMESTAMP", 1, 1, |call| {
        let text = call.take(0, &DataType::String)?;
        Ok(text.cast(&DataType::Timestamp).expect("texts are cast to times"))
    }),
    ("UPPER", 1, 1, |call| call.texts(Op::Upper, DataType::String)),
    ("WEEK", 1, 1, |call| field(call, Unit::Week)),
    ("YEAR", 1, 1, |call| field(call, Unit::Year)),
];

fn abs(call: &mut Call<'_>) -> Made {
    let node = call.number(0)?;
    let data_type = node.data_type.clone().expect("numbers are typed");
    let op = if data_type == DataType::Double { Op::AbsDouble } else { Op::AbsInt };
    Ok(Node::call(op, vec![node], data_type))
}

fn sign(call: &mut Call<'_>) -> Made {
    let node = call.number(0)?;
    let data_type = node.data_type.clone().expect("numbers are typed");
    // A DECIMAL of no whole digits, like DECIMAL(3,3), gets one for the 1.
    let (op, result) = match data_type {
        DataType::Double => (Op::SignDouble, DataType::Double),
        DataType::Decimal { precision, scale } if scale < 18 => {
            let one = crate::ground::decimal::POWERS[scale as usize];
            let digits = u32::from(precision.max(scale + 1));
            (Op::SignInt { one }, types::decimal(digits, u32::from(scale)))
        }
        DataType::Decimal { .. } => (Op::SignInt { one: 1 }, types::decimal(1, 0)),
        other => (Op::SignInt { one: 1 }, other),
    };
    Ok(Node::call(op, vec![node], result))
}

/// ROUND(x) and ROUND(x, places), half away from zero; types as in Flink.
fn round(call: &mut Call<'_>) -> Made {
    let places = match call.args.len() {
        2 => {
            let node = call.take(1, &DataType::BigInt)?;
            let Some(places) = node.as_int() else {
                return Err(call.error(1, "the decimal places of ROUND must be a literal number"));
            };
            places.clamp(-40, 40) as i32
        }
        _ => 0,
    };
    let node = call.number(0)?;
    let data_type = node.data_type.clone().expect("numbers are typed");
    let (p, s) = match types::exact(&data_type) {
        None => {
            let op = Op::RoundDouble { digits: places };
            return Ok(Node::call(op, vec![node], DataType::Double));
        }
        Some((p, s)) => (p as i32, s as i32),
    };
    if places >= s {
        return Ok(node);
    }
    // At most 38 digits can be dropped at once; a BIGINT has 19.
    let (drop, up) = ((s - places).min(38) as u8, (-places).clamp(0, 19) as u8);
    let (result, precision) = match data_type {
        DataType::BigInt => (DataType::BigInt, 0),
        _ => {
            let result = types::decimal((1 + p - s + places.max(0)) as u32, places.max(0) as u32);
            let precision = types::precision(&result);
            (result, precision)
        }
    };
    let op = Op::RoundDecimal { drop, up, precision };
    Ok(Node::call(op, vec![node], result))
}

fn modulo(call: &mut Call<'_>) -> Made {
    let (a, b) = (call.number(0)?, call.number(1)?);
    Ok(operators::arithmetic(Arithmetic::Mod, a, b).expect("both are numbers"))
}

/// LOG(x) is natural, LOG(base, x) is not.
fn log(call: &mut Call<'_>) -> Made {
    if call.args.len() == 1 {
        return call.doubles(Op::Ln);
    }
    let ln = |node: Node| {
        let node = node.cast(&DataType::Double).expect("numbers are cast to DOUBLE");
        Node::call(Op::Ln, vec![node], DataType::Double)
    };
    let (base, value) = (ln(call.number(0)?), ln(call.number(1)?));
    Ok(Node::call(Op::DivDouble, vec![value, base], DataType::Double))
}

fn coalesce(call: &mut Call<'_>) -> Made {
    let (mut args, data_type) = call.unified()?;
    // What cannot be NULL ends the search.
    if let Some(end) = args.iter().position(|arg| !arg.nullable) {
        args.truncate(end + 1);
    }
    let nullable = args.iter().all(|arg| arg.nullable);
    let tests = args[..args.len() - 1].iter().map(|arg| arg.clone().null_test().not());
    let node = case(tests.collect(), args.clone(), data_type);
    Ok(Node { nullable, ..node })
}

fn null_if(call: &mut Call<'_>) -> Made {
    let other = std::mem::replace(&mut call.args[1], Node::null(None));
    let node = std::mem::replace(&mut call.args[0], Node::null(None));
    let data_type = node.data_type.clone();
    let names = (node.type_name(), other.type_name());
    let equal = operators::compare(Compare::Eq, node.clone(), other)
        .ok_or_else(|| call.error(1, format!("{} and {} cannot be compared", names.0, names.1)))?;
    Ok(case(vec![equal], vec![Node::null(data_type.clone()), node], data_type))
}

fn if_else(call: &mut Call<'_>) -> Made {
    let test = call.take(0, &DataType::Boolean)?;
    call.args.remove(0);
    call.spans.remove(0);
    let (results, data_type) = call.unified()?;
    Ok(case(vec![test], results, data_type))
}

fn extreme(call: &mut Call<'_>, greatest: bool) -> Made {
    let (args, data_type) = call.unified()?;
    let Some(data_type) = data_type else {
        return Ok(Node::null(None));
    };
    let op = match (&data_type, greatest) {
        (DataType::Boolean | DataType::Array(_), _) => {
            let message = format!("{} does not order {data_type}", call.name);
            return Err(call.source.error(call.span.clone(), message));
        }
        (DataType::Double, true) => Op::MaxDouble,
        (DataType::Double, false) => Op::MinDouble,
        (DataType::String | DataType::Bytes, true) => Op::MaxText,
        (DataType::String | DataType::Bytes, false) => Op::MinText,
        (_, true) => Op::MaxInt,
        (_, false) => Op::MinInt,
    };
    let joined =
        args.into_iter().reduce(|a, b| Node::call(op.clone(), vec![a, b], data_type.clone()));
    Ok(joined.expect("there is an argument"))
}

fn concat_all(call: &mut Call<'_>) -> Made {
    let mut texts = Vec::new();
    for (i, arg) in std::mem::take(&mut call.args).into_iter().enumerate() {
        let name = arg.type_name();
        let text = arg.cast(&DataType::String);
        texts.push(
            text.ok_or_else(|| call.error(i, format!("a {name} cannot be joined to a text")))?,
        );
    }
    Ok(concat(texts))
}

fn length(call: &mut Call<'_>) -> Made {
    if call.args[0].data_type == Some(DataType::Bytes) {
        return octet_length(call);
    }
    call.texts(Op::Length, DataType::BigInt)
}

fn octet_length(call: &mut Call<'_>) -> Made {
    let bytes = match &call.args[0].data_type {
        Some(DataType::Bytes) => call.take(0, &DataType::Bytes)?,
        _ => call.take(0, &DataType::String)?,
    };
    Ok(Node::call(Op::OctetLength, vec![bytes], DataType::BigInt))
}

fn trimmed(call: &mut Call<'_>, ends: Ends) -> Made {
    if call.args.len() == 1 {
        call.args.push(Node::text(" "));
        call.spans.push(call.span.clone());
    }
    call.texts(Op::Trim(ends), DataType::String)
}

fn padded(call: &mut Call<'_>, ends: Ends) -> Made {
    let (text, len) = (call.take(0, &DataType::String)?, call.take(1, &DataType::BigInt)?);
    let with = match call.args.len() {
        3 => call.take(2, &DataType::String)?,
        _ => Node::text(" "),
    };
    Ok(Node::call(Op::Pad(ends), vec![text, len, with], DataType::String))
}

fn text_and_int(call: &mut Call<'_>, op: Op) -> Made {
    let args = vec![call.take(0, &DataType::String)?, call.take(1, &DataType::BigInt)?];
    Ok(Node::call(op, args, DataType::String))
}

fn split(call: &mut Call<'_>) -> Made {
    call.texts(Op::Split, DataType::Array(Box::new(DataType::String)))
}

fn split_index(call: &mut Call<'_>) -> Made {
    let args = vec![
        call.take(0, &DataType::String)?,
        call.take(1, &DataType::String)?,
        call.take(2, &DataType::BigInt)?,
    ];
    Ok(Node::call(Op::SplitIndex, args, DataType::String))
}

fn cardinality(call: &mut Call<'_>) -> Made {
    match &call.args[0].data_type {
        Some(DataType::Array(_)) => {
            let args = std::mem::take(&mut call.args);
            Ok(Node::call(Op::Cardinality, args, DataType::BigInt))
        }
        _ => {
            Err(call.error(0, format!("an ARRAY is wanted; this is {}", call.args[0].type_name())))
        }
    }
}

fn element_at(call: &mut Call<'_>) -> Made {
    let index = call.take(1, &DataType::BigInt)?;
    let array = std::mem::replace(&mut call.args[0], Node::null(None));
    element(array, index).map_err(|name| call.error(0, format!("a {name} has no elements")))
}

fn regexp(call: &mut Call<'_>) -> Made {
    let text = call.take(0, &DataType::String)?;
    let pattern = call.take(1, &DataType::String)?;
    let regex = regex(call.source, &pattern, call.spans[1].clone())?;
    Ok(Node::call(Op::Matches(regex), vec![text], DataType::Boolean))
}

fn regexp_extract(call: &mut Call<'_>) -> Made {
    let text = call.take(0, &DataType::String)?;
    let pattern = call.take(1, &DataType::String)?;
    let regex = regex(call.source, &pattern, call.spans[1].clone())?;
    let group = match call.args.len() {
        3 => {
            let node = call.take(2, &DataType::BigInt)?;
            let group = node.as_int().and_then(|group| usize::try_from(group).ok());
            group.ok_or_else(|| call.error(2, "the group must be a literal number from 0"))?
        }
        _ => 0,
    };
    if group >= regex.groups() {
        let message =
            format!("the pattern has {} groups; group {group} is none of them", regex.groups() - 1);
        return Err(call.error(2, message));
    }
    Ok(Node::call(Op::Extract(regex, group), vec![text], DataType::String))
}

fn regexp_replace(call: &mut Call<'_>) -> Made {
    let text = call.take(0, &DataType::String)?;
    let pattern = call.take(1, &DataType::String)?;
    let regex = regex(call.source, &pattern, call.spans[1].clone())?;
    let with = call.literal_text(2, "the replacement")?;
    Ok(Node::call(Op::ReplaceAll(regex, with.into()), vec![text], DataType::String))
}

fn field(call: &mut Call<'_>, unit: Unit) -> Made {
    let time = call.take(0, &DataType::Timestamp)?;
    Ok(Node::call(Op::Field(unit), vec![time], DataType::BigInt))
}

fn date_trunc(call: &mut Call<'_>) -> Made {
    let name = call.literal_text(0, "the unit")?;
    let Some(unit) = Unit::named(&name).filter(|unit| unit.is_grain()) else {
        return Err(call
            .error(0, format!("'{name}' is not a unit that a time can be cut to"))
            .hint(
                "units are 'year', 'quarter', 'month', 'week', 'day', 'hour', 'minute', 'second'",
            ));
    };
    let time = call.take(1, &DataType::Timestamp)?;
    Ok(Node::call(Op::Truncate(unit), vec![time], DataType::Timestamp))
}

fn date_format(call: &mut Call<'_>) -> Made {
    let time = call.take(0, &DataType::Timestamp)?;
    let pattern = call.literal_text(1, "the pattern")?;
    let format = Format::new(&pattern).map_err(|why| {
        call.error(1, why).hint("patterns are made of yyyy MM dd HH mm ss SSS and quoted 'text'")
    })?;
    Ok(Node::call(Op::Format(format), vec![time], DataType::String))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.0));
    }
}
