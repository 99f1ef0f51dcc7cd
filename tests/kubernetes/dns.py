#!/usr/bin/env python3
"""The names of a cluster's Services, as its DNS would give them: usage: dns.py ADDRESS KUBECTL...

It answers A for NAME.NAMESPACE.svc, with and without .cluster.local, and "no such name" to whatever else is asked.
"""
import json
import socket
import struct
import subprocess
import sys

address, kubectl = sys.argv[1], sys.argv[2:]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, 53))
while True:
    query, client = server.recvfrom(512)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    question = query[12:at + 5]
    found, exists = b"", False
    if len(labels) >= 3 and labels[2:] in (["svc"], ["svc", "cluster", "local"]):
        asked = subprocess.run([*kubectl, "get", "service", "-o", "json", "-n", labels[1], labels[0]],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        exists = asked.returncode == 0
        if exists and kind == 1:
            ip = json.loads(asked.stdout)["spec"]["clusterIP"]
            found = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(ip)
    flags = 0x8580 if exists else 0x8583
    header = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if found else 0, 0, 0)
    server.sendto(header + question + found, client)
