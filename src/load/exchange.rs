//! One exchange: a request sent, its answer read to the last byte and judged.

use std::time::Duration;

use super::line::{Line, Outgoing};
use crate::archive::Outcome;
use crate::scenario::Expect;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As expected.
    Ok,
    /// Another status or body than expected, or none because the connection failed.
    Error,
    /// Nothing, or only a part, in time.
    Timeout,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) answer: Answer,
    /// Status, once the whole answer was read.
    pub(crate) status: Option<u16>,
    /// Why it was not as expected, in words that do not vary from request to request; `None` when it was.
    pub(crate) reason: Option<&'static str>,
}

impl Exchange {
    /// What the client may conclude about a command.
    ///
    /// A 4xx says that nothing was done, but 408: there the server gave up waiting and may have begun. An unexpected
    /// status below 400 says neither.
    pub(crate) fn outcome(&self, expect: &Expect) -> Outcome {
        match self.status {
            Some(status) if expect.status.contains(&status) => Outcome::Acknowledged,
            Some(408) => Outcome::Unknown,
            Some(400..=499) => Outcome::Refused,
            _ => Outcome::Unknown,
        }
    }

    pub(crate) fn failed(answer: Answer, reason: &'static str) -> Self {
        Self { answer, status: None, reason: Some(reason) }
    }
}

/// Sends a request and reads its answer to the end, or gives up after `timeout`.
pub(crate) async fn exchange(
    line: &mut Line,
    request: Outgoing,
    expect: &Expect,
    timeout: Duration,
) -> Exchange {
    let answer = line.ask(request, expect.body_contains.is_some());
    match tokio::time::timeout(timeout, answer).await {
        Err(_) => Exchange::failed(Answer::Timeout, "no answer in time"),
        Ok(Err(broken)) => Exchange::failed(Answer::Error, broken.reason()),
        Ok(Ok((status, body))) => judge(status, &body, expect),
    }
}

fn judge(status: u16, body: &[u8], expect: &Expect) -> Exchange {
    let reason = if !expect.status.contains(&status) {
        Some("unexpected status")
    } else if !holds(body, expect.body_contains.as_deref()) {
        Some("unexpected body")
    } else {
        None
    };
    let answer = if reason.is_none() { Answer::Ok } else { Answer::Error };
    Exchange { answer, status: Some(status), reason }
}

fn holds(body: &[u8], expected: Option<&str>) -> bool {
    expected.is_none_or(|text| String::from_utf8_lossy(body).contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(body_contains: Option<&str>) -> Expect {
        Expect { status: vec![200, 201], body_contains: body_contains.map(str::to_owned) }
    }

    #[test]
    fn status_and_body_are_both_checked() {
        let answer = |status, text| judge(status, b"one two", &expect(text)).answer;
        assert_eq!(answer(201, None), Answer::Ok);
        assert_eq!(answer(201, Some("two")), Answer::Ok);
        assert_eq!(answer(204, None), Answer::Error);
        assert_eq!(answer(200, Some("three")), Answer::Error);
    }

    #[test]
    fn only_a_clear_refusal_promises_that_nothing_happened() {
        let outcome = |status| judge(status, b"", &expect(None)).outcome(&expect(None));
        assert_eq!(outcome(201), Outcome::Acknowledged);
        assert_eq!([400, 404, 409, 429].map(outcome), [Outcome::Refused; 4]);
        assert_eq!([204, 302, 408, 500, 503].map(outcome), [Outcome::Unknown; 5]);
        let lost = Exchange::failed(Answer::Timeout, "");
        assert_eq!(lost.outcome(&expect(None)), Outcome::Unknown);
    }
}
