//! `--redirects` and `--tee`: which streams of which local ranks (T-8).

use super::PlanError;

/// Streams of one rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdout: bool,
    pub stderr: bool,
}

/// Streams by local rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamsOfRanks {
    All(Streams),
    /// Ranks that are not listed have none.
    Some(Vec<(u32, Streams)>),
}

impl StreamsOfRanks {
    /// `3`, or `0:3,1:2`. Ranks are single digits, and of one that stands twice the last counts.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        if let Some(streams) = digit(text).and_then(Streams::of_number) {
            return Ok(Self::All(streams));
        }
        let pair = |item: &str| {
            let (rank, streams) = item.split_once(':')?;
            Some((digit(rank)?, Streams::of_number(digit(streams)?)?))
        };
        text.split(',').map(pair).collect::<Option<_>>().map(Self::Some).ok_or_else(|| {
            PlanError::Value(format!("{text} does not match: <^[0123]$> or <^(\\d:[0123],)*(\\d:[0123])$>"))
        })
    }

    pub fn of(&self, local_rank: u32) -> Streams {
        match self {
            Self::All(streams) => *streams,
            Self::Some(pairs) => {
                pairs.iter().rfind(|(rank, _)| *rank == local_rank).map(|(_, streams)| *streams).unwrap_or_default()
            }
        }
    }
}

impl Streams {
    fn of_number(number: u32) -> Option<Self> {
        (number <= 3).then_some(Self { stdout: number & 1 != 0, stderr: number & 2 != 0 })
    }

    /// Those of both.
    pub fn and(self, other: Self) -> Self {
        Self { stdout: self.stdout || other.stdout, stderr: self.stderr || other.stderr }
    }
}

fn digit(text: &str) -> Option<u32> {
    match text.as_bytes() {
        [byte @ b'0'..=b'9'] => Some(u32::from(byte - b'0')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_a_number_or_a_mapping() {
        let number = |streams: Streams| u32::from(streams.stdout) + 2 * u32::from(streams.stderr);
        for (text, of_three_ranks) in
            [("0", [0, 0, 0]), ("3", [3, 3, 3]), ("0:3,1:2", [3, 2, 0]), ("1:1", [0, 1, 0]), ("2:1,2:2", [0, 0, 2])]
        {
            let streams = StreamsOfRanks::parse(text).expect(text);
            assert_eq!([0, 1, 2].map(|rank| number(streams.of(rank))), of_three_ranks, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["9", "", "4", "0:4", "10:3", "0:1,", ",0:1", "0:1 ,1:1", "a", "-1", "0:", "33"] {
            let error = StreamsOfRanks::parse(text).expect_err(text).to_string();
            assert_eq!(
                error,
                format!("ValueError: {text} does not match: <^[0123]$> or <^(\\d:[0123],)*(\\d:[0123])$>")
            );
        }
    }
}
