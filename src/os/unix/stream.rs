//! A TCP connection that never blocks and can be waited for.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::wait::Waitable;

#[derive(Debug)]
pub struct NonBlockingStream(TcpStream);

impl NonBlockingStream {
    pub fn new(stream: TcpStream) -> io::Result<NonBlockingStream> {
        stream.set_nonblocking(true)?;
        Ok(NonBlockingStream(stream))
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }
}

impl Read for NonBlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for NonBlockingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
