//! What operators mean for the types of their sides: which casts, which operation, what type comes
//! out. `None` says that the types do not go together; the caller knows where that stands.

use super::node::{Kind, Literal, Node, Span};
use super::op::{Compare, Op, Texts, Words};
use super::types;
use crate::ground::decimal::POWERS;
use crate::ground::schema::DataType;
use crate::ground::slot;

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

/// `left compare right`. Exact numbers are compared exactly whatever their scales; a text literal
/// beside a TIMESTAMP is read as one.
pub(crate) fn compare(compare: Compare, left: Node, right: Node) -> Option<Node> {
    if is_literal(&left) && !is_literal(&right) {
        return self::compare(compare.flipped(), right, left);
    }
    let (Some(a), Some(b)) = (left.data_type.clone(), right.data_type.clone()) else {
        return Some(Node::null(Some(DataType::Boolean)));
    };
    let call = |op, left, right| Some(Node::call(op, vec![left, right], DataType::Boolean));
    match (&a, &b) {
        (
            DataType::BigInt | DataType::Decimal { .. },
            DataType::BigInt | DataType::Decimal { .. },
        ) => {
            if let Some(word) = right.as_word() {
                let places = (types::scale(&a), types::scale(&b));
                return Some(compare_exact(compare, left, word as i64, places));
            }
            let scale = types::scale(&a).max(types::scale(&b));
            let (up_left, up_right) = (scale - types::scale(&a), scale - types::scale(&b));
            if up_left == 0 && up_right == 0 {
                return call(Op::CompareInt(compare), left, right);
            }
            let op = Op::CompareScaled {
                compare,
                left: POWERS[up_left as usize],
                right: POWERS[up_right as usize],
            };
            call(op, left, right)
        }
        _ if a.is_numeric() && b.is_numeric() => {
            let (left, right) = (left.cast(&DataType::Double)?, right.cast(&DataType::Double)?);
            call(Op::CompareDouble(compare), left, right)
        }
        (DataType::Timestamp, DataType::Timestamp) => match right.as_word() {
            Some(word) => Some(compare_exact(compare, left, word as i64, (0, 0))),
            None => call(Op::CompareInt(compare), left, right),
        },
        (DataType::Boolean, DataType::Boolean) => call(Op::CompareInt(compare), left, right),
        (DataType::String, DataType::String) | (DataType::Bytes, DataType::Bytes) => {
            Some(compare_texts(compare, left, right))
        }
        (DataType::Timestamp, DataType::String) if is_literal(&right) => {
            let time = right.cast(&DataType::Timestamp).filter(|time| !time.is_null())?;
            self::compare(compare, left, time)
        }
        (DataType::String, DataType::Timestamp) if is_literal(&left) => {
            let time = left.cast(&DataType::Timestamp).filter(|time| !time.is_null())?;
            self::compare(compare, time, right)
        }
        _ => None,
    }
}

fn is_literal(node: &Node) -> bool {
    matches!(node.kind, Kind::Literal(_))
}

fn compare_texts(compare: Compare, left: Node, right: Node) -> Node {
    if let (Compare::Eq | Compare::Ne, Some(word)) = (compare, right.as_word()) {
        let equal = in_range(left, i128::from(word as i64), i128::from(word as i64));
        return if compare == Compare::Eq { equal } else { equal.not() };
    }
    Node::call(Op::CompareText(compare), vec![left, right], DataType::Boolean)
}

/// `left compare constant`, as a range of `left`'s own slots: one test whatever the comparison
/// and the scales.
fn compare_exact(compare: Compare, left: Node, constant: i64, places: (u8, u8)) -> Node {
    let (floor, is_exact) = at_scale(constant, places);
    let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
    match compare {
        Compare::Eq | Compare::Ne => {
            let equal = if is_exact { in_range(left, floor, floor) } else { in_range(left, 1, 0) };
            if compare == Compare::Eq { equal } else { equal.not() }
        }
        Compare::Lt => in_range(left, least, floor - i128::from(is_exact)),
        Compare::Le => in_range(left, least, floor),
        Compare::Gt => in_range(left, floor + 1, most),
        Compare::Ge => in_range(left, floor + i128::from(!is_exact), most),
    }
}

/// A constant of scale `places.1` at scale `places.0`: the largest number not above it, and whether
/// it is that number.
fn at_scale(constant: i64, places: (u8, u8)) -> (i128, bool) {
    let constant = i128::from(constant);
    if places.0 >= places.1 {
        return (constant * i128::from(POWERS[(places.0 - places.1) as usize]), true);
    }
    let power = i128::from(POWERS[(places.1 - places.0) as usize]);
    (constant.div_euclid(power), constant.rem_euclid(power) == 0)
}

/// `lo <= node <= hi` on slots.
fn in_range(node: Node, lo: i128, hi: i128) -> Node {
    let lo = lo.max(i128::from(i64::MIN));
    let hi = hi.min(i128::from(i64::MAX));
    let op = if lo > hi {
        Op::InWords(Words(Box::new([])))
    } else {
        Op::InRange { lo: lo as i64, span: (hi - lo) as u64 }
    };
    Node::call(op, vec![node], DataType::Boolean)
}

/// `low <= value <= high`.
pub(crate) fn between(value: Node, low: Node, high: Node) -> Option<Node> {
    let above = compare(Compare::Ge, value.clone(), low)?;
    let below = compare(Compare::Le, value, high)?;
    if let (
        Kind::Call(Op::InRange { lo, span: up }, a),
        Kind::Call(Op::InRange { lo: min, span }, b),
    ) = (&above.kind, &below.kind)
        && a == b
    {
        let top = |lo: i64, span: u64| i128::from(lo) + i128::from(span);
        let (lo, hi) = (i128::from(*lo.max(min)), top(*lo, *up).min(top(*min, *span)));
        return Some(in_range(a[0].clone(), lo, hi));
    }
    Some(Node::and(vec![above, below]))
}

/// `value IN (list)`. Constants that are words go into one set; what is not is compared one by one.
/// `Err` has the place in `list` whose type does not fit.
pub(crate) fn in_list(value: Node, list: Vec<Node>) -> Result<Node, usize> {
    let scale = value.data_type.as_ref().and_then(types::exact).map(|(_, scale)| scale as u8);
    let (mut words, mut texts, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let is_text = matches!(value.data_type, Some(DataType::String | DataType::Bytes));
    for (i, item) in list.into_iter().enumerate() {
        let same_type = item.data_type == value.data_type;
        match (&item.kind, &item.data_type) {
            (Kind::Literal(Literal::Word(word)), Some(of))
                if scale.is_some() && types::exact(of).is_some() =>
            {
                let places = (scale.expect("checked"), types::scale(of));
                let (number, is_exact) = at_scale(*word as i64, places);
                if is_exact && let Ok(number) = i64::try_from(number) {
                    words.push(number as u64);
                }
            }
            (Kind::Literal(Literal::Word(word)), Some(DataType::Timestamp)) if same_type => {
                words.push(*word);
            }
            (Kind::Literal(Literal::Text(text)), _) if is_text && same_type => {
                if text.len() <= slot::INLINE_MAX {
                    words.push(slot::inline(text));
                } else {
                    texts.push(text.clone());
                }
            }
            _ => others.push(compare(Compare::Eq, value.clone(), item).ok_or(i)?),
        }
    }
    words.sort_unstable();
    words.dedup();
    texts.sort_unstable();
    texts.dedup();
    let mut parts = Vec::new();
    let nothing_else = texts.is_empty() && others.is_empty();
    if !words.is_empty() || nothing_else {
        let op = Op::InWords(Words(words.into()));
        parts.push(Node::call(op, vec![value.clone()], DataType::Boolean));
    }
    if !texts.is_empty() {
        let op = Op::InTexts(Texts(texts.into()));
        parts.push(Node::call(op, vec![value], DataType::Boolean));
    }
    parts.extend(others);
    Ok(Node::or(parts))
}

/// `left op right`.
pub(crate) fn arithmetic(op: Arithmetic, left: Node, right: Node) -> Option<Node> {
    let (a, b) = match (left.data_type.clone(), right.data_type.clone()) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) | (None, Some(a)) if a.is_numeric() || a == DataType::Timestamp => {
            return Some(Node::null(Some(a)));
        }
        (None, None) => return Some(Node::null(Some(DataType::BigInt))),
        _ => return None,
    };
    if a == DataType::Timestamp || b == DataType::Timestamp {
        return on_times(op, left, right);
    }
    if !a.is_numeric() || !b.is_numeric() {
        return None;
    }
    match (types::exact(&a), types::exact(&b)) {
        (Some(_), Some(_)) if a == DataType::BigInt && b == DataType::BigInt => {
            on_ints(op, left, right)
        }
        (Some((p, s)), Some((q, t))) => Some(on_decimals(op, (left, p, s), (right, q, t))),
        _ => {
            let (left, right) = (left.cast(&DataType::Double)?, right.cast(&DataType::Double)?);
            let op = match op {
                Arithmetic::Add => Op::AddDouble,
                Arithmetic::Sub => Op::SubDouble,
                Arithmetic::Mul => Op::MulDouble,
                Arithmetic::Div => Op::DivDouble,
                Arithmetic::Mod => Op::ModDouble,
            };
            Some(Node::call(op, vec![left, right], DataType::Double))
        }
    }
}

fn on_ints(op: Arithmetic, left: Node, right: Node) -> Option<Node> {
    let span = match (op, left.span, right.span) {
        (_, Span::None, Span::None) => Span::None,
        (Arithmetic::Add | Arithmetic::Sub, a, b) if a == b => a,
        (Arithmetic::Mul | Arithmetic::Div | Arithmetic::Mod, a, Span::None) => a,
        (Arithmetic::Mul, Span::None, b) => b,
        (_, Span::Months, _) | (_, _, Span::Months) => return None,
        // Milliseconds beside a plain number are a number.
        _ => Span::None,
    };
    let op = match op {
        Arithmetic::Add => Op::AddInt,
        Arithmetic::Sub => Op::SubInt,
        Arithmetic::Mul => Op::MulInt,
        Arithmetic::Div => Op::DivInt,
        Arithmetic::Mod => Op::ModInt,
    };
    Some(Node::call(op, vec![left, right], DataType::BigInt).spanning(span))
}

fn on_decimals(op: Arithmetic, left: (Node, u32, u32), right: (Node, u32, u32)) -> Node {
    let ((left, p, s), (right, q, t)) = (left, right);
    let power = |places: u32| POWERS[places as usize];
    let scale = s.max(t);
    let whole = (p - s).max(q - t);
    let (op, result) = match op {
        Arithmetic::Add | Arithmetic::Sub => {
            let result = types::decimal(whole + scale + 1, scale);
            let sign = if op == Arithmetic::Sub { -1 } else { 1 };
            let op = Op::AddDecimal {
                left: power(scale - s),
                right: sign * power(scale - t),
                precision: types::precision(&result),
            };
            (op, result)
        }
        Arithmetic::Mul => {
            let result = types::decimal(p + q, s + t);
            let op = Op::MulDecimal {
                drop: (s + t) as u8 - types::scale(&result),
                precision: types::precision(&result),
            };
            (op, result)
        }
        Arithmetic::Div => {
            let places = s.max(6);
            let result = types::decimal(p - s + t + places, places);
            let op =
                Op::DivDecimal { up: (places - s + t) as u8, precision: types::precision(&result) };
            (op, result)
        }
        Arithmetic::Mod => {
            let result = types::decimal((p - s).min(q - t) + scale, scale);
            let op = Op::ModDecimal {
                left: power(scale - s),
                right: power(scale - t),
                precision: types::precision(&result),
            };
            (op, result)
        }
    };
    Node::call(op, vec![left, right], result)
}

/// TIMESTAMP and a length of time, or two TIMESTAMPs.
fn on_times(op: Arithmetic, left: Node, right: Node) -> Option<Node> {
    let is_time = |node: &Node| node.data_type == Some(DataType::Timestamp);
    match (op, is_time(&left), is_time(&right)) {
        (Arithmetic::Sub, true, true) => {
            let op = Node::call(Op::SubInt, vec![left, right], DataType::BigInt);
            Some(op.spanning(Span::Millis))
        }
        (Arithmetic::Add, false, true) => on_times(op, right, left),
        (Arithmetic::Add | Arithmetic::Sub, true, false) => {
            let is_sub = op == Arithmetic::Sub;
            let op = match right.span {
                Span::None => return None,
                Span::Months => Op::AddMonths,
                Span::Millis if is_sub => Op::SubInt,
                Span::Millis => Op::AddInt,
            };
            let right = match op {
                Op::AddMonths if is_sub => Node::call(Op::NegInt, vec![right], DataType::BigInt),
                _ => right,
            };
            Some(Node::call(op, vec![left, right], DataType::Timestamp))
        }
        _ => None,
    }
}

/// `-node`.
pub(crate) fn negate(node: Node) -> Option<Node> {
    let data_type = node.data_type.clone();
    let (op, span) = match data_type.as_ref()? {
        DataType::BigInt | DataType::Decimal { .. } => (Op::NegInt, node.span),
        DataType::Double => (Op::NegDouble, Span::None),
        _ => return None,
    };
    Some(Node::call(op, vec![node], data_type?).spanning(span))
}

/// Gives all nodes one type, as CASE and COALESCE do. `Err` has the place of the first whose type
/// does not go with those before it.
pub(crate) fn unify(nodes: Vec<Node>) -> Result<(Vec<Node>, Option<DataType>), usize> {
    let is_time = |node: &Node| node.data_type == Some(DataType::Timestamp);
    let has_time = nodes.iter().any(is_time);
    let mut all: Option<DataType> = None;
    for (i, node) in nodes.iter().enumerate() {
        let reads_as_time = has_time && node.as_text().is_some();
        let own = match &node.data_type {
            Some(_) if reads_as_time => DataType::Timestamp,
            Some(data_type) => data_type.clone(),
            None => continue,
        };
        all = Some(match all {
            None => own,
            Some(before) => types::common(&before, &own).ok_or(i)?,
        });
    }
    let Some(data_type) = all else {
        return Ok((nodes, None));
    };
    let mut cast = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.into_iter().enumerate() {
        let was_null = node.is_null();
        let node = node.cast(&data_type).ok_or(i)?;
        if has_time && node.is_null() && !was_null {
            return Err(i);
        }
        cast.push(node);
    }
    Ok((cast, Some(data_type)))
}

/// IS NOT DISTINCT FROM: equal, or both NULL.
pub(crate) fn same(left: Node, right: Node) -> Option<Node> {
    let equal = compare(Compare::Eq, left.clone(), right.clone())?.truth_test();
    let both = Node::and(vec![left.null_test(), right.null_test()]);
    Some(Node::or(vec![equal, both]))
}
