//! A checked scenario as a file that people can read and run again. Parsing it gives the same scenario.

use std::fmt::{self, Display, Write};

use serde::Serialize;

use super::model::{
    Arrivals, GateRules, HttpTarget, LoadSpec, Operation, RequestSpec, Scenario, SignalSource,
    Skew, Target,
};

impl Scenario {
    /// The scenario as TOML, every default written out.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a String cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        key(out, "name", &self.name)?;
        key(out, "title", &self.title)?;
        key(out, "seed", self.seed)?;
        let population = &self.population;
        writeln!(out, "\n[population]")?;
        key(out, "organisations", population.organisations.get())?;
        key(out, "history_months", population.history_months)?;
        key(out, "busy", population.busy.to_string())?;
        write_target(out, &self.target)?;
        write_load(out, &self.load)?;
        self.operations.iter().try_for_each(|operation| write_operation(out, operation))?;
        write_gates(out, &self.gates)
    }
}

impl Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf {exponent}"),
        }
    }
}

fn write_target(out: &mut String, target: &Target) -> fmt::Result {
    writeln!(out, "\n[target]")?;
    match target {
        Target::Reference(reference) => {
            key(out, "kind", "reference")?;
            key(out, "replicas", reference.replicas)?;
            reference.port.map_or(Ok(()), |port| key(out, "port", port))?;
            if !reference.split.is_empty() {
                writeln!(out, "split = {:?}", reference.split)?;
            }
            optional(out, "channel_manager", reference.channel_manager)
        }
        Target::Http(http) => write_http(out, http),
    }
}

fn write_http(out: &mut String, http: &HttpTarget) -> fmt::Result {
    key(out, "kind", "http")?;
    key(out, "url", &http.url)?;
    optional(out, "metrics", http.metrics.as_ref())?;
    optional(out, "bearer_token_env", http.bearer_token_env.as_ref())?;
    for (name, source) in &http.signals.sources {
        writeln!(out, "\n[target.signals.{name}]")?;
        match source {
            SignalSource::Ratio { part, of } => key(out, "ratio", [part, of])?,
            SignalSource::Rate { of } => key(out, "rate", of)?,
            SignalSource::Gauge { of, scale } => {
                key(out, "gauge", of)?;
                key(out, "scale", scale)?;
            }
            SignalSource::Histogram { of, quantile, scale } => {
                key(out, "histogram", of)?;
                key(out, "quantile", quantile)?;
                key(out, "scale", scale)?;
            }
        }
    }
    Ok(())
}

fn write_load(out: &mut String, load: &LoadSpec) -> fmt::Result {
    writeln!(out, "\n[load]")?;
    let arrivals = match load.arrivals {
        Arrivals::Poisson => "poisson",
        Arrivals::Constant => "constant",
    };
    key(out, "arrivals", arrivals)?;
    key(out, "warm_up", load.warm_up)?;
    match &load.steps {
        Some(steps) => writeln!(out, "steps = {steps}")?,
        None => key(out, "measure", load.measure)?,
    }
    optional(out, "yardstick", load.yardstick)?;
    key(out, "in_flight_max", load.in_flight_max)?;
    key(out, "timeout", load.timeout)
}

fn write_operation(out: &mut String, operation: &Operation) -> fmt::Result {
    writeln!(out, "\n[[operation]]")?;
    key(out, "name", &operation.name)?;
    optional(out, "service", operation.service.as_ref())?;
    key(out, "rate", operation.rate)?;
    key(out, "event", operation.event)?;
    let RequestSpec { method, path, headers, json } = &operation.request;
    key(out, "request.method", method)?;
    key(out, "request.path", path)?;
    if !headers.is_empty() {
        key(out, "request.headers", headers)?;
    }
    optional(out, "request.json", json.as_ref())?;
    key(out, "expect.status", &operation.expect.status)?;
    optional(out, "expect.body_contains", operation.expect.body_contains.as_ref())
}

fn write_gates(out: &mut String, gates: &GateRules) -> fmt::Result {
    writeln!(out, "\n[gates]")?;
    key(out, "all", &gates.all)?;
    key(out, "each_operation", &gates.each_operation)?;
    key(out, "each_service", &gates.each_service)?;
    if !gates.operation.is_empty() {
        key(out, "operation", &gates.operation)?;
    }
    Ok(())
}

fn key(out: &mut String, key: &str, value: impl Serialize) -> fmt::Result {
    let value =
        toml::Value::try_from(value).expect("what was read from TOML can be written as TOML");
    writeln!(out, "{key} = {value}")
}

fn optional(out: &mut String, name: &str, value: Option<impl Serialize>) -> fmt::Result {
    value.map_or(Ok(()), |value| key(out, name, value))
}
