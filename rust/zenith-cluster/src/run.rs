//! The launcher from its command line to its exit status: attempts, restarts, the report of a failure.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::command_line::{self, Parsed};
use crate::console::{self, Console};
use crate::coordinator::Coordinator;
use crate::gang::{Gang, Notice, Outcome, Summons};
use crate::meeting_point::MeetingPoint;
use crate::observe::{Event, Observer};
use crate::plan::{self, Attempt, Decision, Environment, Group, Interpreter, PlanError, Settings};
use crate::report::{self, Failure, RunOutcome};
use crate::watch::{Attended, GivenUp, Watch};
use crate::worker::{Exit, Output, Status, Worker};
use crate::{alias, folders, handing_over, machine, signals};

mod caller;
mod together;

use caller::Caller;

/// Of warm starts: the import of torch takes seconds, and minutes from a cold disk of the network.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);

const FAILED: u8 = 1;
/// What stands in front of the block in torchrun's traceback.
const CHILD_FAILED: &str = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ";
const STDERR_LINES: usize = 20;

/// Does what `arguments` say, and gives back the exit status. It must be called before the process has a second thread.
pub fn run(arguments: &[OsString], variables: impl IntoIterator<Item = (OsString, OsString)>) -> u8 {
    crate::gang::hold();
    let environment: Environment = variables.into_iter().collect();
    let options = match command_line::parse(arguments, |name| environment.get(name).map(Into::into)) {
        Ok(Parsed::Run(options)) => options,
        Ok(Parsed::Print(text)) => return print(&text),
        Ok(Parsed::InstallAlias(folder)) => return install_alias(&folder, &environment),
        Err(error) => {
            console::tell(format!("{error}\n").as_bytes());
            return error.exit_code();
        }
    };
    let caller = match Caller::of(&options) {
        Ok(caller) => caller,
        Err(error) => {
            say(&error);
            return FAILED;
        }
    };
    let machine = machine::look(&environment, &options);
    let python = match options.python.clone() {
        Some(own) => Interpreter::named(own.into(), &environment),
        None => plan::interpreter(&environment, &machine, |path| path.exists()),
    };
    let inherited = environment.clone();
    let (is_legacy, is_warm) = (options.legacy_launch, options.warm);
    let decision = plan::decide(*options, environment, &machine, python.clone(), Uuid::new_v4());
    match decision.and_then(possible) {
        Err(error) => {
            caller.tell(&RunOutcome::refused(&error), &format!("{error}\n"));
            FAILED
        }
        Ok(Decision::Python(reason)) if caller.is_there() => {
            caller.tell(&RunOutcome::Python { reason }, "");
            FAILED
        }
        Ok(Decision::Python(reason)) => {
            if is_warm {
                say(&format!("--warm is ignored: {reason} is left to Python's torchrun, which starts ranks by itself"));
            }
            let program = python.own.display();
            let module = if is_legacy { "torch.distributed.launch" } else { "torch.distributed.run" };
            say(&format!("{reason}: handing over to `{program} -m {module}`"));
            say(&handing_over::to_python(&python, arguments, is_legacy, &inherited));
            FAILED
        }
        Ok(Decision::Here(settings)) => {
            settings.notices.iter().for_each(say);
            if let Err(error) = settings.plot.as_deref().map_or(Ok(()), |path| plot(&settings, path)) {
                say(&error);
                return FAILED;
            }
            if settings.dry_run {
                return dry_run(&settings, inherited);
            }
            match Launch::start(*settings, caller.clone(), &machine.temporary_folder).and_then(Launch::go) {
                Ok(0) => {
                    caller.tell(&RunOutcome::Succeeded, "");
                    0
                }
                Ok(code) => code,
                Err(error) => {
                    caller.tell(&RunOutcome::broken(&error), &format!("zenith-run: {error}\n"));
                    FAILED
                }
            }
        }
    }
}

/// What the plan cannot know: whether its log folder can be one.
fn possible(decision: Decision) -> Result<Decision, PlanError> {
    if let Decision::Here(settings) = &decision {
        folders::check(&settings.logs.folder)?;
    }
    Ok(decision)
}

fn say(what: &(impl Display + ?Sized)) {
    console::tell(format!("zenith-run: {what}\n").as_bytes());
}

fn print(text: &str) -> u8 {
    // A reader that has seen enough, as `head`, is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    0
}

fn install_alias(folder: &Path, environment: &Environment) -> u8 {
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    match program.and_then(|program| alias::install(folder, &program, environment.get("PATH"))) {
        Ok(said) => print(&said),
        Err(error) => {
            say(&error);
            FAILED
        }
    }
}

fn plot(settings: &Settings, path: &Path) -> io::Result<()> {
    let topology = settings.placement.topology.clone().unwrap_or_default();
    let picture = crate::placement::picture(&topology, &settings.placement.places);
    std::fs::write(path, picture)
        .map_err(|error| io::Error::new(error.kind(), format!("--plot: {} cannot be written: {error}", path.display())))
}

fn dry_run(settings: &Settings, inherited: Environment) -> u8 {
    let (group, master_address, master_port) = match (&settings.nodes, &settings.meeting) {
        // Who else comes is not known: all nodes are shown as this one is.
        (Some(nodes), _) => (nodes.alike(settings.ranks), nodes.host.clone(), nodes.known_port()),
        (None, plan::Meeting::FreePort) => (Group::alone(settings.ranks), "127.0.0.1".into(), 0),
        (None, plan::Meeting::At { host, port }) => (Group::alone(settings.ranks), host.clone(), *port),
    };
    let folder = settings.logs.folder.shown(&settings.run_id);
    let attempt = Attempt { number: 0, group, master_address, master_port, coordinator_port: 0, folder };
    let workers = plan::workers(settings, &attempt);
    let outline = plan::Outline::of(settings, &workers, &inherited.into_variables());
    print(&if settings.json { outline.json() } else { plan::table(&outline) })
}

/// A run under way.
struct Launch {
    settings: Settings,
    caller: Caller,
    gang: Gang,
    /// Where the logs of all attempts lie.
    folder: Option<PathBuf>,
    meeting_point: MeetingPoint,
    coordinator: Coordinator,
    observer: Observer,
    /// The last attempt was ended because its ranks hung.
    given_up: Option<GivenUp>,
}

impl Launch {
    fn start(settings: Settings, caller: Caller, temporary: &Path) -> io::Result<Self> {
        let mut gang = Gang::start()?;
        let (observer, metrics_port) = Observer::start(&settings)?;
        gang.tell(narrator(observer.clone()));
        let folder = folders::of_run(&settings.logs.folder, temporary, &settings.run_id)?;
        observer.note(&Event::Start {
            pid: std::process::id(),
            launcher_version: env!("CARGO_PKG_VERSION"),
            local_ranks: settings.ranks,
            max_restarts: settings.max_restarts,
            log_folder: folder.as_ref().map(|folder| folder.to_string_lossy().into_owned()),
            metrics_port,
        });
        if let Some(port) = metrics_port {
            say(&format!("http://127.0.0.1:{port}/metrics and /healthz"));
        }
        let meeting_point = MeetingPoint::new(settings.meeting.clone(), settings.store);
        let coordinator = Coordinator::default();
        Ok(Self { settings, caller, gang, folder, meeting_point, coordinator, observer, given_up: None })
    }

    fn go(self) -> io::Result<u8> {
        let observer = self.observer.clone();
        let code = match self.settings.nodes.clone() {
            Some(nodes) => self.together(&nodes),
            None => self.attempts(),
        };
        let error = code.as_ref().err().map(ToString::to_string);
        observer.note(&Event::End { exit_code: *code.as_ref().unwrap_or(&FAILED), error });
        observer.finish().iter().for_each(say);
        code
    }

    /// Attempt after attempt, until one succeeds or there are no more.
    fn attempts(mut self) -> io::Result<u8> {
        let mut backoff = Backoff::default();
        for number in 0.. {
            let (attempt, workers) = self.plan(number)?;
            let exits = match self.attempt(&attempt, &workers, None)? {
                Outcome::Succeeded(_) => return Ok(0),
                Outcome::Stopped { signal, .. } => return Ok(self.stopped(signal)),
                // Nobody summons a gang that is alone.
                Outcome::Failed(exits) | Outcome::Withdrawn(exits) => exits,
            };
            let may_restart = number < self.settings.max_restarts && !self.is_stuck();
            let Some(point) = self.point(&exits).filter(|_| may_restart) else {
                return Ok(self.failed(&attempt, &workers, &exits));
            };
            let pause = backoff.after(point);
            self.observer.note(&Event::Restart { restart: number + 1, of: self.settings.max_restarts });
            if !pause.is_zero() {
                self.observer.note(&Event::Backoff { seconds: pause.as_secs_f64() });
            }
            let after = if pause.is_zero() { String::new() } else { format!(", in {} s", pause.as_secs()) };
            say(&format!("restart {} of {}{after}", number + 1, self.settings.max_restarts));
            if let Some(signal) = self.gang.pause(pause, &self.settings.rules)? {
                return Ok(self.stopped(signal));
            }
        }
        Ok(FAILED)
    }

    /// Where an attempt failed: which rank, and how unless it hung.
    fn point(&self, exits: &[Exit]) -> Option<(u32, Option<Status>)> {
        let failed = exits.iter().find(|exit| !exit.status.is_success());
        let hung = self.given_up.as_ref().map(|given_up| (given_up.first.rank, None));
        hung.or_else(|| failed.map(|exit| (exit.rank, Some(exit.status))))
    }

    /// Whether this machine holds on to a rank, so that another attempt would fare no better.
    fn is_stuck(&self) -> bool {
        self.given_up.as_ref().is_some_and(|given_up| !given_up.may_restart)
    }

    fn stopped(&self, signal: i32) -> u8 {
        let text = format!("SignalException: Process {} got signal: {signal}\n", std::process::id());
        self.caller.tell(&RunOutcome::Stopped { signal }, &text);
        FAILED
    }

    fn plan(&mut self, number: u32) -> io::Result<(Attempt, Vec<Worker>)> {
        let (master_address, master_port) = self.meeting_point.open()?;
        let coordinator_port = self.coordinator.renew(master_port)?;
        let run = self.folder.as_deref();
        let folder = run.map(|run| folders::of_attempt(run, number, self.settings.ranks)).transpose()?;
        let group = Group::alone(self.settings.ranks);
        let attempt = Attempt { number, group, master_address, master_port, coordinator_port, folder };
        let workers = plan::workers(&self.settings, &attempt);
        Ok((attempt, workers))
    }

    fn attempt(
        &mut self,
        attempt: &Attempt,
        workers: &[Worker],
        summons: Option<&mut dyn Summons>,
    ) -> io::Result<Outcome> {
        let folder = attempt.folder.as_deref();
        let console =
            Console::start(&self.settings.tails(folder, attempt.group.first_rank), &self.settings.duplicates(folder))?;
        if let Some(modules) = self.settings.warm.take() {
            self.gang.warm(workers, &modules, IMPORT_LIMIT)?;
        }
        self.observer.begin_attempt(attempt.number);
        self.observer.note(&Event::Spawn { ranks: self.settings.ranks });
        let watch = Watch::start(&self.settings, attempt, workers, &self.observer)?;
        let outcome = match &watch {
            Some(watch) => {
                let mut attended = Attended::new(watch, summons)?;
                self.gang.run_unless(workers, &self.settings.rules, Some(&mut attended))
            }
            None => self.gang.run_unless(workers, &self.settings.rules, summons),
        };
        let given_up = watch.and_then(Watch::finish);
        // Whoever ended or was stopped while the verdict was on its way has an outcome of its own.
        self.given_up = given_up.filter(|_| matches!(outcome, Ok(Outcome::Failed(_)) | Err(_)));
        self.observer.note(&Event::TreeEmpty { outcome: named(&outcome) });
        if let Some(shown) = console.map(Console::finish) {
            shown.errors.iter().for_each(say);
            if shown.lost > 0 {
                self.observer.lines_lost(shown.lost);
                say(&format!(
                    "{} lines were not shown: the console was too slow. They are in the log files",
                    shown.lost
                ));
            }
        }
        if outcome.is_err() && self.given_up.is_some() {
            // What cannot be ended has no exits to report.
            self.failed(attempt, workers, &[]);
        }
        outcome
    }

    /// Tells why, and which exit status that makes.
    fn failed(&self, attempt: &Attempt, workers: &[Worker], exits: &[Exit]) -> u8 {
        let folder = attempt.folder.as_deref();
        let mut failures = report::failures(exits, |rank| self.settings.error_file(folder, rank));
        if let Some(GivenUp { first, what, at, .. }) = &self.given_up {
            let file = self.settings.error_file(folder, first.local_rank);
            if let Some(Err(error)) = file.as_deref().map(|file| report::record(file, what, *at)) {
                say(&format!("the failure cannot be recorded in the log folder: {error}"));
            }
            let unseen = report::unseen(first.local_rank, first.rank, first.pid, *at);
            report::put_first(&mut failures, exits, unseen, file, what);
        }
        let entry = self.settings.entry();
        let Some(root) = failures.first() else { return FAILED };
        let block = report::block(&entry, &failures, &report::host_name(), &TimeZone::system());
        self.caller.tell(&RunOutcome::failed(entry, &failures), &format!("{CHILD_FAILED}{block}\n"));
        let mut text = Vec::new();
        for rank in report::ties(&failures) {
            let first = root.exit.rank;
            text.extend(
                format!("Rank {rank} failed at the same time: it may be the cause instead of rank {first}.\n").bytes(),
            );
        }
        text.extend(last_words(root, workers));
        console::tell(&text);
        if !self.caller.is_there() {
            self.copy_error_file(root);
        }
        match root.exit.status {
            _ if !self.settings.propagate_exit_code => FAILED,
            Status::Code(code) => u8::try_from(code).unwrap_or(FAILED),
            Status::Signal(signal) => u8::try_from(128 + signal).unwrap_or(FAILED),
        }
    }

    /// To the launcher's own, which whoever started it reads (T-49).
    fn copy_error_file(&self, root: &Failure) {
        let own = self.settings.environment.get("TORCHELASTIC_ERROR_FILE").filter(|path| !path.is_empty());
        if let (Some(from), Some(to)) = (&root.error_file, own)
            && let Err(error) = report::copy_with_code(from, Path::new(to), root.exit_code())
        {
            say(&format!("{} cannot be copied to $TORCHELASTIC_ERROR_FILE, {}: {error}", from.display(), to.display()));
        }
    }
}

/// The end of the root cause's stderr, where it went to a file.
fn last_words(root: &Failure, workers: &[Worker]) -> Vec<u8> {
    let worker = workers.iter().find(|worker| worker.rank == root.exit.rank);
    let Some(Output::File(path)) = worker.map(|worker| &worker.stderr) else { return Vec::new() };
    match report::last_lines(path, STDERR_LINES) {
        Ok(lines) if lines.is_empty() => Vec::new(),
        Ok(lines) => {
            let head = format!("Last lines of stderr of rank {} ({}):\n", root.exit.rank, path.display());
            [head.as_bytes(), &lines, b"\n"].concat()
        }
        Err(error) => format!("{} cannot be read: {error}\n", path.display()).into_bytes(),
    }
}

/// Tells of what takes time or was not asked for.
fn narrator(observer: Observer) -> impl FnMut(&Notice) {
    let mut is_stopping = false;
    move |notice| {
        observer.hear(notice);
        narrate(notice, &mut is_stopping);
    }
}

fn narrate(notice: &Notice, is_stopping: &mut bool) {
    match notice {
        Notice::Started { .. } => *is_stopping = false,
        Notice::Stopping { .. } => *is_stopping = true,
        Notice::Ended(exit) if !*is_stopping && !exit.status.is_success() => {
            say(&format!("rank {} (process {}) failed: {}", exit.rank, exit.pid, described(exit.status)));
        }
        Notice::Killing if *is_stopping => say("killing what has not ended within the shutdown timeout"),
        Notice::Ended(_) | Notice::Killing => {}
        Notice::Outlived { .. } | Notice::Removed(_) | Notice::Cold { .. } => say(notice),
        Notice::Warm { .. } => {}
    }
}

/// How an attempt ended, in the file of events.
fn named(outcome: &io::Result<Outcome>) -> &'static str {
    match outcome {
        Ok(Outcome::Succeeded(_)) => "succeeded",
        Ok(Outcome::Failed(_)) => "failed",
        Ok(Outcome::Stopped { .. }) => "stopped",
        Ok(Outcome::Withdrawn(_)) => "withdrawn",
        Err(_) => "error",
    }
}

pub(crate) fn described(status: Status) -> String {
    match status {
        Status::Code(code) => format!("exit code {code}"),
        Status::Signal(signal) => format!("signal {signal} ({})", signals::name(signal).unwrap_or("without a name")),
    }
}
