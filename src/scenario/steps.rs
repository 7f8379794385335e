//! Load in steps: the same operations at one rate after another, each step judged by itself.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::model::Scenario;
use super::parse::check_whole_seconds;
use super::reader::{Item, TableReader, read_all};
use crate::units::{Micros, Rate};

/// Most steps of one load.
const STEPS_MAX: usize = 100;
/// Largest step: a thousand times the rates of the operations.
const PERCENT_MAX: u32 = 100_000;
const PERCENT: &str = "a whole percentage of the operations' rates, 1% to 100000%, like \"150%\"";

/// Steps of load, upwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Rates of each step, in percent of the operations'; at least two, ascending.
    pub percents: Vec<u32>,
    /// Length of each step; whole seconds.
    pub each: Micros,
    /// How long each step runs before it is judged; whole seconds, less than `each`.
    pub settle: Micros,
}

impl Steps {
    /// Length of all steps together.
    pub fn total(&self) -> Micros {
        Micros::new(self.each.get() * self.percents.len() as u64)
    }

    /// By how much the operations' rates are multiplied, step by step.
    pub fn factors(&self) -> impl ExactSizeIterator<Item = f64> {
        self.percents.iter().map(|percent| f64::from(*percent) / 100.0)
    }
}

/// What a step asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRates {
    /// Requests per second.
    pub requests: f64,
    /// Events among them.
    pub events: f64,
}

impl Scenario {
    /// The load of one step alone, as a scenario of its own; `None` when there is no such step.
    pub fn at_step(&self, step: usize) -> Option<Self> {
        let steps = self.load.steps.as_ref()?;
        let factor = steps.factors().nth(step)?;
        let mut alone = self.clone();
        alone.load.steps = None;
        alone.load.measure = Micros::new(steps.each.get() - steps.settle.get());
        for operation in &mut alone.operations {
            operation.rate = Rate::per_second(operation.rate.get() * factor).ok()?;
        }
        Some(alone)
    }

    /// What the operations ask for together, at `factor` times their rates.
    pub fn rates_at(&self, factor: f64) -> StepRates {
        let sum = |events_alone: bool| -> f64 {
            let counted = self.operations.iter().filter(|o| o.event || !events_alone);
            counted.map(|operation| operation.rate.get() * factor).sum()
        };
        StepRates { requests: sum(false), events: sum(true) }
    }

    /// The most that is asked for at any time, in requests per second.
    pub fn rate_max(&self) -> f64 {
        let factors = self.load.steps.iter().flat_map(Steps::factors);
        self.rates_at(factors.reduce(f64::max).unwrap_or(1.0)).requests
    }
}

/// As it stands in a file: inline, every step written out.
impl Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at: Vec<String> =
            self.percents.iter().map(|percent| format!("\"{percent}%\"")).collect();
        let (at, Self { each, settle, .. }) = (at.join(", "), self);
        write!(f, "{{ at = [{at}], each = \"{each}\", settle = \"{settle}\" }}")
    }
}

pub(super) fn read(item: Item<'_>) -> Option<Steps> {
    let steps = item.table("steps", |table| read_steps(item, table))?;
    match check_whole_seconds(steps.total(), Micros::from_secs(1)) {
        Ok(()) => Some(steps),
        Err(_) => item.refuse("all steps together may take 24h"),
    }
}

fn read_steps(whole: Item<'_>, table: &mut TableReader<'_>) -> Option<Steps> {
    let percents = read_percents(whole, table);
    let seconds = |item: Item<'_>, least| {
        let span: Micros = item.quantity()?;
        match check_whole_seconds(span, least) {
            Ok(()) => Some(span),
            Err(expected) => item.refuse(format_args!("expected {expected}")),
        }
    };
    let each =
        table.required("each", r#"each = "20s""#, |item| seconds(item, Micros::from_secs(1)));
    let settle = table.or("settle", Micros::default(), |item| {
        let settle = seconds(item, Micros::default())?;
        match each {
            Some(each) if settle >= each => {
                item.refuse(format_args!("expected less than a step takes, {each}"))
            }
            _ => Some(settle),
        }
    });
    Some(Steps { percents: percents?, each: each?, settle: settle? })
}

/// Either `from`, `to` and `by`, or `at` with every step.
fn read_percents(whole: Item<'_>, table: &mut TableReader<'_>) -> Option<Vec<u32>> {
    let listed = table.item("at");
    let ends = [table.item("from"), table.item("to"), table.item("by")];
    match (listed, ends) {
        (Some(listed), [None, None, None]) => read_list(listed),
        (None, [Some(from), Some(to), Some(by)]) => {
            let (first, last, by) = (percent(from), percent(to), percent(by));
            ladder(whole, first?, last?, by?)
        }
        _ => whole.refuse(
            "expected from, to and by, like from = \"100%\", to = \"800%\", by = \"100%\", or a list, \
             like at = [\"100%\", \"150%\", \"200%\"]",
        ),
    }
}

fn ladder(whole: Item<'_>, first: u32, last: u32, by: u32) -> Option<Vec<u32>> {
    if last <= first || !(last - first).is_multiple_of(by) {
        return whole.refuse(format_args!("steps of {by}% from {first}% do not arrive at {last}%"));
    }
    let count = ((last - first) / by) as usize + 1;
    if count > STEPS_MAX {
        return whole.refuse(format_args!("{count} steps: expected {STEPS_MAX} at most"));
    }
    Some((first..=last).step_by(by as usize).collect())
}

fn read_list(listed: Item<'_>) -> Option<Vec<u32>> {
    let values = listed.list(r#"a list of percentages, like ["100%", "150%"]"#)?;
    let percents: Vec<u32> = read_all(values, percent)?;
    let ascends = percents.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascends || !(2..=STEPS_MAX).contains(&percents.len()) {
        return listed
            .refuse(format_args!("expected 2 to {STEPS_MAX} steps, each above the one before"));
    }
    Some(percents)
}

fn percent(item: Item<'_>) -> Option<u32> {
    let text = item.value().as_str().unwrap_or_default();
    let digits = text.strip_suffix('%').map(|digits| digits.replace('_', ""));
    // `parse` would take a sign.
    let plain = digits.filter(|digits| digits.chars().all(|c| c.is_ascii_digit()));
    match plain.and_then(|digits| digits.parse().ok()) {
        Some(percent) if (1..=PERCENT_MAX).contains(&percent) => Some(percent),
        _ => item.refuse(format_args!("expected {PERCENT}")),
    }
}
