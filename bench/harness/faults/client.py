#!/usr/bin/env python3
"""The clients: an open loop at a constant rate, or bursts with pauses; a process of its own, so that nothing
else that the run does makes a request late.

A request starts when it is due, whether or not those before it were answered, and its time counts from then.
Connections are kept alive; one that waits longest is used next. Nothing is tried again: what fails has failed.
Written at the end, a line for each request: number, method, when it was due, how long it took, status (0: none),
the reason, that of Hale or of the connection, and how late it started, which is this machine's fault alone.
"""

import asyncio
import base64
import json
import re
import sys
import time
from collections import deque

LENGTH = re.compile(rb"^content-length: *(\d+)\r?$", re.I | re.M)
REASON = re.compile(rb"^x-hale-reason: *([^\r]*)\r?$", re.I | re.M)


class Connection(asyncio.Protocol):
    def __init__(self):
        self.transport, self.answer, self.buffer = None, None, b""
        self.alive = True

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.alive = False
        self.finish((0, f"client: connection lost: {error or 'closed'}"))

    def data_received(self, data):
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = LENGTH.search(head)
        if not length:
            self.alive = False
            self.transport.abort()
            self.finish((0, "client: an answer without a length"))
        elif len(body) >= int(length.group(1)):
            self.buffer = b""
            if b"\r\nconnection: close" in head.lower():
                self.alive = False
                self.transport.close()
            reason = REASON.search(head)
            self.finish((int(head[9:12]), reason.group(1).decode() if reason else ""))

    def finish(self, outcome):
        if self.answer and not self.answer.done():
            self.answer.set_result(outcome)

    def send(self, request):
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer


class Clients:
    def __init__(self, plan):
        self.plan = plan
        self.idle, self.results, self.number = deque(), [], 0
        self.body = b"x" * plan.get("body", 1024)

    async def connection(self):
        while self.idle:
            found = self.idle.popleft()
            if found.alive and not found.transport.is_closing():
                return found
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.plan["port"])
        return connection

    async def one(self, due):
        late = time.monotonic() - due
        self.number += 1
        number = self.number
        method = self.plan["methods"][number % len(self.plan["methods"])]
        try:
            status, reason = await asyncio.wait_for(self.exchange(number, method), self.plan.get("limit", 20))
        except asyncio.TimeoutError:
            status, reason = 0, "client: no answer in time"
        except OSError as error:
            status, reason = 0, f"client: {error}"
        self.results.append((number, method, due, time.monotonic() - due, status, reason, late))

    async def exchange(self, number, method):
        connection = await self.connection()
        body = self.body if method == "POST" else b""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} /load HTTP/1.1\r\nHost: {self.plan['host']}\r\nx-test-id: {number}\r\n{length}"
        if self.plan.get("keyed"):
            head += f"Idempotency-Key: {number}\r\n"
        if "basic" in self.plan:
            # A user whose password is guessed, another one each time.
            guess = base64.b64encode(f"{self.plan['basic']}:guess {number}".encode()).decode()
            head += f"Authorization: Basic {guess}\r\n"
        head += "\r\n"
        try:
            outcome = await connection.send(head.encode() + body)
        except asyncio.CancelledError:
            connection.transport.abort()
            raise
        if connection.alive:
            self.idle.append(connection)
        return outcome

    async def constant(self, rate, seconds):
        began = time.monotonic()
        tasks = set()
        for index in range(int(rate * seconds)):
            due = began + index / rate
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.ensure_future(self.one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def bursts(self, count, size, pause, sweep):
        """Bursts of requests at once; the pauses differ by up to `sweep` around `pause`, evenly."""
        for index in range(count):
            await asyncio.gather(*[self.one(time.monotonic()) for _ in range(size)])
            await asyncio.sleep(pause + sweep * (2 * index / max(count - 1, 1) - 1))


async def main(plan, file):
    clients = Clients(plan)
    if "rate" in plan:
        await clients.constant(plan["rate"], plan["seconds"])
    else:
        await clients.bursts(plan["bursts"], plan["size"], plan["pause"], plan["sweep"])
    with open(file, "w") as out:
        for result in clients.results:
            out.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
