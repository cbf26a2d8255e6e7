//! A binary heap over a `Vec` that keeps ties where java.util.PriorityQueue keeps them: which of
//! several matches with one start survives a skip strategy is decided by that order in Flink.
//!
//! The order is by [`Partial::seq`], the number of the row that a partial match began with.

use super::store::Partial;

/// Adds an element.
pub fn push(heap: &mut Vec<Partial>, new: Partial) {
    let mut at = heap.len();
    heap.push(new);
    while at > 0 {
        let parent = (at - 1) / 2;
        if new.seq >= heap[parent].seq {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = new;
}

/// Takes the least element.
pub fn pop(heap: &mut Vec<Partial>) -> Option<Partial> {
    let last = heap.pop()?;
    let Some(&first) = heap.first() else {
        return Some(last);
    };
    sift_down(heap, 0, last);
    Some(first)
}

/// Drops what `keep` refuses; the heap is rebuilt if anything went.
pub fn retain(heap: &mut Vec<Partial>, keep: impl FnMut(&Partial) -> bool) {
    let before = heap.len();
    heap.retain(keep);
    if heap.len() < before {
        for at in (0..heap.len() / 2).rev() {
            let moved = heap[at];
            sift_down(heap, at, moved);
        }
    }
}

fn sift_down(heap: &mut [Partial], mut at: usize, moved: Partial) {
    let half = heap.len() / 2;
    while at < half {
        let mut child = 2 * at + 1;
        if child + 1 < heap.len() && heap[child].seq > heap[child + 1].seq {
            child += 1;
        }
        if moved.seq <= heap[child].seq {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_least_comes_first(seqs in proptest::collection::vec(0..20u64, 0..40),
            cut in 0..20u64) {
            let mut heap = Vec::new();
            for &seq in &seqs {
                push(&mut heap, Partial { seq, ..Partial::start(0) });
            }
            retain(&mut heap, |partial| partial.seq >= cut);
            let mut expected: Vec<u64> = seqs.into_iter().filter(|&seq| seq >= cut).collect();
            expected.sort_unstable();
            let mut got = Vec::new();
            while let Some(partial) = pop(&mut heap) {
                got.push(partial.seq);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
