//! SIGINT and SIGTERM: the first one asks the run to stop in order, the second one ends the
//! process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code of a run that was told twice to stop.
const INTERRUPTED: i32 = 130;

/// A flag that the first signal sets.
///
/// # Errors
/// If the system refuses a handler.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: a handler that finds the flag set ends the process, then it is set.
        flag::register_conditional_shutdown(signal, INTERRUPTED, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
