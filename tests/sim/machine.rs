//! A machine of one thread: the tasks of all shards, readers and the coordinator are polled in an
//! order of the seed's, requests to the disk come back when the seed says, and the power goes at
//! a step of its choosing.
//!
//! A *thread* here is what would be one of the real engine: a shard, a reader, the coordinator. A
//! call that blocks its thread ([`blocking`]) gives the other threads some turns first, from
//! within: so they overtake one another as real ones do, and the order is still the seed's.
//!
//! 1. A step is a poll, a request that comes back, or a blocking call. Before each the power may
//!    go; from then on nothing is polled and nothing reaches the disk.
//! 2. While a thread is blocked none of its tasks is polled.
//! 3. The clock moves with the steps alone, so a seed gives the same run every time.
//! 4. A run in which nobody can go on, or that takes too long, is a failure of the test.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use cutwater::flow::host::Host;
use cutwater::store::chance::Chance;
use cutwater::store::disk::{DiskError, DiskFailure, Request};
use cutwater::store::disk_sim::SimDisk;

/// Steps after which a run is taken to hang.
const STEPS_MAX: u64 = 400_000;
/// Steps a millisecond.
const STEPS_A_MS: u64 = 4;

thread_local! {
    static MACHINE: RefCell<Option<Rc<Machine>>> = const { RefCell::new(None) };
}

/// What runs as a thread of its own in the real engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    Shard(usize),
    Reader(usize),
    Coordinator,
    /// Who starts the run and ends it.
    Main,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    thread: Thread,
    is_low: bool,
    woken: Arc<Woken>,
    /// None while it is polled, and once it has ended.
    work: Option<Work>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a machine behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub seed: u64,
    /// Step at which the power goes.
    pub crash_at: Option<u64>,
    /// Or: at which step of those at which the writer of checkpoints is about to do this.
    pub crash_in: Option<(&'static str, u64)>,
    /// Of so many turns one is the disk's, where tasks are ready too.
    pub disk_one_in: usize,
    /// Of so many turns that fall to work with few shares it gets one.
    pub low_one_in: usize,
    /// A blocking call lets fewer than so many turns of others come first.
    pub overtaken_most: usize,
    pub start_ms: i64,
}

/// See the module's head.
pub struct Machine {
    manners: Manners,
    pub disk: SimDisk,
    chance: RefCell<Chance>,
    tasks: RefCell<Vec<Task>>,
    /// Steps at which tasks go on that paused.
    pauses: RefCell<Vec<(u64, Waker)>>,
    steps: Cell<u64>,
    trace: Cell<u64>,
    thread: Cell<Thread>,
    blocked: RefCell<Vec<Thread>>,
    is_off: Cell<bool>,
    /// What the writer of checkpoints is about to do.
    phase: Cell<&'static str>,
    /// Steps so far of the phase in which the power goes.
    in_phase: Cell<u64>,
}

/// The power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off;

impl Machine {
    /// Makes a machine on a disk, this thread's until the next is made.
    pub fn new(manners: Manners, disk: SimDisk) -> Rc<Machine> {
        let machine = Rc::new(Machine {
            manners,
            disk,
            chance: RefCell::new(Chance::new(manners.seed)),
            tasks: RefCell::default(),
            pauses: RefCell::default(),
            steps: Cell::new(0),
            trace: Cell::new(0),
            thread: Cell::new(Thread::Main),
            blocked: RefCell::default(),
            is_off: Cell::new(false),
            phase: Cell::new("between checkpoints"),
            in_phase: Cell::new(0),
        });
        MACHINE.with(|current| *current.borrow_mut() = Some(machine.clone()));
        machine
    }

    /// This thread's machine.
    ///
    /// # Panics
    /// If there is none.
    pub fn current() -> Rc<Machine> {
        MACHINE.with(|current| current.borrow().clone()).expect("a machine was made")
    }

    /// Starts a task.
    pub fn spawn(&self, thread: Thread, is_low: bool, work: impl Future<Output = ()> + 'static) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.tasks.borrow_mut().push(Task { thread, is_low, woken, work: Some(Box::pin(work)) });
    }

    /// Ends the tasks of a thread, as when an executor is dropped.
    pub fn end(&self, thread: Thread) {
        let mut tasks = self.tasks.borrow_mut();
        let (ended, left) = tasks.drain(..).partition(|task| task.thread == thread);
        *tasks = left;
        drop(tasks);
        drop::<Vec<Task>>(ended);
    }

    /// Ends everything in memory.
    pub fn clear(&self) {
        drop(self.tasks.take());
        self.pauses.take();
    }

    /// Lets everybody have turns until it is done.
    ///
    /// # Errors
    /// [`Off`] if the power went before.
    ///
    /// # Panics
    /// If nobody can go on.
    pub fn run_until(&self, is_done: impl Fn() -> bool) -> Result<(), Off> {
        while !is_done() {
            if self.is_off.get() {
                return Err(Off);
            }
            let moved = self.turn();
            assert!(moved || self.is_off.get(), "everybody waits for ever: {:?}", self.waiting());
            assert!(self.steps.get() < STEPS_MAX, "the run hangs: {:?}", self.waiting());
        }
        Ok(())
    }

    /// Whether the power went.
    pub fn is_off(&self) -> bool {
        self.is_off.get()
    }

    /// The power goes.
    pub fn turn_off(&self) {
        self.is_off.set(true);
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// A number that two runs share if they did the same, step by step.
    pub fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// The clock.
    pub fn now_ms(&self) -> i64 {
        self.manners.start_ms + (self.steps.get() / STEPS_A_MS) as i64
    }

    /// What the writer of checkpoints was about to do.
    pub fn phase(&self) -> &'static str {
        self.phase.get()
    }

    /// Notes what the writer of checkpoints is about to do.
    pub fn enter(&self, phase: &'static str) {
        self.phase.set(phase);
    }

    /// A number below `bound` of the machine's seed.
    pub fn below(&self, bound: usize) -> usize {
        self.chance.borrow_mut().below(bound)
    }

    /// Waits for so many steps.
    pub fn pause(self: &Rc<Machine>, steps: u64) -> impl Future<Output = ()> + 'static {
        let (machine, at) = (self.clone(), self.steps.get() + steps);
        poll_fn(move |context| {
            if machine.steps.get() >= at {
                return Poll::Ready(());
            }
            machine.pauses.borrow_mut().push((at, context.waker().clone()));
            Poll::Pending
        })
    }

    /// One step; false if the power is off.
    fn tick(&self, what: u64) -> bool {
        if self.manners.crash_at == Some(self.steps.get()) {
            self.is_off.set(true);
        }
        if let Some((_, at)) = self.manners.crash_in.filter(|(phase, _)| *phase == self.phase.get())
            && self.in_phase.replace(self.in_phase.get() + 1) == at
        {
            self.is_off.set(true);
        }
        if self.is_off.get() {
            return false;
        }
        self.steps.set(self.steps.get() + 1);
        let mixed = (self.trace.get() ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.trace.set(mixed ^ (mixed >> 29));
        true
    }

    /// Polls a task or lets a request come back; false if there is nothing to do.
    fn turn(&self) -> bool {
        self.wake_paused();
        let ready = self.ready();
        let in_flight = self.disk.in_flight();
        let is_disks = ready.is_empty() || self.below(self.manners.disk_one_in) == 0;
        if in_flight > 0 && is_disks {
            if self.tick(in_flight as u64) {
                self.disk.step().expect("the machine has the crashes, not the disk");
            }
            return true;
        }
        if ready.is_empty() {
            return self.skip_pause();
        }
        let mut chosen = ready[self.below(ready.len())];
        if self.tasks.borrow()[chosen].is_low && self.below(self.manners.low_one_in) > 0 {
            chosen = ready[self.below(ready.len())];
        }
        if self.tick(1 << 32 | chosen as u64) {
            self.poll(chosen);
        }
        true
    }

    fn ready(&self) -> Vec<usize> {
        let (tasks, blocked) = (self.tasks.borrow(), self.blocked.borrow());
        let is_ready = |task: &Task| {
            task.work.is_some()
                && task.woken.0.load(Ordering::Relaxed)
                && !blocked.contains(&task.thread)
        };
        (0..tasks.len()).filter(|&at| is_ready(&tasks[at])).collect()
    }

    fn poll(&self, at: usize) {
        let (mut work, woken, thread) = {
            let task = &mut self.tasks.borrow_mut()[at];
            task.woken.0.store(false, Ordering::Relaxed);
            let work = task.work.take().expect("a ready task has work");
            (work, task.woken.clone(), task.thread)
        };
        let waker = Waker::from(woken.clone());
        let before = self.thread.replace(thread);
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        self.thread.set(before);
        if polled.is_pending() {
            let is_own = |task: &&mut Task| Arc::ptr_eq(&task.woken, &woken);
            if let Some(task) = self.tasks.borrow_mut().iter_mut().find(is_own) {
                task.work = Some(work);
            }
        }
    }

    fn wake_paused(&self) {
        let now = self.steps.get();
        let is_due = |(at, _): &mut (u64, Waker)| *at <= now;
        let due: Vec<_> = self.pauses.borrow_mut().extract_if(.., is_due).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Nobody has anything to do: time passes until the next pause ends.
    fn skip_pause(&self) -> bool {
        let next = self.pauses.borrow().iter().map(|(at, _)| *at).min();
        let Some(next) = next.filter(|_| self.blocked.borrow().is_empty()) else { return false };
        if self.manners.crash_at.is_some_and(|at| at < next) {
            self.is_off.set(true);
            return true;
        }
        self.steps.set(next.max(self.steps.get()));
        true
    }

    fn waiting(&self) -> Vec<Thread> {
        self.tasks.borrow().iter().filter(|t| t.work.is_some()).map(|task| task.thread).collect()
    }

    /// Lets others have turns while this thread waits for the disk.
    fn be_overtaken(&self) {
        let thread = self.thread.get();
        let turns = self.below(self.manners.overtaken_most.max(1));
        self.blocked.borrow_mut().push(thread);
        for _ in 0..turns {
            if self.is_off.get() || !self.turn() {
                break;
            }
        }
        self.blocked.borrow_mut().pop();
        self.thread.set(thread);
    }
}

/// Does something that blocks its thread, when others have had some turns.
///
/// # Errors
/// The disk's; everything fails once the power is off.
pub fn blocking<T>(
    name: &str,
    call: impl FnOnce(&SimDisk) -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    let machine = Machine::current();
    machine.be_overtaken();
    if !machine.tick(2 << 32) {
        let failure = DiskFailure::Io("the power is off".to_string());
        return Err(DiskError { failure, request: Request::Open, name: name.to_string(), at: 0 });
    }
    call(&machine.disk)
}

/// Gives others some turns, as a thread does that waits for something outside.
pub fn wait_a_little() {
    Machine::current().be_overtaken();
}

/// A shard's executor.
#[derive(Clone)]
pub struct SimHost {
    pub machine: Rc<Machine>,
    pub shard: usize,
}

impl Host for SimHost {
    type Disk = SimDisk;

    async fn disk(&self, _root: &Path) -> Result<SimDisk, DiskError> {
        Ok(self.machine.disk.clone())
    }

    fn now_ms(&self) -> i64 {
        self.machine.now_ms()
    }

    fn ticks_ns(&self) -> u64 {
        self.machine.steps() * (1_000_000 / STEPS_A_MS)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.machine.spawn(Thread::Shard(self.shard), false, task);
    }

    fn spawn_low(&self, task: impl Future<Output = ()> + 'static) {
        self.machine.spawn(Thread::Shard(self.shard), true, task);
    }

    async fn yield_now(&self) {
        let mut has_yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
