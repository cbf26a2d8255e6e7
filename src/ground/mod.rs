//! Floor 0: data and arithmetic. Records, schemas, keys, time, rings and frames.
//!
//! What is absent: `async`, files, sockets, threads, clocks, randomness. Everything here is a
//! value or a function of values; `map` alone knows of a file, because mapping one takes
//! `unsafe`. It is also, with the two uring files, the only place that
//! holds `unsafe` code: each block argues for itself and has a safe twin in its tests.

pub mod batch;
pub mod bits;
pub mod decimal;
pub mod frame;
pub mod key;
pub mod limits;
pub mod map;
pub mod pen;
pub mod prefetch;
pub mod ring;
pub mod scan;
pub mod schema;
pub mod slot;
pub mod stream;
pub mod time;
pub mod wide;
pub mod words;

#[cfg(not(target_endian = "little"))]
compile_error!("records are little-endian archives read in place; this target is big-endian");
