//! How long ranks have between SIGTERM and SIGKILL: no longer than whoever would kill the launcher itself leaves it.

use std::time::Duration;

use super::{Environment, Machine, PlanError};
use crate::command_line::{Options, whole};

/// What it takes to kill what is left, to see it gone and to report.
const MARGIN: Duration = Duration::from_secs(3);
const DEFAULT: i64 = 30;
/// For managers that do not tell it, such as Kubernetes.
const OUTER: &str = "ZENITH_OUTER_GRACE";

/// Honoured on every path (TW-2). A line in `notices` says when it was shortened.
pub(super) fn grace(
    options: &Options,
    environment: &Environment,
    machine: &Machine,
    notices: &mut Vec<String>,
) -> Result<Duration, PlanError> {
    let wanted = match (options.shutdown_timeout, environment.text("TORCH_ELASTIC_SHUTDOWN_TIMEOUT")) {
        (Some(seconds), _) => seconds,
        (None, Some(text)) => whole(&text).map_err(PlanError::Value)?,
        (None, None) => DEFAULT,
    };
    let wanted = seconds("shutdown_timeout", wanted)?;
    let Some((outer, whose)) = outer(options, environment, machine)? else { return Ok(wanted) };
    let longest = outer.saturating_sub(MARGIN);
    if wanted <= longest {
        return Ok(wanted);
    }
    notices.push(format!(
        "the shutdown timeout is {} s instead of {}: {whose} {} s after SIGTERM",
        longest.as_secs(),
        wanted.as_secs(),
        outer.as_secs()
    ));
    Ok(longest)
}

/// What is given counts before what is found.
fn outer(
    options: &Options,
    environment: &Environment,
    machine: &Machine,
) -> Result<Option<(Duration, &'static str)>, PlanError> {
    if let Some(given) = options.outer_grace {
        return Ok(Some((seconds("outer_grace", given)?, "by --outer-grace, all is killed")));
    }
    if let Some(text) = environment.text(OUTER).filter(|text| !text.is_empty()) {
        let given = whole(&text).map_err(|error| PlanError::Value(format!("${OUTER}: {error}")))?;
        return Ok(Some((seconds(OUTER, given)?, "by $ZENITH_OUTER_GRACE, all is killed")));
    }
    Ok(machine.slurm_kill_wait.map(|wait| (wait, "by its KillWait, Slurm kills")))
}

/// Whether Slurm's own figure is of use.
pub(crate) fn asks_for_kill_wait(options: &Options, environment: &Environment) -> bool {
    let is_given = options.outer_grace.is_some() || environment.get(OUTER).is_some_and(|text| !text.is_empty());
    !is_given && environment.get("SLURM_JOB_ID").is_some()
}

fn seconds(name: &str, number: i64) -> Result<Duration, PlanError> {
    let refused = |_| PlanError::Value(format!("{name} must be non-negative, got {number}"));
    u64::try_from(number).map(Duration::from_secs).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(
        set: impl FnOnce(&mut Options),
        variables: &[(&str, &str)],
        kill_wait: Option<u64>,
    ) -> Result<(u64, Vec<String>), String> {
        let mut options = Options::default();
        set(&mut options);
        let machine = Machine { slurm_kill_wait: kill_wait.map(Duration::from_secs), ..Machine::default() };
        let mut notices = Vec::new();
        let grace = grace(&options, &variables.iter().copied().collect(), &machine, &mut notices);
        grace.map(|grace| (grace.as_secs(), notices)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_shortened_that_fits() {
        assert_eq!(planned(|_| {}, &[], None), Ok((30, vec![])));
        assert_eq!(planned(|_| {}, &[], Some(33)), Ok((30, vec![])));
        assert_eq!(planned(|o| o.shutdown_timeout = Some(7), &[(OUTER, "10")], None), Ok((7, vec![])));
        assert_eq!(planned(|_| {}, &[(OUTER, "")], None), Ok((30, vec![])));
    }

    #[test]
    fn what_is_given_counts_before_what_is_found() {
        let found = planned(|_| {}, &[], Some(30)).expect("a grace");
        let line = "the shutdown timeout is 27 s instead of 30: by its KillWait, Slurm kills 30 s after SIGTERM";
        assert_eq!(found, (27, vec![line.to_owned()]));
        let variable = planned(|_| {}, &[(OUTER, "20")], Some(30)).expect("a grace");
        assert_eq!(variable.0, 17);
        assert!(variable.1.concat().contains("by $ZENITH_OUTER_GRACE"), "{variable:?}");
        let flag = planned(|o| o.outer_grace = Some(2), &[(OUTER, "20")], Some(30)).expect("a grace");
        assert_eq!(flag.0, 0);
        assert!(flag.1.concat().contains("by --outer-grace"), "{flag:?}");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (set, variables, said) in [
            (Some(-1), vec![], "outer_grace must be non-negative, got -1"),
            (None, vec![(OUTER, "-2")], "ZENITH_OUTER_GRACE must be non-negative, got -2"),
            (None, vec![(OUTER, "soon")], "$ZENITH_OUTER_GRACE: "),
        ] {
            let error = planned(|o| o.outer_grace = set, &variables, None).expect_err("no plan");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn slurm_is_asked_only_where_it_matters() {
        let asks = |set: fn(&mut Options), variables: &[(&str, &str)]| {
            let mut options = Options::default();
            set(&mut options);
            asks_for_kill_wait(&options, &variables.iter().copied().collect())
        };
        assert!(asks(|_| {}, &[("SLURM_JOB_ID", "1")]));
        assert!(!asks(|_| {}, &[]));
        assert!(!asks(|o| o.outer_grace = Some(9), &[("SLURM_JOB_ID", "1")]));
        assert!(!asks(|_| {}, &[("SLURM_JOB_ID", "1"), (OUTER, "9")]));
    }
}
