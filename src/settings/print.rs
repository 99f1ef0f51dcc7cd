//! What `--print-settings` prints: one row a setting, with its value and where that comes from.
//!
//! It only formats what `resolve` found; `cmd` does the printing.

use super::list;
use super::table::{self, Kind};
use crate::config::credentials::mask_url_users;
use crate::log::redact::MASK;
use crate::log::sanitize;

/// One setting as it holds, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: &'static str,
    /// Secrets are masked already; what is no value stands in parentheses.
    pub value: String,
    /// Where the value comes from: `environment KM_X`, `flag --x`, `file PATH:LINE`, `default`, …
    pub source: String,
}

impl Row {
    /// Takes both texts as they were given: URLs lose their user, and each becomes one line.
    pub fn new(key: &'static str, value: &str, source: &str) -> Row {
        let shown = |text: String| sanitize::line(&text).into_owned();
        let is_list = table::find(key).is_some_and(|setting| setting.kind == Kind::List);
        let is_value = !value.starts_with('(');
        let value = if is_list && is_value { list::shown(value) } else { value.to_string() };
        Row { key, value: shown(table::masked(key, &value)), source: shown(mask_url_users(source, MASK)) }
    }
}

/// Above this many columns a value no longer widens the column of the sources for all others.
const MAX_VALUE_COLUMNS: usize = 48;

/// One line a setting: `key = value   (source)`, in columns.
pub fn render(rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let keys = rows.iter().map(|row| width(row.key)).max().unwrap_or(0);
    let values =
        rows.iter().map(|row| width(&row.value)).filter(|width| *width <= MAX_VALUE_COLUMNS).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:keys$} = {:values$}   ({})\n", row.key, row.value, row.source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_columns() {
        let row = Row::new;
        let long = "x".repeat(MAX_VALUE_COLUMNS + 1);
        let printed = render(&[
            row("api-key", "****", "environment KM_API_KEY"),
            row("config", "/etc/c\n.yaml", "default"),
            row("docker-endpoint", "tcp://u:p@host", "flag --docker-endpoint"),
            row("on-change", &long, "flag --on-change"),
        ]);
        let expected = format!(
            "api-key         = ****              (environment KM_API_KEY)\n\
             config          = /etc/c\\n.yaml     (default)\n\
             docker-endpoint = tcp://****@host   (flag --docker-endpoint)\n\
             on-change       = {long}   (flag --on-change)\n"
        );
        assert_eq!(printed, expected);
    }
}
