//! Tumbling and sliding windows against Flink's answers, through the whole command. (Sessions,
//! count and global windows are not built yet and not among the cases taken.)

use serde_json::Value;

use crate::command::{Case, counted, json_lines, own, same, unpacked};

fn cases() -> Vec<Value> {
    let all = json_lines(&unpacked(&own("tests/vectors/windows/public.jsonl.zst")));
    let kind = |case: &Value| case["spec"].get("window").unwrap_or(&case["spec"])["type"].clone();
    all.into_iter().filter(|case| kind(case) == "tumbling" || kind(case) == "sliding").collect()
}

/// The pipeline of one case, named by its number.
fn pipeline(i: usize, case: &Value, folder: &Case) -> String {
    let events = case["events"].as_array().expect("events");
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    folder.file(&format!("in{i}.jsonl"), lines.join("\n"));
    let spec = &case["spec"];
    let window = spec.get("window").unwrap_or(spec);
    let ms = |of: &Value, name: &str| of[name].as_i64().unwrap_or(0);
    let slide = match window["type"].as_str() {
        Some("sliding") => format!("type = \"sliding\", slide = \"{}ms\"", ms(window, "slide_ms")),
        _ => "type = \"tumbling\"".to_string(),
    };
    format!(
        r#"
[sources.s{i}]
type = "file"
path = "{{dir}}/in{i}.jsonl"
format = "json"
schema = "event"
event_time = "ts"
watermark = {{ delay = "{delay}ms", emit = "per_event" }}
[transforms.w{i}]
type = "window"
inputs = ["s{i}"]
key = ["k"]
window = {{ {slide}, size = "{size}ms", offset = "{offset}ms" }}
allowed_lateness = "{lateness}ms"
select = {{ k = "k", start = "window_start", end = "window_end", count = "COUNT(*)", sum = "SUM(v)", min = "MIN(v)", max = "MAX(v)", avg = "AVG(CAST(v AS DOUBLE))", distinct = "COUNT(DISTINCT v)", ids = "ARRAY_AGG(id)" }}
[sinks.m{i}]
type = "file"
inputs = ["w{i}"]
path = "{{dir}}/m{i}"
format = "json"
[sinks.l{i}]
type = "file"
inputs = ["w{i}.late"]
path = "{{dir}}/l{i}"
format = "json"
"#,
        delay = ms(spec, "delay_ms"),
        size = ms(window, "size_ms"),
        offset = ms(window, "offset_ms"),
        lateness = ms(spec, "allowed_lateness_ms"),
    )
    .replace("{dir}", &folder.path("").display().to_string())
}

fn shown(row: &Value) -> String {
    let names = ["k", "start", "end", "count", "sum", "min", "max", "distinct"];
    let values = names.map(|name| row[name].to_string()).join(" ");
    let mut ids: Vec<i64> =
        row["ids"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    ids.sort_unstable();
    format!("{values} {:.6} {ids:?}", row["avg"].as_f64().unwrap_or(f64::NAN))
}

fn check(shards: usize, batch_rows: usize) {
    const TOGETHER: usize = 60;
    let cases = cases();
    assert_eq!(cases.len(), 240, "120 tumbling and 120 sliding ones");
    for cases in cases.chunks(TOGETHER) {
        let folder = Case::new("");
        let mut toml = format!(
            "name = \"windows\"\n[engine]\ncores = {shards}\nbatch_rows = {batch_rows}\n\
             data_dir = \"data\"\n[schemas.event]\nid = \"BIGINT\"\nts = \"TIMESTAMP\"\n\
             k = \"STRING\"\nv = \"BIGINT\"\n"
        );
        for (i, case) in cases.iter().enumerate() {
            toml += &pipeline(i, case, &folder);
        }
        folder.file("p.toml", toml);
        folder.run_well(&["--quiet"]);
        for (i, case) in cases.iter().enumerate() {
            let outputs = case["outputs"].as_array().expect("outputs");
            let what = format!("{} on {shards} shards, batches of {batch_rows}", case["id"]);
            let got = counted(&folder.rows(&format!("m{i}")), shown);
            same(&what, &got, &counted(outputs, shown));
            let late = counted(case["late"].as_array().expect("late ids"), Value::to_string);
            let got = counted(&folder.rows(&format!("l{i}")), |row| row["id"].to_string());
            same(&format!("late rows of {what}"), &got, &late);
        }
    }
}

#[test]
fn flinks_windows_on_one_shard() {
    check(1, 1024);
}

#[test]
fn flinks_windows_on_three_shards_row_by_row() {
    check(3, 1);
}
