//! Scenarios: what people write, checked once, at the edge.
//!
//! A raw file becomes a [`Scenario`] or a list of every problem in it, each with its line, what was found and
//! what is allowed. The rest of the program cannot hold a bad scenario. Pure: text in, types out.

mod address;
mod builtin;
mod live;
mod model;
mod nearest;
mod operation;
mod overrides;
mod parse;
mod placeholder;
mod problem;
mod reader;
mod render;
mod selector;
mod steps;
mod target;

pub use builtin::{builtin, names};
pub use live::{LiveTarget, MetricsEndpoint, PostgresEndpoint, ProcessGroup};
pub use model::{
    Arrivals, ChannelManager, Expect, GateRules, HttpTarget, LoadSpec, Method, Operation,
    PopulationSpec, ReferenceTarget, RequestSpec, Scenario, SignalSource, Signals, Skew, Target,
    YardstickProgram, backend_processes,
};
pub use nearest::nearest;
pub use overrides::Overrides;
pub use placeholder::{Piece, Placeholder, Template, TemplateError};
pub use problem::{Place, Problem, Problems};
pub use selector::{Matcher, Operator, Selector, SelectorError};
pub use steps::{StepRates, Steps};
