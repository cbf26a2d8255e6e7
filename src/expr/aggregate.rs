//! A `select` with aggregates: what is to be accumulated, and what is made of it.
//!
//! ```text
//! input rows --calls--> key columns | bounds | one column a call --finish--> output rows
//! ```
//!
//! 1. Equal calls are one, however often they are written.
//! 2. Outside an aggregate a name is a key column (or `window_start`, `window_end`); inside it is a
//!    column of the input. In `having` it may be a column of the `select` too, which comes first.

use std::ops::Range;

use sqlparser::ast::{self as sql, Expr};

use super::ExprError;
use super::functions;
use super::lower::{self, Lower, Names, RowNames};
use super::node::Node;
use super::parse::Source;
use super::projection::Projection;
use super::scope::{Missing, Scope, nearest};
use super::types;
use super::vector::Program;
use crate::ground::schema::{Column, DataType, Schema};

/// What an aggregate does with its argument's values. NULLs are passed over, but by ARRAY_AGG.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateFunc {
    /// Rows.
    CountStar,
    /// Values.
    Count,
    /// Different values.
    CountDistinct,
    /// Sum; the argument's type, DECIMALs with 18 digits.
    Sum,
    /// Mean: truncated for BIGINT, rounded half up to 6 or more places for DECIMAL.
    Avg,
    Min,
    Max,
    /// The value that came first.
    First,
    /// The value that came last.
    Last,
    /// Standard deviation of the population, DOUBLE.
    StddevPop,
    /// Variance of the population, DOUBLE.
    VarPop,
    /// The value below which this part (0 to 1) of the values lies, within 1 %, DOUBLE.
    ApproxPercentile(f64),
    /// Different values: exact up to 256, then with a standard error of 1.6 %.
    ApproxCountDistinct,
    /// The largest values, largest first, each as often as it came.
    TopK(usize),
    /// The values of all rows as they came, NULLs among them (RESPECT NULLS, Flink's default).
    ArrayAgg,
}

/// One aggregate.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub func: AggregateFunc,
    /// What is aggregated; `None` for `COUNT(*)`. STDDEV_POP, VAR_POP and APPROX_PERCENTILE take
    /// DOUBLEs: their arguments are cast here.
    pub argument: Option<Program>,
    /// Rows for which this is not TRUE are left out.
    pub filter: Option<Program>,
    /// Type of the result; COUNT and APPROX_COUNT_DISTINCT are never NULL, the others may be.
    pub result: DataType,
}

/// A compiled `select` with aggregates.
#[derive(Clone, Debug)]
pub struct AggregateSelect {
    /// Equal calls are shared.
    pub calls: Vec<AggregateCall>,
    /// The intermediate row: the key columns, then window_start and window_end if asked for, then
    /// one column a call.
    pub row: Schema,
    /// From the intermediate row to the output row.
    pub finish: Projection,
    /// Which intermediate rows are put out.
    pub having: Option<Program>,
}

/// The names of a window's bounds.
const BOUNDS: [&str; 2] = ["window_start", "window_end"];
/// Most values that TOP_K keeps.
const TOP_K_MAX: i64 = 10_000;

/// Compiles a `select` of (output name, expression) over groups of rows of `input` by `keys`.
/// With `bounds`, `window_start` and `window_end` are known.
///
/// # Errors
/// All errors at once, each with the place in `select` that it belongs to (`select.len()` for
/// `having`).
pub fn compile_aggregates(
    select: &[(String, String)],
    having: Option<&str>,
    input: &Scope,
    keys: &[String],
    bounds: bool,
) -> Result<AggregateSelect, Vec<(usize, ExprError)>> {
    let mut names = match GroupNames::new(input, keys, bounds) {
        Ok(names) => names,
        Err(error) => return Err(vec![(0, error)]),
    };
    let mut errors = Vec::new();
    let mut columns = Vec::new();
    for (i, (name, text)) in select.iter().enumerate() {
        match lower::compile(text, &mut names) {
            Ok(node) => columns.push((name.clone(), node)),
            Err(error) => errors.push((i, error)),
        }
    }
    // With errors in the select, its names are not known, and having would err for that alone.
    let condition = having.filter(|_| errors.is_empty()).and_then(|text| {
        let mut names = HavingNames { names: &mut names, outputs: &columns };
        match lower::compile_predicate(text, &mut names) {
            Ok(node) => Some(Program::of(&node)),
            Err(error) => {
                errors.push((select.len(), error));
                None
            }
        }
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let row = names.row();
    Ok(AggregateSelect {
        calls: names.calls.into_iter().map(Written::compiled).collect(),
        row,
        finish: Projection::of(columns),
        having: condition,
    })
}

/// A call before it is compiled, comparable.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    func: AggregateFunc,
    argument: Option<Node>,
    filter: Option<Node>,
    result: DataType,
}

impl Written {
    fn nullable(&self) -> bool {
        !matches!(
            self.func,
            AggregateFunc::CountStar
                | AggregateFunc::Count
                | AggregateFunc::CountDistinct
                | AggregateFunc::ApproxCountDistinct
        )
    }

    fn compiled(self) -> AggregateCall {
        AggregateCall {
            func: self.func,
            argument: self.argument.as_ref().map(Program::of),
            filter: self.filter.as_ref().map(Program::of),
            result: self.result,
        }
    }
}

/// Names over groups of rows.
struct GroupNames<'a> {
    input: &'a Scope,
    /// Entries of `input` that make the key, in the key's order.
    keys: Vec<usize>,
    key_names: &'a [String],
    bounds: bool,
    calls: Vec<Written>,
}

impl<'a> GroupNames<'a> {
    fn new(
        input: &'a Scope,
        key_names: &'a [String],
        bounds: bool,
    ) -> Result<GroupNames<'a>, ExprError> {
        let mut keys = Vec::new();
        for (i, name) in key_names.iter().enumerate() {
            let source = Source::new(name);
            let whole = 0..name.len();
            let (qualifier, plain) = match name.split_once('.') {
                Some((qualifier, plain)) if input.find(None, name).is_err() => {
                    (Some(qualifier), plain)
                }
                _ => (None, name.as_str()),
            };
            keys.push(lower::find(input, &source, whole.clone(), qualifier, plain)?);
            if key_names[..i].contains(name) {
                return Err(source.error(whole, format!("the key has `{name}` twice")));
            }
            if bounds && BOUNDS.contains(&name.as_str()) {
                return Err(source
                    .error(whole, format!("`{name}` is the window's own and cannot be a key")));
            }
        }
        Ok(GroupNames { input, keys, key_names, bounds, calls: Vec::new() })
    }

    /// Place of the first call's column in the intermediate row.
    fn first_call(&self) -> usize {
        self.keys.len() + if self.bounds { BOUNDS.len() } else { 0 }
    }

    fn row(&self) -> Schema {
        let mut columns: Vec<Column> = Vec::new();
        for (&entry, name) in self.keys.iter().zip(self.key_names) {
            let entry = &self.input.entries[entry];
            columns.push(Column {
                nullable: entry.nullable,
                ..Column::new(name.clone(), entry.data_type.clone())
            });
        }
        if self.bounds {
            let bound = |name: &&str| Column::new(*name, DataType::Timestamp).not_null();
            columns.extend(BOUNDS.iter().map(bound));
        }
        for (i, call) in self.calls.iter().enumerate() {
            let mut name = format!("#{i}");
            while columns.iter().any(|column| column.name == name) {
                name.insert(0, '#');
            }
            columns.push(Column {
                nullable: call.nullable(),
                ..Column::new(name, call.result.clone())
            });
        }
        Schema::new(columns)
    }

    /// The column of a call in the intermediate row.
    fn shared(&mut self, call: Written) -> Node {
        let known = self.calls.iter().position(|other| *other == call);
        let place = known.unwrap_or(self.calls.len());
        let node = Node::column(self.first_call() + place, call.result.clone(), call.nullable());
        if known.is_none() {
            self.calls.push(call);
        }
        node
    }

    fn no_key(&self, source: &Source<'_>, span: Range<usize>, name: &str) -> ExprError {
        let message =
            format!("`{name}` is not a key: many rows are one here, which one's is meant?");
        let error = source.error(span, message);
        error.hint(format!("put it into an aggregate, as in LAST({name}), or add it to `key`"))
    }
}

impl Names for GroupNames<'_> {
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError> {
        if self.bounds
            && qualifier.is_none()
            && let Some(bound) = BOUNDS.iter().position(|b| *b == name)
        {
            return Ok(Node::column(self.keys.len() + bound, DataType::Timestamp, false));
        }
        match self.input.find(qualifier, name) {
            Ok(entry) => match self.keys.iter().position(|key| *key == entry) {
                Some(key) => {
                    let entry = &self.input.entries[entry];
                    Ok(Node::column(key, entry.data_type.clone(), entry.nullable))
                }
                None => Err(self.no_key(source, span, name)),
            },
            Err(Missing::Ambiguous(_)) => {
                Err(lower::find(self.input, source, span, qualifier, name)
                    .expect_err("it was not found"))
            }
            Err(Missing::Unknown) => {
                let bounds = if self.bounds { &BOUNDS[..] } else { &[] };
                if let Some(near) = nearest(name, bounds.iter().copied()) {
                    let error = source.error(span, format!("unknown column `{name}`"));
                    return Err(error.hint(format!("did you mean `{near}`?")));
                }
                Err(lower::find(self.input, source, span, qualifier, name)
                    .expect_err("it was not found"))
            }
        }
    }

    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>> {
        functions::is_aggregate(name).then(|| {
            let call = aggregate(source, self.input, name, function)?;
            Ok(self.shared(call))
        })
    }
}

/// Names of `having`: the outputs, then what the `select` knows.
struct HavingNames<'a, 'b> {
    names: &'a mut GroupNames<'b>,
    outputs: &'a [(String, Node)],
}

impl Names for HavingNames<'_, '_> {
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError> {
        let output = self.outputs.iter().find(|(output, _)| output == name);
        if let (None, Some((_, node))) = (qualifier, output) {
            return Ok(node.clone());
        }
        self.names.column(source, span, qualifier, name).map_err(|error| {
            match nearest(name, self.outputs.iter().map(|(output, _)| output.as_str())) {
                Some(near) if self.names.input.find(qualifier, name).is_err() => {
                    error.hint(format!("did you mean `{near}`?"))
                }
                _ => error,
            }
        })
    }

    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>> {
        self.names.function(source, name, function)
    }
}

/// Reads an aggregate's call; its argument and filter see one input row.
fn aggregate(
    source: &Source<'_>,
    input: &Scope,
    name: &str,
    function: &sql::Function,
) -> Result<Written, ExprError> {
    let span = source.range_of(&function.name);
    let error = |message: String| source.error(span.clone(), message);
    if function.over.is_some() {
        return Err(error(format!(
            "{name}: OVER is not known here; there is the `over` transform"
        )));
    }
    let sql::FunctionArguments::List(list) = &function.args else {
        return Err(error(format!("{name} takes an argument")));
    };
    let is_distinct = matches!(list.duplicate_treatment, Some(sql::DuplicateTreatment::Distinct));
    if is_distinct && name != "COUNT" {
        return Err(
            error(format!("{name}(DISTINCT ...) is not supported")).hint("COUNT(DISTINCT x) is")
        );
    }
    if !list.clauses.is_empty()
        || function.null_treatment.is_some()
        || !function.within_group.is_empty()
    {
        return Err(error(format!("{name} takes plain arguments only")).hint(
            "rows are taken as they come; ARRAY_AGG keeps NULLs, the others pass them over",
        ));
    }
    let mut names = ArgumentNames { input, outer: name };
    let filter = match &function.filter {
        Some(filter) => Some(Lower::new(source, &mut names).predicate(filter)?),
        None => None,
    };
    if let [sql::FunctionArg::Unnamed(sql::FunctionArgExpr::Wildcard)] = list.args.as_slice() {
        if name != "COUNT" || is_distinct {
            return Err(error(format!("{name} cannot take `*`")).hint("COUNT(*) counts rows"));
        }
        return Ok(Written {
            func: AggregateFunc::CountStar,
            argument: None,
            filter,
            result: DataType::BigInt,
        });
    }
    let args = unnamed(list).ok_or_else(|| error(format!("{name} takes expressions")))?;
    let wanted = match name {
        "APPROX_PERCENTILE" | "TOP_K" => 2,
        _ => 1,
    };
    if args.len() != wanted {
        let s = if wanted == 1 { "" } else { "s" };
        return Err(error(format!("{name} takes {wanted} argument{s}, not {}", args.len())));
    }
    let argument = Lower::new(source, &mut names).expr(args[0])?;
    let Some(data_type) = argument.data_type.clone() else {
        return Err(source.error(source.range_of(args[0]), "NULL alone has no type"));
    };
    let func = match args.get(1) {
        Some(parameter) => with_parameter(source, name, parameter)?,
        None => plain(name, is_distinct),
    };
    let Some(result) = result_type(&func, &data_type) else {
        let message = format!("{name} does not take {data_type}");
        return Err(source.error(source.range_of(args[0]), message));
    };
    let is_double = matches!(
        func,
        AggregateFunc::StddevPop | AggregateFunc::VarPop | AggregateFunc::ApproxPercentile(_)
    );
    let argument = if is_double {
        argument.cast(&DataType::Double).expect("numbers are cast to DOUBLE")
    } else {
        argument
    };
    // COUNT of what is never NULL counts rows.
    if func == AggregateFunc::Count && !argument.nullable {
        return Ok(Written { func: AggregateFunc::CountStar, argument: None, filter, result });
    }
    Ok(Written { func, argument: Some(argument), filter, result })
}

/// The arguments, if all are expressions.
fn unnamed(list: &sql::FunctionArgumentList) -> Option<Vec<&Expr>> {
    let mut all = Vec::new();
    for arg in &list.args {
        match arg {
            sql::FunctionArg::Unnamed(sql::FunctionArgExpr::Expr(expr)) => all.push(expr),
            _ => return None,
        }
    }
    Some(all)
}

fn plain(name: &str, is_distinct: bool) -> AggregateFunc {
    match name {
        "COUNT" if is_distinct => AggregateFunc::CountDistinct,
        "COUNT" => AggregateFunc::Count,
        "SUM" => AggregateFunc::Sum,
        "AVG" => AggregateFunc::Avg,
        "MIN" => AggregateFunc::Min,
        "MAX" => AggregateFunc::Max,
        "FIRST" | "FIRST_VALUE" => AggregateFunc::First,
        "LAST" | "LAST_VALUE" => AggregateFunc::Last,
        "STDDEV_POP" => AggregateFunc::StddevPop,
        "VAR_POP" => AggregateFunc::VarPop,
        "APPROX_COUNT_DISTINCT" => AggregateFunc::ApproxCountDistinct,
        _ => AggregateFunc::ArrayAgg,
    }
}

/// APPROX_PERCENTILE and TOP_K, whose second argument is a literal.
fn with_parameter(
    source: &Source<'_>,
    name: &str,
    parameter: &Expr,
) -> Result<AggregateFunc, ExprError> {
    let nothing = Scope::default();
    let mut names = RowNames { scope: &nothing };
    let span = source.range_of(parameter);
    let node = Lower::new(source, &mut names).expr(parameter)?;
    if name == "TOP_K" {
        return match node.as_int() {
            Some(k @ 1..=TOP_K_MAX) => Ok(AggregateFunc::TopK(k as usize)),
            _ => Err(source
                .error(span, format!("TOP_K keeps 1 to {TOP_K_MAX} values, a literal number"))),
        };
    }
    let part = node.cast(&DataType::Double).and_then(|node| node.as_word()).map(f64::from_bits);
    match part {
        Some(part) if (0.0..=1.0).contains(&part) => Ok(AggregateFunc::ApproxPercentile(part)),
        _ => Err(source
            .error(span, "the part of APPROX_PERCENTILE is a literal number from 0 to 1")
            .hint("APPROX_PERCENTILE(x, 0.99)")),
    }
}

/// The type of an aggregate over a type; `None` if it takes no such values.
pub(crate) fn result_type(func: &AggregateFunc, of: &DataType) -> Option<DataType> {
    let is_array = matches!(of, DataType::Array(_));
    match func {
        AggregateFunc::CountStar | AggregateFunc::Count => Some(DataType::BigInt),
        AggregateFunc::CountDistinct | AggregateFunc::ApproxCountDistinct => {
            (!is_array).then_some(DataType::BigInt)
        }
        AggregateFunc::Sum => match of {
            DataType::Decimal { scale, .. } => Some(types::decimal(18, u32::from(*scale))),
            other => other.is_numeric().then(|| other.clone()),
        },
        AggregateFunc::Avg => match of {
            DataType::Decimal { scale, .. } => Some(types::decimal(18, u32::from(*scale).max(6))),
            other => other.is_numeric().then(|| other.clone()),
        },
        AggregateFunc::Min | AggregateFunc::Max => (!is_array).then(|| of.clone()),
        AggregateFunc::First | AggregateFunc::Last => Some(of.clone()),
        AggregateFunc::StddevPop | AggregateFunc::VarPop | AggregateFunc::ApproxPercentile(_) => {
            of.is_numeric().then_some(DataType::Double)
        }
        AggregateFunc::TopK(_) | AggregateFunc::ArrayAgg => {
            (!is_array).then(|| DataType::Array(Box::new(of.clone())))
        }
    }
}

/// Names inside an aggregate: the input's columns, and no other aggregate.
struct ArgumentNames<'a> {
    input: &'a Scope,
    outer: &'a str,
}

impl Names for ArgumentNames<'_> {
    fn column(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        qualifier: Option<&str>,
        name: &str,
    ) -> Result<Node, ExprError> {
        RowNames { scope: self.input }.column(source, span, qualifier, name)
    }

    fn function(
        &mut self,
        source: &Source<'_>,
        name: &str,
        function: &sql::Function,
    ) -> Option<Result<Node, ExprError>> {
        functions::is_aggregate(name).then(|| {
            let message = format!("{name} stands inside {}: aggregates do not nest", self.outer);
            let error = source.error(source.range_of(&function.name), message);
            Err(error.hint("aggregate in one transform, and aggregate its output in the next"))
        })
    }
}
