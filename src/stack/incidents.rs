//! Deaths that nobody asked for, told to whoever waits or watches.

use std::process::ExitStatus;
use std::sync::Arc;

use tokio::sync::watch;

use super::log::Evidence;
use crate::archive::Incident;

/// A child that ended unasked.
#[derive(Debug, Clone)]
pub(super) struct Death {
    /// `primary`, `replica-1`, `backend` …
    pub(super) what: String,
    /// How it ended.
    pub(super) status: ExitStatus,
    /// Its last words.
    pub(super) evidence: Evidence,
}

/// Where guardians report deaths. Clones report to the same place; nothing is ever lost or overwritten.
#[derive(Debug, Clone, Default)]
pub(super) struct Incidents {
    deaths: Arc<watch::Sender<Vec<Death>>>,
    told: Arc<watch::Sender<Vec<Incident>>>,
}

impl Incidents {
    pub(super) fn report(&self, death: Death) {
        tracing::error!(what = death.what, status = %death.status, "a process of the stack died");
        let detail = format!("ended with {}\n{}", death.status, death.evidence);
        let incident = Incident { second: None, what: death.what.clone(), detail };
        self.deaths.send_modify(|deaths| deaths.push(death));
        self.told.send_modify(|incidents| incidents.push(incident));
    }

    /// Waits for the first death; ready at once if there has been one.
    pub(super) async fn first_death(&self) -> Death {
        let mut deaths = self.deaths.subscribe();
        let deaths = deaths.wait_for(|deaths| !deaths.is_empty()).await;
        deaths.expect("the sender lives as long as self")[0].clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Vec<Incident>> {
        self.told.subscribe()
    }

    pub(super) fn so_far(&self) -> Vec<Incident> {
        self.told.borrow().clone()
    }
}
