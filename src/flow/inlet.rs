//! The end of a ring, and what was taken from it before its time.
//!
//! 1. What comes out of an inlet comes in the order in which it was sent, whether it waited here or
//!    in the ring.
//! 2. `given` is the newest epoch whose barrier has left the ring, also if it waits here.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::exchange::{Ended, Message};
use crate::ground::ring::Receiver;

/// See the module's head.
pub struct Inlet {
    receiver: Receiver<Message>,
    ahead: VecDeque<Message>,
    given: u64,
    is_over: bool,
}

impl Inlet {
    /// The end of a ring; `ahead` was taken from it by an earlier run.
    pub fn new(receiver: Receiver<Message>, ahead: VecDeque<Message>) -> Inlet {
        Inlet { receiver, ahead, given: 0, is_over: false }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`Ended::Aborted`] if the sender went without saying `End`.
    pub async fn take(&mut self) -> Result<Message, Ended> {
        match self.ahead.pop_front() {
            Some(message) => Ok(message),
            None => {
                let message = self.receiver.receive().await.ok_or(Ended::Aborted)?;
                self.note(&message);
                Ok(message)
            }
        }
    }

    /// Puts messages back that were just taken, in the order in which they were.
    pub fn put_back(&mut self, messages: Vec<Message>) {
        messages.into_iter().rev().for_each(|message| self.ahead.push_front(message));
    }

    /// Empties the ring up to the barrier of an epoch, or a newer one's, or the end.
    pub fn poll_drain(&mut self, epoch: u64, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.is_drained(epoch) {
            match self.receiver.poll_receive(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Err(Ended::Aborted)),
                Poll::Ready(Some(message)) => {
                    self.note(&message);
                    self.ahead.push_back(message);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What waits here.
    pub fn ahead(&self) -> &VecDeque<Message> {
        &self.ahead
    }

    /// The newest epoch whose barrier has left the ring; 0 if none has.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// What is still in the ring, and the end again, which a later run sees too.
    #[cfg(test)]
    pub fn rest(&mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Ok(Some(message)) = self.receiver.try_receive() {
            rest.push(message);
        }
        if self.is_over {
            rest.push(Message::End { finished: true });
        }
        rest
    }

    fn is_drained(&self, epoch: u64) -> bool {
        self.is_over || self.given >= epoch
    }

    fn note(&mut self, message: &Message) {
        match message {
            Message::Barrier { epoch, .. } => self.given = self.given.max(*epoch),
            Message::End { .. } => self.is_over = true,
            Message::Rows(_) | Message::BlockEnd { .. } | Message::Place { .. } => {}
        }
    }
}
