//! A guest's stay from booking to departure, as a state machine:
//!
//! ```text
//! booked ──→ checked_in ──→ checked_out
//!    └─────→ cancelled
//! ```

use serde::{Deserialize, Serialize};

/// How far a stay is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Stay {
    /// The guest is to come.
    Booked,
    /// The guest is here.
    CheckedIn,
    /// The guest has left.
    CheckedOut,
    /// The guest will not come.
    Cancelled,
}

impl Stay {
    /// States in which dates, room and the rest may still change.
    pub const CHANGEABLE: &'static [Self] = &[Self::Booked, Self::CheckedIn];

    /// The states from which this one may be entered, or kept.
    pub const fn reached_from(self) -> &'static [Self] {
        match self {
            Self::Booked => &[Self::Booked],
            Self::CheckedIn => &[Self::Booked, Self::CheckedIn],
            Self::CheckedOut => &[Self::CheckedIn],
            Self::Cancelled => &[Self::Booked],
        }
    }

    /// As databases and clients know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::CheckedIn => "checked_in",
            Self::CheckedOut => "checked_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// What follows "the reservation " when it stands in the way.
    pub const fn is(self) -> &'static str {
        match self {
            Self::Booked => "is booked, and not checked in",
            Self::CheckedIn => "is checked in",
            Self::CheckedOut => "has ended",
            Self::Cancelled => "was cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_stays_so() {
        use Stay::{Booked, Cancelled, CheckedIn, CheckedOut};
        for next in [Booked, CheckedIn, CheckedOut, Cancelled] {
            for ended in [CheckedOut, Cancelled] {
                assert!(!next.reached_from().contains(&ended), "{ended:?} to {next:?}");
            }
        }
        assert!(!CheckedOut.reached_from().contains(&Booked), "nobody leaves who never came");
        assert!(!Cancelled.reached_from().contains(&CheckedIn), "who came cannot cancel");
    }

    #[test]
    fn a_name_is_the_one_that_clients_send() {
        for stay in [Stay::Booked, Stay::CheckedIn, Stay::CheckedOut, Stay::Cancelled] {
            assert_eq!(serde_json::to_value(stay).unwrap(), stay.name());
        }
    }
}
