//! `Raw`: clients as fast as they can, with a new connection for each request and no second attempt.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A connect that a dropped SYN has delayed takes a second, a second one three.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub struct Count {
    pub answered: u64,
    /// How often each failure was seen.
    pub failures: BTreeMap<String, u64>,
    pub slowest: Duration,
}

pub struct Raw {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Count>>,
}

impl Raw {
    pub fn start(at: SocketAddr, clients: usize) -> Raw {
        let ends = Arc::new(AtomicBool::new(false));
        let client = || {
            let ends = Arc::clone(&ends);
            thread::spawn(move || {
                let mut count = Count::default();
                while !ends.load(Ordering::Relaxed) {
                    let began_at = Instant::now();
                    match ask(at) {
                        Ok(()) => count.answered += 1,
                        Err(failure) => *count.failures.entry(failure).or_default() += 1,
                    }
                    count.slowest = count.slowest.max(began_at.elapsed());
                }
                count
            })
        };
        Raw { clients: (0..clients).map(|_| client()).collect(), ends }
    }

    #[track_caller]
    pub fn stop(self, title: &str) -> Count {
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Count::default();
        for count in self.clients.into_iter().map(|client| client.join().unwrap()) {
            all.answered += count.answered;
            all.slowest = all.slowest.max(count.slowest);
            for (failure, times) in count.failures {
                *all.failures.entry(failure).or_default() += times;
            }
        }
        // Past the capture of output: the numbers are the point.
        let _ = std::io::stderr().write_all(format!("\nhandover: {title}: {all:?}\n").as_bytes());
        all
    }
}

/// One request of OTLP by HTTP, without any records.
pub fn ask(at: SocketAddr) -> Result<(), String> {
    let request = "POST /v1/logs HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                   Connection: close\r\n\r\n{}";
    let mut answer = [0u8; 12];
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut answer)?;
        // By a reset, so that ports are not used up; what the server has sent is here.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        Ok(())
    };
    exchange().map_err(|error| error.kind().to_string())?;
    match answer.ends_with(b" 200") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&answer).into_owned()),
    }
}
