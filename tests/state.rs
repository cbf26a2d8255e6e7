//! `cutwater state`: what a stopped run's checkpoint knows of keys, against values worked out by
//! hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::command::{Case, json_lines};
use crate::crash::flip;
use crate::socket::{WAIT, start};

/// Every kind of state. Each row puts one line out, so that one can tell when it was taken.
const PIPELINE: &str = r#"
name = "looked-into"
[engine]
cores = CORES
data_dir = "{dir}/data"
[checkpoint]
[schemas.row]
user = "STRING"
merchant = "BIGINT"
amount = "DECIMAL(9,2)"
country = "STRING"
ts = "TIMESTAMP"
[sources.rows]
type = "socket"
address = "ADDRESS"
mode = "connect"
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "5s", emit = "per_event" }
[transforms.big]
type = "filter"
inputs = ["rows"]
where = "amount > 0"
[transforms.counts]
type = "aggregate"
inputs = ["rows"]
key = ["user", "country"]
[transforms.counts.select]
user = "user"
n = "COUNT(*)"
total = "SUM(amount)"
first = "FIRST(ts)"
merchants = "COUNT(DISTINCT merchant)"
[transforms.risk]
type = "window"
inputs = ["big"]
key = ["user"]
window = { type = "sliding", size = "20s", slide = "10s" }
[transforms.risk.select]
user = "user"
start = "window_start"
score = "10 * COUNT(*) + COUNT(DISTINCT merchant)"
most = "MAX(amount)"
[transforms.jump]
type = "pattern"
inputs = ["rows"]
key = ["user"]
within = "1h"
steps = [{ name = "p" }, { name = "q", contiguity = "next", where = "country <> LAST(p.country)" }]
select = { user = "FIRST(p.user)", ts = "LAST(q.ts)" }
[transforms.relaxed]
type = "pattern"
inputs = ["rows"]
key = ["user"]
within = "10m"
steps = [
  { name = "s", where = "amount < 10" },
  { name = "b", contiguity = "followed_by", where = "amount > 10 * FIRST(s.amount)" },
]
select = { user = "FIRST(s.user)", merchant = "LAST(b.merchant)" }
[sinks.live]
type = "stdout"
inputs = ["counts"]
format = "json"
[sinks.out]
type = "file"
inputs = ["risk", "jump", "relaxed"]
path = "{dir}/out"
format = "json"
"#;

const ROWS: [(&str, i64, &str, Option<&str>, i64); 6] = [
    ("a user of a long name", 1, "9.50", Some("DE"), 1000),
    ("a user of a long name", 2, "20.00", Some("DE"), 12_000),
    ("a user of a long name", 2, "0.50", Some("DE"), 13_000),
    // The watermark is at 15,999 behind these: they wait.
    ("a user of a long name", 3, "100.00", Some("FR"), 21_000),
    ("b", 9, "1.00", None, 16_500),
    ("b", 9, "1.25", None, 16_600),
];

/// A run on so many shards that was told to stop behind [`ROWS`].
fn stopped(cores: usize) -> Case {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = server.local_addr().expect("an address").to_string();
    let text = PIPELINE.replace("CORES", &cores.to_string()).replace("ADDRESS", &address);
    let case = Case::new(&text);
    std::fs::create_dir(case.path("tmp")).expect("a folder");
    let (mut running, lines) = start(&case);
    let (send, peers) = channel();
    std::thread::spawn(move || send.send(server.accept()));
    let accepted = peers.recv_timeout(WAIT).expect("a call in time");
    let (mut peer, _) = accepted.expect("a connection");
    for (user, merchant, amount, country, ts) in ROWS {
        let country = json!(country);
        let row = format!(
            "{{\"user\":\"{user}\",\"merchant\":{merchant},\"amount\":{amount},\
             \"country\":{country},\"ts\":{ts}}}\n"
        );
        peer.write_all(row.as_bytes()).expect("the source reads");
        lines.recv_timeout(WAIT).expect("a row for the row");
    }
    let stop = std::process::Command::new("kill").arg(running.0.id().to_string()).status();
    assert!(stop.expect("kill is there").success());
    assert!(running.0.wait().expect("it ends").success());
    case
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `cutwater state` and expects this exit code and that it leaves nothing behind; gives all
/// that it said.
fn state(case: &Case, args: &[&str], code: i32) -> String {
    let mut command = case.command(&[&["state"], args].concat());
    let output = command.env("TMPDIR", case.path("tmp")).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
    let left = std::fs::read_dir(case.path("tmp")).expect("a folder").count();
    assert_eq!(left, 0, "{args:?} leaves nothing behind");
    text(&output)
}

/// What `state get` says as JSON.
fn got(case: &Case, args: &[&str]) -> Value {
    let said = state(case, &[&["get"], args, &["--format", "json"]].concat(), 0);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Files below a folder, with all that would change if they did.
fn everything(folder: &Path) -> BTreeMap<String, (u64, i64, i64, u64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let about = std::fs::metadata(&path).expect("it is there");
        let times = (about.nlink(), about.mtime_nsec(), about.ctime_nsec(), about.len());
        all.insert(path.display().to_string(), times);
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    all
}

const USER: &str = "user=a user of a long name";

#[test]
fn what_is_known_of_a_key_is_what_its_rows_come_to() {
    for cores in [1, 2] {
        let case = stopped(cores);
        let before = everything(&case.path("data"));

        let counts = got(&case, &["p.toml", "counts", USER, "country=DE"]);
        let expected = json!({
            "key": { "user": "a user of a long name", "country": "DE" },
            "component": "counts",
            "in": "memory",
            "state": {
                "all": { "n": 3, "total": 30.0, "first": 1000, "merchants": 2 },
                "distinct_0": { "count": 2, "values": [1, 2] },
            },
        });
        assert_eq!(counts, expected, "{cores}");
        let said = state(&case, &["get", "p.toml", "counts", USER, "country=DE"], 0);
        for line in [
            "user=a user of a long name country=DE",
            "    total: 30.00",
            "    first: 1970-01-01T00:00:01.000Z",
            "    values: 1, 2",
        ] {
            assert!(said.lines().any(|said| said == line), "`{line}` in {said}");
        }
        // NULL is a key like others.
        let null = got(&case, &["p.toml", "counts", "country=", "user=b"]);
        assert_eq!(null["key"], json!({ "user": "b", "country": null }));
        assert_eq!(
            null["state"]["all"],
            json!({ "n": 2, "total": 2.25, "first": 16_500, "merchants": 1 })
        );

        // The pane of 1000 is still of a window that is open, [0, 20000).
        let risk = got(&case, &["data", "--pipeline", "p.toml", "risk", USER]);
        let pane = |start: i64, score: i64, most: f64| {
            let select = json!({ "score": score, "most": most });
            json!({ "start": start, "end": start + 10_000, "select": select })
        };
        let merchants =
            |start: i64, merchant: i64| json!({ "start": start, "count": 1, "values": [merchant] });
        let expected = json!({
            "panes": [pane(0, 11, 9.5), pane(10_000, 21, 20.0), pane(20_000, 11, 100.0)],
            "distinct_0": [merchants(0, 1), merchants(10_000, 2), merchants(20_000, 3)],
        });
        assert_eq!(risk["state"], expected, "{cores}");

        // Its last row in order begins a match; the one after it waits.
        let jump = got(&case, &["p.toml", "jump", USER]);
        let event =
            |step: &str, time: i64, row: Value| json!({ "step": step, "time": time, "row": row });
        let last = json!([{ "events": [event("p", 13_000, json!({ "country": "DE" }))] }]);
        assert_eq!(jump["state"]["prefixes"], last, "{jump}");
        let waiting = &jump["state"]["waiting"];
        assert_eq!((&waiting["count"], &waiting["rows"][0]["time"]), (&json!(1), &json!(21_000)));
        assert_eq!(waiting["rows"][0]["country"], "FR");

        // Two rows of less than 10, and nothing more than ten times as much yet.
        let relaxed = got(&case, &["p.toml", "relaxed", USER]);
        let open = relaxed["state"]["partial matches"]["open"].as_array().expect("a list");
        let mut open: Vec<(i64, String)> = open
            .iter()
            .map(|open| {
                let events = open["events"].as_array().expect("a list");
                assert_eq!((events.len(), &events[0]["step"]), (1, &json!("s")), "{open}");
                assert_eq!(open["start"], events[0]["time"]);
                (open["start"].as_i64().expect("a time"), events[0]["row"]["amount"].to_string())
            })
            .collect();
        open.sort();
        assert_eq!(open, [(1000, "9.5".to_string()), (13_000, "0.5".to_string())]);
        assert_eq!(relaxed["state"]["partial matches"]["deadline"], 601_000);

        assert_eq!(everything(&case.path("data")), before, "nothing that is looked at changes");
    }
}

#[test]
fn keys_are_gone_through_and_counted() {
    let case = stopped(2);
    let scan = |args: &[&str]| {
        let all = [&["scan", "p.toml"], args, &["--format", "json"]].concat();
        json_lines(&state(&case, &all, 0))
    };
    let users = |rows: &[Value]| {
        let mut users: Vec<String> =
            rows.iter().map(|row| row["key"]["user"].to_string()).collect();
        users.sort();
        users
    };
    let (a, b) = ("\"a user of a long name\"", "\"b\"");
    assert_eq!(users(&scan(&["counts"])), [a, a, b]);
    assert_eq!(users(&scan(&["risk"])), [a, b]);
    // Of `b` there are only rows that wait.
    assert_eq!(users(&scan(&["jump"])), [a, b]);
    assert_eq!(scan(&["counts", "--limit", "2"]).len(), 2);
    assert_eq!(scan(&["counts", "--limit", "0"]).len(), 0);
    for row in scan(&["risk"]) {
        let user = format!("user={}", row["key"]["user"].as_str().expect("a text"));
        assert_eq!(got(&case, &["p.toml", "risk", &user]), row);
    }

    let lines = json_lines(&state(&case, &["stats", "p.toml", "--format", "json"], 0));
    let counted: Vec<(String, i64, i64)> = lines
        .iter()
        .map(|line| {
            let name = line.get("component").or(line.get("waiting_for")).expect("a name");
            let keys = |home: &str| line["keys"][home].as_i64().expect("a number");
            let (bytes, most) = (line["bytes"].as_u64(), line["largest"]["bytes"].as_u64());
            assert!(bytes >= most && most > Some(0), "{line}");
            (name.to_string(), keys("memory"), keys("store"))
        })
        .collect();
    let expected = [
        ("\"counts\"".to_string(), 3, 0),
        ("\"risk\"".to_string(), 2, 0),
        ("\"jump\"".to_string(), 1, 0),
        ("\"relaxed\"".to_string(), 1, 0),
        ("[\"jump\",\"relaxed\"]".to_string(), 2, 0),
    ];
    assert_eq!(counted, expected);
    // Of the aggregate the user with two merchants has most.
    assert_eq!(lines[0]["largest"]["key"]["country"], "DE", "{}", lines[0]);
    let table = state(&case, &["stats", "p.toml"], 0);
    assert_eq!(table.lines().count(), 1 + expected.len(), "{table}");
    assert!(table.lines().next().is_some_and(|head| head.starts_with("COMPONENT")), "{table}");
}

#[test]
fn what_cannot_be_meant_is_said() {
    let case = stopped(1);
    for (args, code, why) in [
        (&["get", "p.toml", "risk", "user=c"][..], 1, "knows nothing of user=c"),
        (&["get", "p.toml", "riks", "user=b"], 2, "did you mean `risk`?"),
        (&["get", "p.toml", "nothing", "user=b"], 2, "`counts`, `risk`, `jump` and `relaxed`"),
        (&["get", "p.toml", "big", "user=b"], 2, "`big` is a `filter`"),
        (&["get", "p.toml", "rows", "user=b"], 2, "is no transform"),
        (&["get", "p.toml", "risk", "usr=b"], 2, "did you mean `user`?"),
        (&["get", "p.toml", "risk", "b"], 2, "COLUMN=VALUE"),
        (&["get", "p.toml", "risk", "user=b", "user=b"], 2, "given twice"),
        (&["get", "p.toml", "counts", "user=b"], 2, "`country` is missing"),
        (&["get", "data", "risk", "user=b"], 2, "--pipeline FILE"),
        (&["get", "missing", "risk", "user=b"], 2, "no such file"),
        (&["scan", "p.toml", "riks"], 2, "did you mean `risk`?"),
        (&["scan", "p.toml", "risk", "--epoch", "99"], 2, "99"),
        (&["stats", "data"], 2, "of `looked-into`"),
    ] {
        let said = state(&case, args, code);
        assert!(said.contains(why), "{args:?} says {said}");
    }
    let other = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    case.file("other.toml", other.replace("looked-into", "another"));
    let said = state(&case, &["stats", "data", "--pipeline", "other.toml"], 2);
    assert!(said.contains("is of the pipeline `looked-into`"), "{said}");

    // A damaged checkpoint is named by its file, whether it is asked for or not.
    let manifests = std::fs::read_dir(case.path("data/checkpoints")).expect("a folder");
    let names = manifests.map(|entry| entry.expect("an entry").file_name());
    let mut names = names.map(|name| name.to_string_lossy().into_owned());
    let epoch = names.find_map(|name| name.strip_suffix(".json").map(str::to_string));
    let epoch = epoch.filter(|epoch| epoch != "line").expect("one checkpoint");
    flip(&case.path(&format!("data/checkpoints/{epoch}/shard-000/image")));
    for named in [&["--epoch", epoch.trim_start_matches('0')][..], &[]] {
        let args = [&["get", "p.toml", "risk", "user=b"], named].concat();
        let said = state(&case, &args, 1);
        assert!(said.contains("shard-000/image` at byte 0: "), "{said}");
    }
    std::fs::remove_dir_all(case.path("data/checkpoints")).expect("a folder to remove");
    assert!(state(&case, &["stats", "p.toml"], 1).contains("there is no checkpoint"));
}

/// More keys than there is memory for.
const MANY: &str = r#"
name = "many"
[engine]
cores = 2
data_dir = "{dir}/data"
[checkpoint]
[state]
memory = "1MiB"
[schemas.row]
id = "BIGINT"
name = "STRING"
amount = "BIGINT"
note = "STRING"
[sources.rows]
type = "file"
path = "{dir}/rows.jsonl"
format = "json"
schema = "row"
[transforms.sums]
type = "aggregate"
inputs = ["rows"]
key = ["id", "name"]
select = { id = "id", n = "COUNT(*)", total = "SUM(amount)", latest = "LAST(note)" }
[sinks.out]
type = "blackhole"
inputs = ["sums"]
"#;

const IDS: i64 = 30_000;

/// Row `i` of key `id` adds `id + i`; a key has one to three rows.
fn rows_of(id: i64) -> i64 {
    id % 3 + 1
}

fn name_of(id: i64) -> String {
    format!("the name of number {id}")
}

/// So long that the store's memory is full several times.
fn note_of(id: i64) -> String {
    format!("{id:0600}")
}

fn expected(id: i64) -> Value {
    let n = rows_of(id);
    json!({ "n": n, "total": n * id + n * (n - 1) / 2, "latest": note_of(id) })
}

#[test]
fn keys_in_the_store_are_shown_as_those_in_memory() {
    let case = Case::new(MANY);
    std::fs::create_dir(case.path("tmp")).expect("a folder");
    let mut rows = String::new();
    for i in 0..3 {
        for id in (0..IDS).filter(|id| i < rows_of(*id)) {
            let (name, amount, note) = (name_of(id), id + i, note_of(id));
            rows += &format!("{{\"id\":{id},\"name\":\"{name}\",\"amount\":{amount},");
            rows += &format!("\"note\":\"{note}\"}}\n");
        }
    }
    case.file("rows.jsonl", rows);
    case.run_well(&[]);
    let before = everything(&case.path("data"));

    let lines = json_lines(&state(&case, &["stats", "p.toml", "--format", "json"], 0));
    let keys = |home: &str| lines[0]["keys"][home].as_i64().expect("a number");
    assert_eq!(keys("memory") + keys("store"), IDS, "{}", lines[0]);
    assert!(keys("store") > IDS / 2 && keys("memory") > 0, "{}", lines[0]);

    let found = json_lines(&state(&case, &["scan", "p.toml", "sums", "--format", "json"], 0));
    let (mut homes, mut seen) = (BTreeMap::new(), BTreeMap::new());
    for row in &found {
        let id = row["key"]["id"].as_i64().expect("a number");
        assert_eq!(row["key"]["name"], name_of(id));
        assert_eq!(row["state"]["all"], expected(id), "{row}");
        assert!(seen.insert(id, ()).is_none(), "{id} came twice");
        homes.entry(row["in"].to_string()).or_insert(id);
    }
    assert_eq!(seen.len() as i64, IDS);
    assert_eq!(homes.len(), 2);
    for (home, id) in homes {
        let (name, id_text) = (format!("name={}", name_of(id)), format!("id={id}"));
        let one = got(&case, &["p.toml", "sums", &name, &id_text]);
        assert_eq!((one["in"].to_string(), &one["state"]["all"]), (home, &expected(id)));
    }
    state(&case, &["get", "p.toml", "sums", "id=1", "name=the name of number 2"], 1);
    assert_eq!(everything(&case.path("data")), before, "nothing that is looked at changes");

    // Damage in a table is found when it is met, and named by where it lies.
    let folders = everything(&case.path("data/checkpoints"));
    let table = folders.keys().find(|name| name.contains("/table-")).expect("a table");
    flip(Path::new(table));
    let said = state(&case, &["scan", "p.toml", "sums"], 1);
    let name = table.rsplit('/').next().expect("a name");
    assert!(said.contains("is damaged") && said.contains(name), "{}", &said[said.len() - 600..]);
}
