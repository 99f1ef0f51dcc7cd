"""The API of the benchmarks: over HTTP and over TLS, each in a process of its own that ends with the one which
measures."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess

# About the size of what a host's collector is given.
CONFIG = {
    "receivers": {
        "hostmetrics": {
            "collection_interval": "60s",
            "scrapers": {name: {} for name in ("cpu", "disk", "filesystem", "load", "memory", "network", "paging", "processes")},
        },
        "filelog": {"include": ["/var/log/syslog", "/var/log/messages", "/var/log/auth.log"], "start_at": "end"},
        "otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:4317"}, "http": {"endpoint": "127.0.0.1:4318"}}},
    },
    "processors": {
        "batch": {"send_batch_size": 10000, "timeout": "10s"},
        "memory_limiter": {"check_interval": "1s", "limit_mib": 256, "spike_limit_mib": 64},
        "resourcedetection": {"detectors": ["env", "system"], "override": False, "timeout": "2s"},
    },
    "exporters": {
        "otlphttp": {
            "endpoint": "${env:KM_COLLECTOR_ENDPOINT}",
            "headers": {"Authorization": "${env:KM_API_KEY}"},
            "retry_on_failure": {"enabled": True, "initial_interval": "5s", "max_elapsed_time": "300s"},
            "sending_queue": {"enabled": True, "num_consumers": 4, "queue_size": 1000},
        },
    },
    "service": {
        "pipelines": {
            kind: {
                "receivers": receivers,
                "processors": ["memory_limiter", "resourcedetection", "batch"],
                "exporters": ["otlphttp"],
            }
            for kind, receivers in (("metrics", ["hostmetrics", "otlp"]), ("logs", ["filelog", "otlp"]), ("traces", ["otlp"]))
        },
        "telemetry": {"logs": {"level": "warn"}},
    },
}
# By request path. `/push` is how the config becomes active first.
ANSWERS = {
    "/none": {"restart_required": False, "config": None},
    "/same": {"restart_required": False, "config": CONFIG},
    "/push": {"restart_required": True, "config": CONFIG},
}


class Failed(Exception):
    """Something that is needed for a measurement does not work."""


def certificates(work):
    """An authority and a certificate for 127.0.0.1."""
    common = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
    leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
    for name, more in (("ca", []), ("leaf", leaf)):
        command = common + ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"] + more
        made = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if made.returncode:
            raise Failed(f"openssl: {made.stdout.decode()}")


def converse(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return
        received += more
    head, body = received.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    left = int(length.group(1)) - len(body) if length else 0
    while left > 0:
        left -= len(connection.recv(65536))
    answer = json.dumps(ANSWERS[head.split(b" ")[1].decode()]).encode()
    fields = f"Content-Type: application/json\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n"
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + fields.encode() + b"\r\n" + answer)


def serve(listener, tls, alive):
    """In a process of its own: one connection after another, until the measuring process is gone."""
    while True:
        ready, _, _ = select.select([listener, alive], [], [])
        if alive in ready:
            os._exit(0)
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that went away is the client's business.
        with contextlib.suppress(OSError):
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            converse(connection)
        connection.close()


@contextlib.contextmanager
def running(work, names=("http", "https")):
    """The base addresses of the API, by name. `full` is `https` without session tickets: no handshake is shortened."""
    certificates(work)
    alive, held = os.pipe()
    bases, pids = {}, []
    for name in names:
        tls, scheme = None, "http" if name == "http" else "https"
        if scheme == "https":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(f"{work}/leaf.pem", f"{work}/leaf.key")
            if name == "full":
                tls.num_tickets = 0
                tls.minimum_version = ssl.TLSVersion.TLSv1_3
        listener = socket.create_server(("127.0.0.1", 0))
        bases[name] = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                os.close(held)
                serve(listener, tls, alive)
            finally:
                os._exit(1)
        pids.append(pid)
        listener.close()
    os.close(alive)
    try:
        yield bases
    finally:
        os.close(held)
        for pid in pids:
            os.waitpid(pid, 0)
