//! Random expressions over random rows: the vector machine against the scalar one (in
//! [`evaluate`]) and both against an evaluator that walks the tree, one value at a time, with
//! nothing in common with the compiler but SQL itself.

use proptest::prelude::*;

use super::*;

/// A value with its type's name only where it matters: a DECIMAL knows its digits and places.
#[derive(Clone, Debug, PartialEq)]
enum Datum {
    Bool(bool),
    Int(i64),
    Decimal(i128),
    Double(f64),
    Text(String),
    Time(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    Bool,
    Int,
    /// Digits, decimal places.
    Decimal(u32, u32),
    Double,
    Text,
    Time,
}

#[derive(Clone, Debug)]
enum Tree {
    Column(usize),
    /// A literal as written, and what it is.
    Literal(String, Type, Option<Datum>),
    Arithmetic(char, Box<Tree>, Box<Tree>),
    Compare(&'static str, Box<Tree>, Box<Tree>),
    Connect(&'static str, Box<Tree>, Box<Tree>),
    Not(Box<Tree>),
    IsNull(Box<Tree>),
    IsTrue(Box<Tree>),
    Distinct(Box<Tree>, Box<Tree>),
    Between(Box<Tree>, Box<Tree>, Box<Tree>),
    In(Box<Tree>, Vec<Tree>),
    Case(Box<Tree>, Box<Tree>, Box<Tree>),
    Coalesce(Box<Tree>, Box<Tree>),
    Call(&'static str, Box<Tree>),
    Concat(Box<Tree>, Box<Tree>),
}

type Row = Vec<Option<Datum>>;

const COLUMNS: [(&str, Type); 9] = [
    ("a", Type::Int),
    ("b", Type::Int),
    ("p", Type::Decimal(18, 2)),
    ("q", Type::Decimal(5, 3)),
    ("x", Type::Double),
    ("s", Type::Text),
    ("t", Type::Text),
    ("ok", Type::Bool),
    ("ts", Type::Time),
];

impl Tree {
    fn text(&self) -> String {
        match self {
            Tree::Column(column) => COLUMNS[*column].0.into(),
            Tree::Literal(text, ..) => text.clone(),
            Tree::Arithmetic(op, a, b) => format!("({} {op} {})", a.text(), b.text()),
            Tree::Compare(op, a, b) | Tree::Connect(op, a, b) => {
                format!("({} {op} {})", a.text(), b.text())
            }
            Tree::Not(a) => format!("(NOT {})", a.text()),
            Tree::IsNull(a) => format!("({} IS NULL)", a.text()),
            Tree::IsTrue(a) => format!("({} IS TRUE)", a.text()),
            Tree::Distinct(a, b) => format!("({} IS DISTINCT FROM {})", a.text(), b.text()),
            Tree::Between(a, b, c) => {
                format!("({} BETWEEN {} AND {})", a.text(), b.text(), c.text())
            }
            Tree::In(a, list) => {
                let list: Vec<String> = list.iter().map(Tree::text).collect();
                format!("({} IN ({}))", a.text(), list.join(", "))
            }
            Tree::Case(c, a, b) => {
                format!("CASE WHEN {} THEN {} ELSE {} END", c.text(), a.text(), b.text())
            }
            Tree::Coalesce(a, b) => format!("COALESCE({}, {})", a.text(), b.text()),
            Tree::Call(name, a) => format!("{name}({})", a.text()),
            Tree::Concat(a, b) => format!("({} || {})", a.text(), b.text()),
        }
    }

    fn of_type(&self) -> Type {
        match self {
            Tree::Column(column) => COLUMNS[*column].1,
            Tree::Literal(_, of, _) => *of,
            Tree::Arithmetic(op, a, b) => arithmetic_type(*op, a.of_type(), b.of_type()),
            Tree::Case(_, a, b) | Tree::Coalesce(a, b) => common(a.of_type(), b.of_type()),
            Tree::Call("LENGTH", _) => Type::Int,
            Tree::Call("FLOOR" | "CEIL", a) => match a.of_type() {
                Type::Decimal(p, s) if s > 0 => Type::Decimal(p, 0),
                other => other,
            },
            Tree::Call(_, a) => a.of_type(),
            Tree::Concat(..) => Type::Text,
            _ => Type::Bool,
        }
    }

    fn value(&self, row: &Row) -> Option<Datum> {
        let truth = |tree: &Tree| tree.value(row).map(|value| value == Datum::Bool(true));
        match self {
            Tree::Column(column) => row[*column].clone(),
            Tree::Literal(_, _, value) => value.clone(),
            Tree::Arithmetic(op, a, b) => {
                let types = (a.of_type(), b.of_type());
                arithmetic(*op, types, self.of_type(), a.value(row)?, b.value(row)?)
            }
            Tree::Compare(op, a, b) => {
                let order = compare(a, b, row)??;
                Some(Datum::Bool(match *op {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }))
            }
            Tree::Connect(op, a, b) => {
                let decides = *op == "OR";
                match (truth(a), truth(b)) {
                    (Some(value), _) | (_, Some(value)) if value == decides => {
                        Some(Datum::Bool(decides))
                    }
                    (Some(_), Some(_)) => Some(Datum::Bool(!decides)),
                    _ => None,
                }
            }
            Tree::Not(a) => truth(a).map(|value| Datum::Bool(!value)),
            Tree::IsNull(a) => Some(Datum::Bool(a.value(row).is_none())),
            Tree::IsTrue(a) => Some(Datum::Bool(truth(a) == Some(true))),
            Tree::Distinct(a, b) => Some(Datum::Bool(match compare(a, b, row) {
                Some(order) => order != Some(std::cmp::Ordering::Equal),
                None => a.value(row).is_none() != b.value(row).is_none(),
            })),
            Tree::Between(a, b, c) => Tree::Connect(
                "AND",
                Box::new(Tree::Compare(">=", a.clone(), b.clone())),
                Box::new(Tree::Compare("<=", a.clone(), c.clone())),
            )
            .value(row),
            Tree::In(a, list) => {
                let mut whole = Tree::Literal(String::new(), Type::Bool, Some(Datum::Bool(false)));
                for item in list {
                    let equal = Tree::Compare("=", a.clone(), Box::new(item.clone()));
                    whole = Tree::Connect("OR", Box::new(whole), Box::new(equal));
                }
                whole.value(row)
            }
            Tree::Case(c, a, b) => {
                let chosen = if truth(c) == Some(true) { a } else { b };
                convert(chosen.value(row)?, chosen.of_type(), self.of_type())
            }
            Tree::Coalesce(a, b) => {
                // A value that does not fit the common type is NULL, and so passed over.
                let of = self.of_type();
                let one = |tree: &Tree| convert(tree.value(row)?, tree.of_type(), of);
                one(a).or_else(|| one(b))
            }
            Tree::Call(name, a) => call(name, a.value(row)?, a.of_type()),
            Tree::Concat(a, b) => match (a.value(row)?, b.value(row)?) {
                (Datum::Text(a), Datum::Text(b)) => Some(Datum::Text(a + &b)),
                _ => unreachable!("texts were made"),
            },
        }
    }
}

fn digits(of: Type) -> Option<(u32, u32)> {
    match of {
        Type::Int => Some((19, 0)),
        Type::Decimal(p, s) => Some((p, s)),
        _ => None,
    }
}

fn cut(p: u32, s: u32) -> Type {
    Type::Decimal(p.min(18).max(s.min(18)), s.min(18))
}

fn common(a: Type, b: Type) -> Type {
    match (digits(a), digits(b)) {
        _ if a == b => a,
        (Some((p, s)), Some((q, t))) => cut((p - s).max(q - t) + s.max(t), s.max(t)),
        _ => Type::Double,
    }
}

fn arithmetic_type(op: char, a: Type, b: Type) -> Type {
    if a == b && a == Type::Int {
        return Type::Int;
    }
    let (Some((p, s)), Some((q, t))) = (digits(a), digits(b)) else {
        return Type::Double;
    };
    let (whole, scale) = ((p - s).max(q - t), s.max(t));
    match op {
        '*' => cut(p + q, s + t),
        '/' => cut(p - s + t + s.max(6), s.max(6)),
        '%' => cut((p - s).min(q - t) + scale, scale),
        _ => cut(whole + scale + 1, scale),
    }
}

fn as_double(value: &Datum, of: Type) -> f64 {
    match (value, of) {
        (Datum::Int(value), _) => *value as f64,
        (Datum::Double(value), _) => *value,
        (Datum::Decimal(value), Type::Decimal(_, s)) => format!("{value}e-{s}").parse().unwrap(),
        _ => unreachable!("numbers were made"),
    }
}

/// An exact number and its decimal places.
fn exact(value: &Datum, of: Type) -> (i128, u32) {
    match (value, of) {
        (Datum::Int(value), _) => (i128::from(*value), 0),
        (Datum::Decimal(value), Type::Decimal(_, s)) => (*value, s),
        _ => unreachable!("exact numbers were made"),
    }
}

fn fits(value: i128, of: Type) -> Option<Datum> {
    match of {
        Type::Int => i64::try_from(value).ok().map(Datum::Int),
        Type::Decimal(p, _) => (value.abs() < 10i128.pow(p)).then_some(Datum::Decimal(value)),
        _ => unreachable!("exact types were asked for"),
    }
}

/// `value / 10^places`, half away from zero.
fn rounded(value: i128, places: u32) -> i128 {
    let power = 10i128.pow(places);
    let half = if value < 0 { -power / 2 } else { power / 2 };
    if places == 0 { value } else { (value + half) / power }
}

fn convert(value: Datum, from: Type, to: Type) -> Option<Datum> {
    match to {
        _ if from == to => Some(value),
        Type::Double => Some(Datum::Double(as_double(&value, from))),
        Type::Decimal(_, scale) => {
            let (value, s) = exact(&value, from);
            fits(value * 10i128.pow(scale - s), to)
        }
        _ => unreachable!("types go together"),
    }
}

fn arithmetic(op: char, types: (Type, Type), result: Type, a: Datum, b: Datum) -> Option<Datum> {
    if result == Type::Double {
        let (a, b) = (as_double(&a, types.0), as_double(&b, types.1));
        let value = match op {
            '+' => a + b,
            '-' => a - b,
            '*' => a * b,
            '/' => a / b,
            _ => a % b,
        };
        return value.is_finite().then_some(Datum::Double(value));
    }
    let ((a, s), (b, t)) = (exact(&a, types.0), exact(&b, types.1));
    let scale = s.max(t);
    let (up_a, up_b) = (a * 10i128.pow(scale - s), b * 10i128.pow(scale - t));
    match (op, result) {
        ('+', _) => fits(up_a + up_b, result),
        ('-', _) => fits(up_a - up_b, result),
        ('*', Type::Decimal(_, scale)) => fits(rounded(a * b, s + t - scale), result),
        ('*', _) => fits(a * b, result),
        (_, _) if b == 0 => None,
        ('/', Type::Decimal(_, places)) => {
            // By hand, digit by digit; one digit more says how to round.
            let negative = (a < 0) != (b < 0);
            let (mut rest, divisor) = (a.abs(), b.abs());
            let mut quotient = rest / divisor;
            rest %= divisor;
            for _ in 0..places + t - s + 1 {
                rest *= 10;
                quotient = quotient.checked_mul(10)?.checked_add(rest / divisor)?;
                rest %= divisor;
            }
            let quotient = rounded(quotient, 1);
            fits(if negative { -quotient } else { quotient }, result)
        }
        ('/', _) => fits(a / b, result),
        _ => fits(up_a % up_b, result),
    }
}

/// `None`: NULL. `Some(None)`: not ordered (which no number made here is).
fn compare(a: &Tree, b: &Tree, row: &Row) -> Option<Option<std::cmp::Ordering>> {
    let (x, y) = (a.value(row)?, b.value(row)?);
    let (of_x, of_y) = (a.of_type(), b.of_type());
    Some(match (&x, &y) {
        (Datum::Text(x), Datum::Text(y)) => Some(x.as_bytes().cmp(y.as_bytes())),
        (Datum::Bool(x), Datum::Bool(y)) => Some(x.cmp(y)),
        (Datum::Time(x), Datum::Time(y)) => Some(x.cmp(y)),
        _ if digits(of_x).is_some() && digits(of_y).is_some() => {
            let ((x, s), (y, t)) = (exact(&x, of_x), exact(&y, of_y));
            let scale = s.max(t);
            Some((x * 10i128.pow(scale - s)).cmp(&(y * 10i128.pow(scale - t))))
        }
        _ => as_double(&x, of_x).partial_cmp(&as_double(&y, of_y)),
    })
}

fn call(name: &str, value: Datum, of: Type) -> Option<Datum> {
    Some(match (name, value) {
        ("ABS" | "-", Datum::Int(value)) => {
            let value = i128::from(value);
            return fits(if name == "ABS" { value.abs() } else { -value }, Type::Int);
        }
        ("ABS", Datum::Decimal(value)) => Datum::Decimal(value.abs()),
        ("ABS", Datum::Double(value)) => Datum::Double(value.abs()),
        ("-", Datum::Decimal(value)) => Datum::Decimal(-value),
        ("-", Datum::Double(value)) => Datum::Double(-value),
        ("FLOOR", Datum::Double(value)) => Datum::Double(value.floor()),
        ("CEIL", Datum::Double(value)) => Datum::Double(value.ceil()),
        ("FLOOR" | "CEIL", Datum::Decimal(value)) => {
            let (_, s) = digits(of).unwrap();
            let power = 10i128.pow(s);
            let down = value.div_euclid(power);
            let up = i128::from(name == "CEIL" && value.rem_euclid(power) != 0);
            Datum::Decimal(down + up)
        }
        ("UPPER", Datum::Text(text)) => Datum::Text(text.to_uppercase()),
        ("LOWER", Datum::Text(text)) => Datum::Text(text.to_lowercase()),
        ("TRIM", Datum::Text(text)) => Datum::Text(text.trim_matches(' ').to_string()),
        ("LENGTH", Datum::Text(text)) => Datum::Int(text.chars().count() as i64),
        (_, value) => value,
    })
}

fn literal(of: Type) -> BoxedStrategy<Tree> {
    let known = move |text: String, of: Type, value: Datum| Tree::Literal(text, of, Some(value));
    match of {
        Type::Int => prop_oneof![-3i64..10, Just(i64::MAX), Just(i64::MIN), Just(1_000_000_007)]
            .prop_map(move |v| known(v.to_string(), Type::Int, Datum::Int(v)))
            .boxed(),
        Type::Decimal(..) => (-20_000i64..20_000, 1usize..5)
            .prop_map(move |(v, s)| {
                let text = format!("{:0>width$}", v.abs(), width = s + 1);
                let (whole, places) = text.split_at(text.len() - s);
                let sign = if v < 0 { "-" } else { "" };
                let p = whole.trim_start_matches('0').len() + s;
                let of = Type::Decimal(p as u32, s as u32);
                known(format!("{sign}{whole}.{places}"), of, Datum::Decimal(i128::from(v)))
            })
            .boxed(),
        Type::Double => prop_oneof![Just(0.5), Just(-2.25), Just(1e300), Just(3.0)]
            .prop_map(move |v: f64| known(format!("{v:e}"), Type::Double, Datum::Double(v)))
            .boxed(),
        Type::Text => prop_oneof![Just(""), Just("ab"), Just("Ab c"), Just("a longer text ü")]
            .prop_map(move |v| known(format!("'{v}'"), Type::Text, Datum::Text(v.into())))
            .boxed(),
        Type::Bool => any::<bool>()
            .prop_map(move |v| known(v.to_string().to_uppercase(), Type::Bool, Datum::Bool(v)))
            .boxed(),
        Type::Time => {
            Just(known("TIMESTAMP '1970-01-01 00:00:01'".into(), Type::Time, Datum::Time(1_000)))
                .boxed()
        }
    }
}

fn columns(like: Type) -> BoxedStrategy<Tree> {
    let same = |of: Type| std::mem::discriminant(&of) == std::mem::discriminant(&like);
    let all: Vec<usize> = (0..COLUMNS.len()).filter(|&i| same(COLUMNS[i].1)).collect();
    proptest::sample::select(all).prop_map(Tree::Column).boxed()
}

const ANY_DECIMAL: Type = Type::Decimal(18, 2);

fn number(depth: u32) -> BoxedStrategy<Tree> {
    prop_oneof![
        3 => tree(Type::Int, depth),
        3 => tree(ANY_DECIMAL, depth),
        1 => tree(Type::Double, depth)
    ]
    .boxed()
}

fn pair(depth: u32) -> BoxedStrategy<(Tree, Tree)> {
    prop_oneof![
        4 => (number(depth), number(depth)),
        2 => (tree(Type::Text, depth), tree(Type::Text, depth)),
        1 => (tree(Type::Time, depth), tree(Type::Time, depth)),
        1 => (tree(Type::Bool, depth), tree(Type::Bool, depth)),
    ]
    .boxed()
}

fn tree(of: Type, depth: u32) -> BoxedStrategy<Tree> {
    let leaf = prop_oneof![3 => columns(of), 2 => literal(of)];
    if depth == 0 {
        return leaf.boxed();
    }
    let d = depth - 1;
    let boxed = |tree: Tree| Box::new(tree);
    let chosen = (tree(Type::Bool, d), tree(of, d), tree(of, d))
        .prop_map(move |(c, a, b)| Tree::Case(boxed(c), boxed(a), boxed(b)));
    let coalesced =
        (tree(of, d), tree(of, d)).prop_map(move |(a, b)| Tree::Coalesce(boxed(a), boxed(b)));
    let shared = prop_oneof![3 => leaf, 1 => chosen, 1 => coalesced].boxed();
    let call = move |names: &'static [&'static str], arg: BoxedStrategy<Tree>| {
        (proptest::sample::select(names), arg).prop_map(move |(name, a)| Tree::Call(name, boxed(a)))
    };
    match of {
        Type::Int | Type::Decimal(..) | Type::Double => {
            let other = if of == Type::Int { tree(of, d) } else { number(d) };
            let computed =
                (proptest::sample::select(&['+', '-', '*', '/', '%'][..]), tree(of, d), other)
                    .prop_map(move |(op, a, b)| Tree::Arithmetic(op, boxed(a), boxed(b)));
            let called = call(&["ABS", "-", "FLOOR", "CEIL"], tree(of, d));
            let length = call(&["LENGTH"], tree(Type::Text, d)).boxed();
            let rare = if of == Type::Int { length } else { called.clone().boxed() };
            prop_oneof![2 => shared, 3 => computed, 1 => called, 1 => rare].boxed()
        }
        Type::Text => {
            let called = call(&["UPPER", "LOWER", "TRIM"], tree(of, d));
            let joined =
                (tree(of, d), tree(of, d)).prop_map(move |(a, b)| Tree::Concat(boxed(a), boxed(b)));
            prop_oneof![2 => shared, 1 => called, 1 => joined].boxed()
        }
        Type::Time => shared,
        Type::Bool => {
            let ops = &["=", "<>", "<", "<=", ">", ">="][..];
            let compared = (proptest::sample::select(ops), pair(d))
                .prop_map(move |(op, (a, b))| Tree::Compare(op, boxed(a), boxed(b)));
            let joined = (proptest::sample::select(&["AND", "OR"][..]), tree(of, d), tree(of, d))
                .prop_map(move |(op, a, b)| Tree::Connect(op, boxed(a), boxed(b)));
            let between = (number(d), number(d), number(d))
                .prop_map(move |(a, b, c)| Tree::Between(boxed(a), boxed(b), boxed(c)));
            let listed = (pair(d), proptest::collection::vec(number(0), 0..12)).prop_map(
                move |((a, b), more)| {
                    let is_number = digits(a.of_type()).is_some() || a.of_type() == Type::Double;
                    let more = if is_number { more } else { Vec::new() };
                    Tree::In(boxed(a), std::iter::once(b).chain(more).collect())
                },
            );
            prop_oneof![
                2 => shared,
                6 => compared,
                3 => joined,
                1 => tree(of, d).prop_map(move |a| Tree::Not(boxed(a))),
                1 => pair(d).prop_map(move |(a, _)| Tree::IsNull(boxed(a))),
                1 => tree(of, d).prop_map(move |a| Tree::IsTrue(boxed(a))),
                1 => pair(d).prop_map(move |(a, b)| Tree::Distinct(boxed(a), boxed(b))),
                1 => between,
                1 => listed,
            ]
            .boxed()
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let int =
        || prop_oneof![5 => -3i64..10, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => any::<i64>()];
    let maybe = |null: bool, value: Datum| (!null).then_some(value);
    let texts =
        prop_oneof![Just(""), Just("ab"), Just("Ab c"), Just(" x "), Just("a longer text ü")];
    let row = (
        (int(), int(), -99_999i64..99_999, 0usize..4),
        (-100i64..100, proptest::sample::select(&[0.5, -0.0, 1e300, -7.25, 3.0][..])),
        (texts.clone(), texts, any::<bool>(), -5_000i64..5_000),
        proptest::array::uniform9(proptest::bool::weighted(0.2)),
    );
    let row = row.prop_map(move |((a, b, q, wide), (p, x), (s, t, ok, ts), null)| {
        let p = i128::from(p) * [1, 100, 12_345, 9_999_999_999_999_999][wide];
        vec![
            maybe(null[0], Datum::Int(a)),
            maybe(null[1], Datum::Int(b)),
            maybe(null[2], Datum::Decimal(p)),
            maybe(null[3], Datum::Decimal(i128::from(q))),
            maybe(null[4], Datum::Double(x)),
            maybe(null[5], Datum::Text(s.into())),
            maybe(null[6], Datum::Text(t.into())),
            maybe(null[7], Datum::Bool(ok)),
            maybe(null[8], Datum::Time(ts)),
        ]
    });
    // Without any NULL the vector machine goes other ways.
    (proptest::collection::vec(row, 1..130), any::<bool>()).prop_map(|(rows, keep)| {
        let whole = |row: &Row| row.iter().all(Option::is_some);
        if keep { rows } else { rows.into_iter().filter(whole).collect() }
    })
}

fn build(rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(COLUMNS.len(), rows.len());
    for row in rows {
        let (mut slots, mut nulls) = (vec![0; COLUMNS.len()], 0);
        for (i, value) in row.iter().enumerate() {
            match value {
                None => nulls |= 1 << i,
                Some(Datum::Bool(value)) => slots[i] = u64::from(*value),
                Some(Datum::Int(value) | Datum::Time(value)) => slots[i] = *value as u64,
                Some(Datum::Decimal(value)) => slots[i] = *value as i64 as u64,
                Some(Datum::Double(value)) => slots[i] = value.to_bits(),
                Some(Datum::Text(text)) => slots[i] = slot::put(text.as_bytes(), &mut builder.heap),
            }
        }
        builder.push_nulls(&slots, &[nulls]);
    }
    builder.finish()
}

fn scope() -> Scope {
    let column = |(name, of): &(&str, Type)| {
        let data_type = match of {
            Type::Bool => DataType::Boolean,
            Type::Int => DataType::BigInt,
            Type::Decimal(p, s) => DataType::Decimal { precision: *p as u8, scale: *s as u8 },
            Type::Double => DataType::Double,
            Type::Text => DataType::String,
            Type::Time => DataType::Timestamp,
        };
        Column::new(*name, data_type)
    };
    Scope::of(&Schema::new(COLUMNS.iter().map(column).collect()))
}

fn naive(tree: &Tree, row: &Row) -> String {
    match (tree.value(row), tree.of_type()) {
        (None, _) => "NULL".into(),
        (Some(Datum::Bool(value)), _) => value.to_string().to_uppercase(),
        (Some(Datum::Int(value)), _) => value.to_string(),
        (Some(Datum::Decimal(value)), Type::Decimal(_, scale)) => {
            let text = format!("{:0>width$}", value.abs(), width = scale as usize + 1);
            let (whole, places) = text.split_at(text.len() - scale as usize);
            let sign = if value < 0 { "-" } else { "" };
            let point = if scale > 0 { "." } else { "" };
            format!("{sign}{whole}{point}{places}")
        }
        (Some(Datum::Double(value)), _) => format!("{value:?}"),
        (Some(Datum::Text(text)), _) => format!("'{text}'"),
        (Some(Datum::Time(value)), _) => format!("@{value}"),
        (value, of) => unreachable!("{value:?} is no {of:?}"),
    }
}

fn check_tree(tree: &Tree, rows: &[Row], every: usize) {
    let batch = build(rows);
    let select: Vec<u32> = (0..rows.len() as u32).rev().step_by(every).collect();
    let found = evaluate(&tree.text(), &batch, &scope(), &select);
    for (value, &row) in found.iter().zip(&select) {
        let expected = naive(tree, &rows[row as usize]);
        assert_eq!(*value, expected, "{} on {:?}", tree.text(), rows[row as usize]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn conditions_mean_what_the_tree_says(
        tree in tree(Type::Bool, 3), rows in rows(), every in 1usize..3
    ) {
        check_tree(&tree, &rows, every);
    }

    #[test]
    fn values_mean_what_the_tree_says(
        tree in prop_oneof![number(3), tree(Type::Text, 3), tree(Type::Time, 2)],
        rows in rows(), every in 1usize..3
    ) {
        check_tree(&tree, &rows, every);
    }
}
