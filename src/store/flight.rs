//! Several futures of one kind under way together, within one task.
//!
//! Each has a waker of its own, so that of a hundred reads only those are looked at that came back.
//!
//! 1. At most `most` are under way; the others are not begun.
//! 2. A future is polled when it was begun and after each time that its waker was woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// Which places are to be polled, and who waits for all.
struct Tower {
    /// A bit a place.
    woken: Vec<AtomicU64>,
    all: AtomicWaker,
}

/// The waker of one place.
struct Call {
    place: usize,
    tower: Arc<Tower>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bit = 1 << (self.place % 64);
        // Whoever takes the bits sees what was done before.
        let before = self.tower.woken[self.place / 64].fetch_or(bit, Ordering::AcqRel);
        if before & bit == 0 {
            self.tower.all.wake();
        }
    }
}

/// A place for futures, one after the other in the same memory.
struct Seat<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

impl<F: Future> Seat<F> {
    /// Polls the future that sits here; an empty seat waits for ever.
    fn poll(&mut self) -> Poll<F::Output> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let done = future.poll(&mut Context::from_waker(&self.waker));
        if done.is_ready() {
            self.future.set(None);
        }
        done
    }
}

/// Runs all futures and hands each result to `each`, in the order in which they end.
pub async fn fly<F: Future>(
    futures: impl IntoIterator<Item = F>,
    most: usize,
    mut each: impl FnMut(F::Output),
) {
    let (mut futures, most) = (futures.into_iter(), most.max(1));
    let woken = (0..most.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    let tower = Arc::new(Tower { woken, all: AtomicWaker::new() });
    let mut seats: Vec<Seat<F>> = Vec::new();
    let mut aloft = 0;
    // Takes futures until one has to wait; false if there is none left.
    let mut board = |seat: &mut Seat<F>, each: &mut dyn FnMut(F::Output)| -> bool {
        for future in futures.by_ref() {
            seat.future.set(Some(future));
            match seat.poll() {
                Poll::Ready(value) => each(value),
                Poll::Pending => return true,
            }
        }
        seat.future.set(None);
        false
    };
    while seats.len() < most {
        let waker = Waker::from(Arc::new(Call { place: seats.len(), tower: tower.clone() }));
        let mut seat = Seat { future: Box::pin(None), waker };
        if !board(&mut seat, &mut each) {
            break;
        }
        seats.push(seat);
        aloft += 1;
    }
    poll_fn(|context| {
        tower.all.register(context.waker());
        for (i, woken) in tower.woken.iter().enumerate() {
            let mut bits = woken.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let place = i * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(seat) = seats.get_mut(place) else { continue };
                if let Poll::Ready(value) = seat.poll() {
                    each(value);
                    aloft -= usize::from(!board(seat, &mut each));
                }
            }
        }
        if aloft == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;

    /// Ready at the third poll; wakes itself in between.
    async fn thrice(number: usize, polls: &Cell<usize>) -> usize {
        let mut left = number % 3;
        poll_fn(|context| {
            polls.set(polls.get() + 1);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        number
    }

    #[test]
    fn all_end_and_none_is_polled_without_a_reason() {
        for (count, most) in [(0, 4), (1, 1), (1000, 128), (300, 1), (65, 200)] {
            let (polls, mut ended) = (Cell::new(0), Vec::new());
            let futures = (0..count).map(|number| thrice(number, &polls));
            {
                let mut all = pin!(fly(futures, most, |number| ended.push(number)));
                let mut context = Context::from_waker(Waker::noop());
                let turns = (0..10_000).find(|_| all.as_mut().poll(&mut context).is_ready());
                assert!(turns.is_some());
            }
            ended.sort_unstable();
            assert_eq!(ended, (0..count).collect::<Vec<_>>());
            assert_eq!(polls.get(), (0..count).map(|number| number % 3 + 1).sum::<usize>());
        }
    }
}
