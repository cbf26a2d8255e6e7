//! The reader as a whole: a text goes in, a pipeline or diagnostics come out.

mod errors;
mod settings;
mod shown;
mod tables;
mod valid;

use super::catalogue::{
    Catalogue, Connector, Delivery, OptionKind::*, of_format, optional, required,
};
use super::diagnostic::Severity;
use super::graph::Pipeline;
use super::{Input, Outcome, read};

const fn connector(name: &'static str, built: bool, delivery: Delivery) -> Connector {
    Connector { name, built, options: &[], formats: &["json", "csv", "native", "raw"], delivery }
}

/// Connectors as the command might have them.
pub const CATALOGUE: Catalogue = Catalogue {
    sources: &[
        Connector {
            options: &[required("path", Text), of_format("csv", "header", Boolean)],
            ..connector("file", true, Delivery::Transactional)
        },
        Connector {
            options: &[required("rows", Rows)],
            formats: &[],
            ..connector("values", true, Delivery::Transactional)
        },
        Connector {
            options: &[
                required("workload", Word(&["transactions", "profiles"])),
                optional("rows", Integer(0, 1000)),
                optional("skew", Number(0.0, 2.0)),
            ],
            formats: &[],
            ..connector("generator", true, Delivery::Transactional)
        },
        connector("kafka", false, Delivery::Transactional),
    ],
    sinks: &[
        Connector {
            options: &[required("path", Text)],
            ..connector("file", true, Delivery::Transactional)
        },
        connector("stdout", true, Delivery::AtLeastOnce),
        connector("redis", false, Delivery::ById),
        connector("kafka", false, Delivery::Transactional),
    ],
};

/// Reads a text with `--set` arguments; `HOME` is `/here` and nothing else is set.
pub fn outcome(text: &str, overrides: &[&str]) -> Outcome {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_string()).collect();
    read(&Input {
        path: "p.toml",
        text,
        overrides: &overrides,
        environment: &|name| (name == "HOME").then(|| "/here".to_string()),
        catalogue: &CATALOGUE,
    })
}

/// A pipeline that must be right.
pub fn pipeline(text: &str) -> Pipeline {
    set(text, &[])
}

/// A pipeline that must be right, with `--set` arguments.
pub fn set(text: &str, overrides: &[&str]) -> Pipeline {
    let outcome = outcome(text, overrides);
    let shown = super::diagnostic::render(&outcome.found, &outcome.texts, false);
    let errors = outcome.found.iter().filter(|found| found.severity == Severity::Error).count();
    assert_eq!(errors, 0, "{shown}");
    outcome.pipeline.expect("a file without errors has a pipeline")
}

/// A small right pipeline around some lines, `t` being a source with event time.
pub fn around(lines: &str) -> String {
    format!(
        r#"
[schemas.transaction]
txn_id = "BIGINT"
user_id = "BIGINT"
merchant_id = "BIGINT"
amount = "DECIMAL(18,2)"
country = "STRING"
type = "STRING"
ts = "TIMESTAMP"

[sources.t]
type = "file"
path = "data/t.jsonl"
schema = "transaction"
event_time = "ts"

[sinks.out]
type = "stdout"
inputs = ["x"]

{lines}
"#
    )
}
