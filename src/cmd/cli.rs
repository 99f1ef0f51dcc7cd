//! The command line → what to do, and the settings that were given as flags.
//!
//! It looks at the arguments only: no environment, no file, no clock. What a setting's text means is for `settings`;
//! only the options of `--check` are read here. Also the text of `--help`.

use std::ffi::OsString;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::status::Form;
use crate::error::{Error, Exit, Result};
use crate::settings::table::{self, Group, Kind, Setting};
use crate::settings::{parse as parse_text, suggest};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cli {
    pub mode: Mode,
    /// Name and text of each setting given as a flag, in the order of the command line; the last of a name counts, but
    /// of a list.
    pub flags: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Start,
    Stop,
    Reload,
    Restart,
    Retry,
    Status(Form),
    Check {
        dry_run: bool,
        json: bool,
        /// Sleep a random part of this first; zero without `--splay`.
        splay: Duration,
    },
    Cluster,
    PrintSettings(Subject),
    Version,
    Help(Subject),
}

/// Whose settings are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Agent,
    /// Of `kmagent cluster`.
    Cluster,
}

pub const COMMANDS: [(&str, Mode); 7] = [
    ("start", Mode::Start),
    ("stop", Mode::Stop),
    ("reload", Mode::Reload),
    ("restart", Mode::Restart),
    ("retry", Mode::Retry),
    ("status", Mode::Status(Form::Text)),
    ("cluster", Mode::Cluster),
];
pub const OPTIONS: [&str; 8] =
    ["--check", "--dry-run", "--json", "--ready", "--splay", "--print-settings", "--version", "--help"];

/// What the arguments said so far, before it is known whether it fits together.
#[derive(Default)]
struct Typed {
    /// The command or mode flag as it is written, and what it asks for without its options.
    mode: Option<(&'static str, Mode)>,
    dry_run: bool,
    json: bool,
    ready: bool,
    splay: Option<Duration>,
    print_settings: bool,
    flags: Vec<(&'static str, String)>,
}

/// Parses the arguments after the program's name. `--help` and `--version` hold as soon as they are met.
///
/// Fails with `Exit::Usage`.
pub fn parse<I>(args: I) -> Result<Cli>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = Parser::from_args(args);
    let mut typed = Typed::default();
    while let Some(arg) = parser.next().map_err(|error| usage(error.to_string()))? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                let mode = Mode::Help(typed.subject());
                return Ok(Cli { mode, flags: typed.flags });
            }
            Arg::Short('V') | Arg::Long("version") => return Ok(Cli { mode: Mode::Version, flags: typed.flags }),
            Arg::Long("check") => {
                typed.choose("--check", Mode::Check { dry_run: false, json: false, splay: Duration::ZERO })?
            }
            Arg::Long("print-settings") => typed.print_settings = true,
            Arg::Long("dry-run") => typed.dry_run = true,
            Arg::Long("json") => typed.json = true,
            Arg::Long("ready") => typed.ready = true,
            Arg::Long("splay") => {
                let text = value(&mut parser, "splay")?;
                let splay = parse_text::splay(&text).map_err(|cause| usage(format!("--splay: {text:?} {cause}")))?;
                typed.splay = Some(splay);
            }
            Arg::Long(name) => match table::find(name) {
                Some(setting) => typed.flags.push((setting.name, text_of(&mut parser, setting)?)),
                None => return Err(usage(format!("unknown option --{name}{}", hint(name)))),
            },
            Arg::Short(letter) => return Err(usage(format!("unknown option -{letter}"))),
            Arg::Value(word) => {
                let word = word.into_string().map_err(|word| usage(format!("argument is not UTF-8: {word:?}")))?;
                match COMMANDS.into_iter().find(|(command, _)| *command == word) {
                    Some((command, mode)) => typed.choose(command, mode)?,
                    None => return Err(unexpected(&word, &typed)),
                }
            }
        }
    }
    typed.settle()
}

impl Typed {
    fn choose(&mut self, word: &'static str, mode: Mode) -> Result<()> {
        match self.mode.replace((word, mode)) {
            None => Ok(()),
            Some((earlier, _)) => Err(usage(format!("{earlier} and {word} cannot be used together: give one"))),
        }
    }

    fn subject(&self) -> Subject {
        if matches!(self.mode, Some((_, Mode::Cluster))) { Subject::Cluster } else { Subject::Agent }
    }

    fn settle(mut self) -> Result<Cli> {
        let subject = self.subject();
        if self.print_settings {
            // Of what a command has settings of its own.
            self.mode.take_if(|(_, mode)| *mode == Mode::Cluster);
            self.choose("--print-settings", Mode::PrintSettings(subject))?;
        }
        let Typed { mode, dry_run, json, ready, splay, flags, print_settings: _ } = self;
        let Some((word, mode)) = mode else {
            return Err(usage("no command given: \"kmagent start\" runs the agent"));
        };
        let is_check = matches!(mode, Mode::Check { .. });
        let is_status = matches!(mode, Mode::Status(_));
        let of_cluster = |name: &&str| table::find(name).is_some_and(|setting| setting.group == Group::Cluster);
        if let Some(name) = flags.iter().map(|(name, _)| *name).find(of_cluster).filter(|_| subject == Subject::Agent) {
            return Err(usage(format!("--{name} is not valid with {word}, only with cluster")));
        }
        for (given, option, fits, home) in [
            (dry_run, "--dry-run", is_check, "--check"),
            (splay.is_some(), "--splay", is_check, "--check"),
            (json, "--json", is_check || is_status, "status and --check"),
            (ready, "--ready", is_status, "status"),
        ] {
            if given && !fits {
                return Err(usage(format!("{option} is not valid with {word}, only with {home}")));
            }
        }
        let mode = match mode {
            Mode::Status(_) if json && ready => {
                return Err(usage("--json and --ready cannot be used together: give one"));
            }
            Mode::Status(_) if ready => Mode::Status(Form::Ready),
            Mode::Status(_) if json => Mode::Status(Form::Json),
            Mode::Check { .. } => Mode::Check { dry_run, json, splay: splay.unwrap_or_default() },
            plain => plain,
        };
        Ok(Cli { mode, flags })
    }
}

/// The text of a setting's flag. A switch takes a value after `=` only, so that `--docker-mode start` means what it
/// says.
fn text_of(parser: &mut Parser, setting: &Setting) -> Result<String> {
    match setting.kind {
        Kind::Switch => match parser.optional_value() {
            Some(text) => utf8(text, setting.name),
            None => Ok("true".to_string()),
        },
        Kind::Text | Kind::List | Kind::Secret | Kind::NotInFile => value(parser, setting.name),
    }
}

/// The value of an option, after `=` or as the next argument. An option in its place is taken for a forgotten value.
fn value(parser: &mut Parser, name: &str) -> Result<String> {
    if let Some(text) = parser.optional_value() {
        return utf8(text, name);
    }
    match parser.value().ok().map(|text| utf8(text, name)).transpose()? {
        Some(text) if !text.starts_with("--") => Ok(text),
        Some(_) => Err(usage(format!(
            "--{name} needs a value, but an option follows: if it is the value, write --{name}=VALUE"
        ))),
        None => Err(usage(format!("--{name} needs a value"))),
    }
}

/// Does not repeat the text, which may be a key.
fn utf8(text: OsString, name: &str) -> Result<String> {
    text.into_string().map_err(|_| usage(format!("--{name}: the value is not UTF-8")))
}

fn unexpected(word: &str, typed: &Typed) -> Error {
    let last_switch =
        typed.flags.last().and_then(|(name, _)| table::find(name)).filter(|last| last.kind == Kind::Switch);
    match last_switch {
        Some(switch) if parse_text::switch(word).is_ok() => {
            usage(format!("unexpected argument {word:?}: did you mean --{}={word}?", switch.name))
        }
        _ if typed.mode.is_some() => usage(format!("unexpected argument {word:?}")),
        _ => usage(format!("unknown command {word:?}{}", hint(word))),
    }
}

/// `: did you mean …` for a word that the command line does not know.
fn hint(word: &str) -> String {
    let settings: Vec<String> = table::all().map(|setting| format!("--{}", setting.name)).collect();
    let commands = COMMANDS.into_iter().map(|(command, _)| command);
    suggest::hint(word, commands.chain(OPTIONS).chain(settings.iter().map(String::as_str)))
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Exit::Usage, format!("{} (see kmagent --help)", what.into()))
}

/// What `--version` prints.
pub fn version() -> String {
    format!("kmagent {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints: one screen of 80 by 24.
pub fn help(subject: Subject) -> String {
    let (text, groups) = match subject {
        Subject::Agent => (HELP, &Group::ALL[..]),
        Subject::Cluster => (CLUSTER_HELP, &[Group::Cluster][..]),
    };
    let mut text = text.to_string();
    for &group in groups {
        let names = table::all().filter(|setting| setting.group == group).map(|setting| setting.name);
        let mut line = format!("  {:10}", group.heading());
        for name in names {
            if line.len() + 1 + name.len() > 79 {
                text.push_str(&line);
                text.push('\n');
                line = " ".repeat(12);
            }
            line.push(' ');
            line.push_str(name);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

const CLUSTER_HELP: &str = "\
kmagent cluster configures the collectors of a Kubernetes cluster from afar.
usage: kmagent [OPTION]... cluster. See kmagent-cluster(8)

  cluster            ask the API for the cluster's configs, and roll them out
    --print-settings   show every setting, its value and where it comes from
    --help             show this
  status             show what the running updater is doing; also --json
  stop               ask the running updater to stop

Settings, besides those of --help, in the environment or as flags:
";

const HELP: &str = "\
kmagent keeps an OpenTelemetry Collector alive and its configuration current.
usage: kmagent [OPTION]... COMMAND. See kmagent(8); also --version and --help
  start              supervise the collector in the foreground
  stop               ask the running agent to stop, and wait until it has
  reload             have the running agent read its settings again
  restart            replace the running collector, by hand-over if possible
  retry              have the rejected config tried again, and show the outcome
  status             show what the running agent is doing; also --json
    --ready            end with 0 only if a collector runs, for probes
  --check            do one config check and exit, for cron; also --json
    --dry-run          do every step except the install
    --splay TIME       sleep a random part of TIME first, as in 5m
  cluster            update the configs in a Kubernetes cluster; cluster --help
  --print-settings   show every setting, its value and where it comes from

Settings: KM_NAME in the environment, --NAME VALUE, NAME: VALUE in agent.yaml:
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cluster::CLUSTER_SETTINGS;
    use crate::settings::table::SETTINGS;

    fn cli(line: &str) -> Result<Cli> {
        parse(line.split_whitespace())
    }

    #[test]
    fn modes() {
        let check = |dry_run, json, seconds| Mode::Check { dry_run, json, splay: Duration::from_secs(seconds) };
        for (line, expected) in [
            ("start", Mode::Start),
            ("stop", Mode::Stop),
            ("reload", Mode::Reload),
            ("restart", Mode::Restart),
            ("retry", Mode::Retry),
            ("status", Mode::Status(Form::Text)),
            ("--json status", Mode::Status(Form::Json)),
            ("status --json", Mode::Status(Form::Json)),
            ("status --ready", Mode::Status(Form::Ready)),
            ("--check", check(false, false, 0)),
            ("--check --dry-run --json --splay 5m", check(true, true, 300)),
            ("--splay=90 --dry-run --check", check(true, false, 90)),
            ("--print-settings", Mode::PrintSettings(Subject::Agent)),
            ("cluster", Mode::Cluster),
            ("cluster --relay-listen :1", Mode::Cluster),
            ("--print-settings cluster", Mode::PrintSettings(Subject::Cluster)),
            ("cluster --print-settings", Mode::PrintSettings(Subject::Cluster)),
            ("cluster --help", Mode::Help(Subject::Cluster)),
            ("-V", Mode::Version),
            ("--version", Mode::Version),
            ("-h", Mode::Help(Subject::Agent)),
            ("start --help", Mode::Help(Subject::Agent)),
            ("-- start", Mode::Start),
        ] {
            assert_eq!(cli(line).unwrap().mode, expected, "{line}");
        }
    }

    #[test]
    fn settings_flags() {
        for (line, expected) in [
            ("--config /a start", vec![("config", "/a")]),
            ("start --config=/a", vec![("config", "/a")]),
            ("--config /a start --config /b", vec![("config", "/a"), ("config", "/b")]),
            ("--docker-mode start", vec![("docker-mode", "true")]),
            ("--docker-mode=false start", vec![("docker-mode", "false")]),
            ("start --api-key= --docker-mode", vec![("api-key", ""), ("docker-mode", "true")]),
            ("start --config-check-interval -5", vec![("config-check-interval", "-5")]),
            ("start --api-key=--odd", vec![("api-key", "--odd")]),
            ("start --agent-config x", vec![("agent-config", "x")]),
        ] {
            let flags: Vec<_> = expected.into_iter().map(|(name, text)| (name, text.to_string())).collect();
            assert_eq!(cli(line).unwrap(), Cli { mode: Mode::Start, flags }, "{line}");
        }
        for setting in SETTINGS {
            let line = format!("start --{}=x", setting.name);
            assert_eq!(cli(&line).unwrap().flags, [(setting.name, "x".to_string())]);
        }
    }

    #[test]
    fn usage_errors() {
        for (line, expected) in [
            ("", "no command given: \"kmagent start\" runs the agent"),
            ("--config /a", "no command given"),
            ("start stop", "start and stop cannot be used together"),
            ("start --check", "start and --check cannot be used together"),
            ("start --print-settings", "start and --print-settings cannot be used together"),
            ("start --relay-listen :1", "--relay-listen is not valid with start, only with cluster"),
            ("--print-settings --relay-listen :1", "--relay-listen is not valid with --print-settings, only with"),
            ("start --ready", "--ready is not valid with start, only with status"),
            ("status --ready --json", "--json and --ready cannot be used together"),
            ("--check --check", "--check and --check cannot be used together"),
            ("strat", "unknown command \"strat\": did you mean \"start\"?"),
            ("check", "unknown command \"check\": did you mean \"--check\"?"),
            ("print-settings", "did you mean \"--print-settings\"?"),
            ("frobnicate", "unknown command \"frobnicate\" ("),
            ("start now", "unexpected argument \"now\""),
            ("--docker-mode false start", "unexpected argument \"false\": did you mean --docker-mode=false?"),
            ("--colector /a start", "unknown option --colector: did you mean \"--collector\"?"),
            ("--start", "did you mean \"start\"?"),
            ("--api-kye=SECRET start", "unknown option --api-kye: did you mean \"--api-key\"?"),
            ("-x start", "unknown option -x"),
            ("start --config", "--config needs a value"),
            ("--api-key --SECRET start", "--api-key needs a value"),
            ("--api-key --docker-mode start", "--api-key needs a value, but an option follows"),
            ("start --json", "--json is not valid with start, only with status and --check"),
            ("start --dry-run", "--dry-run is not valid with start, only with --check"),
            ("status --splay 5m", "--splay is not valid with status, only with --check"),
            ("--check --splay soon", "--splay: \"soon\" is not a duration"),
            ("--check --splay 25h", "--splay: \"25h\" is out of range"),
            ("--check=now", "now"),
        ] {
            let error = cli(line).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{line}");
            let text = error.to_string();
            assert!(text.contains(expected) && !text.contains("SECRET"), "{line}: {text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let odd = |prefix: &[u8]| OsString::from_vec([prefix, b"SECRET\xff"].concat());
        for args in [vec![odd(b"--api-key=")], vec!["--api-key".into(), odd(b"")], vec![odd(b"--docker-mode=")]] {
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains("not UTF-8") && !error.to_string().contains("SECRET"), "{error}");
        }
        assert!(parse([odd(b"")]).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn help_fits_a_screen_and_names_everything() {
        let help = help(Subject::Agent);
        assert!(help.lines().count() <= 24, "{} lines", help.lines().count());
        assert!(help.lines().all(|line| line.len() < 80), "{help}");
        let words: Vec<_> = help.split(|c: char| !(c.is_alphanumeric() || "-()".contains(c))).collect();
        let names = SETTINGS.iter().map(|setting| setting.name);
        let commands = COMMANDS.into_iter().map(|(command, _)| command);
        for word in commands.chain(OPTIONS).chain(names).chain(["kmagent(8)"]) {
            assert!(words.contains(&word), "{word}");
        }
        let help = super::help(Subject::Cluster);
        assert!(help.lines().count() <= 24 && help.lines().all(|line| line.len() < 80), "{help}");
        for setting in CLUSTER_SETTINGS {
            assert!(help.split_whitespace().any(|word| word == setting.name), "{}", setting.name);
        }
    }
}
