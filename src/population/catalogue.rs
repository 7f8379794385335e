//! What the synthetic world is made of: size classes, countries, categories, seasons. Constants only.

use fake::Fake;
use fake::faker::address::raw::CityName;
use fake::faker::company::raw::CompanyName;
use fake::faker::name::raw::{FirstName, LastName};
use fake::locales::{DE_DE, EN, FR_FR, IT_IT, NL_NL, PT_PT};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How large an organisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeClass {
    /// One house, one person: 70 of 100 organisations.
    Micro,
    /// One or two houses: 22 of 100.
    Small,
    /// Two to four houses: 7 of 100.
    Medium,
    /// A group of five to ten houses: 1 of 100.
    Large,
}

/// What a size class means, in numbers.
pub(super) struct Scale {
    /// Fewest and most properties.
    pub(super) properties: (u32, u32),
    /// Fewest and most users.
    pub(super) users: (u32, u32),
    /// Fewest and most rooms of a property.
    pub(super) rooms: (u32, u32),
    /// Days with entries per property and average month, in thousandths.
    pub(super) booking_days_milli: u64,
}

impl SizeClass {
    /// The class at a percentile, 0 to 99, of all organisations.
    pub(super) fn at(percentile: u32) -> Self {
        match percentile {
            0..70 => Self::Micro,
            70..92 => Self::Small,
            92..99 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// As the databases hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    pub(super) fn scale(self) -> Scale {
        let scale = |properties, users, rooms, booking_days_milli| Scale {
            properties,
            users,
            rooms,
            booking_days_milli,
        };
        match self {
            Self::Micro => scale((1, 1), (1, 1), (3, 12), 500),
            Self::Small => scale((1, 2), (2, 3), (8, 40), 750),
            Self::Medium => scale((2, 4), (4, 6), (25, 120), 875),
            Self::Large => scale((5, 10), (8, 16), (60, 320), 1000),
        }
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Exactly one in each organisation.
    Owner,
    /// Runs a property.
    Manager,
    /// Books entries.
    Clerk,
}

impl Role {
    /// The role of an organisation's user by number: one owner, then a manager for every three clerks.
    pub(super) fn at(number: u32) -> Self {
        match number {
            0 => Self::Owner,
            n if n % 4 == 1 => Self::Manager,
            _ => Self::Clerk,
        }
    }

    /// As the databases hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Manager => "manager",
            Self::Clerk => "clerk",
        }
    }
}

/// Where an organisation is at home.
pub(super) struct Country {
    /// ISO 3166-1 alpha-2.
    pub(super) code: &'static str,
    /// ISO 4217.
    pub(super) currency: &'static str,
    /// What a room costs, in cents of the currency per night.
    pub(super) room_cents: u64,
    language: Language,
    houses: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Language {
    English,
    French,
    German,
    Italian,
    Dutch,
    Portuguese,
}

pub(super) const COUNTRIES: [Country; 10] = [
    country("FR", "EUR", 9_800, Language::French, &["Hôtel", "Auberge", "Maison"]),
    country("DE", "EUR", 9_200, Language::German, &["Hotel", "Gasthof", "Pension"]),
    country("IT", "EUR", 8_700, Language::Italian, &["Albergo", "Locanda", "Casa"]),
    country("PT", "EUR", 7_600, Language::Portuguese, &["Hotel", "Pensão", "Quinta"]),
    country("NL", "EUR", 10_900, Language::Dutch, &["Hotel", "Herberg", "Huis"]),
    country("AT", "EUR", 10_400, Language::German, &["Hotel", "Gasthof", "Alpenhof"]),
    country("CH", "CHF", 15_800, Language::German, &["Hotel", "Gasthaus", "Kurhaus"]),
    country("GB", "GBP", 9_500, Language::English, &["Hotel", "Inn", "House"]),
    country("IE", "EUR", 11_200, Language::English, &["Hotel", "Lodge", "House"]),
    country("US", "USD", 13_400, Language::English, &["Hotel", "Inn", "Motel"]),
];

const fn country(
    code: &'static str,
    currency: &'static str,
    room_cents: u64,
    language: Language,
    houses: &'static [&'static str],
) -> Country {
    Country { code, currency, room_cents, language, houses }
}

/// Calls a faker in the country's language.
macro_rules! in_language {
    ($language:expr, $faker:ident, $kind:ty, $rng:expr) => {
        match $language {
            Language::English => $faker(EN).fake_with_rng::<$kind, _>($rng),
            Language::French => $faker(FR_FR).fake_with_rng::<$kind, _>($rng),
            Language::German => $faker(DE_DE).fake_with_rng::<$kind, _>($rng),
            Language::Italian => $faker(IT_IT).fake_with_rng::<$kind, _>($rng),
            Language::Dutch => $faker(NL_NL).fake_with_rng::<$kind, _>($rng),
            Language::Portuguese => $faker(PT_PT).fake_with_rng::<$kind, _>($rng),
        }
    };
}

impl Country {
    pub(super) fn company(&self, rng: &mut ChaCha8Rng) -> String {
        in_language!(self.language, CompanyName, String, rng)
    }

    pub(super) fn city(&self, rng: &mut ChaCha8Rng) -> String {
        in_language!(self.language, CityName, String, rng)
    }

    pub(super) fn person(&self, rng: &mut ChaCha8Rng) -> String {
        let first = in_language!(self.language, FirstName, &str, rng);
        let last = in_language!(self.language, LastName, &str, rng);
        format!("{first} {last}")
    }

    pub(super) fn house(&self, rng: &mut ChaCha8Rng) -> String {
        let kind = self.houses[rng.random_range(0..self.houses.len())];
        let family = in_language!(self.language, LastName, &str, rng);
        match self.language {
            Language::English => format!("The {family} {kind}"),
            _ => format!("{kind} {family}"),
        }
    }
}

/// What money comes in for, or goes out for.
pub(super) struct Category {
    pub(super) name: &'static str,
    /// How often an entry is of this category, of 100.
    pub(super) frequency: u32,
    /// Size of an entry against a night of all rooms sold, in hundredths.
    pub(super) share: u64,
}

const fn category(name: &'static str, frequency: u32, share: u64) -> Category {
    Category { name, frequency, share }
}

/// Sorted by name, so that a set of them lists in the order that the read model keeps.
pub(super) const REVENUE: [Category; 6] = [
    category("events", 6, 45),
    category("food and beverage", 24, 30),
    category("other", 5, 6),
    category("parking", 8, 5),
    category("rooms", 50, 70),
    category("spa", 7, 12),
];

/// Sorted by name.
pub(super) const EXPENSE: [Category; 8] = [
    category("commissions", 17, 11),
    category("insurance", 4, 20),
    category("maintenance", 13, 18),
    category("marketing", 8, 9),
    category("payroll", 20, 60),
    category("supplies", 23, 13),
    category("taxes", 5, 28),
    category("utilities", 10, 16),
];

/// Index of a category at a percentile, 0 to 99.
pub(super) fn category_at(categories: &[Category], percentile: u32) -> usize {
    let mut below = 0;
    categories
        .iter()
        .position(|category| {
            below += category.frequency;
            percentile < below
        })
        .unwrap_or(categories.len() - 1)
}

/// Business of each month, January first, in thousandths of an average one.
pub(super) const SEASONS: [[u64; 12]; 3] = [
    // A town: trade fairs in spring and autumn.
    [800, 850, 1050, 1050, 1150, 1100, 950, 850, 1200, 1200, 1000, 800],
    // The sea: summer.
    [400, 450, 600, 900, 1100, 1500, 1900, 2000, 1350, 800, 500, 500],
    // The mountains: snow, and hikers in summer.
    [1700, 1800, 1400, 600, 450, 800, 1150, 1250, 700, 500, 450, 1200],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert!(SEASONS.iter().all(|season| season.iter().sum::<u64>() == 12_000));
        for categories in [&REVENUE[..], &EXPENSE[..]] {
            assert_eq!(categories.iter().map(|c| c.frequency).sum::<u32>(), 100);
            assert!(categories.is_sorted_by_key(|c| c.name));
        }
    }

    #[test]
    fn the_last_percentile_is_the_last_category() {
        assert_eq!(category_at(&REVENUE, 0), 0);
        assert_eq!(category_at(&REVENUE, 99), REVENUE.len() - 1);
    }
}
