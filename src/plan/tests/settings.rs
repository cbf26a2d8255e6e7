//! Settings, `--set` and the environment: what is written, and what holds where nothing is.

use super::*;
use crate::plan::graph::*;

#[test]
fn settings_have_the_contracts_defaults() {
    let pipeline = pipeline(&around("[transforms.x]\ntype = 'union'\ninputs = ['t']"));
    assert_eq!(pipeline.name, "p");
    assert_eq!(
        pipeline.engine,
        EngineSettings {
            cores: Cores::All,
            data_dir: "data/p".into(),
            batch_rows: 1024,
            batch_timeout_ms: 5,
            http: None,
        }
    );
    assert_eq!(
        pipeline.checkpoint,
        CheckpointSettings {
            is_given: false,
            interval_ms: None,
            mode: Mode::ExactlyOnce,
            timeout_ms: 60_000,
            min_pause_ms: 0,
            tolerable_failures: 3,
            retained: 2,
            unaligned: Unaligned::Never,
            remote: None,
        }
    );
    assert_eq!(
        pipeline.state,
        StateSettings {
            backend: Backend::Lsm,
            memory_bytes: 256 << 20,
            profile: Profile::Balanced,
            compression: Compression::Lz4,
        }
    );
}

#[test]
fn settings_are_read() {
    let text = r#"
name = "fraud"
[engine]
cores = [2, 3]
data_dir = "${HOME}/fraud"
batch_rows = 7
batch_timeout = "20ms"
http = "127.0.0.1:8081"
[checkpoint]
interval = "1s"
mode = "at_least_once"
timeout = "10s"
min_pause = "5ms"
tolerable_failures = 0
retained = 5
unaligned = "30s"
remote = "s3://bucket/path"
[state]
backend = "memory"
memory = "64MiB"
profile = "write_heavy"
compression = "zstd"
[schemas.s]
a = "BIGINT"
[sources.t]
type = "values"
schema = "s"
rows = [{ a = 1 }]
[sinks.out]
type = "stdout"
inputs = ["t"]
"#;
    let read = pipeline(text);
    assert_eq!(read.name, "fraud");
    assert_eq!(read.engine.cores, Cores::List(vec![2, 3]));
    assert_eq!(read.engine.data_dir, "/here/fraud");
    assert_eq!((read.engine.batch_rows, read.engine.batch_timeout_ms), (7, 20));
    assert_eq!(read.engine.http, "127.0.0.1:8081".parse().ok());
    let checkpoint = &read.checkpoint;
    assert!(checkpoint.is_given);
    assert_eq!(checkpoint.interval_ms, Some(1_000));
    assert_eq!(checkpoint.mode, Mode::AtLeastOnce);
    assert_eq!((checkpoint.timeout_ms, checkpoint.min_pause_ms), (10_000, 5));
    assert_eq!((checkpoint.tolerable_failures, checkpoint.retained), (0, 5));
    assert_eq!(checkpoint.unaligned, Unaligned::AfterMs(30_000));
    assert_eq!(checkpoint.remote.as_deref(), Some("s3://bucket/path"));
    assert_eq!(read.state.backend, Backend::Memory);
    assert_eq!(read.state.memory_bytes, 64 << 20);
    assert_eq!(read.state.profile, Profile::WriteHeavy);
    assert_eq!(read.state.compression, Compression::Zstd);
    assert_eq!(read.sources[0].options.rows("rows"), Some(&["{\"a\":1}".to_string()][..]));
}

#[test]
fn set_goes_over_the_file() {
    let text = around("[transforms.x]\ntype = 'filter'\ninputs = ['t']\nwhere = 'amount > 1'");
    let read = set(
        &text,
        &[
            "engine.cores=2",
            "sources.t.path=2024",
            "sources.t.watermark.delay=7s",
            "transforms.x.inputs=[\"t\"]",
            "name=${HOME}",
        ],
    );
    assert_eq!(read.engine.cores, Cores::Count(2));
    assert_eq!(read.name, "/here");
    assert_eq!(read.sources[0].options.text("path"), Some("2024"));
    let watermark = &read.sources[0].watermark;
    assert!(matches!(watermark.kind, WatermarkKind::Bounded { delay_ms: 7_000 }));
}

#[test]
fn a_number_may_come_from_the_environment() {
    let text = around("[transforms.x]\ntype = 'union'\ninputs = ['t']");
    let read = set(&text, &["engine.batch_rows=\"${ROWS:-12}\"", "engine.cores=\"${CORES:-3}\""]);
    assert_eq!((read.engine.batch_rows, read.engine.cores), (12, Cores::Count(3)));
}
