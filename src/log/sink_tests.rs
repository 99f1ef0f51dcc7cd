//! The sink on a pipe, as standard error often is one.

use std::io::{PipeReader, Read};

use super::*;

fn report(count: u64) -> String {
    format!("dropped {count}\n")
}

/// A sink on a pipe that takes two chunks.
fn small_pipe() -> (PipeReader, Sink) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 2 * CHUNK).unwrap();
    (reader, Sink::new(Stderr::instead(writer)))
}

fn drain(reader: &mut PipeReader, amount: usize) -> String {
    let mut text = vec![0; amount];
    reader.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn full_line(c: char) -> String {
    c.to_string().repeat(CHUNK - 1) + "\n"
}

#[test]
fn a_stopped_reader_costs_one_wait_and_learns_how_much_it_missed() {
    let (mut reader, mut sink) = small_pipe();
    sink.write(&full_line('a'), report);
    sink.write(&full_line('b'), report);
    assert_eq!(sink.patience, PATIENCE, "a pipe with room made it wait");
    let started_at = Instant::now();
    sink.write("c\n", report);
    assert!(started_at.elapsed() >= PATIENCE, "{:?}", started_at.elapsed());
    let waited_until = sink.earned_at;
    for _ in 0..1000 {
        sink.write("d\n", report);
    }
    assert_eq!(sink.earned_at, waited_until, "it waited again");
    assert_eq!(drain(&mut reader, 2 * CHUNK), full_line('a') + &full_line('b'));
    sink.write("e\n", report);
    drop(sink);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "dropped 1001\ne\n");
}

#[test]
fn a_torn_line_is_ended_before_the_next_one() {
    let (mut reader, mut sink) = small_pipe();
    sink.write(&("x".repeat(3 * CHUNK) + "\n"), report);
    assert_eq!(drain(&mut reader, 2 * CHUNK), "x".repeat(2 * CHUNK));
    sink.write("next\n", report);
    drop(sink);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\ndropped 1\nnext\n");
}

#[test]
fn a_slow_reader_loses_nothing() {
    let (mut reader, mut sink) = small_pipe();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let line = "y".repeat(16 * CHUNK) + "\n";
    sink.write(&line, report);
    drop(sink);
    assert!(reading.join().unwrap().unwrap() == line);
}

#[test]
fn a_gone_reader_is_ignored() {
    let (reader, mut sink) = small_pipe();
    drop(reader);
    sink.write("a\n", report);
    sink.write("b\n", report);
    assert_eq!(sink.patience, PATIENCE, "it waited");
    assert_eq!(sink.dropped, 2);
}

#[test]
fn a_slow_reader_earns_patience_back_at_a_tenth() {
    let (_reader, mut sink) = small_pipe();
    sink.write(&full_line('a'), report);
    sink.write(&full_line('b'), report);
    sink.write("c\n", report);
    assert_eq!(sink.patience, Duration::ZERO);
    for (seconds, milliseconds) in [(0, 0), (1, 100), (2, 200), (3600, 200)] {
        let later = sink.earned_at + Duration::from_secs(seconds);
        assert_eq!(sink.credit(later), Duration::from_millis(milliseconds));
    }
    // As if the reader had just woken up a second later, and had stalled again.
    sink.is_stalled = false;
    sink.earned_at -= Duration::from_secs(1);
    let started_at = Instant::now();
    sink.write("d\n", report);
    assert!(started_at.elapsed() >= Duration::from_millis(100), "{:?}", started_at.elapsed());
}
