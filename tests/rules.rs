//! Rules that are added, changed and removed while a pipeline runs.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::command::{Case, json_lines};
use crate::socket::{Running, WAIT};

const PIPELINE: &str = r#"
name = "rules"
[engine]
cores = 2
data_dir = "{dir}/data"
CHECKPOINT
[schemas.row]
user = "STRING NOT NULL"
kind = "STRING"
n = "BIGINT"
ts = "TIMESTAMP"
[schemas.alert]
user = "STRING"
n = "BIGINT"
[sources.rows]
SOURCE
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "0s", emit = "per_event" }
[transforms.alerts]
type = "pattern"
inputs = ["rows"]
key = ["user"]
rules = "{dir}/rules/*.toml"
schema = "alert"
[sinks.live]
type = "stdout"
inputs = ["alerts"]
format = "json"
"#;

/// Two rows of a kind, whatever lies between.
fn rule(version: i64, kind: &str) -> String {
    format!(
        "version = {version}\nwithin = '1h'\nafter_match = 'skip_past_last_event'\nselect = {{ user = 'FIRST(a.user)', n = 'LAST(b.n)' }}\n\
         steps = [ {{ name = 'a', where = \"kind = '{kind}'\" }},\n\
         {{ name = 'b', where = \"kind = '{kind}'\", contiguity = 'followed_by' }} ]\n"
    )
}

/// A folder with rules in it.
fn case(source: &str, checkpoint: &str, rules: &[(&str, &str)]) -> Case {
    let text = PIPELINE.replace("SOURCE", source).replace("CHECKPOINT", checkpoint);
    let case = Case::new(&text);
    std::fs::create_dir(case.path("rules")).expect("a folder");
    rules.iter().for_each(|(name, text)| put(&case, name, text));
    case
}

/// Writes a rule as an editor does that replaces the file.
fn put(case: &Case, name: &str, text: &str) {
    case.file("rule.part", text);
    std::fs::rename(case.path("rule.part"), case.path(&format!("rules/{name}"))).expect("a rename");
}

/// A run that is fed by hand.
struct Live {
    running: Running,
    peer: TcpStream,
    alerts: Receiver<String>,
    said: Receiver<String>,
    clock: i64,
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            // Nobody listens any more if the test is over.
            let _ = send.send(line.expect("UTF-8"));
        }
    });
    lines
}

impl Live {
    fn start(rules: &[(&str, &str)], checkpoint: &str) -> (Case, Live, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let source = format!("type = \"socket\"\naddress = \"{address}\"\nmode = \"connect\"");
        let case = case(&source, checkpoint, rules);
        let live = Live::go(&case, &listener, 0);
        (case, live, listener)
    }

    fn go(case: &Case, listener: &TcpListener, clock: i64) -> Live {
        let mut command = case.command(&["run", "p.toml", "--quiet"]);
        let (out, err) = (Stdio::piped(), Stdio::piped());
        let mut child = command.stdout(out).stderr(err).spawn().expect("the command starts");
        let alerts = lines(child.stdout.take().expect("a pipe"));
        let said = lines(child.stderr.take().expect("a pipe"));
        let (peer, _) = listener.accept().expect("the source connects");
        Live { running: Running(child), peer, alerts, said, clock }
    }

    /// Ends the run in order.
    fn end(&mut self) {
        let pid = self.running.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().expect("kill starts");
        assert!(told.success(), "it runs");
        let status = self.running.0.wait().expect("it was started");
        let said: Vec<String> = self.said.iter().collect();
        assert!(status.success(), "{status}: {said:?}");
    }

    /// Sends a row of user u, and one of nobody that lets the watermark pass it.
    fn send(&mut self, kind: &str, n: i64) {
        self.clock += 10;
        let row = |user: &str, kind: &str, ts: i64| {
            format!("{{\"user\":\"{user}\",\"kind\":\"{kind}\",\"n\":{n},\"ts\":{ts}}}\n")
        };
        let text = row("u", kind, self.clock) + &row("nobody", "-", self.clock + 5);
        self.peer.write_all(text.as_bytes()).expect("the source reads");
    }

    /// The next alert: rule, version, n.
    fn alert(&self) -> (String, i64, i64) {
        let line = self.alerts.recv_timeout(WAIT).expect("an alert");
        let row = &json_lines(&line)[0];
        assert_eq!(row["user"], json!("u"));
        let number = |name: &str| row[name].as_i64().expect("a number");
        (row["rule"].as_str().expect("a name").into(), number("rule_version"), number("n"))
    }

    /// Waits until the run has said this.
    fn wait_for(&self, what: &str) {
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|line: &String| line.contains(what)) {
            let line = self.said.recv_timeout(WAIT);
            heard.push(line.unwrap_or_else(|_| panic!("not heard: {what}, but {heard:?}")));
        }
    }
}

#[test]
fn rules_come_and_change_and_go_while_the_others_go_on() {
    let (case, mut live, _listener) = Live::start(&[("first.toml", &rule(1, "A"))], "");
    let alert = |rule: &str, version, n| (rule.to_string(), version, n);
    live.send("A", 1);
    live.send("A", 2);
    assert_eq!(live.alert(), alert("first", 1, 2));
    // A match of `first` is begun; `second` comes, and it goes on.
    live.send("A", 3);
    put(&case, "second.toml", &rule(7, "B"));
    live.wait_for("rule `second`: version 7 added");
    live.send("B", 4);
    live.send("A", 5);
    assert_eq!(live.alert(), alert("first", 1, 5));
    // `second` has a row by now. It becomes another rule, which does not know of that.
    put(&case, "second.toml", &rule(8, "B"));
    live.wait_for("rule `second`: version 8 in place of 7");
    live.send("B", 6);
    live.send("B", 7);
    assert_eq!(live.alert(), alert("second", 8, 7));
    // What is wrong is said, and what was right stays.
    put(&case, "second.toml", &rule(9, "B").replace("kind", "colour"));
    live.wait_for("unknown column `colour`");
    live.wait_for("version 8 stays in force");
    put(&case, "second.toml", &rule(8, "A"));
    live.wait_for("its version is still 8");
    live.send("B", 8);
    live.send("B", 9);
    assert_eq!(live.alert(), alert("second", 8, 9));
    // Another file takes its name in vain, and then in earnest.
    put(&case, "third.toml", &format!("name = 'second'\n{}", rule(10, "A")));
    live.wait_for("the rule `second` stands in");
    std::fs::remove_file(case.path("rules/second.toml")).expect("it was there");
    live.wait_for("rule `second`: version 10 in place of 8");
    // What was in force before does not come back under its old version.
    put(&case, "second.toml", &rule(8, "B").replace("version", "name = 'late'\nversion"));
    live.wait_for("rule `late`: version 8 added");
    put(&case, "third.toml", &rule(8, "B"));
    live.wait_for("rule `third`: version 8 added");
    std::fs::remove_file(case.path("rules/third.toml")).expect("it was there");
    live.wait_for("rule `third` removed");
    put(&case, "third.toml", &rule(8, "B"));
    live.wait_for("version 8 of the rule `third` was in force before");
    // One that is gone finds nothing more.
    std::fs::remove_file(case.path("rules/second.toml")).expect("it was there");
    live.wait_for("rule `late` removed");
    live.send("B", 10);
    live.send("B", 11);
    live.send("A", 12);
    live.send("A", 13);
    assert_eq!(live.alert(), alert("first", 1, 13));
}

const ROWS: &str = "type = 'values'\nrows = [ { user = 'u', kind = 'A', n = 1, ts = 1 }, \
    { user = 'u', kind = 'B', n = 2, ts = 2 }, { user = 'u', kind = 'B', n = 3, ts = 3 }, \
    { user = 'u', kind = 'A', n = 4, ts = 4 } ]";

#[test]
fn rules_of_one_run_put_their_rows_in_the_order_of_time() {
    let case = case(ROWS, "", &[("a.toml", &rule(1, "A")), ("b.toml", &rule(2, "B"))]);
    let text = std::fs::read_to_string(case.path("p.toml")).expect("it was written");
    case.file("p.toml", text.replace("format = \"json\"\nschema", "schema"));
    let output = case.run(&["run", "p.toml", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = json_lines(&String::from_utf8_lossy(&output.stdout));
    let expected = [
        json!({ "rule": "b", "rule_version": 2, "user": "u", "n": 3 }),
        json!({ "rule": "a", "rule_version": 1, "user": "u", "n": 4 }),
    ];
    assert_eq!(rows, expected);
}

/// Standard error of `validate`, with the first rule so.
fn validate(text: &str) -> (Option<i32>, String) {
    let case = case(ROWS, "", &[("a.toml", text), ("b.toml", &rule(2, "B"))]);
    let pipeline = std::fs::read_to_string(case.path("p.toml")).expect("it was written");
    case.file("p.toml", pipeline.replace("format = \"json\"\nschema", "schema"));
    let output = case.run(&["validate", "p.toml"]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn rules_are_checked_with_the_pipeline_and_marked_in_their_own_files() {
    assert_eq!(validate(&rule(1, "A")), (Some(0), String::new()));
    let good = rule(1, "A");
    let cases = [
        (good.replace("version = 1\n", ""), "has no `version`"),
        (good.replace("kind =", "knd ="), "knd"),
        (good.replace("n = 'LAST(b.n)'", "m = 'LAST(b.n)'"), "no column `m`"),
        (good.replace(", n = 'LAST(b.n)'", ""), "says nothing of `n`"),
        (good.replace("'LAST(b.n)'", "'LAST(b.user)'"), "`n` must be BIGINT, this is STRING"),
        (format!("emit = 'eager'\n{good}"), "when the watermark has passed"),
        (format!("name = 'no good'\n{good}"), "cannot be the name of a rule"),
        (format!("name = 'b'\n{good}"), "there are two rules `b`"),
        (good.replace("version = 1", "version = "), "a.toml:1"),
        (
            format!(
                "{}\n",
                good.replace("{ name = 'a'", "{ group = [ { name = 'a'").replace(
                    "kind = 'A'\" },\n",
                    "kind = 'A'\", times = 10000 } ], times = 100 },\n",
                )
            ),
            "automaton would have more than",
        ),
    ];
    for (text, said) in cases {
        let (code, errors) = validate(&text);
        assert_eq!(code, Some(2), "{text}\n{errors}");
        assert!(errors.contains(said), "{text}\n{errors}");
    }
}

#[test]
fn what_rules_know_of_keys_is_in_checkpoints() {
    let rules = [("a.toml", &*rule(1, "A")), ("b.toml", &*rule(2, "B"))];
    let (case, mut live, listener) = Live::start(&rules, "[checkpoint]\ninterval = '1h'");
    let alert = |rule: &str, version, n| (rule.to_string(), version, n);
    live.send("A", 1);
    live.send("A", 2);
    live.send("B", 3);
    live.send("A", 4);
    live.send("A", 5);
    // When the last alert is here, the row of `b` before it has been taken.
    assert_eq!([live.alert(), live.alert()], [alert("a", 1, 2), alert("a", 1, 5)]);
    live.send("A", 6);
    live.send("C", 0);
    live.end();
    // While it is down one rule changes: of that the checkpoint's part is let go.
    put(&case, "b.toml", &rule(3, "B"));
    let mut live = Live::go(&case, &listener, live.clock);
    live.send("B", 7);
    live.send("A", 8);
    assert_eq!(live.alert(), alert("a", 1, 8));
    live.send("B", 9);
    assert_eq!(live.alert(), alert("b", 3, 9));
}
