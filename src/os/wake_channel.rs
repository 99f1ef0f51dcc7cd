//! A channel whose `send` ends a wait: a crossbeam channel with an `Event` beside it.
//!
//! The receiver waits for `Receiver::waitable` among others; that the last sender is gone wakes it too. Nothing else
//! here.

use std::io;
use std::sync::Arc;

use crossbeam_channel::TryRecvError;

use crate::os::event::Event;
use crate::os::wait::Waitable;

pub fn channel<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let event = Arc::new(Event::new()?);
    let (tx, rx) = crossbeam_channel::unbounded();
    Ok((Sender { tx: Some(tx), event: Arc::clone(&event) }, Receiver { rx, event }))
}

#[derive(Debug)]
pub struct Sender<T> {
    /// `None` only while the sender is being dropped.
    tx: Option<crossbeam_channel::Sender<T>>,
    event: Arc<Event>,
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
        self.event.ring();
        sent
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // In this order, or the receiver could look before the channel is closed, and then sleep.
        self.tx = None;
        self.event.ring();
    }
}

#[derive(Debug)]
pub struct Receiver<T> {
    rx: crossbeam_channel::Receiver<T>,
    event: Arc<Event>,
}

impl<T> Receiver<T> {
    /// Everything sent so far, and whether all senders are gone. Call it after any wake.
    pub fn drain(&self) -> (Vec<T>, bool) {
        // Cleared first: what is sent from here on sets it again.
        self.event.clear();
        let mut messages = Vec::new();
        loop {
            match self.rx.try_recv() {
                Ok(message) => messages.push(message),
                Err(TryRecvError::Empty) => return (messages, false),
                Err(TryRecvError::Disconnected) => return (messages, true),
            }
        }
    }

    pub fn waitable(&self) -> Waitable<'_> {
        self.event.waitable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::wait::wait;
    use std::time::Instant;

    fn rings<T>(receiver: &Receiver<T>) -> bool {
        wait(&[receiver.waitable()], Some(Instant::now())).unwrap()
    }

    #[test]
    fn a_message_and_the_end_of_the_last_sender_both_wake() {
        let (sender, receiver) = channel().unwrap();
        assert!(!rings(&receiver));
        let second = sender.clone();
        assert!(sender.send(1) && second.send(2));
        assert!(rings(&receiver));
        assert_eq!(receiver.drain(), (vec![1, 2], false));
        assert!(!rings(&receiver));
        drop(sender);
        assert_eq!(receiver.drain(), (vec![], false));
        drop(second);
        assert!(rings(&receiver));
        assert_eq!(receiver.drain(), (vec![], true));
    }

    #[test]
    fn a_send_without_a_receiver_is_refused() {
        let (sender, receiver) = channel().unwrap();
        drop(receiver);
        assert!(!sender.send(()));
    }
}
