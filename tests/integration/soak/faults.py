"""A day's faults of one peer: each for a while, and well in between; the same seed gives the same day."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, and how it ends."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


class Peer(threading.Thread):
    """Plays the faults of one peer in a random order over the day.

    Parameters
    ----------
    note
        Told of each fault, with the second of the day.
    begin_at
        Second of the day at which its own begins.
    """

    def __init__(
        self,
        name: str,
        faults: Sequence[Fault],
        seconds: float,
        seed: int,
        note: Callable[[float, str], None],
        *,
        begin_at: float = 0.0,
    ) -> None:
        super().__init__(daemon=True, name=name)
        self.is_over = False  # and everything went as planned
        self._note = note
        chance = random.Random(f"{seed} {name} {begin_at}")
        order = chance.sample(list(faults), len(faults))
        share = seconds / max(1, len(order))
        self.plan = [  # at which second, for how long, what
            (begin_at + number * share + chance.uniform(0.1, 0.4) * share, chance.uniform(0.35, 0.55) * share, fault)
            for number, fault in enumerate(order)
        ]

    def run(self) -> None:
        start = time.monotonic()
        for second, seconds, fault in self.plan:
            time.sleep(max(0.0, start + second - time.monotonic()))
            self._note(time.monotonic() - start, f"{self.name}: {fault.name}, for {seconds:.0f} s")
            fault.begin()
            time.sleep(seconds)
            fault.end()
        self.is_over = True


def modes(relay, names: Sequence[str]) -> list[Fault]:
    """Make a fault of each mode of a relay."""

    def fault(name: str) -> Fault:
        return Fault(
            name=name,
            begin=lambda: setattr(relay, "mode", name),
            end=lambda: setattr(relay, "mode", "well"),
        )

    return [fault(name) for name in names]
