//! Gates: rules on figures, their judgement, and whether the run may be judged at all. Pure.

mod verdict;

pub use verdict::{Bias, CheckState, Figure, GateOutcome, Judgement, Unit, ValidityCheck, Verdict};
