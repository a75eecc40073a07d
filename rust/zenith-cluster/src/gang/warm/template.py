"""The template: imports modules, and is forked for each rank that starts warm. In the fork this module ends, and the interpreter
goes on to the rank's program.

It takes the place of `sitecustomize` (see enter.py). What it is asked for is written by `request.rs`. Whatever goes wrong here ends
the process: going on would start the program as a rank that nobody wants. Only what an interpreter has loaded anyhow is
imported at once; the rest is looked for where the program would find it, and behind the modules that are asked for.
"""

import errno
import os
import posix
import site
import sys
import time

# The name that the kernel has for a template that can be forked.
NAME = "zenith-template"
# What differs from rank to rank, and so cannot be known here. The launcher puts the names in the place of this one.
OF_RANKS = frozenset(["@OF_RANKS@"])
OWN_MODULES = ("ctypes", "io", "json", "random", "socket")
PR_SET_PDEATHSIG = 1
SIGKILL = 9
MPOL_PREFERRED = 1

# Who prints a stack would look for this file's lines in an archive that is closed by then.
del __loader__, __spec__


class RefusalError(Exception):
    pass


def main():
    """Comes back in a rank; says whether there is another `sitecustomize`."""
    try:
        control, archive, modules = os.environ.pop("ZENITH_TEMPLATE").split(":")
        control = int(control)
        os.set_inheritable(control, False)
        leave_no_trace(int(archive))
        told = Told()
        try:
            loaded = Loaded(modules.split(","))
            check()
        except BaseException as error:
            os.write(control, b"no:" + said(error))
            os._exit(0)
        told.stop()
        name = rename(NAME)
        os.write(control, b"ready")
        rank = serve(control)
        rank.begin(loaded, told, name)
    except BaseException:
        os._exit(127)
    return loaded.has_customizations


def said(error):
    """In one line."""
    text = str(error) if isinstance(error, RefusalError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).encode(errors="replace")[:2000]


def leave_no_trace(archive):
    """As if this module had not been put in the way."""
    folder = f"/proc/self/fd/{archive}"
    rest = os.environ["PYTHONPATH"].removeprefix(folder)
    if rest:
        os.environ["PYTHONPATH"] = rest[1:]
    else:
        del os.environ["PYTHONPATH"]
    sys.path.remove(folder)
    sys.path_importer_cache.pop(folder, None)
    os.close(archive)


class Told:
    """What is written while modules are imported: each rank writes it again, as if it had imported them."""

    def __init__(self):
        self.files = [os.memfd_create("zenith-told") for _ in (1, 2)]
        self.nowhere = [os.dup(stream) for stream in (1, 2)]
        for file, stream in zip(self.files, (1, 2), strict=True):
            os.dup2(file, stream)

    def stop(self):
        for file, stream in zip(self.nowhere, (1, 2), strict=True):
            os.dup2(file, stream)
            os.close(file)
        self.texts = [os.pread(file, os.fstat(file).st_size, 0) for file in self.files]
        for file in self.files:
            os.close(file)

    def repeat(self):
        for text, stream in zip(self.texts, (1, 2), strict=True):
            while text:
                text = text[os.write(stream, text) :]


class Watched(type(os.environ)):
    """An environment that notes who looks for what only a rank has: what a module makes of it would hold for no rank."""

    asked = None

    def __getitem__(self, name):
        if name in OF_RANKS:
            Watched.asked = name
        return super().__getitem__(name)


class Loaded:
    """The modules, and what importing them has done to the environment."""

    def __init__(self, modules):
        self.before = dict(os.environ)
        environment = type(os.environ)
        os.environ.__class__ = Watched
        try:
            # The machine's and the user's own customizations come before the program's imports.
            del sys.modules["sitecustomize"]
            site.execsitecustomize()
            self.has_customizations = "sitecustomize" in sys.modules
            if site.ENABLE_USER_SITE:
                site.execusercustomize()
            first = first_paths()
            sys.path[:0] = first
            random = __import__("random")
            state = random.getstate()
            for name in (*modules, *OWN_MODULES):
                __import__(name)
            for entry in first:
                sys.path.remove(entry)
        finally:
            os.environ.__class__ = environment
        if Watched.asked is not None:
            raise RefusalError(f"importing the modules asks for {Watched.asked}, which only a rank has")
        if random.getstate() != state:
            raise RefusalError("importing the modules seeds `random`, or draws from it")
        self.after = dict(os.environ)

    def environment(self, given):
        """A rank's, as it is behind the imports."""
        environment = dict(given)
        for name in self.before | self.after:
            if self.before.get(name) != self.after.get(name):
                environment.pop(name, None)
                if name in self.after:
                    environment[name] = self.after[name]
        return environment


def first_paths():
    """What the interpreter will put in front of the path when the program begins."""
    if getattr(sys.flags, "safe_path", False):
        return []
    script = sys.argv[0]
    if script == "-m":
        return [os.getcwd()]
    return [script if os.path.isdir(script) else os.path.dirname(os.path.realpath(script))]


def check():
    """Whether a fork of this process can be a rank."""
    # Pools of threads that know of forks (OpenBLAS) end before one, and come back when they are needed.
    trial = os.fork()
    if trial == 0:
        os._exit(0)
    os.waitpid(trial, 0)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        names = sorted({read(f"/proc/self/task/{thread}/comm") for thread in threads})
        raise RefusalError(f"the modules have started threads ({len(threads)} run, called {', '.join(names)})")
    if read(f"/proc/self/task/{threads[0]}/children"):
        raise RefusalError("the modules have started processes")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        raise RefusalError("the modules have initialized CUDA")
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # That of the listing itself.
            continue
        if target.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri/")):
            raise RefusalError(f"the modules have opened {target}")


def read(path):
    with open(path) as file:
        return file.read().strip()


def rename(name):
    """Gives back the name before."""
    before = read("/proc/self/comm")
    with open("/proc/self/comm", "w") as file:
        file.write(name)
    return before


def serve(control):
    """Comes back in ranks alone."""
    import socket

    control = socket.socket(fileno=control)
    while True:
        message, files, _, _ = socket.recv_fds(control, 16, 8)
        if not message:
            os._exit(0)
        middle = os.fork()
        if middle == 0:
            control.close()
            return rank(files)
        os.waitpid(middle, 0)
        for file in files:
            os.close(file)


def rank(files):
    """In a fork's fork: it comes to the guardian, which adopts orphans."""
    middle = os.getpid()
    if os.fork() != 0:
        os._exit(0)
    while os.getppid() == middle:
        time.sleep(0.0002)
    return Rank(*files)


class Rank:
    """A process on its way to its program."""

    def __init__(self, request, channel, output, errors, *group):
        import json
        import socket

        with open(request, "rb") as file:
            file.seek(0)
            head, *rest = file.read().split(b"\0")
        self.channel = socket.socket(fileno=channel)
        self.head = json.loads(head)
        count = self.head["arguments"]
        self.arguments = [os.fsdecode(argument) for argument in rest[:count]]
        self.variables = [os.fsdecode(variable) for variable in rest[count:]]
        self.streams = (output, errors)
        self.group = group

    def begin(self, loaded, told, name):
        try:
            self.prepare(loaded, name)
            self.wait_for_leave()
        except BaseException as error:
            # A cold start takes its place, and says it if the cause is not here.
            self.channel.send(b"no:" + said(error))
            os._exit(127)
        told.repeat()
        # The end of the connection says that the program begins.
        self.channel.close()

    def prepare(self, loaded, name):
        os.setsid()
        self.die_with_the_guardian()
        for members in self.group:
            self.join(members)
        self.bind()
        for file, stream in zip(self.streams, (1, 2), strict=True):
            os.dup2(file, stream)
        for file in (*self.streams, *self.group):
            os.close(file)
        rename(name)
        self.set_environment(loaded)
        self.set_arguments()
        renew(sys.stdout, 1)
        renew(sys.stderr, 2)
        draw_anew()

    def wait_for_leave(self):
        """Until the guardian holds this process, and has said so, nothing of the program happens."""
        import socket

        own = os.pidfd_open(os.getpid())
        socket.send_fds(self.channel, [b"?"], [own])
        os.close(own)
        if not self.channel.recv(1):
            os._exit(127)

    def die_with_the_guardian(self):
        if self.head["dies_with_parent"]:
            call("prctl", PR_SET_PDEATHSIG, SIGKILL)
        # The parent that died before that sends nothing any more.
        if os.getppid() != self.head["guardian"]:
            os._exit(127)

    def join(self, members):
        try:  # noqa: SIM105 (a rank that is started has not loaded contextlib)
            os.write(members, b"0")
        except OSError:
            pass  # Outside the group it is still found by its parents.

    def bind(self):
        if self.head["cpus"] is None:
            return
        os.sched_setaffinity(0, self.head["cpus"])
        node = self.head["memory_node"]
        if node is None:
            return
        import ctypes

        mask = (ctypes.c_ulong * (node // 64 + 1))()
        mask[node // 64] = 1 << node % 64
        try:
            call("syscall", self.head["set_mempolicy"], MPOL_PREFERRED, mask, ctypes.c_ulong(64 * len(mask) + 1))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                raise

    def set_environment(self, loaded):
        given = {}
        for name, _, value in (variable.partition("=") for variable in self.variables):
            given.setdefault(name, value)
        # The interpreter itself replaces that of a C locale.
        if "LC_CTYPE" in loaded.before:
            given["LC_CTYPE"] = loaded.before["LC_CTYPE"]
        posix.environ.clear()
        posix.environ.update((os.fsencode(name), os.fsencode(value)) for name, value in given.items())
        os.environ.clear()
        os.environ.update(loaded.environment(given))

    def set_arguments(self):
        """The interpreter has made both lists of the template's arguments, and looks at neither again."""
        if len(sys.argv) > 1:
            del sys.orig_argv[1 - len(sys.argv) :]
        sys.argv[1:] = self.arguments
        sys.orig_argv += self.arguments


def call(function, *arguments):
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def renew(stream, descriptor):
    """Whether a stream can seek, and where it is, was found out of another file. The object stays, as others hold it."""
    import io

    if not isinstance(stream, io.TextIOWrapper) or not isinstance(stream.buffer, io.FileIO):
        return
    name, mode = stream.name, stream.mode
    raw = io.FileIO(descriptor, "wb", closefd=False)
    raw.name = name
    stream.__init__(raw, stream.encoding, stream.errors, "\n", stream.line_buffering, stream.write_through)
    stream.mode = mode


def draw_anew():
    """What imports draw from the operating system is drawn in each rank. `random` does so by itself in a fork."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    # Generators that a module has seeded with a number stay as they are, as behind its import in a cold start.
    torch = sys.modules.get("torch")
    if hasattr(torch, "default_generator") and torch.default_generator.initial_seed() >= 1 << 32:
        torch.default_generator.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and getattr(numpy.get_bit_generator(), "_seed_seq", None) is not None:
        numpy.set_bit_generator(numpy.MT19937())


if not main():
    raise ImportError("No module named 'sitecustomize'", name="sitecustomize")
