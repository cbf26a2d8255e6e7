//! The real host: one glommio executor, pinned, for each shard.
//!
//! What glommio 0.9 does not check by itself is checked before it is started: that the kernel
//! gives io_uring, and enough locked memory for the rings.
//!
//! 1. A shard's thread never unwinds past this file: a panic becomes [`RunError::Panicked`].

use std::future::Future;
use std::path::Path;
use std::time::{Instant, SystemTime};

use glommio::{Latency, LocalExecutorBuilder, Placement as Pin, Shares};

use super::RunError;
use super::host::Host;
use crate::store::disk::DiskError;
use crate::store::disk_uring::UringDisk;

/// Locked memory that an executor's rings take, bytes.
const LOCKED_BYTES: u64 = 512 << 10;
/// Shares of a shard's time for work at its store, beside the 1000 of what reads and processes.
const LOW_SHARES: usize = 200;
/// Memory that an executor sets aside for direct I/O, bytes: what reads need beyond it comes from
/// the allocator, which cost reads of cold keys a sixth of their time.
const IO_MEMORY: usize = 4 << 20;

/// Which processor each shard is pinned to.
#[derive(Clone, Debug)]
pub struct Placement {
    cpus: Vec<usize>,
}

/// How many shards, or where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    All,
    Count(usize),
    Cpus(Vec<usize>),
}

impl Placement {
    /// Chooses processors among those that this process may use, and says in a warning if shards
    /// have to share them.
    ///
    /// # Errors
    /// [`RunError::Host`] if a processor of a list is not there.
    pub fn choose(cores: &Cores) -> Result<(Placement, Option<String>), RunError> {
        let mut free: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        free.sort_unstable();
        if free.is_empty() {
            free.push(0);
        }
        let cpus: Vec<usize> = match cores {
            Cores::All => free.clone(),
            Cores::Count(count) => (0..*count).map(|i| free[i % free.len()]).collect(),
            Cores::Cpus(list) => list.clone(),
        };
        if let Some(missing) = cpus.iter().find(|cpu| !free.contains(cpu)) {
            return Err(RunError::Host(format!(
                "engine.cores names processor {missing}, but this process may use {free:?} only"
            )));
        }
        let warning = (cpus.len() > free.len()).then(|| {
            let (shards, cpus) = (cpus.len(), free.len());
            format!("{shards} shards share {cpus} processors; more shards than processors only slow the run")
        });
        Ok((Placement { cpus }, warning))
    }

    /// So many shards anywhere, for hosts that have no processors.
    pub fn nowhere(shards: usize) -> Placement {
        Placement { cpus: vec![0; shards] }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }
}

/// A glommio executor, seen from its tasks.
#[derive(Clone)]
pub struct UringHost {
    started: Instant,
}

impl Host for UringHost {
    type Disk = UringDisk;

    async fn disk(&self, root: &Path) -> Result<UringDisk, DiskError> {
        UringDisk::open(root).await
    }

    #[allow(clippy::disallowed_methods)] // The real clock lives here.
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    }

    fn ticks_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }

    fn spawn_low(&self, task: impl Future<Output = ()> + 'static) {
        let (shares, latency) = (Shares::Static(LOW_SHARES), Latency::NotImportant);
        let queue = glommio::executor().create_task_queue(shares, latency, "store");
        match glommio::spawn_local_into(task, queue) {
            Ok(task) => drop(task.detach()),
            Err(error) => unreachable!("the queue was made just now: {error}"),
        }
    }

    async fn yield_now(&self) {
        glommio::executor().yield_now().await;
    }
}

/// Checks what the executors will need.
///
/// # Errors
/// [`RunError::Host`] that says what to allow.
pub fn check(shards: usize) -> Result<(), RunError> {
    if let Err(error) = io_uring::IoUring::new(8) {
        return Err(RunError::Host(format!(
            "io_uring is not to be had here ({error}): it needs Linux 5.8 or newer, and a container \
             needs a seccomp profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register (for Docker: --security-opt seccomp=unconfined)"
        )));
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    match soft {
        Some(bytes) if bytes < LOCKED_BYTES => Err(RunError::Host(format!(
            "only {bytes} bytes may be locked in memory, {shards} shards need {LOCKED_BYTES} \
             each: raise the limit (ulimit -l 8192, LimitMEMLOCK= in systemd, or \
             --ulimit memlock=-1 for a container)"
        ))),
        _ => Ok(()),
    }
}

/// Runs `main` once for each item, each on its pinned executor on a thread of its own, and waits
/// for all; their clocks count from `started`. `failed` is told of every shard that could not start
/// or panicked.
#[allow(clippy::disallowed_methods)] // The real clock and the real threads live here.
pub fn run<I, F, Fut>(
    placement: &Placement,
    started: Instant,
    items: Vec<I>,
    failed: impl Fn(RunError) + Sync,
    main: F,
) where
    I: Send,
    F: Fn(usize, UringHost, I) -> Fut + Sync,
    Fut: Future<Output = ()>,
{
    std::thread::scope(|scope| {
        let mut shards = Vec::new();
        for (shard, (item, &cpu)) in items.into_iter().zip(&placement.cpus).enumerate() {
            let (main, failed) = (&main, &failed);
            let thread = std::thread::Builder::new().name(format!("shard {shard}"));
            let spawned = thread.spawn_scoped(scope, move || {
                let builder = LocalExecutorBuilder::new(Pin::Fixed(cpu));
                let builder = builder.name(&format!("shard {shard}")).io_memory(IO_MEMORY);
                match builder.make() {
                    Ok(executor) => executor.run(main(shard, UringHost { started }, item)),
                    Err(error) => failed(RunError::Host(format!(
                        "shard {shard} cannot start on processor {cpu}: {error}"
                    ))),
                }
            });
            match spawned {
                Ok(handle) => shards.push((shard, handle)),
                Err(error) => {
                    failed(RunError::Host(format!("shard {shard} cannot start: {error}")));
                }
            }
        }
        for (shard, handle) in shards {
            if let Err(panic) = handle.join() {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                let message = text.unwrap_or_else(|| "no message".to_string());
                failed(RunError::Panicked { shard, message });
            }
        }
    });
}
