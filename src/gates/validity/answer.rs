//! How a check answers.

use crate::gates::verdict::{Bias, CheckState, ValidityCheck};

/// Measured and good.
pub(super) fn green(check: &str, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Green, None, detail)
}

/// Measured and worth knowing.
pub(super) fn amber(check: &str, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Amber, None, detail)
}

/// Measured and bad, pushing the figures one way.
pub(super) fn red(check: &str, bias: Bias, detail: impl Into<String>) -> ValidityCheck {
    answer(check, CheckState::Red, Some(bias), detail)
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
    ValidityCheck { check: check.to_owned(), state, bias, detail: detail.into() }
}
