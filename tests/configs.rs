//! Every file of configs/, run by the command.

use crate::command::{Case, json_lines, own, shared};

/// Runs a configuration in a folder of its own; gives what it printed.
fn run(case: &Case, config: &str, args: &[&str], env: &[(&str, String)]) -> String {
    let path = own(&format!("configs/{config}.toml"));
    let mut command = case.command(&["run", &path.display().to_string()]);
    command.args(args).args(["--report", "report.json"]);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let output = command.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{config} ended with {}:\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn fraud_finds_every_kind_and_the_ledger_balances() {
    let case = Case::new("");
    let printed = run(&case, "fraud", &["--set", "sources.transactions.rows=50000"], &[]);
    let alerts = case.rows("out/fraud/alerts");
    let of = |rule: &str| alerts.iter().filter(|alert| alert["rule"] == rule).count();
    for rule in
        ["RAPID_SMALL_TRANSACTIONS", "LOCATION_JUMP", "ACCOUNT_TAKEOVER", "SMALL_THEN_LARGE"]
    {
        assert!(of(rule) > 0, "{rule} was found");
    }
    assert_eq!(json_lines(&printed).len(), of("ACCOUNT_TAKEOVER"), "the console shows the gravest");
    let report = case.report();
    assert_eq!(report["sources"]["transactions"]["rows"], 50_000);
    let risk = &report["transforms"]["risk"];
    let figure = |name: &str| risk[name].as_u64().expect("a count");
    assert_eq!(figure("in"), figure("used") + figure("filtered") + figure("late"));
    assert_eq!(case.rows("out/fraud/late").len() as u64, figure("late"));
    assert_eq!(case.rows("out/fraud/scores").len() as u64, figure("out"));
}

#[test]
fn rules_in_files_find_what_they_say() {
    let case = Case::new("");
    let rules = own("configs/rules/*.toml");
    let args = [
        "--set",
        "sources.transactions.rows=50000",
        "--set",
        "sources.transactions.rows_per_second=1000000",
        "--set",
        &format!("transforms.alerts.rules='{}'", rules.display()),
    ];
    let alerts = json_lines(&run(&case, "fraud-rules", &args, &[]));
    for rule in ["rapid", "takeover"] {
        let mut of = alerts.iter().filter(|alert| alert["rule"] == rule);
        assert!(of.all(|alert| alert["rule_version"] == 1), "{rule} says its version");
        assert!(alerts.iter().any(|alert| alert["rule"] == rule), "{rule} was found");
    }
}

#[test]
fn the_tests_in_the_configurations_pass() {
    let case = Case::new("");
    let path = own("configs/fraud.toml");
    let output = case.run(&["test", &path.display().to_string()]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("3 passed, 0 failed"), "{shown}");
}

#[test]
fn a_paced_run_tells_how_long_rows_took_and_one_at_full_speed_does_not() {
    let paced = ["--set", "sources.transactions.rows_per_second=40000"];
    for (cores, pace) in [("1", &paced[..]), ("2", &paced[..]), ("2", &[])] {
        let case = Case::new("");
        let cores = format!("engine.cores={cores}");
        let mut args = vec!["--set", &cores, "--set", "sources.transactions.rows=8000"];
        args.extend(pace);
        run(&case, "fraud", &args, &[]);
        let report = case.report();
        assert!(report["sinks"]["scores"]["rows"].as_u64() > Some(0), "rows were put out");
        let latency = &report["latency_ms"];
        if pace.is_empty() {
            assert!(latency.is_null(), "{latency}");
            continue;
        }
        let [p50, p99, p999, max] =
            ["p50", "p99", "p999", "max"].map(|name| latency[name].as_f64().expect("a figure"));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= max, "{latency}");
        let elapsed_ms = report["elapsed_s"].as_f64().expect("a figure") * 1000.0;
        assert!(max <= elapsed_ms, "{latency}, the run took {elapsed_ms} ms");
    }
}

#[test]
fn handbook_prints_how_good_its_rule_is() {
    let Some(data) = shared("data/transactions_handbook.jsonl.zst") else { return };
    let case = Case::new("");
    let printed = run(&case, "handbook", &[], &[("HANDBOOK", data.display().to_string())]);
    let quality = &json_lines(&printed)[0];
    // From the data's README: 37,526 rows, 347 frauds, R1 flags 65 and is right in 65.
    assert_eq!(quality["rows"], 37_526);
    assert_eq!(quality["frauds"], 347);
    assert_eq!(quality["flagged"], 65);
    assert_eq!(quality["true_flags"], 65);
    assert_eq!(quality["precision"], 1.0);
    let recall: f64 = 65.0 / 347.0;
    let f1 = 2.0 * recall / (1.0 + recall);
    let near = |got: &serde_json::Value, expected: f64| {
        (got.as_f64().unwrap_or(f64::NAN) - expected).abs() <= 0.00005
    };
    assert!(near(&quality["recall"], recall), "{quality}");
    assert!(near(&quality["f1"], f1), "{quality}");
}

#[test]
fn wordcount_counts_every_word() {
    let text = "to be or not\nTo BE  that is\n\nthe question to be";
    let case = Case::new("");
    case.file("text", text);
    run(&case, "wordcount", &[], &[("TEXT_FILE", case.path("text").display().to_string())]);
    let mut counts = std::collections::BTreeMap::new();
    for row in case.rows("out/wordcount") {
        let word = row["word"].as_str().expect("a word").to_string();
        let n = row["n"].as_u64().expect("a count");
        counts.entry(word).and_modify(|most: &mut u64| *most = n.max(*most)).or_insert(n);
    }
    let mut expected = std::collections::BTreeMap::new();
    for word in text.to_lowercase().split_whitespace() {
        *expected.entry(word.to_string()).or_insert(0u64) += 1;
    }
    assert_eq!(counts, expected);
}

#[test]
fn rising_temperature_finds_ten_rising_readings() {
    let Some(data) = shared("data/sensors_nab.jsonl.zst") else { return };
    let case = Case::new("");
    run(&case, "rising-temperature", &[], &[("SENSORS", data.display().to_string())]);
    // The same by a plain loop: ten in a row of one sensor, each above the one before; a match
    // begins anew behind itself.
    let mut runs: std::collections::BTreeMap<String, Vec<(i64, f64)>> = Default::default();
    let mut expected = Vec::new();
    let mut rows = json_lines(&crate::command::unpacked(&data));
    rows.sort_by_key(|row| row["ts"].as_i64());
    for row in rows {
        let sensor = row["sensor"].as_str().expect("a sensor").to_string();
        let (Some(ts), Some(value)) = (row["ts"].as_i64(), row["value"].as_f64()) else { continue };
        let run = runs.entry(sensor.clone()).or_default();
        if run.last().is_some_and(|last| value <= last.1) {
            run.clear();
        }
        run.push((ts, value));
        if run.len() == 10 {
            expected.push(format!("{sensor} {} {ts}", run[0].0));
            run.clear();
        }
    }
    assert!(!expected.is_empty());
    let rows = case.rows("out/rising-temperature");
    let shown = |row: &serde_json::Value| {
        format!("{} {} {}", row["sensor"].as_str().unwrap_or("?"), row["since"], row["until"])
    };
    let mut got: Vec<String> = rows.iter().map(shown).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
}
