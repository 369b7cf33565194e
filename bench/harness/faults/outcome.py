"""What became of the requests of a run, from both ends: what clients got, and what backends executed."""

from collections import Counter
from typing import NamedTuple


class Row(NamedTuple):
    number: int
    method: str
    due: float
    took: float
    status: int
    reason: str
    late: float

    @property
    def done(self):
        return self.due + self.took


class Outcome:
    def __init__(self, rows, executed):
        self.rows = sorted((Row(*row) for row in rows), key=lambda row: row.due)
        # How often each request arrived whole at a backend: time, number, method, status.
        self.times = Counter((line[1], line[2]) for line in executed)

    def of(self, method):
        return [row for row in self.rows if row.method == method]

    def failed(self, method=None):
        return [row for row in self.rows if row.status != 200 and method in (None, row.method)]

    def twice(self, method):
        return [number for (number, how), count in self.times.items() if how == method and count > 1 and number != "-"]

    def methods(self):
        return sorted({row.method for row in self.rows})

    def counts(self):
        """`GET 0 of 4500 fail, 0 twice; POST …`"""
        parts = []
        for method in self.methods():
            failed, all_of = len(self.failed(method)), len(self.of(method))
            parts.append(f"{method}: {failed} of {all_of} fail, {len(self.twice(method))} twice")
        return "; ".join(parts)

    def why(self):
        """The failures by method, status and reason, with the time of the first since the start of the load."""
        if not self.failed():
            return self.stalls()
        kinds = {}
        for row in self.failed():
            kinds.setdefault((row.method, row.status, row.reason or "no reason"), []).append(row)
        began = self.rows[0].due
        said = [
            f"{len(rows)} {method} {status} {reason} (first at {rows[0].due - began:.2f} s)"
            for (method, status, reason), rows in kinds.items()
        ]
        return "; ".join([*said, self.stalls()]).rstrip("; ")

    def stalls(self):
        """A machine that is busy with other things makes everything late, and the run worth little."""
        late = max(row.late for row in self.rows)
        return f"(the machine was busy: a request started {ms(late)} late)" if late > 0.1 else ""


def percentile(rows, share):
    """Seconds; 0 of nothing."""
    took = sorted(row.took for row in rows)
    return took[min(len(took) - 1, int(len(took) * share))] if took else 0.0


def slowest(rows):
    return max((row.took for row in rows), default=0.0)


def ms(seconds):
    return f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
