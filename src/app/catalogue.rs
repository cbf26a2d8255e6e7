//! The connectors of this build and their options, as the pipeline file writes them.

use crate::plan::catalogue::{Catalogue, Connector, Delivery, OptionKind::*, optional, required};

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
        options: &[required("path", Text), optional("header", Boolean)],
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
            optional("users", Integer(1, 1 << 40)),
            optional("skew", Number(0.0, 10.0)),
            optional("late", Number(0.0, 1.0)),
            optional("late_by", Millis),
            optional("rate", Integer(1, i64::MAX)),
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
        options: &[required("path", Text), optional("header", Boolean)],
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
