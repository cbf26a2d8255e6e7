//! Cutwater: a stream engine for one machine.
//!
//! One process, one shard per pinned core, nothing shared between shards but bounded rings. The
//! way of a record:
//!
//! ```text
//! partition -> decode -> stateless chain -> exchange -> keyed chain -> sink
//! ```
//!
//! The house has floors; a module uses only lower ones (a test reads the `use` lines):
//! `ground` (data and arithmetic) · `store`, `expr`, `codec`, `port` · `state` · `ops` · `flow`
//! and `edge` · `plan` · `app`. docs/architecture.md says what each one holds and what it does not.

#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests"))]

#[allow(clippy::disallowed_methods, reason = "the command has a clock, threads and an environment")]
pub mod app;
pub mod codec;
#[allow(clippy::disallowed_methods, reason = "connectors wait, on threads of their own")]
pub mod edge;
pub mod expr;
pub mod flow;
pub mod ground;
pub mod ops;
pub mod plan;
pub mod port;
pub mod state;
pub mod store;
