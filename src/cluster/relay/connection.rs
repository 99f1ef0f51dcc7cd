//! One client: from its handshake over its requests to its end. A turn does what can be done without waiting.
//!
//! ```text
//!   Handshake ──▶ Head ──▶ Body ──▶ Answer ──▶ Idle ──▶ Head …
//!                  └────────────────▶ │
//!                                     └─▶ Closing (what it still sends is thrown away, so that it reads its answer)
//! ```
//! Each has a deadline of its own, which no byte that arrives moves. While there is an answer to be written nothing is
//! read, so requests that are sent ahead wait in the kernel.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::client_stream::{ClientStream, Gone};
use super::http::{self, Body, Head, Response};
use super::server::{BODY_LIMIT, HEAD_LIMIT, Respond};
use crate::core::Uptime;
use crate::os::stream::NonBlockingStream;
use crate::os::wait::Waitable;

pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For 8 MiB at 1.1 Mbit/s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// For the answer to arrive, and the client's own end.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads and writes in one turn; then it is the others' turn.
const ROUNDS: usize = 16;
/// In one of them.
const PIECE: usize = 8 * 1024;

#[derive(Debug)]
pub struct Connection {
    stream: ClientStream,
    phase: Phase,
    until: Uptime,
    /// It has passed `respond_to_head`.
    is_admitted: bool,
    /// Of the present request, and at most a piece of what follows it.
    received: Vec<u8>,
    /// So much of it has no end of a head.
    searched: usize,
    answer: Option<Answer>,
    /// A turn has ended before there was nothing left to do.
    has_more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Head,
    /// The whole request has so many bytes, the head so many of them.
    Body {
        head: usize,
        length: usize,
    },
    Answer {
        keeps_alive: bool,
    },
    Idle,
    Closing,
}

#[derive(Debug)]
struct Answer {
    head: Vec<u8>,
    body: Body,
    /// Of all parts.
    sent: usize,
}

impl Answer {
    /// What is to be written next; empty when all is.
    fn rest(&self) -> &[u8] {
        let mut sent = self.sent;
        for part in [&self.head[..]].into_iter().chain(self.body.parts()) {
            match part.get(sent..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => sent -= part.len(),
            }
        }
        &[]
    }
}

impl Connection {
    pub fn new(
        stream: NonBlockingStream,
        tls: Option<Arc<ServerConfig>>,
        now: Uptime,
    ) -> Result<Connection, rustls::Error> {
        let stream = ClientStream::new(stream, tls)?;
        let (phase, timeout) = match stream.is_handshaking() {
            true => (Phase::Handshake, HANDSHAKE_TIMEOUT),
            false => (Phase::Head, HEAD_TIMEOUT),
        };
        Ok(Connection {
            stream,
            phase,
            until: now + timeout,
            is_admitted: false,
            received: Vec::new(),
            searched: 0,
            answer: None,
            has_more: false,
        })
    }

    pub fn waitable(&self) -> Waitable<'_> {
        self.stream.waitable(self.answer.is_some())
    }

    pub fn deadline(&self) -> Uptime {
        if self.has_more { Uptime::ZERO } else { self.until }
    }

    /// Nobody loses anything that was promised if it has to go.
    pub fn is_dispensable(&self) -> bool {
        !self.is_admitted
    }

    /// Whether it goes on.
    pub fn turn(&mut self, now: Uptime, respond: &mut impl Respond) -> bool {
        if now >= self.until && !self.expire(now) {
            return false;
        }
        self.has_more = true;
        for _ in 0..ROUNDS {
            match self.advance(now, respond) {
                Ok(true) => {}
                Ok(false) => {
                    self.has_more = false;
                    return true;
                }
                Err(Gone) => return false,
            }
        }
        true
    }

    /// A client that has begun to ask is told that it was too slow; others just lose their connection.
    fn expire(&mut self, now: Uptime) -> bool {
        let has_begun = match self.phase {
            Phase::Head => !self.received.is_empty(),
            Phase::Body { .. } => true,
            _ => false,
        };
        if has_begun {
            self.answer(now, Response::status(408), false);
        }
        has_begun
    }

    /// One step; `false` if there is nothing to do but wait.
    fn advance(&mut self, now: Uptime, respond: &mut impl Respond) -> Result<bool, Gone> {
        if !self.flush()? {
            return Ok(false);
        }
        match self.phase {
            Phase::Answer { keeps_alive: true } => {
                // Of a client that has sent its next request already, the time runs.
                self.enter(if self.received.is_empty() { Phase::Idle } else { Phase::Head }, now);
                self.is_admitted = false;
            }
            Phase::Answer { keeps_alive: false } => self.close(now)?,
            Phase::Closing => return self.stream.discard(),
            Phase::Handshake if !self.stream.is_handshaking() => self.enter(Phase::Head, now),
            Phase::Idle if !self.received.is_empty() => self.enter(Phase::Head, now),
            _ => return if self.ask(now, respond) { Ok(true) } else { self.read() },
        }
        Ok(true)
    }

    fn enter(&mut self, phase: Phase, now: Uptime) {
        self.phase = phase;
        self.until = now
            + match phase {
                Phase::Handshake => HANDSHAKE_TIMEOUT,
                Phase::Head => HEAD_TIMEOUT,
                Phase::Body { .. } => BODY_TIMEOUT,
                Phase::Answer { .. } => ANSWER_TIMEOUT,
                Phase::Idle => IDLE_TIMEOUT,
                Phase::Closing => CLOSING_TIMEOUT,
            };
    }

    /// Whether what was received led to something else than more reading.
    fn ask(&mut self, now: Uptime, respond: &mut impl Respond) -> bool {
        match self.phase {
            Phase::Head => self.ask_with_head(now, respond),
            Phase::Body { head, length } if self.received.len() >= length => {
                let response = match http::parse(&self.received[..head]) {
                    Ok(parsed) => {
                        let request = http::Request { body: &self.received[head..length], ..parsed.request };
                        (respond.respond(now, &request), parsed.keeps_alive, is_head(&parsed))
                    }
                    Err(status) => (Response::status(status), false, false),
                };
                self.consume(length);
                self.respond(now, response);
                true
            }
            _ => false,
        }
    }

    fn ask_with_head(&mut self, now: Uptime, respond: &mut impl Respond) -> bool {
        // RFC 9112, 2.2: an empty line before a request is none.
        let blank = self.received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.received.drain(..blank);
        self.searched = self.searched.saturating_sub(blank);
        let Some(end) = http::end_of_head(&self.received, self.searched) else {
            self.searched = self.received.len();
            if self.received.len() >= HEAD_LIMIT {
                self.answer(now, Response::status(431), false);
                return true;
            }
            return false;
        };
        self.searched = 0;
        let response = match http::parse(&self.received[..end]) {
            _ if end > HEAD_LIMIT => (Response::status(431), false, false),
            Err(status) => (Response::status(status), false, false),
            Ok(head) => match respond.respond_to_head(&head.request) {
                // A body that is not read ends the connection.
                Some(response) => {
                    let keeps_alive = head.keeps_alive && head.body_length == 0;
                    (response, keeps_alive, is_head(&head))
                }
                None if head.body_length > BODY_LIMIT => (Response::status(413), false, is_head(&head)),
                None => {
                    let length = end + head.body_length;
                    self.is_admitted = true;
                    // Doubling would take more than there is to come.
                    self.received.reserve_exact(length.saturating_sub(self.received.len()));
                    self.enter(Phase::Body { head: end, length }, now);
                    return true;
                }
            },
        };
        self.consume(end);
        self.respond(now, response);
        true
    }

    /// A connection that is only kept has no buffer.
    fn consume(&mut self, length: usize) {
        self.received.drain(..length);
        if self.received.is_empty() {
            self.received = Vec::new();
        }
    }

    fn respond(&mut self, now: Uptime, (mut response, keeps_alive, is_head): (Response, bool, bool)) {
        if is_head {
            response.body = Body::default();
        }
        self.answer(now, response, keeps_alive);
    }

    fn answer(&mut self, now: Uptime, response: Response, keeps_alive: bool) {
        self.answer = Some(Answer { head: response.head(keeps_alive), body: response.body, sent: 0 });
        self.enter(Phase::Answer { keeps_alive }, now);
    }

    /// `false` if there is nothing more to read now.
    fn read(&mut self) -> Result<bool, Gone> {
        // Room for what is missing: what follows a request is of no interest before that is answered.
        let room = match self.phase {
            Phase::Body { length, .. } => length - self.received.len(),
            _ => HEAD_LIMIT.saturating_sub(self.received.len()).max(1),
        };
        let mut piece = [0; PIECE];
        let piece = &mut piece[..room.min(PIECE)];
        let Some(count) = self.stream.read(piece)? else { return Ok(false) };
        self.received.extend_from_slice(&piece[..count]);
        Ok(true)
    }

    /// `false` if the client has to read first.
    fn flush(&mut self) -> Result<bool, Gone> {
        loop {
            if !self.stream.flush()? {
                return Ok(false);
            }
            let Some(answer) = &mut self.answer else { return Ok(true) };
            let rest = answer.rest();
            if rest.is_empty() {
                self.answer = None;
                continue;
            }
            let Some(count) = self.stream.write(rest)? else { return Ok(false) };
            answer.sent += count;
        }
    }

    #[cfg(test)]
    pub fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    #[cfg(test)]
    pub fn received(&self) -> usize {
        self.received.len()
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.received.capacity()
    }

    fn close(&mut self, now: Uptime) -> Result<(), Gone> {
        self.stream.end_writing()?;
        self.received = Vec::new();
        self.is_admitted = false;
        self.enter(Phase::Closing, now);
        Ok(())
    }
}

fn is_head(head: &Head) -> bool {
    head.request.method == "HEAD"
}
