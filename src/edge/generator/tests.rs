//! The workload is a function of its arguments, and each fraud is found in it.

use super::workload::{Fraud, STRETCH};
use super::*;
use crate::ground::batch::{BatchBuilder, RecordBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn workload(options: &WorkloadOptions) -> Workload {
    Workload::new(options).unwrap()
}

fn rows(workload: &Workload, start: u64, end: u64) -> RecordBatch {
    let mut builder = BatchBuilder::new(7, 0);
    workload.fill(start, end, &mut builder);
    builder.finish()
}

/// A row as plain values.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    n: u64,
    user: u64,
    merchant: u64,
    amount: i64,
    country: String,
    kind: String,
    ts: i64,
}

fn plain(batch: &RecordBatch) -> Vec<Row> {
    let text = |row, column| String::from_utf8(batch.get_bytes(row, column).unwrap().into());
    let row = |i| Row {
        n: batch.row(i)[0],
        user: batch.row(i)[1],
        merchant: batch.row(i)[2],
        amount: batch.row(i)[3] as i64,
        country: text(i, 4).unwrap(),
        kind: text(i, 5).unwrap(),
        ts: batch.row(i)[6] as i64,
    };
    (0..batch.rows()).map(row).collect()
}

/// The rules, read plainly, on one user's rows in event-time order: which of them match.
fn matches(rows: &[Row]) -> Vec<Fraud> {
    let mut found = Vec::new();
    for i in 0..rows.len() {
        let (last, first) = (&rows[i], |back: usize| &rows[i - back]);
        let five_below = |end: usize, most: i64| {
            end >= 5 && rows[end - 5..end].iter().all(|row| row.amount < most)
        };
        if five_below(i + 1, 5_000) && last.ts - first(4).ts < 600_000 {
            found.push(Fraud::RapidSmall);
        }
        if i == 0 {
            continue;
        }
        if first(1).country != last.country && last.ts - first(1).ts < 3_600_000 {
            found.push(Fraud::LocationJump);
        }
        if last.kind != "WITHDRAWAL" || last.amount <= 500_000 {
            continue;
        }
        if first(1).kind == "PASSWORD_CHANGE" && last.ts - first(1).ts < 1_800_000 {
            found.push(Fraud::AccountTakeover);
        }
        if five_below(i, 10_000) && last.ts - first(5).ts < 3_600_000 {
            found.push(Fraud::SmallThenLarge);
        }
    }
    found
}

/// Asserts that every stretch's victim suffers the stretch's fraud.
fn check_frauds(options: &WorkloadOptions, stretches: u64) {
    let workload = workload(options);
    let mut by_user: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    for row in plain(&rows(&workload, 0, stretches * STRETCH)) {
        by_user.entry(row.user).or_default().push(row);
    }
    for rows in by_user.values_mut() {
        rows.sort_by_key(|row| (row.ts, row.n));
    }
    for stretch in 0..stretches {
        let (fraud, victim) = workload.fraud(stretch);
        let found = matches(&by_user[&victim]);
        assert!(found.contains(&fraud), "stretch {stretch}: {fraud:?} of user {victim}");
    }
}

#[test]
fn every_stretch_has_its_fraud() {
    for seed in 0..5 {
        let options = WorkloadOptions { seed, ..WorkloadOptions::default() };
        check_frauds(&options, 16);
        check_frauds(&WorkloadOptions { users: 50, ..options }, 16);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn rows_are_the_same_however_they_are_cut(
        seed in any::<u64>(),
        start in 0..1u64 << 40,
        sizes in proptest::collection::vec(0..700u64, 1..8),
    ) {
        let options = WorkloadOptions { seed, users: 1_000, ..WorkloadOptions::default() };
        let workload = workload(&options);
        let mut cut = Vec::new();
        let mut at = start;
        for size in sizes {
            cut.extend(plain(&rows(&workload, at, at + size)));
            at += size;
        }
        prop_assert_eq!(&cut, &plain(&rows(&self::workload(&options), start, at)));
        let other = WorkloadOptions { seed: seed ^ 1, ..options };
        let other = plain(&rows(&self::workload(&other), start, at));
        prop_assert!(cut.is_empty() || cut != other);
    }
}

#[test]
fn shares_and_ranges_are_those_asked_for() {
    let options = WorkloadOptions { late: 0.05, ..WorkloadOptions::default() };
    let workload = workload(&options);
    let rows = plain(&rows(&workload, 0, 200_000));
    let share = |test: &dyn Fn(&Row) -> bool| {
        rows.iter().filter(|row| test(row)).count() as f64 / rows.len() as f64
    };
    let near = |share: f64, expected: f64| assert!((share - expected).abs() < 0.005, "{share}");
    near(share(&|row| row.kind == "PURCHASE"), 0.70);
    near(share(&|row| row.kind == "TRANSFER"), 0.15);
    near(share(&|row| row.kind == "WITHDRAWAL"), 0.13);
    near(share(&|row| row.kind == "PASSWORD_CHANGE"), 0.02);
    near(share(&|row| row.country == workload.profile(row.user).country), 0.97);
    near(share(&|row| row.merchant == 1), 0.064);
    let age = |row: &Row| options.start_ms + (row.n as f64 * 1e3 / 28.0) as i64 - row.ts;
    near(share(&|row| age(row) > 5_001), 0.05);
    near(share(&|row| age(row) < 2), 0.95 * 6.0 / 7.0);
    assert!(rows.iter().all(|row| (-1..=7_200_001).contains(&age(row))));
    let ids = |row: &Row| row.user - 1 < options.users && row.merchant - 1 < options.merchants;
    assert!(rows.iter().all(ids));
    let mut counts = BTreeMap::new();
    for row in &rows {
        *counts.entry(row.user).or_insert(0u32) += 1;
    }
    let most = *counts.values().max().unwrap() as f64 / rows.len() as f64;
    near(most, 1.0 / 12.09);
    assert!(counts.len() > 30_000, "{} users", counts.len());
    let spent = |row: &&Row| row.kind != "PASSWORD_CHANGE" && row.amount < 100_000;
    let ratio = |row: &Row| row.amount as f64 / workload.profile(row.user).average as f64;
    let usual: Vec<f64> = rows.iter().filter(spent).map(ratio).collect();
    let mean = usual.iter().sum::<f64>() / usual.len() as f64;
    assert!((0.8..1.2).contains(&mean), "{mean} of the average");
}

#[test]
fn profiles_are_all_users_in_order() {
    let options = WorkloadOptions { users: 100, ..WorkloadOptions::default() };
    let workload = workload(&options);
    let mut builder = BatchBuilder::new(3, 0);
    workload.fill_profiles(0, 40, &mut builder);
    workload.fill_profiles(40, 100, &mut builder);
    let batch = builder.finish();
    for user in 1..=100u64 {
        let profile = workload.profile(user);
        let row = user as usize - 1;
        assert_eq!(&batch.row(row)[..2], [user, profile.average]);
        assert_eq!(batch.get_bytes(row, 2), Some(profile.country.as_bytes()));
    }
}

#[test]
fn options_out_of_their_limits_are_named() {
    let check = |options: WorkloadOptions, name: &str| {
        let error = Workload::new(&options).err().unwrap();
        assert!(error.contains(name), "{error}");
    };
    let good = WorkloadOptions::default;
    check(WorkloadOptions { users: 0, ..good() }, "`users`");
    check(WorkloadOptions { merchants: 1 << 33, ..good() }, "`merchants`");
    check(WorkloadOptions { skew: -1.0, ..good() }, "`skew`");
    check(WorkloadOptions { rate: f64::NAN, ..good() }, "`rate`");
    check(WorkloadOptions { late: 1.5, ..good() }, "`late`");
    check(WorkloadOptions { disorder_ms: -1, ..good() }, "`disorder`");
    check(WorkloadOptions { late_by_ms: 1, ..good() }, "`late_by`");
}

fn numbers(source: &mut GeneratorSource, wait_ms: u64) -> Option<(u64, u64)> {
    match source.next(wait_ms).unwrap() {
        Next::Block(Block::Numbers { start, end }) => Some((start, end)),
        Next::Block(other) => panic!("no numbers: {other:?}"),
        Next::Idle | Next::End => None,
    }
}

#[test]
fn blocks_are_fixed_and_a_pace_only_holds_them_back() {
    let mut options = GeneratorOptions {
        table: Table::Transactions,
        workload: WorkloadOptions::default(),
        rows: Some(10_000),
        rows_per_second: None,
    };
    let mut source = GeneratorSource::open(&options).unwrap();
    assert!(source.is_bounded());
    let expected = [Some((0, 4096)), Some((4096, 8192)), Some((8192, 10_000)), None];
    assert_eq!(std::array::from_fn(|_| numbers(&mut source, 0)), expected);
    options.rows = None;
    options.rows_per_second = Some(0.001);
    let mut source = GeneratorSource::open(&options).unwrap();
    assert!(!source.is_bounded());
    assert_eq!(numbers(&mut source, 0), Some((0, 1)), "the first row is due at once");
    assert_eq!(numbers(&mut source, 1), None, "the second one in 1000 s");
    options.table = Table::Profiles;
    options.rows_per_second = None;
    options.workload.users = 5;
    let mut source = GeneratorSource::open(&options).unwrap();
    assert_eq!(numbers(&mut source, 0), Some((0, 5)));
    assert_eq!(numbers(&mut source, 0), None);
}
