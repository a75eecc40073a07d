"""What a program sees of the process that it runs in, as JSON: `dump.py FOLDER MODULE[,MODULE] [MORE ..]`.

Written behind the import of the modules, to FOLDER/<rank>.<turn>. Process numbers are replaced by who they are. `draws` must differ
from process to process; all else is compared between a cold and a warm start. The first turn ends with a failure when a template
is ready, the second one well.
"""

import atexit
import ctypes
import gc
import io
import json
import locale
import os
import posix
import random
import re
import resource
import signal
import socket
import sys
import threading
import time
import traceback
import warnings

PR_GET_PDEATHSIG = 2
PR_GET_TIMERSLACK = 30
STATUS = """
    Umask Uid Gid Groups SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp
    Cpus_allowed_list Mems_allowed_list Threads
"""
SYS = """
    argv orig_argv path executable prefix base_prefix flags warnoptions _xoptions path_importer_cache meta_path path_hooks
    displayhook excepthook dont_write_bytecode platlibdir pycache_prefix
"""


def read(path):
    with open(path) as file:
        return file.read()


def plain(value):
    return re.sub(r"0x[0-9a-f]+", "0x", repr(value))


def interpreter():
    seen = {name: plain(getattr(sys, name)) for name in SYS.split()}
    seen["path_importer_cache"] = sorted(sys.path_importer_cache)
    seen["modules"] = sorted(sys.modules)
    seen["sys"] = sorted(vars(sys))
    seen["encoding"] = [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.setlocale(locale.LC_ALL)]
    seen["limits"] = [sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace(), sys.getprofile()]
    seen["gc"] = [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug()]
    seen["main"] = {name: plain(value) for name, value in list(vars(sys.modules["__main__"]).items())[:12]}
    seen["stack"] = traceback.format_stack()
    seen["filters"] = plain(warnings.filters)
    seen["atexit"] = atexit._ncallbacks()
    seen["hash"] = hash("a text")
    seen["threads"] = [threading.current_thread().name, threading.main_thread() is threading.current_thread()]
    seen["threads"] += [thread.name for thread in threading.enumerate()]
    return seen


def stream(file):
    names = ["name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines", "closed"]
    seen = {name: getattr(file, name) for name in names}
    seen["numbers"] = [file.fileno(), file.isatty(), file.seekable(), file.readable(), file.writable()]
    buffer = file.buffer
    seen["buffer"] = [type(buffer).__name__, buffer.name, buffer.mode, buffer.closed, plain(file)]
    try:
        seen["tell"] = file.tell()
    except (OSError, io.UnsupportedOperation) as error:
        seen["tell"] = str(error)
    return seen


def process():
    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
    libc = ctypes.CDLL(None)
    death_signal = ctypes.c_int()
    libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(death_signal))
    kinds = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "status": {name: status[name].strip() for name in STATUS.split()},
        "death signal": death_signal.value,
        "timer slack": libc.prctl(PR_GET_TIMERSLACK),
        "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
        "parent": read(f"/proc/{os.getppid()}/comm").strip(),
        "handlers": {number: plain(signal.getsignal(number)) for number in signal.valid_signals()},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "limits": {kind: resource.getrlimit(getattr(resource, kind)) for kind in kinds},
        "schedule": [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
        "memory policy": [line.split()[1] for line in read("/proc/self/numa_maps").splitlines()[:1]],
        "folders": [os.getcwd(), os.readlink("/proc/self/root"), os.readlink("/proc/self/exe")],
        "group": read("/proc/self/cgroup"),
        "out of memory": read("/proc/self/oom_score_adj"),
        "name": read("/proc/self/comm"),
        "command": read("/proc/self/cmdline"),
        "files": {number: where(number) for number in os.listdir("/proc/self/fd")},
        "environment": [list(os.environ.items()), [[plain(pair) for pair in posix.environ.items()]]],
        "block": read("/proc/self/environ"),
    }


def where(number):
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # That of the listing itself.
        return None
    flags = next(line for line in read(f"/proc/self/fdinfo/{number}").splitlines() if line.startswith("flags"))
    return [re.sub(r"\d+", "N", target), flags]


def draws():
    seen = {"random": random.random()}
    if "torch" in sys.modules and hasattr(sys.modules["torch"], "initial_seed"):
        torch, numpy = __import__("torch"), __import__("numpy")
        seen |= {
            "torch": torch.initial_seed(),
            "torch's": torch.rand(4).tolist(),
            "numpy": numpy.random.rand(4).tolist(),
        }
        seen["numpy's"] = numpy.random.default_rng().random()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        seen["key"] = bytes(process.current_process().authkey).hex()
    return seen


def wait_for_all(folder):
    """The first that fails stops the others."""
    end = time.monotonic() + 60
    while sum(name.endswith(".0") for name in os.listdir(folder)) < int(os.environ["WORLD_SIZE"]):
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_the_template():
    siblings = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
    end = time.monotonic() + 60
    while not any(named(pid) == "zenith-template" for pid in read(siblings).split()):
        assert time.monotonic() < end
        time.sleep(0.01)


def named(pid):
    try:
        return read(f"/proc/{pid}/comm").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def main():
    folder, modules = sys.argv[1:3]
    for name in modules.split(","):
        __import__(name)
    seen = {"interpreter": interpreter(), "process": process(), "draws": draws()}
    seen["streams"] = [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)]
    seen["given streams"] = [
        file is given for file, given in zip((sys.stdout, sys.stderr), (sys.__stdout__, sys.__stderr__), strict=True)
    ]
    seen["host"] = socket.gethostname()
    torch = sys.modules["torch"]
    if hasattr(torch, "get_num_threads"):
        seen["torch"] = [torch.get_num_threads(), torch.get_num_interop_threads(), torch.cuda.is_initialized()]
        seen["torch"] += [
            torch.cuda._is_in_bad_fork(),
            torch.get_default_dtype().__repr__(),
            torch.__config__.parallel_info(),
        ]
        numpy = sys.modules["numpy"]
        name, _, *rest = numpy.random.get_state()
        seen["numpy"] = [name, *rest, type(numpy.random.get_bit_generator()._seed_seq).__name__]
    rank = os.environ["RANK"]
    turn = sum(name.startswith(f"{rank}.") for name in os.listdir(folder))
    text = json.dumps(seen, sort_keys=True, default=str).replace(f'"{os.getpid()}"', '"own"')
    with open(f"{folder}/{rank}.{turn}.new", "w") as file:
        file.write(text)
    os.rename(f"{folder}/{rank}.{turn}.new", f"{folder}/{rank}.{turn}")
    print("to stdout")
    print("to stderr", file=sys.stderr)
    if turn == 0:
        wait_for_all(folder)
        wait_for_the_template()
        raise RuntimeError("the first turn ends")


if __name__ == "__main__":
    main()
