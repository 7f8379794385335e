//! Scenarios for the tests of this module.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use chrono::NaiveDate;
use uuid::Uuid;

use super::frame::{PROTOCOL, WorkerPlan};
use super::schedule::Shard;
use super::template::Directory;
use super::token::Auth;
use crate::ids::OrgId;
use crate::scenario::{
    Arrivals, Expect, GateRules, LoadSpec, Method, Operation, PopulationSpec, ReferenceTarget,
    RequestSpec, Scenario, Skew, Target,
};
use crate::units::{Micros, Rate};

/// Constant arrivals of one `GET /` operation per rate, for so many seconds without a warm-up.
pub(crate) fn scenario(rates: &[f64], seconds: u64) -> Scenario {
    Scenario {
        name: "test".into(),
        title: "Test".into(),
        seed: 7,
        population: PopulationSpec {
            organisations: NonZeroU64::MIN.saturating_add(99),
            history_months: 1,
            busy: Skew::Uniform,
        },
        target: Target::Reference(ReferenceTarget {
            replicas: 0,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        }),
        load: LoadSpec {
            arrivals: Arrivals::Constant,
            warm_up: Micros::from_secs(0),
            measure: Micros::from_secs(seconds),
            steps: None,
            yardstick: None,
            in_flight_max: 8,
            timeout: Micros::from_secs(1),
        },
        operations: rates.iter().zip(0..).map(|(rate, n)| operation(*rate, n)).collect(),
        gates: GateRules::default(),
    }
}

/// A plan for the whole of a scenario.
pub(crate) fn plan(scenario: Scenario, base_url: &str) -> WorkerPlan {
    WorkerPlan {
        protocol: PROTOCOL,
        scenario,
        run: "test-run".parse().unwrap(),
        base_url: base_url.into(),
        auth: Auth::None,
        shard: Shard::WHOLE,
        today: NaiveDate::from_ymd_opt(2026, 3, 14).unwrap(),
    }
}

fn operation(rate: f64, number: usize) -> Operation {
    Operation {
        name: format!("operation {number}"),
        service: None,
        rate: Rate::per_second(rate).unwrap(),
        request: RequestSpec {
            method: Method::Get,
            path: "/".into(),
            headers: BTreeMap::new(),
            json: None,
        },
        expect: Expect { status: vec![200], body_contains: None },
        event: false,
    }
}

/// A hundred organisations, all equally busy, with one property each.
pub(crate) struct Village;

impl Directory for Village {
    fn pick(&self, u: f64) -> OrgId {
        OrgId::from_index((u * 100.0) as u64)
    }

    fn property(&self, org: OrgId, _u: f64) -> Uuid {
        Uuid::from_u128(org.get().into())
    }
}
