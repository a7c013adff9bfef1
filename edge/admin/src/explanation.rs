//! What the admin API tells of single requests: `GET /v1/requests/{id}`. Part of [`crate::api`].

use serde::{Deserialize, Serialize};

/// All that is remembered of the requests with one id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The id.
    pub id: String,
    /// The oldest first; more than one if clients use an id again.
    pub requests: Vec<ExplainedRequest>,
}

/// One request that failed by everup, was cut, retried or parked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedRequest {
    /// When its head was whole: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The client's address.
    pub client: String,
    /// Its method.
    pub method: String,
    /// The host it named; empty: none.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
    /// Number of the listener, as they stand in the file; the first is 1.
    pub listener: u64,
    /// Number of the listener's route; none: it went to the listener's own service.
    pub route: Option<u64>,
    /// The service.
    pub service: String,
    /// The instance of the last attempt; none: there was no attempt.
    pub instance: Option<String>,
    /// The table of the last attempt.
    pub table: u64,
    /// How many attempts there were.
    pub attempts: u32,
    /// What the client got; none: nothing.
    pub status: Option<u16>,
    /// `answered`, `retried`, `parked`, `refused`, `cut` or `client-gone`.
    pub verdict: String,
    /// Read from the client: head and body.
    pub bytes_in: u64,
    /// Handed to the client's connection: head and body.
    pub bytes_out: u64,
    /// From its head to the end of its answer, in milliseconds.
    pub ms: f64,
    /// Of these: waiting because no instance could take it.
    pub parked_ms: f64,
    /// Of these: waiting because every instance was at its limit.
    pub queued_ms: f64,
    /// Of these: in attempts that failed.
    pub tried_ms: f64,
    /// Of these: connecting, in the last attempt.
    pub connect_ms: f64,
    /// Of these: from then to the head of the answer.
    pub first_byte_ms: f64,
    /// Of these: from then to the end of the answer.
    pub last_byte_ms: f64,
    /// What happened, in order.
    pub events: Vec<ExplainedEvent>,
    /// How many events in the middle are left out, for there were too many.
    pub events_left_out: u64,
}

/// One thing that happened to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedEvent {
    /// After the request's start, in milliseconds.
    pub at_ms: f64,
    /// Number of the attempt, from 1; none for waiting.
    pub attempt: Option<u32>,
    /// For how long, in milliseconds.
    pub ms: f64,
    /// The table that was in use.
    pub table: u64,
    /// `failed`, `parked`, `queued` or `answered`.
    pub kind: String,
    /// The instance of the attempt; none for waiting.
    pub instance: Option<String>,
    /// The same in words for people.
    pub text: String,
}
