//! What a run over several nodes demands: how they meet, who may host it, how long they wait.

use std::path::PathBuf;
use std::time::Duration;

use super::rendezvous::{configuration, parse_endpoint, static_meeting};
use super::{Environment, Group, Meeting, PlanError, slurm};
use crate::command_line::{Options, StoreOwner};
use crate::rendezvous::{Call, Terms};

const C10D_PORT: u16 = 29_400;
const LAST_CALL: Duration = Duration::from_secs(30);
/// Of a membership that is final but not counted: those that start together come so close to each other.
const SETTLING: Duration = Duration::from_millis(300);
const CLOSE: Duration = Duration::from_secs(30);
const BEATS_MISSED_MAX: f64 = 3.0;
/// Where nodes lie in Slurm's tree of switches.
const SLURM_TOPOLOGY: &str = "SLURM_TOPOLOGY_ADDR";
/// Places that job managers give to nodes.
const NODE_RANKS: [&str; 3] = ["SLURM_NODEID", "JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK"];

/// This node and those that it meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// What a job manager calls the run; else it is the user's.
    pub run_id: Option<String>,
    pub terms: Terms,
    /// Where the host listens.
    pub host: String,
    pub port: u16,
    /// Where the run is found as well, if that node is lost.
    pub other_endpoints: Vec<(String, u16)>,
    pub hosting: Hosting,
    /// How other nodes reach this one, if the user has said so.
    pub local_address: Option<String>,
    pub node_rank: u32,
    pub topology: Option<String>,
    pub secret_file: Option<PathBuf>,
    pub tls: Option<TlsFiles>,
}

/// In PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// This node's certificate, and those between it and the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whose certificates are taken.
    pub authority: PathBuf,
    /// To whom a host's certificate is made out, if not to its address.
    pub name: Option<String>,
}

impl Nodes {
    /// This node among as many as there may be, if all have as many ranks.
    pub fn alike(&self, ranks: u32) -> Group {
        let (rank, nodes) = (self.node_rank, self.terms.most);
        Group { rank, nodes, first_rank: rank.saturating_mul(ranks), ranks: nodes.saturating_mul(ranks) }
    }

    /// The workers' MASTER_PORT, or 0 where it is chosen when an attempt begins.
    pub fn known_port(&self) -> u16 {
        if self.terms.is_static { self.port } else { 0 }
    }
}

/// Whether this node is the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    Yes,
    No,
    /// If the endpoint's address is one of this machine, and nobody listens there yet.
    IfOurs,
}

/// `None` for a run on one node.
pub(super) fn nodes(
    (least, most): (u32, u32),
    max_restarts: u32,
    options: &Options,
    environment: &Environment,
) -> Result<Option<Nodes>, PlanError> {
    let step = slurm::step(options, environment);
    let (least, most) = step.as_ref().map_or((least, most), |step| (step.nodes, step.nodes));
    if most <= 1 || options.standalone {
        return Ok(None);
    }
    let conf = configuration(&options.rdzv_conf)?;
    let conf = |key: &str| conf.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let seconds = |key: &str, default: Duration| conf(key).map_or(Ok(default), |text| positive(key, text));
    let is_static = options.rdzv_backend == "static" && step.is_none();
    if is_static && options.store == StoreOwner::Rank0 {
        let what = "--store=rank0 with a static rendezvous of several nodes: both need the same port";
        return Err(PlanError::Unsupported(format!("{what}. Use --rdzv-backend=c10d")));
    }
    let ((host, port), other_endpoints) = match &step {
        Some(step) => ((step.host.clone(), step.port), Vec::new()),
        None => endpoints(is_static, options)?,
    };
    let interval = seconds("keep_alive_interval", Duration::from_secs(1))?;
    let missed = seconds("keep_alive_max_attempt", Duration::from_secs_f64(BEATS_MISSED_MAX))?;
    let joining = if is_static {
        seconds("timeout", Duration::from_secs(900))?
    } else {
        seconds("join_timeout", Duration::from_secs(600))?
    };
    let call = match conf("membership") {
        Some("final") => Call::After(SETTLING),
        Some(other) => {
            return Err(PlanError::Value(format!("--rdzv-conf: membership={other} is unknown; there is only `final`")));
        }
        // Who is counted need not be waited for.
        None => match managed_nodes(most, environment) {
            Some(all) => Call::Final(all),
            None => Call::After(seconds("last_call_timeout", LAST_CALL)?),
        },
    };
    let terms = Terms {
        // T-11: a static world is all of it.
        least: if is_static { most } else { least },
        most,
        is_static,
        // Of a static run the address of the first node is given, and it needs all nodes.
        elects: !is_static && conf("election").map_or(Ok(true), |text| truth("election", text))?,
        call,
        join_timeout: joining,
        close_timeout: seconds("close_timeout", CLOSE)?,
        dead_after: interval.mul_f64(missed.as_secs_f64()).max(interval),
        max_restarts,
    };
    let hosting = match (is_static, conf("is_host")) {
        _ if step.as_ref().is_some_and(|step| step.node_rank == 0) => Hosting::Yes,
        _ if step.is_some() => Hosting::No,
        (true, _) if options.node_rank == 0 => Hosting::Yes,
        (true, _) => Hosting::No,
        (false, None) => Hosting::IfOurs,
        (false, Some(text)) if truth("is_host", text)? => Hosting::Yes,
        (false, Some(_)) => Hosting::No,
    };
    Ok(Some(Nodes {
        run_id: step.map(|step| step.run_id),
        terms,
        host,
        port,
        other_endpoints,
        hosting,
        local_address: options.local_addr.clone().filter(|address| !address.is_empty()),
        node_rank: node_rank(is_static, options, environment)?,
        topology: conf("topology").map(Into::into).or_else(|| environment.text(SLURM_TOPOLOGY)),
        secret_file: conf("secret_file")
            .map(Into::into)
            .or_else(|| environment.get("ZENITH_RDZV_SECRET_FILE").filter(|path| !path.is_empty()).map(PathBuf::from)),
        tls: tls(conf)?,
    }))
}

/// `--rdzv-conf`'s keys that begin with `tls_`: all three files, or none.
fn tls<'a>(conf: impl Fn(&str) -> Option<&'a str>) -> Result<Option<TlsFiles>, PlanError> {
    let name = conf("tls_name").map(Into::into);
    match (conf("tls_cert"), conf("tls_key"), conf("tls_ca")) {
        (Some(certificate), Some(key), Some(authority)) => {
            let (certificate, key, authority) = (certificate.into(), key.into(), authority.into());
            Ok(Some(TlsFiles { certificate, key, authority, name }))
        }
        (None, None, None) if name.is_none() => Ok(None),
        _ => Err(PlanError::Value("--rdzv-conf: tls_cert, tls_key and tls_ca belong together: give all three".into())),
    }
}

type Endpoint = (String, u16);

/// Where nodes meet: the host's, and under c10d others at which the run is found as well.
fn endpoints(is_static: bool, options: &Options) -> Result<(Endpoint, Vec<Endpoint>), PlanError> {
    if !is_static {
        let one = |text: &str| parse_endpoint(text).map(|(host, port)| (host, port.unwrap_or(C10D_PORT)));
        let mut endpoints = options.rdzv_endpoint.split(',');
        let first = one(endpoints.next().unwrap_or_default())?;
        return Ok((first, endpoints.map(one).collect::<Result<_, _>>()?));
    }
    match static_meeting(&options.rdzv_endpoint, &options.master_addr, options.master_port)? {
        Meeting::At { host, port } => Ok(((host, port), Vec::new())),
        Meeting::FreePort => Err(PlanError::Value("a static rendezvous needs an address: --master-addr".into())),
    }
}

/// What was given, or what a job manager says.
fn node_rank(is_static: bool, options: &Options, environment: &Environment) -> Result<u32, PlanError> {
    let refused = || PlanError::Value(format!("node_rank must be >= 0, got {}", options.node_rank));
    let given = u32::try_from(options.node_rank).map_err(|_| refused())?;
    if is_static || given > 0 {
        return Ok(given);
    }
    let managed = NODE_RANKS.iter().find_map(|name| environment.text(name)?.parse().ok());
    Ok(managed.unwrap_or(0))
}

/// How many nodes there will ever be, where a job manager has started them all.
fn managed_nodes(most: u32, environment: &Environment) -> Option<u32> {
    let number = |name| environment.text(name).and_then(|text| text.parse::<u32>().ok()).filter(|&number| number > 0);
    number("SLURM_STEP_NUM_NODES")
        .or_else(|| number("SLURM_JOB_NUM_NODES"))
        .or_else(|| environment.get("JOB_COMPLETION_INDEX").map(|_| most))
        .or_else(|| number("OMPI_COMM_WORLD_SIZE"))
}

fn positive(key: &str, text: &str) -> Result<Duration, PlanError> {
    let number = text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
    number.and_then(|number| Duration::try_from_secs_f64(number).ok()).filter(|time| *time < YEAR).ok_or_else(|| {
        PlanError::Value(format!("--rdzv-conf: {key} must be a positive number of seconds, got '{text}'"))
    })
}

/// Longer waits are mistakes, and would not fit the clocks.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

fn truth(key: &str, text: &str) -> Result<bool, PlanError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" => Ok(true),
        "0" | "false" | "f" | "no" | "n" => Ok(false),
        _ => Err(PlanError::Value(format!("--rdzv-conf: {key} must be true or false, got '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(set: impl FnOnce(&mut Options), variables: &[(&str, &str)]) -> Result<Nodes, String> {
        let mut options = Options { rdzv_backend: "c10d".into(), ..Options::default() };
        set(&mut options);
        let environment = variables.iter().copied().collect();
        nodes((2, 4), 3, &options, &environment)
            .map(|nodes| nodes.expect("several nodes"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_c10d_meeting_has_torchruns_defaults_and_ours_for_the_dead() {
        let nodes = plan(|_| {}, &[]).expect("a plan");
        let seconds = Duration::from_secs;
        assert_eq!((nodes.host.as_str(), nodes.port, nodes.hosting), ("localhost", 29_400, Hosting::IfOurs));
        assert_eq!(
            nodes.terms,
            Terms {
                least: 2,
                most: 4,
                is_static: false,
                elects: true,
                call: Call::After(seconds(30)),
                join_timeout: seconds(600),
                close_timeout: seconds(30),
                dead_after: seconds(3),
                max_restarts: 3,
            }
        );
    }

    #[test]
    fn a_static_meeting_is_at_the_master_and_of_all_nodes() {
        let on = |rank| {
            plan(|o| (o.rdzv_backend, o.node_rank, o.master_addr) = ("static".into(), rank, "n0".into()), &[])
                .expect("a plan")
        };
        let (first, second) = (on(0), on(1));
        assert_eq!((first.host.as_str(), first.port, first.hosting), ("n0", 29_500, Hosting::Yes));
        assert_eq!((second.hosting, second.node_rank, second.terms.least), (Hosting::No, 1, 4));
    }

    #[test]
    fn job_managers_say_how_many_nodes_there_are_and_which_this_is() {
        for (variables, call, rank) in [
            (vec![("SLURM_JOB_NUM_NODES", "3"), ("SLURM_NODEID", "2")], Call::Final(3), 2),
            (vec![("SLURM_JOB_NUM_NODES", "3"), ("SLURM_STEP_NUM_NODES", "2")], Call::Final(2), 0),
            (vec![("JOB_COMPLETION_INDEX", "1")], Call::Final(4), 1),
            (vec![("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")], Call::Final(2), 1),
        ] {
            let nodes = plan(|_| {}, &variables).expect("a plan");
            assert_eq!((nodes.terms.call, nodes.node_rank), (call, rank), "{variables:?}");
        }
        let given = plan(|o| o.rdzv_conf = "membership=final".into(), &[]).expect("a plan");
        assert_eq!(given.terms.call, Call::After(SETTLING));
    }

    #[test]
    fn a_step_of_slurm_needs_no_flags() {
        let step = [("SLURM_STEP_NUM_NODES", "2"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_STEP_NODELIST", "n[1-2]")];
        let ids = [("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0")];
        let on = |rank| {
            let environment = step.into_iter().chain(ids).chain([("SLURM_NODEID", rank)]).collect();
            nodes((1, 1), 0, &Options::default(), &environment).expect("a plan").expect("several nodes")
        };
        let (first, second) = (on("0"), on("1"));
        assert_eq!((first.hosting, second.hosting), (Hosting::Yes, Hosting::No));
        assert_eq!((first.host.as_str(), first.port), ("n1", second.port));
        assert_eq!((second.node_rank, second.terms.least, second.terms.most), (1, 2, 2));
        assert_eq!((second.terms.is_static, second.run_id.as_deref()), (false, Some("slurm.7.0")));
    }

    #[test]
    fn the_configuration_is_honoured_or_refused() {
        let conf = |text: &str| plan(|o| o.rdzv_conf = text.into(), &[]);
        let nodes =
            conf("last_call_timeout=0.5,keep_alive_interval=2,keep_alive_max_attempt=4,is_host=0,topology=s1.n2")
                .expect("a plan");
        assert_eq!(nodes.terms.call, Call::After(Duration::from_millis(500)));
        assert_eq!(nodes.terms.dead_after, Duration::from_secs(8));
        assert_eq!((nodes.hosting, nodes.topology.as_deref()), (Hosting::No, Some("s1.n2")));
        for (text, part) in [
            ("join_timeout=0", "join_timeout must be a positive number of seconds, got '0'"),
            ("join_timeout=inf", "join_timeout must be a positive"),
            ("is_host=maybe", "is_host must be true or false"),
            ("membership=open", "membership=open is unknown"),
        ] {
            assert!(conf(text).expect_err(text).contains(part), "{text}");
        }
        let both = plan(|o| (o.rdzv_backend, o.store) = ("static".into(), StoreOwner::Rank0), &[]);
        assert!(both.expect_err("one port").contains("--store=rank0"));
    }
}
