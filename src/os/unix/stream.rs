//! TCP connections, and a listener for them, that never block and can be waited for.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

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

    pub fn waitable_to_write(&self) -> Waitable<'_> {
        Waitable::to_write(&self.0)
    }

    /// The other end reads all that was written, and then an end.
    pub fn end_writing(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
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

#[derive(Debug)]
pub struct NonBlockingListener(TcpListener);

impl NonBlockingListener {
    pub fn bind(address: SocketAddr) -> io::Result<NonBlockingListener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(NonBlockingListener(listener))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Until somebody connects.
    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }

    pub fn accept(&self) -> io::Result<NonBlockingStream> {
        let (stream, _) = self.0.accept()?;
        // What is written is whole: to wait for more would cost a pod 40 ms.
        stream.set_nodelay(true)?;
        NonBlockingStream::new(stream)
    }
}
