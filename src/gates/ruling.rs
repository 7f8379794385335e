//! A rule applied to what was observed: whether it holds, by how much, and on how many samples.

use super::figure::{FigureName, SignalName, Statistic};
use super::figures::RequestFigures;
use super::interval::share_bounds;
use super::rule::Rule;
use super::show::show;
use super::signals::{Reading, too_many_missing};
use super::verdict::{GateOutcome, Unit, Verdict};
use crate::archive::Window;
use crate::units::show::grouped;

/// A rule applied to what was observed, before validity has its say.
pub(super) struct Ruling {
    observed: Option<f64>,
    samples: u64,
    margin: Option<f64>,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
}

impl Ruling {
    /// As the outcome of a rule on the whole run; `None` where the text is no rule.
    pub(super) fn outcome(self, text: &str, rule: Option<&Rule>) -> GateOutcome {
        let (limit, unit) = rule.map_or((0.0, Unit::Count), |r| (r.limit, r.figure.unit()));
        let Self { observed, samples, margin, verdict, reason } = self;
        let (gate, operation, service) = (text.to_owned(), None, None);
        GateOutcome {
            gate,
            operation,
            service,
            observed,
            limit,
            unit,
            samples,
            margin,
            verdict,
            reason,
        }
    }

    pub(super) fn unknown(reason: String) -> Self {
        let verdict = Verdict::Inconclusive;
        Self { observed: None, samples: 0, margin: None, verdict, reason: Some(reason) }
    }

    pub(super) fn observed(rule: &Rule, value: f64, samples: u64) -> Self {
        let room = match rule.comparison.is_upper_bound() {
            true => rule.limit - value,
            false => value - rule.limit,
        };
        let verdict = if rule.holds(value) { Verdict::Pass } else { Verdict::Fail };
        Self {
            observed: Some(value),
            samples,
            margin: (rule.limit != 0.0).then(|| room / rule.limit.abs()),
            verdict,
            reason: (verdict == Verdict::Fail).then(|| broken(rule, value)),
        }
    }

    pub(super) fn note(mut self, note: String) -> Self {
        self.reason = Some(match self.reason {
            Some(reason) => format!("{reason}; {note}"),
            None => note,
        });
        self
    }

    pub(super) fn on_signal(rule: &Rule, reading: Reading, window: Window) -> Self {
        let ruling = Self::observed(rule, reading.figure.value, reading.figure.samples).with_gaps(
            rule,
            reading.unread,
            window.measure_s + 1,
        );
        if !reading.at_least {
            return ruling;
        }
        let note = "beyond the histogram's last bucket: the value is at least this";
        ruling.at_least(rule, note.to_owned())
    }

    /// The observed value may be larger than it is known to be, and why.
    pub(super) fn at_least(self, rule: &Rule, note: String) -> Self {
        let ruling = self.note(note);
        // Larger than observed: that can only worsen an upper bound and only better a lower one.
        let certain = match ruling.verdict {
            Verdict::Fail => rule.comparison.is_upper_bound(),
            Verdict::Pass => !rule.comparison.is_upper_bound(),
            Verdict::Inconclusive => true,
        };
        if certain { ruling } else { Self { verdict: Verdict::Inconclusive, ..ruling } }
    }

    pub(super) fn on_requests(rule: &Rule, figures: &RequestFigures) -> Self {
        let Some(figure) = figures.get(&rule.figure) else {
            return Self::unknown(format!("no samples: {} has nothing behind it", rule.figure));
        };
        let ruling = Self::observed(rule, figure.value, figure.samples);
        match &rule.figure {
            FigureName::Time(span, Statistic::Percentile(percentile)) => {
                let beyond = 1.0 - percentile.share();
                let histogram = figures.histogram(*span);
                let violating = histogram
                    .iter_recorded()
                    .filter(|step| !rule.holds(step.value_iterated_to() as f64))
                    .map(|step| step.count_at_value())
                    .sum();
                let allowed = match rule.comparison.is_upper_bound() {
                    true => beyond,
                    false => percentile.share(),
                };
                let share = Share { count: violating, of: figure.samples, allowed };
                ruling.with_few_samples(&share, percentile.samples_min()).with_doubt(&share)
            }
            FigureName::ErrorRate | FigureName::TimeoutRate | FigureName::Availability => {
                let count = match rule.figure {
                    FigureName::ErrorRate => figures.counts.failed(),
                    FigureName::TimeoutRate => figures.counts.timeouts,
                    // What was not answered well; a request that got lost is one of them.
                    _ => figure.samples.saturating_sub(figures.counts.ok),
                };
                let allowed = match rule.figure {
                    FigureName::Availability => 1.0 - rule.limit,
                    _ => rule.limit,
                };
                let share = Share { count, of: figure.samples, allowed };
                ruling.with_few_samples(&share, share.samples_min()).with_doubt(&share)
            }
            _ => ruling,
        }
    }

    /// A gauge that was not read for a good part of the window may have been anything then: only a maximum that is too
    /// large already is a verdict.
    fn with_gaps(self, rule: &Rule, unread: usize, readings: usize) -> Self {
        if !too_many_missing(unread, readings) {
            return self;
        }
        let is_max = matches!(
            &rule.figure,
            FigureName::Signal(SignalName { statistic: Some(Statistic::Max), .. })
        );
        let proven = is_max && rule.comparison.is_upper_bound() == (self.verdict == Verdict::Fail);
        let ruling = self.note(format!("not read in full at {unread} of {readings} seconds"));
        if proven { ruling } else { Self { verdict: Verdict::Inconclusive, ..ruling } }
    }

    /// Too few samples to see the share beyond the limit at all: only a failure that they prove is a verdict.
    fn with_few_samples(self, share: &Share, samples_min: u64) -> Self {
        let proven = self.verdict == Verdict::Fail && share.bounds().0 > share.allowed;
        if self.samples >= samples_min || proven {
            return self;
        }
        let note =
            format!("{} samples are too few for it: it takes at least {samples_min}", self.samples);
        Self { verdict: Verdict::Inconclusive, ..self.note(note) }
    }

    /// Says when another run like this one could well have come out the other way.
    fn with_doubt(self, share: &Share) -> Self {
        let (low, high) = share.bounds();
        let straddles = low <= share.allowed && share.allowed < high;
        if !straddles || share.allowed <= 0.0 || self.verdict == Verdict::Inconclusive {
            return self;
        }
        let note = format!(
            "close: {} of {} requests beyond the limit, so between {} and {} at 95 % confidence, where {} is allowed",
            grouped(share.count),
            grouped(share.of),
            show(low, Unit::Ratio),
            show(high, Unit::Ratio),
            show(share.allowed, Unit::Ratio),
        );
        self.note(note)
    }
}

/// Says that a rule is broken, also when value and limit read the same.
fn broken(rule: &Rule, value: f64) -> String {
    let (figure, comparison, unit) = (&rule.figure, rule.comparison, rule.figure.unit());
    let (observed, limit) = (show(value, unit), show(rule.limit, unit));
    let off = (value - rule.limit).abs();
    if observed == limit && off > 0.0 {
        format!("{figure} is {observed}, not {comparison} {limit}: off by {}", show(off, unit))
    } else {
        format!("{figure} is {observed}, not {comparison} {limit}")
    }
}

/// Requests on the wrong side of a limit, and how many there may be.
struct Share {
    count: u64,
    of: u64,
    /// 0 to 1.
    allowed: f64,
}

impl Share {
    /// The smallest n with (1 − allowed)ⁿ ≤ 0.05: with fewer, and none beyond the limit, a true share at the limit could not
    /// be ruled out. A limit of nothing at all is on the requests of this run, however many they are.
    fn samples_min(&self) -> u64 {
        if self.allowed <= 0.0 {
            return 1;
        }
        (0.05_f64.ln() / (1.0 - self.allowed).ln()).ceil() as u64
    }

    fn bounds(&self) -> (f64, f64) {
        share_bounds(self.count.min(self.of), self.of)
    }
}
