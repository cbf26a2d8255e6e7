//! Numbers for people: the line that shows how far a run is, and the summary that closes it.

use std::fmt::Write;

use super::report::{Counts, Report};

/// A number with its thousands apart: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in the largest unit that leaves it above 1.
pub fn bytes(size: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", size as f64 / unit as f64),
        None => format!("{size} B"),
    }
}

/// How far a run is: rows so far, the rate since the last line, the watermark.
pub fn line(name: &str, elapsed_s: f64, counts: &Counts, rows_per_s: f64) -> String {
    let mut line = format!(
        "{name}  {elapsed_s:.1} s  {} rows in  {} rows/s  {} rows out",
        thousands(counts.events_in()),
        thousands(rows_per_s.max(0.0) as u64),
        thousands(counts.rows_out()),
    );
    let rejected: u64 = counts.sources.iter().map(|(_, count)| count.rejected).sum();
    let late: u64 = counts.transforms.iter().map(|(_, count)| count.late).sum();
    for (number, what) in [(rejected, "rejected"), (late, "late")] {
        if number > 0 {
            let _ = write!(line, "  {} {what}", thousands(number));
        }
    }
    if let Some(at) = counts.watermark.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        let _ = write!(line, "  watermark {}", at.strftime("%Y-%m-%d %H:%M:%S"));
    }
    line
}

/// What a run did.
pub fn summary(report: &Report) -> String {
    let mut out = format!(
        "{}: {} rows in {:.2} s, {} rows/s, {} shard{}, {:.2} CPU-s, peak memory {}\n",
        report.pipeline,
        thousands(report.events_in),
        report.elapsed_s,
        thousands(report.events_per_s as u64),
        report.shards,
        if report.shards == 1 { "" } else { "s" },
        report.cpu_s,
        bytes(report.peak_rss_bytes),
    );
    let mut lines: Vec<(&str, &str, String)> = Vec::new();
    let more = |number: u64, what: &str| match number {
        0 => String::new(),
        number => format!(", {} {what}", thousands(number)),
    };
    for (name, count) in &report.sources {
        let rows = thousands(count.rows);
        lines.push(("source", name, format!("{rows} rows{}", more(count.rejected, "rejected"))));
    }
    for (name, count) in &report.transforms {
        let (rows_in, rows_out) = (thousands(count.rows_in), thousands(count.out));
        let words = format!(
            "{rows_in} in, {rows_out} out{}{}{}{}",
            more(count.filtered, "filtered"),
            more(count.late, "late"),
            more(count.overflows, "overflows"),
            more(count.partial_matches_given_up, "partial matches given up"),
        );
        lines.push(("transform", name, words));
    }
    for (name, count) in &report.sinks {
        lines.push(("sink", name, format!("{} rows", thousands(count.rows))));
    }
    let width = lines.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0);
    for (kind, name, words) in lines {
        let _ = writeln!(out, "  {kind:<9}  {name:<width$}  {words}");
    }
    if report.checkpoints.completed + report.checkpoints.failed > 0 {
        let made = &report.checkpoints;
        let _ = writeln!(
            out,
            "  {:<9}  {} completed, {} failed, p99 {:.1} ms",
            "checkpoint", made.completed, made.failed, made.duration_ms.p99
        );
        if let Some(remote) = &made.remote {
            let _ = writeln!(
                out,
                "  {:<9}  {} copied, {} failed, {} behind",
                "remote", remote.copied, remote.failed, remote.behind
            );
        }
    }
    if let Some(latency) = &report.latency_ms {
        let _ = writeln!(
            out,
            "  latency    p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
            latency.p50, latency.p99, latency.p999, latency.max
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::report::{SinkCount, SourceCount, TransformCount};
    use super::*;

    fn counts() -> Counts {
        Counts {
            sources: vec![(
                "transactions".into(),
                SourceCount { rows_in: 1_000_002, rows: 1_000_000, rejected: 2 },
            )],
            transforms: vec![(
                "risk".into(),
                TransformCount { rows_in: 1_000_000, out: 1_234, late: 17, ..Default::default() },
            )],
            sinks: vec![("alerts".into(), SinkCount { rows: 1_234 })],
            busy_s: 2.0,
            watermark: Some(0),
            ..Counts::default()
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
    }

    #[test]
    fn a_line_says_how_far_the_run_is() {
        assert_eq!(
            line("fraud", 2.5, &counts(), 400_000.0),
            "fraud  2.5 s  1,000,000 rows in  400,000 rows/s  1,234 rows out  2 rejected  17 late  watermark 1970-01-01 00:00:00"
        );
    }

    #[test]
    fn the_summary_lists_every_component() {
        let report = Report::new("fraud", 2, 2.25, counts(), 3.5, 48 << 20);
        let expected = "\
fraud: 1,000,000 rows in 2.25 s, 500,000 rows/s, 2 shards, 3.50 CPU-s, peak memory 48.0 MiB
  source     transactions  1,000,000 rows, 2 rejected
  transform  risk          1,000,000 in, 1,234 out, 17 late
  sink       alerts        1,234 rows
";
        assert_eq!(summary(&report), expected);
    }
}
