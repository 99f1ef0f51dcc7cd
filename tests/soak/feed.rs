//! An API with a row of configs: it sends the next one when the agent has reported the outcome of the last, and keeps
//! account.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder, Line};
use crate::support::http::{Reply, Request, Server};

/// What must become of a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Active, and stays so.
    Promoted,
    /// Active until it fails.
    RolledBack,
    /// Never active.
    Refused,
}

/// One config of the row.
#[derive(Clone, Debug)]
struct Sent {
    config: Value,
    revision: String,
    fate: Fate,
}

type Row = dyn Fn(usize) -> (Value, Fate) + Send;

pub struct Feed {
    server: Server,
    book: Arc<Mutex<Book>>,
}

struct Book {
    row: Box<Row>,
    /// How many may be sent by now.
    allowed: usize,
    sent: Vec<Sent>,
    /// Those whose outcome the agent has reported.
    reported: usize,
    /// `config_revision`, each time that it was another one than before.
    active: Vec<String>,
    /// `rejected_revision`, likewise.
    rejected: Vec<String>,
    restarts: u64,
    /// Reports that cannot be.
    strange: Vec<String>,
}

impl Feed {
    /// Config number 0 is the one that the agent starts with; `row` makes the others.
    pub fn start(row: impl Fn(usize) -> (Value, Fate) + Send + 'static) -> Feed {
        let first = sent(row(0));
        let book = Book {
            row: Box::new(row),
            allowed: 0,
            sent: vec![first],
            reported: 0,
            active: Vec::new(),
            rejected: Vec::new(),
            restarts: 0,
            strange: Vec::new(),
        };
        let book = Arc::new(Mutex::new(book));
        let own = Arc::clone(&book);
        let server = Server::start(0, None, move |request| own.lock().unwrap().answer(&request)).unwrap();
        Feed { server, book }
    }

    /// For the agent that is to start with config number 0 and ask here once a second.
    pub fn builder(&self) -> Builder {
        let first = serde_yaml::to_string(&self.book().sent[0].config).unwrap();
        let url = format!("http://{}{}", self.server.addr, crate::support::api::PATH);
        let builder = Agent::builder().config(first).setting("update-endpoint", url).setting("api-key", "soak");
        builder.setting("report-extended", true).setting("log-level", "info")
    }

    /// From now on this many configs may be sent, not counting the first.
    pub fn allow(&self, count: usize) {
        self.book().allowed = count;
    }

    /// The number of reported outcomes.
    pub fn reported(&self) -> usize {
        self.book().reported
    }

    /// What the agent says of its collector, at the last poll.
    pub fn restarts(&self) -> u64 {
        self.book().restarts
    }

    /// Asserts that each config met its fate, once and in turn, by the reports and by the agent's log; returns how many
    /// of each fate there were.
    #[track_caller]
    pub fn assert_accounts(&self, agent: &Agent) -> [usize; 3] {
        let book = self.book();
        assert_eq!(book.strange, [""; 0]);
        assert_eq!(book.reported, book.sent.len() - 1, "one has no end");
        let of_fate = |fate: Fate| book.sent.iter().filter(move |sent| sent.fate == fate);
        let revisions = |fate: Fate| -> Vec<&str> { of_fate(fate).map(|sent| sent.revision.as_str()).collect() };

        // A report may catch one that fails while it is active, and then the one before it is active again.
        let failing = revisions(Fate::RolledBack);
        let mut lasting: Vec<&str> = book.active.iter().map(String::as_str).collect();
        lasting.retain(|revision| !failing.contains(revision));
        lasting.dedup();
        assert_eq!(lasting, revisions(Fate::Promoted), "active, as reported");
        let ill: Vec<&str> =
            book.sent.iter().filter(|sent| sent.fate != Fate::Promoted).map(|it| &*it.revision).collect();
        assert_eq!(book.rejected, ill, "rejected, as reported");

        let (mut ends, mut refused) = (Vec::new(), Vec::new());
        for line in agent.log() {
            match line.msg() {
                "config installed" => ends.push(format!("installed {}", line.field("revision"))),
                PROMOTED => ends.push("promoted".to_string()),
                "config rolled back" => ends.push("rolled back".to_string()),
                "new config rejected; nothing changed" => refused.push(line.field("revision").to_string()),
                _ => {}
            }
        }
        let short = |sent: &Sent| sent.revision[..refused.first().map_or(12, String::len)].to_string();
        let expected =
            book.sent.iter().enumerate().filter(|(_, sent)| sent.fate != Fate::Refused).flat_map(|(at, sent)| {
                // The first was there from the start.
                let installed = (at > 0).then(|| format!("installed {}", short(sent)));
                let end = if sent.fate == Fate::Promoted { "promoted" } else { "rolled back" };
                installed.into_iter().chain([end.to_string()])
            });
        assert_eq!(ends, expected.collect::<Vec<_>>(), "by the log");
        assert_eq!(refused, of_fate(Fate::Refused).map(short).collect::<Vec<_>>(), "refused, by the log");
        [Fate::Promoted, Fate::RolledBack, Fate::Refused].map(|fate| of_fate(fate).count())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

const PROMOTED: &str = "config promoted";

pub fn is_promotion(line: &Line) -> bool {
    line.msg() == PROMOTED
}

impl Book {
    fn answer(&mut self, request: &Request) -> Reply {
        let report = request.json();
        self.note(&report);
        let (last, has_room) = (self.sent.last().unwrap(), self.sent.len() <= self.allowed);
        let is_reported = match last.fate {
            Fate::Promoted => report["config_revision"] == last.revision,
            Fate::RolledBack | Fate::Refused => report["rejected_revision"] == last.revision,
        };
        if is_reported {
            self.reported = self.sent.len() - 1;
        }
        let is_new = is_reported && has_room;
        if is_new {
            let next = sent((self.row)(self.sent.len()));
            self.sent.push(next);
        }
        // As a server does that wants it active; once it is, this would ask for a restart.
        let wanted = is_new || !is_reported;
        Reply::json(&json!({"restart_required": wanted, "config": self.sent.last().unwrap().config}))
    }

    fn note(&mut self, report: &Value) {
        let note = |all: &mut Vec<String>, revision: &Value| {
            if let Some(revision) = revision.as_str()
                && all.last().is_none_or(|last| last != revision)
            {
                all.push(revision.to_string());
            }
        };
        note(&mut self.active, &report["config_revision"]);
        note(&mut self.rejected, &report["rejected_revision"]);
        let restarts = report["collector_restarts"].as_u64();
        if restarts.is_none_or(|restarts| restarts < self.restarts) {
            self.strange.push(report.to_string());
        }
        self.restarts = restarts.unwrap_or_default();
    }
}

fn sent((config, fate): (Value, Fate)) -> Sent {
    // The canonical form (src/config/value/revision.rs): serde_json's maps are sorted.
    let digest = ring::digest::digest(&ring::digest::SHA256, config.to_string().as_bytes());
    let revision = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Sent { config, revision, fate }
}
