//! What one statement found for many organisations, handed to the caches organisation by organisation.

use std::collections::HashMap;
use std::future::{Ready as Now, ready};
use std::sync::{Mutex, PoisonError};

use futures::future::Either;

use crate::db::Freshness;
use crate::domain::OrgId;

/// Values by organisation, each taken once. So the caches need no second way in: what makes a load true (see [`live`](super::live)
/// and [`fixed`](super::fixed)) makes these true.
#[derive(Debug)]
pub(crate) struct Ready<V>(Mutex<HashMap<OrgId, V>>);

impl<V> Ready<V> {
    pub(crate) fn new(found: HashMap<OrgId, V>) -> Self {
        Self(Mutex::new(found))
    }

    /// How an organisation is loaded: the first time, if any server will do, what was found; else, and from then on, with `load`.
    pub(crate) fn first<E, F>(
        &self,
        org: OrgId,
        load: impl Fn(Freshness) -> F,
    ) -> impl Fn(Freshness) -> Either<Now<Result<V, E>>, F>
    where
        F: Future<Output = Result<V, E>>,
    {
        move |freshness| match self.take(org, freshness) {
            Some(found) => Either::Left(ready(Ok(found))),
            None => Either::Right(load(freshness)),
        }
    }

    fn take(&self, org: OrgId, freshness: Freshness) -> Option<V> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (freshness == Freshness::Any).then(|| found.remove(&org)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_is_given_once_and_only_where_any_server_will_do() {
        let org = |number| OrgId::new(number).unwrap();
        let found = Ready::new(HashMap::from([(org(1), "found"), (org(2), "found")]));
        let load = |_| ready(Ok::<_, ()>("loaded"));
        let one = found.first(org(1), load);
        assert_eq!(one(Freshness::Newest).await, Ok("loaded"));
        assert_eq!(one(Freshness::Any).await, Ok("found"));
        assert_eq!(one(Freshness::Any).await, Ok("loaded"), "it may be what was not good enough");
        assert_eq!(found.first(org(2), load)(Freshness::Any).await, Ok("found"));
        assert_eq!(found.first(org(3), load)(Freshness::Any).await, Ok("loaded"));
    }
}
