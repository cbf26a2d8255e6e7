//! A bounded ring from one producer to one consumer, with asynchronous waiting at both ends.
//!
//! The ring orders what crosses from one shard to another: batches, watermarks, block ends. Ends
//! are not `Clone`, so single production and consumption are the type system's to keep. The
//! indices are Lamport's (1983); waiting is a waker a side, set before the last look.
//!
//! 1. `0 <= tail - head <= capacity`; slots in `head..tail` hold a value, all others none.
//! 2. Only the producer writes `tail` and fills slots, only the consumer writes `head` and empties
//!    them.
//! 3. An end that is dropped closes the ring: the consumer still gets what was sent, then `None`;
//!    the producer gets its value back.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::Poll;

use cells::{Arc, AtomicBool, AtomicUsize, AtomicWaker, Ordering, UnsafeCell};

/// What the ring is made of. tests/loom compiles this file a second time with loom's cells, which
/// try every order in which two threads can touch them.
#[cfg(not(loom))]
mod cells {
    pub use atomic_waker::AtomicWaker;
    pub use std::sync::Arc;
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A cell with loom's way of access.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

#[cfg(loom)]
mod cells {
    pub use loom::cell::UnsafeCell;
    pub use loom::future::AtomicWaker;
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

#[repr(align(128))]
struct Padded<T>(T);

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
    closed: AtomicBool,
    sender: AtomicWaker,
    receiver: AtomicWaker,
}

// SAFETY: values move from one thread to the other, so T: Send is what it takes; a slot is touched
// by one side at a time (invariants 1 and 2), handed over by the Release store of an index and the
// Acquire load of the other side.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (head, tail) =
            (self.head.0.load(Ordering::Acquire), self.tail.0.load(Ordering::Acquire));
        let len = self.slots.len();
        for at in head..tail {
            // SAFETY: slots in head..tail hold a value (invariant 1) and nobody else is left.
            self.slots[at % len].with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}

/// The producing end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The consuming end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// Why [`Sender::try_send`] gave the value back.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    Full(T),
    Closed(T),
}

/// A ring for `capacity` values.
///
/// # Panics
/// If `capacity` is 0.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a ring holds at least one value");
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        closed: AtomicBool::new(false),
        sender: AtomicWaker::new(),
        receiver: AtomicWaker::new(),
    });
    let receiver = Receiver { shared: shared.clone(), head: 0, tail_seen: 0 };
    (Sender { shared, tail: 0, head_seen: 0 }, receiver)
}

#[cfg(not(loom))]
fn register(waker: &AtomicWaker, context: &std::task::Context<'_>) {
    waker.register(context.waker());
}

#[cfg(loom)]
fn register(waker: &AtomicWaker, context: &std::task::Context<'_>) {
    waker.register_by_ref(context.waker());
}

impl<T> Sender<T> {
    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the value back if the ring is full or its consumer gone.
    pub fn try_send(&mut self, value: T) -> Result<(), NotSent<T>> {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(NotSent::Closed(value));
        }
        if self.tail - self.head_seen == shared.slots.len() {
            self.head_seen = shared.head.0.load(Ordering::Acquire);
            if self.tail - self.head_seen == shared.slots.len() {
                return Err(NotSent::Full(value));
            }
        }
        let slot = &shared.slots[self.tail % shared.slots.len()];
        // SAFETY: the slot is outside head..tail, so it is empty and the producer's (1, 2).
        slot.with_mut(|slot| unsafe { (*slot).write(value) });
        self.tail += 1;
        shared.tail.0.store(self.tail, Ordering::Release);
        shared.receiver.wake();
        Ok(())
    }

    /// Sends, waiting while the ring is full.
    ///
    /// # Errors
    /// Gives the value back if the consumer is gone.
    pub async fn send(&mut self, value: T) -> Result<(), T> {
        let mut waiting = Some(value);
        poll_fn(|context| {
            for last in [false, true] {
                match self.try_send(waiting.take().expect("a value waits until it is sent")) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(NotSent::Closed(value)) => return Poll::Ready(Err(value)),
                    Err(NotSent::Full(value)) => waiting = Some(value),
                }
                if !last {
                    register(&self.shared.sender, context);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whether [`Sender::try_send`] would find no room just now.
    pub fn is_full(&self) -> bool {
        self.tail - self.shared.head.0.load(Ordering::Acquire) == self.shared.slots.len()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.receiver.wake();
    }
}

impl<T> Receiver<T> {
    /// Takes the next value without waiting. `Ok(None)`: nothing there yet; `Err(())`: nothing
    /// will come any more.
    #[allow(clippy::result_unit_err)]
    pub fn try_receive(&mut self) -> Result<Option<T>, ()> {
        let shared = &*self.shared;
        if self.head == self.tail_seen {
            // Closed is read first: what was sent before closing is then seen below.
            let closed = shared.closed.load(Ordering::Acquire);
            self.tail_seen = shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return if closed { Err(()) } else { Ok(None) };
            }
        }
        let slot = &shared.slots[self.head % shared.slots.len()];
        // SAFETY: the slot is inside head..tail, so it holds a value, and it is the consumer's.
        let value = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head += 1;
        shared.head.0.store(self.head, Ordering::Release);
        shared.sender.wake();
        Ok(Some(value))
    }

    /// Takes the next value, waiting for it; `None` once the producer is gone and all is taken.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`Receiver::receive`], for callers that wait on several rings at once.
    pub fn poll_receive(&mut self, context: &mut std::task::Context<'_>) -> Poll<Option<T>> {
        for last in [false, true] {
            match self.try_receive() {
                Ok(Some(value)) => return Poll::Ready(Some(value)),
                Err(()) => return Poll::Ready(None),
                Ok(None) if !last => register(&self.shared.receiver, context),
                Ok(None) => {}
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.sender.wake();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue(
            capacity in 1..5usize,
            steps in proptest::collection::vec(any::<bool>(), 0..200)
        ) {
            let (mut sender, mut receiver) = ring(capacity);
            let mut model = VecDeque::new();
            for (i, send) in steps.into_iter().enumerate() {
                if send {
                    let expected =
                        if model.len() == capacity { Err(NotSent::Full(i)) } else { Ok(()) };
                    if expected.is_ok() {
                        model.push_back(i);
                    }
                    prop_assert_eq!(sender.try_send(i), expected);
                } else {
                    prop_assert_eq!(receiver.try_receive(), Ok(model.pop_front()));
                }
            }
        }
    }

    #[test]
    fn closing_keeps_what_was_sent() {
        let (mut sender, mut receiver) = ring(4);
        sender.try_send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.try_receive(), Ok(Some(1)));
        assert_eq!(receiver.try_receive(), Err(()));
        let (mut sender, receiver) = ring(4);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(NotSent::Closed(1)));
    }

    #[test]
    fn values_left_in_a_ring_are_dropped_once() {
        let value = Arc::new(());
        let (mut sender, receiver) = ring(4);
        sender.try_send(value.clone()).unwrap();
        sender.try_send(value.clone()).unwrap();
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn two_threads_see_every_value_once_in_order() {
        let (mut sender, mut receiver) = ring(3);
        let producer = std::thread::spawn(move || {
            for mut i in 0..100_000u64 {
                while let Err(NotSent::Full(back)) = sender.try_send(i) {
                    i = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        loop {
            match receiver.try_receive() {
                Ok(Some(value)) => {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                Ok(None) => std::thread::yield_now(),
                Err(()) => break,
            }
        }
        producer.join().unwrap();
        assert_eq!(expected, 100_000);
    }
}
