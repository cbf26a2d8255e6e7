//! `partition_by` of a file sink: sub-folders named by a value, on one shard and on two.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::command::{Case, json_lines};

const PIPELINE: &str = r#"
name = "folders"
[engine]
cores = CORES
data_dir = "{dir}/data"
batch_rows = 64
[schemas.row]
n = "BIGINT NOT NULL"
country = "STRING"
amount = "DECIMAL(9,2)"
[sources.rows]
type = "file"
path = "{dir}/in"
format = "json"
schema = "row"
[sinks.out]
type = "file"
inputs = ["rows"]
path = "{dir}/out"
format = "FORMAT"
partition_by = "BY"
"#;

fn case(cores: usize, format: &str, by: &str) -> Case {
    let text = PIPELINE.replace("CORES", &cores.to_string());
    Case::new(&text.replace("FORMAT", format).replace("BY", by))
}

/// The text of all visible parts of a folder, by sub-folder. Everything else must be hidden.
fn parts(case: &Case) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in std::fs::read_dir(case.path("out")).expect("the sink's folder") {
        let folder = folder.expect("a readable folder");
        let name = folder.file_name().into_string().expect("names are UTF-8");
        if name.starts_with('.') {
            continue;
        }
        for part in std::fs::read_dir(folder.path()).expect("a sub-folder") {
            let part = part.expect("a readable folder").path();
            let file = part.file_name().expect("a name").to_string_lossy().into_owned();
            if !file.starts_with(".aside-") {
                assert!(file.starts_with("part-"), "{name}/{file}");
                let text = std::fs::read_to_string(&part).expect("a readable part");
                found.entry(name.clone()).or_default().push(text);
            }
        }
    }
    found
}

/// Rows with these countries, numbered from 0; enough for several blocks and both shards.
fn input(countries: &[Option<&str>], rows: usize) -> String {
    let line = |n: usize| {
        let country = serde_json::to_string(&countries[n % countries.len()]).expect("a text");
        let pad = " ".repeat(200);
        format!("{{\"n\":{n},\"country\":{country},{pad}\"amount\":{}.5}}\n", n % 3)
    };
    (0..rows).map(line).collect()
}

/// Numbers of the rows by sub-folder.
fn numbers(case: &Case) -> BTreeMap<String, Vec<u64>> {
    let of = |texts: Vec<String>| {
        let rows = texts.iter().flat_map(|text| json_lines(text));
        let mut numbers: Vec<u64> = rows.map(|row| row["n"].as_u64().expect("a number")).collect();
        numbers.sort_unstable();
        numbers
    };
    parts(case).into_iter().map(|(name, texts)| (name, of(texts))).collect()
}

#[test]
fn rows_go_to_the_folder_of_their_value() {
    let countries =
        [Some("CH"), Some("Côte d'Ivoire"), None, Some(".."), Some("a/b"), Some(""), Some("_x")];
    let folders = ["CH", "Côte d'Ivoire", "__null__", "%2E.", "a%2Fb", "__null__", "%5Fx"];
    let rows = 7000;
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for n in 0..rows {
        expected.entry(folders[n % 7].to_string()).or_default().push(n as u64);
    }
    for cores in [1, 2] {
        let case = case(cores, "json", "country");
        case.file("in", input(&countries, rows));
        case.run_well(&["--report", "report.json"]);
        assert_eq!(numbers(&case), expected, "{cores} shards");
        assert_eq!(case.report()["sinks"]["out"]["rows"], rows);
        // Another run replaces the first one's parts, and says where they are.
        let said = String::from_utf8(case.run_well(&[]).stderr).expect("UTF-8");
        assert_eq!(numbers(&case), expected, "{cores} shards, again");
        assert!(said.contains("were moved to") && said.contains(".aside-1"), "{said}");
        // What was written is read again, the folder of NULL too.
        std::fs::rename(case.path("in"), case.path("first")).expect("moved");
        std::fs::rename(case.path("out"), case.path("in")).expect("moved");
        case.run_well(&[]);
        assert_eq!(numbers(&case), expected, "{cores} shards, read again");
    }
}

#[test]
fn any_value_names_folders_and_every_part_has_its_header() {
    let case = case(2, "csv", "CASE WHEN n < 10 THEN NULL ELSE amount END");
    let text = std::fs::read_to_string(case.path("p.toml")).expect("the pipeline");
    case.file("p.toml", text.replace("format = \"csv\"", "format = \"csv\"\nheader = true"));
    case.file("in", input(&[Some("x")], 4000));
    case.run_well(&[]);
    let found = parts(&case);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["0.50", "1.50", "2.50", "__null__"]);
    let mut count = 0;
    for text in found.values().flatten() {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("n,country,amount"));
        count += lines.count();
    }
    assert_eq!(count, 4000);
}

#[test]
fn more_folders_than_the_limit_stop_the_run_and_nothing_is_seen() {
    let case = case(1, "json", "n");
    case.file("in", input(&[Some("x")], 4097));
    let output = case.run(&["run", "p.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("out") && said.contains("more than 4096 sub-folders"), "{said}");
    assert!(parts(&case).is_empty());
    let rows: Vec<Value> = case.rows("out/0");
    assert!(rows.is_empty());
}
