//! Why requests failed.

use maud::{Markup, html};

use super::page::{Section, absent, scroll};
use crate::report::failures::{FailureRow, Failures};
use crate::report::format;
use crate::report::model::Report;

/// A row for each operation and reason.
pub(super) fn section(report: &Report) -> Section {
    let failures = &report.failures;
    Section {
        id: "failures",
        title: "Failures",
        says: "Why requests that were sent did not count as OK, over the whole run, warm-up included. Seconds are those in which the \
               requests should have left."
            .to_owned(),
        body: scroll("Failures", html! {
            @if !failures.rows.is_empty() { (table(failures)) }
            @if let Some(remark) = failures.remark() { p.plain { (capitalised(&remark)) "." } }
        }),
    }
}

fn table(failures: &Failures) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "Operation" } th { "Reason" } th.num { "Requests" } th.num { "Share of the operation" }
                    th.num { "First second" } th.num { "Last second" }
                }
            }
            tbody { @for row in &failures.rows { (table_row(row)) } }
        }
    }
}

fn table_row(row: &FailureRow) -> Markup {
    let failure = &row.failure;
    html! {
        tr {
            th scope="row" { (failure.operation) }
            td { (failure.reason) }
            td.num.strong { (format::grouped(failure.count)) }
            td.num { @match row.share { Some(share) => (format::percent(share)), None => (absent()) } }
            td.num { (failure.first_s) }
            td.num { (failure.last_s) }
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
