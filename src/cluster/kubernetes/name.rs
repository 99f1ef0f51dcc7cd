//! The name of an object or a namespace. It goes into the path of a request, so it is checked once, where it comes
//! from.

use std::fmt;

/// A DNS subdomain name (Kubernetes' documentation, "Object Names and IDs").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// # Errors
    /// What is wrong, as the rest of a sentence that begins with what the name is of.
    pub fn parse(text: &str) -> Result<Name, &'static str> {
        const MAX_LENGTH: usize = 253;
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        if text.is_empty() {
            Err("is empty")
        } else if text.len() > MAX_LENGTH {
            Err("is longer than 253 characters")
        } else if text.bytes().all(is_allowed) && text.split('.').all(is_label) {
            Ok(Name(text.to_owned()))
        } else {
            Err("is not a name in Kubernetes: lower-case letters, digits, '-' and '.', such as km-agent")
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_path() {
        for text in ["km-agent", "a", "0", "a.b-c.d", &"a".repeat(253)] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
        for text in
            ["", "KM", "a_b", "a/b", "..", "a..b", ".a", "a.", "-a", "a-", "a?b", "a b", "a%2fb", "ä", &"a".repeat(254)]
        {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
