//! The bytes of one client, with or without TLS, none of which is waited for.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::os::stream::NonBlockingStream;
use crate::os::wait::Waitable;

/// Of what TLS has for the client.
const TLS_BUFFER: usize = 16 * 1024;

#[derive(Debug)]
pub struct ClientStream {
    socket: NonBlockingStream,
    tls: Option<Box<ServerConnection>>,
}

/// It is over with the connection.
#[derive(Debug)]
pub struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Gone {
        Gone
    }
}

/// What was done; `None` if it would have had to wait.
fn done<T>(result: io::Result<T>) -> Result<Option<T>, Gone> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(_) => Err(Gone),
    }
}

/// The same of a read: nothing is the end.
fn read(result: io::Result<usize>) -> Result<Option<usize>, Gone> {
    match done(result)? {
        Some(0) => Err(Gone),
        count => Ok(count),
    }
}

impl ClientStream {
    /// # Errors
    /// TLS cannot be begun with these settings.
    pub fn new(socket: NonBlockingStream, tls: Option<Arc<ServerConfig>>) -> Result<ClientStream, rustls::Error> {
        let tls = tls.map(ServerConnection::new).transpose()?.map(|mut tls| {
            tls.set_buffer_limit(Some(TLS_BUFFER));
            Box::new(tls)
        });
        Ok(ClientStream { socket, tls })
    }

    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    pub fn waitable(&self, has_more_to_write: bool) -> Waitable<'_> {
        match has_more_to_write || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            true => self.socket.waitable_to_write(),
            false => self.socket.waitable(),
        }
    }

    /// So many bytes, which may be none where TLS had some for itself; `None` if there is nothing now.
    pub fn read(&mut self, piece: &mut [u8]) -> Result<Option<usize>, Gone> {
        let Some(tls) = &mut self.tls else { return read(self.socket.read(piece)) };
        // First what is open already: TLS takes no more before that is read.
        if let Some(count) = read(tls.reader().read(piece))? {
            return Ok(Some(count));
        }
        if read(tls.read_tls(&mut self.socket))?.is_none() {
            return Ok(None);
        }
        if tls.process_new_packets().is_err() {
            // The alert says why.
            let _ = tls.write_tls(&mut self.socket);
            return Err(Gone);
        }
        Ok(Some(0))
    }

    /// How many bytes were taken; `None` if the client has to read first.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Gone> {
        read(match &mut self.tls {
            Some(tls) => tls.writer().write(bytes),
            None => self.socket.write(bytes),
        })
    }

    /// What TLS has is written; `false` if the client has to read first.
    pub fn flush(&mut self) -> Result<bool, Gone> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            if done(tls.write_tls(&mut self.socket))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says that nothing follows. To close with something unread would throw away what the client has not read (RFC
    /// 9112, 9.6): `discard` until it has closed.
    pub fn end_writing(&mut self) -> Result<(), Gone> {
        if let Some(mut tls) = self.tls.take() {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {}
        }
        Ok(self.socket.end_writing()?)
    }

    /// Throws away what arrives; `false` if nothing does now.
    pub fn discard(&mut self) -> Result<bool, Gone> {
        Ok(read(self.socket.read(&mut [0; 8 * 1024]))?.is_some())
    }
}
