//! Values: what stands for each placeholder in the request of one arrival.
//!
//! Every value is a pure function of the arrival's content, the population and the day of the run, so that a run can
//! be repeated and the audit can tell what was sent. Syntax and names of placeholders are `scenario::placeholder`'s.

use std::fmt::Write;

use chrono::{Datelike, NaiveDate};
use serde_json::Value;
use uuid::Uuid;

use super::schedule::Arrival;
use crate::ids::OrgId;
use crate::scenario::{Piece, Placeholder, Template, TemplateError};

/// Who there is to send requests for. Implemented by the population; computed, never looked up.
pub trait Directory: Send + Sync {
    /// The organisation at `u`, uniform in [0, 1): busy ones come up more often.
    fn pick(&self, u: f64) -> OrgId;

    /// One of the organisation's properties, chosen by `u`, uniform in [0, 1).
    fn property(&self, org: OrgId, u: f64) -> Uuid;
}

/// What `{category}` draws from.
const CATEGORIES: [&str; 6] = ["rooms", "restaurant", "bar", "events", "spa", "parking"];

/// Smallest and largest `{amount}`, in cents. Drawn evenly over orders of magnitude: many small, few large.
const AMOUNT_CENTS: (f64, f64) = (100.0, 500_000.0);

/// Independent draws from one arrival's content.
#[derive(Clone, Copy)]
enum Draw {
    Org = 1,
    Property,
    Amount,
    Category,
    UuidHigh,
    UuidLow,
}

/// 64 bits of `content` for one purpose: SplitMix64's output function (Steele, Lea and Flood, 2014).
fn bits(content: u64, draw: Draw) -> u64 {
    let mut z = content.wrapping_add((draw as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in [0, 1).
fn uniform(content: u64, draw: Draw) -> f64 {
    (bits(content, draw) >> 11) as f64 / (1u64 << 53) as f64
}

/// The day of the run, as requests write it.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    today: String,
    month_start: String,
}

impl Calendar {
    /// From today's date, UTC.
    pub(crate) fn new(today: NaiveDate) -> Self {
        let month_start = today.with_day(1).expect("every month has a first day");
        Self { today: today.to_string(), month_start: month_start.to_string() }
    }
}

/// The values of one arrival.
pub(crate) struct Values<'a> {
    directory: &'a dyn Directory,
    calendar: &'a Calendar,
    arrival: &'a Arrival,
    /// The organisation that the arrival is for.
    pub(crate) org: OrgId,
}

impl<'a> Values<'a> {
    /// Picks the arrival's organisation; the rest is computed when asked for.
    pub(crate) fn new(
        directory: &'a dyn Directory,
        calendar: &'a Calendar,
        arrival: &'a Arrival,
    ) -> Self {
        let org = directory.pick(uniform(arrival.content, Draw::Org));
        Self { directory, calendar, arrival, org }
    }

    /// Renders a template with these values.
    pub(crate) fn render(&self, template: &Template, out: &mut String) {
        template.render_into(out, |placeholder, out| self.append(placeholder, out));
    }

    fn append(&self, placeholder: Placeholder, out: &mut String) {
        let u = |draw| uniform(self.arrival.content, draw);
        let written = match placeholder {
            Placeholder::Org => write!(out, "{}", self.org),
            Placeholder::Property => {
                write!(out, "{}", self.directory.property(self.org, u(Draw::Property)))
            }
            Placeholder::Amount => write!(out, "{}", amount_cents(u(Draw::Amount))),
            Placeholder::Category => {
                let index = (u(Draw::Category) * CATEGORIES.len() as f64) as usize;
                out.write_str(CATEGORIES[index])
            }
            Placeholder::Date => out.write_str(&self.calendar.today),
            Placeholder::MonthStart => out.write_str(&self.calendar.month_start),
            Placeholder::Uuid => write!(out, "{}", self.uuid()),
            Placeholder::Arrival => write!(out, "{}", self.arrival.index),
        };
        written.expect("writing to a String does not fail");
    }

    fn uuid(&self) -> Uuid {
        let (high, low) =
            (bits(self.arrival.content, Draw::UuidHigh), bits(self.arrival.content, Draw::UuidLow));
        let both = (u128::from(high) << 64) | u128::from(low);
        // Version 4, as a client would choose: version 8 is kept for what was computed before a run.
        uuid::Builder::from_random_bytes(both.to_be_bytes()).into_uuid()
    }
}

/// Log-uniform between the bounds.
fn amount_cents(u: f64) -> u64 {
    let (least, most) = AMOUNT_CENTS;
    (least * (most / least).powf(u)).round() as u64
}

/// A JSON value as one template. A string that is one placeholder alone takes the placeholder's own type.
pub(crate) fn json_template(value: &Value) -> Result<Template, Vec<TemplateError>> {
    let mut text = String::new();
    write_json(value, &mut text)?;
    Template::parse(&text)
}

/// Writes `value` as the source of a template: JSON whose own braces are doubled.
fn write_json(value: &Value, out: &mut String) -> Result<(), Vec<TemplateError>> {
    match value {
        Value::Object(members) => {
            out.push_str("{{");
            for (index, (key, member)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                let _ = write!(out, "\"{}\":", escaped(key));
                write_json(member, out)?;
            }
            out.push_str("}}");
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_json(item, out)?;
            }
            out.push(']');
        }
        Value::String(text) => write_text(&Template::parse(text)?, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn write_text(template: &Template, out: &mut String) {
    let is_number = |p| matches!(p, Placeholder::Org | Placeholder::Amount | Placeholder::Arrival);
    if let Some(placeholder) = template.sole_placeholder().filter(|p| is_number(*p)) {
        out.push_str(&placeholder.to_string());
        return;
    }
    out.push('"');
    for piece in template.pieces() {
        match piece {
            Piece::Literal(text) => out.push_str(&escaped(text)),
            Piece::Placeholder(placeholder) => out.push_str(&placeholder.to_string()),
        }
    }
    out.push('"');
}

/// A text as it stands inside a JSON string inside a template.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].replace('{', "{{").replace('}', "}}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::load::testing::Village;

    fn rendered(template: &Template, content: u64) -> String {
        let calendar = Calendar::new(NaiveDate::from_ymd_opt(2026, 3, 14).unwrap());
        let arrival = Arrival { index: 41, intended_us: 0, operation: 0, content };
        let mut out = String::new();
        Values::new(&Village, &calendar, &arrival).render(template, &mut out);
        out
    }

    #[test]
    fn the_same_arrival_is_the_same_text() {
        let path = "/v1/orgs/{org}/cash?from={month_start}&to={date}&n={arrival}&u={uuid}";
        let template = Template::parse(path).unwrap();
        assert_eq!(
            rendered(&template, 5),
            "/v1/orgs/39/cash?from=2026-03-01&to=2026-03-14&n=41&u=301e278f-aa01-4dc5-a16f-9630b0074044"
        );
        assert_ne!(rendered(&template, 5), rendered(&template, 6));
    }

    #[test]
    fn a_json_string_that_is_one_placeholder_takes_its_type() {
        let body = json!({
            "amount": "{amount}", "note": "for {amount} {{\"net\"}}", "org": "{org}",
            "when": "{date}", "{odd}": [1, null, true, "{arrival}"],
        });
        let text = rendered(&json_template(&body).unwrap(), 5);
        let value: Value = serde_json::from_str(&text).unwrap();
        let amount = value["amount"].as_u64().unwrap();
        assert_eq!(value["note"], format!("for {amount} {{\"net\"}}"));
        assert_eq!(value["org"], 39);
        assert_eq!(value["when"], "2026-03-14");
        assert_eq!(value["{odd}"], json!([1, null, true, 41]));
    }

    #[test]
    fn small_amounts_are_common_and_large_ones_rare() {
        assert_eq!((amount_cents(0.0), amount_cents(0.999_999_999)), (100, 500_000));
        assert_eq!(amount_cents(0.5), 7_071, "half of all are below the geometric mean");
    }

    proptest! {
        #[test]
        fn a_json_body_without_placeholders_renders_as_itself(text in "[a-z\"\\\\\n{}ü]{0,20}") {
            let body = json!({ "text": text.replace('{', "{{").replace('}', "}}") });
            let rendered = rendered(&json_template(&body).unwrap(), 1);
            let back: Value = serde_json::from_str(&rendered).unwrap();
            prop_assert_eq!(back, json!({ "text": text }));
        }
    }
}
