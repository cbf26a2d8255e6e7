//! Floor 4: the runtime. Shards, the exchange between them, the merge of what comes in, the
//! watermarks, the start and the end of a run.
//!
//! What is absent: concrete operators and connectors. A run is built by the floor above from
//! boxes that keep the contracts of `ops` and `port`.
//!
//! How it stays deterministic: a source's *blocks* are numbered, dealt to the shards in turn, and
//! taken up again by number in front of every keyed stage, so that each key sees its rows in the
//! source's one order, whoever decoded them. Each row carries the watermark in force before it
//! (its *mark*), relative to its block; the stage adds what the blocks before had reached. What a
//! stage puts out is numbered by the same blocks.

pub mod align;
pub mod chain;
pub mod cold;
pub mod epochs;
pub mod exchange;
pub mod feed;
pub mod flight;
pub mod gauge;
pub mod graph;
pub mod host;
pub mod host_uring;
pub mod inlet;
pub mod latency;
pub mod log;
pub mod look;
pub mod reader;
pub mod record;
pub mod restore;
pub mod run;
pub mod shard;
mod slices;
pub mod snapshot;
pub mod source;
pub mod stage;
pub mod stage_task;
pub mod tables;

use thiserror::Error;

/// Why a run ended before its sources did.
#[derive(Clone, Debug, Error)]
pub enum RunError {
    /// An operator, source or sink stopped it; the text names the component and the reason.
    #[error("{component}: {reason}")]
    Stopped { component: String, reason: String },
    /// A shard died of a panic: a bug. The message is the panic's.
    #[error("shard {shard} panicked: {message}")]
    Panicked { shard: usize, message: String },
    /// The machine does not let the runtime start; the text says what to allow.
    #[error("{0}")]
    Host(String),
}

impl RunError {
    /// An error of a component.
    pub fn of(component: &str, reason: impl std::fmt::Display) -> RunError {
        RunError::Stopped { component: component.to_string(), reason: reason.to_string() }
    }
}
