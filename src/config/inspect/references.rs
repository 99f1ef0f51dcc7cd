//! References to the environment in a config's texts, expanded as the collector's confmap does it.
//!
//! Pure: the environment is asked through a function. Of any other provider (`${file:…}`) nothing is known here.

/// The value of an environment variable of the collector; `None` when it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `text` with its references to the environment replaced; `None` when it has any other reference, or one inside
/// another.
pub fn expand(text: &str, env: &Env<'_>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (reference, after) = after.split_once('}')?;
            out.push_str(&referenced(reference, env)?);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Some(out)
}

/// `env:NAME`, `env:NAME:-default` or `NAME`, as the collector's env provider reads them: a variable that is set,
/// even to nothing, beats the default, and one that is unset is empty.
fn referenced(reference: &str, env: &Env<'_>) -> Option<String> {
    let (name, default) = match reference.strip_prefix("env:") {
        Some(uri) => uri.split_once(":-").unwrap_or((uri, "")),
        None => (reference, ""),
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return None;
    }
    let value = env(name).unwrap_or_else(|| default.to_owned());
    // The collector would expand this again.
    if value.contains("${") { None } else { Some(value) }
}
