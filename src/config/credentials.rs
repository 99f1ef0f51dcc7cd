//! Where a text carries a user name and a password: in URLs, and in the connection strings of databases.
//!
//! Pure. Parsers do not agree where a password ends that is not encoded, and the collector quotes what its parser made
//! of it: so each reading counts, and what one of them takes for a password is one. The one reader of a URL's user in
//! the program.

use std::ops::Range;

/// What ends the authority of a URL for some parser.
const AUTHORITY_ENDS: [char; 4] = ['/', '?', '#', '\\'];

/// Parameters with a secret that are looked for in one text.
const MAX_PARAMETERS: usize = 8;

/// What to do where `has_cut_user`.
pub const PERCENT_ENCODE: &str =
    "in a user name or password write / as %2F, ? as %3F, # as %23 and @ as %40; elsewhere write @ as %40";

/// Whether a URL may end its host earlier than its author meant, in the middle of a password: then the password's
/// beginning would be taken for host and port, and shown, and what follows for a path.
pub fn has_cut_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(AUTHORITY_ENDS) {
        Some(end) => rest[end..].contains('@') || rest[..end].matches('@').count() > 1,
        None => rest.matches('@').count() > 1,
    }
}

/// `host:port` of `user:password@host:port`.
pub fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, place)| place)
}

/// `text` with `mask` in place of the user part of each URL in it.
pub fn mask_url_users(text: &str, mask: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(text.len()), 0);
    for user in url_users(text) {
        masked.push_str(&text[rest..user.start]);
        masked.push_str(mask);
        rest = user.end;
    }
    masked.push_str(&text[rest..]);
    masked
}

/// `text`, which is one URL and nothing else, with `mask` in place of its user part, whatever characters that holds.
pub fn mask_url_user(text: &str, mask: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{mask}@{place}"),
        (None, Some((_, place))) => format!("{mask}@{place}"),
        (_, None) => text.to_string(),
    }
}

/// The user part of each URL in `text`, in order: up to the last `@` of the URL, as an unencoded password may hold a
/// slash.
fn url_users(text: &str) -> Vec<Range<usize>> {
    let user = |(start, word, _): (usize, usize, usize)| text[start..word].rfind('@').map(|at| start..start + at);
    urls(text).into_iter().filter_map(user).collect()
}

/// From behind each `://` to the end of the word, and to the next URL of a list.
fn urls(text: &str) -> Vec<(usize, usize, usize)> {
    let starts: Vec<usize> = text.match_indices("://").map(|(at, _)| at + "://".len()).collect();
    let ends = starts.iter().skip(1).map(|next| {
        let scheme = &text[..next - "://".len()];
        scheme.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+.-".contains(c)).len()
    });
    let ends_url = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
    let url = |(start, next): (usize, usize)| {
        let word = text.get(start..next)?;
        Some((start, start + word.find(ends_url).unwrap_or(word.len()), next))
    };
    starts.iter().copied().zip(ends.chain([text.len()])).filter_map(url).collect()
}

/// What may be a password in `text`, in every reading. It may hold texts that are parts of others; all of it is at most
/// fifty times as long as the text.
pub fn passwords(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (start, word, next) in urls(text) {
        of_url(&text[start..word], &mut found);
        of_url(&text[start..next], &mut found);
    }
    match text.split_once("://") {
        // As one URL, whose password may hold anything.
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c)) => {
            of_url(rest, &mut found);
        }
        Some(_) => {}
        // `user:password@tcp(host)/db`, and without a scheme.
        None => {
            let user = text.rsplit_once('@').map(|(user, _)| user).filter(|user| user.contains(':'));
            if let Some(user) = user.filter(|user| user.split(':').next().is_some_and(is_plain_user)) {
                of_user(user, &mut found);
            }
        }
    }
    assigned(text, &mut found);
    found.retain(|password| !password.is_empty());
    found
}

/// Of what is behind `scheme://`.
fn of_url<'a>(url: &'a str, found: &mut Vec<&'a str>) {
    let Some((user, _)) = url.rsplit_once('@') else { return };
    let authority = &url[..url.find(AUTHORITY_ENDS).unwrap_or(url.len())];
    if let Some((user, _)) = authority.rsplit_once('@') {
        of_user(user, found);
        of_user(user.split('@').next().unwrap_or(user), found);
        // `git@` is no secret, a token is.
        found.extend((!user.contains(':') && user.len() >= 8).then_some(user));
    } else if let Some((_, port)) = authority.split_once(':')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
        && let Some((_, password)) = user.split_once(':')
    {
        // It is cut by any parser, which then shows a part.
        found.extend(password.split(|c| AUTHORITY_ENDS.contains(&c) || ":@,;& ".contains(c)));
        found.push(port);
    }
    of_user(user, found);
}

/// The password of `user:password`.
fn of_user<'a>(user: &'a str, found: &mut Vec<&'a str>) {
    found.extend(user.split_once(':').map(|(_, password)| password));
}

/// As people write them before a colon; `mailto:a@b` has none.
fn is_plain_user(user: &str) -> bool {
    !matches!(user, "mailto" | "sip" | "sips") && user.chars().all(|c| c.is_alphanumeric() || "_.%+-${}".contains(c))
}

/// The values in `password=…`, `;Password=…`, `&sig=…`: to each place where one may end.
fn assigned<'a>(text: &'a str, found: &mut Vec<&'a str>) {
    let is_secret = |(at, _): &(usize, &str)| {
        let key = text[..*at].trim_end();
        is_secret_parameter(&key[key.trim_end_matches(|c: char| c.is_alphanumeric() || "_-.".contains(c)).len()..])
    };
    for (at, _) in text.match_indices('=').filter(is_secret).take(MAX_PARAMETERS) {
        let value = text[at + 1..].trim_start();
        let closing = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => Some(quote),
            Some('{') => Some('}'),
            _ => None,
        };
        if let Some(closing) = closing {
            let inner = &value[1..];
            found.push(&inner[..inner.find(closing).unwrap_or(inner.len())]);
            found.push(&inner[..inner.rfind(closing).unwrap_or(inner.len())]);
        }
        for ends in [
            &[';', '&', ',', ' ', '\n', '\t', '"', '\'', ')'][..],
            &['\n', ' ', '\t'],
            &[';', '\n'],
            &['&', '\n'],
            &['\n'],
        ] {
            found.push(value[..value.find(ends).unwrap_or(value.len())].trim_end());
        }
    }
}

/// Whether a parameter of that name holds a secret, in any case.
fn is_secret_parameter(key: &str) -> bool {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    // SAS tokens, Azure's and AWS's connection strings.
    let ends =
        ["password", "passwd", "passphrase", "pwd", "pass", "secret", "token", "apikey", "accesskey", "accountkey"];
    let names = ["sig", "signature", "sharedaccesssignature", "authkey", "privatekey", "secretkey", "credential"];
    ends.iter().any(|end| key.ends_with(end)) || names.contains(&key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("http://u:p@a,http://u:q@b/x", "http://****@a,http://****@b/x"),
            ("http://a,http://u:q@b", "http://a,http://****@b"),
        ] {
            assert_eq!(mask_url_users(text, "****"), expected);
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
            assert_eq!(mask_url_user(text, "****"), expected);
        }
    }

    #[test]
    fn passwords_are_found_in_every_reading() {
        for (text, expected) in [
            ("postgres://app:hunter22@db:5432/x?a=b@c", &["hunter22"][..]),
            ("http://u:pa/ss@host", &["pa/ss", "pa", "ss"]),
            ("http://u:p#w@host", &["p#w", "p", "w"]),
            ("http://u:p?w@host", &["p?w", "p"]),
            ("http://u:80/pw@host", &["80/pw"]),
            ("http://u:p w@host", &["p w"]),
            ("http://u:one@a,http://u:two@b", &["one", "two"]),
            ("http://u:p\"a/b@one,http://v:q@two", &["p\"a/b", "q"]),
            ("mongodb://u:p@w@h1:1,h2:2/x", &["p@w", "p"]),
            ("https://0123abcd@sentry.example/1", &["0123abcd"]),
            ("app:hunter22@tcp(db:3306)/x", &["hunter22"]),
            ("app:p@w/rd@unix(/run/x.sock)/x", &["p@w/rd"]),
            ("host=db user=app password=hunter22 sslmode=off", &["hunter22"]),
            ("host=db password='hunter 22' x=y", &["hunter 22"]),
            ("Server=db;User Id=app;Password=hunter 22;X=y", &["hunter 22"]),
            ("Server=db;PWD={hunter;22};X=y", &["hunter;22"]),
            ("DefaultEndpointsProtocol=https;AccountKey=ab/cd==;X=y", &["ab/cd=="]),
            ("https://h/x?a=b&api_key=hunter22&c=d", &["hunter22"]),
            ("https://h/x?sv=1&sig=ab%2Fcd", &["ab%2Fcd"]),
        ] {
            let found = passwords(text);
            for password in expected {
                assert!(found.contains(password), "{text}: {found:?} without {password}");
            }
        }
        for text in [
            "plain",
            "me@example.com",
            "mailto:me@example.com",
            "ssh://git@host/x",
            "attributes[\"a\"] = \"b\"",
            "token_file=/a x-pass-through: yes",
            "10.0.0.1:80",
        ] {
            assert_eq!(passwords(text), Vec::<&str>::new(), "{text}");
        }
    }
}
