//! Runs that are killed and go on: what they put out is what one run puts out.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Case, counted, same};

/// The fraud pipeline's parts on the built-in workload: patterns with rows that wait, windows with
/// late rows, a lookup. `{pace}`, `{cores}` and `{interval}` differ between runs.
pub const PIPELINE: &str = r#"
name = "crash"
[engine]
cores = 2
data_dir = "{dir}/data"
[checkpoint]
interval = "20ms"
[schemas.transaction]
txn_id = "BIGINT"
user_id = "BIGINT"
merchant_id = "BIGINT"
amount = "DECIMAL(18,2)"
country = "STRING"
type = "STRING"
ts = "TIMESTAMP"
[schemas.profile]
user_id = "BIGINT"
avg_amount = "DECIMAL(18,2)"
home_country = "STRING"
[sources.transactions]
type = "generator"
workload = "transactions"
rows = 60000
seed = 3
users = 2000
rate = 20.0
late = 0.03
schema = "transaction"
event_time = "ts"
watermark = { delay = "5s", emit = "per_event" }
[sources.profiles]
type = "generator"
workload = "profiles"
seed = 3
users = 2000
schema = "profile"
[transforms.enriched]
type = "lookup"
inputs = ["transactions"]
table = "profiles"
on = { user_id = "user_id" }
add = { avg_amount = "profiles.avg_amount" }
[transforms.jump]
type = "pattern"
inputs = ["enriched"]
key = ["user_id"]
within = "1h"
steps = [{ name = "p" }, { name = "q", contiguity = "next", where = "country <> LAST(p.country)" }]
select = { user_id = "FIRST(p.user_id)", p = "FIRST(p.txn_id)", q = "FIRST(q.txn_id)", ts = "LAST(q.ts)" }
[transforms.relaxed]
type = "pattern"
inputs = ["enriched"]
key = ["user_id"]
within = "10m"
after_match = "skip_past_last_event"
steps = [
  { name = "s", where = "amount < 50" },
  { name = "b", contiguity = "followed_by", where = "amount > 10 * FIRST(s.amount)" },
]
select = { user_id = "FIRST(s.user_id)", s = "FIRST(s.txn_id)", b = "FIRST(b.txn_id)", kind = "LAST(b.type)" }
[transforms.risk]
type = "window"
inputs = ["enriched"]
key = ["user_id"]
window = { type = "sliding", size = "10m", slide = "2m" }
allowed_lateness = "1m"
[transforms.risk.select]
user_id = "user_id"
window_start = "window_start"
n = "COUNT(*)"
total = "SUM(amount)"
merchants = "COUNT(DISTINCT merchant_id)"
latest = "LAST(type)"
[transforms.brief]
type = "window"
inputs = ["transactions"]
key = ["user_id"]
window = { type = "tumbling", size = "15s" }
select = { user_id = "user_id", start = "window_start", n = "COUNT(*)" }
[transforms.by_country]
type = "aggregate"
inputs = ["enriched"]
key = ["country"]
select = { country = "country", n = "COUNT(*)", most = "MAX(amount)" }
[sinks.jumps]
type = "file"
inputs = ["jump"]
path = "{dir}/out/jumps"
[sinks.relaxed_out]
type = "file"
inputs = ["relaxed"]
path = "{dir}/out/relaxed"
[sinks.scores]
type = "file"
inputs = ["risk"]
path = "{dir}/out/scores"
[sinks.brief_out]
type = "file"
inputs = ["brief"]
path = "{dir}/out/brief"
[sinks.countries]
type = "file"
inputs = ["by_country"]
path = "{dir}/out/countries"
partition_by = "country"
[sinks.late]
type = "file"
inputs = ["risk.late"]
path = "{dir}/out/late"
"#;

const SINKS: [&str; 5] = ["jumps", "relaxed", "scores", "brief", "late"];

/// Rows a second at which a run takes some seconds: there is time to kill it in, also where others
/// use the disk.
pub const PACE: &str = "sources.transactions.rows_per_second=20000";

/// All rows of a sink, sorted.
fn rows(case: &Case, sink: &str) -> Vec<String> {
    case.rows(&format!("out/{sink}")).iter().map(|row| row.to_string()).collect()
}

/// Rows of a sink with sub-folders, each with its folder before it.
fn rows_by_folder(case: &Case) -> Vec<String> {
    let mut all = Vec::new();
    let Ok(entries) = std::fs::read_dir(case.path("out/countries")) else { return all };
    for entry in entries {
        let name = entry.expect("a readable folder").file_name().into_string().expect("text");
        if !name.starts_with('.') {
            let rows = case.rows(&format!("out/countries/{name}"));
            all.extend(rows.iter().map(|row| format!("{name}: {row}")));
        }
    }
    all
}

/// Compares all sinks of two runs as multisets.
pub fn same_rows(got: &Case, expected: &Case) {
    for sink in SINKS {
        let (got, expected) = (rows(got, sink), rows(expected, sink));
        assert!(!expected.is_empty(), "{sink} has rows to compare");
        same(sink, &counted(&got, String::clone), &counted(&expected, String::clone));
    }
    let (got, expected) = (rows_by_folder(got), rows_by_folder(expected));
    same("countries", &counted(&got, String::clone), &counted(&expected, String::clone));
}

pub fn manifests(case: &Case) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(case.path("data/checkpoints")) else {
        return BTreeSet::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".json")).collect()
}

/// Lets a run make `checkpoints` more and kills it; false if it ended before.
pub fn kill_behind(case: &Case, run: &mut Child, checkpoints: usize) -> bool {
    let mut seen = manifests(case);
    let (before, deadline) = (seen.len(), Instant::now() + Duration::from_secs(60));
    while seen.len() < before + checkpoints {
        if run.try_wait().expect("a child can be asked").is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "no checkpoint came");
        seen.extend(manifests(case));
        std::thread::yield_now();
    }
    run.kill().expect("a child can be killed");
    run.wait().expect("a child can be waited for");
    true
}

pub fn start(case: &Case, args: &[&str]) -> Child {
    let log = std::fs::File::create(case.path("log")).expect("a log");
    let mut command = case.command(&["run", "p.toml"]);
    command.args(args).stderr(Stdio::from(log)).spawn().expect("the command starts")
}

pub fn reference() -> Case {
    let case = Case::new(PIPELINE);
    case.run_well(&[]);
    case
}

/// So little memory that nearly every key leaves it between two of its rows.
const SCANT: &str = "state.memory=\"1MiB\"";

#[test]
fn keys_that_leave_memory_change_nothing() {
    let expected = reference();
    for (cores, batch_rows) in [(1, 1024), (2, 7), (3, 1024)] {
        let case = Case::new(PIPELINE);
        let cores = format!("engine.cores={cores}");
        let batch_rows = format!("engine.batch_rows={batch_rows}");
        // Relative, as in most pipelines: the runtime cannot open folders by such names.
        let data_dir = "engine.data_dir=\"data\"";
        let args = ["--set", &cores, "--set", &batch_rows, "--set", SCANT, "--set", data_dir];
        case.run_well(&args);
        same_rows(&case, &expected);
        assert!(!case.path("data/state").exists(), "what the run kept on disk goes with it");
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_puts_out_what_one_run_does() {
    killed_again_and_again("state.memory=\"256MiB\"");
}

#[test]
fn so_does_one_whose_keys_leave_memory() {
    killed_again_and_again(SCANT);
}

#[test]
fn so_do_runs_whose_barriers_overtake_rows() {
    let expected = reference();
    for cores in ["engine.cores=1", "engine.cores=2"] {
        let case = Case::new(PIPELINE);
        let args = ["--set", cores, "--set", "checkpoint.unaligned=\"always\""];
        let paced = [&args[..], &["--set", PACE]].concat();
        let mut kills = 0;
        while kills < 4 && kill_behind(&case, &mut start(&case, &paced), 1 + kills % 3) {
            kills += 1;
        }
        assert!(kills >= 3, "only {kills} kills: {}", log(&case));
        // As many rows as the machine can take: more are in flight.
        let mut run = start(&case, &args);
        kill_behind(&case, &mut run, 1);
        case.run_well(&args);
        same_rows(&case, &expected);
        // The checkpoint of the end has none in flight.
        case.run_well(&["--set", "engine.cores=3"]);
        same_rows(&case, &expected);
    }
}

fn killed_again_and_again(memory: &str) {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let mut kills = 0;
    // On other numbers of shards too: keys go to who owns them then.
    for cores in [2, 2, 1, 3, 3, 1, 2, 2, 1, 2] {
        let cores = format!("engine.cores={cores}");
        let mut run = start(&case, &["--set", PACE, "--set", &cores, "--set", memory]);
        if !kill_behind(&case, &mut run, 1 + kills % 3) {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 4, "only {kills} kills: {}", log(&case));
    let ended = case.run(&["run", "p.toml"]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("goes on behind checkpoint"), "{said}");
    same_rows(&case, &expected);

    // What is done is done: another run has nothing to add.
    case.run_well(&[]);
    same_rows(&case, &expected);
}

pub fn log(case: &Case) -> String {
    std::fs::read_to_string(case.path("log")).unwrap_or_default()
}

#[test]
fn a_run_that_is_told_to_stop_goes_on_where_it_stopped() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    for _ in 0..3 {
        let mut run = start(&case, &["--set", PACE, "--set", "checkpoint.interval=10ms"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let before = manifests(&case);
        while manifests(&case).is_subset(&before) {
            assert!(Instant::now() < deadline && run.try_wait().expect("asked").is_none());
            std::thread::yield_now();
        }
        let stop = std::process::Command::new("kill").arg(run.id().to_string()).status();
        assert!(stop.expect("kill is there").success());
        assert!(run.wait().expect("it ends").success(), "{}", log(&case));
    }
    case.run_well(&[]);
    same_rows(&case, &expected);
}

#[test]
fn two_runs_do_not_share_a_data_dir() {
    let case = Case::new(PIPELINE);
    let mut run = start(&case, &["--set", PACE]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while manifests(&case).is_empty() {
        assert!(Instant::now() < deadline && run.try_wait().expect("asked").is_none());
        std::thread::yield_now();
    }
    refused(&case, &[], &["another run uses", "/data`", "data_dir"]);
    run.kill().expect("a child can be killed");
    run.wait().expect("a child can be waited for");
    case.run_well(&["--set", "sources.transactions.rows=60000"]);
}

#[test]
fn none_starts_afresh_and_keeps_the_old_aside() {
    let case = Case::new(PIPELINE);
    let args = ["--set", "sources.transactions.rows=20000"];
    case.run_well(&args);
    let first = rows(&case, "scores");
    case.run_well(&[&args[..], &["--restore", "none"]].concat());
    same(
        "scores",
        &counted(&rows(&case, "scores"), String::clone),
        &counted(&first, String::clone),
    );
    assert!(case.path("data/checkpoints.aside-1").is_dir());
    assert!(case.path("out/scores/.aside-1").is_dir());
}

pub fn refused(case: &Case, args: &[&str], words: &[&str]) {
    let ended = case.run(&[&["run", "p.toml"], args].concat());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word} in: {said}"));
}

#[test]
fn what_does_not_fit_a_checkpoint_is_refused_with_the_reason() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let mut run = start(&case, &["--set", PACE]);
    assert!(kill_behind(&case, &mut run, 3), "{}", log(&case));
    let text = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(case.path("p.toml"), text.replace(from, to)).expect("written");
    };
    with("name = \"crash\"", "name = \"other\"");
    refused(&case, &[], &["the pipeline `crash`", "data_dir"]);
    with("transforms.by_country", "transforms.countrywise");
    // The sink's input changes with it.
    let renamed = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    std::fs::write(case.path("p.toml"), renamed.replace("\"by_country\"", "\"countrywise\""))
        .expect("written");
    refused(&case, &[], &["by_country", "--restore none"]);
    with("country <> LAST(p.country)", "amount > 5 AND country <> LAST(p.country)");
    refused(&case, &[], &["--restore none"]);
    with("[sources.transactions]", "[sources.payments]");
    let renamed = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    let renamed = renamed.replace("inputs = [\"transactions\"]", "inputs = [\"payments\"]");
    std::fs::write(case.path("p.toml"), renamed).expect("written");
    refused(&case, &[], &["source `transactions`", "--restore none"]);
    std::fs::write(case.path("p.toml"), &text).expect("written");
    case.run_well(&[]);
    same_rows(&case, &expected);
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let expected = reference();
    let case = Case::new(PIPELINE);
    let mut run = start(&case, &["--set", PACE]);
    assert!(kill_behind(&case, &mut run, 4), "{}", log(&case));
    let newest = manifests(&case).into_iter().next_back().expect("checkpoints were made");
    let image = case.path("data/checkpoints").join(newest.trim_end_matches(".json"));
    flip(&image.join("shard-001/image"));
    let ended = case.run(&["run", "p.toml"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("shard-001") && said.contains("checksum"), "{said}");
    // Parts of the epoch that is not used had been seen already: that cannot be taken back, so the
    // run must not put the same rows out again under another name.
    same_rows(&case, &expected);
}

pub fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("an image");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).expect("the image is writable");
}
