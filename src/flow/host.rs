//! What the runtime asks of the machine that it runs on: a clock, tasks, a turn for the others.
//!
//! Two implementations: `host_uring` (glommio, one executor per pinned core) and, in the tests of
//! this floor, one thread that polls the tasks of all shards in a seeded order.

use std::future::Future;
use std::path::Path;

use crate::store::disk::{Disk, DiskError};

/// One shard's executor, seen from a task on it.
pub trait Host: Clone + 'static {
    type Disk: Disk;

    /// The disk whose root is this folder, for this shard.
    ///
    /// # Errors
    /// [`DiskError`] if the folder cannot be used.
    fn disk(&self, root: &Path) -> impl Future<Output = Result<Self::Disk, DiskError>>;

    /// Milliseconds since 1970, by the machine's clock.
    fn now_ms(&self) -> i64;

    /// Nanoseconds of a clock that never goes back.
    fn ticks_ns(&self) -> u64;

    /// Starts a task on this shard. It ends with the shard at the latest.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Starts a task that gets little of the shard's time while others have work to do.
    fn spawn_low(&self, task: impl Future<Output = ()> + 'static);

    /// Lets other tasks of the shard run.
    fn yield_now(&self) -> impl Future<Output = ()>;
}
