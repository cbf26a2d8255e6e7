//! Tables of lookups through the command: they are part of every checkpoint.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::command::{Case, counted, same};
use crate::crash::{kill_behind, log, refused, start};

/// Transactions with columns of a table in a file, and of another stream's newest row.
const PIPELINE: &str = r#"
name = "lookups"
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
name = "STRING"
[sources.transactions]
type = "generator"
workload = "transactions"
rows = 30000
seed = 3
users = 500
rate = 20.0
schema = "transaction"
event_time = "ts"
[sources.profiles]
type = "file"
path = "{dir}/profiles.json"
schema = "profile"
[transforms.named]
type = "lookup"
inputs = ["transactions"]
table = "profiles"
on = { user_id = "user_id" }
add = { name = "profiles.name" }
[sinks.out]
type = "file"
inputs = ["named"]
path = "{dir}/out"
"#;

/// Another stream, without an end, as a table.
const LIVE: &str = r#"
[sources.latest]
type = "generator"
workload = "transactions"
seed = 4
users = 500
rate = 20.0
rows_per_second = 20000
schema = "transaction"
[transforms.met]
type = "lookup"
inputs = ["named"]
table = "latest"
on = { user_id = "user_id" }
add = { met = "latest.txn_id" }
[sinks.met_out]
type = "file"
inputs = ["met"]
path = "{dir}/met"
"#;

/// So slow that there is time to kill a run.
const PACE: [&str; 2] = ["--set", "sources.transactions.rows_per_second=10000"];

/// Profiles of all users but some, and a second row for one in three.
fn profiles(word: &str) -> String {
    let first = (0..500).filter(|user| user % 7 != 0).map(|user| (user, format!("{word} {user}")));
    let second = (0..500).step_by(3).map(|user| (user, format!("{word}, a longer name of {user}")));
    let line = |(user, name)| format!("{{\"user_id\":{user},\"name\":\"{name}\"}}\n");
    first.chain(second).map(line).collect()
}

fn shown(case: &Case) -> BTreeMap<String, usize> {
    counted(&case.rows("out"), Value::to_string)
}

#[test]
fn a_table_that_changed_since_is_as_the_checkpoint_has_it() {
    let expected = Case::new(PIPELINE);
    expected.file("profiles.json", profiles("first")).run_well(&[]);
    let case = Case::new(PIPELINE);
    case.file("profiles.json", profiles("first"));
    let mut kills = 0;
    for (i, cores) in [2, 1, 3, 2, 1].into_iter().enumerate() {
        let cores = format!("engine.cores={cores}");
        let mut run = start(&case, &[&PACE[..], &["--set", &cores]].concat());
        if !kill_behind(&case, &mut run, 1 + i % 2) {
            break;
        }
        kills += 1;
        let path = case.path("profiles.json");
        match i {
            0 => std::fs::write(path, profiles("another")).expect("written"),
            1 => std::fs::write(path, "{\"user_id\":1,\"name\":\"alone\"}\n").expect("written"),
            2 => std::fs::remove_file(path).expect("it is there"),
            _ => {}
        }
    }
    assert!(kills >= 3, "only {kills} kills: {}", log(&case));
    case.run_well(&[]);
    same("out", &shown(&case), &shown(&expected));
    // It is told with the other sources where it stands.
    let said = case.run(&["checkpoint", "list", "data"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("profiles=1"), "{said}");
}

#[test]
fn a_run_that_is_told_to_stop_while_a_table_is_read_joins_no_row_with_half_of_it() {
    let slow = PIPELINE.replace(
        "path = \"{dir}/profiles.json\"",
        "workload = \"profiles\"\nseed = 3\nusers = 500\nrows_per_second = 100",
    );
    let profiles = slow.replace("type = \"file\"\nworkload", "type = \"generator\"\nworkload");
    let pipeline = profiles.replace(
        "name = \"STRING\"\n",
        "avg_amount = \"DECIMAL(18,2)\"\nhome_country = \"STRING\"\n",
    );
    let pipeline = pipeline.replace("profiles.name", "profiles.home_country");
    let case = Case::new(&pipeline);
    for cores in ["engine.cores=1", "engine.cores=2"] {
        let mut run = start(&case, &["--set", cores]);
        std::thread::sleep(std::time::Duration::from_millis(1000));
        let stop = std::process::Command::new("kill").arg(run.id().to_string()).status();
        assert!(stop.expect("kill is there").success());
        assert!(run.wait().expect("it ends").success(), "{}", log(&case));
        assert_eq!(case.rows("out").len(), 0, "the table cannot have been whole");
    }
    case.run_well(&[]);
    let rows = case.rows("out");
    let unnamed = rows.iter().filter(|row| row["name"].is_null()).count();
    assert_eq!((rows.len(), unnamed), (30_000, 0));
}

/// Both streams, and the table's, in one stage.
const COUNTED: &str = r#"
[transforms.streams]
type = "map"
inputs = ["transactions"]
select = { user_id = "user_id" }
[transforms.tables]
type = "map"
inputs = ["profiles"]
select = { user_id = "user_id" }
[transforms.counted]
type = "aggregate"
inputs = ["streams", "tables"]
key = ["user_id"]
select = { user_id = "user_id", n = "COUNT(*)" }
[sinks.counts]
type = "file"
inputs = ["counted"]
path = "{dir}/counts"
"#;

#[test]
fn a_table_that_is_a_stream_too_goes_on_as_both() {
    let case = Case::new(&format!("{PIPELINE}{COUNTED}"));
    // So many that rings are full before the table is whole.
    let rows: String = profiles("first").repeat(400);
    let count = rows.lines().count();
    case.file("profiles.json", rows);
    let mut kills = 0;
    for cores in ["engine.cores=2", "engine.cores=1", "engine.cores=3"] {
        let mut run = start(&case, &[&PACE[..], &["--set", cores]].concat());
        kills += usize::from(kill_behind(&case, &mut run, 2));
    }
    assert!(kills > 0, "{}", log(&case));
    case.run_well(&[]);
    assert_eq!(case.rows("out").len(), 30_000);
    // Every row of either was counted once: the counts of a user are 1, 2, 3 and so on.
    let counts = case.rows("counts");
    assert_eq!(counts.len(), 30_000 + count);
    let shown = counted(&counts, |row| format!("{} {}", row["user_id"], row["n"]));
    assert!(shown.values().all(|&count| count == 1));
}

#[test]
fn a_lookup_that_adds_other_columns_reads_its_table_again() {
    let case = Case::new(PIPELINE);
    case.file("profiles.json", profiles("first"));
    let mut run = start(&case, &PACE);
    assert!(kill_behind(&case, &mut run, 2), "{}", log(&case));
    case.file("profiles.json", profiles("another"));
    case.run_well(&["--set", "transforms.named.add.name=\"UPPER(profiles.name)\""]);
    let rows = case.rows("out");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    let of = |word: &str| names.iter().filter(|name| name.starts_with(word)).count();
    assert_eq!((rows.len(), of("first") + of("ANOTHER")), (30_000, names.len()));
    assert!(of("first") > 0 && of("ANOTHER") > 0, "{} {}", of("first"), of("ANOTHER"));
}

/// Of each row its user, epoch and what it met.
fn met(case: &Case) -> Vec<(u64, String, i64)> {
    let mut met = Vec::new();
    for entry in std::fs::read_dir(case.path("met")).expect("a folder") {
        let path = entry.expect("a part").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix("part-") {
            let epoch = rest.split('-').next().unwrap_or_default().to_string();
            let text = std::fs::read_to_string(&path).expect("a readable part");
            met.extend(crate::command::json_lines(&text).iter().map(|row| {
                let user = row["user_id"].as_u64().expect("a user");
                (user, epoch.clone(), row["met"].as_i64().unwrap_or(-1))
            }));
        }
    }
    met
}

#[test]
fn a_table_without_an_end_goes_on_where_it_was() {
    let case = Case::new(&format!("{PIPELINE}{LIVE}"));
    case.file("profiles.json", profiles("first"));
    for cores in ["engine.cores=2", "engine.cores=1", "engine.cores=3"] {
        let mut run = start(&case, &[&PACE[..], &["--set", cores]].concat());
        assert!(kill_behind(&case, &mut run, 3), "{}", log(&case));
    }
    // It is read again neither from its start nor otherwise, so its rows have one meaning.
    refused(
        &case,
        &["--set", "transforms.met.add.met=\"latest.txn_id + 1\""],
        &["latest", "the table of `met` in another form", "--restore none"],
    );
    let mut run = start(&case, &PACE);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let stop = std::process::Command::new("kill").arg(run.id().to_string()).status();
    assert!(stop.expect("kill is there").success());
    assert!(run.wait().expect("it ends").success(), "{}", log(&case));
    // Of one user a row of a later epoch never met an older row than one of an earlier epoch.
    let mut met = met(&case);
    met.sort();
    let mut newest: BTreeMap<u64, (&String, i64, i64)> = BTreeMap::new();
    for (user, epoch, id) in &met {
        let (last, before, so_far) = newest.entry(*user).or_insert((epoch, -1, -1));
        if *last != epoch {
            (*last, *before) = (epoch, *so_far);
        }
        assert!(id >= before, "user {user} met {id} in epoch {epoch}, and {before} before");
        *so_far = (*id).max(*so_far);
    }
    assert!(met.iter().filter(|(_, _, id)| *id >= 0).count() > 1000, "{} rows", met.len());
}

#[test]
fn a_table_that_cannot_be_read_again_is_refused_with_checkpoints() {
    let socket = r#"
[sources.latest]
type = "socket"
address = "127.0.0.1:0"
mode = "listen"
schema = "transaction"
"#;
    let live = LIVE.replace(&LIVE[..LIVE.find("[transforms.met]").expect("it")], socket);
    let case = Case::new(&format!("{PIPELINE}{live}"));
    case.file("profiles.json", profiles("first"));
    refused(&case, &[], &["latest", "`met` has no end", "[checkpoint]"]);
}
