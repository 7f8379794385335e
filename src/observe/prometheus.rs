//! Scrapes the figures that a service gives of itself.

use std::fmt::Display;

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
    /// Which of several processes it is.
    process: Option<String>,
    keep: SeriesFilter,
}

impl Scrape {
    pub(super) fn new(url: String, process: Option<String>, keep: SeriesFilter) -> Self {
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.expect("a client without options can be built");
        Self { client, url, process, keep }
    }

    async fn scrape(&self) -> Result<String, Failure> {
        let mut response = self.client.get(&self.url).send().await.map_err(|e| self.lost(&e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.failed(format_args!("answered {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.lost(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err(self.failed(format_args!("answered more than {BODY_BYTES_MAX} bytes")));
            }
        }
        String::from_utf8(body).map_err(|_| self.failed("answered no text"))
    }

    fn lost(&self, error: &reqwest::Error) -> Failure {
        Failure::Gone(format!("{}: {}", self.url, innermost(error)))
    }

    fn failed(&self, why: impl Display) -> Failure {
        Failure::Failed(format!("{}: {why}", self.url))
    }
}

impl Source for Scrape {
    fn name(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(|| "metrics".to_owned(), |process| format!("metrics of {process}"))
    }

    async fn read(&mut self, _second: usize) -> Reading {
        let samples = self
            .scrape()
            .await
            .and_then(|text| parse_exposition(&text).map_err(|error| self.failed(error)));
        match samples {
            Ok(mut values) => {
                values.retain(|(key, _)| self.keep.keeps(key));
                if let Some(process) = &self.process {
                    for (key, _) in &mut values {
                        key.labels.insert("process".to_owned(), process.clone());
                    }
                }
                Reading { values, ..Reading::default() }
            }
            Err(failure) => Reading { failure: Some(failure), ..Reading::default() },
        }
    }
}

/// What lies at the bottom of an error: "Connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
