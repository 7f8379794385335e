//! `subscriptions list | dead-letters NAME | replay NAME | skip NAME`: what people ask about subscriptions. Gives back the text
//! to print.

use std::fmt::Write;
use std::path::PathBuf;

use chrono::SecondsFormat;
use clap::{Args, Subcommand};

use super::admin::{self, DeadLetter, Standing, Which};
use crate::config::Config;
use crate::db::Databases;

/// What to do with subscriptions.
#[derive(Debug, Clone, Args)]
pub struct SubscriptionsCommand {
    /// Settings over the defaults.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    action: SubscriptionsAction,
}

#[derive(Debug, Clone, Subcommand)]
enum SubscriptionsAction {
    /// Every subscription: its topic, how far behind it is, what failed, who owns it.
    List,
    /// The messages that a subscription gave up, oldest first.
    DeadLetters {
        /// As `list` names it.
        name: String,
    },
    /// Deliver dead letters once more. The owner does it within about a second; what is handled then is gone from the list.
    Replay {
        /// As `list` names it.
        name: String,
        #[command(flatten)]
        which: Letters,
    },
    /// Let dead letters go for good: nobody will handle them.
    Skip {
        /// As `list` names it.
        name: String,
        #[command(flatten)]
        which: Letters,
    },
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Letters {
    /// The numbers of the letters, as `dead-letters` shows them.
    #[arg(long = "id", value_name = "N", num_args = 1.., value_delimiter = ',')]
    ids: Vec<i64>,
    /// All of the subscription.
    #[arg(long)]
    all: bool,
}

impl Letters {
    fn which(&self) -> Which {
        if self.all { Which::All } else { Which::Ids(self.ids.clone()) }
    }
}

impl SubscriptionsCommand {
    /// Does it; the text is for standard output.
    pub async fn run(&self, config: &Config) -> anyhow::Result<String> {
        let db = Databases::connect(&config.database).await?;
        let text = match &self.action {
            SubscriptionsAction::List => list(&admin::standings(&db).await?),
            SubscriptionsAction::DeadLetters { name } => {
                letters(&admin::dead_letters(&db, name).await?)
            }
            SubscriptionsAction::Replay { name, which } => {
                let count = admin::replay(&db, name, &which.which()).await?;
                format!("{name}: {count} to be delivered once more\n")
            }
            SubscriptionsAction::Skip { name, which } => {
                let count = admin::skip(&db, name, &which.which()).await?;
                format!("{name}: {count} let go\n")
            }
        };
        db.close().await;
        Ok(text)
    }
}

fn list(standings: &[Standing]) -> String {
    let mut text = format!(
        "{:<16} {:<20} {:<11} {:>8} {:>8} {:>5}  owner\n",
        "subscription", "topic", "kept", "behind", "waiting", "dead"
    );
    for standing in standings {
        let Standing { name, topic, kept, behind, waiting, dead_letters, owner_pid } = standing;
        let behind = behind.map_or_else(|| "-".to_owned(), |behind| behind.to_string());
        let owner = match (owner_pid, *kept) {
            (Some(pid), _) => format!("session {pid}"),
            (None, "cursor") => "nobody".to_owned(),
            (None, _) => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "{name:<16} {topic:<20} {kept:<11} {behind:>8} {waiting:>8} {dead_letters:>5}  {owner}"
        );
    }
    text
}

fn letters(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "none\n".to_owned();
    }
    let line = |letter: &DeadLetter| {
        let at = letter.set_aside_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let replay = if letter.replay_asked { "  (to be replayed)" } else { "" };
        let data = letter.data.as_ref().map(|data| format!("  {data}")).unwrap_or_default();
        let (place, org) = (format!("{}/{}", letter.shard, letter.position), letter.org_id);
        format!(
            "{:>6}  {at}  at {place:<12} organisation {org:<8} after {} attempts: {}{data}{replay}\n",
            letter.id, letter.attempts, letter.reason
        )
    };
    letters.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_what_each_kind_of_subscription_has() {
        let cursor = Standing {
            name: "notifications",
            topic: "finance-events",
            kept: "cursor",
            behind: Some(12),
            waiting: 3,
            dead_letters: 1,
            owner_pid: Some(4711),
        };
        let memory = Standing {
            name: "realtime",
            kept: "memory",
            behind: None,
            waiting: 0,
            dead_letters: 0,
            owner_pid: None,
            ..cursor.clone()
        };
        let abandoned = Standing { owner_pid: None, ..cursor.clone() };
        insta::assert_snapshot!(list(&[cursor, abandoned, memory]), @r"
        subscription     topic                kept          behind  waiting  dead  owner
        notifications    finance-events       cursor            12        3     1  session 4711
        notifications    finance-events       cursor            12        3     1  nobody
        realtime         finance-events       memory             -        0     0  -
        ");
    }
}
