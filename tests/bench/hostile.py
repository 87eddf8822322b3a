"""``python -m tests.bench.hostile [TIMES]``: a live webhook against mutated reviews; 50,000 by default.

Every answer has to be a well-formed AdmissionReview or a 400 with a sentence, within a second, and memory has to stay
flat. Exit code 1 where one is not.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.hostile import bombard
from tests.support.live import webhook

ROUNDS = 10

GROWTH = 16 * 2**20
"""Bytes of memory that may come on top once a fifth of the reviews has filled every store there is."""


def main(times: int) -> int:
    """Rounds of reviews, a line each."""
    sizes: list[int] = []
    wrong: list[str] = []
    with webhook() as live:
        for seed in range(ROUNDS):
            count = asyncio.run(bombard(live.port, live.trust, seed, times // ROUNDS))
            sizes.append(live.memory())
            wrong += count.wrong
            answers = ", ".join(f"{number} x {status}" for status, number in sorted(count.statuses.items()))
            print(f"{answers}; slowest {1000 * count.slowest:.0f} ms; {sizes[-1] / 2**20:.1f} MiB", flush=True)
    if max(sizes[ROUNDS // 5 :]) - sizes[ROUNDS // 5] > GROWTH:
        wrong.append("memory grew")
    print(*(wrong or ["all well"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
