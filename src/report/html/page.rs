//! The page: head, verdict, and the sections in their order.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{failures, gates, icon, load, run, server, steps, trust};
use crate::gates::Verdict;
use crate::report::format::{self, or_not_measured};
use crate::report::model::{Report, gate_place, verdict_word};

const STYLE: &str = include_str!("style.css");
/// More broken gates than these are left to the table.
const NAMED_MAX: usize = 6;

/// The report as one HTML file.
pub(in crate::report) fn render(report: &Report) -> String {
    let word = verdict_word(report.verdict);
    let sections = [gates::section(report)].into_iter().chain(steps::section(report)).chain([
        load::strip(report),
        load::over_time(report),
        load::by_percentile(report),
        load::operations(report),
        failures::section(report),
        server::signals(report),
        trust::validity(report),
        trust::audit(report),
        run::incidents(report),
        run::stages(report),
        run::environment(report),
        run::command(report),
    ]);
    let sections: Vec<Section> = sections.collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "plimsoll " (report.run.release) };
                title { (word) ": " (report.run.title) " · " (report.run.id) }
                // An empty icon: without it a browser would ask a server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.brand {
                        (icon::load_line()) b { "plimsoll" } " load report"
                        span.id { (report.run.id) }
                    }
                    (verdict(report))
                    nav aria-label="Sections" {
                        @for part in &sections { a href={ "#" (part.id) } { (part.title) } }
                    }
                }
                main { @for part in &sections { (part.markup()) } }
                footer {
                    "Made by plimsoll " (report.run.release) " from the archive of the run; "
                    code { "plimsoll report" } " judges and renders it again."
                }
            }
        }
    };
    page.into_string()
}

/// A section of the page.
pub(super) struct Section {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// One line: what the section says, to a reader who does not trust load tests.
    pub(super) says: String,
    pub(super) body: Markup,
}

impl Section {
    fn markup(&self) -> Markup {
        html! {
            section id=(self.id) {
                h2 { (self.title) }
                p.says { (self.says) }
                (self.body)
            }
        }
    }
}

/// A box whose content may be wider than the window: a keyboard can reach and scroll it too.
pub(super) fn scroll(name: &str, content: Markup) -> Markup {
    html! { div.box tabindex="0" role="region" aria-label=(name) { (content) } }
}

/// What stands where nothing was measured.
pub(super) fn absent() -> Markup {
    html! { span.absent { (format::NOT_MEASURED) } }
}

fn verdict(report: &Report) -> Markup {
    let run = &report.run;
    let organisations = or_not_measured(run.organisations, |count| {
        format!("{} organisations", format::grouped(count))
    });
    let broken: Vec<_> = report.gates.iter().filter(|g| g.verdict != Verdict::Pass).collect();
    html! {
        div.verdict.(icon::verdict_tone(report.verdict)) {
            (icon::verdict_icon(report.verdict))
            div {
                h1 { strong { (verdict_word(report.verdict)) } (run.title) }
                p.sentence { (report.headline) }
                @if !broken.is_empty() {
                    ul aria-label="Gates that do not hold" {
                        @for gate in broken.iter().take(NAMED_MAX) {
                            li {
                                span.strong { (gate.gate) } " " (gate_place(gate)) ": "
                                (or_not_measured(gate.observed, |v| format::figure(v, gate.unit)))
                            }
                        }
                        @if broken.len() > NAMED_MAX {
                            li { a href="#gates" { "and " (broken.len() - NAMED_MAX) " more" } }
                        }
                    }
                }
                p.facts {
                    span { "Scenario " (run.scenario) }
                    @if run.organisations.is_some() { span { (organisations) } }
                    span { (report.window.warm_up_s) " s warm-up, " (report.window.measure_s) " s measured" }
                    span { "Seed " (run.seed) }
                    span { (run.started_at.replace('T', " ").replace('Z', " UTC")) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Incident;
    use crate::report::fixture::{Variant, report};

    /// In the order in which people ask.
    const SECTIONS: [&str; 13] = [
        "gates",
        "load",
        "time",
        "percentiles",
        "operations",
        "failures",
        "signals",
        "validity",
        "audit",
        "incidents",
        "stages",
        "environment",
        "repeat",
    ];

    #[test]
    fn the_verdict_comes_first_and_every_section_after_it_in_order() {
        for variant in Variant::ALL {
            let report = report(variant);
            let page = render(&report);
            let place = |needle: &str| {
                page.find(needle).unwrap_or_else(|| panic!("{}: no {needle}", variant.name()))
            };
            let verdict = place(&format!("<strong>{}</strong>", verdict_word(report.verdict)));
            assert!(verdict < place(&report.headline.replace('<', "&lt;").replace('>', "&gt;")));
            let places = SECTIONS.map(|id| place(&format!("<section id=\"{id}\">")));
            assert!(verdict < places[0] && places.is_sorted(), "{}: {places:?}", variant.name());
        }
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        for variant in Variant::ALL {
            let page = render(&report(variant));
            for loads in
                ["http:", "https:", "src=", "url(", "@import", "<script", "<iframe", "<object"]
            {
                assert!(!page.contains(loads), "{}: {loads}", variant.name());
            }
            let links = page.matches("href=").count();
            let inside = page.matches("href=\"#").count();
            assert_eq!(links, inside + 1, "only the empty icon is no place on the page itself");
        }
    }

    #[test]
    fn what_scrolls_can_be_reached_and_has_a_name() {
        let page = render(&report(Variant::Fail));
        let boxes: Vec<&str> = page.split("<div class=\"box\"").skip(1).collect();
        assert!(boxes.len() > 10);
        for rest in boxes {
            let wide = ["<table", "<pre", "<svg class=\"chart\""];
            let content = rest.split("<section").next().unwrap_or_default();
            let reached = rest.starts_with(" tabindex=\"0\" role=\"region\" aria-label=\"");
            assert!(reached || !wide.iter().any(|tag| content.contains(tag)), "{content:.80}");
        }
    }

    #[test]
    fn names_of_places_are_unique_and_links_lead_somewhere() {
        let page = render(&report(Variant::Fail));
        let values = |attribute: &str| -> Vec<String> {
            let parts = page.split(attribute).skip(1);
            parts.map(|part| part.split('"').next().unwrap_or_default().to_owned()).collect()
        };
        let mut ids = values(" id=\"");
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
        for target in values("href=\"#") {
            assert!(ids.contains(&target), "nothing is called {target}");
        }
    }

    #[test]
    fn nothing_measured_is_said_and_never_a_number() {
        let page = render(&report(Variant::Empty));
        assert!(!page.contains("<svg class=\"chart\""), "there is nothing to draw");
        assert!(page.matches(format::NOT_MEASURED).count() > 30);
        for wrong in ["NaN", "inf", "∞", ">0/s<", ">0 µs<", "+0 %"] {
            assert!(!page.contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn text_from_elsewhere_stays_text() {
        let mut hostile = report(Variant::Fail);
        let text = "<script>alert('\"&')</script>".to_owned();
        hostile.run.title.clone_from(&text);
        hostile.run.command.clone_from(&text);
        hostile.headline.clone_from(&text);
        hostile.environment.cpu.clone_from(&text);
        hostile.gates[0].gate.clone_from(&text);
        hostile.gates[0].reason = Some(text.clone());
        hostile.operations[0].name.clone_from(&text);
        hostile.failures.rows[0].failure.reason.clone_from(&text);
        hostile.curves.cpu[0].0.clone_from(&text);
        hostile.incidents =
            vec![Incident { second: Some(3), what: text.clone(), detail: text.clone() }];
        let page = render(&hostile);
        assert!(!page.contains("<script"));
        assert!(page.matches("&lt;script&gt;").count() >= 10);
    }
}
