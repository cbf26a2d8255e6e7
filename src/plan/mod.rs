//! Floor 5: the pipeline file. `raw` reads it as written, `check` finds out what it means and
//! reports everything that is wrong at once, `graph` is the result: a pipeline as data.
//!
//! What is absent: connectors (they come as a [`catalogue::Catalogue`]), files, threads, clocks.

pub mod catalogue;
pub mod code;
pub mod diagnostic;
pub mod raw;
