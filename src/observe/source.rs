//! One source read once a second: the loop that all sources share.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::axis::Axis;
use super::outage::{Failure, Outages};
use super::sight::Sheet;
use crate::archive::{Incident, SeriesKey};

/// Longest time that a reading may take: it must be over before the next is due.
pub(super) const READING_MAX: Duration = Duration::from_millis(850);

/// What was read at one boundary of the axis.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Values of this second.
    pub(super) values: Vec<(SeriesKey, f64)>,
    /// Why there are none, or not all.
    pub(super) failure: Option<Failure>,
    /// What the source saw happen.
    pub(super) incidents: Vec<Incident>,
}

/// Something that can be read once a second.
pub(super) trait Source: Send {
    /// Names the reading, for incidents that are faults of our sight.
    fn name(&self) -> String;

    /// Names the server that is read, if its being gone is the server's own incident.
    fn server(&self) -> Option<String> {
        None
    }

    /// Reads all series. The future may be dropped before it is done; the next reading starts afresh then.
    fn read(&mut self, second: usize) -> impl Future<Output = Reading> + Send;
}

/// Reads a source at each boundary until the axis is over or `stop` is called; returns what went wrong.
pub(super) async fn follow(
    mut source: impl Source,
    axis: Axis,
    sheet: Sheet,
    stop: CancellationToken,
) -> Vec<Incident> {
    let mut incidents = Vec::new();
    let mut outages = Outages::new(source.name(), source.server());
    let mut from = 0;
    while let Some(second) = axis.next(from, now()) {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(axis.boundary(second).into()) => {}
        }
        let slow = Reading { failure: Some(Failure::Slow), ..Reading::default() };
        let reading = tokio::time::timeout(READING_MAX, source.read(second)).await.unwrap_or(slow);
        sheet.write(reading.values, second, axis.seconds);
        incidents.extend(reading.incidents);
        outages.note(second, reading.failure);
        from = second + 1;
    }
    incidents.extend(outages.finish());
    incidents
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a while for each reading, and gives the second as its value.
    struct Dawdler(Vec<u64>);

    impl Source for Dawdler {
        fn name(&self) -> String {
            "dawdler".to_owned()
        }

        async fn read(&mut self, second: usize) -> Reading {
            tokio::time::sleep(Duration::from_millis(self.0[second])).await;
            let values = vec![(SeriesKey::new("second", []), second as f64)];
            Reading { values, ..Reading::default() }
        }
    }

    fn axis(seconds: usize) -> Axis {
        Axis { origin: now(), seconds }
    }

    fn values(sheet: &Sheet) -> Vec<Option<f64>> {
        sheet.values()[&SeriesKey::new("second", [])].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readings_are_gaps_and_shift_nothing() {
        let source = Dawdler(vec![0, 800, 5_000, 900, 20, 0]);
        let sheet = Sheet::default();
        let incidents = follow(source, axis(5), sheet.clone(), CancellationToken::new()).await;
        let expected = [Some(0.0), Some(1.0), None, None, Some(4.0), Some(5.0)];
        assert_eq!(values(&sheet), expected);
        assert!(incidents.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_one_incident() {
        let (sheet, stop) = (Sheet::default(), CancellationToken::new());
        let incidents = follow(Dawdler(vec![9_999; 6]), axis(5), sheet.clone(), stop).await;
        assert!(sheet.values().is_empty());
        let details: Vec<&str> = incidents.iter().map(|i| i.detail.as_str()).collect();
        assert_eq!(details, ["could not be observed in seconds 0 to 5: no answer in time"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_it_before_the_axis_is_over() {
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let stopping = async move {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            stopper.cancel();
        };
        let started = tokio::time::Instant::now();
        let sheet = Sheet::default();
        let following = follow(Dawdler(vec![0; 61]), axis(60), sheet.clone(), stop);
        tokio::join!(following, stopping);
        assert_eq!(started.elapsed(), Duration::from_millis(2_500));
        assert_eq!(values(&sheet).iter().flatten().count(), 3);
        assert_eq!(values(&sheet).len(), 61);
    }
}
