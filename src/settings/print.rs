//! What `--print-settings` prints, and how a value is shown without its secrets.
//!
//! It only formats what `resolve` found; `main` does the printing.

/// One setting as it holds, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: &'static str,
    /// Secrets are masked already; what is no value stands in parentheses.
    pub value: String,
    /// Where the value comes from: `environment KM_X`, `flag --x`, `file PATH:LINE`, `default`, …
    pub source: String,
}

/// Above this many columns a value no longer widens the column of the sources for all others.
const WIDEST: usize = 48;

/// One line a setting: `key = value   (source)`, in columns.
pub fn render(rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let keys = rows.iter().map(|row| width(row.key)).max().unwrap_or(0);
    let values = rows.iter().map(|row| width(&row.value)).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:keys$} = {:values$}   ({})\n", row.key, row.value, row.source)).collect()
}

/// `text` fit to be shown: one line, and the user part of each URL in it masked.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        // To the end of the word, not only of the authority: an unescaped password may hold a slash.
        let end = after.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(after.len());
        out.push_str(before);
        rest = match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("****");
                &after[at..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_every_user_part() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a@b", "a@b"),
            ("https://host/path", "https://host/path"),
            ("https://user:pw@host/path", "https://****@host/path"),
            ("https://user:p/w@host/path", "https://****@host/path"),
            ("curl 'https://u:p@a' \"http://v:q@b\" x@y", "curl 'https://****@a' \"http://****@b\" x@y"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn prints_columns() {
        let row = |key, value: &str, source: &str| Row { key, value: value.to_string(), source: source.to_string() };
        let long = "x".repeat(WIDEST + 1);
        let printed = render(&[
            row("api-key", "****", "environment KM_API_KEY"),
            row("config", "/etc/c.yaml", "default"),
            row("on-change", &long, "flag --on-change"),
        ]);
        let expected = format!(
            "api-key   = ****          (environment KM_API_KEY)\n\
             config    = /etc/c.yaml   (default)\n\
             on-change = {long}   (flag --on-change)\n"
        );
        assert_eq!(printed, expected);
    }
}
