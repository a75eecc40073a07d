"""Replaces this interpreter by one with the ranks' own command line, which becomes the template before their program begins.

Given by -c; behind it the program that this interpreter was started as, the code of the template, its modules, and the ranks'
arguments. That code is put in the way of `sitecustomize`, which the interpreter imports last before the program: what goes on from
there, in a fork, is an ordinary start, and `__main__`, tracebacks and exit status are the interpreter's own. Here it is made sure
that the code will be met: without it the program itself would run, as a rank that nobody wants.
"""

import os
import socket
import sys
import zipfile


def main():
    control = socket.socket(fileno=int(os.environ["ZENITH_TEMPLATE"]))
    why = obstacle()
    if why is not None:
        control.send(b"no:" + why.encode())
        os._exit(0)
    control.detach()
    _, code, modules, *command = sys.argv[1:]
    archive = os.memfd_create("zenith-template", 0)  # Without close-on-exec.
    with open(archive, "wb", closefd=False) as file, zipfile.ZipFile(file, "w") as packed:
        packed.writestr("sitecustomize.py", code)
    folder = f"/proc/self/fd/{archive}"
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = folder if path is None else folder + os.pathsep + path
    os.environ["ZENITH_TEMPLATE"] += f":{archive}:{modules}"
    os.execv(sys.executable, [sys.orig_argv[0], *command])


def obstacle():
    """Why this interpreter would not meet the template's code, or could not run it."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
        return f"{sys.executable} is not CPython 3.10 or newer"
    for flag, name in [("ignore_environment", "-E"), ("isolated", "-I"), ("no_site", "-S")]:
        if getattr(sys.flags, flag):
            return f"{sys.executable} is run with {name}"
    # What a wrapper does for one rank, it would not do for another.
    if sys.orig_argv[0] != sys.argv[1]:
        return f"{sys.argv[1]} is a wrapper of {sys.orig_argv[0]}; name that by PYTHON_EXEC"
    return None if sys.executable else "the interpreter does not know its own path"


main()
