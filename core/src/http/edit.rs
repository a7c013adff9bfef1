//! Edits of a head on its way: fields that are set, added and left out. Worked out once per route; a head without
//! edits never comes here. Which fields may be edited is the configuration's to judge.

/// What is done to the header lines of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadEdits {
    /// Fields of which every line is left out.
    left_out: Vec<String>,
    /// Whole lines that are added at the end.
    lines: Vec<u8>,
}

impl HeadEdits {
    /// `set` replaces a field, `add` adds a line beside those that are there, `remove` leaves a field out. Names must be
    /// tokens and values without control characters.
    pub fn new(set: &[(String, String)], add: &[(String, String)], remove: &[String]) -> Self {
        let left_out = set.iter().map(|(name, _)| name).chain(remove).cloned().collect();
        let lines =
            set.iter().chain(add).flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes());
        Self { left_out, lines: lines.collect() }
    }

    /// Nothing is done.
    pub fn is_empty(&self) -> bool {
        self.left_out.is_empty() && self.lines.is_empty()
    }

    /// Whether lines of the field `name` are left out. `X_User` counts as `X-User`: many applications get both as one
    /// variable (CGI, WSGI), and a client must not pass by what is set here.
    pub(super) fn leave_out(&self, name: &[u8]) -> bool {
        self.left_out.iter().any(|edited| is_same(edited.as_bytes(), name))
    }

    /// Whether a line of the field `name` is added.
    pub(super) fn writes(&self, name: &str) -> bool {
        let is_it = |line: &[u8]| {
            let (field, rest) = line.split_at_checked(name.len()).unwrap_or_default();
            field.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
        };
        self.lines.split(|&byte| byte == b'\n').any(is_it)
    }

    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// The same field, in any case and with either dash.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().map(plain).eq(b.iter().map(plain))
}
