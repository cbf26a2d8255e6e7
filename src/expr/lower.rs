//! From sqlparser's tree to typed nodes: names are looked up, types checked, casts put in.
//!
//! 1. Depth is bounded by [`EXPR_DEPTH_MAX`]; chains of AND and OR count once, however long.

use std::ops::Range;

use sqlparser::ast::{self as sql, Expr, Spanned};

use super::ExprError;
use super::calendar::Unit;
use super::functions;
use super::node::{Node, Span};
use super::op::{Compare, Op};
use super::operators::{self, Arithmetic};
use super::parse::{self, Source};
use super::scope::{Missing, Scope, nearest};
use super::text::{Like, Regex};
use crate::ground::decimal::PRECISION_MAX;
use crate::ground::limits::EXPR_DEPTH_MAX;
use crate::ground::schema::DataType;

/// What names and aggregate functions mean in one place of a pipeline file.
pub(crate) trait Names {
    /// The column of a name.
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError>;

    /// A function that is no scalar one; `None` if it is not known here.
    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>>;
}

/// Columns of one row; no aggregates.
pub(crate) struct RowNames<'a> {
    pub scope: &'a Scope,
}

impl Names for RowNames<'_> {
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError> {
        let index = find(self.scope, source, span, qualifier, name)?;
        let entry = &self.scope.entries[index];
        Ok(Node::column(index, entry.data_type.clone(), entry.nullable))
    }

    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>> {
        functions::is_aggregate(name).then(|| {
            let message = format!("{name} ranges over many rows; here an expression sees one");
            Err(source
                .error(source.range_of(&function.name), message)
                .hint("aggregates stand in the `select` of a window or aggregate"))
        })
    }
}

/// The entry of a name, or an error that says what was probably meant.
pub(crate) fn find(
    scope: &Scope,
    source: &Source<'_>,
    span: Range<usize>,
    qualifier: Option<&str>,
    name: &str,
) -> Result<usize, ExprError> {
    let missing = match scope.find(qualifier, name) {
        Ok(index) => return Ok(index),
        Err(missing) => missing,
    };
    if let Missing::Ambiguous(all) = missing {
        let message = format!("`{name}` is a column of several inputs");
        return Err(source
            .error(span, message)
            .hint(format!("say which one is meant: {}", all.join(" or "))));
    }
    let written = qualifier.map_or(name.to_string(), |q| format!("{q}.{name}"));
    let error = source.error(span, format!("unknown column `{written}`"));
    let full: Vec<String> = scope.entries.iter().map(|entry| entry.written()).collect();
    let short = scope.entries.iter().map(|entry| entry.name.as_str());
    let near = match qualifier {
        Some(_) => nearest(&written, full.iter().map(String::as_str)),
        None => nearest(name, short),
    };
    Err(match near {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => {
            let names: Vec<&str> = full.iter().map(String::as_str).take(12).collect();
            let more = if full.len() > names.len() { ", ..." } else { "" };
            error.hint(format!("the columns here are {}{more}", names.join(", ")))
        }
    })
}

/// Parses and type-checks an expression.
pub(crate) fn compile(text: &str, names: &mut dyn Names) -> Result<Node, ExprError> {
    let source = Source::new(text);
    let expr = parse::parse(&source)?;
    let node = Lower::new(&source, names).expr(&expr)?;
    let whole = || source.range_of(&expr);
    if node.data_type.is_none() {
        return Err(source
            .error(whole(), "NULL alone has no type")
            .hint("give it one: CAST(NULL AS STRING)"));
    }
    if node.span == Span::Months {
        return Err(source
            .error(whole(), "an interval of months or years is no value of its own")
            .hint("add it to a TIMESTAMP"));
    }
    Ok(node)
}

/// As [`compile`], for conditions.
pub(crate) fn compile_predicate(text: &str, names: &mut dyn Names) -> Result<Node, ExprError> {
    let source = Source::new(text);
    let expr = parse::parse(&source)?;
    Lower::new(&source, names).predicate(&expr)
}

/// Lowers the parts of one text.
pub(crate) struct Lower<'s, 'n> {
    pub source: &'s Source<'s>,
    pub names: &'n mut dyn Names,
    depth: usize,
}

pub(crate) type Lowered = Result<Node, ExprError>;

impl<'s, 'n> Lower<'s, 'n> {
    pub fn new(source: &'s Source<'s>, names: &'n mut dyn Names) -> Lower<'s, 'n> {
        Lower { source, names, depth: 0 }
    }

    /// Lowers one expression.
    pub fn expr(&mut self, expr: &Expr) -> Lowered {
        if self.depth >= EXPR_DEPTH_MAX {
            return Err(parse::too_deep(self.source, self.at(expr)));
        }
        self.depth += 1;
        let lowered = self.dispatch(expr);
        self.depth -= 1;
        lowered
    }

    /// Lowers a condition: BOOLEAN, or NULL.
    pub fn predicate(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        match node.data_type {
            Some(DataType::Boolean) => Ok(node),
            None => Ok(Node::null(Some(DataType::Boolean))),
            Some(other) => {
                Err(self.error(expr, format!("a condition is BOOLEAN; this is {other}")))
            }
        }
    }

    pub fn at(&self, part: &impl Spanned) -> Range<usize> {
        self.source.range_of(part)
    }

    pub fn error(&self, part: &impl Spanned, message: impl Into<String>) -> ExprError {
        self.source.error(self.at(part), message)
    }

    fn dispatch(&mut self, expr: &Expr) -> Lowered {
        match expr {
            Expr::Identifier(name) => {
                let span = self.at(expr);
                self.names.column(self.source, span, None, &name.value)
            }
            Expr::CompoundIdentifier(names) => self.compound(expr, names),
            Expr::Nested(inner) => self.expr(inner),
            Expr::Value(value) => self.value(expr, &value.value),
            Expr::TypedString(typed) => self.typed_string(expr, typed),
            Expr::Interval(interval) => self.interval(expr, interval),
            Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right),
            Expr::UnaryOp { op, expr: inner } => self.unary(*op, inner),
            Expr::IsNull(inner) => Ok(self.expr(inner)?.null_test()),
            Expr::IsNotNull(inner) => Ok(self.expr(inner)?.null_test().not()),
            Expr::IsTrue(inner) => Ok(self.predicate(inner)?.truth_test()),
            Expr::IsNotTrue(inner) => Ok(self.predicate(inner)?.truth_test().not()),
            Expr::IsFalse(inner) => Ok(self.predicate(inner)?.not().truth_test()),
            Expr::IsNotFalse(inner) => Ok(self.predicate(inner)?.not().truth_test().not()),
            Expr::IsUnknown(inner) => Ok(self.predicate(inner)?.null_test()),
            Expr::IsNotUnknown(inner) => Ok(self.predicate(inner)?.null_test().not()),
            Expr::IsDistinctFrom(left, right) => Ok(self.same(expr, left, right)?.not()),
            Expr::IsNotDistinctFrom(left, right) => self.same(expr, left, right),
            Expr::Between { expr: value, negated, low, high } => {
                self.between(value, *negated, low, high)
            }
            Expr::InList { expr: value, list, negated } => self.in_list(value, list, *negated),
            Expr::Like { negated, any: false, expr: value, pattern, escape_char } => {
                self.like(value, pattern, escape_char.as_deref(), *negated)
            }
            Expr::RLike { negated, expr: value, pattern, .. } => {
                self.rlike(value, pattern, *negated)
            }
            _ => self.dispatch_function(expr),
        }
    }

    fn compound(&mut self, expr: &Expr, names: &[sql::Ident]) -> Lowered {
        let span = self.at(expr);
        match names {
            [qualifier, name] => {
                let (qualifier, name) = (qualifier.value.as_str(), name.value.as_str());
                self.names.column(self.source, span, Some(qualifier), name)
            }
            _ => Err(self
                .error(expr, format!("`{expr}` has more than two parts"))
                .hint("a nested field becomes a column in its schema: name = \"BIGINT FROM a.b\"")),
        }
    }

    fn binary(
        &mut self,
        expr: &Expr,
        left: &Expr,
        op: &sql::BinaryOperator,
        right: &Expr,
    ) -> Lowered {
        use sql::BinaryOperator as Sql;
        let compare = match op {
            Sql::And => return self.chain(expr, true),
            Sql::Or => return self.chain(expr, false),
            Sql::Plus => return self.arithmetic(expr, Arithmetic::Add, left, right),
            Sql::Minus => return self.arithmetic(expr, Arithmetic::Sub, left, right),
            Sql::Multiply => return self.arithmetic(expr, Arithmetic::Mul, left, right),
            Sql::Divide => return self.arithmetic(expr, Arithmetic::Div, left, right),
            Sql::Modulo => return self.arithmetic(expr, Arithmetic::Mod, left, right),
            Sql::StringConcat => {
                let args = vec![self.printed(left)?, self.printed(right)?];
                return Ok(functions::concat(args));
            }
            Sql::Eq => Compare::Eq,
            Sql::NotEq => Compare::Ne,
            Sql::Lt => Compare::Lt,
            Sql::LtEq => Compare::Le,
            Sql::Gt => Compare::Gt,
            Sql::GtEq => Compare::Ge,
            _ => return Err(self.error(expr, format!("the operator {op} is not supported"))),
        };
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let names = (a.type_name(), b.type_name());
        operators::compare(compare, a, b).ok_or_else(|| self.mismatch(expr, "be compared", names))
    }

    pub(super) fn mismatch(&self, expr: &Expr, what: &str, names: (String, String)) -> ExprError {
        let (a, b) = names;
        let error = self.error(expr, format!("{a} and {b} cannot {what}"));
        let has = |name: &str| a == name || b == name;
        if has("TIMESTAMP") && has("BIGINT") {
            error.hint("add INTERVAL '5' MINUTE, or compare with TIMESTAMP '2024-05-01 00:00:00'")
        } else if has("TIMESTAMP") && has("STRING") {
            error.hint("write a time as TIMESTAMP '2024-05-01 12:30:00.000'")
        } else {
            error.hint(format!(
                "cast one side, as in CAST(... AS {})",
                if has("STRING") && a != b {
                    if a == "STRING" { &b } else { &a }
                } else {
                    "STRING"
                }
            ))
        }
    }

    /// A chain of one connective, gathered without recursion.
    fn chain(&mut self, expr: &Expr, is_and: bool) -> Lowered {
        let wanted = if is_and { sql::BinaryOperator::And } else { sql::BinaryOperator::Or };
        let mut open = vec![expr];
        let mut parts = Vec::new();
        while let Some(next) = open.pop() {
            match next {
                Expr::BinaryOp { left, op, right } if *op == wanted => {
                    open.push(right);
                    open.push(left);
                }
                other => parts.push(self.predicate(other)?),
            }
        }
        Ok(if is_and { Node::and(parts) } else { Node::or(parts) })
    }

    fn arithmetic(&mut self, expr: &Expr, op: Arithmetic, left: &Expr, right: &Expr) -> Lowered {
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let names = (a.type_name(), b.type_name());
        let what = match op {
            Arithmetic::Add => "be added",
            Arithmetic::Sub => "be subtracted",
            Arithmetic::Mul => "be multiplied",
            Arithmetic::Div | Arithmetic::Mod => "be divided",
        };
        operators::arithmetic(op, a, b).ok_or_else(|| self.mismatch(expr, what, names))
    }

    fn unary(&mut self, op: sql::UnaryOperator, inner: &Expr) -> Lowered {
        match (op, inner) {
            (sql::UnaryOperator::Not, _) => Ok(self.predicate(inner)?.not()),
            (sql::UnaryOperator::Minus, Expr::Value(value))
                if matches!(value.value, sql::Value::Number(..)) =>
            {
                // With its sign, or the least BIGINT could not be written.
                let sql::Value::Number(text, _) = &value.value else {
                    unreachable!("matched above");
                };
                self.number(inner, &format!("-{text}"))
            }
            (sql::UnaryOperator::Minus, _) => {
                let node = self.expr(inner)?;
                let name = node.type_name();
                if node.is_null() {
                    return Ok(node);
                }
                operators::negate(node)
                    .ok_or_else(|| self.error(inner, format!("a {name} has no negative")))
            }
            (sql::UnaryOperator::Plus, _) => self.numeric(inner),
            _ => Err(self.error(inner, format!("the operator {op} is not supported"))),
        }
    }

    fn same(&mut self, expr: &Expr, left: &Expr, right: &Expr) -> Lowered {
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let names = (a.type_name(), b.type_name());
        operators::same(a, b).ok_or_else(|| self.mismatch(expr, "be compared", names))
    }

    fn between(&mut self, value: &Expr, negated: bool, low: &Expr, high: &Expr) -> Lowered {
        let (node, least, most) = (self.expr(value)?, self.expr(low)?, self.expr(high)?);
        let names = (node.type_name(), least.type_name());
        let names_high = (node.type_name(), most.type_name());
        let other = if operators::compare(Compare::Le, node.clone(), least.clone()).is_none() {
            (low, names)
        } else {
            (high, names_high)
        };
        let node = operators::between(node, least, most)
            .ok_or_else(|| self.mismatch(other.0, "be compared", other.1))?;
        Ok(if negated { node.not() } else { node })
    }

    fn in_list(&mut self, value: &Expr, list: &[Expr], negated: bool) -> Lowered {
        let node = self.expr(value)?;
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            items.push(self.expr(item)?);
        }
        let name = node.type_name();
        let names: Vec<String> = items.iter().map(Node::type_name).collect();
        let node = operators::in_list(node, items)
            .map_err(|i| self.mismatch(&list[i], "be compared", (name, names[i].clone())))?;
        Ok(if negated { node.not() } else { node })
    }

    fn like(
        &mut self,
        value: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        negated: bool,
    ) -> Lowered {
        let (text, like) = (self.string(value)?, self.string(pattern)?);
        let escape = match escape {
            None => None,
            Some(expr) => match self.string(expr)?.as_text().map(str::as_bytes) {
                Some([byte]) if byte.is_ascii() => Some(*byte),
                _ => return Err(self.error(expr, "ESCAPE is one character of ASCII")),
            },
        };
        let node = match like.as_text() {
            Some(known) => {
                let like =
                    Like::new(known.as_bytes(), escape).map_err(|why| self.error(pattern, why))?;
                Node::call(Op::Like(like), vec![text], DataType::Boolean)
            }
            None => Node::call(Op::LikeAny { escape }, vec![text, like], DataType::Boolean),
        };
        Ok(if negated { node.not() } else { node })
    }

    fn rlike(&mut self, value: &Expr, pattern: &Expr, negated: bool) -> Lowered {
        let text = self.string(value)?;
        let regex = self.regex(pattern)?;
        let node = Node::call(Op::Matches(regex), vec![text], DataType::Boolean);
        Ok(if negated { node.not() } else { node })
    }

    fn regex(&mut self, pattern: &Expr) -> Result<Regex, ExprError> {
        let node = self.string(pattern)?;
        let span = self.at(pattern);
        functions::regex(self.source, &node, span)
    }

    pub(super) fn unknown_type(&self, part: &Expr, named: &sql::DataType) -> ExprError {
        let error = self.error(part, format!("there is no type {named}"));
        match named {
            sql::DataType::Date | sql::DataType::Time(..) => {
                error.hint("use TIMESTAMP; DATE_TRUNC('day', ts) is the day of a time")
            }
            sql::DataType::Decimal(_) | sql::DataType::Numeric(_) => error.hint(format!(
                "a DECIMAL(p,s) has 1 to {PRECISION_MAX} digits, s of them decimal places"
            )),
            _ => error.hint(
                "the types are BOOLEAN, BIGINT, DOUBLE, DECIMAL(p,s), STRING, BYTES, TIMESTAMP",
            ),
        }
    }

    pub(super) fn unit(&self, expr: &Expr, name: &str) -> Result<Unit, ExprError> {
        Unit::named(name).ok_or_else(|| {
            self.error(expr, format!("{name} is not a unit of time"))
                .hint("units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, DOW, DOY, EPOCH")
        })
    }

    pub(super) fn function(&mut self, expr: &Expr, function: &sql::Function) -> Lowered {
        let name = function.name.to_string().to_ascii_uppercase();
        if let Some(found) = self.names.function(self.source, &name, function) {
            return found;
        }
        let plain = functions::plain_args(self.source, &name, function)?;
        if let Some(made) = self.time_function(expr, &name, &plain)? {
            return Ok(made);
        }
        let mut args = Vec::with_capacity(plain.len());
        for arg in &plain {
            args.push(self.expr(arg)?);
        }
        let spans = plain.iter().map(|arg| self.at(*arg)).collect();
        let whole = self.at(expr);
        functions::call(self.source, &name, self.at(&function.name), whole, args, spans)
    }

    pub(super) fn numeric(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        match &node.data_type {
            None => Ok(Node::null(Some(DataType::BigInt))),
            Some(data_type) if data_type.is_numeric() => Ok(node),
            Some(other) => Err(self.error(expr, format!("a number is wanted; this is {other}"))),
        }
    }

    pub(super) fn int(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        self.expect(expr, node, DataType::BigInt)
    }

    pub(super) fn time(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        self.expect(expr, node, DataType::Timestamp)
    }

    pub(super) fn string(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        self.expect(expr, node, DataType::String)
    }

    pub(super) fn expect(&self, expr: &Expr, node: Node, wanted: DataType) -> Lowered {
        functions::expect(self.source, node, self.at(expr), &wanted)
    }

    /// A value as `||` prints it: texts as they are, others cast.
    fn printed(&mut self, expr: &Expr) -> Lowered {
        let node = self.expr(expr)?;
        let name = node.type_name();
        if node.is_boolean() && matches!(expr, Expr::BinaryOp { .. }) {
            return Err(self.error(expr, "|| joins texts").hint("use OR between conditions"));
        }
        node.cast(&DataType::String)
            .ok_or_else(|| self.error(expr, format!("a {name} cannot be joined to a text")))
    }
}
