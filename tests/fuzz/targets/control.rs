//! The control socket: whatever a client writes, cut into pieces anywhere, the server goes on and answers the next one.
#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kmagent::control::{self, server::Server};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SERVER: RefCell<(Server, std::path::PathBuf)> = RefCell::new({
        let directory = std::env::temp_dir().join(format!("km-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        (Server::bind(&directory).unwrap(), control::socket_path(&directory))
    });
}

const NOW: Duration = Duration::from_secs(1);

fuzz_target!(|bytes: &[u8]| {
    // The client's side of it.
    let _ = serde_json::from_slice::<control::Reply>(bytes);
    SERVER.with_borrow_mut(|(server, path)| {
        let mut client = UnixStream::connect(&*path).unwrap();
        client.set_nonblocking(true).unwrap();
        let middle = bytes.first().map_or(0, |&byte| usize::from(byte).min(bytes.len()));
        let mut asked = 0;
        for piece in [&bytes[..middle], &bytes[middle..]] {
            // The server may have hung up.
            let _ = client.write(piece);
            asked += server.serve(NOW).len();
        }
        assert!(asked <= 1, "one client asked {asked} times");
        let _ = client.read(&mut [0u8; 4096]);
        drop(client);

        let mut next = UnixStream::connect(&*path).unwrap();
        next.write_all(b"{\"command\":\"status\"}\n").unwrap();
        assert_eq!(server.serve(NOW).len(), 1, "the next client is not heard");
        drop(next);
        server.serve(NOW);
    });
});
