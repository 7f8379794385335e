//! A plan as text: what a dry run prints.

use std::fmt::{self, Write};

use super::plan::Plan;
use crate::scenario::{Operation, Scenario, StepRates, Steps, Target};

/// The resolved plan for people: what would be started, sent and judged.
pub fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    write_plan(&mut out, plan).expect("writing to a String cannot fail");
    out
}

fn write_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    let scenario = &plan.scenario;
    writeln!(out, "{}: {}", scenario.name, scenario.title)?;
    let population = &scenario.population;
    writeln!(
        out,
        "\npopulation  {} organisations, {} months of history before {}, busy as {}, seed {}",
        population.organisations,
        population.history_months,
        plan.anchor(),
        population.busy,
        scenario.seed,
    )?;
    writeln!(out, "target      {}", target(&scenario.target))?;
    let load = &scenario.load;
    let StepRates { requests: total, events } = scenario.rates_at(1.0);
    writeln!(
        out,
        "load        {total}/s in all, {events}/s of them events; {} of warm-up, {} measured, at most {} in flight",
        load.warm_up, load.measure, load.in_flight_max,
    )?;
    if let Some(steps) = &load.steps {
        write_steps(out, scenario, steps)?;
    }
    if load.yardstick.is_some() {
        writeln!(out, "yardstick   pgbench on the same servers once the load is over")?;
    }
    writeln!(out, "results     {}", plan.out.display())?;
    writeln!(out, "\noperations")?;
    scenario.operations.iter().try_for_each(|operation| write_operation(out, operation))?;
    write_gates(out, plan)
}

fn write_steps(out: &mut String, scenario: &Scenario, steps: &Steps) -> fmt::Result {
    writeln!(
        out,
        "steps       {} of {} each, judged after {}, until one does not hold",
        steps.percents.len(),
        steps.each,
        steps.settle,
    )?;
    for (step, (percent, factor)) in steps.percents.iter().zip(steps.factors()).enumerate() {
        let StepRates { requests, events } = scenario.rates_at(factor);
        let number = step + 1;
        writeln!(
            out,
            "  {number:<18} {:>8}  {requests}/s in all, {events}/s events",
            format!("{percent}%")
        )?;
    }
    Ok(())
}

fn write_operation(out: &mut String, operation: &Operation) -> fmt::Result {
    let method = serde_json::to_value(operation.request.method).unwrap_or_default();
    writeln!(
        out,
        "  {:<18} {:>8}  {:<6} {}{}",
        operation.name,
        operation.rate.to_string(),
        method.as_str().unwrap_or_default(),
        operation.request.path,
        if operation.event { "  (event)" } else { "" },
    )
}

fn write_gates(out: &mut String, plan: &Plan) -> fmt::Result {
    let gates = &plan.scenario.gates;
    writeln!(out, "\ngates")?;
    let scopes = [
        ("all", &gates.all),
        ("each operation", &gates.each_operation),
        ("each service", &gates.each_service),
    ];
    for (scope, rules) in scopes.into_iter().filter(|(_, rules)| !rules.is_empty()) {
        writeln!(out, "  {scope:<18} {}", rules.join(", "))?;
    }
    for (operation, rules) in &gates.operation {
        writeln!(out, "  {operation:<18} {}", rules.join(", "))?;
    }
    Ok(())
}

fn target(target: &Target) -> String {
    match target {
        Target::Reference(target) => format!(
            "the reference backend in {}, on a Postgres primary and {} replicas{}, started for this run",
            target.processes(),
            target.replicas,
            target.beside(),
        ),
        Target::Http(target) => target.url.clone(),
    }
}
