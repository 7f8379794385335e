//! Gates: rules on figures, their judgement, and whether the run may be judged at all. Pure.
//!
//! ```text
//! text ── rule ──┐
//! record ── figures, signals ── judge ── bias ── headline → Judgement
//!        └─ validity ─────────────────────┘
//! ```

mod bias;
mod figure;
mod figures;
#[cfg(test)]
pub(crate) mod fixture;
mod headline;
mod interval;
mod judge;
mod rule;
mod ruling;
mod show;
mod signals;
mod steps;
mod validity;
mod verdict;

pub use figure::{FigureName, Percentile, SignalName, Span, Statistic, StatisticError};
pub use figures::{Counts, Part, RequestFigures};
pub use judge::{judge, own_signals};
pub use rule::{Comparison, Rule, RuleError, Scope};
pub use show::show;
pub use signals::SignalBook;
pub use steps::{Climb, StepOutcome, judge_step, part, step_windows};
pub use verdict::{
    Bias, CheckState, Figure, GateOutcome, Judgement, Undermines, Unit, ValidityCheck, Verdict,
};
