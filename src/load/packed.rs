//! Lines of the ledger on the pipe: 17 bytes each (arrival, organisation, outcome), little-endian, in base64. Thousands
//! come every second, and a tenth of the size as JSON objects keeps the generator's own cost down.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serializer, de};

use super::tally::Told;
use crate::archive::Outcome;
use crate::ids::OrgId;

/// Bytes of one line.
const WIDTH: usize = 17;

pub(crate) fn serialize<S: Serializer>(told: &[Told], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(told.len() * WIDTH);
    for line in told {
        bytes.extend_from_slice(&line.arrival.to_le_bytes());
        bytes.extend_from_slice(&line.org.index().to_le_bytes());
        bytes.push(line.outcome.code());
    }
    serializer.serialize_str(&STANDARD.encode(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Told>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
    let (lines, []) = bytes.as_chunks::<WIDTH>() else {
        return Err(de::Error::custom("a line of the ledger is cut short"));
    };
    lines
        .iter()
        .map(|line| unpack(line).ok_or_else(|| de::Error::custom("no such outcome")))
        .collect()
}

fn unpack(line: &[u8; WIDTH]) -> Option<Told> {
    let (arrival, rest) = line.split_first_chunk::<8>()?;
    let (org, [outcome]) = rest.split_first_chunk::<8>()? else { return None };
    let outcome = Outcome::from_code(*outcome)?;
    let org = OrgId::from_index(u64::from_le_bytes(*org));
    Some(Told { arrival: u64::from_le_bytes(*arrival), org, outcome })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::archive::Outcome;
    use crate::ids::OrgId;
    use crate::load::tally::{Tally, Told};

    fn any_told() -> impl Strategy<Value = Told> {
        let outcomes = vec![Outcome::Acknowledged, Outcome::Refused, Outcome::Unknown];
        (any::<u64>(), 0..u64::MAX, prop::sample::select(outcomes)).prop_map(
            |(arrival, index, outcome)| Told { arrival, org: OrgId::from_index(index), outcome },
        )
    }

    proptest! {
        #[test]
        fn a_ledger_survives_the_pipe(told in prop::collection::vec(any_told(), 0..40)) {
            let tally = Tally { told, ..Tally::default() };
            let text = serde_json::to_string(&tally).unwrap();
            prop_assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        }
    }

    #[test]
    fn a_damaged_ledger_is_refused() {
        for bad in ["AAAA", "AAAAAAAAAAAAAAAAAAAAAAk=", "no base64"] {
            let text = format!(r#"{{"operations":[],"seconds":[],"told":"{bad}"}}"#);
            assert!(serde_json::from_str::<Tally>(&text).is_err(), "{bad}");
        }
    }
}
