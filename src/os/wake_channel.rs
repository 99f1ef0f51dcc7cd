//! A channel whose `send` interrupts poll(2): a crossbeam channel with an eventfd(2) beside it.
//!
//! The receiver puts `Receiver`'s descriptor into its poll set; that the last sender is gone wakes it too. Nothing else here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::TryRecvError;
use rustix::event::EventfdFlags;

pub fn channel<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let event = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (tx, rx) = crossbeam_channel::unbounded();
    Ok((Sender { tx: Some(tx), event: Arc::clone(&event) }, Receiver { rx, event }))
}

#[derive(Debug)]
pub struct Sender<T> {
    /// `None` only while the sender is being dropped.
    tx: Option<crossbeam_channel::Sender<T>>,
    event: Arc<OwnedFd>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { tx: self.tx.clone(), event: Arc::clone(&self.event) }
    }
}

impl<T> Sender<T> {
    /// False when the receiver is gone, which means stop.
    pub fn send(&self, message: T) -> bool {
        let sent = self.tx.as_ref().is_some_and(|tx| tx.send(message).is_ok());
        self.wake();
        sent
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the receiver is awake anyway.
        let _ = rustix::io::write(&*self.event, &1u64.to_ne_bytes());
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // In this order, or the receiver could look before the channel is closed, and then sleep.
        self.tx = None;
        self.wake();
    }
}

#[derive(Debug)]
pub struct Receiver<T> {
    rx: crossbeam_channel::Receiver<T>,
    event: Arc<OwnedFd>,
}

impl<T> Receiver<T> {
    /// Everything sent so far, and whether all senders are gone. Call it when the descriptor is readable.
    pub fn drain(&self) -> (Vec<T>, bool) {
        // Cleared first: what is sent from here on sets it again.
        let _ = rustix::io::read(&*self.event, &mut [0u8; 8]);
        let mut messages = Vec::new();
        loop {
            match self.rx.try_recv() {
                Ok(message) => messages.push(message),
                Err(TryRecvError::Empty) => return (messages, false),
                Err(TryRecvError::Disconnected) => return (messages, true),
            }
        }
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable<T>(receiver: &Receiver<T>) -> bool {
        let mut fds = [PollFd::new(receiver, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn a_message_and_the_end_of_the_last_sender_both_wake() {
        let (sender, receiver) = channel().unwrap();
        assert!(!readable(&receiver));
        let second = sender.clone();
        assert!(sender.send(1) && second.send(2));
        assert!(readable(&receiver));
        assert_eq!(receiver.drain(), (vec![1, 2], false));
        assert!(!readable(&receiver));
        drop(sender);
        assert_eq!(receiver.drain(), (vec![], false));
        drop(second);
        assert!(readable(&receiver));
        assert_eq!(receiver.drain(), (vec![], true));
    }

    #[test]
    fn a_send_without_a_receiver_is_refused() {
        let (sender, receiver) = channel().unwrap();
        drop(receiver);
        assert!(!sender.send(()));
    }
}
