# SPDX-License-Identifier: Apache-2.0
"""Units of the command line, and how a program fails: in one line."""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys

RATES = {"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
SIZES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COMMAND_LIMIT_S = 60
SHARES = {"": 1.0, "%": 0.01}


class Failure(Exception):
    """What the user reads, in one line, before the program ends with code 1."""


def quantity(units):
    """A parser of '20ms' and the like, for argparse."""
    def parse(text):
        match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z%]*)", text)
        if not match or match[2] not in units:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number with one of: {' '.join(units)}")
        try:
            return float(match[1]) * units[match[2]]
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{match[1]}' is not a number") from None
    return parse


def rate(text):
    """Bits a second; None where the link has no limit."""
    value = None if text == "none" else quantity(RATES)(text)
    if value is not None and not 1e6 <= value <= 100e9:
        raise argparse.ArgumentTypeError(f"{text} is outside 1mbit to 100gbit")
    return value


def rate_text(bit_s):
    if bit_s is None:
        return "unlimited"
    return f"{bit_s / 1e9:g} Gbit/s" if bit_s >= 1e9 else f"{bit_s / 1e6:g} Mbit/s"


def share(text):
    value = quantity(SHARES)(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is outside 0 to 1 (or 0% to 100%)")
    return value


duration = quantity(TIMES)
size = quantity(SIZES)


def checked(command, why, **keywords):
    """Runs a command that has to succeed; its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT_S, **keywords)
    except subprocess.TimeoutExpired:
        raise Failure(f"{why}: {command[0]} did not end within {COMMAND_LIMIT_S} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"code {done.returncode}").splitlines()[-1]
        raise Failure(f"{why}: {command[0]} said: {said}")
    return done.stdout


def need_root():
    if os.geteuid() != 0:
        raise Failure("needs root, for network namespaces; try: sudo " + " ".join(sys.argv))


def need_tools(tools):
    """Wants programs to be installed; `tools` gives the Debian package of each."""
    missing = {package for tool, package in tools.items() if not shutil.which(tool)}
    if missing:
        raise Failure(f"needs {' and '.join(sorted(missing))}; try: apt-get install {' '.join(sorted(missing))}")


def parser(description):
    """A command line that begins with the testbed's name."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--name", default=os.environ.get("ISOBAR_TESTBED_NAME", "isobar"), type=testbed_name,
                        help="which testbed; several can be up beside each other (default: %(default)s)")
    return result


def testbed_name(text):
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a name of small letters, digits and dashes")
    return text


def program(main):
    """Runs a program's main, which returns its exit code. SIGTERM ends it as Ctrl-C does, so it can clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"{os.path.basename(sys.argv[0])}: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
