//! Server and client together; the test plays the controller. Also: the description equals the router.

use std::collections::BTreeSet;
use std::path::PathBuf;

use everup_core::ids::InstanceId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::*;
use crate::api::{DeployAnswer, DeployRequest, DeployWish};
use crate::api::{InstanceState, InstanceStatus, ListenerStatus, ServiceStatus, Status};
use crate::{ADMIN_ROUTES, Client, ClientError, Command, DrainOutcome, METRICS_ROUTES, NotReady, Refusal};

/// An admin server at a fresh path; the test plays the controller.
struct Fixture {
    _directory: tempfile::TempDir,
    path: PathBuf,
    commands: mpsc::Receiver<Command>,
}

fn admin() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (sender, commands) = Command::channel();
    tokio::spawn(serve_admin(listener.into(), sender).unwrap());
    Fixture { _directory: directory, path, commands }
}

fn metrics() -> (std::net::SocketAddr, mpsc::Receiver<Command>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, commands) = Command::channel();
    tokio::spawn(serve_metrics(listener.into(), sender).unwrap());
    (address, commands)
}

fn deployment() -> crate::api::DeploymentStatus {
    use crate::api::{DeploymentEvent, DeploymentHook, DeploymentState, DeploymentStep, StepState};
    crate::api::DeploymentStatus {
        id: "01ARYZ6S41".into(),
        service: "shop".into(),
        from: "v1".into(),
        to: "v2".into(),
        strategy: "rolling".into(),
        by: "ann".into(),
        reason: "a reason".into(),
        state: DeploymentState::Running,
        text: "start instance 1 of v2".into(),
        began: 1.0,
        lasted_seconds: 1.0,
        replicas: 1,
        old: Default::default(),
        new: Default::default(),
        steps: vec![DeploymentStep { text: "start instance 1 of v2".into(), state: StepState::Now }],
        events: vec![DeploymentEvent {
            after_seconds: 0.0,
            text: "start instance 1 of v2".into(),
            because: "a hook passed".into(),
        }],
        log: vec!["oh no".into()],
        hooks: vec![DeploymentHook {
            hook: "before".into(),
            run: 1,
            after_seconds: 0.0,
            took_seconds: 1.0,
            passed: true,
            text: "exited with code 0".into(),
            output: vec!["done".into()],
        }],
    }
}

pub(crate) fn status() -> Status {
    let instance = InstanceStatus {
        name: "shop-1".into(),
        address: "127.0.0.1:20000".into(),
        state: InstanceState::CrashLooping,
        reason: "exited with code 1".into(),
        returns_in_seconds: None,
        weight: 1,
        backup: false,
        requests: 5,
        in_flight: 1,
        tunnels: 0,
        pid: Some(7),
        revision: Some("v1".into()),
        restarts: 3,
        since_seconds: 1.5,
        log: vec!["cannot open data base".into()],
    };
    let service = ServiceStatus {
        name: "shop".into(),
        balance: "least-connections".into(),
        leaves: false,
        requests_per_second: 12.5,
        in_flight: 1,
        parked: 0,
        queued: 0,
        requests: 100,
        errors: 0,
        retries: 2,
        p50_ms: Some(1.0),
        p99_ms: None,
        instances: vec![instance],
        lock: Some("locked by ann".into()),
        deployment: Some(deployment()),
    };
    Status {
        node: "lb1".into(),
        version: "0.1.0".into(),
        config: "everup.toml".into(),
        worker_pid: 2,
        keeper_pid: 1,
        worker_restarts: 0,
        generation: 4,
        uptime_seconds: 9.0,
        ready: true,
        keeper_gone: false,
        warnings: Vec::new(),
        stopping: false,
        connections: 3,
        metrics: None,
        listeners: vec![ListenerStatus {
            protocol: "http".into(),
            addresses: vec!["127.0.0.1:8080".into()],
            routes: 0,
            service: Some("shop".into()),
            tls: false,
        }],
        services: vec![service],
        leaving: vec![leaving()],
    }
}

async fn raw(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_client_reads_the_status_that_the_controller_gave() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.status().await });
    let Some(Command::Status { reply }) = fixture.commands.recv().await else { panic!("not asked") };
    reply.send(status()).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), status());
}

#[tokio::test]
async fn a_drain_names_its_instance_and_its_patience_and_is_answered_in_words() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let id = InstanceId::new("shop", "[::1]:9001");
    let wanted = id.clone();
    let asked = tokio::spawn(async move { client.drain(&wanted, Some(Duration::from_millis(1500))).await });
    let Some(Command::Drain { id: got, wait, reply }) = fixture.commands.recv().await else {
        panic!("not asked")
    };
    assert_eq!((got, wait), (id, Some(Duration::from_millis(1500))));
    reply.send(Ok(DrainOutcome { in_flight: 2, tunnels: 0, waited: Duration::from_secs(30) })).unwrap();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.drained, answer.message.as_str()), (false, "2 requests still in flight after 30s"));
}

#[tokio::test]
async fn a_refusal_reaches_the_operator_as_its_line() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.kill(&InstanceId::new("shop", "x")).await });
    let Some(Command::Kill { reply, .. }) = fixture.commands.recv().await else { panic!("not asked") };
    reply.send(Err(Refusal::NotFound("shop has no instance x".into()))).unwrap();
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(&error, ClientError::Refused(line) if line == "shop has no instance x"), "{error}");
}

#[tokio::test]
async fn a_controller_that_drops_the_question_costs_the_caller_a_503_and_the_server_goes_on() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    for _ in 0..2 {
        let asking = client.clone();
        let asked = tokio::spawn(async move { asking.undrain(&InstanceId::new("shop", "shop-1")).await });
        drop(fixture.commands.recv().await);
        assert!(matches!(asked.await.unwrap(), Err(ClientError::Refused(_))));
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_for_its_caller_only() {
    let panicking: Answer = Box::pin(async { panic!("a fault of ours") });
    assert_eq!(guarded(panicking).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let fixture = admin();
    let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
    // No more than the limit itself, and no end of the head: nothing is left unread that would reset the answer.
    let start = "GET /v1/status HTTP/1.1\r\nHost: x\r\nx: ";
    let answer = raw(&mut stream, &format!("{start}{}", "a".repeat(HEAD_BYTES - start.len()))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_wait_that_is_no_duration_is_a_400_with_a_reason() {
    let fixture = admin();
    for wait in ["soon", "-1", "inf", "NaN"] {
        let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
        let request = format!(
            "POST /v1/services/a/instances/b/drain?wait={wait} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(&mut stream, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("number of seconds"),
            "{wait}: {answer}"
        );
    }
}

#[tokio::test]
async fn the_metrics_address_offers_its_three_pages_and_nothing_else() {
    let (address, mut commands) = metrics();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Metrics { reply, .. } => reply.send("everup_table_generation 4\n".into()).unwrap(),
                Command::Ready { reply } => {
                    reply.send(Err(NotReady("no instance of shop is up".into()))).unwrap()
                }
                other => panic!("the metrics address is read-only: {other:?}"),
            }
        }
    });
    let page = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        raw(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    };
    assert!(page("/metrics").await.ends_with("everup_table_generation 4\n"));
    assert!(page("/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = page("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("no instance of shop is up"), "{ready}");
    assert!(page("/v1/status").await.starts_with("HTTP/1.1 404"));
}

#[test]
fn every_route_is_described_and_every_description_has_its_route() {
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in
            methods.as_object().unwrap().keys().filter(|key| *key != "parameters" && *key != "servers")
        {
            described.insert((method.clone(), path.clone()));
        }
    }
    let routed = ADMIN_ROUTES.iter().chain(METRICS_ROUTES);
    let routed: BTreeSet<_> =
        routed.map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, routed);
}

#[tokio::test]
async fn every_route_in_the_list_answers_its_method() {
    for (routes, router) in [
        (ADMIN_ROUTES, router::admin as fn(Commands) -> Router),
        (METRICS_ROUTES, router::metrics as fn(Commands) -> Router),
    ] {
        for (method, path) in routes {
            let (sender, commands) = Command::channel();
            drop(commands);
            let service = TowerToHyperService::new(router(sender));
            let request = hyper::Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace(['{', '}'], ""))
                .body(axum::body::Body::empty())
                .unwrap();
            let status = service.call(request).await.unwrap().status();
            assert!(
                status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED,
                "{path}: {status}"
            );
        }
    }
}

fn leaving() -> crate::api::LeavingWorker {
    let version = "0.1.0".to_owned();
    crate::api::LeavingWorker {
        pid: 4,
        version,
        connections: 3,
        in_flight: 1,
        tunnels: 2,
        ends_in_seconds: 9.5,
    }
}

#[tokio::test]
async fn the_client_names_the_binary_of_an_upgrade() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.upgrade(Some("/opt/ever up")).await });
    let Some(Command::Upgrade { path, reply }) = fixture.commands.recv().await else { panic!("not asked") };
    assert_eq!(path.as_deref(), Some("/opt/ever up"));
    let (from, to) = ("0.1.0".to_owned(), "0.2.0".to_owned());
    let moved = crate::api::Moved { idle: 3, ..Default::default() };
    let upgraded = crate::api::Upgraded { from, to, keeper_pid: 1, worker_pid: 2, moved, left: leaving() };
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let told = serde_json::to_value(&upgraded).unwrap();
    for (schema, value) in [("Upgraded", &told), ("Moved", &told["moved"])] {
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let described = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), fields, "{schema}");
    }
    reply.send(Ok(upgraded.clone())).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), upgraded);
}

#[tokio::test]
async fn when_nobody_takes_commands_any_more_the_server_ends_and_so_do_its_connections() {
    let Fixture { _directory, path, commands } = admin();
    let mut idle = UnixStream::connect(&path).await.unwrap();
    idle.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    drop(commands);
    idle.read_to_end(&mut Vec::new()).await.unwrap();
}

/// Every field of the status is described, at its place, and the reverse: the description cannot fall behind.
#[test]
fn the_status_is_described_field_by_field() {
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let schemas = &document["components"]["schemas"];
    let fields =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let status = serde_json::to_value(status()).unwrap();
    for (schema, value) in [
        ("Status", &status),
        ("Listener", &status["listeners"][0]),
        ("LeavingWorker", &status["leaving"][0]),
        ("Service", &status["services"][0]),
        ("Instance", &status["services"][0]["instances"][0]),
        ("Deployment", &status["services"][0]["deployment"]),
        ("DeploymentSide", &status["services"][0]["deployment"]["old"]),
        ("DeploymentStep", &status["services"][0]["deployment"]["steps"][0]),
        ("DeploymentHook", &status["services"][0]["deployment"]["hooks"][0]),
        ("DeploymentEvent", &status["services"][0]["deployment"]["events"][0]),
    ] {
        assert_eq!(fields(&schemas[schema]["properties"]), fields(value), "{schema}");
    }
}

/// The same for what happened.
#[test]
fn events_are_described_field_by_field() {
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let events = serde_json::to_value(events()).unwrap();
    for (schema, value) in [("Events", &events), ("Event", &events["events"][0])] {
        let described = &document["components"]["schemas"][schema];
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let properties: BTreeSet<_> = described["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(properties, fields, "{schema}");
    }
    let kind = events["events"][0]["kind"].clone();
    assert!(
        document["components"]["schemas"]["Event"]["properties"]["kind"]["enum"]
            .as_array()
            .unwrap()
            .contains(&kind)
    );
}

fn events() -> crate::api::Events {
    let event = crate::api::Event {
        number: 7,
        time: "2026-11-22T11:58:26.123Z".into(),
        kind: crate::api::EventKind::CrashLooping,
        service: Some("shop".into()),
        instance: Some("shop-1".into()),
        table: 3,
        text: "exited with code 1".into(),
    };
    crate::api::Events { last: 7, events: vec![event] }
}

#[tokio::test]
async fn the_client_asks_for_events_after_a_number() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.events(6).await });
    let Some(Command::Events { after, reply }) = fixture.commands.recv().await else { panic!("not asked") };
    assert_eq!(after, 6);
    reply.send(events()).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), events());
}

#[test]
fn a_kind_of_event_from_a_later_version_is_no_mistake() {
    let kind: crate::api::EventKind = serde_json::from_str("\"teleported\"").unwrap();
    assert_eq!(kind, crate::api::EventKind::Other);
}

/// The same for reloads.
#[test]
fn changes_and_mistakes_are_described_field_by_field() {
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let schemas = &document["components"]["schemas"];
    let change = everup_core::reload::Change {
        subject: everup_core::reload::Subject::Service("shop".into()),
        kind: everup_core::reload::Kind::Changed,
        settings: vec!["balance".into()],
        when: everup_core::reload::When::Now,
        closes_connections: false,
        effect: "none".into(),
    };
    let reloaded = crate::api::Reloaded { generation: 3, acknowledged: true, changes: vec![change.clone()] };
    let mistakes =
        vec![crate::api::Mistake { message: "m".into(), start: 0, end: 1, label: "l".into(), hint: None }];
    let file = crate::api::WrongFile { path: "p".into(), text: "x".into(), mistakes };
    let error = crate::api::ErrorAnswer { error: "e".into(), file: Some(file) };
    let plan = serde_json::to_value(crate::api::Plan { changes: vec![change] }).unwrap();
    let (reloaded, error) = (serde_json::to_value(reloaded).unwrap(), serde_json::to_value(error).unwrap());
    for (schema, value) in [
        ("Plan", &plan),
        ("Reloaded", &reloaded),
        ("Change", &plan["changes"][0]),
        ("Error", &error),
        ("WrongFile", &error["file"]),
        ("Mistake", &error["file"]["mistakes"][0]),
    ] {
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let properties: BTreeSet<_> =
            schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(properties, fields, "{schema}");
    }
}

#[tokio::test]
async fn a_wrong_file_comes_back_with_its_mistakes() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.reload().await });
    let Some(Command::Reload { reply }) = fixture.commands.recv().await else { panic!("not asked") };
    let file = crate::api::WrongFile { path: "p".into(), text: "x".into(), mistakes: Vec::new() };
    let refusal = crate::NotReloaded { line: "p has 1 mistake".into(), file: Some(file.clone()) };
    reply.send(Err(refusal)).unwrap();
    match asked.await.unwrap() {
        Err(ClientError::WrongFile(found)) => assert_eq!(*found, file),
        other => panic!("{other:?}"),
    }
}

/// The same for what is told of single requests.
#[test]
fn an_explanation_is_described_field_by_field() {
    let text = include_str!("../../../../docs/reference/admin-api.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let explanation = serde_json::to_value(explanation()).unwrap();
    let request = &explanation["requests"][0];
    for (schema, value) in [
        ("Explanation", &explanation),
        ("ExplainedRequest", request),
        ("ExplainedEvent", &request["events"][0]),
    ] {
        let described = &document["components"]["schemas"][schema];
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let properties: BTreeSet<_> = described["properties"].as_object().unwrap().keys().cloned().collect();
        let required = described["required"].as_array().unwrap().iter();
        assert_eq!(properties, fields, "{schema}");
        assert_eq!(required.map(|field| field.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), fields);
    }
}

fn explanation() -> crate::api::Explanation {
    let event = crate::api::ExplainedEvent {
        at_ms: 0.0,
        attempt: Some(1),
        ms: 1.0,
        table: 1,
        kind: "failed".into(),
        instance: Some("shop-1".into()),
        text: "refused the connection".into(),
    };
    let request = crate::api::ExplainedRequest {
        time: "2026-11-22T11:58:26.123Z".into(),
        client: "10.0.0.9".into(),
        method: "GET".into(),
        host: "shop".into(),
        path: "/".into(),
        listener: 1,
        route: None,
        service: "shop".into(),
        instance: Some("shop-1".into()),
        table: 1,
        attempts: 1,
        status: Some(502),
        verdict: "refused".into(),
        bytes_in: 1,
        bytes_out: 1,
        ms: 1.0,
        parked_ms: 0.0,
        queued_ms: 0.0,
        tried_ms: 1.0,
        connect_ms: 0.0,
        first_byte_ms: 0.0,
        last_byte_ms: 0.0,
        events: vec![event],
        events_left_out: 0,
    };
    crate::api::Explanation { id: "a".into(), requests: vec![request] }
}

#[tokio::test]
async fn an_explanation_asks_for_the_very_id_and_what_is_unknown_is_refused_in_words() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.explain("a/b%c").await });
    let Some(Command::Explain { id, reply }) = fixture.commands.recv().await else { panic!("not asked") };
    assert_eq!(id, "a/b%c");
    reply.send(Err(Refusal::NotFound("nothing is remembered".into()))).unwrap();
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "nothing is remembered");
}

#[tokio::test]
async fn a_deployment_is_asked_for_with_everything_that_was_said_and_without_what_steers_terminals() {
    let mut fixture = admin();
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move {
        client.deploy("shop", "v2", Some("rolling"), ("an\u{1b}n", Some("a & b = c"))).await
    });
    let Some(Command::Deploy { request, reply }) = fixture.commands.recv().await else { panic!("not asked") };
    let wish = DeployWish::Begin {
        revision: "v2".into(),
        strategy: Some("rolling".into()),
        reason: "a & b = c".into(),
    };
    assert_eq!(request, DeployRequest { service: "shop".into(), by: "ann".into(), wish });
    reply.send(Ok(DeployAnswer::Done("01A".into()))).unwrap();
    assert_eq!(asked.await.unwrap().unwrap().message, "01A");
    let client = Client::connect(&fixture.path).await.unwrap();
    let asked = tokio::spawn(async move { client.lock("shop", "ann", Some("a\u{7} sale")).await });
    let Some(Command::Deploy { request, reply }) = fixture.commands.recv().await else { panic!("not asked") };
    assert_eq!(request.wish, DeployWish::Lock { reason: "a sale".into() });
    reply.send(Ok(DeployAnswer::Done("locked".into()))).unwrap();
    assert_eq!(asked.await.unwrap().unwrap().message, "locked");
}

#[tokio::test]
async fn every_order_about_a_deployment_reaches_the_controller_and_a_refusal_its_caller() {
    let mut fixture = admin();
    let verbs = [
        ("promote", DeployWish::Promote),
        ("pause", DeployWish::Pause),
        ("resume", DeployWish::Resume),
        ("abort", DeployWish::Abort),
        ("rollback", DeployWish::Rollback),
        ("unlock", DeployWish::Unlock),
    ];
    for (verb, wish) in verbs {
        let client = Client::connect(&fixture.path).await.unwrap();
        let asked = tokio::spawn(async move { client.order("shop", verb, "ann").await });
        let Some(Command::Deploy { request, reply }) = fixture.commands.recv().await else {
            panic!("{verb}")
        };
        assert_eq!(request.wish, wish);
        reply.send(Err(Refusal::Conflict("not now".into()))).unwrap();
        assert_eq!(asked.await.unwrap().unwrap_err().to_string(), "not now");
    }
}
