//! How a check answers.

use crate::gates::verdict::{Bias, CheckState, Undermines, ValidityCheck};

/// Measured and good.
pub(super) fn green(check: &str, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Green, None, detail)
}

/// Measured and worth knowing.
pub(super) fn amber(check: &str, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Amber, None, detail)
}

/// Measured and bad, pushing all figures one way.
pub(super) fn red(check: &str, bias: Bias, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Red, Some(bias), detail)
}

/// Measured and bad, and a matter of some figures only. Which way it pushes them cannot be told.
pub(super) fn red_for(
    undermines: Undermines,
    check: &str,
    detail: impl Into<String>,
) -> ValidityCheck {
    ValidityCheck { undermines, ..red(check, Bias::Unknown, detail) }
}

/// Not measured, and why.
pub(super) fn grey(check: &str, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Grey, None, detail)
}

fn answer(
    check: &str,
    state: CheckState,
    bias: Option<Bias>,
    detail: impl Into<String>,
) -> ValidityCheck {
    let undermines = Undermines::All;
    ValidityCheck { check: check.to_owned(), state, bias, undermines, detail: detail.into() }
}
