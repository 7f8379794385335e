//! Whoever keeps something in step with a projection, within this process.

use std::fmt::Debug;

use futures::future::BoxFuture;

use super::Projection;
use crate::domain::RecordedEvent;
use crate::events::Shard;

/// Told what the projections commit.
pub trait Observer: Debug + Send + Sync + 'static {
    /// Where a projection stands in a shard: at the start, and after an event that it set aside. The next events told are
    /// those after it.
    fn begin(&self, projection: Projection, shard: Shard, position: i64);

    /// Rows of a shard's organisations are of this epoch from now on: they were built anew, or repaired, otherwise than by the
    /// next events. What is held of an older epoch is to be loaded again. Without a default: an observer that passes on what
    /// it is told must not leave this out unnoticed.
    fn corrected(&self, projection: Projection, shard: Shard, epoch: i64);

    /// Events of one shard, in order and without gaps, after their transaction was committed and before anyone who waits for
    /// them is told.
    fn committed<'a>(
        &'a self,
        projection: Projection,
        shard: Shard,
        events: &'a [RecordedEvent],
    ) -> BoxFuture<'a, ()>;
}
