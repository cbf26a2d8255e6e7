//! The `blackhole` sink: takes everything and keeps nothing, for measuring.

use crate::port::{PortError, Sink};

/// The sink.
#[derive(Debug, Default)]
pub struct BlackholeSink {
    bytes: u64,
}

impl BlackholeSink {
    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Sink for BlackholeSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn prepare(&mut self, _epoch: u64) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _epoch: u64) -> Result<(), PortError> {
        Ok(())
    }
}
