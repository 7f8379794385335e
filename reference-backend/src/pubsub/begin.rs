//! What of topics and subscriptions a serving process runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::notices::{Announced, LargeEntries, tell_of_dead_letters};
use super::retention::forget_regularly;
use super::{Subscriber, Subscriptions};
use crate::config::PubSub;
use crate::gateway::App;
use crate::jobs::BalanceRepair;

/// Starts the subscriptions, the notices of dead letters, the end of old messages, and the feeder of the streams to browsers. All of them end with
/// `stop`: streams at its first moment, because a server that ends waits for them.
pub(crate) fn begin(app: &App, settings: &PubSub, stop: &CancellationToken) -> Subscriptions {
    let started = Subscriptions::under(stop.child_token());
    let store = app.writing.as_ref().map(|writing| &writing.store);
    let feed = app.following.as_ref().map(|following| Arc::clone(&following.feed));
    let poll = settings.poll_interval_ms.duration();
    let (hub, db) = (Arc::clone(&app.realtime), app.databases.clone());
    started.spawn(|stop| hub.run(db.clone(), feed, poll, stop));
    started.spawn(|stop| tell_of_dead_letters(db.clone(), stop));
    let kept = settings.messages_kept();
    started.spawn(|stop| forget_regularly(db.clone(), kept, stop));
    started.work_for(&db, store, settings, subscribers(app, settings));
    started
}

fn subscribers(app: &App, settings: &PubSub) -> Vec<Arc<dyn Subscriber>> {
    let large = LargeEntries { db: app.databases.clone(), cents: settings.large_entry_cents };
    let repair = BalanceRepair(app.databases.clone());
    let repair = Announced { repair, db: app.databases.clone() };
    vec![Arc::new(large), Arc::new(repair)]
}
