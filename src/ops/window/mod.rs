//! Windows over event time. Rows come in arrival order and need no sorting; a window [s, e) fires
//! when the watermark reaches e - 1, as in Flink.
//!
//! Tumbling and sliding windows are [`sliding`]; sessions, count and cumulative windows are
//! operators of their own beside it, over the same accumulators.

mod frame;
pub mod sliding;
#[cfg(test)]
mod tests;

pub use frame::{Frame, SPAN_MAX, Spec};
