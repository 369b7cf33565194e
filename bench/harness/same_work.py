"""Shows that a proxy does the work that it is measured at, before it is measured.

Of its three backends one is not there, one answers 503, and one tells what headers reached it. Every
request must be answered 200 by the last, whichever was tried first, and carry what all proxies set.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import load
from harness.peers import HEALTH, HOST
from harness.process import Child, free_ports, until

REQUESTS = 30
HEADERS = [
    *["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"],
    *["x-real-ip", "forwarded", "via"],
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        checked = self.path == HEALTH
        self.server.seen.append(self.path)
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200 if checked else self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Proxies end connections as they like."""


def serve(status):
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.status, server.seen = True, status, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def show(peer, folder):
    """Raises an error if the peer does less than the others."""
    folder.mkdir()
    good, bad = serve(200), serve(503)
    port, nobody = free_ports(2)
    # The one that is not there comes first: no proxy may have learnt yet that it is not.
    command = peer.prepare(folder, port, [nobody, bad.server_port, good.server_port])
    proxy = Child(peer.name, command, folder)
    try:
        until(f"{peer.name} to listen", 20, lambda: load.get(port, HOST)[0])
        for _ in range(REQUESTS):
            status, body = load.get(port, HOST)
            if status != 200:
                raise RuntimeError(f"{peer.name} does not try again: {status} {body[:300]}")
        missing = [name for name in HEADERS if not json.loads(body).get(name)]
        if missing:
            raise RuntimeError(f"{peer.name} sends no {missing}: {body}")
        if peer.active_check:
            until(f"an active check of {peer.name}", 10, lambda: HEALTH in bad.seen + good.seen)
        # Checks alone would not show whether the one that answers 503 was ever tried.
        tried = sum(path != HEALTH for path in bad.seen)
        return f"{REQUESTS} of {REQUESTS} answered 200, {tried} after a 503"
    finally:
        proxy.end()
        good.shutdown()
        bad.shutdown()
