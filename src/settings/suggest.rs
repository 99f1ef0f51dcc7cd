//! "Did you mean": the known word nearest to one that nobody knows, for flags, commands and settings keys.
//!
//! It only compares words; what the words are is the caller's business.

/// The candidate nearest to `word`, if it is near enough to be a typing error: one edit in three letters, at least one.
/// Case, leading dashes, and `_` for `-` do not count.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(word, (word.trim_start_matches('-').chars().count() / 3).max(1), candidates)
}

/// The same within so many edits.
pub fn near<'a>(word: &str, limit: usize, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `: did you mean X`, or nothing: the tail of an error message.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!(": did you mean \"{near}\"?"))
}

fn folded(word: &str) -> Vec<char> {
    // 64 is above any name of ours, and bounds the work on a word that is not ours.
    word.trim_start_matches('-').replace('_', "-").to_ascii_lowercase().chars().take(64).collect()
}

/// Levenshtein distance, where a swap of neighbours counts as one edit (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["collector", "collector-endpoint", "api-key", "config", "start", "--check"];
        for (word, expected) in [
            ("colector", Some("collector")),
            ("api_key", Some("api-key")),
            ("apiKey", Some("api-key")),
            ("API-KEY", Some("api-key")),
            ("confgi", Some("config")),
            ("--start", Some("start")),
            ("check", Some("--check")),
            ("collector-endpiont", Some("collector-endpoint")),
            ("endpoint", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
