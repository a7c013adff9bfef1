//! What `everup explain` prints, to the letter.

use super::*;

fn request() -> ExplainedRequest {
    ExplainedRequest {
        time: "2026-11-22T11:58:26.123Z".to_owned(),
        client: "10.0.0.9".to_owned(),
        method: "GET".to_owned(),
        host: "shop.example".to_owned(),
        path: "/cart".to_owned(),
        listener: 1,
        route: Some(2),
        service: "shop".to_owned(),
        instance: Some("shop-2".to_owned()),
        table: 9,
        attempts: 2,
        status: Some(200),
        verdict: "parked".to_owned(),
        bytes_in: 123,
        bytes_out: 456,
        ms: 1210.0,
        parked_ms: 1203.0,
        queued_ms: 0.0,
        tried_ms: 0.5,
        connect_ms: 0.0,
        first_byte_ms: 6.0,
        last_byte_ms: 0.5,
        events: vec![
            event(Some(1), "shop-1", 0.0, 0.5, 7, "refused the connection"),
            event(None, "", 0.5, 1203.0, 7, "waited: no instance could take it"),
            event(Some(2), "shop-2", 1204.0, 6.5, 9, "answered with 200"),
        ],
        events_left_out: 0,
    }
}

fn event(
    attempt: Option<u32>,
    instance: &str,
    at_ms: f64,
    ms: f64,
    table: u64,
    text: &str,
) -> ExplainedEvent {
    let instance = attempt.map(|_| instance.to_owned());
    ExplainedEvent { at_ms, attempt, ms, table, kind: String::new(), instance, text: text.to_owned() }
}

fn shown(request: ExplainedRequest) -> String {
    in_words(&Explanation { id: "abc".to_owned(), requests: vec![request] })
}

#[test]
fn a_request_is_told_in_plain_words() {
    let expected = "\
request abc: GET shop.example/cart
at 2026-11-22T11:58:26.123Z from 10.0.0.9, by listener 1, route 2 to service shop
     +0.000 ms attempt 1 (table 7): shop-1 refused the connection, after 0.500 ms
     +0.500 ms waited: no instance could take it (table 7), for 1.203 s
      +1.204 s attempt 2 (table 9): shop-2 answered with 200, after 6.500 ms
verdict: parked, after 2 attempts: the client got 200
time: 1.210 s (1.203 s waiting for an instance, 0.500 ms in attempts that failed, 6.000 ms until the answer began, \
                    0.500 ms until it was whole)
bytes: 123 in, 456 out
";
    assert_eq!(shown(request()), expected);
}

#[test]
fn what_a_client_chose_cannot_move_the_cursor() {
    let text = shown(ExplainedRequest { path: "/\x1b[2J\r\n".to_owned(), ..request() });
    assert!(text.starts_with("request abc: GET shop.example/?[2J??\n"), "{text}");
}

#[test]
fn a_request_that_everup_answered_itself_says_so() {
    let refused = ExplainedRequest {
        verdict: "refused".to_owned(),
        status: Some(503),
        attempts: 0,
        events: vec![],
        ..request()
    };
    assert!(
        shown(refused).contains("verdict: refused, no instance was tried: everup itself answered with 503\n")
    );
}
