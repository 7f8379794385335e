//! What happens at the front desk of a property: somebody who works there, something to do, somebody who will stay. Few rows,
//! so that lists have something to show; what a run adds to them is its own.

use chrono::{DateTime, Days, NaiveDate, Utc};
use rand::RngExt;
use uuid::Uuid;

use super::generate::{Generator, Kind, Organisation, Stream, midnight, office_hours};

/// One property's front desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontDesk {
    /// Who works there.
    pub staff: Staff,
    /// What they have to do.
    pub task: Task,
    /// Who will stay.
    pub reservation: Reservation,
}

/// Somebody who works in a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staff {
    /// Unique over all organisations.
    pub id: Uuid,
    /// First and last name.
    pub name: String,
    /// One of the roles that the backend knows.
    pub role: &'static str,
    /// When they began.
    pub created_at: DateTime<Utc>,
}

/// An open task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Unique over all organisations.
    pub id: Uuid,
    /// What is to be done.
    pub title: &'static str,
    /// After any run of today: nobody is reminded of it.
    pub due_at: DateTime<Utc>,
    /// When it was given.
    pub created_at: DateTime<Utc>,
}

/// A stay that is booked, in no room yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Unique over all organisations.
    pub id: Uuid,
    /// First and last name.
    pub guest: String,
    /// First night.
    pub arrival: NaiveDate,
    /// Day after the last night.
    pub departure: NaiveDate,
    /// What the stay costs.
    pub amount_cents: i64,
    /// When it was booked.
    pub created_at: DateTime<Utc>,
}

const ROLES: [&str; 5] = ["reception", "housekeeping", "maintenance", "kitchen", "management"];
const TITLES: [&str; 6] = [
    "Check the smoke detectors",
    "Order linen",
    "Inspect the boiler",
    "Renew the fire certificate",
    "Repaint the corridor",
    "Count the minibar",
];
/// Tasks fall due and guests arrive within two months after the history, none in its first month: runs of a month see the same.
const AHEAD_DAYS: std::ops::Range<u64> = 35..95;

impl Generator {
    /// The front desks of an organisation's properties, in their order.
    pub fn front_desks(&self, organisation: &Organisation) -> impl Iterator<Item = FrontDesk> {
        let org = organisation.id;
        let country = self.country(org);
        let mut rng = self.rng(org, Stream::FrontDesk);
        let (_, end) = self.span();
        (0..).zip(&organisation.properties).map(move |(n, property)| {
            let rng = &mut rng;
            let created_at =
                midnight(end - Days::new(rng.random_range(1..=28))) + office_hours(rng);
            let nights = rng.random_range(1..=7);
            let arrival = end + Days::new(rng.random_range(AHEAD_DAYS));
            FrontDesk {
                staff: Staff {
                    id: self.id(org, Kind::Staff, n),
                    name: country.person(rng),
                    role: ROLES[rng.random_range(0..ROLES.len())],
                    created_at: property.created_at,
                },
                task: Task {
                    id: self.id(org, Kind::Task, n),
                    title: TITLES[rng.random_range(0..TITLES.len())],
                    due_at: midnight(end + Days::new(rng.random_range(AHEAD_DAYS)))
                        + office_hours(rng),
                    created_at,
                },
                reservation: Reservation {
                    id: self.id(org, Kind::Reservation, n),
                    guest: country.person(rng),
                    arrival,
                    departure: arrival + Days::new(nights),
                    amount_cents: i64::try_from(nights * country.room_cents).unwrap_or(i64::MAX),
                    created_at,
                },
            }
        })
    }
}
