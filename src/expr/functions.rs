//! Calls of functions: arguments checked, the table looked up, and what operators of SQL and
//! functions share.

use std::ops::Range;

use sqlparser::ast::{self as sql, Expr};

use super::ExprError;
use super::builtins::{FUNCTIONS, MANY};
use super::node::Node;
use super::op::Op;
use super::operators;
use super::parse::Source;
use super::scope::nearest;
use super::text::Regex;
use super::types;
use crate::ground::schema::DataType;

pub(crate) type Made = Result<Node, ExprError>;

/// A function's call, arguments lowered.
pub(crate) struct Call<'a> {
    pub source: &'a Source<'a>,
    pub name: &'a str,
    pub span: Range<usize>,
    pub args: Vec<Node>,
    pub spans: Vec<Range<usize>>,
}

/// Functions that the parser knows by their own syntax, for hints.
const BUILT_IN: &[&str] = &[
    "CASE",
    "CAST",
    "TRY_CAST",
    "CEIL",
    "EXTRACT",
    "FLOOR",
    "POSITION",
    "SUBSTRING",
    "SUBSTR",
    "TRIM",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
];

/// Functions over many rows.
pub(crate) const AGGREGATES: &[&str] = &[
    "APPROX_COUNT_DISTINCT",
    "APPROX_PERCENTILE",
    "ARRAY_AGG",
    "AVG",
    "COUNT",
    "FIRST",
    "FIRST_VALUE",
    "LAST",
    "LAST_VALUE",
    "MAX",
    "MIN",
    "STDDEV_POP",
    "SUM",
    "TOP_K",
    "VAR_POP",
];

/// Whether a function (in capitals) ranges over many rows.
pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name)
}

/// The arguments of a scalar function: expressions, and nothing that only aggregates have.
pub(crate) fn plain_args<'e>(
    source: &Source<'_>,
    name: &str,
    function: &'e sql::Function,
) -> Result<Vec<&'e Expr>, ExprError> {
    let error = |message: String| Err(source.error(source.range_of(&function.name), message));
    if function.over.is_some() {
        return error(format!(
            "{name}: OVER is not an expression here; there is the `over` transform"
        ));
    }
    if function.filter.is_some() {
        return error(format!("{name} is no aggregate and takes no FILTER"));
    }
    let list = match &function.args {
        sql::FunctionArguments::None => return Ok(Vec::new()),
        sql::FunctionArguments::List(list) => list,
        sql::FunctionArguments::Subquery(_) => {
            return error("a subquery is not an expression here".into());
        }
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return error(format!("{name} is no aggregate and takes plain arguments only"));
    }
    let mut args = Vec::new();
    for arg in &list.args {
        match arg {
            sql::FunctionArg::Unnamed(sql::FunctionArgExpr::Expr(expr)) => args.push(expr),
            _ => return error(format!("{name} takes expressions")),
        }
    }
    Ok(args)
}

/// Makes the node of a call.
pub(crate) fn call(
    source: &Source<'_>,
    name: &str,
    name_span: Range<usize>,
    span: Range<usize>,
    args: Vec<Node>,
    spans: Vec<Range<usize>>,
) -> Made {
    let Ok(found) = FUNCTIONS.binary_search_by(|function| function.0.cmp(name)) else {
        let known = FUNCTIONS.iter().map(|function| function.0);
        let known = known.chain(BUILT_IN.iter().copied()).chain(AGGREGATES.iter().copied());
        let error = source.error(name_span, format!("unknown function {name}"));
        return Err(match nearest(name, known) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        });
    };
    let (_, least, most, make) = FUNCTIONS[found];
    if args.len() < least || args.len() > most {
        let wanted = match (least, most) {
            (1, 1) => "1 argument".to_string(),
            (least, MANY) => format!("at least {least} arguments"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        let message = format!("{name} takes {wanted}, not {}", args.len());
        return Err(source.error(span, message));
    }
    make(&mut Call { source, name, span, args, spans })
}

/// The node, if it has the type that is wanted, or is NULL.
pub(crate) fn expect(
    source: &Source<'_>,
    node: Node,
    span: Range<usize>,
    wanted: &DataType,
) -> Made {
    match &node.data_type {
        None => Ok(Node::null(Some(wanted.clone()))),
        Some(data_type) if data_type == wanted => Ok(node),
        Some(DataType::String) if *wanted == DataType::Timestamp && node.as_text().is_some() => {
            let time = node.cast(wanted).expect("texts are cast to times");
            if time.is_null() {
                let error = source.error(span, "this text is not a TIMESTAMP");
                return Err(error.hint("write it as '2024-05-01 12:30:00.000'"));
            }
            Ok(time)
        }
        Some(other) => {
            let error = source.error(span, format!("{wanted} is wanted; this is {other}"));
            Err(error.hint(format!("CAST(... AS {wanted})")))
        }
    }
}

/// A literal pattern, compiled.
pub(crate) fn regex(
    source: &Source<'_>,
    node: &Node,
    span: Range<usize>,
) -> Result<Regex, ExprError> {
    let Some(pattern) = node.as_text() else {
        return Err(source
            .error(span, "a regular expression must be a literal text")
            .hint("it is compiled once, when the pipeline is read"));
    };
    Regex::new(pattern)
        .map_err(|why| source.error(span, format!("this is no regular expression: {why}")))
}

/// `CASE WHEN tests[i] THEN results[i] ... ELSE results[last] END`; results of one type.
pub(crate) fn case(tests: Vec<Node>, mut results: Vec<Node>, data_type: Option<DataType>) -> Node {
    let Some(data_type) = data_type else {
        return Node::null(None);
    };
    let mut otherwise = results.pop().expect("CASE has an ELSE");
    let mut args = Vec::new();
    for (test, result) in tests.into_iter().zip(results) {
        if test == Node::boolean(false) || test.is_null() {
            continue;
        }
        if test == Node::boolean(true) {
            otherwise = result;
            break;
        }
        args.push(test);
        args.push(result);
    }
    if args.is_empty() {
        return otherwise;
    }
    args.push(otherwise);
    Node::call(Op::Case, args, data_type)
}

/// Texts joined; chains of joins become one.
pub(crate) fn concat(args: Vec<Node>) -> Node {
    let mut flat = Vec::new();
    for arg in args {
        match arg.kind {
            super::node::Kind::Call(Op::Concat, parts) => flat.extend(parts),
            _ => flat.push(arg),
        }
    }
    Node::call(Op::Concat, flat, DataType::String)
}

/// FLOOR: numbers keep their type, DECIMALs without decimal places.
pub(crate) fn floor(node: Node) -> Node {
    to_whole(node, Op::FloorDouble, |drop| Op::FloorDecimal { drop })
}

/// CEIL, as [`floor`].
pub(crate) fn ceil(node: Node) -> Node {
    to_whole(node, Op::CeilDouble, |drop| Op::CeilDecimal { drop })
}

fn to_whole(node: Node, double: Op, decimal: fn(u8) -> Op) -> Node {
    match node.data_type {
        Some(DataType::Double) => Node::call(double, vec![node], DataType::Double),
        Some(DataType::Decimal { precision, scale }) if scale > 0 => {
            let whole = types::decimal(u32::from(precision), 0);
            Node::call(decimal(scale), vec![node], whole)
        }
        _ => node,
    }
}

/// Element `index` of an array. `Err` names the type of what is none.
pub(crate) fn element(array: Node, index: Node) -> Result<Node, String> {
    match array.data_type.clone() {
        Some(DataType::Array(of)) => {
            let op = if of.is_heaped() { Op::ElementText } else { Op::Element };
            if *of == DataType::Boolean {
                let word = Node::call(op, vec![array, index], DataType::BigInt);
                return Ok(word.cast(&of).expect("BIGINT is cast to BOOLEAN"));
            }
            Ok(Node::call(op, vec![array, index], *of))
        }
        _ => Err(array.type_name()),
    }
}

impl Call<'_> {
    pub fn error(&self, i: usize, message: impl Into<String>) -> ExprError {
        self.source.error(self.spans[i].clone(), message)
    }

    /// Takes argument `i`, which must have this type.
    pub fn take(&mut self, i: usize, wanted: &DataType) -> Made {
        let node = std::mem::replace(&mut self.args[i], Node::null(None));
        expect(self.source, node, self.spans[i].clone(), wanted)
    }

    /// Takes argument `i`, a number.
    pub fn number(&mut self, i: usize) -> Made {
        let node = std::mem::replace(&mut self.args[i], Node::null(None));
        match &node.data_type {
            None => Ok(Node::null(Some(DataType::BigInt))),
            Some(data_type) if data_type.is_numeric() => Ok(node),
            Some(other) => {
                let message = format!("{} takes numbers; this is {other}", self.name);
                Err(self.error(i, message))
            }
        }
    }

    /// An operation on DOUBLEs.
    pub fn doubles(&mut self, op: Op) -> Made {
        let mut args = Vec::new();
        for i in 0..self.args.len() {
            let number = self.number(i)?;
            args.push(number.cast(&DataType::Double).expect("numbers are cast to DOUBLE"));
        }
        Ok(Node::call(op, args, DataType::Double))
    }

    /// An operation on texts.
    pub fn texts(&mut self, op: Op, data_type: DataType) -> Made {
        let mut args = Vec::new();
        for i in 0..self.args.len() {
            args.push(self.take(i, &DataType::String)?);
        }
        Ok(Node::call(op, args, data_type))
    }

    /// All arguments, given one type.
    pub fn unified(&mut self) -> Result<(Vec<Node>, Option<DataType>), ExprError> {
        let args = std::mem::take(&mut self.args);
        let names: Vec<String> = args.iter().map(Node::type_name).collect();
        operators::unify(args).map_err(|i| {
            let first = names.iter().find(|name| *name != "NULL");
            let message = format!(
                "the arguments of {} have one type; this is {}, others are {}",
                self.name,
                names[i],
                first.unwrap_or(&names[0])
            );
            self.error(i, message).hint("cast it to the others' type")
        })
    }

    pub fn literal_text(&mut self, i: usize, what: &str) -> Result<String, ExprError> {
        let node = self.take(i, &DataType::String)?;
        match node.as_text() {
            Some(text) => Ok(text.to_string()),
            None => Err(self.error(i, format!("{what} of {} must be a literal text", self.name))),
        }
    }
}
