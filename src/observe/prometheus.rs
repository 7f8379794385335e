//! Scrapes the figures that a service gives of itself.

use super::exposition::parse_exposition;
use super::filter::SeriesFilter;
use super::outage::Failure;
use super::source::{Reading, Source};

/// A scrape larger than this is refused: it is not the figures of a service that anybody watches.
const BODY_BYTES_MAX: usize = 16 << 20;

/// A Prometheus endpoint.
pub(super) struct Scrape {
    client: reqwest::Client,
    url: String,
    keep: SeriesFilter,
}

impl Scrape {
    pub(super) fn new(url: String, keep: SeriesFilter) -> Self {
        let client = reqwest::Client::builder().no_proxy().build();
        Self { client: client.expect("a client without options can be built"), url, keep }
    }

    async fn scrape(&self) -> Result<String, Failure> {
        let lost = |error: reqwest::Error| Failure::Lost(innermost(&error));
        let response = self.client.get(&self.url).send().await.map_err(lost)?;
        let mut response = response.error_for_status().map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err(Failure::Lost(format!("answered more than {BODY_BYTES_MAX} bytes")));
            }
        }
        String::from_utf8(body).map_err(|_| Failure::Lost("answered no text".to_owned()))
    }
}

impl Source for Scrape {
    fn name(&self) -> String {
        "metrics".to_owned()
    }

    async fn read(&mut self, _second: usize) -> Reading {
        let samples = self.scrape().await.and_then(|text| {
            parse_exposition(&text).map_err(|error| Failure::Lost(error.to_string()))
        });
        match samples {
            Ok(mut values) => {
                values.retain(|(key, _)| self.keep.keeps(key));
                Reading { values, ..Reading::default() }
            }
            Err(failure) => Reading {
                failure: Some(match failure {
                    Failure::Lost(why) => Failure::Lost(format!("{}: {why}", self.url)),
                    Failure::Slow => Failure::Slow,
                }),
                ..Reading::default()
            },
        }
    }
}

/// What lies at the bottom of an error: "Connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
