//! Texts that must never be shown, and how they are masked in others: known secrets, and whatever a URL names as its
//! user.
//!
//! A config can hold a hundred thousand of them, and each line of the collector's output is looked at: so they are
//! sorted, and a text is gone through once. Which texts are secret is decided elsewhere (`inspect::secrets`, the API
//! key).

use std::borrow::Cow;

/// What stands in place of a secret, everywhere.
pub const MASK: &str = "****";

/// `text` with the user part of each URL in it masked.
pub fn mask_url_users(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        // To the end of the word, not only of the authority: an unescaped password may hold a slash.
        let end = after.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(after.len());
        masked.push_str(before);
        rest = match after[..end].rfind('@') {
            Some(at) => {
                masked.push_str(MASK);
                &after[at..]
            }
            None => after,
        };
    }
    masked.push_str(rest);
    masked
}

/// `text`, which is one URL and nothing else, with its user part masked, whatever characters that holds.
pub fn mask_url_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{MASK}@{place}"),
        (None, Some((_, place))) => format!("{MASK}@{place}"),
        (_, None) => text.to_string(),
    }
}

/// Bytes of a secret from which on it is masked wherever it occurs. A shorter one is masked as a whole word only: a key
/// of one letter would take that letter out of every text, and its places would tell what it is.
const LONG: usize = 6;

#[derive(Debug)]
pub struct Secrets {
    /// Sorted by their bytes; none is shorter than `LONG`, none comes twice.
    long: Vec<String>,
    /// The shorter ones, sorted; none is empty, none comes twice.
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

    /// `text` with each secret in it replaced; of several that overlap nothing is left.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some((mut start, mut end)) = self.find(text, 0) else { return Cow::Borrowed(text) };
        let (mut masked, mut rest) = (String::with_capacity(text.len()), 0);
        loop {
            // One may begin within another and reach further.
            let mut at = start + 1;
            while at < end {
                end = end.max(self.end_of(text, at).unwrap_or(at));
                at += 1;
            }
            masked.push_str(&text[rest..start]);
            masked.push_str(MASK);
            rest = end;
            match self.find(text, end) {
                Some(found) => (start, end) = found,
                None => break,
            }
        }
        masked.push_str(&text[rest..]);
        Cow::Owned(masked)
    }

    /// `mask` for a text whose end is cut off: what may be the beginning of a secret at its end is left out.
    pub fn mask_beginning(&self, text: &str) -> String {
        let all = || self.long.iter().chain(&self.short);
        let longest = all().map(String::len).max().unwrap_or(0);
        let from = text.ceil_char_boundary(text.len().saturating_sub(longest));
        let begins = |rest: &str| all().any(|secret| secret.len() > rest.len() && secret.starts_with(rest));
        let is_cut = |at: &usize| begins(&text[*at..]);
        let cut = (from..text.len()).filter(|at| text.is_char_boundary(*at)).find(is_cut).unwrap_or(text.len());
        self.mask(&text[..cut]).into_owned()
    }

    /// Where the first secret from `from` on begins and ends; both are between characters, as a secret is text itself.
    fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        (from..text.len()).find_map(|at| Some((at, self.end_of(text, at)?)))
    }

    /// Where the longest secret ends that begins at `at`.
    fn end_of(&self, text: &str, at: usize) -> Option<usize> {
        let rest = &text.as_bytes()[at..];
        let may_begin = self.begins[usize::from(rest[0])];
        may_begin.then(|| self.longest_at_start(rest).or_else(|| self.word_at(text, at)))?.map(|length| at + length)
    }

    /// How long the longest of the short secrets is that stands at `at` as a whole word.
    fn word_at(&self, text: &str, at: usize) -> Option<usize> {
        let before = text[..at].chars().next_back();
        (1..LONG).rev().find(|length| {
            let Some(word) = text.get(at..at + length) else { return false };
            let after = text[at + length..].chars().next();
            !joins(before, word.chars().next())
                && !joins(word.chars().next_back(), after)
                && self.short.binary_search_by(|secret| secret.as_str().cmp(word)).is_ok()
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

/// Whether two neighbours belong to one word.
fn joins(left: Option<char>, right: Option<char>) -> bool {
    let is_of_word = |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
    is_of_word(left) && is_of_word(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Secrets {
        Secrets::new(texts.iter().map(|text| text.to_string()))
    }

    #[test]
    fn the_user_of_every_url_is_masked() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a@b", "a@b"),
            ("https://host/path", "https://host/path"),
            ("https://user:pw@host/path", "https://****@host/path"),
            ("https://user:p/w@host/path", "https://****@host/path"),
            ("curl 'https://u:p@a' \"http://v:q@b\" x@y", "curl 'https://****@a' \"http://****@b\" x@y"),
            ("two\nhttp://u@lines\n", "two\nhttp://****@lines\n"),
        ] {
            assert_eq!(mask_url_users(text), expected);
        }
    }

    #[test]
    fn the_user_of_one_url_is_masked_whatever_it_holds() {
        for (text, expected) in [
            ("https://host/path", "https://host/path"),
            ("https://user:p w\"#?/@x@host/path", "https://****@host/path"),
            ("user:p/w@host", "****@host"),
            ("no URL at all", "no URL at all"),
        ] {
            assert_eq!(mask_url_user(text), expected);
        }
    }

    #[test]
    fn masked_text() {
        let few = secrets(&["abcdef", "abcdef123", "", "été-été", "abz", "k"]);
        for (text, expected) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("token abcdef123, abcdef.", "token ****, ****."),
            ("abcdefabcdef", "********"),
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
