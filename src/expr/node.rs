//! The typed tree between the parsed text and the flat program.
//!
//! 1. Every node's arguments already have the types that its operation takes: casts are nodes.
//! 2. An operation on constants alone is a constant.
//! 3. Two nodes are equal if they mean the same values; where they stood in the text is forgotten.

use super::code::Code;
use super::op::Op;
use super::scalar::Machine;
use super::text;
use super::types;
use crate::ground::schema::DataType;
use crate::ground::slot;

/// A typed expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub kind: Kind,
    /// `None`: a NULL that fits any type.
    pub data_type: Option<DataType>,
    pub nullable: bool,
    /// Whether a BIGINT is a length of time.
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A column of the batch.
    Column(usize),
    /// A value that a pattern's partial match gives.
    Ref(usize),
    Literal(Literal),
    Call(Op, Vec<Node>),
}

/// What a BIGINT may be added to a TIMESTAMP as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    None,
    /// Milliseconds: `INTERVAL '5' MINUTE`, the difference of two TIMESTAMPs.
    Millis,
    /// `INTERVAL '1' MONTH`; of use only beside a TIMESTAMP.
    Months,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Word(u64),
    /// STRING or BYTES of any length.
    Text(Box<[u8]>),
}

impl Node {
    pub fn column(index: usize, data_type: DataType, nullable: bool) -> Node {
        Node { kind: Kind::Column(index), data_type: Some(data_type), nullable, span: Span::None }
    }

    pub fn reference(index: usize, data_type: DataType, nullable: bool) -> Node {
        Node { kind: Kind::Ref(index), ..Node::column(index, data_type, nullable) }
    }

    pub fn null(data_type: Option<DataType>) -> Node {
        Node { kind: Kind::Literal(Literal::Null), data_type, nullable: true, span: Span::None }
    }

    pub fn word(word: u64, data_type: DataType) -> Node {
        Node {
            kind: Kind::Literal(Literal::Word(word)),
            data_type: Some(data_type),
            nullable: false,
            span: Span::None,
        }
    }

    pub fn int(value: i64) -> Node {
        Node::word(value as u64, DataType::BigInt)
    }

    /// The same BIGINT as a length of time.
    pub fn spanning(self, span: Span) -> Node {
        Node { span, ..self }
    }

    pub fn boolean(value: bool) -> Node {
        Node::word(u64::from(value), DataType::Boolean)
    }

    pub fn text(text: &str) -> Node {
        Node {
            kind: Kind::Literal(Literal::Text(text.as_bytes().into())),
            ..Node::word(0, DataType::String)
        }
    }

    pub fn bytes(bytes: &[u8]) -> Node {
        Node { kind: Kind::Literal(Literal::Text(bytes.into())), ..Node::word(0, DataType::Bytes) }
    }

    /// An operation on arguments of the types that it takes.
    pub fn call(op: Op, args: Vec<Node>, data_type: DataType) -> Node {
        let nullable = match op {
            Op::And | Op::Or => args.iter().any(|arg| arg.nullable),
            Op::IsNull | Op::IsTrue => false,
            // Conditions stand at even places, but for the last argument, which is ELSE.
            Op::Case => (0..args.len())
                .filter(|i| i % 2 == 1 || i + 1 == args.len())
                .any(|i| args[i].nullable),
            _ => op.may_fail() || args.iter().any(|arg| arg.nullable),
        };
        if op.is_strict() && args.iter().any(Node::is_null) {
            return Node::null(Some(data_type));
        }
        let all_known = args.iter().all(|arg| matches!(arg.kind, Kind::Literal(_)));
        let node = Node {
            kind: Kind::Call(op, args),
            data_type: Some(data_type),
            nullable,
            span: Span::None,
        };
        if all_known { node.folded() } else { node }
    }

    /// The constant that an operation on constants is (arrays stay operations).
    fn folded(self) -> Node {
        let data_type = self.data_type.clone().expect("operations are typed");
        if matches!(data_type, DataType::Array(_)) {
            return self;
        }
        let mut machine = Machine::new(Code::for_rows(&self));
        let value = machine.constant();
        let literal = match value {
            None => return Node::null(Some(data_type)),
            Some((word, heap)) if data_type.is_heaped() => {
                Literal::Text(slot::bytes(&word, heap).into())
            }
            Some((word, _)) => Literal::Word(word),
        };
        Node {
            kind: Kind::Literal(literal),
            data_type: Some(data_type),
            nullable: false,
            span: self.span,
        }
    }

    pub fn is_null(&self) -> bool {
        self.kind == Kind::Literal(Literal::Null)
    }

    pub fn is_boolean(&self) -> bool {
        self.data_type == Some(DataType::Boolean)
    }

    /// The type as messages show it.
    pub fn type_name(&self) -> String {
        match &self.data_type {
            Some(data_type) => data_type.to_string(),
            None => "NULL".into(),
        }
    }

    /// A literal's text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Literal(Literal::Text(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// A literal's word.
    pub fn as_word(&self) -> Option<u64> {
        match &self.kind {
            Kind::Literal(Literal::Word(word)) => Some(*word),
            Kind::Literal(Literal::Text(text)) if text.len() <= slot::INLINE_MAX => {
                Some(slot::inline(text))
            }
            _ => None,
        }
    }

    /// A literal BIGINT.
    pub fn as_int(&self) -> Option<i64> {
        match (&self.kind, &self.data_type) {
            (Kind::Literal(Literal::Word(word)), Some(DataType::BigInt)) => Some(*word as i64),
            _ => None,
        }
    }

    pub fn not(self) -> Node {
        if let Kind::Call(Op::Not, args) = self.kind {
            return args.into_iter().next().expect("NOT has one argument");
        }
        Node::call(Op::Not, vec![self], DataType::Boolean)
    }

    /// `a AND b AND ...`, flat, without what is known.
    pub fn and(parts: Vec<Node>) -> Node {
        Node::chain(Op::And, parts, true)
    }

    /// `a OR b OR ...`.
    pub fn or(parts: Vec<Node>) -> Node {
        Node::chain(Op::Or, parts, false)
    }

    fn chain(op: Op, parts: Vec<Node>, neutral: bool) -> Node {
        let mut kept: Vec<Node> = Vec::new();
        for part in parts {
            match part {
                Node { kind: Kind::Call(inner, args), .. } if inner == op => kept.extend(args),
                other => kept.push(other),
            }
        }
        let known = |node: &Node, value: bool| *node == Node::boolean(value);
        if kept.iter().any(|part| known(part, !neutral)) {
            return Node::boolean(!neutral);
        }
        kept.retain(|part| !known(part, neutral));
        match kept.len() {
            0 => Node::boolean(neutral),
            1 => kept.remove(0),
            _ => Node::call(op, kept, DataType::Boolean),
        }
    }

    pub fn null_test(self) -> Node {
        if !self.nullable {
            return Node::boolean(false);
        }
        Node::call(Op::IsNull, vec![self], DataType::Boolean)
    }

    pub fn truth_test(self) -> Node {
        if !self.nullable {
            return self;
        }
        Node::call(Op::IsTrue, vec![self], DataType::Boolean)
    }

    /// The value as another type; `None` if there is no such cast.
    pub fn cast(self, to: &DataType) -> Option<Node> {
        let Some(from) = self.data_type.clone() else {
            return Some(Node::null(Some(to.clone())));
        };
        if from == *to {
            return Some(Node { span: Span::None, ..self });
        }
        let op = match (&from, to) {
            (DataType::BigInt, DataType::Double) => Op::IntToDouble,
            (DataType::Decimal { scale, .. }, DataType::Double) => {
                Op::DecimalToDouble { scale: *scale }
            }
            (
                DataType::BigInt | DataType::Decimal { .. },
                DataType::Decimal { precision, scale },
            ) => {
                let (digits, places) = types::exact(&from).expect("the source is exact");
                let widens = u32::from(*precision - *scale) >= digits - places;
                if widens && types::scale(&from) == *scale {
                    return Some(self.retyped(to));
                }
                Op::Rescale { from: types::scale(&from), to: *scale, precision: *precision }
            }
            (DataType::Decimal { scale, .. }, DataType::BigInt) => {
                Op::TruncateDecimal { drop: *scale }
            }
            (DataType::Double, DataType::BigInt) => Op::DoubleToInt,
            (DataType::Double, DataType::Decimal { precision, scale }) => {
                Op::DoubleToDecimal { precision: *precision, scale: *scale }
            }
            (DataType::String, DataType::BigInt) => Op::TextToInt,
            (DataType::String, DataType::Double) => Op::TextToDouble,
            (DataType::String, DataType::Decimal { precision, scale }) => {
                Op::TextToDecimal { precision: *precision, scale: *scale }
            }
            (DataType::String, DataType::Boolean) => Op::TextToBoolean,
            (DataType::String, DataType::Timestamp) => Op::TextToTime,
            (DataType::String, DataType::Bytes)
            | (DataType::BigInt, DataType::Timestamp)
            | (DataType::Timestamp, DataType::BigInt) => return Some(self.retyped(to)),
            (DataType::BigInt | DataType::Decimal { .. } | DataType::Double, DataType::Boolean) => {
                let zero = Node::word(0, from.clone());
                return super::operators::compare(super::op::Compare::Ne, self, zero);
            }
            (DataType::Boolean, DataType::BigInt) => Op::Widen,
            (DataType::Boolean, _) if to.is_numeric() => {
                let word = Node::call(Op::Widen, vec![self], DataType::BigInt);
                return word.cast(to);
            }
            (DataType::BigInt, DataType::String) => Op::IntToText,
            (DataType::Double, DataType::String) => Op::DoubleToText,
            (DataType::Decimal { scale, .. }, DataType::String) => {
                Op::DecimalToText { scale: *scale }
            }
            (DataType::Boolean, DataType::String) => Op::BooleanToText,
            (DataType::Timestamp, DataType::String) => Op::TimeToText,
            (DataType::Bytes, DataType::String) => Op::BytesToText,
            _ => return None,
        };
        Some(Node::call(op, vec![self], to.clone()))
    }

    /// The same slots under another type.
    fn retyped(self, to: &DataType) -> Node {
        Node { data_type: Some(to.clone()), span: Span::None, ..self }
    }

    /// Whether a pattern's partial match is read.
    pub fn reads_refs(&self) -> bool {
        match &self.kind {
            Kind::Ref(_) => true,
            Kind::Call(_, args) => args.iter().any(Node::reads_refs),
            _ => false,
        }
    }
}

/// The slot of a literal, long texts into `heap`.
pub(crate) fn put_literal(literal: &Literal, heap: &mut Vec<u8>) -> Option<u64> {
    match literal {
        Literal::Null => None,
        Literal::Word(word) => Some(*word),
        Literal::Text(text) => text::put(text, heap),
    }
}
