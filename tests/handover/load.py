#!/usr/bin/env python3
"""Sends log records to a collector, one a request, and counts what becomes of each: the client of the hand-over's
proof.

    load.py --mode MODE --port PORT [--rate PER_SECOND] [--workers N] [--first NUMBER] [--log FILE]

MODE is one of these. Record number n has the body `item=n`. It runs until its stdin ends. On stdout it prints `flowing`
after the first acknowledgement and one JSON object at the end.

grpc, http              OpenTelemetry's own exporters, with kept connections
grpc-each, http-each    the same, with a connection for each record
new                     likewise, but it tries nothing twice, and needs nothing but the standard library
udp                     syslog messages (RFC 5424); nobody acknowledges a datagram, so what is sent counts as
                        acknowledged

Attempts are counted, not only records: an exporter that tries again hides nothing. `stale` is what HTTP/1.1 cannot rule
out (RFC 9112, 9.3.1): the server closed an idle connection just when a request went out on it, before any byte of an
answer, and the exporter sent it again at once on another.
"""

import argparse
import collections
import http.client
import json
import logging
import socket
import sys
import threading
import time


class Tally:
    """What became of the records and the attempts to send them; shared by the workers."""

    def __init__(self, first, log):
        self.lock = threading.Lock()
        self.log = log
        self.first = first
        self.sent = 0
        self.counts = collections.Counter()
        self.errors = collections.Counter()
        self.unacknowledged = set()
        self.latencies = []
        self.acknowledged_at = []

    def next_number(self):
        """Without gaps, whichever worker is faster."""
        with self.lock:
            number = self.first + self.sent
            self.sent += 1
            self.unacknowledged.add(number)
            return number

    def failed_attempt(self, kind, text):
        with self.lock:
            self.counts[kind] += 1
            self.errors[f"{kind}: {text}"[:300]] += 1

    def finished(self, number, began, acknowledged):
        now = time.monotonic()
        with self.lock:
            if acknowledged:
                self.unacknowledged.discard(number)
                self.acknowledged_at.append(now)
                self.latencies.append(now - began)
                if len(self.acknowledged_at) == 1:
                    print("flowing", flush=True)
            if self.log:
                self.log.write(f"{began:.6f} {now - began:.6f} {int(acknowledged)}\n")

    def report(self, began, ended):
        times = [began, *sorted(self.acknowledged_at), ended]
        latencies = sorted(self.latencies) or [0.0]
        return {
            "sent": self.sent,
            "acknowledged": len(self.acknowledged_at),
            "unacknowledged": sorted(self.unacknowledged),
            "refused": self.counts["refused"],
            "reset": self.counts["reset"],
            "stale": self.counts["stale"],
            "other": self.counts["other"],
            "errors": dict(self.errors.most_common(10)),
            "longest_gap_ms": round(1000 * max(b - a for a, b in zip(times, times[1:])), 1),
            "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
            "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 1),
            "max_ms": round(1000 * latencies[-1], 1),
            "seconds": round(ended - began, 1),
        }


def causes(error):
    """The error and everything that it wraps, by whatever means."""
    found, left = [], [error]
    while left:
        one = left.pop()
        if not isinstance(one, BaseException) or one in found:
            continue
        found.append(one)
        left += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return found


def kind_of(error):
    chain = causes(error)
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "refused"
    # BrokenPipeError and RemoteDisconnected are among the connection errors; IncompleteRead is an answer cut short.
    if any(isinstance(one, (ConnectionError, http.client.IncompleteRead)) for one in chain):
        return "reset"
    return "other"


def sender_udp(port, _tally):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(number):
        client.sendto(f"<14>1 2026-01-02T03:04:05Z host app - - - item={number}".encode(), ("127.0.0.1", port))
        return True

    return send


def sender_new(port, tally):
    """A connection for each request, nothing tried twice."""
    headers = {"Content-Type": "application/json", "Connection": "close"}

    def send(number):
        record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"item={number}"}}
        body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/v1/logs", body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status == 200:
                return True
            tally.failed_attempt("other", f"status {response.status}: {text[:100]!r}")
        except (OSError, http.client.HTTPException) as error:
            tally.failed_attempt(kind_of(error), repr(error))
        finally:
            connection.close()
        return False

    return send


# What the HTTP exporter's present attempt in this thread has come to.
attempt = threading.local()


def sender_http_each(port, tally):
    """The HTTP exporter, on a connection for each request."""
    return sender_http(port, tally, each=True)


def sender_http(port, tally, each=False):
    """The HTTP exporter, on one kept connection a worker."""
    import requests
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Connection(HTTPConnection):
        def connect(self):
            attempt.connected = True
            super().connect()

        def getresponse(self):
            # It waits for the first byte, and leaves it where it is.
            attempt.answered = self.sock.recv(1, socket.MSG_PEEK) != b""
            return super().getresponse()

    HTTPConnectionPool.ConnectionCls = Connection

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, *args, **kwargs):
            attempt.connected = attempt.answered = False
            try:
                response = super().send(*args, **kwargs)
                # The rest of it, or nobody would count an answer that is cut short.
                response.content
            except Exception as error:
                kind = kind_of(error)
                if kind == "reset" and not attempt.connected and not attempt.answered:
                    kind = "stale"
                tally.failed_attempt(kind, repr(error))
                raise
            if response.status_code != 200:
                tally.failed_attempt("other", f"status {response.status_code}: {response.text[:100]}")
            if each and not attempt.connected:
                tally.failed_attempt("other", "a connection was used twice")
            return response

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Adapter())
    headers = {"Connection": "close"} if each else {}
    return exporting(OTLPLogExporter(endpoint=f"http://127.0.0.1:{port}/v1/logs", headers=headers, session=session))


def sender_grpc_each(port, tally):
    """The gRPC exporter, on a channel for each record."""
    connect = grpc_connector(port, tally)

    def send(number):
        exporter = connect()
        try:
            return exporting(exporter)(number)
        finally:
            exporter.shutdown()

    return send


def sender_grpc(port, tally):
    """The gRPC exporter, on one channel a worker."""
    return exporting(grpc_connector(port, tally)())


def grpc_connector(port, tally):
    """What makes an exporter, and its channel."""
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

    class Stub:
        """Stands before the generated stub, so that attempts are counted below the exporter's retries."""

        def __init__(self, channel):
            self.stub = LogsServiceStub(channel)

        def Export(self, **kwargs):
            try:
                return self.stub.Export(**kwargs)
            except grpc.RpcError as error:
                text = f"{error.code().name}: {error.details()}"
                lower = text.lower()
                if "refused" in lower:
                    kind = "refused"
                elif any(word in lower for word in ("reset", "closed", "broken pipe", "goaway", "eof")):
                    kind = "reset"
                else:
                    kind = "other"
                tally.failed_attempt(kind, text)
                raise

    _log_exporter.LogsServiceStub = Stub
    # Without it two channels would share a connection.
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    endpoint = f"127.0.0.1:{port}"
    return lambda: _log_exporter.OTLPLogExporter(endpoint=endpoint, insecure=True, channel_options=options)


def exporting(exporter):
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExportResult
    from opentelemetry.sdk.resources import Resource

    resource = Resource({"service.name": "load"})

    def send(number):
        record = LogRecord(timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body=f"item={number}")
        return exporter.export([ReadableLogRecord(record, resource)]) is LogRecordExportResult.SUCCESS

    return send


SENDERS = {
    "grpc": sender_grpc,
    "http": sender_http,
    "grpc-each": sender_grpc_each,
    "http-each": sender_http_each,
    "new": sender_new,
    "udp": sender_udp,
}


def work(send, pause, tally, stop):
    """Sends at an even pace. What could not be sent in time is left out, not made up for: a burst would hide a gap."""
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        number = tally.next_number()
        began = time.monotonic()
        due = max(due + pause, began)
        tally.finished(number, began, send(number))


def main():
    parser = argparse.ArgumentParser(description="sends log records until stdin ends, and counts what becomes of them")
    parser.add_argument("--mode", choices=SENDERS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="records a second, over all workers")
    parser.add_argument("--workers", type=int, default=1, help="threads, each with a connection of its own")
    parser.add_argument("--first", type=int, default=0, help="number of the first record")
    parser.add_argument("--log", help="a line per record: when (monotonic clock), how long, acknowledged or not")
    options = parser.parse_args()

    # The exporters' own complaints: they are in the tally.
    logging.disable(logging.CRITICAL)
    log = open(options.log, "w", encoding="ascii") if options.log else None
    tally = Tally(options.first, log)
    stop = threading.Event()
    pause = options.workers / options.rate
    threads = []
    for _ in range(options.workers):
        send = SENDERS[options.mode](options.port, tally)
        threads.append(threading.Thread(target=work, args=(send, pause, tally, stop), daemon=True))
    began = time.monotonic()
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    ended = time.monotonic()
    for thread in threads:
        # An exporter tries for 10 s.
        thread.join(15)
    with tally.lock:
        print(json.dumps(tally.report(began, ended)), flush=True)
        if log:
            log.close()


if __name__ == "__main__":
    main()
