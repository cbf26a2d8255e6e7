//! The thread that reads a source: it may block there, so the shards need not. It numbers the
//! blocks and deals them to the shards in turn; a shard that is behind stops it. Behind a barrier
//! it begins with the first shard again: so does a run that goes on from there.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::RunError;
use super::epochs::Epochs;
use super::latency::Arrival;
use crate::ground::ring::{Receiver, Sender};
use crate::port::{Block, Next, Source, Text};

/// What a reader deals to a shard.
pub enum Dealt {
    Block {
        block: Block,
        arrival: Arrival,
        /// Where the source stands behind it.
        position: Option<u64>,
    },
    /// Nothing came for a while; `idle` once it was as long as the source's `idle_after`.
    Nothing { idle: bool },
    /// The blocks so far end an epoch.
    Barrier { epoch: u64 },
    /// The last message; see [`super::exchange::Message::End`].
    End { finished: bool },
}

/// A source and how it is read.
pub struct Reader {
    pub name: String,
    /// Its place among the run's sources.
    pub place: usize,
    pub source: Box<dyn Source>,
    /// Where it goes on from.
    pub resume: Option<u64>,
    /// Longest wait for a block of a live source, ms (`batch_timeout`).
    pub wait_ms: u64,
    /// Without rows for so long the source holds no watermark back, ms.
    pub idle_after_ms: Option<u64>,
    /// The clock, nanoseconds, for when a live source's blocks come; none where that means nothing.
    pub ticks_ns: Option<Box<dyn Fn() -> u64 + Send>>,
}

impl Reader {
    /// Reads to the end, or until `stop`. Blocks while the source does: to be run on a thread of
    /// its own by [`block_on`], or by a simulated host.
    ///
    /// # Errors
    /// The source's; the shards then see their rings closed.
    pub async fn run(
        mut self,
        mut shards: Vec<Sender<Dealt>>,
        mut used: Vec<Receiver<Text>>,
        stop: &AtomicBool,
        epochs: &Epochs,
    ) -> Result<(), RunError> {
        // None begins before all sources are where they go on from.
        let mut epoch = epochs.wanted();
        if let Some(position) = self.resume {
            let resumed = self.source.resume(position);
            resumed.map_err(|error| RunError::of(&self.name, error))?;
        }
        epochs.note_begin(self.place, self.source.position());
        let (mut turn, mut quiet_ms) = (0, 0u64);
        loop {
            if epochs.wanted() > epoch {
                epoch = epochs.wanted();
                epochs.note_barrier(self.place, epoch, self.source.position());
                turn = 0;
                for shard in &mut shards {
                    if shard.send(Dealt::Barrier { epoch }).await.is_err() {
                        return Ok(()); // The shard is gone and has said why.
                    }
                }
            }
            if stop.load(Ordering::Relaxed) {
                self.note_end(epochs);
                end(&mut shards, false).await;
                return Ok(());
            }
            for ring in &mut used {
                while let Ok(Some(text)) = ring.try_receive() {
                    self.source.recycle(text);
                }
            }
            let next = self.source.next(self.wait_ms);
            let dealt = match next.map_err(|error| RunError::of(&self.name, error))? {
                Next::Block(block) => {
                    quiet_ms = 0;
                    let arrival = self.ticks_ns.as_ref().map(|ticks| ticks());
                    Dealt::Block { block, arrival, position: self.source.position() }
                }
                Next::Idle => {
                    quiet_ms += self.wait_ms;
                    let idle = self.idle_after_ms.is_some_and(|after| quiet_ms >= after);
                    Dealt::Nothing { idle }
                }
                Next::End => {
                    self.note_end(epochs);
                    end(&mut shards, true).await;
                    return Ok(());
                }
            };
            if shards[turn].send(dealt).await.is_err() {
                return Ok(()); // The shard is gone and has said why.
            }
            turn = (turn + 1) % shards.len();
        }
    }
}

impl Reader {
    fn note_end(&self, epochs: &Epochs) {
        epochs.note_end(self.place, self.source.position());
    }
}

async fn end(shards: &mut [Sender<Dealt>], finished: bool) {
    for shard in shards {
        // A shard that is gone needs no end.
        let _ = shard.send(Dealt::End { finished }).await;
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, which has no executor.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
