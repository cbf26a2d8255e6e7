//! A turn that one task of a shard has at a time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Who has it goes on, the others wait .
#[derive(Default)]
pub(super) struct Turn {
    is_taken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    pub async fn take(&self) -> Taken<'_> {
        poll_fn(|context| {
            if !self.is_taken.replace(true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        Taken(self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
