"""A virtual machine that can be talked to: qemu, a console that is kept, and a shell on its second serial port
(guest-shell).

Its network is qemu's own: it reaches the host's loopback at 10.0.2.2, and nobody reaches it. KVM is used if a kernel
really comes up with it, which a readable /dev/kvm does not promise; else it is emulated. KM_VM_ACCEL=tcg, or kvm,
spares the trial.
"""

import base64
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
HOST = "10.0.2.2"
# Deadlines are for emulation on a busy host; nothing waits that long that goes well.
PATIENCE = 180
# A kernel says its first word within a second, or within three if it is emulated.
KVM_PATIENCE = 5


class Failed(Exception):
    """A machine does not do what it should."""


def until(what, condition, patience=PATIENCE, pace=0.1):
    """Waits for something that holds, and returns it."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"no {what} within {patience} s")
        time.sleep(pace)


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


def decoded(text):
    """What base64(1) has printed."""
    return base64.b64decode(text)


def end_on_signals():
    """A signal that ends this script ends the machine too, and leaves no directory."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def need(packages):
    """Programs, and the Debian packages that have them. Those of e2fsprogs are where only root looks."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program, package in packages.items():
        if not shutil.which(program):
            raise Failed(f"no {program}: on Debian, apt-get install {package}")


class Kernel:
    def __init__(self, flavour, work, modules):
        directory = pathlib.Path(run(HERE / "kernel", flavour))
        [self.image] = (directory / "boot").glob("vmlinuz-*")
        self.name = self.image.name.removeprefix("vmlinuz-")
        self.initramfs = pathlib.Path(work) / f"initramfs-{flavour}"
        run(HERE / "initramfs", directory, self.initramfs, *modules)


@functools.cache
def accelerator(kernel):
    """Tried once: a kernel without a root file system panics, which ends qemu."""
    chosen = os.environ.get("KM_VM_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-accel", "kvm", "-cpu", "host", "-m", "128"]
    command += ["-kernel", kernel.image, "-append", "console=ttyS0 panic=-1", "-serial", "stdio"]
    try:
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=KVM_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return "tcg"
    return "kvm" if b"Linux version" in tried.stdout else "tcg"


class Machine:
    """Starts at once; `kernel_line` says what is mounted and run, see initramfs."""

    def __init__(self, work, kernel, kernel_line, memory, processors=1, devices=()):
        self.console = pathlib.Path(work) / "console.log"
        self.socket = pathlib.Path(work) / "shell.sock"
        self.socket.unlink(missing_ok=True)
        accel = accelerator(kernel)
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-accel", accel, "-cpu", "host" if accel == "kvm" else "max", "-m", str(memory), "-smp", str(processors)]
        command += ["-kernel", kernel.image, "-initrd", kernel.initramfs]
        command += ["-append", f"console=ttyS0 panic=-1 oops=panic {kernel_line}"]
        command += ["-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"]
        command += ["-chardev", f"socket,id=shell,path={self.socket},server=on,wait=off", "-serial", "chardev:shell"]
        # Without the ROM of a network card it does not try to boot from there.
        command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
        command += devices
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.connection = None

    def is_on(self):
        return self.qemu.poll() is None

    def power_off(self):
        """As pulling the plug does."""
        if self.is_on():
            self.qemu.send_signal(signal.SIGKILL)
        self.qemu.wait()
        if self.connection:
            self.connection.close()
            self.connection = None

    def _connect(self):
        if not self.is_on():
            raise Failed(f"qemu ended with {self.qemu.returncode}: {self.qemu.stderr.read().decode()}")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            return None
        return connection

    def shell(self, script, patience=PATIENCE, check=True):
        """Runs a script inside and returns its output, standard error included."""
        deadline = time.monotonic() + patience
        if self.connection is None:
            self.connection, self.pending = until("qemu", self._connect, patience), b""
            while self._line(1) != b"ready":
                self._still_on("the machine does not come up", deadline)
        self._send(script)
        while (answer := self._answer(1)) is None:
            self._still_on(f"no answer to {script!r}", deadline)
        status, output = answer
        if check and status:
            raise Failed(f"{script!r} ended with {status}:\n{output}\n{self.tail()}")
        return output

    def _still_on(self, what, deadline):
        if not self.is_on() or time.monotonic() > deadline:
            raise Failed(f"{what}; {self.complaint()}")

    def complaint(self):
        said = "qemu runs" if self.is_on() else f"qemu ended with {self.qemu.wait()}: {self.qemu.stderr.read().decode()}"
        return f"{said}; the console ends:\n{self.tail()}"

    def _send(self, script):
        try:
            self.connection.sendall(base64.b64encode(script.encode()) + b"\n")
        except ConnectionError as error:
            raise Failed(f"no shell any more; {self.complaint()}") from error

    def _answer(self, patience):
        """Exit status and output; None if there is no answer by then."""
        line = self._line(patience)
        if line is None:
            return None
        status, _, text = line.partition(b" ")
        return int(status), decoded(text).decode(errors="replace").rstrip("\n")

    def _line(self, patience):
        self.connection.settimeout(patience)
        while b"\n" not in self.pending:
            try:
                more = self.connection.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError:
                more = b""
            if not more:
                raise Failed(f"no shell any more; {self.complaint()}")
            self.pending += more
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def tail(self, count=60):
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-count:])
