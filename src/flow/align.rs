//! Where the tasks of a shard wait for one another at a barrier, and the shard's image is made.
//!
//! 1. A task that has forwarded its barrier takes no input before all tasks of the shard are at
//!    theirs: what sinks were given then belongs to one epoch, and the graph is still.
//! 2. A task that ends well is no longer waited for. One that fails leaves the graph in the middle
//!    of its work: no image is made any more, and who waits is told to end.
//! 3. Nobody holds a borrow of the graph while waiting.
//! 4. A barrier of a newer epoch says that older ones were given up: who waits at theirs goes on to
//!    the newer one, and who comes to theirs passes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::RunError;
use super::epochs::Epochs;
use super::exchange::Ended;
use super::graph::ShardGraph;
use super::snapshot::{self, Beneath};

/// The tasks of one shard that barriers reach.
pub struct Alignment {
    graph: Rc<RefCell<ShardGraph>>,
    epochs: Arc<Epochs>,
    tasks: Cell<usize>,
    arrived: Cell<usize>,
    epoch: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    /// The store beneath the shard's keys, if they may leave memory.
    beneath: Option<Rc<dyn Beneath>>,
    /// Why the image could not be made: told to the task that asks first.
    failed: RefCell<Option<RunError>>,
    /// A task has failed.
    is_broken: Cell<bool>,
}

impl Alignment {
    /// For so many tasks.
    pub fn new(
        graph: Rc<RefCell<ShardGraph>>,
        epochs: Arc<Epochs>,
        tasks: usize,
        beneath: Option<Rc<dyn Beneath>>,
    ) -> Rc<Alignment> {
        Rc::new(Alignment {
            beneath,
            graph,
            epochs,
            tasks: Cell::new(tasks),
            arrived: Cell::new(0),
            epoch: Cell::new(0),
            waiting: RefCell::default(),
            failed: RefCell::default(),
            is_broken: Cell::new(false),
        })
    }

    /// Rows are read from now on: epochs may begin.
    pub fn start(&self) {
        self.epochs.start();
    }

    /// A run that was told to stop leaves a source unread, a table that it waits for not being
    /// whole: its place stays where it was. False if it cannot go back there.
    pub fn leave_unread(&self, source: &str) -> bool {
        self.epochs.leave_unread(source)
    }

    /// A task is at the barrier that ends `epoch`: it goes on when [`Alignment::passed`] says so.
    /// The last one makes the image.
    pub fn arrive(&self, epoch: u64) {
        self.hear_of(epoch);
        if epoch < self.epoch.get() {
            return;
        }
        self.arrived.set(self.arrived.get() + 1);
        self.go_on_if_all_are_there();
    }

    /// A task is on its way to the barrier that ends `epoch`, and will not come to older ones
    /// (invariant 4).
    pub fn hear_of(&self, epoch: u64) {
        if epoch > self.epoch.get() {
            self.epoch.set(epoch);
            self.arrived.set(0);
            self.wake();
        }
    }

    /// Whether all tasks were at the barrier, and the image is made; else `waker` is woken then.
    /// One of the tasks is told a sink's error.
    pub fn passed(&self, epoch: u64, waker: &Waker) -> Poll<Result<(), Ended>> {
        if self.is_broken.get() {
            return Poll::Ready(Err(Ended::Aborted));
        }
        if self.epoch.get() == epoch && self.arrived.get() > 0 {
            self.waiting.borrow_mut().push(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(self.failed.borrow_mut().take().map_or(Ok(()), |error| Err(error.into())))
    }

    /// A task has ended well.
    pub fn leave(&self) {
        self.tasks.set(self.tasks.get() - 1);
        self.go_on_if_all_are_there();
    }

    /// A task has failed (invariant 2).
    pub fn break_off(&self) {
        self.is_broken.set(true);
        self.wake();
    }

    fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    fn go_on_if_all_are_there(&self) {
        let arrived = self.arrived.get();
        if self.is_broken.get() || arrived == 0 || arrived < self.tasks.get() {
            return;
        }
        if let Err(error) = self.end_epoch(self.epoch.get(), false) {
            self.failed.borrow_mut().get_or_insert(error);
        }
        self.arrived.set(0);
        self.wake();
    }

    /// Prepares the sinks' parts of an epoch, which may be the run's last, and gives the shard's
    /// share of its checkpoint to the coordinator.
    ///
    /// # Errors
    /// A sink's.
    pub fn end_epoch(&self, epoch: u64, is_last: bool) -> Result<(), RunError> {
        let mut graph = self.graph.borrow_mut();
        graph.prepare_sinks(epoch)?;
        if self.epochs.is_on() {
            debug_assert!(
                graph.stages.iter().all(|stage| stage.inbox.is_empty()),
                "all is settled"
            );
            let (durable, beneath) = (self.epochs.durable(), self.beneath.as_deref());
            let share = snapshot::share(&mut graph, (epoch, is_last), durable, beneath);
            self.epochs.note_stood(graph.chain.take_stood_ns());
            self.epochs.put(graph.shard, epoch, share);
        }
        Ok(())
    }

    /// Commits the sinks' parts of epochs that have become durable.
    ///
    /// # Errors
    /// A sink's.
    pub fn commit_durable(&self) -> Result<(), RunError> {
        let durable = self.epochs.durable();
        self.graph.borrow_mut().commit_sinks(durable)
    }
}
