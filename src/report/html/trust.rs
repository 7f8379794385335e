//! Why the figures may be believed, or not.

use maud::{Markup, html};

use super::icon;
use super::page::{Section, scroll};
use crate::gates::Bias;
use crate::report::format;
use crate::report::markdown::{audit_sentence, validity_counts};
use crate::report::model::{Report, audit_as_check};

/// The checks of the run itself.
pub(super) fn validity(report: &Report) -> Section {
    Section {
        id: "validity",
        title: "Validity",
        says: format!(
            "The run is judged before the system is: {}. Red makes a verdict that leans on it inconclusive; amber is worth knowing; \
             grey was not measured and never counts as good.",
            validity_counts(report)
        ),
        body: scroll(
            "Validity",
            html! {
                @if report.validity.is_empty() { p.plain.absent { "No check of the run was made." } } @else {
                    table {
                        thead { tr { th { "State" } th { "Check" } th { "Found" } } }
                        tbody {
                            @for check in &report.validity {
                                tr {
                                    td { (icon::state_sign(check.state)) }
                                    th scope="row" { (check.check) }
                                    td { (check.detail) (bias(check.bias)) }
                                }
                            }
                        }
                    }
                }
            },
        ),
    }
}

fn bias(bias: Option<Bias>) -> Markup {
    let consequence = bias.map(|bias| match bias {
        Bias::LooksWorse => {
            "Makes the system look worse than it is: a pass stands, a fail does not."
        }
        Bias::LooksBetter => {
            "Makes the system look better than it is: a fail stands, a pass does not."
        }
        Bias::Unknown => "Which way it pushes cannot be told: neither a pass nor a fail stands.",
    });
    html! { @if let Some(text) = consequence { span.small { (text) } } }
}

/// The ledger held against the databases.
pub(super) fn audit(report: &Report) -> Section {
    Section {
        id: "audit",
        title: "Audit",
        says: format!(
            "After the load, what the client was told is held against the databases: {}. A grey check could not be made.",
            audit_sentence(report)
        ),
        body: scroll(
            "Audit",
            html! {
                @if report.audit.is_empty() { p.plain.absent { "No audit was made: nothing here says that acknowledged work is durable." } } @else {
                    table {
                        thead { tr { th { "State" } th { "What must be true" } th.num { "Checked" } th { "Found" } } }
                        tbody {
                            @for check in &report.audit {
                                tr {
                                    td { (icon::state_sign(audit_as_check(check.state))) }
                                    th scope="row" { (check.check) }
                                    td.num { (format::grouped(check.count)) }
                                    td { (check.detail) }
                                }
                            }
                        }
                    }
                }
            },
        ),
    }
}
