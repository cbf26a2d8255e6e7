//! What a run did: the counts that the engine keeps, and the report made of them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::ground::time::Time;

/// Counts of a run so far, components in the order of the pipeline. The engine fills it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub sources: Vec<(String, SourceCount)>,
    pub transforms: Vec<(String, TransformCount)>,
    pub sinks: Vec<(String, SinkCount)>,
    /// Smallest watermark over the sources, if there is one yet.
    pub watermark: Option<Time>,
    /// Seconds from the first row read to the last row processed.
    pub busy_s: f64,
    /// From the start of the command to the first row.
    pub first_row_ms: Option<f64>,
    pub checkpoints: CheckpointCount,
    /// From a row's arrival to the output row that it caused; none for a bounded replay.
    pub latency_ms: Option<Latency>,
}

/// A source's rows: `in = rows + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// Rows read, right or wrong.
    #[serde(rename = "in")]
    pub rows_in: u64,
    /// Rows taken.
    pub rows: u64,
    pub rejected: u64,
}

/// A transform's rows: `in = used + filtered + late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransformCount {
    #[serde(rename = "in")]
    pub rows_in: u64,
    /// Rows of the main output.
    pub out: u64,
    pub used: u64,
    pub filtered: u64,
    pub late: u64,
    /// Aggregates that did not fit their type and became NULL.
    pub overflows: u64,
    /// Partial matches of a pattern that `max_partial_matches` ended.
    pub partial_matches_given_up: u64,
}

/// A sink's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkCount {
    pub rows: u64,
}

/// What became of checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CheckpointCount {
    pub completed: u64,
    pub failed: u64,
    pub duration_ms: CheckpointDuration,
    /// Longest that a shard stood still for its state, in ms.
    pub stood_still_ms: f64,
    pub bytes: CheckpointBytes,
    /// Copies to the remote, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteCount>,
}

/// What became of copies to the remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemoteCount {
    pub copied: u64,
    /// Tries that came to nothing.
    pub failed: u64,
    /// Durable checkpoints since the newest one that is there.
    pub behind: u64,
}

/// How long they took, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CheckpointDuration {
    pub p50: f64,
    pub p99: f64,
}

/// How large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointBytes {
    /// The last one's own.
    pub last: u64,
    /// All that the last one needs.
    pub full: u64,
}

/// Quantiles of a latency, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Counts {
    /// Rows taken by all sources.
    pub fn events_in(&self) -> u64 {
        self.sources.iter().map(|(_, count)| count.rows).sum()
    }

    /// Rows that all sinks have taken.
    pub fn rows_out(&self) -> u64 {
        self.sinks.iter().map(|(_, count)| count.rows).sum()
    }
}

/// The report of a run, as `--report` writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub shards: usize,
    /// From the start of the run to its end.
    pub elapsed_s: f64,
    /// From the start of the command to the first row; none if there was no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_row_ms: Option<f64>,
    pub events_in: u64,
    /// From the first row read to the last row processed.
    pub events_per_s: f64,
    #[serde(serialize_with = "as_map")]
    pub sources: Vec<(String, SourceCount)>,
    #[serde(serialize_with = "as_map")]
    pub transforms: Vec<(String, TransformCount)>,
    #[serde(serialize_with = "as_map")]
    pub sinks: Vec<(String, SinkCount)>,
    pub checkpoints: CheckpointCount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Latency>,
    pub peak_rss_bytes: u64,
    pub cpu_s: f64,
}

impl Report {
    /// The report of a run that took `elapsed_s` and this CPU time and memory.
    pub fn new(
        pipeline: &str,
        shards: usize,
        elapsed_s: f64,
        counts: Counts,
        cpu_s: f64,
        peak_rss_bytes: u64,
    ) -> Report {
        let events_in = counts.events_in();
        let busy_s = if counts.busy_s > 0.0 { counts.busy_s } else { elapsed_s };
        let events_per_s = if busy_s > 0.0 { events_in as f64 / busy_s } else { 0.0 };
        Report {
            pipeline: pipeline.to_string(),
            shards,
            elapsed_s,
            first_row_ms: counts.first_row_ms,
            events_in,
            events_per_s,
            sources: counts.sources,
            transforms: counts.transforms,
            sinks: counts.sinks,
            checkpoints: counts.checkpoints,
            latency_ms: counts.latency_ms,
            peak_rss_bytes,
            cpu_s,
        }
    }

    /// The report as JSON, for reading by people too.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("numbers and names are JSON");
        json.push('\n');
        json
    }
}

/// Named things as a JSON object, in their order.
fn as_map<S: Serializer, T: Serialize>(
    entries: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (name, value) in entries {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Counts of a small run.
    pub fn sample() -> Counts {
        let transform =
            TransformCount { rows_in: 998, out: 40, used: 990, late: 8, ..Default::default() };
        Counts {
            sources: vec![(
                "transactions".into(),
                SourceCount { rows_in: 1000, rows: 998, rejected: 2 },
            )],
            transforms: vec![("risk".into(), transform)],
            sinks: vec![("alerts".into(), SinkCount { rows: 40 })],
            busy_s: 0.5,
            ..Counts::default()
        }
    }

    #[test]
    fn the_report_has_the_contracts_keys() {
        let report = Report::new("fraud", 2, 1.9, sample(), 1.5, 4096);
        let read: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(read["pipeline"], "fraud");
        assert_eq!(read["shards"], 2);
        assert_eq!(read["events_in"], 998);
        assert_eq!(read["events_per_s"], 1996.0);
        assert_eq!(
            read["sources"]["transactions"],
            json!({"in": 1000, "rows": 998, "rejected": 2})
        );
        assert_eq!(read["transforms"]["risk"]["in"], 998);
        assert_eq!(read["transforms"]["risk"]["out"], 40);
        assert_eq!(read["transforms"]["risk"]["late"], 8);
        assert_eq!(read["sinks"]["alerts"], json!({"rows": 40}));
        assert_eq!(read["checkpoints"]["completed"], 0);
        assert_eq!(read["checkpoints"]["bytes"], json!({"last": 0, "full": 0}));
        assert_eq!(read["peak_rss_bytes"], 4096);
        assert_eq!(read["cpu_s"], 1.5);
        assert_eq!(read.get("latency_ms"), None);
    }
}
