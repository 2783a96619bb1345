//! What a back end's answer means for the request.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was taken, `rejected` spans of it excepted. A message without rejected spans is advice.
    Taken { rejected: u64, message: String },
    /// It can be sent again, not before `after` when the back end named a time.
    TryAgain { after: Option<Duration>, reason: String },
    /// It has too many spans for one request: fewer may be taken.
    TooLarge { reason: String },
    /// Sending it again would be refused again.
    Refused { reason: String },
    /// Whatever answers takes nothing of this signal. Only said of logs: whoever has no traces has nothing for an agent.
    NoSuchSignal { reason: String },
}

impl Answer {
    pub(super) fn taken(response: ExportTraceServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Answer::Taken {
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            message: one_line(&partial.error_message),
        }
    }

    pub(super) fn try_again(reason: impl Into<String>) -> Self {
        Answer::TryAgain { after: None, reason: reason.into() }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Answer::Refused { reason: reason.into() }
    }
}

/// Text of a stranger for a log line: one line, bounded, without control characters.
pub(super) fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// An error and what caused it, `a: b: c`, without repetitions.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    one_line(&text)
}
