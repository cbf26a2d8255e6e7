//! The `stdout` sink: rows at once, for people and pipes.
//!
//! 1. What one call writes stands together: shards do not mix within it.
//! 2. Nothing is taken back: rows are seen before their epoch commits, and once more after a
//!    crash. A pipeline that promises `exactly_once` has to refuse this sink or say so.

use std::io::{self, Write};

use crate::port::{PortError, Sink};

/// What a `stdout` sink is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdoutSinkOptions {
    /// What comes before the first row: a CSV header.
    pub head: Vec<u8>,
}

/// One shard's sink; all share the process's standard output.
pub struct StdoutSink {
    _private: (),
}

impl StdoutSink {
    /// Writes the head, once, and gives a sink for each shard.
    ///
    /// # Errors
    /// [`PortError::Io`] if nobody reads.
    pub fn open(options: &StdoutSinkOptions, shards: usize) -> Result<Vec<StdoutSink>, PortError> {
        write_now(&options.head)?;
        Ok((0..shards).map(|_| StdoutSink { _private: () }).collect())
    }
}

fn write_now(bytes: &[u8]) -> Result<(), PortError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|source| PortError::Io { what: "cannot write to standard output".into(), source })
}

impl Sink for StdoutSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        write_now(bytes)
    }

    fn prepare(&mut self, _epoch: u64) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _epoch: u64) -> Result<(), PortError> {
        Ok(())
    }
}
