//! The population as a load worker sees it: pick an organisation, pick one of its properties. Pure.

use chrono::NaiveDate;
use uuid::Uuid;

use super::generate::Generator;
use super::skew::Sampler;
use crate::ids::OrgId;
use crate::scenario::PopulationSpec;

/// Who exists, and who is busy.
#[derive(Debug, Clone)]
pub struct Population {
    generator: Generator,
    sampler: Sampler,
}

impl Population {
    /// The population of a scenario under a seed, at an anchor month.
    pub fn new(spec: &PopulationSpec, seed: u64, anchor: NaiveDate) -> Self {
        Self {
            generator: Generator::new(seed, spec.organisations, spec.history_months, anchor),
            sampler: Sampler::new(&spec.busy, spec.organisations, seed),
        }
    }

    /// An organisation, as often as the skew says, for `u` drawn evenly from 0 to 1.
    pub fn pick(&self, u: f64) -> OrgId {
        self.sampler.organisation(u)
    }

    /// One of an organisation's properties, all alike, for `u` drawn evenly from 0 to 1.
    pub fn property(&self, org: OrgId, u: f64) -> Uuid {
        self.generator.property(org, u)
    }

    /// What computes the organisations.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }
}
