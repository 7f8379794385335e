//! The run's events a second beside what the same servers took from another program.

use super::format;
use super::model::Report;
use crate::archive::Yardstick;

/// What was measured with the yardstick, and how the run compares.
#[derive(Debug, Clone, PartialEq)]
pub struct YardstickFigures {
    /// What was measured.
    pub measured: Yardstick,
    /// Events per second that are held against it: those of the last step that held, or of the run.
    pub events_per_s: Option<f64>,
}

impl YardstickFigures {
    /// The run's events as a multiple of the yardstick's; nothing when either is not known.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.events_per_s? / self.measured.transactions_per_s?)
    }

    /// In a sentence without its full stop.
    pub(super) fn sentence(&self) -> String {
        let Yardstick { by, clients, seconds, transactions_per_s, problem } = &self.measured;
        let Some(rate) = transactions_per_s else {
            let why = problem.as_deref().unwrap_or("no reason recorded");
            return format!("{} with {by}: {why}", format::NOT_MEASURED);
        };
        let rate = format::per_second(*rate);
        let beside = match self.ratio() {
            Some(ratio) => format!("{} times {by}'s {rate}", format::significant(ratio)),
            None => format!("{by}'s {rate}"),
        };
        format!("{beside}: durable events, a statement each ({clients} clients, {seconds} s)")
    }
}

/// Of a report whose other figures are known.
pub(super) fn figures(measured: &Yardstick, report: &Report) -> YardstickFigures {
    let events_per_s = match &report.climb {
        Some(figures) => figures.climb.held_events_per_s,
        None => report.load.events_per_s,
    };
    YardstickFigures { measured: measured.clone(), events_per_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(transactions_per_s: Option<f64>, events_per_s: Option<f64>) -> YardstickFigures {
        let problem = transactions_per_s.is_none().then(|| "no pgbench in /bin".to_owned());
        let by = "pgbench".to_owned();
        let measured = Yardstick { by, clients: 32, seconds: 12, transactions_per_s, problem };
        YardstickFigures { measured, events_per_s }
    }

    #[test]
    fn what_was_not_measured_has_no_ratio_and_says_why() {
        assert_eq!(with(Some(2_000.0), Some(5_000.0)).ratio(), Some(2.5));
        assert!(
            with(Some(2_000.0), Some(5_000.0)).sentence().contains("2.5 times pgbench's 2,000/s")
        );
        assert_eq!(with(Some(2_000.0), None).ratio(), None);
        assert!(!with(Some(2_000.0), None).sentence().contains("times"));
        let missing = with(None, Some(5_000.0));
        assert_eq!(missing.ratio(), None);
        assert!(missing.sentence().contains("not measured with pgbench: no pgbench in /bin"));
    }
}
