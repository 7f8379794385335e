//! Computes what exists: organisation *n* is a pure function of (seed, *n*) under a history and an anchor month.
//!
//! Nothing is remembered between calls, so a worker that knows the seed knows every organisation, and two
//! processes never need to talk about data. Pure: no clock, no file, no network.

use std::num::{NonZeroU32, NonZeroU64};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::catalogue::{
    COUNTRIES, Country, EXPENSE, REVENUE, Role, SEASONS, SizeClass, category_at,
};
use super::mix::mix64;
use super::skew::scale;
use crate::ids::OrgId;

/// Version of the population that a seed means: whatever changes a row of it counts it up.
pub const GENERATOR_VERSION: u32 = 2;

/// Computes organisations and their history.
///
/// Over all tables and at twelve months of history an organisation has about 36 rows: 22 when micro, 45 when small,
/// 100 when medium, 273 when large.
#[derive(Debug, Clone)]
pub struct Generator {
    key: ChaCha8Rng,
    id_key: u64,
    organisations: NonZeroU64,
    /// The history, oldest first.
    months: Vec<Month>,
    /// First day after the history.
    end: NaiveDate,
}

#[derive(Debug, Clone, Copy)]
struct Month {
    first: NaiveDate,
    days: u64,
    /// January is 0.
    of_year: usize,
}

/// A tenant, without its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its number.
    pub id: OrgId,
    /// Name of the company.
    pub name: String,
    /// How large it is.
    pub size_class: SizeClass,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// ISO 4217.
    pub currency: &'static str,
    /// Before any history.
    pub created_at: DateTime<Utc>,
    /// Its hotels and houses; at least one.
    pub properties: Vec<Property>,
    /// Its people; the first is the owner.
    pub users: Vec<User>,
}

/// A hotel or house. Its id is also that of its cash account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Unique over all organisations.
    pub id: Uuid,
    /// Name of the house.
    pub name: String,
    /// Where it is.
    pub city: String,
    /// Rooms, at least one.
    pub rooms: i32,
    /// Not before the organisation's.
    pub created_at: DateTime<Utc>,
}

/// Somebody who works there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Unique over all organisations.
    pub id: Uuid,
    /// First and last name.
    pub name: String,
    /// Always below `example.com`.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// Not before the organisation's.
    pub created_at: DateTime<Utc>,
}

/// Whether money came in or went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// In.
    Revenue,
    /// Out.
    Expense,
}

/// One revenue or expense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// In or out.
    pub kind: EntryKind,
    /// Unique over all organisations and both kinds.
    pub id: Uuid,
    /// The property that it belongs to.
    pub property: Uuid,
    /// Day on which it counts, before the anchor month.
    pub date: NaiveDate,
    /// What for.
    pub category: &'static str,
    /// Above zero, in cents.
    pub amount_cents: i64,
    /// On the day of `date`.
    pub recorded_at: DateTime<Utc>,
}

/// A property's cash on a day with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyBalance {
    /// The property.
    pub property: Uuid,
    /// The day.
    pub date: NaiveDate,
    /// `closing_cents` of the property's previous row, or 0.
    pub opening_cents: i64,
    /// Sum of the day's revenues.
    pub revenue_cents: i64,
    /// Sum of the day's expenses.
    pub expense_cents: i64,
    /// Opening plus revenue minus expense.
    pub closing_cents: i64,
}

/// A property's cash account at the end of history: its snapshot and its summary both say this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The property.
    pub property: Uuid,
    /// Sum of all revenues.
    pub revenue_cents: i64,
    /// Sum of all expenses.
    pub expense_cents: i64,
    /// Number of entries; also the account's version.
    pub entries: i32,
    /// Day of the last entry, if any.
    pub last_entry: Option<NaiveDate>,
    /// Bit *n* is set when a revenue is of the *n*th category.
    pub(super) revenue_categories: u16,
    /// Likewise for expenses.
    pub(super) expense_categories: u16,
    /// When the snapshot was taken: the last second of history.
    pub taken_at: DateTime<Utc>,
}

impl Account {
    /// Categories of its revenues, sorted.
    pub fn revenue_categories(&self) -> impl Iterator<Item = &'static str> {
        names(self.revenue_categories, &REVENUE)
    }

    /// Categories of its expenses, sorted.
    pub fn expense_categories(&self) -> impl Iterator<Item = &'static str> {
        names(self.expense_categories, &EXPENSE)
    }
}

fn names(
    set: u16,
    categories: &'static [super::catalogue::Category],
) -> impl Iterator<Item = &'static str> {
    categories.iter().enumerate().filter(move |(n, _)| set & (1 << n) != 0).map(|(_, c)| c.name)
}

/// What happened at an organisation: by property, then by date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Revenues and expenses.
    pub entries: Vec<Entry>,
    /// One for each property and day with entries.
    pub balances: Vec<DailyBalance>,
    /// One for each property.
    pub accounts: Vec<Account>,
}

/// Independent random streams of one organisation, so that a part can be computed without the others.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Shape = 0,
    Names = 1,
    History = 2,
    FrontDesk = 3,
}

/// What an id names; part of the id, so that ids of different kinds never meet.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Property = 0,
    User = 1,
    Entry = 2,
    Staff = 3,
    Task = 4,
    Reservation = 5,
}

/// The little that everything else of an organisation depends on.
struct Shape {
    class: SizeClass,
    country: &'static Country,
    season: &'static [u64; 12],
    properties: NonZeroU32,
    users: u32,
    /// Days before history.
    age_days: u64,
}

impl Generator {
    /// A population of `organisations`, with `history_months` whole months of history before the month of `anchor`.
    pub fn new(
        seed: u64,
        organisations: NonZeroU64,
        history_months: u8,
        anchor: NaiveDate,
    ) -> Self {
        let end = anchor.with_day(1).expect("every month has a first day");
        let month = |back: u32| {
            let first = end - Months::new(back);
            let days = (first + Months::new(1) - first).num_days().unsigned_abs();
            Month { first, days, of_year: first.month0() as usize }
        };
        Self {
            key: ChaCha8Rng::seed_from_u64(seed),
            id_key: mix64(seed),
            organisations,
            months: (1..=u32::from(history_months)).rev().map(month).collect(),
            end,
        }
    }

    /// How many organisations there are.
    pub fn organisations(&self) -> NonZeroU64 {
        self.organisations
    }

    /// The days of the history: from the first to before the second.
    pub fn span(&self) -> (NaiveDate, NaiveDate) {
        (self.months.first().map_or(self.end, |month| month.first), self.end)
    }

    /// Ids of an organisation's properties, without computing anything else of it.
    pub fn properties(&self, org: OrgId) -> impl ExactSizeIterator<Item = Uuid> + '_ {
        let count = self.shape(org).properties.get();
        (0..count).map(move |n| self.id(org, Kind::Property, n))
    }

    /// One of an organisation's properties for `u` drawn evenly from 0 to 1.
    pub fn property(&self, org: OrgId, u: f64) -> Uuid {
        let count = NonZeroU64::from(self.shape(org).properties);
        self.id(org, Kind::Property, u32::try_from(scale(u, count)).unwrap_or(0))
    }

    /// The organisation, its properties and its users.
    pub fn organisation(&self, org: OrgId) -> Organisation {
        let shape = self.shape(org);
        let rng = &mut self.rng(org, Stream::Names);
        let created_at = midnight(self.span().0 - Days::new(shape.age_days)) + office_hours(rng);
        Organisation {
            id: org,
            name: shape.country.company(rng),
            size_class: shape.class,
            country: shape.country.code,
            currency: shape.country.currency,
            created_at,
            properties: (0..shape.properties.get())
                .map(|n| {
                    let id = self.id(org, Kind::Property, n);
                    Property {
                        id,
                        name: shape.country.house(rng),
                        city: shape.country.city(rng),
                        rooms: rooms(shape.class, id),
                        created_at,
                    }
                })
                .collect(),
            users: (0..shape.users)
                .map(|n| User {
                    id: self.id(org, Kind::User, n),
                    name: shape.country.person(rng),
                    email: format!("user{n}@org{org}.example.com"),
                    role: Role::at(n),
                    created_at,
                })
                .collect(),
        }
    }

    /// The organisation's history.
    pub fn history(&self, org: OrgId) -> History {
        let mut history = History::default();
        self.history_into(org, &mut history);
        history
    }

    /// Replaces `history` by the organisation's, reusing its memory.
    pub fn history_into(&self, org: OrgId, history: &mut History) {
        history.entries.clear();
        history.balances.clear();
        history.accounts.clear();
        let shape = self.shape(org);
        let rng = &mut self.rng(org, Stream::History);
        for n in 0..shape.properties.get() {
            let property = self.id(org, Kind::Property, n);
            self.account_into(org, &shape, property, rng, history);
        }
    }

    /// Appends one property's history.
    fn account_into(
        &self,
        org: OrgId,
        shape: &Shape,
        property: Uuid,
        rng: &mut ChaCha8Rng,
        history: &mut History,
    ) {
        let rooms = u64::from(rooms(shape.class, property).unsigned_abs());
        let night_cents = shape.country.room_cents * rooms;
        let mut account = Account {
            property,
            revenue_cents: 0,
            expense_cents: 0,
            entries: 0,
            last_entry: None,
            revenue_categories: 0,
            expense_categories: 0,
            taken_at: midnight(self.end) - TimeDelta::seconds(1),
        };
        for month in &self.months {
            let season = shape.season[month.of_year];
            let days_milli = shape.class.scale().booking_days_milli * season / 1000;
            let days = days_milli / 1000 + u64::from(rng.random_range(0..1000) < days_milli % 1000);
            let days = days.min(month.days);
            for k in 0..days {
                // One day in each of `days` equal parts of the month: distinct, and in order.
                let day = rng.random_range(k * month.days / days..(k + 1) * month.days / days);
                let date = month.first + Days::new(day);
                self.day_into(org, date, night_cents * season / 1000, &mut account, rng, history);
            }
        }
        history.accounts.push(account);
    }

    /// Appends one day's entries and balance, and counts them in the account.
    fn day_into(
        &self,
        org: OrgId,
        date: NaiveDate,
        night_cents: u64,
        account: &mut Account,
        rng: &mut ChaCha8Rng,
        history: &mut History,
    ) {
        let opening_cents = account.revenue_cents - account.expense_cents;
        let before = *account;
        let (revenue, expense) = match rng.random_range(0..100) {
            0..45 => (true, false),
            45..60 => (false, true),
            _ => (true, true),
        };
        for kind in [EntryKind::Revenue, EntryKind::Expense] {
            let (wanted, categories) = match kind {
                EntryKind::Revenue => (revenue, &REVENUE[..]),
                EntryKind::Expense => (expense, &EXPENSE[..]),
            };
            if !wanted {
                continue;
            }
            let number = category_at(categories, rng.random_range(0..100));
            // The sum of two even draws: most entries are near the usual size, none is far from it.
            let percent = rng.random_range(30..=90_u64) + rng.random_range(30..=90_u64);
            let cents = night_cents * categories[number].share * percent / 10_000;
            let amount_cents = i64::try_from(cents).unwrap_or(i64::MAX).max(1);
            match kind {
                EntryKind::Revenue => {
                    account.revenue_cents += amount_cents;
                    account.revenue_categories |= 1 << number;
                }
                EntryKind::Expense => {
                    account.expense_cents += amount_cents;
                    account.expense_categories |= 1 << number;
                }
            }
            let n = u32::try_from(history.entries.len()).unwrap_or(u32::MAX);
            history.entries.push(Entry {
                kind,
                id: self.id(org, Kind::Entry, n),
                property: account.property,
                date,
                category: categories[number].name,
                amount_cents,
                recorded_at: midnight(date) + office_hours(rng),
            });
            account.entries += 1;
        }
        account.last_entry = Some(date);
        history.balances.push(DailyBalance {
            property: account.property,
            date,
            opening_cents,
            revenue_cents: account.revenue_cents - before.revenue_cents,
            expense_cents: account.expense_cents - before.expense_cents,
            closing_cents: account.revenue_cents - account.expense_cents,
        });
    }

    pub(super) fn country(&self, org: OrgId) -> &'static Country {
        self.shape(org).country
    }

    fn shape(&self, org: OrgId) -> Shape {
        let rng = &mut self.rng(org, Stream::Shape);
        let class = SizeClass::at(rng.random_range(0..100));
        let scale = class.scale();
        Shape {
            class,
            country: &COUNTRIES[rng.random_range(0..COUNTRIES.len())],
            season: &SEASONS[rng.random_range(0..SEASONS.len())],
            properties: NonZeroU32::MIN
                .saturating_add(rng.random_range(scale.properties.0..=scale.properties.1) - 1),
            users: rng.random_range(scale.users.0..=scale.users.1),
            age_days: rng.random_range(1..=6 * 365),
        }
    }

    pub(super) fn rng(&self, org: OrgId, stream: Stream) -> ChaCha8Rng {
        let mut rng = self.key.clone();
        rng.set_stream(org.index() << 2 | stream as u64);
        rng
    }

    /// A version 8 UUID. Its low half holds organisation (36 bits), kind (3) and number (23), so ids are unique by
    /// construction up to 68 billion organisations; its high half is a hash of that under the seed, so populations do not share ids.
    pub(super) fn id(&self, org: OrgId, kind: Kind, number: u32) -> Uuid {
        let low = org.index() << 26 | (kind as u64) << 23 | u64::from(number);
        let high = mix64(self.id_key ^ mix64(low));
        Uuid::new_v8((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// Rooms of a property, known from its id so that history and description agree on them.
fn rooms(class: SizeClass, property: Uuid) -> i32 {
    let (low, high) = class.scale().rooms;
    let draw = mix64(property.as_u64_pair().0) % u64::from(high - low + 1);
    i32::try_from(u64::from(low) + draw).unwrap_or(i32::MAX)
}

pub(super) fn midnight(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc()
}

/// A moment between 8 and 22 o'clock, to the microsecond.
pub(super) fn office_hours(rng: &mut ChaCha8Rng) -> TimeDelta {
    const HOUR_US: i64 = 3_600_000_000;
    TimeDelta::microseconds(rng.random_range(8 * HOUR_US..22 * HOUR_US))
}
