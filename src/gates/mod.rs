//! Gates: rules on figures, their judgement, and whether the run may be judged at all. Pure.

mod figure;
mod rule;
mod verdict;

pub use figure::{FigureName, Percentile, SignalName, Span, Statistic, StatisticError};
pub use rule::{Comparison, Rule, RuleError, Scope};
pub use verdict::{Bias, CheckState, Figure, GateOutcome, Judgement, Unit, ValidityCheck, Verdict};
