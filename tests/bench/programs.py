"""What the measurements have in common: programs, processes, an agent's settings, tables."""

import contextlib
import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

from api import Failed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = {
    "curl": "curl", "jq": "jq", "cmp": "diffutils", "openssl": "openssl", "runsv": "runit", "s6-supervise": "s6",
}


# --- statistics and tables

def quantile(values, share):
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def ratios(values, reference):
    """Round by round: a slow moment of the machine is in both."""
    return [value / base for value, base in zip(values, reference)]


def spread(values, form="{:.2f}"):
    low, middle, high = (form.format(quantile(values, share)) for share in (0.25, 0.5, 0.75))
    return f"{middle} ({low}-{high})"


def table(heading, rows):
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [heading] + rows) for column in range(len(heading))]
    for row in [heading] + rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join([row[0].ljust(widths[0])] + cells))


def verdict(what, value, budget, unit=""):
    outcome = "met" if value <= budget else "MISSED"
    print(f"  budget: {what}: {value:.3g}{unit}, at most {budget:g}{unit}: {outcome}")


# --- programs, processes

def need(names):
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise Failed(f"not found: {', '.join(missing)}: apt-get install --no-install-recommends {packages}")


def build(kind, name):
    """What cargo builds. One target at a time, or what the examples depend on would change the agent."""
    triple = os.environ.get("BENCH_TARGET")
    cargo = ["cargo", "build", "--target", triple] if triple else ["dist/cross", platform.machine(), "build"]
    command = [*cargo, "--release", f"--{kind}", name, "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if built.returncode:
        raise Failed(f"cannot build {name}, see above: choose a BENCH_TARGET, or name a binary by {name.upper()}_BIN")
    messages = (json.loads(line) for line in built.stdout.splitlines() if line.startswith(b"{"))
    paths = [message["executable"] for message in messages if message.get("target", {}).get("name") == name]
    return next(path for path in paths if path)


def agent():
    return os.environ.get("KMAGENT_BIN") or build("bin", "kmagent")


def example(name):
    return os.environ.get(f"{name.upper()}_BIN") or build("example", name)


def run(main, name):
    """An end by signal cleans up too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        main()
    except Failed as problem:
        sys.exit(f"{name}: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


def start(command, env, cwd=None):
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@contextlib.contextmanager
def running(process):
    """Asks it to end, gives it time to end its child."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(what, condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited in vain: {what}")
        time.sleep(0.01)


class Timed:
    """A command, run to its end again and again."""

    def __init__(self, name, argv, env, errors):
        self.name, self.argv, self.env, self.errors = name, argv, env, errors
        self.wall, self.cpu = [], []

    def once(self):
        """Wall and CPU time in ms, those of its children included."""
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        began = time.perf_counter_ns()
        pid = os.posix_spawn(self.argv[0], self.argv, self.env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter_ns() - began
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            said = file.read().strip()
        if status or said:
            raise Failed(f"{self.name}: exit status {os.waitstatus_to_exitcode(status)}: {said}")
        return took / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3


# --- the agent

def settings(work, name, **more):
    """A settings file with directories of its own."""
    for part in ("etc", "state", "run"):
        os.makedirs(f"{work}/{name}/{part}", exist_ok=True)
    path = f"{work}/{name}.yaml"
    values = {
        "config": f"{work}/{name}/etc/config.yaml",
        "state-dir": f"{work}/{name}/state",
        "run-dir": f"{work}/{name}/run",
        **{key.replace("_", "-"): value for key, value in more.items()},
    }
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{key}: {value}\n" for key, value in values.items())
    return path


def push(agent, path, url, env):
    """Installs the API's config."""
    command = [agent, "--agent-config", path, "--check"]
    pushed = subprocess.run(
        command,
        env={**env, "KM_UPDATE_ENDPOINT": url.rsplit("/", 1)[0] + "/push"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if pushed.returncode or not pushed.stdout.startswith(b"installed"):
        raise Failed(f"{' '.join(command)}: {pushed.stdout.decode()}")


def field(pid, name, file="status"):
    with open(f"/proc/{pid}/{file}", encoding="utf-8") as lines:
        found = re.search(rf"(?m)^{name}:\s+(\d+)", lines.read())
    return int(found.group(1)) if found else 0


def wakeups(pid):
    """Context switches of all threads: a thread that sleeps has none."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="utf-8") as file:
            total += sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", file.read()))
    return total
