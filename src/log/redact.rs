//! Known secrets, and how they are masked in a text: as they are, in any ASCII case, and as JSON, Go's `%q` and URLs
//! write them.
//!
//! A config can hold a hundred thousand of them, and each line of the collector's output is looked at: so they are
//! sorted, and a text is gone through once, once more for each level of escapes. Which texts are secret is decided
//! elsewhere (`inspect::secrets`, the API key).

use std::borrow::Cow;
use std::ops::Range;

/// What stands in place of a secret, everywhere.
pub const MASK: &str = "****";

/// How often escapes are undone: an error that quotes a URL, in a line of JSON.
const MAX_LEVELS: usize = 3;

/// Bytes of a secret from which on it is masked wherever it occurs. A shorter one is masked as a whole word only: a key
/// of one letter would take that letter out of every text, and its places would tell what it is.
pub const LONG: usize = 6;

#[derive(Debug, PartialEq)]
pub struct Secrets {
    /// In lower case, sorted by their bytes; none is shorter than `LONG`, none comes twice.
    long: Vec<String>,
    /// The shorter ones, likewise; none is empty, none comes twice.
    short: Vec<String>,
    /// Whether one begins with this byte.
    begins: [bool; 256],
}

impl Default for Secrets {
    fn default() -> Secrets {
        Secrets { long: Vec::new(), short: Vec::new(), begins: [false; 256] }
    }
}

impl Secrets {
    /// Empty texts are left out.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Secrets {
        let mut sorted: Vec<String> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        // A collector that expects a word puts it in lower case before it quotes it.
        sorted.iter_mut().for_each(|secret| secret.make_ascii_lowercase());
        sorted.sort_unstable();
        sorted.dedup();
        let mut begins = [false; 256];
        for secret in &sorted {
            begins[usize::from(secret.as_bytes()[0])] = true;
        }
        let (mut long, short): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|secret| secret.len() >= LONG);
        long.shrink_to_fit();
        Secrets { long, short, begins }
    }

    /// Adds where secrets stand in `view`, in order; those that overlap come each.
    fn find(&self, view: &View<'_>, found: &mut Vec<Range<usize>>) {
        for (at, byte) in view.lower.iter().enumerate() {
            if self.begins[usize::from(*byte)]
                && let Some(length) = self.longest_at_start(&view.lower[at..]).or_else(|| self.word_at(&view.lower, at))
            {
                found.push(view.place(at)..view.place(at + length));
            }
        }
    }

    /// Where the text must end at the latest, so that it does not end in the middle of a secret.
    fn cut(&self, view: &View<'_>) -> Option<usize> {
        let longest = self.long.iter().chain(&self.short).map(String::len).max().unwrap_or(0);
        let from = view.lower.len().saturating_sub(longest);
        let begins = |secrets: &[String], rest: &[u8]| {
            let next = secrets.partition_point(|secret| secret.as_bytes() <= rest);
            secrets.get(next).is_some_and(|secret| secret.as_bytes().starts_with(rest))
        };
        let is_cut = |at: &usize| begins(&self.long, &view.lower[*at..]) || begins(&self.short, &view.lower[*at..]);
        (from..view.lower.len()).find(is_cut).map(|at| view.place(at))
    }

    /// How long the longest of the short secrets is that stands at `at` as a whole word.
    fn word_at(&self, text: &[u8], at: usize) -> Option<usize> {
        (1..LONG).rev().find(|length| {
            let end = at + length;
            let Some(word) = text.get(at..end) else { return false };
            self.short.binary_search_by(|secret| secret.as_bytes().cmp(word)).is_ok()
                && !(is_of_word(last(&text[..at])) && is_of_word(first(word)))
                && !(is_of_word(last(word)) && is_of_word(first(&text[end..])))
        })
    }

    /// How long the longest of the long secrets is that `text` begins with.
    ///
    /// No such secret comes after `text` in the order, so the last one that does not is the first to try. When it
    /// differs somewhere, all those that `text` begins with end before that place.
    fn longest_at_start(&self, mut text: &[u8]) -> Option<usize> {
        loop {
            let after = self.long.partition_point(|secret| secret.as_bytes() <= text);
            let secret = self.long[..after].last()?.as_bytes();
            match secret.iter().zip(text).position(|(a, b)| a != b) {
                None => return Some(secret.len()),
                Some(0) => return None,
                Some(common) => text = &text[..common],
            }
        }
    }
}

/// `text` with each secret of these in it replaced, those that overlap or touch by one mask.
pub fn mask<'a>(all: &[&Secrets], text: &'a str) -> Cow<'a, str> {
    let mut found = Vec::new();
    each_view(text.as_bytes(), &mut |view| all.iter().for_each(|secrets| secrets.find(view, &mut found)));
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut covered = vec![false; text.len()];
    found.into_iter().for_each(|range| covered[range].fill(true));
    let mut masked = String::with_capacity(text.len());
    let mut was_covered = false;
    for (at, character) in text.char_indices() {
        match (covered[at], was_covered) {
            (false, _) => masked.push(character),
            (true, false) => masked.push_str(MASK),
            (true, true) => {}
        }
        was_covered = covered[at];
    }
    Cow::Owned(masked)
}

/// Where a text that goes on must be cut, so that what follows does not begin in the middle of a secret.
pub fn cut(all: &[&Secrets], text: &[u8]) -> usize {
    let mut end = text.len();
    each_view(text, &mut |view| all.iter().filter_map(|it| it.cut(view)).for_each(|at| end = end.min(at)));
    end
}

/// A text, perhaps with its escapes undone.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// The bytes in lower case, as secrets are compared.
    lower: Vec<u8>,
    /// Where each of the bytes, and their end, is in the text; `None` for the text itself.
    places: Option<Vec<usize>>,
}

/// The text, and what it is with more and more escapes undone. Either kind by itself, since a secret may hold what
/// looks like the other.
fn each_view(text: &[u8], see: &mut dyn FnMut(&View<'_>)) {
    View::new(Cow::Borrowed(text), None).each(MAX_LEVELS, see);
}

impl<'a> View<'a> {
    fn new(bytes: Cow<'a, [u8]>, places: Option<Vec<usize>>) -> View<'a> {
        View { lower: bytes.to_ascii_lowercase(), bytes, places }
    }

    fn each(&self, levels: usize, see: &mut dyn FnMut(&View<'_>)) {
        see(self);
        for mark in [b'\\', b'%'].into_iter().filter(|_| levels > 0) {
            if let Some(undone) = self.undone(mark) {
                undone.each(levels - 1, see);
            }
        }
    }

    fn place(&self, at: usize) -> usize {
        self.places.as_ref().map_or(at, |places| places[at])
    }

    /// With the escapes undone that begin with `mark`: those of JSON and Go, or those of URLs; `None` when there is
    /// none. One that is cut off ends the text.
    fn undone(&self, mark: u8) -> Option<View<'static>> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let (mut at, mut is_escaped) = (self.bytes.iter().position(|byte| *byte == mark)?, false);
        bytes.extend_from_slice(&self.bytes[..at]);
        places.extend((0..at).map(|at| self.place(at)));
        while at < self.bytes.len() {
            let escape = if self.bytes[at] == mark { unescape(&self.bytes[at..]) } else { Escape::None };
            let (character, length) = match &escape {
                Escape::None => (&self.bytes[at..=at], 1),
                Escape::Cut => {
                    is_escaped = true;
                    break;
                }
                Escape::Of(character, length) => (character.as_slice(), *length),
            };
            is_escaped |= length > 1;
            bytes.extend_from_slice(character);
            places.resize(bytes.len(), self.place(at));
            at += length;
        }
        places.push(self.place(at));
        is_escaped.then(|| View::new(Cow::Owned(bytes), Some(places)))
    }
}

enum Escape {
    None,
    /// The text may end within it.
    Cut,
    /// It stands for this, and has so many bytes.
    Of(Vec<u8>, usize),
}

/// The escape that `text`, which is not empty, begins with: `%40`, `\n`, `\"`, `\x1b`, `\u0026`, `\U0001f600`.
fn unescape(text: &[u8]) -> Escape {
    let hex = |from: usize, count: usize| {
        let digits = text.get(from..).unwrap_or_default();
        let digits = &digits[..digits.len().min(count)];
        let value = digits.iter().try_fold(0u32, |value, byte| Some(value << 4 | char::from(*byte).to_digit(16)?));
        (value.filter(|_| digits.len() == count), value.is_some() && digits.len() < count)
    };
    let byte = |from: usize, length: usize| match hex(from, 2) {
        (Some(value), _) => Escape::Of(vec![value as u8], length),
        (None, is_cut) => {
            if is_cut {
                Escape::Cut
            } else {
                Escape::None
            }
        }
    };
    let point = |count: usize, length: usize| match hex(2, count) {
        (Some(high @ 0xd800..=0xdbff), _) if text.get(6..8).is_none_or(|next| next == b"\\u") => match hex(8, 4) {
            (Some(low @ 0xdc00..=0xdfff), _) => of(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12),
            (_, is_cut) => {
                if is_cut {
                    Escape::Cut
                } else {
                    Escape::None
                }
            }
        },
        (Some(value), _) => of(value, length),
        (None, is_cut) => {
            if is_cut {
                Escape::Cut
            } else {
                Escape::None
            }
        }
    };
    let one = |character: u8| Escape::Of(vec![character], 2);
    match (text[0], text.get(1)) {
        (b'%', _) => byte(1, 3),
        (b'\\', None) => Escape::Cut,
        (b'\\', Some(character)) => match character {
            b'"' | b'\\' | b'\'' | b'/' => one(*character),
            b'a' => one(7),
            b'b' => one(8),
            b't' => one(b'\t'),
            b'n' => one(b'\n'),
            b'v' => one(11),
            b'f' => one(12),
            b'r' => one(b'\r'),
            b'x' => byte(2, 4),
            b'u' => point(4, 6),
            b'U' => point(8, 10),
            _ => Escape::None,
        },
        _ => Escape::None,
    }
}

fn of(point: u32, length: usize) -> Escape {
    char::from_u32(point).map_or(Escape::None, |it| Escape::Of(it.to_string().into_bytes(), length))
}

/// Whether a letter, digit or underscore is part of a word with such a neighbour.
fn is_of_word(character: Option<char>) -> bool {
    character.is_some_and(|it| it.is_alphanumeric() || it == '_')
}

fn first(text: &[u8]) -> Option<char> {
    (1..=4).find_map(|length| std::str::from_utf8(text.get(..length)?).ok()?.chars().next())
}

fn last(text: &[u8]) -> Option<char> {
    let from = |length| text.len().checked_sub(length);
    (1..=4).find_map(|length| std::str::from_utf8(&text[from(length)?..]).ok()?.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Secrets {
        fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
            mask(&[self], text)
        }

        fn mask_beginning(&self, text: &str) -> String {
            self.mask(&text[..cut(&[self], text.as_bytes())]).into_owned()
        }
    }

    fn secrets(texts: &[&str]) -> Secrets {
        Secrets::new(texts.iter().map(|text| text.to_string()))
    }

    #[test]
    fn masked_text() {
        let few = secrets(&["abcdef", "abcdef123", "", "été-été", "abz", "k"]);
        for (text, expected) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("token abcdef123, abcdef.", "token ****, ****."),
            ("abcdefabcdef", "****"),
            ("abcdef12", "****12"),
            ("abcabcdef", "abc****"),
            ("un été-été!", "un ****!"),
            ("été-ét", "été-ét"),
            ("abzabz", "abzabz"),
            ("abz abz/k", "**** ****/****"),
            ("key=k, k_k, ék, k", "key=****, k_k, ék, ****"),
        ] {
            assert_eq!(few.mask(text), expected);
        }
        assert!(matches!(few.mask("nothing here"), Cow::Borrowed(_)));
        assert!(matches!(Secrets::default().mask("abc"), Cow::Borrowed(_)));
    }

    #[test]
    fn upper_and_lower_case_are_the_same() {
        let few = secrets(&["AbCdEf-Gh", "PiN", "été-É"]);
        for (text, expected) in [
            ("abcdef-gh ABCDEF-GH AbCdEf-Gh", "**** **** ****"),
            ("pin, PIN, pint", "****, ****, pint"),
            ("Été-É été-É ÉTÉ", "Été-É **** ÉTÉ"),
            (r"\x41bcdef\u002dgh %41%42cdef-gh", "**** ****"),
        ] {
            assert_eq!(few.mask(text), expected);
        }
        assert_eq!(few.mask_beginning("x ABCDEF-"), "x ");
    }

    #[test]
    fn nothing_is_left_of_those_that_overlap() {
        let overlapping = secrets(&["abcdef", "defghi", "hijklm"]);
        assert_eq!(overlapping.mask("xabcdefghijklmy"), "x****y");
        assert_eq!(overlapping.mask("abcdefgh abcdefghi"), "****gh ****");
        assert_eq!(secrets(&["aaaaaa"]).mask("aaaaaaaa a"), "**** a");
        assert_eq!(secrets(&["abcdef", "bc", "def-gh"]).mask("abcdef-gh"), "****");
        assert_eq!(secrets(&["a-b", "b-c", "abc.", "abc"]).mask("a-b-c abc. abc.d"), "**** **** ****d");
    }

    #[test]
    fn a_secret_that_is_cut_off_is_left_out() {
        let few = secrets(&["secret", "été-été"]);
        for (text, expected) in [
            ("a secret", "a ****"),
            ("a secret.", "a ****."),
            ("a secre", "a "),
            ("a secret s", "a **** "),
            ("an été", "an "),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(few.mask_beginning(text), expected);
        }
    }

    #[test]
    fn escapes_of_json_go_and_urls_are_seen_through() {
        let few = secrets(&["p@ss\"w\u{e9}", "tab\tnew\n", "a/b c", "%41\\x41&", "k&"]);
        for (text, expected) in [
            (r#""p@ss\"w\u00e9""#, r#""****""#),
            (r#"{"e":"at \"p@ss\\\"wé\""}"#, r#"{"e":"at \"****\""}"#),
            ("user:p%40ss%22w%C3%a9@host", "user:****@host"),
            (r"tab\tnew\x0a", "****"),
            ("?q=a%2Fb%20c&x", "?q=****&x"),
            (r"%41\\x41\u0026 %2541%5Cx41%26", "**** ****"),
            (r"k\u0026 xk\u0026", "**** xk\\u0026"),
            (r"\ud83d\ude00 \ud83d \u00 % %4 \", r"\ud83d\ude00 \ud83d \u00 % %4 \"),
        ] {
            assert_eq!(few.mask(text), expected, "{text}");
        }
        for (text, expected) in [("p%40ss%2", ""), (r#"x p@ss\"#, "x "), (r"x tab\u00", "x "), ("x%5", "x%5")] {
            assert_eq!(few.mask_beginning(text), expected, "{text}");
        }
    }

    /// Against the obvious way to do it, on texts with few different letters.
    #[test]
    fn what_is_masked_is_every_byte_of_every_occurrence() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut below = |limit: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % limit
        };
        for _ in 0..3000 {
            let mut word = |longest| -> String {
                let length = below(longest) + 1;
                (0..length).map(|_| ['a', '-', 'é'][below(3) as usize]).collect()
            };
            let texts: Vec<String> = (0..6).map(|_| word(6)).collect();
            let text = word(40);
            let mut covered = vec![false; text.len()];
            for secret in &texts {
                for (at, _) in text.match_indices(|_: char| true).filter(|(at, _)| text[*at..].starts_with(secret)) {
                    let (before, after) = (&text[..at], &text[at + secret.len()..]);
                    let is_whole = (before.is_empty() || before.ends_with('-') || secret.starts_with('-'))
                        && (after.is_empty() || after.starts_with('-') || secret.ends_with('-'));
                    if secret.len() >= LONG || is_whole {
                        covered[at..at + secret.len()].fill(true);
                    }
                }
            }
            let masked = Secrets::new(texts.clone()).mask(&text).into_owned();
            let left: Vec<u8> = text.bytes().zip(&covered).filter(|(_, covered)| !**covered).map(|(b, _)| b).collect();
            assert_eq!(masked.replace(MASK, "").into_bytes(), left, "{texts:?} in {text}: {masked}");
        }
    }

    #[test]
    fn a_hundred_thousand_cost_little_more_than_one() {
        let many = Secrets::new((0..100_000).map(|number| format!("s{number:07}x")));
        let line = "sending s0099999x to s0100000x: ".repeat(2000);
        let time = |secrets: &Secrets| {
            let began_at = std::time::Instant::now();
            assert_eq!(secrets.mask(&line), "sending **** to s0100000x: ".repeat(2000));
            began_at.elapsed()
        };
        let (one, many) = (time(&Secrets::new(["s0099999x".to_string()])), time(&many));
        // With one `replace` for each of them it would be a hundred thousand times as much.
        assert!(many < one * 1000, "{many:?} instead of {one:?}");
    }
}
