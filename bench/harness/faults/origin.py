#!/usr/bin/env python3
"""A backend that can be told to misbehave, and that survives its own death in one respect.

Every request that arrived whole is written to a file before it is answered, so that a request which was
executed twice is found even if the backend was killed in between. Times are of the monotonic clock, which all
processes share. The lines: `listen TIME`, `request TIME ID METHOD STATUS`, `check TIME ADDRESS`, `connection TIME`.
"""

import asyncio
import json
import os
import random
import resource
import sys
import time

CHECK = b"/healthz"


class Exchange(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, options, log):
        self.options, self.log = options, log
        self.buffer, self.timer = b"", None

    def connection_made(self, transport):
        self.transport = transport
        self.address = transport.get_extra_info("sockname")[0]
        self.loop = asyncio.get_running_loop()
        if self.options.get("log_connections"):
            self.log(f"connection {time.monotonic():.6f}")

    def connection_lost(self, error):
        if self.timer:
            self.timer.cancel()

    def data_received(self, data):
        if self.timer:
            self.timer.cancel()
            self.timer = None
        self.buffer += data
        while self.one():
            pass

    def one(self):
        """Answers the next request if all of it is there."""
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        fields = {name.lower(): value for name, value in fields.items()}
        if b"transfer-encoding" in fields:
            raise RuntimeError("the load has lengths, so a chunked request is not of it")
        length = int(fields.get(b"content-length", 0))
        if len(rest) < length:
            return False
        self.buffer = rest[length:]
        method, path, _ = first.split(b" ")
        if path == CHECK:
            self.log(f"check {time.monotonic():.6f} {self.address}")
            self.answer(200)
        else:
            status = 500 if random.random() < self.options.get("fail", 0) else 200
            number = fields.get(b"x-test-id", b"-").decode()
            self.log(f"request {time.monotonic():.6f} {number} {method.decode()} {status}")
            self.answer(status)
        return True

    def answer(self, status):
        self.transport.write(b"HTTP/1.1 %d -\r\nContent-Length: 3\r\n\r\nok\n" % status)
        idle = self.options.get("idle")
        if idle:
            self.timer = self.loop.call_later(idle, self.transport.close)


async def serve(options):
    file = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    server = await asyncio.get_running_loop().create_server(
        lambda: Exchange(options, log), options["address"], options["port"], backlog=4096
    )

    def log(line):
        # One write for each line: what is written outlives the process, however it ends.
        os.write(file, line.encode() + b"\n")

    log(f"listen {time.monotonic():.6f}")
    await server.serve_forever()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(serve(json.loads(sys.argv[1])))
