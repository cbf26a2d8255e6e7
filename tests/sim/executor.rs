//! A deterministic host: all shards and readers in one thread, polled in an order that a seed
//! chooses. What the real host leaves to chance, who runs next, is here an input.
//!
//! 1. A run with the same seed polls the same tasks in the same order.
//! 2. When no task can go on and some are left, that is a deadlock, and an error.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use cutwater::flow::host::Host;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Wakes one task.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Shared {
    started: VecDeque<Task>,
    polls: u64,
}

/// The host that tasks see. Its clock counts polls.
#[derive(Clone, Default)]
pub struct SimHost {
    shared: Rc<RefCell<Shared>>,
}

impl Host for SimHost {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.shared.borrow().polls as i64
    }

    fn ticks_ns(&self) -> u64 {
        self.shared.borrow().polls
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.shared.borrow_mut().started.push_back(Box::pin(task));
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

/// A generator of choices (splitmix64).
pub struct Choices(pub u64);

impl Choices {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Runs everything spawned on the host to its end.
///
/// # Errors
/// The number of tasks that wait for each other for ever.
pub fn run(host: &SimHost, seed: u64) -> Result<(), usize> {
    let mut choices = Choices(seed);
    let mut tasks: Vec<(Task, Arc<Flag>)> = Vec::new();
    loop {
        while let Some(task) = { host.shared.borrow_mut().started.pop_front() } {
            tasks.push((task, Arc::new(Flag(AtomicBool::new(true)))));
        }
        if tasks.is_empty() {
            return Ok(());
        }
        let ready: Vec<usize> =
            (0..tasks.len()).filter(|&i| tasks[i].1.0.load(Ordering::Relaxed)).collect();
        if ready.is_empty() {
            return Err(tasks.len());
        }
        let at = ready[choices.below(ready.len())];
        tasks[at].1.0.store(false, Ordering::Relaxed);
        host.shared.borrow_mut().polls += 1;
        let waker = Waker::from(tasks[at].1.clone());
        let mut context = Context::from_waker(&waker);
        if tasks[at].0.as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(at));
        }
    }
}
