//! Axes: which range to show, where ticks go and what they say.

use std::ops::Range;

/// A labelled place on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// How values are placed along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Equal distances are equal ratios.
    Log,
}

impl Scale {
    /// Where a value stands; on a log axis nothing stands below the smallest positive place.
    pub(super) fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }
}

/// A range of values with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// From zero to at least `highest`, with about `count` round ticks.
    pub(super) fn from_zero(highest: f64, count: u32, label: impl Fn(f64) -> String) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_up(highest / f64::from(count));
        let steps = (highest / step).ceil() as u32;
        let at = (0..=steps).map(|n| f64::from(n) * step);
        Self {
            scale: Scale::Linear,
            range: 0.0..f64::from(steps) * step,
            ticks: at.map(|at| Tick { at, label: zero_or(at, &label) }).collect(),
        }
    }

    /// Whole values from zero to `highest` exactly, with ticks at multiples of a round step.
    pub(super) fn seconds(highest: usize) -> Self {
        let end = highest.max(1) as f64;
        let step = round_up(end / 12.0).max(1.0);
        let at = (0..).map(|n| f64::from(n) * step).take_while(|at| *at <= end);
        Self {
            scale: Scale::Linear,
            range: 0.0..end,
            ticks: at.map(|at| Tick { at, label: format!("{at} s") }).collect(),
        }
    }

    /// A log axis around positive values, over whole decades, with a tick at each.
    pub(super) fn log(lowest: f64, highest: f64, label: impl Fn(f64) -> String) -> Self {
        let first = lowest.log10().floor() as i32;
        let last = (highest.log10().ceil() as i32).max(first + 1);
        let at = (first..=last).map(|power| 10f64.powi(power));
        Self {
            scale: Scale::Log,
            range: 10f64.powi(first)..10f64.powi(last),
            ticks: at.map(|at| Tick { at, label: label(at) }).collect(),
        }
    }

    /// Times from zero, or on a log axis when the largest would flatten the smallest.
    pub(super) fn times(lowest: f64, highest: f64, label: impl Fn(f64) -> String) -> Self {
        const FLATTENED: f64 = 12.0;
        if lowest > 0.0 && highest / lowest > FLATTENED {
            Self::log(lowest, highest, label)
        } else {
            Self::from_zero(highest, 4, label)
        }
    }

    /// The range as plotters needs it.
    pub(super) fn places(&self) -> Range<f64> {
        self.scale.place(self.range.start)..self.scale.place(self.range.end)
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        self.scale.place(value.clamp(self.range.start, self.range.end))
    }
}

/// The next 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powi(value.log10().floor() as i32);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    // A hair's tolerance, or the binary form of 0.3 asks for the step above it.
    steps.into_iter().find(|step| *step >= value * 0.999_999).unwrap_or(value)
}

/// Zero needs no unit.
fn zero_or(at: f64, label: impl Fn(f64) -> String) -> String {
    if at == 0.0 { "0".to_owned() } else { label(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(&Axis::from_zero(8_270.0, 4, |v| v.to_string())), "0 5000 10000");
        assert_eq!(labels(&Axis::from_zero(0.97, 4, |v| format!("{v:.1}"))), "0 0.5 1.0");
        assert_eq!(labels(&Axis::from_zero(0.0, 4, |v| v.to_string())), "0 0.5 1");
        assert_eq!(labels(&Axis::seconds(80)), "0 s 10 s 20 s 30 s 40 s 50 s 60 s 70 s 80 s");
        assert_eq!(labels(&Axis::seconds(5)), "0 s 1 s 2 s 3 s 4 s 5 s");
    }

    #[test]
    fn a_log_axis_covers_whole_decades() {
        let axis = Axis::log(1_900.0, 640_000.0, |v| v.to_string());
        assert_eq!(axis.range, 1_000.0..1_000_000.0);
        assert_eq!(labels(&axis), "1000 10000 100000 1000000");
        assert_eq!(labels(&Axis::log(100.0, 100.0, |v| v.to_string())), "100 1000");
    }

    #[test]
    fn times_that_differ_much_take_a_log_axis() {
        assert_eq!(Axis::times(2_000.0, 9_000.0, |v| v.to_string()).scale, Scale::Linear);
        assert_eq!(Axis::times(2_000.0, 90_000.0, |v| v.to_string()).scale, Scale::Log);
    }
}
