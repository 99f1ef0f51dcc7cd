//! What a child prints: cut into lines, with the last of them kept for error messages.
//!
//! It owns no descriptor and writes nothing. A line is passed on whole up to `LINE_LIMIT` bytes; a longer one is cut
//! there. Of a command that is run to its end the beginning matters too: a `Transcript` has all of it, and `gist` is
//! what fits a message.

use std::collections::VecDeque;

use crate::log::{Masked, masked};

/// Bytes of the longest line that is passed on whole.
pub const LINE_LIMIT: usize = 64 * 1024;
/// Bytes of last lines that are kept: a collector's fatal error and what led to it, well within the 4 KiB of a report.
const TAIL_LIMIT: usize = 2 * 1024;
/// Bytes of a transcript, its last lines apart: forty bad statements of one processor take 12 KiB, and it is read but
/// once.
const TRANSCRIPT_LIMIT: usize = 64 * 1024;
/// Bytes of a gist at most: with what is said around it, it must stay within the 4 KiB of a report.
pub const GIST_LIMIT: usize = 3 * 1024;
const OMISSION: &str = "\n[...]\n";

#[derive(Debug, Default)]
pub struct Output {
    line: Vec<u8>,
    tail: Tail,
}

/// The last lines. Whole ones, so that a secret in one is recognised: as many as it takes to have `TAIL_LIMIT` bytes.
#[derive(Debug, Default)]
pub struct Tail(VecDeque<Vec<u8>>);

impl Tail {
    pub fn push(&mut self, line: &[u8]) {
        self.0.push_back(line.to_vec());
        let mut size: usize = self.iter().map(|line| line.len() + 1).sum();
        while let Some(oldest) = self.0.front()
            && size - oldest.len() > TAIL_LIMIT
        {
            size -= oldest.len() + 1;
            self.0.pop_front();
        }
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl Output {
    /// Takes what was read, gives each complete line (without its newline) to `emit`.
    pub fn feed(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE_LIMIT - self.line.len();
            match bytes.iter().take(room + 1).position(|&byte| byte == b'\n') {
                Some(end) => {
                    self.line.extend_from_slice(&bytes[..end]);
                    self.finish_line(emit);
                    bytes = &bytes[end + 1..];
                }
                None => {
                    let (now, later) = bytes.split_at(bytes.len().min(room));
                    self.line.extend_from_slice(now);
                    if self.line.len() == LINE_LIMIT {
                        self.cut_line(emit);
                    }
                    bytes = later;
                }
            }
        }
    }

    /// The stream has ended: what is left is a line too.
    pub fn end(&mut self, emit: &mut dyn FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.finish_line(emit);
        }
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Masked {
        let mut text = Vec::new();
        for line in self.tail.iter() {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        // Whole lines, unless the last one alone is too long.
        Masked::new(&String::from_utf8_lossy(&text)).part(|text| {
            let text = text.trim();
            let last = &text[text.ceil_char_boundary(text.len().saturating_sub(TAIL_LIMIT))..];
            let begins_line = last.len() == text.len() || text[..text.len() - last.len()].ends_with('\n');
            let next = last.find('\n').filter(|_| !begins_line).map_or(0, |end| end + 1);
            last[next..].trim()
        })
    }

    /// What is there of a line that is too long is a line; but for what may be the beginning of a secret, which goes
    /// into the next one.
    fn cut_line(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let cut = masked::cut(&self.line);
        let rest = if cut > LINE_LIMIT / 2 { self.line.split_off(cut) } else { Vec::new() };
        self.finish_line(emit);
        self.line = rest;
    }

    fn finish_line(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        emit(text);
        self.tail.push(text);
    }
}

/// What a command printed, whole unless it is beyond reason: then its beginning, to go with its last lines.
#[derive(Debug, Default)]
pub struct Transcript {
    text: Vec<u8>,
    is_full: bool,
}

impl Transcript {
    pub fn add(&mut self, line: &[u8]) {
        self.is_full |= self.text.len() + line.len() >= TRANSCRIPT_LIMIT;
        if !self.is_full {
            self.text.extend_from_slice(line);
            self.text.push(b'\n');
        }
    }

    /// All of it; `tail` stands for what was too much.
    pub fn close(self, tail: &str) -> Masked {
        let text = String::from_utf8_lossy(&self.text);
        let tail = if self.is_full { [OMISSION, tail].concat() } else { String::new() };
        Masked::new([text.trim(), &tail].concat().trim())
    }
}

/// The first and the last lines, where all of it would be too long for a message: what it is about stands at the
/// beginning, what it came to at the end. It takes a masked one, since a cut could make a secret unrecognisable.
pub fn gist(text: &Masked) -> Masked {
    if text.len() <= GIST_LIMIT {
        return text.clone();
    }
    let half = (GIST_LIMIT - OMISSION.len()) / 2;
    let first = &text[..text.floor_char_boundary(half)];
    let last = &text[text.ceil_char_boundary(text.len() - half)..];
    // Whole lines, unless one alone is too long.
    let first = first.rfind('\n').map_or(first, |end| &first[..end]);
    let last = last.find('\n').map_or(last, |end| &last[end + 1..]);
    Masked::new(&[first, OMISSION, last].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Output) {
        let mut output = Output::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            output.feed(chunk, &mut |line| lines.push(line.to_vec()));
        }
        output.end(&mut |line| lines.push(line.to_vec()));
        (lines, output)
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let expected: Vec<Vec<u8>> = [&b"one"[..], b"", b"two", b"last"].map(<[u8]>::to_vec).into();
        assert_eq!(lines(&[b"one\n\ntwo\r\nlast"]).0, expected);
        assert_eq!(lines(&[b"o", b"ne\n", b"\nt", b"wo\r", b"\nlast"]).0, expected);
        assert!(lines(&[b""]).0.is_empty());
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_a_longer_one_is_cut() {
        let mut long = vec![b'x'; LINE_LIMIT - 1];
        long.push(b'\n');
        assert_eq!(lines(&[&long]).0.len(), 1);
        let (cut, _) = lines(&[&vec![b'x'; 2 * LINE_LIMIT + 5]]);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [LINE_LIMIT, LINE_LIMIT, 5]);
    }

    #[test]
    fn the_tail_holds_the_last_whole_lines() {
        let many: Vec<u8> = (0..1000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let tail = lines(&[&many]).1.tail();
        assert!(tail.len() <= TAIL_LIMIT && tail.ends_with("line 998\nline 999"));
        assert!(tail.lines().all(|line| line.starts_with("line ")));
        let tail = lines(&[&vec![b'y'; LINE_LIMIT]]).1.tail();
        assert!(tail.len() > TAIL_LIMIT / 2 && tail.len() <= TAIL_LIMIT);
        assert_eq!(&*lines(&[b"\xff bad"]).1.tail(), "\u{fffd} bad");
    }

    #[test]
    fn a_transcript_is_whole_or_says_that_it_is_not() {
        let close = |lines: &[&[u8]], tail: &str| {
            let mut transcript = Transcript::default();
            lines.iter().for_each(|line| transcript.add(line));
            transcript.close(tail)
        };
        assert_eq!(&*close(&[], ""), "");
        assert_eq!(&*close(&[b"one", b"", b"two", b""], "two"), "one\n\ntwo");
        let long = vec![b'x'; TRANSCRIPT_LIMIT];
        assert_eq!(&*close(&[b"one", &long, b"two"], "two"), "one\n[...]\ntwo");
        assert_eq!(&*close(&[&long], "xx"), "[...]\nxx");
    }

    #[test]
    fn a_gist_has_the_first_and_the_last_whole_lines() {
        let short = "x".repeat(GIST_LIMIT);
        assert_eq!(*gist(&short.as_str().into()), short);
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
        let text = lines.join("\n");
        let found = gist(&text.as_str().into());
        assert!(found.len() <= GIST_LIMIT && found.len() > GIST_LIMIT - 50, "{}", found.len());
        assert!(found.starts_with("line 0\nline 1\n") && found.ends_with("\nline 998\nline 999"), "{found}");
        assert!(found.lines().all(|line| line == "[...]" || lines.iter().any(|whole| whole == line)), "{found}");
        let found = gist(&"é".repeat(GIST_LIMIT).into());
        assert!(found.len() <= GIST_LIMIT && found.starts_with('é') && found.ends_with('é'), "{found}");
    }
}
