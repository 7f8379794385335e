//! Raw TOML to a checked scenario: what may stand in a file, table by table.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::model::{
    Arrivals, GateRules, LoadSpec, Operation, PopulationSpec, Scenario, Skew, Target,
    YardstickProgram,
};
use super::nearest::nearest;
use super::problem::{Problems, Source};
use super::reader::{Item, TableReader, read_all};
use super::{operation, steps, target};
use crate::gates::{FigureName, Rule, RuleError, Scope, SignalBook, SignalName, own_signals};
use crate::units::Micros;

/// Longest time that a part of a run may take.
const STAGE_MAX: Micros = Micros::from_secs(24 * 3600);
/// Largest seed: TOML's integers are signed, and a scenario as run is stored as TOML.
pub(super) const SEED_MAX: u64 = i64::MAX as u64;
/// Most organisations: a thousand times the largest phase, and ids stay inside 32 bits.
pub(super) const ORGANISATIONS_MAX: u64 = 1_000_000_000;

impl Scenario {
    /// Reads and checks a scenario. `file` is used in messages alone.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let source = Source::new(file, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            source
                .report(at, format_args!("{}: not TOML, {}", source.line_at(at), error.message()));
        }
        // What a broken file lacks may only be hidden by the breakage: its syntax alone is reported.
        let read = match errors.is_empty() {
            true => TableReader::read_root(&source, root.get_ref(), read_scenario),
            false => None,
        };
        match (source.into_problems(), read) {
            (None, Some(scenario)) => Ok(scenario),
            (Some(problems), _) => Err(problems),
            (None, None) => unreachable!("a value is withheld only after its problem is recorded"),
        }
    }
}

fn read_scenario(table: &mut TableReader<'_>) -> Option<Scenario> {
    let name = table.required("name", r#"name = "peak""#, |item| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        item.text_if("1 to 40 letters, digits, hyphens or underscores", |text| {
            (1..=40).contains(&text.len()) && text.chars().all(allowed)
        })
    });
    let title = table.optional("title", |item| {
        item.text_if("one line of text", |text| !text.trim().is_empty() && !text.contains('\n'))
    });
    let seed = table.or("seed", 1, |item| item.integer(0..=SEED_MAX));
    let population =
        table.required("population", "population = { organisations = 50_000 }", |item| {
            item.table("[population]", read_population)
        });
    let target =
        table.required("target", r#"target = { kind = "reference", replicas = 2 }"#, target::read);
    let own_servers = target.as_ref().map(|target| matches!(target, Target::Reference(_)));
    let load = table.required("load", r#"load = { measure = "60s" }"#, |item| {
        item.table("[load]", |table| read_load(table, own_servers))
    });
    let operations = table.required(
        "operation",
        r#"[[operation]] with name = "read", rate = "100/s", request = { path = "/" }"#,
        operation::read_list,
    );
    let gates = table.required("gates", r#"gates = { all = ["p95 < 500ms"] }"#, |item| {
        let names = GateNames {
            target: target.as_ref(),
            operations: operations.as_deref(),
            steps: load.as_ref().map(|load| load.steps.is_some()),
        };
        item.table("[gates]", |table| read_gates(table, &names))
    });
    let name = name?;
    Some(Scenario {
        title: title?.unwrap_or_else(|| name.clone()),
        name,
        seed: seed?,
        population: population?,
        target: target?,
        load: load?,
        operations: operations?,
        gates: gates?,
    })
}

fn read_population(table: &mut TableReader<'_>) -> Option<PopulationSpec> {
    let organisations = table.required("organisations", "organisations = 50_000", |item| {
        item.integer(1..=ORGANISATIONS_MAX)
    });
    let history_months = table.or("history_months", 12, |item| item.integer(1..=24));
    let busy = table.or("busy", Skew::Uniform, read_skew);
    Some(PopulationSpec {
        organisations: organisations?.try_into().ok()?,
        history_months: history_months?,
        busy: busy?,
    })
}

fn read_skew(item: Item<'_>) -> Option<Skew> {
    const EXPECTED: &str =
        "expected \"uniform\", or \"zipf\" and an exponent above 0 and up to 4, like \"zipf 1.05\"";
    let text = item.value().as_str().unwrap_or_default();
    if text == "uniform" {
        return Some(Skew::Uniform);
    }
    let exponent = text.strip_prefix("zipf ").and_then(|number| number.trim().parse().ok());
    match exponent {
        Some(exponent) if exponent > 0.0 && exponent <= 4.0 => Some(Skew::Zipf { exponent }),
        _ => item.refuse(EXPECTED),
    }
}

/// `own_servers` says whether the target's servers are started by the run; `None` when that could not be read.
fn read_load(table: &mut TableReader<'_>, own_servers: Option<bool>) -> Option<LoadSpec> {
    let words = [("poisson", Arrivals::Poisson), ("constant", Arrivals::Constant)];
    let arrivals = table.or("arrivals", Arrivals::Poisson, |item| item.word(&words));
    let warm_up =
        table.or("warm_up", Micros::default(), |item| whole_seconds(item, Micros::default()));
    let steps = table.optional("steps", steps::read);
    let measure = match &steps {
        // Its problem is told; whether `measure` should stand in its place cannot be known.
        None => table.item("measure").and(None),
        Some(None) => table.required("measure", r#"measure = "60s""#, |item| {
            whole_seconds(item, Micros::from_secs(1))
        }),
        Some(Some(steps)) => match table.item("measure") {
            Some(item) => {
                item.refuse("the steps say how long is measured; leave one of the two out")
            }
            None => Some(steps.total()),
        },
    };
    let programs = [("pgbench", YardstickProgram::Pgbench)];
    let yardstick = table.optional("yardstick", |item| match own_servers {
        Some(false) => item.refuse("only the reference backend has servers of its own to measure"),
        _ => item.word(&programs),
    });
    let in_flight_max = table.or("in_flight_max", 512, |item| item.integer(1..=65_536));
    let timeout = table.or("timeout", Micros::from_secs(10), read_timeout);
    Some(LoadSpec {
        arrivals: arrivals?,
        warm_up: warm_up?,
        measure: measure?,
        steps: steps?,
        yardstick: yardstick?,
        in_flight_max: in_flight_max?,
        timeout: timeout?,
    })
}

fn whole_seconds(item: Item<'_>, least: Micros) -> Option<Micros> {
    let duration: Micros = item.quantity()?;
    match check_whole_seconds(duration, least) {
        Ok(()) => Some(duration),
        Err(expected) => item.refuse(format_args!("expected {expected}")),
    }
}

/// The time axis has one entry per second, so stages are whole seconds; else what is expected.
pub(super) fn check_whole_seconds(duration: Micros, least: Micros) -> Result<(), String> {
    let whole = duration.get().is_multiple_of(1_000_000);
    if whole && (least..=STAGE_MAX).contains(&duration) {
        return Ok(());
    }
    Err(format!("whole seconds, {} to 24h, like \"60s\"", least.secs_ceil()))
}

fn read_timeout(item: Item<'_>) -> Option<Micros> {
    let allowed = Micros::new(1_000)..=Micros::from_secs(600);
    let timeout: Micros = item.quantity()?;
    match allowed.contains(&timeout) {
        true => Some(timeout),
        false => item.refuse("expected 1ms to 10min, like \"10s\""),
    }
}

/// What gates may speak of.
struct GateNames<'a> {
    /// `None` when it could not be read.
    target: Option<&'a Target>,
    /// `None` when they could not be read.
    operations: Option<&'a [Operation]>,
    /// Whether the load has steps; `None` when it could not be read.
    steps: Option<bool>,
}

fn read_gates(table: &mut TableReader<'_>, names: &GateNames<'_>) -> Option<GateRules> {
    let mut rules = |key, scope| table.or(key, Vec::new(), |item| read_rules(item, scope, names));
    let all = rules("all", Scope::Run);
    let each_operation = rules("each_operation", Scope::Operation);
    let each_service = rules("each_service", Scope::Service);
    let operation = table.or("operation", BTreeMap::new(), |item| {
        let lists = item.entries("a list of rules for each operation, by its name")?;
        read_all(lists, |item| {
            let rules = read_rules(item, Scope::Operation, names);
            check_operation_name(item, names)?;
            Some((item.key().to_owned(), rules?))
        })
    });
    let gates = GateRules {
        all: all?,
        each_operation: each_operation?,
        each_service: each_service?,
        operation: operation?,
    };
    let on_services = !gates.each_service.is_empty();
    if on_services && names.operations.is_some_and(|all| all.iter().all(|o| o.service.is_none())) {
        table.refuse("each_service judges nothing: no operation has a service");
    }
    let GateRules { all, each_operation, each_service, operation } = &gates;
    let lists = [all, each_operation, each_service].into_iter().chain(operation.values());
    if lists.into_iter().all(Vec::is_empty) {
        table.refuse(
            "no rule: a run without one proves nothing; write for example: all = [\"p95 < 500ms\"]",
        );
        return None;
    }
    if names.steps == Some(true) && !could_break_a_step(&gates, names.target) {
        table.refuse("no rule that a step could break; write for example: all = [\"p95 < 500ms\"]");
        return None;
    }
    Some(gates)
}

/// Whether there is a rule besides those on all steps together.
fn could_break_a_step(gates: &GateRules, target: Option<&Target>) -> bool {
    let signals = target.map(own_signals).unwrap_or_default();
    let is_of_steps =
        |text: &String| Rule::parse(text, &signals).is_ok_and(|rule| rule.figure.is_of_steps());
    let GateRules { all, each_operation, each_service, operation } = gates;
    let lists = [all, each_operation, each_service].into_iter().chain(operation.values());
    !lists.flatten().all(is_of_steps)
}

fn check_operation_name(item: Item<'_>, names: &GateNames<'_>) -> Option<()> {
    let known = || names.operations.into_iter().flatten().map(|o| o.name.as_str());
    if names.operations.is_none() || known().any(|name| name == item.key()) {
        return Some(());
    }
    match nearest(item.key(), known()) {
        Some(name) => {
            item.refuse(format_args!("no operation has this name; did you mean {name:?}?"))
        }
        None => item.refuse("no operation has this name"),
    }
}

fn read_rules(item: Item<'_>, scope: Scope, names: &GateNames<'_>) -> Option<Vec<String>> {
    let rules = item.list(r#"a list of rules, like ["p95 < 500ms"]"#)?;
    read_all(rules, |rule| check_rule(rule, scope, names))
}

fn check_rule(item: Item<'_>, scope: Scope, names: &GateNames<'_>) -> Option<String> {
    let text = item.value().as_str().unwrap_or_default();
    let signals = names.target.map(own_signals).unwrap_or_default();
    let checked =
        Rule::parse(text, &signals).and_then(|rule| rule.check_scope(scope).map(|()| rule.figure));
    match checked {
        Ok(FigureName::Signal(signal)) if is_misread(&signal, names.target) => item.refuse(
            "a gauge is gated by a statistic, like queue_ms_p95 or queue_ms_max; a ratio or rate by its name alone",
        ),
        Ok(figure) if figure.is_of_steps() && names.steps == Some(false) => {
            item.refuse("only a load with steps has it; write load.steps, or leave the rule out")
        }
        Ok(_) => Some(text.to_owned()),
        // It may be a signal of the target, whose own problem is told already.
        Err(RuleError::UnknownFigure { .. }) if names.target.is_none() => None,
        Err(error @ RuleError::UnknownFigure { nearest: Some(_), .. }) => item.refuse(error),
        Err(error) => item.refuse(format_args!("{error}; {}", error.help())),
    }
}

/// Whether a signal that the target defines cannot be read in the way that a gate asks for.
fn is_misread(signal: &SignalName, target: Option<&Target>) -> bool {
    target.is_some_and(|target| {
        let own = own_signals(target);
        let is_own = own.contains(&signal.base) || own.contains(&signal.to_string());
        is_own && !SignalBook::of(target).defines(signal)
    })
}
