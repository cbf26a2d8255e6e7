//! What SQL writes in a form of its own: CASE, CAST, EXTRACT, TRIM, FLOOR TO and their like.

use sqlparser::ast::{self as sql, Expr};

use super::ExprError;
use super::functions;
use super::lower::{Lower, Lowered};
use super::node::{Node, Span};
use super::op::{Compare, Ends, Op};
use super::operators::{self, Arithmetic};
use super::types;
use crate::ground::schema::DataType;

impl Lower<'_, '_> {
    pub(super) fn dispatch_function(&mut self, expr: &Expr) -> Lowered {
        match expr {
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { expr: value, data_type, format: None, .. } => self.cast(value, data_type),
            Expr::Extract { field, expr: time, .. } => {
                let unit = self.unit(expr, &field.to_string())?;
                let time = self.time(time)?;
                Ok(Node::call(Op::Field(unit), vec![time], DataType::BigInt))
            }
            Expr::Floor { expr: value, field } => self.round_to(expr, value, field, true),
            Expr::Ceil { expr: value, field } => self.round_to(expr, value, field, false),
            Expr::Position { expr: what, r#in } => {
                let args = vec![self.string(what)?, self.string(r#in)?];
                Ok(Node::call(Op::Position, args, DataType::BigInt))
            }
            Expr::Substring { expr: value, substring_from, substring_for, .. } => {
                let mut args = vec![self.string(value)?];
                match substring_from {
                    Some(from) => args.push(self.int(from)?),
                    None => args.push(Node::int(1)),
                }
                if let Some(len) = substring_for {
                    args.push(self.int(len)?);
                }
                Ok(Node::call(Op::Substring, args, DataType::String))
            }
            Expr::Trim { trim_where, trim_what, expr: value, trim_characters: None } => {
                let value = self.string(value)?;
                let what = match trim_what {
                    Some(what) => self.string(what)?,
                    None => Node::text(" "),
                };
                let ends = match trim_where {
                    Some(sql::TrimWhereField::Leading) => Ends::Leading,
                    Some(sql::TrimWhereField::Trailing) => Ends::Trailing,
                    Some(sql::TrimWhereField::Both) | None => Ends::Both,
                };
                Ok(Node::call(Op::Trim(ends), vec![value, what], DataType::String))
            }
            Expr::Function(function) => self.function(expr, function),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.element(expr, root, access_chain)
            }
            Expr::InSubquery { .. } | Expr::Subquery(_) | Expr::Exists { .. } => {
                Err(self.error(expr, "a subquery is not an expression here"))
            }
            Expr::ILike { .. } => {
                Err(self.error(expr, "ILIKE is not known").hint("compare LOWER(...) with LIKE"))
            }
            _ => Err(self.error(expr, format!("`{expr}` is not supported"))),
        }
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[sql::CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Lowered {
        let operand = operand.map(|operand| self.expr(operand)).transpose()?;
        let (mut tests, mut results) = (Vec::new(), Vec::new());
        for branch in conditions {
            tests.push(match &operand {
                None => self.predicate(&branch.condition)?,
                Some(operand) => {
                    let value = self.expr(&branch.condition)?;
                    let names = (operand.type_name(), value.type_name());
                    operators::compare(Compare::Eq, operand.clone(), value)
                        .ok_or_else(|| self.mismatch(&branch.condition, "be compared", names))?
                }
            });
            results.push(self.expr(&branch.result)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expr(otherwise)?,
            None => Node::null(None),
        });
        let names: Vec<String> = results.iter().map(Node::type_name).collect();
        let (results, data_type) = operators::unify(results).map_err(|i| {
            let part = conditions.get(i).map(|branch| &branch.result).or(otherwise);
            let part = part.expect("the place is a branch's or ELSE's");
            let first = names.iter().find(|name| *name != "NULL");
            let message = format!(
                "this branch of CASE is {}, others are {}",
                names[i],
                first.unwrap_or(&names[0])
            );
            self.error(part, message).hint("cast it to the others' type")
        })?;
        Ok(functions::case(tests, results, data_type))
    }

    pub(super) fn cast(&mut self, value: &Expr, to: &sql::DataType) -> Lowered {
        let node = self.expr(value)?;
        let Some(data_type) = types::named(to) else {
            return Err(self.unknown_type(value, to));
        };
        let name = node.type_name();
        node.cast(&data_type)
            .ok_or_else(|| self.error(value, format!("a {name} cannot be cast to {data_type}")))
    }

    /// FLOOR and CEIL: of a number, or of a time TO a unit.
    pub(super) fn round_to(
        &mut self,
        expr: &Expr,
        value: &Expr,
        field: &sql::CeilFloorKind,
        down: bool,
    ) -> Lowered {
        match field {
            sql::CeilFloorKind::DateTimeField(sql::DateTimeField::NoDateTime) => {
                let node = self.numeric(value)?;
                Ok(if down { functions::floor(node) } else { functions::ceil(node) })
            }
            sql::CeilFloorKind::DateTimeField(field) => {
                let unit = self.unit(expr, &field.to_string())?;
                if !unit.is_grain() {
                    return Err(self.error(expr, format!("a time has no {field} to be cut to")));
                }
                let op = if down { Op::Truncate(unit) } else { Op::RoundUp(unit) };
                Ok(Node::call(op, vec![self.time(value)?], DataType::Timestamp))
            }
            sql::CeilFloorKind::Scale(_) => {
                Err(self.error(expr, "FLOOR and CEIL take one number").hint("use ROUND(x, places)"))
            }
        }
    }

    /// TIMESTAMPDIFF and TIMESTAMPADD, whose first argument is a unit.
    pub(super) fn time_function(
        &mut self,
        expr: &Expr,
        name: &str,
        args: &[&Expr],
    ) -> Result<Option<Node>, ExprError> {
        let is_add = match name {
            "TIMESTAMPADD" => true,
            "TIMESTAMPDIFF" => false,
            _ => return Ok(None),
        };
        let [unit, from, to] = args else {
            return Err(self.error(expr, format!("{name} takes a unit and two values")));
        };
        let unit = self.unit(unit, &unit.to_string())?;
        let whole = |node: Option<Node>| node.expect("BIGINT and TIMESTAMP go together");
        let Some((factor, span)) = unit
            .millis()
            .map(|ms| (ms, Span::Millis))
            .or(unit.months().map(|months| (months, Span::Months)))
        else {
            return Err(self.error(expr, format!("{name} does not count in this unit")));
        };
        if is_add {
            let (count, time) = (self.int(from)?, self.time(to)?);
            let length = whole(operators::arithmetic(Arithmetic::Mul, count, Node::int(factor)));
            let length = length.spanning(span);
            return Ok(Some(whole(operators::arithmetic(Arithmetic::Add, time, length))));
        }
        let (from, to) = (self.time(from)?, self.time(to)?);
        let args = vec![from, to];
        let node = match span {
            Span::Months => Node::call(Op::MonthsBetween, args, DataType::BigInt),
            _ => {
                let [from, to] = <[Node; 2]>::try_from(args).expect("two were put in");
                whole(operators::arithmetic(Arithmetic::Sub, to, from))
            }
        };
        let node = whole(operators::arithmetic(Arithmetic::Div, node, Node::int(factor)));
        Ok(Some(node.spanning(Span::None)))
    }

    /// `array[i]`, from 1.
    pub(super) fn element(
        &mut self,
        expr: &Expr,
        root: &Expr,
        chain: &[sql::AccessExpr],
    ) -> Lowered {
        let [sql::AccessExpr::Subscript(sql::Subscript::Index { index })] = chain else {
            return Err(self.error(expr, format!("`{expr}` is not supported")));
        };
        let (array, index) = (self.expr(root)?, self.int(index)?);
        functions::element(array, index)
            .map_err(|name| self.error(expr, format!("a {name} has no elements")))
    }
}
