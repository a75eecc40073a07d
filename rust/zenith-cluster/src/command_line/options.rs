//! Options as the user wrote them, or as they are when nothing is written.

use std::ffi::OsString;

/// A field per flag, named as argparse names its destination. `plan` checks what needs more than one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub nnodes: String,
    pub nproc_per_node: String,
    pub node_rank: i64,
    pub standalone: bool,
    pub rdzv_backend: String,
    pub rdzv_endpoint: String,
    pub rdzv_id: String,
    pub rdzv_conf: String,
    pub master_addr: String,
    pub master_port: Option<i64>,
    pub local_addr: Option<String>,
    pub store: StoreOwner,

    pub module: bool,
    pub no_python: bool,
    pub run_path: bool,
    pub role: String,
    pub virtual_local_rank: bool,
    pub numa_binding: Option<String>,
    pub nccl_env: String,
    /// Of each rank's share of cores, those that are left to data loaders.
    pub loader_cores: Option<i64>,
    pub start_method: String,

    pub max_restarts: i64,
    /// Seconds. Accepted and without effect: deaths are noticed when they happen.
    pub monitor_interval: f64,
    pub shutdown_timeout: Option<i64>,
    /// Seconds.
    pub outer_grace: Option<i64>,
    pub signals_to_handle: String,
    pub forward_signals: String,
    pub keep_background: bool,
    pub propagate_exit_code: bool,
    pub warm: bool,
    pub warm_modules: Option<String>,
    /// Seconds; 0 is off.
    pub hang_timeout: f64,
    /// Seconds; 0 leaves it to the plan.
    pub hang_first_timeout: f64,

    pub log_dir: Option<String>,
    pub redirects: String,
    pub tee: String,
    pub local_ranks_filter: String,
    pub duplicate_stdout_filters: Vec<String>,
    pub duplicate_stderr_filters: Vec<String>,
    pub logs_specs: Option<String>,
    pub event_log_handler: String,
    pub log_prefix: String,
    pub events_file: Option<String>,
    pub metrics_port: Option<i64>,

    pub dry_run: bool,
    pub json: bool,
    pub plot: Option<String>,

    /// torch.distributed.launch's: ranks are told their number by the environment alone.
    pub use_env: bool,
    pub legacy_launch: bool,
    pub python: Option<String>,
    /// A process number.
    pub with_parent: Option<i64>,
    pub outcome_file: Option<String>,

    pub training_script: OsString,
    pub training_script_args: Vec<OsString>,
}

impl Options {
    /// Whether it matters what the machine is made of.
    pub(crate) fn asks_for_topology(&self) -> bool {
        self.numa_binding.is_some() || self.dry_run || self.plot.is_some()
    }

    /// The flags that torchrun does not have, of those that change what a run does.
    pub(crate) fn not_torchruns(&self) -> Vec<&'static str> {
        let all = [
            ("--store", self.store != StoreOwner::Launcher),
            ("--forward-signals", !self.forward_signals.is_empty()),
            ("--keep-background", self.keep_background),
            ("--propagate-exit-code", self.propagate_exit_code),
            ("--dry-run", self.dry_run),
            ("--json", self.json),
            ("--plot", self.plot.is_some()),
            ("--numa-binding=auto", self.numa_binding.as_deref() == Some("auto")),
            ("--nccl-env", self.nccl_env != "off"),
            ("--outer-grace", self.outer_grace.is_some()),
            ("--loader-cores", self.loader_cores.is_some()),
            ("--log-prefix", self.log_prefix != "torchrun"),
            ("--events-file", self.events_file.is_some()),
            ("--metrics-port", self.metrics_port.is_some()),
            ("--hang-timeout", self.hang_timeout != 0.0),
            ("--hang-first-timeout", self.hang_first_timeout != 0.0),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// Who serves the workers' TCPStore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOwner {
    Launcher,
    Rank0,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nnodes: "1:1".into(),
            nproc_per_node: "1".into(),
            node_rank: 0,
            standalone: false,
            rdzv_backend: "static".into(),
            rdzv_endpoint: String::new(),
            rdzv_id: "none".into(),
            rdzv_conf: String::new(),
            master_addr: "127.0.0.1".into(),
            master_port: None,
            local_addr: None,
            store: StoreOwner::Launcher,
            module: false,
            no_python: false,
            run_path: false,
            role: "default".into(),
            virtual_local_rank: false,
            numa_binding: None,
            nccl_env: "off".into(),
            loader_cores: None,
            start_method: "spawn".into(),
            max_restarts: 0,
            monitor_interval: 0.1,
            shutdown_timeout: None,
            outer_grace: None,
            signals_to_handle: "SIGTERM,SIGINT,SIGHUP,SIGQUIT".into(),
            forward_signals: String::new(),
            keep_background: false,
            propagate_exit_code: false,
            warm: false,
            warm_modules: None,
            hang_timeout: 0.0,
            hang_first_timeout: 0.0,
            log_dir: None,
            redirects: "0".into(),
            tee: "0".into(),
            local_ranks_filter: String::new(),
            duplicate_stdout_filters: Vec::new(),
            duplicate_stderr_filters: Vec::new(),
            logs_specs: None,
            event_log_handler: "null".into(),
            log_prefix: "torchrun".into(),
            events_file: None,
            metrics_port: None,
            dry_run: false,
            json: false,
            plot: None,
            use_env: false,
            legacy_launch: false,
            python: None,
            with_parent: None,
            outcome_file: None,
            training_script: OsString::new(),
            training_script_args: Vec::new(),
        }
    }
}
