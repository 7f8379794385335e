//! Room for so many at once, and none for one more: what waits inside cannot take what others need.

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A bounded room. Nobody queues at its door.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    room: Semaphore,
    in_flight: Gauge,
    shed: Counter,
}

/// All places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A place inside, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    bulkhead: &'a Bulkhead,
    _permit: SemaphorePermit<'a>,
}

impl Bulkhead {
    /// `name` is the value of the label `bulkhead`.
    pub(crate) fn new(name: String, in_flight_max: usize) -> Self {
        gauge!("backend_bulkhead_in_flight_max", "bulkhead" => name.clone())
            .set(in_flight_max as f64);
        Self {
            room: Semaphore::new(in_flight_max),
            in_flight: gauge!("backend_bulkhead_in_flight", "bulkhead" => name.clone()),
            shed: counter!("backend_bulkhead_shed_total", "bulkhead" => name),
        }
    }

    /// A place, or a counted refusal at once.
    pub(crate) fn enter(&self) -> Result<Place<'_>, Full> {
        match self.room.try_acquire() {
            Ok(permit) => {
                self.in_flight.increment(1);
                Ok(Place { bulkhead: self, _permit: permit })
            }
            Err(_) => {
                self.shed.increment(1);
                Err(Full)
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bulkhead.in_flight.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_the_room_is_refused_until_one_leaves() {
        let bulkhead = Bulkhead::new("test".into(), 2);
        let first = bulkhead.enter().unwrap();
        let _second = bulkhead.enter().unwrap();
        assert_eq!(bulkhead.enter().err(), Some(Full));
        drop(first);
        assert!(bulkhead.enter().is_ok());
    }
}
