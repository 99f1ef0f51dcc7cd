//! Rows of a name and a text, fitted into a screen of 100 columns by 14 lines: what does not fit is marked by `…`.
//!
//! It knows nothing of what they say. The first row gets what room the others leave, of which each takes three lines at
//! most.

use crate::log::sanitize;

pub const COLUMNS: usize = 100;
pub const LINES: usize = 14;
/// Of the names, and of what goes on below them: behind an indentation nothing of the API's or the collector's can pass
/// for a row of ours.
const NAME: usize = 11;
/// What the first row may take, and each other one before it takes more.
const FIRST: usize = 4;
const OTHER: usize = 3;

pub struct Row {
    pub name: &'static str,
    pub text: String,
}

pub fn render(rows: &[Row]) -> String {
    let wrapped: Vec<Vec<String>> = rows.iter().map(|row| wrap(&row.text, COLUMNS - NAME)).collect();
    let others: usize = wrapped.iter().skip(1).map(|lines| lines.len().min(OTHER)).sum();
    let mut room = LINES.saturating_sub(others).max(FIRST);
    let mut left = LINES.saturating_sub(rows.len());
    let mut text = String::new();
    for (row, lines) in rows.iter().zip(wrapped) {
        let shown = lines.len().min(1 + left).min(room);
        (left, room) = (left + 1 - shown, OTHER);
        for (number, line) in elide(lines, shown).iter().enumerate() {
            let name = if number == 0 { row.name } else { "" };
            text.push_str(format!("{name:<NAME$}{line}").trim_end());
            text.push('\n');
        }
    }
    text
}

/// So many of these lines: the first say what happened, the last ones of a program's output why.
fn elide(mut lines: Vec<String>, count: usize) -> Vec<String> {
    if lines.len() > count {
        let last = lines.len() - count / 2;
        let first = count - count / 2;
        lines.drain(first..last);
        let cut = &mut lines[first - 1];
        let mut columns = 0;
        let fits = |c: &char| {
            columns += columns_of(*c);
            columns <= COLUMNS - NAME - 2
        };
        *cut = cut.chars().take_while(fits).chain(" …".chars()).collect();
    }
    lines
}

/// Between words if that is possible; every invisible character is escaped, and a line's end is one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().split('\n') {
        let line = sanitize::line(&line.replace('\t', " ")).into_owned();
        let mut rest = line.as_str();
        while let Some(end) = rest
            .char_indices()
            .scan(0, |columns, (at, c)| {
                *columns += columns_of(c);
                Some((at, *columns))
            })
            .find(|(_, columns)| *columns > width)
            .map(|(at, _)| at)
        {
            let blank = rest[..end].rfind(' ').filter(|blank| *blank > width / 2);
            let (head, tail) = rest.split_at(blank.unwrap_or(end));
            lines.push(head.to_string());
            rest = tail.trim_start_matches(' ');
        }
        lines.push(rest.to_string());
    }
    lines
}

/// Two for what East Asian scripts and pictures take (Unicode's East_Asian_Width, roughly).
fn columns_of(c: char) -> usize {
    if matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f000}'..='\u{3fffd}')
    {
        2
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[String]) -> String {
        render(&texts.iter().map(|text| Row { name: "name", text: text.clone() }).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_too_long_is_cut_in_the_middle() {
        let long: String = (1..=40).map(|number| format!("line {number}\n")).collect();
        let shown = rows(&[long, "x".repeat(500), "short".to_string()]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0], lines[4], lines[5]), ("name       line 1", "           line 5 …", "           line 36"));
        assert_eq!((lines[9], lines[13]), ("           line 40", "name       short"));
        assert!(lines[11].ends_with("x …") && lines[11].chars().count() == COLUMNS, "{shown}");
    }

    #[test]
    fn a_line_is_wrapped_between_words_and_within_a_long_one() {
        let shown = rows(&[format!("{} {}", "word ".repeat(20), "é".repeat(100))]);
        assert!(shown.lines().all(|line| line.chars().count() <= COLUMNS), "{shown}");
        assert_eq!(shown.lines().next().unwrap().matches("word").count(), 17);
        assert_eq!(shown.matches('é').count(), 100, "nothing is lost");
        let wide = rows(&["\u{6f22}".repeat(100)]);
        assert!(wide.lines().all(|line| line.matches('\u{6f22}').count() <= 44), "{wide}");
    }

    #[test]
    fn what_is_invisible_is_escaped() {
        assert_eq!(rows(&["a\u{1b}[2J\r\nb\tc".to_string()]), "name       a\\u{1b}[2J\\r\n           b c\n");
    }
}
