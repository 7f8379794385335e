//! The subscriber of `balance-corrections`: repairs what a check found.

use futures::future::BoxFuture;

use crate::db::Databases;
use crate::projections::{RepairError, repair};
use crate::pubsub::{HandleError, Message, Subscriber, Topic};

/// Puts the rows right that a message names.
#[derive(Debug, Clone)]
pub(crate) struct BalanceRepair(pub(crate) Databases);

impl Subscriber for BalanceRepair {
    fn name(&self) -> &'static str {
        "balance-repair"
    }

    fn topic(&self) -> Topic {
        Topic::BalanceCorrections
    }

    fn handle<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), HandleError>> {
        Box::pin(async move {
            let data = message.data().ok_or_else(|| HandleError::Reject("no data".to_owned()))?;
            match repair(&self.0, message.org, data).await {
                Ok(_) => Ok(()),
                Err(error @ RepairError::Correction(_)) => {
                    Err(HandleError::Reject(error.to_string()))
                }
                Err(error) => Err(HandleError::Retry(error.to_string())),
            }
        })
    }
}
