"""The config API as a test machine sees it: over TLS, with an authority of its own, one answer for all requests."""

import http.server
import json
import ssl
import subprocess
import threading


def certificates(work, address):
    """An authority (ca.pem) and, signed by it, a server's certificate for an IP address (leaf.pem, leaf.key)."""
    common = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=IP:{address}"]
    leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
    for name, more in (("ca", []), ("leaf", leaf)):
        command = common + ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"] + more
        subprocess.run(command, cwd=work, check=True, capture_output=True)


class Api:
    """Listens on loopback; `address` is what the server is called by those who ask."""

    def __init__(self, work, address):
        certificates(work, address)
        self.config = None
        # The reports, oldest first.
        self.reports = []
        self.keys = set()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.keys.add(self.headers["Authorization"])
                api.reports.append(json.loads(body))
                answer = json.dumps({"restart_required": api.config is not None, "config": api.config}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            # A machine that has lost its power leaves connections behind that nobody will ever end.
            daemon_threads = True

            def handle_error(self, *_):
                pass

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{work}/leaf.pem", f"{work}/leaf.key")
        self.server = Server(("127.0.0.1", 0), Handler)
        # Not in accept(2), where one client could hold up the others.
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{address}:{self.server.server_address[1]}/agents/config-check"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
