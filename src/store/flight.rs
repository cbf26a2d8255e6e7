//! Several futures of one kind under way together, within one task.
//!
//! 1. At most `most` are under way; the others are not begun.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures and hands each result to `each`, in the order in which they end.
pub async fn fly<F: Future>(
    futures: impl IntoIterator<Item = F>,
    most: usize,
    mut each: impl FnMut(F::Output),
) {
    let mut futures = futures.into_iter();
    let mut aloft: Vec<Pin<Box<F>>> = Vec::new();
    poll_fn(|context| {
        loop {
            let mut has_landed = false;
            let mut i = 0;
            while i < aloft.len() {
                match aloft[i].as_mut().poll(context) {
                    Poll::Ready(value) => {
                        drop(aloft.swap_remove(i));
                        each(value);
                        has_landed = true;
                    }
                    Poll::Pending => i += 1,
                }
            }
            let before = aloft.len();
            aloft.extend(futures.by_ref().take(most.max(1) - before).map(Box::pin));
            if aloft.is_empty() {
                return Poll::Ready(());
            }
            // What was begun just now must be polled once.
            if aloft.len() == before && !has_landed {
                return Poll::Pending;
            }
        }
    })
    .await;
}
