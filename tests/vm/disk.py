"""A disk with a volatile cache, whose power can be cut: a server of the NBD protocol for one qemu.

A disk may lose, in a power failure, whatever was written since the last flush that it has acknowledged, in any order
and in part; it may also happen to keep it. qemu's own caches cannot show that: what it has written stays in the host's
memory when qemu is killed. So this one keeps a journal of writes and flushes, and `after_cut` makes the image that a
cut may have left at any place of it, with the seed that decides what of the unflushed was lucky.

Only what qemu asks for is implemented (github.com/NetworkBlockDevice/nbd, doc/proto.md: fixed newstyle, no structured
replies, no TLS).
"""

import os
import random
import socket
import struct
import subprocess
import threading

# What a disk writes whole or not at all: a sector of today's, and ext4's block.
SECTOR = 4096

OPTION, REQUEST, REPLY = b"IHAVEOPT", 0x25609513, 0x67446698
OPTION_REPLY = 0x3E889045565A9
OPT_ABORT, OPT_INFO, OPT_GO = 2, 6, 7
REP_ACK, REP_INFO, REP_UNSUPPORTED = 1, 3, 0x80000001
# Flags of the export: there are flags, it can flush, it honours FUA.
EXPORT_FLAGS = 1 | 4 | 8
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FUA = 1


def copy_sparse(source, target):
    subprocess.run(["cp", "--sparse=always", "--", source, target], check=True)


class Disk:
    """Serves `image`, which is always what a reader sees: cache and medium together."""

    def __init__(self, image, address):
        self.image, self.address = str(image), str(address)
        self.lock = threading.Lock()
        self.journal = None
        self.cut_at = None
        # Set when the power has failed: nothing is served any more.
        self.is_cut = threading.Event()
        # What else is to lose its power then.
        self.on_cut = lambda: None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.address)
        self.listener.listen(1)
        self.connection = None
        threading.Thread(target=self._serve, daemon=True).start()

    def record(self, base, cut_at=None):
        """From now on keeps a journal; `base` becomes a copy of the image. What was written before counts as flushed,
        so let the machine sync first. After `cut_at` entries the power fails."""
        with self.lock:
            self.base = str(base)
            copy_sparse(self.image, self.base)
            self.journal, self.cut_at = [], cut_at

    def recorded(self):
        with self.lock:
            return list(self.journal or [])

    def cut(self):
        self.is_cut.set()
        self.on_cut()

    def stop_recording(self):
        """Returns the journal."""
        with self.lock:
            journal, self.journal, self.cut_at = self.journal, None, None
            return journal

    def close(self):
        self.is_cut.set()
        for one in (self.connection, self.listener):
            if one:
                one.close()
        if os.path.exists(self.address):
            os.unlink(self.address)

    def _serve(self):
        try:
            self.connection, _ = self.listener.accept()
            self._negotiate()
            with open(self.image, "r+b", buffering=0) as file:
                while self._answer(file):
                    pass
        except OSError:
            pass

    def _receive(self, count):
        received = bytearray()
        while len(received) < count:
            more = self.connection.recv(count - len(received))
            if not more:
                raise ConnectionError("qemu has gone")
            received += more
        return bytes(received)

    def _negotiate(self):
        self.connection.sendall(b"NBDMAGIC" + OPTION + struct.pack(">H", 3))
        self._receive(4)
        while True:
            magic, option, length = struct.unpack(">8sII", self._receive(16))
            assert magic == OPTION, magic
            self._receive(length)
            if option == OPT_ABORT:
                raise ConnectionError("qemu has changed its mind")
            if option not in (OPT_INFO, OPT_GO):
                self._reply_to_option(option, REP_UNSUPPORTED, b"")
                continue
            export = struct.pack(">HQH", 0, os.path.getsize(self.image), EXPORT_FLAGS)
            self._reply_to_option(option, REP_INFO, export)
            self._reply_to_option(option, REP_ACK, b"")
            if option == OPT_GO:
                return

    def _reply_to_option(self, option, kind, data):
        self.connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data)) + data)

    def _answer(self, file):
        magic, flags, kind, cookie, offset, length = struct.unpack(">IHH8sQI", self._receive(28))
        assert magic == REQUEST, magic
        data = self._receive(length) if kind == WRITE else b""
        with self.lock:
            if self.is_cut.is_set() or kind == DISCONNECT:
                return False
            reply = b""
            if kind == READ:
                reply = os.pread(file.fileno(), length, offset)
            elif kind == WRITE:
                os.pwrite(file.fileno(), data, offset)
            if self.journal is not None and kind in (WRITE, FLUSH):
                self.journal.append(("flush",) if kind == FLUSH else ("write", offset, data, bool(flags & FUA)))
                if self.cut_at is not None and len(self.journal) >= self.cut_at:
                    # Before it is acknowledged.
                    self.cut()
                    return False
        error = 0 if kind in (READ, WRITE, FLUSH) else 22
        self.connection.sendall(struct.pack(">II8s", REPLY, error, cookie) + reply)
        return True


def after_cut(base, journal, seed, image):
    """Makes `image`: what may be on the medium when the power fails at the journal's end. Of the unflushed sectors none
    survives with seed 0, else about half. Returns the numbers of sectors that were lost and kept."""
    flushed_to = max((at for at, entry in enumerate(journal) if entry[0] == "flush"), default=-1)
    luck = random.Random(seed)
    copy_sparse(base, image)
    lost = kept = 0
    with open(image, "r+b", buffering=0) as file:
        for at, entry in enumerate(journal):
            if entry[0] != "write":
                continue
            _, offset, data, durable = entry
            if durable or at < flushed_to:
                os.pwrite(file.fileno(), data, offset)
                continue
            for start in range(0, len(data), SECTOR):
                if seed and luck.random() < 0.5:
                    os.pwrite(file.fileno(), data[start:start + SECTOR], offset + start)
                    kept += 1
                else:
                    lost += 1
    return lost, kept
