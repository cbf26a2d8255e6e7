//! Right files, and what is made of them.

use super::*;
use crate::ground::schema::Schema;
use crate::ops::pattern::ast;
use crate::plan::catalogue::OptionValue;
use crate::plan::graph::*;

/// The columns of an output.
fn shown(schema: &Schema) -> String {
    let column = |column: &crate::ground::schema::Column| {
        let null = if column.nullable { "" } else { "!" };
        format!("{} {}{null}", column.name, column.data_type)
    };
    schema.columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// The transform `x` of a pipeline around `lines`.
fn check(lines: &str) -> TransformPlan {
    let pipeline = pipeline(&around(lines));
    let found = pipeline.transforms.into_iter().find(|transform| transform.name == "x");
    found.expect("the lines declare x")
}

#[test]
fn a_source_has_time_and_a_watermark() {
    let text = around(
        r#"
[transforms.x]
type = "union"
inputs = ["t", "p", "i"]
[sources.p]
type = "file"
path = "a"
schema = "transaction"
event_time = "ts"
watermark = { type = "punctuated", where = "type = 'END'", idle_after = "1m" }
[sources.i]
type = "file"
path = "a"
schema = "transaction"
time = "ingestion"
"#,
    );
    let text = text.replacen(
        "event_time = \"ts\"\n",
        "event_time = \"ts\"\nwatermark = { delay = \"5s\", emit = \"per_event\", idle_after = \"1m\" }\n",
        1,
    );
    let read = pipeline(&text);
    assert_eq!(read.sources[0].time, RowTime::Column(6));
    assert_eq!(read.sources[0].watermark.emit, WatermarkEmit::PerEvent);
    assert_eq!(read.sources[0].watermark.idle_after_ms, Some(60_000));
    assert!(matches!(read.sources[0].watermark.kind, WatermarkKind::Bounded { delay_ms: 5_000 }));
    assert!(matches!(read.sources[1].watermark.kind, WatermarkKind::Punctuated { .. }));
    assert_eq!(read.sources[2].time, RowTime::Ingestion);
    let port = |at| PortRef { node: Node::Source(at), port: 0 };
    assert_eq!(read.transforms[0].inputs, [port(0), port(1), port(2)]);
}

#[test]
fn a_nested_field_has_its_path_only_where_it_is_decoded() {
    let text = r#"
[schemas.bid]
price = "BIGINT FROM bid.price"
[sources.t]
type = "file"
path = "a"
schema = "bid"
[sinks.out]
type = "stdout"
inputs = ["t", "t.rejected"]
"#;
    let source = &pipeline(text).sources[0];
    assert_eq!(source.schema.columns[0].path, ["bid", "price"]);
    assert!(source.outputs[0].schema.columns[0].path.is_empty());
    assert!(source.outputs.iter().all(|output| output.is_read));
    assert_eq!(shown(&source.outputs[1].schema), "raw STRING!, reason STRING!, position STRING!");
}

#[test]
fn raw_lines_need_no_schema() {
    let text = r#"
[sources.t]
type = "file"
path = "a"
format = "raw"
[transforms.words]
type = "flat_map"
inputs = ["t"]
each = "SPLIT(line, ' ')"
as = "word"
[transforms.totals]
type = "aggregate"
inputs = ["words"]
key = ["word"]
select = { word = "word", n = "COUNT(*)" }
[sinks.out]
type = "stdout"
inputs = ["totals"]
"#;
    let read = pipeline(text);
    assert_eq!(shown(&read.transforms[0].outputs[0].schema), "line STRING!, word STRING");
    assert_eq!(read.transforms[1].key, [1]);
    assert_eq!(shown(&read.transforms[1].outputs[0].schema), "word STRING, n BIGINT!");
}

#[test]
fn stateless_transforms() {
    let x = check("[transforms.x]\ntype = 'filter'\ninputs = ['t']\nwhere = 'amount >= 100'");
    assert!(matches!(x.kind, TransformKind::Filter(_)));
    assert_eq!(x.outputs[0].schema.width(), 7);
    let x = check(
        "[transforms.x]\ntype = 'map'\ninputs = ['t']\nselect = { z = 'user_id', dollars = 'amount', one = '1' }",
    );
    assert_eq!(shown(&x.outputs[0].schema), "z BIGINT, dollars DECIMAL(18,2), one BIGINT!");
}

#[test]
fn a_route_has_an_output_for_each_condition() {
    let text = around(
        r#"
[transforms.split]
type = "route"
inputs = ["t"]
outputs = { high = "amount > 1000", low = "amount < 100" }
[transforms.x]
type = "union"
inputs = ["split.high", "split"]
"#,
    );
    let read = pipeline(&text);
    let names: Vec<&str> =
        read.transforms[0].outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["", "high", "low"]);
    let port = |port| PortRef { node: Node::Transform(0), port };
    assert_eq!(read.transforms[1].inputs, [port(1), port(0)]);
    let is_read: Vec<bool> =
        read.transforms[0].outputs.iter().map(|output| output.is_read).collect();
    assert_eq!(is_read, [true, true, false]);
}

const LOOKUP: &str = r#"
[schemas.profile]
user_id = "BIGINT"
avg_amount = "DECIMAL(18,2) NOT NULL"
country = "STRING"
[sources.profiles]
type = "file"
path = "p"
schema = "profile"
[transforms.x]
type = "lookup"
inputs = ["t"]
table = "profiles"
on = { user_id = "user_id" }
add = { avg_amount = "profiles.avg_amount", home = "profiles.country" }
"#;

#[test]
fn a_lookup_adds_columns_that_may_be_missing() {
    let read = pipeline(&around(LOOKUP));
    let x = &read.transforms[0];
    let TransformKind::Lookup(lookup) = &x.kind else { panic!("it is a lookup") };
    assert_eq!(lookup.table, 1);
    assert_eq!(lookup.on, [(1, 0)]);
    assert!(lookup.wait_for_table);
    assert_eq!(lookup.unmatched, Unmatched::Keep);
    let schema = shown(&x.outputs[0].schema);
    assert!(schema.ends_with("ts TIMESTAMP, avg_amount DECIMAL(18,2), home STRING"), "{schema}");
    let tables: Vec<bool> = read.sources.iter().map(|source| source.feeds_only_tables).collect();
    assert_eq!(tables, [false, true]);
    assert_eq!(read.sources[1].time, RowTime::None);
}

#[test]
fn a_lookup_may_route_what_it_does_not_find() {
    let text = around(&format!(
        "{LOOKUP}unmatched = 'route'\nwait_for_table = false\n[sinks.u]\ntype = 'stdout'\ninputs = ['x.unmatched']"
    ));
    let x = &pipeline(&text).transforms[0];
    let TransformKind::Lookup(lookup) = &x.kind else { panic!("it is a lookup") };
    assert!(!lookup.wait_for_table);
    assert!(shown(&x.outputs[0].schema).ends_with("avg_amount DECIMAL(18,2)!, home STRING"));
    assert_eq!((x.outputs[1].name.as_str(), x.outputs[1].schema.width()), ("unmatched", 7));
}

fn window(shape: &str) -> WindowSpec {
    let bounds = if shape.contains("count") { "" } else { "start = 'window_start'" };
    let x = check(&format!(
        "[transforms.x]\ntype = 'window'\ninputs = ['t']\nkey = ['user_id']\nwindow = {{ {shape} }}\n\
         [transforms.x.select]\nuser_id = 'user_id'\nn = 'COUNT(*)'\n{bounds}\n"
    ));
    match x.kind {
        TransformKind::Window(window) => window,
        _ => panic!("it is a window"),
    }
}

#[test]
fn windows_of_every_kind() {
    let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
    for (shape, kind) in [
        ("type = 'tumbling', size = '1m'", WindowKind::Tumbling { size_ms: minute, offset_ms: 0 }),
        (
            "type = 'tumbling', size = '1m', offset = '5s'",
            WindowKind::Tumbling { size_ms: minute, offset_ms: 5_000 },
        ),
        (
            "type = 'sliding', size = '1h', slide = '10m'",
            WindowKind::Sliding { size_ms: hour, slide_ms: 10 * minute, offset_ms: 0 },
        ),
        ("type = 'session', gap = '30m'", WindowKind::Session { gap_ms: 30 * minute }),
        ("type = 'count', size = 100, slide = 10", WindowKind::Count { size: 100, slide: 10 }),
        ("type = 'count', size = 5", WindowKind::Count { size: 5, slide: 5 }),
        (
            "type = 'cumulative', size = '1d', step = '1h'",
            WindowKind::Cumulative { size_ms: day, step_ms: hour, offset_ms: 0 },
        ),
    ] {
        assert_eq!(window(shape).kind, kind, "{shape}");
    }
}

#[test]
fn a_window_has_late_rows_and_may_fire_early() {
    let x = check(
        r#"
[sinks.late]
type = "stdout"
inputs = ["x.late"]
[transforms.x]
type = "window"
inputs = ["t"]
key = ["user_id", "country"]
window = { type = "sliding", size = "1h", slide = "10m" }
allowed_lateness = "5m"
emit = { early = "10s" }
having = "score > 0"
[transforms.x.select]
user_id = "user_id"
start = "window_start"
n = "COUNT(*)"
total = "SUM(amount)"
score = """10 * COUNT(*) FILTER (WHERE amount > 3 * txn_id)
           + CASE WHEN COUNT(DISTINCT merchant_id) > 20 THEN 5 ELSE 0 END"""
"#,
    );
    assert_eq!(x.key, [1, 4]);
    assert_eq!(
        shown(&x.outputs[0].schema),
        "user_id BIGINT, start TIMESTAMP!, n BIGINT!, total DECIMAL(18,2), score BIGINT"
    );
    assert_eq!((x.outputs[1].name.as_str(), x.outputs[1].schema.width()), ("late", 7));
    let TransformKind::Window(window) = x.kind else { panic!("it is a window") };
    assert_eq!(window.allowed_lateness_ms, 300_000);
    assert_eq!(window.emit, WindowEmit::Early(10_000));
    assert!(window.select.having.is_some());
}

#[test]
fn a_pattern_is_handed_to_the_operator() {
    let x = check(
        r#"
[transforms.x]
type = "pattern"
inputs = ["t"]
key = ["user_id"]
within = { between_events = "30m" }
after_match = { skip_to_last = "cash" }
emit = "eager"
steps = [
  { name = "change", where = "type = 'PASSWORD_CHANGE'" },
  { group = [
      { name = "a", where = "amount > 1", times = { min = 2 }, inner = "consecutive", greedy = true, until = "amount > 9" },
      { name = "b", contiguity = "followed_by_any", times = { min = 1, max = 3 }, optional = true },
    ], contiguity = "followed_by", times = 5 },
  { name = "cash", contiguity = "next", where = "type = 'WITHDRAWAL' AND amount > FIRST(change.amount)" },
  { name = "again", contiguity = "next", where = "amount > 1" },
]
select = { user_id = "FIRST(change.user_id)", amounts = "ARRAY_AGG(a.amount)", kind = "'ACCOUNT_TAKEOVER'" }
"#
        .replace("greedy = true, ", "")
        .as_str(),
    );
    let names: Vec<&str> = x.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["", "late", "timed_out"]);
    assert!(shown(&x.outputs[0].schema).ends_with("match_id BIGINT!, status STRING!"));
    assert_eq!(x.outputs[1].schema.width(), 7);
    assert_eq!(x.outputs[2].schema.width(), 3);
    let TransformKind::Pattern(pattern) = x.kind else { panic!("it is a pattern") };
    assert_eq!(pattern.emit, PatternEmit::Eager);
    assert_eq!(pattern.ast.within, ast::Within::PreviousAndCurrent(1_800_000));
    assert_eq!(pattern.ast.after_match, ast::AfterMatch::SkipToLast("cash".into()));
    assert_eq!(pattern.ast.names(), ["change", "a", "b", "cash", "again"]);
    // "amount > 1" is written twice and compiled once.
    assert_eq!(pattern.conditions.len(), 4);
    let group = pattern.ast.steps[1].group.as_ref().unwrap();
    assert_eq!(pattern.ast.steps[1].times, Some(ast::Times { min: 5, max: Some(5) }));
    assert_eq!(group[0].times, Some(ast::Times { min: 2, max: None }));
    assert_eq!(group[0].inner, Some(ast::Inner::Consecutive));
    assert_eq!(group[0].condition, pattern.ast.steps[3].condition);
    assert_eq!(group[1].times, Some(ast::Times { min: 1, max: Some(3) }));
    assert!(group[1].optional && group[1].condition.is_none());
}

fn join(way: &str) -> TransformPlan {
    check(&format!(
        r#"
[sources.c]
type = "file"
path = "c"
schema = "transaction"
event_time = "ts"
[transforms.x]
type = "join"
inputs = ["t", "c"]
on = {{ user_id = "user_id" }}
{way}
"#
    ))
}

#[test]
fn joins_of_every_way() {
    let x = join(
        "kind = 'left'\nwithin = { lower = '-5s', upper = '1h' }\nselect = { a = 't.txn_id', b = 'c.amount' }",
    );
    assert_eq!(shown(&x.outputs[0].schema), "a BIGINT, b DECIMAL(18,2)");
    let TransformKind::Join(spec) = x.kind else { panic!("it is a join") };
    assert_eq!((spec.kind, spec.on.as_slice()), (JoinKind::Left, &[(1, 1)][..]));
    assert_eq!(spec.way, JoinWay::Interval { lower_ms: -5_000, upper_ms: 3_600_000 });
    let x = join(
        "window = { type = 'tumbling', size = '1m' }\nallowed_lateness = '1s'\nselect = { a = 't.txn_id', s = 'window_start' }",
    );
    assert_eq!(shown(&x.outputs[0].schema), "a BIGINT, s TIMESTAMP!");
    let TransformKind::Join(spec) = x.kind else { panic!("it is a join") };
    let window = WindowKind::Tumbling { size_ms: 60_000, offset_ms: 0 };
    assert_eq!(spec.way, JoinWay::Window { window, allowed_lateness_ms: 1_000 });
    // A semi join puts out the rows of its left side.
    let x = join("kind = 'semi'\nwithin = { lower = '0s', upper = '1h' }");
    assert_eq!(x.outputs[0].schema.width(), 7);
    let x = join("as_of = 'right'\nselect = { a = 't.txn_id', b = 'c.txn_id' }");
    let TransformKind::Join(spec) = x.kind else { panic!("it is a join") };
    assert_eq!(spec.way, JoinWay::AsOf(Side::Right));
}

#[test]
fn the_other_transforms() {
    let x = check(
        "[transforms.x]\ntype = 'over'\ninputs = ['t']\nkey = ['user_id']\nrange = '30d'\ndelay = '7d'\n\
         include_current = false\nadd = { n = 'COUNT(*)', mean = 'AVG(amount)' }",
    );
    assert!(shown(&x.outputs[0].schema).ends_with("n BIGINT!, mean DECIMAL(18,6)"));
    let TransformKind::Over(over) = x.kind else { panic!("it is an over") };
    let frame = OverFrame::Range { range_ms: 30 * 86_400_000, delay_ms: 7 * 86_400_000 };
    assert_eq!((over.frame, over.include_current), (frame, false));
    let x = check(
        "[transforms.x]\ntype = 'dedup'\ninputs = ['t']\nkey = ['user_id']\nkeep = 'last'\nttl = '1h'",
    );
    let TransformKind::Dedup(dedup) = x.kind else { panic!("it is a dedup") };
    assert_eq!(dedup, DedupSpec { keep: Keep::Last, ttl_ms: Some(3_600_000) });
    let x = check(
        "[transforms.x]\ntype = 'top_n'\ninputs = ['t']\nkey = ['country']\nn = 3\n\
         order_by = 'amount DESC, ts'\nwindow = { type = 'tumbling', size = '1m' }",
    );
    assert_eq!(x.outputs.len(), 2);
    let TransformKind::TopN(top) = x.kind else { panic!("it is a top_n") };
    let order: Vec<bool> = top.order_by.iter().map(|order| order.descending).collect();
    assert_eq!((top.n, order), (3, vec![true, false]));
    let x = check(
        "[transforms.x]\ntype = 'timeout'\ninputs = ['t']\nkey = ['user_id']\nafter = '5m'\n\
         select = { user_id = 'user_id', n = 'COUNT(*)' }",
    );
    let TransformKind::Timeout(timeout) = x.kind else { panic!("it is a timeout") };
    assert_eq!(timeout.after_ms, 300_000);
    let x = check(
        "[transforms.x]\ntype = 'aggregate'\ninputs = ['t']\nkey = ['user_id']\nemit = '10s'\n\
         select = { user_id = 'user_id', n = 'COUNT(*)' }",
    );
    let TransformKind::Aggregate(aggregate) = x.kind else { panic!("it is an aggregate") };
    assert_eq!(aggregate.emit_every_ms, Some(10_000));
}

#[test]
fn transforms_come_in_the_order_of_the_rows() {
    let text = around(
        r#"
[transforms.x]
type = "union"
inputs = ["b", "a"]
[transforms.b]
type = "union"
inputs = ["a"]
[transforms.a]
type = "union"
inputs = ["t"]
"#,
    );
    let read = pipeline(&text);
    let names: Vec<&str> = read.transforms.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "x"]);
}

#[test]
fn sinks_take_rows_of_several_schemas_as_json() {
    let text = around(
        r#"
[transforms.x]
type = "map"
inputs = ["t"]
select = { a = "amount", day = "DATE_TRUNC('day', ts)" }
[sinks.folder]
type = "file"
inputs = ["x", "t"]
path = "out"
timestamps = "rfc3339"
partition_by = "amount_or_a"
"#,
    )
    .replace("amount_or_a", "CAST(1 AS STRING)");
    let read = pipeline(&text);
    let folder = read.sinks.iter().find(|sink| sink.name == "folder").unwrap();
    assert!(folder.timestamps_rfc3339);
    assert_eq!(folder.format, Some(Format::Json));
    assert_eq!(folder.inputs.len(), 2);
    assert!(folder.inputs.iter().all(|input| input.partition_by.is_some()));
    assert_eq!(folder.options.get("path"), Some(&OptionValue::Text("out".into())));
}

#[test]
fn tests_are_held_against_their_schemas() {
    let text = around(
        r#"
[transforms.x]
type = "union"
inputs = ["t"]
[[tests]]
name = "nothing comes of nothing"
rows = { t = [ { user_id = 1, amount = 9.5, ts = 1000 },
  { user_id = 1, ts = 2024-01-01T00:00:00Z } ] }
expect = { x = [], t.rejected = [], out = [ { user_id = 1 } ] }
"#,
    );
    let read = pipeline(&text);
    let test = &read.tests[0];
    assert_eq!(test.name, "nothing comes of nothing");
    let rows =
        [r#"{"user_id":1,"amount":9.5,"ts":1000}"#, r#"{"user_id":1,"ts":"2024-01-01T00:00:00Z"}"#];
    assert_eq!(test.rows, [(0, rows.map(String::from).to_vec())]);
    let port = |node, port| Expected::Output(PortRef { node, port });
    assert_eq!(
        test.expect,
        [
            (port(Node::Transform(0), 0), vec![]),
            (port(Node::Source(0), 1), vec![]),
            (Expected::Sink(0), vec![r#"{"user_id":1}"#.to_string()]),
        ]
    );
}

#[test]
fn what_is_not_built_is_valid_and_named() {
    let text = around(
        r#"
[sources.k]
type = "kafka"
brokers = "localhost:9092"
topic = "a"
schema = "transaction"
event_time = "ts"
[transforms.x]
type = "union"
inputs = ["t", "k", "d"]
[transforms.d]
type = "dedup"
inputs = ["t"]
key = ["user_id"]
[sinks.r]
type = "redis"
inputs = ["x"]
id = "user_id"
"#,
    );
    let found = super::super::unbuilt::unbuilt(&pipeline(&text), &CATALOGUE);
    let found: Vec<&str> = found.iter().map(|found| found.message.as_str()).collect();
    assert_eq!(
        found,
        [
            "a kafka source is not built yet in this version",
            "the transform `dedup` is not built yet in this version",
            "a redis sink is not built yet in this version",
        ]
    );
}
