//! The socket source through the command: a peer in this test sends lines and closes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Case, counted, json_lines, same};

const PIPELINE: &str = r#"
name = "socket"
[engine]
cores = CORES
data_dir = "{dir}/data"
[schemas.row]
user = "STRING NOT NULL"
n = "BIGINT"
ts = "TIMESTAMP"
[sources.rows]
type = "socket"
address = "ADDRESS"
mode = "MODE"
format = "json"
schema = "row"
event_time = "ts"
watermark = { delay = "0s", emit = "per_event" }
[transforms.sums]
type = "window"
inputs = ["rows"]
key = ["user"]
window = { type = "tumbling", size = "1s" }
select = { user = "user", end = "window_end", n = "SUM(n)" }
[sinks.live]
type = "stdout"
inputs = ["sums"]
format = "json"
[sinks.rejected]
type = "file"
inputs = ["rows.rejected"]
path = "{dir}/rejected"
format = "json"
"#;

/// Longest wait for what must come, so that a failure is no endless test.
pub const WAIT: Duration = Duration::from_secs(30);

/// A command under way, ended with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn case(cores: usize, mode: &str, address: SocketAddr) -> Case {
    let text = PIPELINE.replace("CORES", &cores.to_string()).replace("MODE", mode);
    Case::new(&text.replace("ADDRESS", &address.to_string()))
}

/// Starts the pipeline; its lines on standard output come through the channel.
pub fn start(case: &Case) -> (Running, Receiver<String>) {
    let mut command = case.command(&["run", "p.toml", "--report", "report.json", "--quiet"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let out = child.stdout.take().expect("a pipe");
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            // Nobody listens any more if the test has failed.
            let _ = send.send(line.expect("UTF-8"));
        }
    });
    (Running(child), lines)
}

fn line(user: &str, n: i64, ts: i64) -> String {
    format!("{{\"user\":\"{user}\",\"n\":{n},\"ts\":{ts}}}\n")
}

/// Plays the peer on a connection: what closes a window is seen while the connection is open, and
/// the rest when it is closed.
fn play(case: &Case, mut peer: TcpStream, (mut running, lines): (Running, Receiver<String>)) {
    let mut send = |text: &str| peer.write_all(text.as_bytes()).expect("the source reads");
    send(&line("a", 1, 100));
    send(&line("a", 2, 900));
    // In two pieces, and wrong; the line after it closes the first window.
    send("{\"user\":\"a\",");
    send("\"n\":\"two\",\"ts\":950}\n");
    send(&line("b", 3, 1100));
    let live = lines.recv_timeout(WAIT).expect("a window that is over, before the peer closes");
    assert_eq!(json_lines(&live), [json!({ "user": "a", "end": 1000, "n": 3 })]);
    let many: String = (0..20_000).map(|i| line(&format!("u{}", i % 7), i, 1100)).collect();
    send(&many);
    send("not json\n");
    // The last line needs no end.
    send(line("b", 4, 1999).trim_end());
    drop(peer);

    let status = running.0.wait().expect("it was started");
    assert!(status.success(), "ended with {status}");
    let mut rows: Vec<Value> = Vec::new();
    while let Ok(text) = lines.recv_timeout(WAIT) {
        rows.extend(json_lines(&text));
    }
    let mut expected = vec![json!({ "user": "b", "end": 2000, "n": 7 })];
    for user in 0..7 {
        let n: i64 = (0..20_000).filter(|i| i % 7 == user).sum();
        expected.push(json!({ "user": format!("u{user}"), "end": 2000, "n": n }));
    }
    same("windows", &counted(&rows, Value::to_string), &counted(&expected, Value::to_string));
    let rejected: Vec<Value> = case.rows("rejected").iter().map(|row| row["raw"].clone()).collect();
    let expected = [json!(r#"{"user":"a","n":"two","ts":950}"#), json!("not json")];
    same("rejected", &counted(&rejected, Value::to_string), &counted(&expected, Value::to_string));
    let source = &case.report()["sources"]["rows"];
    assert_eq!((&source["rows"], &source["rejected"]), (&json!(20_004), &json!(2)), "{source}");
}

#[test]
fn lines_of_a_server_become_rows_until_it_closes() {
    for cores in [1, 2] {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let case = case(cores, "connect", server.local_addr().expect("an address"));
        let running = start(&case);
        let (send, peers) = channel();
        std::thread::spawn(move || send.send(server.accept()));
        let (peer, _) = peers.recv_timeout(WAIT).expect("a call in time").expect("a connection");
        play(&case, peer, running);
    }
}

#[test]
fn a_listening_source_takes_the_lines_of_its_caller() {
    // The port was free a moment ago. Calls come from 127.0.0.1, so that none of those below, made
    // before anybody listens, can be given this address for its own end and so answer itself.
    let free = TcpListener::bind("127.0.0.2:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let case = case(2, "listen", address);
    let (mut running, lines) = start(&case);
    let peer = loop {
        match TcpStream::connect(address) {
            Ok(peer) => break peer,
            Err(error) => {
                let ended = running.0.try_wait().expect("it was started");
                assert!(ended.is_none(), "ended with {ended:?} before it listened: {error}");
                std::thread::yield_now();
            }
        }
    };
    play(&case, peer, (running, lines));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let output = case(1, "connect", address).run(&["run", "p.toml"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("rows") && text.contains(&address.to_string()), "{text}");
}
