//! Where does a request end? Random bytes that are nearly requests are read by everup's own reader and by two that
//! share no code with it: llhttp (the parser inside Node.js) and h11 (Python). A message that one of them ends
//! elsewhere is how requests are smuggled past a proxy. A sample of what was read, with the places where the
//! other two saw ends, is `core/tests/readings.txt`: core's own tests need neither.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use everup_core::http::body::Body;
use everup_core::http::{Parsed, Storage, request};
use everup_e2e::chance::Chance;
use serde_json::Value;

use crate::promise::Promises;

mod requests;

/// Byte strings per round: the other readers read one round at a time.
const ROUND: u64 = 20_000;

/// How somebody read some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reading {
    messages: Vec<Message>,
    /// Why no further message was read, if not for want of bytes or by agreement to end.
    refused: Option<String>,
    /// The last message was the connection's last.
    ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    /// Bytes up to here belong to this message and those before it.
    end: u64,
    target: String,
    /// In hexadecimal.
    body: String,
}

/// What two readings have to do with each other.
enum Compared {
    Agree,
    /// We take a message that the other reader refuses, for this reason.
    Laxer(String),
    Disagree(String),
}

/// Reads so many byte strings. Whether nobody disagreed. `record`: a file for a sample of them.
pub(crate) fn run(count: u64, seed: u64, record: Option<&str>) -> bool {
    let mut chance = Chance::new(seed);
    let (mut promises, mut tally) = (Promises::default(), Tally::default());
    let mut done = 0;
    while done < count {
        let round: Vec<Vec<u8>> = (0..ROUND.min(count - done)).map(|_| requests::draw(&mut chance)).collect();
        done += round.len() as u64;
        let readers = [("llhttp", with_llhttp(&round)), ("h11", with_h11(&round))];
        for (index, bytes) in round.iter().enumerate() {
            let ours = ours(bytes);
            tally.accepted += u64::from(!ours.messages.is_empty());
            for (name, readings) in &readers {
                tally.take(name, bytes, compare(&ours, &readings[index]));
            }
            if record.is_some() {
                tally.keep(bytes, &ours, [&readers[0].1[index], &readers[1].1[index]]);
            }
        }
    }
    if let Some(path) = record {
        std::fs::write(path, tally.kept_text()).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    println!("{done} byte strings, {} of which begin with a request that we take\n", tally.accepted);
    for ((name, reason), (times, example)) in &tally.laxer {
        println!("we take what {name} refuses, {times} times: {reason}\n    {}", example.escape_ascii());
    }
    for (name, bytes, how) in tally.disagreements.iter().take(20) {
        println!("{name}: {how}\n    {}", bytes.escape_ascii());
    }
    let found = tally.disagreements.len();
    promises.check("nobody ends a message elsewhere", format!("{found} disagreements"), found == 0);
    promises.check("requests were among them", tally.accepted, tally.accepted > done / 10);
    promises.kept()
}

/// What was found.
#[derive(Default)]
struct Tally {
    accepted: u64,
    laxer: BTreeMap<(String, String), (u64, Vec<u8>)>,
    disagreements: Vec<(String, Vec<u8>, String)>,
    /// The shortest byte string of each combination of readings, as a line of the record.
    kept: BTreeMap<String, String>,
}

impl Tally {
    fn take(&mut self, name: &str, bytes: &[u8], compared: Compared) {
        match compared {
            Compared::Agree => {}
            Compared::Laxer(reason) => {
                let (times, shortest) =
                    self.laxer.entry((name.to_owned(), reason)).or_insert_with(|| (0, bytes.to_vec()));
                *times += 1;
                if bytes.len() < shortest.len() {
                    *shortest = bytes.to_vec();
                }
            }
            Compared::Disagree(how) => self.disagreements.push((name.to_owned(), bytes.to_vec(), how)),
        }
    }

    /// Keeps one of every kind: where the other readers ended the messages, and the bytes.
    fn keep(&mut self, bytes: &[u8], ours: &Reading, others: [&Reading; 2]) {
        let refused = others.map(|other| (other.messages.len(), other.refused.is_some()));
        // llhttp's reasons are words; h11's quote what it read.
        let kind = format!("{} {:?} {refused:?} {:?}", ours.messages.len(), ours.refused, others[0].refused);
        let ends = |reading: &Reading| {
            let ends: Vec<String> = reading.messages.iter().map(|message| message.end.to_string()).collect();
            let stopped = if reading.refused.is_some() || reading.ended { " stopped" } else { "" };
            format!("{}{stopped}", ends.join(" "))
        };
        let line = format!("{} | {} | {}", ends(others[0]), ends(others[1]), bytes.escape_ascii());
        let kept = self.kept.entry(kind).or_insert_with(|| line.clone());
        if line.len() < kept.len() {
            *kept = line;
        }
    }

    fn kept_text(&self) -> String {
        self.kept.values().map(|line| line.clone() + "\n").collect()
    }
}

/// How we read the bytes.
fn ours(bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut at = 0;
    while at < bytes.len() {
        let mut storage = Storage::new();
        let parsed = request::parse(&bytes[at..], &mut storage);
        let request = match parsed {
            Ok(Parsed::Whole(request)) => request,
            Ok(Parsed::Partial) => return reading,
            Err(malformed) => return Reading { refused: Some(malformed.to_string()), ..reading },
        };
        let (mut body, mut content) = (Body::new(request.framing), Vec::new());
        let rest = &bytes[at + request.head_bytes..];
        match body.take(rest, |piece| content.extend_from_slice(piece)) {
            Ok(taken) if body.is_done() => at += request.head_bytes + taken,
            Ok(_) => return reading,
            Err(malformed) => return Reading { refused: Some(malformed.to_string()), ..reading },
        }
        let body = content.iter().map(|byte| format!("{byte:02x}")).collect();
        reading.messages.push(Message { end: at as u64, target: request.target.to_owned(), body });
        if !request.keep_alive || request.upgrade {
            return Reading { ended: true, ..reading };
        }
    }
    reading
}

fn compare(ours: &Reading, other: &Reading) -> Compared {
    for (index, message) in ours.messages.iter().enumerate() {
        match (other.messages.get(index), &other.refused) {
            (Some(theirs), _) => {
                // We take the host out of an absolute target.
                let same_target = theirs.target == message.target || !theirs.target.starts_with('/');
                if (theirs.end, &theirs.body) != (message.end, &message.body) || !same_target {
                    return Compared::Disagree(format!("{message:?} is {theirs:?} to it"));
                }
            }
            (None, Some(reason)) => return Compared::Laxer(reason.clone()),
            (None, None) if other.ended => return Compared::Agree,
            (None, None) => return Compared::Disagree(format!("it still waits for the end of {message:?}")),
        }
    }
    let waits = ours.refused.is_none() && !ours.ended;
    match other.messages.get(ours.messages.len()) {
        Some(theirs) if waits => Compared::Disagree(format!("we still wait for the end of {theirs:?}")),
        Some(_) | None => Compared::Agree,
    }
}

fn with_llhttp(round: &[Vec<u8>]) -> Vec<Reading> {
    read_with("node", &["--no-deprecation", &script("llhttp.js")], round)
}

fn with_h11(round: &[Vec<u8>]) -> Vec<Reading> {
    read_with("python3", &[&script("h11_reader.py")], round)
}

fn script(name: &str) -> String {
    format!("{}/examples/drills/differential/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Gives every byte string to a program that reads lines and answers in lines.
fn read_with(program: &str, arguments: &[&str], round: &[Vec<u8>]) -> Vec<Reading> {
    let hint = "this drill needs node and python3 with h11 (pip install h11; PYTHONPATH says where it lies)";
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; {hint}"));
    let lines: String = round
        .iter()
        .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect();
    let mut stdin = child.stdin.take().expect("it is piped");
    let feeding = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it was started");
    let fed = feeding.join().expect("writing does not panic");
    assert!(fed.is_ok() && output.status.success(), "{program} failed; {hint}");
    let text = String::from_utf8(output.stdout).expect("it writes text");
    let readings: Vec<Reading> = text.lines().map(reading).collect();
    assert_eq!(readings.len(), round.len(), "{program} answers every line");
    readings
}

fn reading(line: &str) -> Reading {
    let value: Value = serde_json::from_str(line).expect("the reader writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let message = |value: &Value| Message {
        end: value["end"].as_u64().unwrap_or_default(),
        target: text(&value["target"]),
        body: text(&value["body"]),
    };
    let messages = value["messages"].as_array().map(|messages| messages.iter().map(message).collect());
    Reading {
        messages: messages.unwrap_or_default(),
        refused: value["refused"].as_str().map(str::to_owned),
        ended: value["ended"].as_bool().unwrap_or_default(),
    }
}
