//! JSON lines to batches and back, in GB and rows per CPU-second: `cargo bench --bench json`.
//!
//! Beside the decoder: lines only split, and `serde_json` into a typed struct. CPU time is what the
//! kernel has counted for the thread, so that a busy machine does not spoil the figures; the best
//! of several runs is shown. An argument picks the cases whose name holds it.

use std::fs;
use std::hint::black_box;

use cutwater::codec::{DecodeOptions, Decoder, EncodeOptions, Format, decoder, encoder};
use cutwater::ground::batch::{BatchBuilder, RecordBatch};
use cutwater::ground::scan::{PADDING, newlines};
use cutwater::ground::schema::{Column, DataType, Schema};
use serde::Deserialize;

const ROWS: usize = 100_000;
const SAMPLES: usize = 8;
const SAMPLE_S: f64 = 0.2;

fn schema() -> Schema {
    let money = DataType::Decimal { precision: 18, scale: 2 };
    let columns = [
        ("txn_id", DataType::BigInt),
        ("user_id", DataType::BigInt),
        ("merchant_id", DataType::BigInt),
        ("amount", money),
        ("country", DataType::String),
        ("type", DataType::String),
        ("ts", DataType::Timestamp),
    ];
    Schema::new(columns.map(|(name, data_type)| Column::new(name, data_type)).to_vec())
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Transaction<'a> {
    txn_id: i64,
    user_id: i64,
    merchant_id: i64,
    amount: f64,
    country: &'a str,
    r#type: &'a str,
    ts: i64,
}

/// Numbers that look random (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// How the fields of a line are ordered.
#[derive(Clone, Copy)]
enum Order {
    Fixed,
    /// One of two orders each.
    Either,
    Any,
}

/// Payment transactions of about 120 bytes.
fn transactions(order: Order) -> Vec<u8> {
    let mut dice = Dice(42);
    let mut text = String::new();
    for i in 0..ROWS as u64 {
        let country = ["US", "GB", "DE", "FR", "MX", "CA", "JP"][dice.below(7) as usize];
        let kinds = ["PURCHASE", "TRANSFER", "WITHDRAWAL", "PASSWORD_CHANGE"];
        let kind = kinds[dice.below(13).min(3) as usize];
        let digits = 2 + dice.below(4) as u32;
        let cents = dice.below(10u64.pow(digits));
        let mut fields = [
            format!("\"txn_id\":{i}"),
            format!("\"user_id\":{}", dice.below(100_000)),
            format!("\"merchant_id\":{}", dice.below(10_000)),
            format!("\"amount\":{}.{:02}", cents / 100, cents % 100),
            format!("\"country\":\"{country}\""),
            format!("\"type\":\"{kind}\""),
            format!("\"ts\":{}", 1_700_000_000_000 + 180 * i),
        ];
        match order {
            Order::Fixed => {}
            Order::Either => fields.rotate_left(dice.below(2) as usize),
            Order::Any => {
                (1..7).rev().for_each(|k| fields.swap(k, dice.below(k as u64 + 1) as usize))
            }
        }
        text.push_str(&format!("{{{}}}\n", fields.join(",")));
    }
    let mut text = text.into_bytes();
    text.resize(text.len() + PADDING, 0);
    text
}

/// What the thread has used of a processor, seconds.
fn cpu_s() -> f64 {
    let counted = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps it");
    let ns = counted.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    ns.expect("nanoseconds come first") * 1e-9
}

fn measure(name: &str, bytes: usize, mut run: impl FnMut()) {
    let picked = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if picked.is_some_and(|picked| !name.contains(&picked)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..SAMPLES {
        // The kernel counts by ticks: a sample is as many runs as take much longer than one.
        let (start, mut runs) = (cpu_s(), 0);
        while cpu_s() - start < SAMPLE_S {
            run();
            runs += 1;
        }
        best = best.min((cpu_s() - start) / f64::from(runs));
    }
    let (gb, rows) = (bytes as f64 / best * 1e-9, ROWS as f64 / best * 1e-6);
    let ns = best / ROWS as f64 * 1e9;
    println!("{name:<28} {gb:6.2} GB  {rows:6.2} M rows per CPU-second  {ns:6.1} ns a row");
}

fn decode_all(decoder: &mut dyn Decoder, padded: &[u8], mut each: impl FnMut(RecordBatch)) {
    let (len, mut at) = (padded.len() - PADDING, 0);
    let (mut out, mut rejected) = (BatchBuilder::new(7, 1024), BatchBuilder::new(3, 0));
    let mut taken = 0;
    while at < len {
        taken += decoder.decode(padded, len, &mut at, "", 0, 1024, &mut out, &mut rejected).taken;
        each(out.finish());
    }
    assert_eq!(taken as usize, ROWS);
}

fn main() {
    let text = transactions(Order::Fixed);
    let len = text.len() - PADDING;
    measure("split only", len, || {
        let (mut at, mut ends) = (0, [0; 192]);
        while at < len {
            let found = newlines(&text, at, len, 32 << 10, &mut ends);
            at += black_box(ends[found - 1]) as usize + 1;
        }
    });
    measure("serde_json, typed", len, || {
        for line in text[..len].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let row: Transaction<'_> = serde_json::from_slice(line).expect("a transaction");
            black_box(row);
        }
    });
    let orders = [
        ("decode, one order", Order::Fixed),
        ("decode, either of two orders", Order::Either),
        ("decode, any order", Order::Any),
    ];
    for (name, order) in orders {
        let text = transactions(order);
        let mut decoder = decoder(Format::Json, &schema(), &DecodeOptions::default())
            .expect("JSON takes any schema");
        measure(name, len, || decode_all(&mut *decoder, &text, |batch| drop(black_box(batch))));
    }

    let mut batches = Vec::new();
    let mut decoder =
        decoder(Format::Json, &schema(), &DecodeOptions::default()).expect("JSON takes any schema");
    decode_all(&mut *decoder, &text, |batch| batches.push(batch));
    let select: Vec<u32> = (0..1024).collect();
    for (name, format) in [
        ("encode JSON", Format::Json),
        ("encode CSV", Format::Csv),
        ("encode native", Format::Native),
    ] {
        let mut encoder = encoder(format, &schema(), &EncodeOptions::default())
            .expect("the format takes such rows");
        let mut out = Vec::new();
        measure(name, len, || {
            for batch in &batches {
                out.clear();
                encoder.encode(batch, &select[..batch.rows()], &mut out);
                black_box(&out);
            }
        });
    }
}
