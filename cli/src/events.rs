//! Events as people read them: a line each. Pure.

use everup_admin::api::{Event, EventKind};

use crate::table::{Colour, paint, printable};

/// The last `most` events, the newest at the end, under a title. Without `coloured` it holds no escape sequence.
pub(crate) fn last(events: &[Event], most: usize, coloured: bool) -> String {
    let shown = &events[events.len().saturating_sub(most)..];
    if shown.is_empty() {
        return String::new();
    }
    let lines =
        shown.iter().map(|event| format!("  {}\n", paint(&line(event), colour(event.kind), coloured)));
    format!("\nlast events (UTC)\n{}", lines.collect::<String>())
}

/// `11-22 11:58:26  shop/shop-1  down: refused the connection`. Times are UTC, as in logs.
pub(crate) fn line(event: &Event) -> String {
    let Event { time, service, instance, text, .. } = event;
    let whom = match (service, instance) {
        (Some(service), Some(instance)) => format!("{service}/{instance}"),
        (Some(service), None) => service.clone(),
        (None, _) => "everup".to_owned(),
    };
    printable(&format!("{}  {whom}  {text}", when(time)))
}

/// How grave it is.
pub(crate) fn colour(kind: EventKind) -> Colour {
    match kind {
        EventKind::Up => Colour::Green,
        EventKind::Down
        | EventKind::Backoff
        | EventKind::CrashLooping
        | EventKind::WorkerReplaced
        | EventKind::KeeperGone
        | EventKind::FellBack
        | EventKind::ControllerReplaced => Colour::Red,
        EventKind::Ejected | EventKind::Unknown | EventKind::Restarted | EventKind::Draining => {
            Colour::Yellow
        }
        EventKind::Deployment => Colour::Yellow,
        EventKind::WorkerStarted
        | EventKind::Reloaded
        | EventKind::Upgraded
        | EventKind::KeeperBack
        | EventKind::Stopping
        | EventKind::Drained
        | EventKind::Weighed
        | EventKind::Starting
        | EventKind::Stopped
        | EventKind::Standby
        | EventKind::Other => Colour::Dim,
    }
}

/// Month, day and time of day of an RFC 3339 time; the whole of what is none.
fn when(time: &str) -> String {
    match (time.get(5..10), time.get(10..11), time.get(11..19)) {
        (Some(day), Some("T"), Some(second)) => format!("{day} {second}"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(instance: Option<&str>, text: &str) -> Event {
        Event {
            number: 1,
            time: "2026-11-22T11:58:26.123Z".into(),
            kind: EventKind::Down,
            service: instance.map(|_| "shop".into()),
            instance: instance.map(Into::into),
            table: 3,
            text: text.into(),
        }
    }

    #[test]
    fn an_event_is_one_line_that_names_when_whom_and_what() {
        assert_eq!(line(&event(Some("shop-1"), "down: no")), "11-22 11:58:26  shop/shop-1  down: no");
        assert_eq!(line(&event(None, "everup serves")), "11-22 11:58:26  everup  everup serves");
    }

    #[test]
    fn the_last_ones_are_shown_and_without_any_nothing() {
        let events = [event(None, "one"), event(None, "two"), event(Some("shop-1"), "three")];
        let shown = last(&events, 2, false);
        assert_eq!(
            shown,
            "\nlast events (UTC)\n  11-22 11:58:26  everup  two\n  11-22 11:58:26  shop/shop-1  three\n"
        );
        assert!(last(&events, 1, true).contains("\u{1b}[31m"));
        assert_eq!(last(&[], 2, false), "");
    }

    #[test]
    fn what_an_application_says_cannot_steer_the_terminal() {
        assert!(!line(&event(Some("shop-1"), "\u{1b}[2J\n")).contains(['\u{1b}', '\n']));
    }

    #[test]
    fn a_time_in_another_form_is_shown_as_it_is() {
        assert_eq!(when("now"), "now");
    }
}
