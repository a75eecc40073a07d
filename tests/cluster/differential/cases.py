"""The command lines that both launchers run."""

from __future__ import annotations

from dataclasses import dataclass, field

# In arguments and environments these stand for what differs from run to run.
WORKER = "{worker}"
FOLDER = "{folder}"


@dataclass(frozen=True)
class Case:
    """One command line. `do` is what each worker does (bash); `send` is a signal for the launcher once all `workers` are ready."""

    id: str
    arguments: tuple[str, ...]
    do: str = ":"
    environment: dict[str, str] = field(default_factory=dict)
    send: str | None = None
    workers: int = 1
    cores: int | None = None


def case(
    name: str,
    line: str,
    *more: str,
    do: str = ":",
    send: str | None = None,
    workers: int = 1,
    cores: int | None = None,
    **variables: str,
) -> Case:
    """`line` is split at spaces; arguments with spaces in them come in `more`.

    Without a variable that is empty here; by default threads and the address of the node are given, as launchers differ in both.
    """
    environment = {"OMP_NUM_THREADS": "3", "PET_LOCAL_ADDR": "127.0.0.1"} | variables
    environment = {key: value for key, value in environment.items() if value}
    return Case(name, (*line.split(), *more), do, environment, send, workers, cores)


RUN = f"--no-python {WORKER}"
LOGS = f"--log-dir {FOLDER}/logs"
TALK = 'echo "out: $RANK"; echo "err: $RANK" >&2'
# Both ranks of a failing pair end far enough apart for a launcher that polls.
SECOND_FAILS = "if [[ $RANK == 1 ]]; then sleep 0.3; exit 3; fi; sleep 20"
RECORDED = (
    'echo "{\\"message\\":{\\"message\\":\\"ValueError: bad\\",\\"extraInfo\\":{\\"py_callstack\\":\\"Traceback:\\\\n  line\\\\n'
    'ValueError: bad\\\\n\\",\\"timestamp\\":\\"1700000000\\"}}}" >$TORCHELASTIC_ERROR_FILE; exit 1'
)

PARSING = [
    case("parse-nothing", ""),
    case("parse-no-script", "--standalone"),
    case("parse-unknown-flag", f"--bogus {RUN}"),
    case("parse-unknown-short", f"-x {RUN}"),
    case("parse-bad-choice", f"--start-method=bogus {RUN}"),
    case("parse-bad-int", f"--max-restarts=x {RUN}"),
    case("parse-bad-float", f"--monitor-interval=x {RUN}"),
    case("parse-bad-int-of-environment", RUN, PET_MAX_RESTARTS="x"),
    case("parse-bad-boolean-of-environment", RUN, PET_STANDALONE="yes"),
    case("parse-value-for-boolean", f"--standalone=1 {RUN}"),
    case("parse-value-for-short-boolean", f"-mx {RUN}"),
    case("parse-missing-value", "--role"),
    case("parse-option-as-value", f"--role --standalone {RUN}"),
    case("parse-ambiguous", f"--log=x {RUN}"),
    case("parse-nnodes-three", f"--nnodes=1:2:3 {RUN}"),
    case("parse-nnodes-word", f"--nnodes=x {RUN}"),
    case("parse-nnodes-order", f"--nnodes=2:1 {RUN}"),
    case("parse-nnodes-zero", f"--nnodes=0 {RUN}"),
    case("parse-negative-restarts", f"--max-restarts -1 {RUN}"),
    case("parse-negative-shutdown", f"--shutdown-timeout=-2 {RUN}"),
    case("parse-nproc-word", f"--nproc-per-node=foo {RUN}"),
    case("parse-nproc-zero", f"--nproc-per-node=0 {RUN}"),
    case("parse-redirects", f"-r 9 {RUN}"),
    case("parse-tee-two-digits", f"--tee=10:3 {RUN}"),
    case("parse-filter-word", f"--local-ranks-filter=a {RUN}"),
    case("parse-conf-without-value", f"--rdzv-conf=abc {RUN}"),
    case("parse-conf-without-key", f"--rdzv-conf==1 {RUN}"),
    case("parse-endpoint-without-port", f"--rdzv-endpoint=localhost {RUN}"),
    case("parse-endpoint-port", f"--rdzv-endpoint=localhost:99999 {RUN}"),
    case("parse-endpoint-host", f"--rdzv-endpoint=a,b:1 {RUN}"),
    case("parse-module-without-python", f"-m {RUN}"),
    case("parse-log-dir-is-a-file", f"--log-dir {WORKER} {RUN}"),
]

# How a worker was started, as far as its environment does not tell. Signals are those of a child: the shell changes its own.
PROCESS = (
    'grep SigBlk /proc/self/status | sed "s/^/out: /"; '
    'echo "out: ignores SIGPIPE: $(( 0x$(sed -n "s/^SigIgn:.//p" /proc/self/status) >> 12 & 1 ))"; '
    '[[ $(cut -d" " -f6 /proc/$$/stat) == $$ ]] && echo "out: leads its session"; '
    'for f in /proc/$$/fd/*; do echo "out: descriptor ${f##*/}"; done; echo "out: stdin $(readlink /proc/$$/fd/0)"'
)

ENVIRONMENT = [
    case("env-plain", RUN, PET_LOCAL_ADDR=""),
    case("env-process", f"--standalone {RUN}", do=PROCESS),
    case("env-cores", f"--standalone --nproc-per-node=cpu {RUN}", cores=1),
    case("env-auto", f"--standalone --nproc-per-node=auto {RUN}", cores=1, CUDA_VISIBLE_DEVICES="-1"),
    case("env-standalone-two", f"--standalone --nproc-per-node=2 {RUN} a b", workers=2, PET_LOCAL_ADDR=""),
    case("env-threads", f"--standalone --nproc-per-node=2 {RUN}", OMP_NUM_THREADS="", workers=2, cores=1),
    case("env-threads-of-one", f"--standalone {RUN}", OMP_NUM_THREADS=""),
    case("env-underscores", f"--nproc_per_node=2 --max_restarts=2 --rdzv_id=x {RUN}", workers=2),
    case("env-abbreviations", f"--stand --max-r=1 --ro trainer {RUN}"),
    case("env-defaults-of-environment", RUN, PET_NPROC_PER_NODE="2", PET_ROLE="actor", PET_STANDALONE="1", workers=2),
    case("env-command-line-wins", f"--role=critic {RUN}", PET_ROLE="actor", PET_START_METHOD="bogus"),
    case("env-boolean-off", RUN, PET_STANDALONE="0", PET_NO_PYTHON="2"),
    case("env-static", f"--master-port={{port}} --nproc-per-node=2 {RUN}", workers=2),
    case("env-static-address", f"--master-addr=localhost --master-port={{port}} {RUN}"),
    case("env-static-endpoint", f"--rdzv-endpoint=127.0.0.1:{{port}} --rdzv-id=seven {RUN}"),
    case(
        "env-c10d",
        f"--rdzv-backend=c10d --rdzv-endpoint=localhost:0 --rdzv-id=seven --nnodes=1 {RUN}",
        PET_LOCAL_ADDR="",
    ),
    case("env-rank-0-store", f"--standalone {RUN}", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1"),
    case("env-empty-role", f"--standalone --role= {RUN}"),
    case("env-signals", f"--standalone --signals-to-handle=SIGTERM,SIGUSR1 {RUN}"),
    case("env-nccl", f"--standalone {RUN}", TORCH_NCCL_ASYNC_ERROR_HANDLING="3", CUDA_VISIBLE_DEVICES="4,5"),
    case(
        "env-virtual-local-rank",
        f"--standalone --virtual-local-rank --nproc-per-node=2 {RUN}",
        CUDA_VISIBLE_DEVICES="4, 5",
        workers=2,
    ),
    case(
        "env-virtual-out-of-range",
        f"--standalone --virtual-local-rank --nproc-per-node=2 {RUN}",
        CUDA_VISIBLE_DEVICES="4",
    ),
    case("env-no-log-files", f"--standalone --log-dir=/dev/null {RUN}"),
    case("env-conf-is-ignored", f"--standalone --rdzv-conf=foo=1,join_timeout=5 --node-rank=3 {RUN}"),
    case("argv-interpreter", "--standalone train.py --lr 0.1 -m", PYTHON_EXEC=WORKER),
    case("argv-module", "--standalone -m package.train --lr 0.1", PYTHON_EXEC=WORKER),
    case("argv-dashes-before", "--standalone -- train.py -- --x", PYTHON_EXEC=WORKER),
    case("argv-dashes-after", "--standalone train.py -- --x -- y", PYTHON_EXEC=WORKER),
    case(
        "argv-templates",
        f"--standalone --nproc-per-node=2 {RUN}",
        "$local_rank",
        "${local_rank}x$$",
        "$HOME",
        "${local_rank",
        "$local_ranks $",
        "",
        workers=2,
    ),
    case("argv-templated-script", "--standalone train$local_rank.py", PYTHON_EXEC=WORKER),
    case("argv-space-is-a-value", "--standalone --role", "-a b", "--no-python", WORKER),
]

LOGGING = [
    case("logs-inherited", f"--standalone {LOGS} {RUN}", do=TALK),
    case("logs-redirect-both", f"--standalone --nproc-per-node=2 {LOGS} -r 3 {RUN}", do=TALK, workers=2),
    case("logs-redirect-stdout", f"--standalone {LOGS} -r1 {RUN}", do=TALK),
    case("logs-redirect-map", f"--standalone --nproc-per-node=2 {LOGS} --redirects 0:1,1:2 {RUN}", do=TALK, workers=2),
    case("logs-tee-both", f"--standalone --nproc-per-node=2 {LOGS} -t 3 {RUN}", do=TALK, workers=2),
    case("logs-tee-role", f"--standalone --role=trainer {LOGS} --tee=1 {RUN}", do=TALK),
    case("logs-tee-empty-role", f"--standalone --role= {LOGS} --tee=1 {RUN}", do=TALK),
    case("logs-tee-map", f"--standalone --nproc-per-node=2 {LOGS} -t 1:3 -r 0:2 {RUN}", do=TALK, workers=2),
    case(
        "logs-prefix-template",
        f"--standalone {LOGS} --tee=3 {RUN}",
        do=TALK,
        TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE="<${role_name}|${rank}|$local_rank> ",
    ),
    case("logs-filter", f"--standalone --nproc-per-node=2 {LOGS} --local-ranks-filter=1 {RUN}", do=TALK, workers=2),
    case(
        "logs-filter-tee",
        f"--standalone --nproc-per-node=2 {LOGS} -t 3 --local-ranks-filter=0 {RUN}",
        do=TALK,
        workers=2,
    ),
    case(
        "logs-filter-redirect",
        f"--standalone --nproc-per-node=2 {LOGS} -r 1 --local-ranks-filter=0 {RUN}",
        do=TALK,
        workers=2,
    ),
    case(
        "logs-duplicates",
        f"--standalone --nproc-per-node=2 {LOGS} -t 3 --duplicate-stdout-filters",
        "apple,pear,,s",
        *RUN.split(),
        do='echo "out: apple $RANK"; echo "out: plum"; echo "out: pear,s"; echo "err: apple" >&2',
        workers=2,
    ),
    case("logs-duplicates-without-tee", f"--standalone {LOGS} --duplicate-stderr-filters=err {RUN}", do=TALK),
    case("logs-no-files", f"--standalone --log-dir /dev/null -t 3 -r 3 {RUN}", do=TALK),
    case(
        "logs-broken-line",
        f"--standalone {LOGS} -t 1 {RUN}",
        do='printf "out: one "; sleep 0.4; echo two; printf "out: end"',
    ),
    case("logs-empty-log-dir", f"--standalone --log-dir= -r 3 {RUN}", do=TALK),
    case("logs-run-id", f"--rdzv-id=run7 --master-port={{port}} {LOGS} -r 3 {RUN}", do=TALK),
]

FAILING = [
    case("fail-code", f"--standalone {LOGS} {RUN}", do="exit 7"),
    case("fail-killed", f"--standalone {LOGS} {RUN}", do="kill -SEGV $$"),
    case("fail-one-of-two", f"--standalone --nproc-per-node=2 {LOGS} {RUN}", do=SECOND_FAILS, workers=2),
    case(
        "fail-other-has-ended",
        f"--standalone --nproc-per-node=2 {LOGS} {RUN}",
        do="sleep 0.$((3 * RANK)); exit $RANK",
        workers=2,
    ),
    case("fail-recorded", f"--standalone {LOGS} {RUN}", do=RECORDED),
    case(
        "fail-recorded-copied",
        f"--standalone {LOGS} {RUN}",
        do=RECORDED,
        TORCHELASTIC_ERROR_FILE=f"{FOLDER}/logs/own.json",
    ),
    case(
        "fail-recorded-text",
        f"--standalone {LOGS} {RUN}",
        do='echo "{\\"message\\": \\"no memory\\", \\"timestamp\\": 1700000000}" >$TORCHELASTIC_ERROR_FILE; exit 1',
        TORCHELASTIC_ERROR_FILE=f"{FOLDER}/logs/own.json",
    ),
    case("fail-entry-of-interpreter", f"--standalone {LOGS} train.py x", do="exit 2", PYTHON_EXEC=WORKER),
    case("fail-without-files", f"--standalone --log-dir=/dev/null {RUN}", do="exit 2"),
    case("fail-program-is-missing", f"--standalone {LOGS} --no-python {FOLDER}/nothing"),
    case("fail-stderr-in-a-file", f"--standalone {LOGS} -r 2 {RUN}", do='echo "err: why" >&2; exit 2'),
    case(
        "fail-survivor-ends-well",
        f"--standalone --nproc-per-node=2 {LOGS} {RUN}",
        do="trap 'exit 0' TERM; " + SECOND_FAILS,
        workers=2,
    ),
]

FIRST = "[[ $TORCHELASTIC_RESTART_COUNT == 0 ]]"
RESTARTING = [
    case(
        "restart-once",
        f"--standalone --max-restarts=2 {LOGS} -r 3 {RUN}",
        do=f"{TALK}; ! {FIRST}",
    ),
    case("restart-used-up", f"--standalone --max-restarts=1 {LOGS} {RUN}", do="exit 5"),
    case(
        "restart-both",
        f"--standalone --nproc-per-node=2 --max-restarts=1 {LOGS} {RUN}",
        do="[[ $TORCHELASTIC_RESTART_COUNT == 1 ]] && exit 0; " + SECOND_FAILS,
        workers=2,
    ),
    case(
        "restart-of-static",
        f"--master-port={{port}} --max-restarts=1 {LOGS} {RUN}",
        do=f"! {FIRST}",
    ),
    case(
        "restart-tee",
        f"--standalone --max-restarts=1 {LOGS} -t 1 {RUN}",
        do=f"{TALK}; ! {FIRST}",
    ),
    case("restart-of-killed", f"--standalone --max-restarts=1 {LOGS} {RUN}", do=f"{FIRST} && kill -SEGV $$; exit 0"),
    case("restart-of-recorded", f"--standalone --max-restarts=1 {LOGS} {RUN}", do=f"{FIRST} || exit 0; " + RECORDED),
    case("restart-by-environment", f"--standalone {LOGS} {RUN}", do=f"! {FIRST}", PET_MAX_RESTARTS="3"),
    case(
        "restart-of-rank-0-store",
        f"--standalone --max-restarts=1 {LOGS} {RUN}",
        do=f"! {FIRST}",
        TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1",
    ),
    case(
        "restart-with-filter",
        f"--standalone --nproc-per-node=2 --max-restarts=1 {LOGS} -t 3 --local-ranks-filter=1 {RUN}",
        do=f"{TALK}; {FIRST} || exit 0; {SECOND_FAILS}",
        workers=2,
    ),
    case(
        "restart-past-a-stubborn-rank",
        f"--standalone --nproc-per-node=2 --max-restarts=1 --shutdown-timeout=1 {LOGS} {RUN}",
        do=f"{FIRST} || exit 0; [[ $RANK == 0 ]] && trap '' TERM; {SECOND_FAILS}; sleep 20",
        workers=2,
    ),
]

READY = "touch $note.ready"
WAITING = f"{READY}; sleep 20 & wait"
SIGNALS = [
    case("signal-term", f"--standalone --nproc-per-node=2 {LOGS} {RUN}", do=WAITING, send="SIGTERM", workers=2),
    case("signal-int", f"--standalone {LOGS} {RUN}", do="trap 'echo out: int; exit 0' INT; " + WAITING, send="SIGINT"),
    case("signal-hup", f"--standalone {LOGS} --max-restarts=3 {RUN}", do=WAITING, send="SIGHUP"),
    case(
        "signal-usr1",
        f"--standalone --signals-to-handle=SIGUSR1 {LOGS} {RUN}",
        do="trap 'echo out: usr1; exit 0' USR1; " + WAITING,
        send="SIGUSR1",
    ),
    case(
        "signal-stubborn",
        f"--standalone --shutdown-timeout=1 {LOGS} {RUN}",
        do=f"trap '' TERM; {READY}; sleep 20; sleep 20",
        send="SIGTERM",
    ),
    case(
        "signal-quit",
        f"--standalone --nproc-per-node=2 {LOGS} {RUN}",
        do=f"{READY}; exec sleep 20",
        send="SIGQUIT",
        workers=2,
    ),
    case(
        "signal-tee",
        f"--standalone {LOGS} -t 1 {RUN}",
        do="trap 'echo out: bye; exit 0' TERM; " + WAITING,
        send="SIGTERM",
    ),
    case("signal-failing-rank", f"--standalone {LOGS} {RUN}", do="trap 'exit 5' TERM; " + WAITING, send="SIGTERM"),
    case(
        "signal-unknown", f"--standalone --signals-to-handle=SIGTERM,SIGBOGUS {LOGS} {RUN}", do=WAITING, send="SIGTERM"
    ),
    case("signal-not-handled", f"--standalone {LOGS} {RUN}", do=f"{READY}; sleep 2 & wait", send="SIGUSR2"),
    case(
        "signal-to-static",
        f"--master-port={{port}} --nproc-per-node=2 {LOGS} {RUN}",
        do="trap 'exit 0' TERM; " + WAITING,
        send="SIGTERM",
        workers=2,
    ),
]

CASES = [*PARSING, *ENVIRONMENT, *LOGGING, *FAILING, *RESTARTING, *SIGNALS]
