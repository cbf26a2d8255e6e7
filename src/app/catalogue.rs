//! The connectors of this build and their options, as the pipeline file writes them.

use crate::plan::catalogue::{
    Catalogue, Connector, Delivery, OptionKind::*, of_format, optional, required,
};

const LINES: &[&str] = &["json", "csv", "native", "raw", "avro"];
const FILES: &[&str] = &["json", "csv", "native", "avro"];

/// A connector that the contract names and this version does not have.
const fn unbuilt(name: &'static str, delivery: Delivery) -> Connector {
    Connector { name, built: false, options: &[], formats: FILES, delivery }
}

/// All of them.
pub const CATALOGUE: Catalogue = Catalogue { sources: SOURCES, sinks: SINKS };

const SOURCES: &[Connector] = &[
    Connector {
        name: "file",
        built: true,
        options: &[required("path", Text), of_format("csv", "header", Boolean)],
        formats: LINES,
        delivery: Delivery::Transactional,
    },
    Connector {
        name: "socket",
        built: true,
        options: &[required("address", Text), optional("mode", Word(&["connect", "listen"]))],
        formats: &["json", "csv", "raw"],
        delivery: Delivery::Transactional,
    },
    Connector {
        name: "generator",
        built: true,
        options: &[
            required("workload", Word(&["transactions", "profiles"])),
            optional("rows", Integer(0, i64::MAX)),
            optional("seed", Integer(0, i64::MAX)),
            optional("users", Integer(1, u32::MAX as i64)),
            optional("merchants", Integer(1, u32::MAX as i64)),
            optional("skew", Number(0.0, 10.0)),
            // Rows a second of event time, and of the clock on the wall.
            optional("rate", Number(0.001, 1e9)),
            optional("rows_per_second", Number(0.001, 1e12)),
            // Event time of the first row, ms since the epoch.
            optional("start", Integer(i64::MIN, i64::MAX)),
            optional("disorder", Millis),
            optional("late", Number(0.0, 1.0)),
            optional("late_by", Millis),
        ],
        formats: &[],
        delivery: Delivery::Transactional,
    },
    Connector {
        name: "values",
        built: true,
        options: &[required("rows", Rows)],
        formats: &[],
        delivery: Delivery::Transactional,
    },
    unbuilt("kafka", Delivery::Transactional),
];

const SINKS: &[Connector] = &[
    Connector {
        name: "file",
        built: true,
        options: &[required("path", Text), of_format("csv", "header", Boolean)],
        formats: FILES,
        delivery: Delivery::Transactional,
    },
    Connector {
        name: "stdout",
        built: true,
        options: &[],
        formats: &["json", "csv"],
        delivery: Delivery::AtLeastOnce,
    },
    Connector {
        name: "blackhole",
        built: true,
        options: &[],
        formats: &[],
        delivery: Delivery::Transactional,
    },
    unbuilt("kafka", Delivery::Transactional),
    unbuilt("postgres", Delivery::Transactional),
    unbuilt("redis", Delivery::ById),
    unbuilt("elasticsearch", Delivery::ById),
    unbuilt("parquet", Delivery::Transactional),
    unbuilt("http", Delivery::ById),
];
