//! What a launcher says while it waits for other nodes.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::messages::Progress;

/// Between two lines, where there is no terminal on which one could be written over.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Line {
    is_terminal: bool,
    next: Option<Instant>,
    is_shown: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), next: None, is_shown: false }
    }

    /// The first tells nothing yet: most waits are short.
    pub(super) fn show(&mut self, text: &str, now: Instant) {
        let mut stderr = std::io::stderr().lock();
        if self.is_terminal {
            let _ = stderr.write_all(format!("\r\x1b[Kzenith-run: {text}").as_bytes());
            self.is_shown = true;
        } else if now >= *self.next.get_or_insert(now + LINE_EVERY) {
            // At once, so that the lines of several launchers on one terminal or pipe stay whole.
            let _ = stderr.write_all(format!("zenith-run: {text}\n").as_bytes());
            self.next = Some(now + LINE_EVERY);
        }
    }

    /// The wait is over.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            eprint!("\r\x1b[K");
        }
        self.next = None;
    }
}

pub(super) fn text(progress: &Progress) -> String {
    match progress {
        Progress::Spare => "this node is a spare: it takes part when another is lost".into(),
        Progress::Gathering { here, wanted: (least, most), seconds_left, has_enough } => {
            let wanted = if least == most { most.to_string() } else { format!("{least} to {most}") };
            let count = if *has_enough { "enough for a start" } else { "waiting for more" };
            let then = if *has_enough { "start in" } else { "giving up in" };
            format!("{wanted} nodes wanted, {count}, {then} {seconds_left} s; here: {}", here.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_who_is_here_and_how_long_it_goes_on() {
        let gathering = |wanted, has_enough| Progress::Gathering {
            here: vec!["n1 (10.0.0.1)".into()],
            wanted,
            seconds_left: 7,
            has_enough,
        };
        assert_eq!(
            text(&gathering((2, 2), false)),
            "2 nodes wanted, waiting for more, giving up in 7 s; here: n1 (10.0.0.1)"
        );
        assert_eq!(
            text(&gathering((1, 4), true)),
            "1 to 4 nodes wanted, enough for a start, start in 7 s; here: n1 (10.0.0.1)"
        );
    }
}
