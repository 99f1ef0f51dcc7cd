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

#[derive(Debug)]
pub struct Secrets {
    /// Sorted by their bytes; none is empty, none comes twice.
    sorted: Vec<String>,
    /// Whether one begins with this byte.
    begins: [bool; 256],
}

impl Default for Secrets {
    fn default() -> Secrets {
        Secrets { sorted: Vec::new(), begins: [false; 256] }
    }
}

impl Secrets {
    /// Empty texts are left out.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Secrets {
        let mut sorted: Vec<String> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.shrink_to_fit();
        let mut begins = [false; 256];
        for secret in &sorted {
            begins[usize::from(secret.as_bytes()[0])] = true;
        }
        Secrets { sorted, begins }
    }

    /// `text` with each secret in it replaced; of several that overlap nothing is left.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let bytes = text.as_bytes();
        let Some((mut start, mut end)) = self.find(bytes, 0) else { return Cow::Borrowed(text) };
        let (mut masked, mut rest) = (String::with_capacity(text.len()), 0);
        loop {
            // One may begin within another and reach further.
            let mut at = start + 1;
            while at < end {
                end = end.max(self.end_of(bytes, at).unwrap_or(at));
                at += 1;
            }
            masked.push_str(&text[rest..start]);
            masked.push_str(MASK);
            rest = end;
            match self.find(bytes, end) {
                Some(found) => (start, end) = found,
                None => break,
            }
        }
        masked.push_str(&text[rest..]);
        Cow::Owned(masked)
    }

    /// `mask` for a text whose end is cut off: what may be the beginning of a secret at its end is left out.
    pub fn mask_beginning(&self, text: &str) -> String {
        let longest = self.sorted.iter().map(String::len).max().unwrap_or(0);
        let from = text.ceil_char_boundary(text.len().saturating_sub(longest));
        let begins =
            |rest: &str| self.sorted.iter().any(|secret| secret.len() > rest.len() && secret.starts_with(rest));
        let is_cut = |at: &usize| begins(&text[*at..]);
        let cut = (from..text.len()).filter(|at| text.is_char_boundary(*at)).find(is_cut).unwrap_or(text.len());
        self.mask(&text[..cut]).into_owned()
    }

    /// Where the first secret from `from` on begins and ends; both are between characters, as a secret is text itself.
    fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        (from..text.len()).find_map(|at| Some((at, self.end_of(text, at)?)))
    }

    /// Where the longest secret ends that begins at `at`.
    fn end_of(&self, text: &[u8], at: usize) -> Option<usize> {
        let may_begin = self.begins[usize::from(text[at])];
        may_begin.then(|| self.longest_at_start(&text[at..]))?.map(|length| at + length)
    }

    /// How long the longest secret is that `text` begins with.
    ///
    /// No such secret comes after `text` in the order, so the last one that does not is the first to try. When it
    /// differs somewhere, all those that `text` begins with end before that place.
    fn longest_at_start(&self, mut text: &[u8]) -> Option<usize> {
        loop {
            let after = self.sorted.partition_point(|secret| secret.as_bytes() <= text);
            let secret = self.sorted[..after].last()?.as_bytes();
            match secret.iter().zip(text).position(|(a, b)| a != b) {
                None => return Some(secret.len()),
                Some(0) => return None,
                Some(common) => text = &text[..common],
            }
        }
    }
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
    fn masked_text() {
        let few = secrets(&["abcdef", "abcdef123", "", "été-été", "abz", "k"]);
        for (text, expected) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("token abcdef123, abcdef.", "to****en ****, ****."),
            ("abcdefabcdef", "********"),
            ("abcdef12", "****12"),
            ("abcabcdef", "abc****"),
            ("un été-été!", "un ****!"),
            ("été-ét", "été-ét"),
            ("abzabz", "********"),
        ] {
            assert_eq!(few.mask(text), expected);
        }
        assert!(matches!(few.mask("nothing here"), Cow::Borrowed(_)));
        assert!(matches!(Secrets::default().mask("abc"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_is_left_of_those_that_overlap() {
        let overlapping = secrets(&["abcde", "cdefgh", "fghi"]);
        assert_eq!(overlapping.mask("xabcdefghiy"), "x****y");
        assert_eq!(overlapping.mask("abcdefg abcdefgh"), "****fg ****");
        assert_eq!(secrets(&["aaa"]).mask("aaaaa a"), "**** a");
        assert_eq!(secrets(&["abcdef", "bc", "def-g"]).mask("abcdef-g"), "****");
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
                (0..length).map(|_| ['a', 'b', 'é'][below(3) as usize]).collect()
            };
            let texts: Vec<String> = (0..6).map(|_| word(5)).collect();
            let text = word(40);
            let mut covered = vec![false; text.len()];
            for secret in &texts {
                for at in (0..text.len()).filter(|at| text.as_bytes()[*at..].starts_with(secret.as_bytes())) {
                    covered[at..at + secret.len()].fill(true);
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
