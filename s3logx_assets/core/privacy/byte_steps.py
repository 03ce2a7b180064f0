"""How exactly figures may be told that are no sums of safe groups: in steps, rounded by a keyed coin, so that columns add up.

The sizes of open data are known to everyone. From the exact bytes of a group and the number of its requests it can often be worked
out which files were read in it, and how often; and the requests that are no whole downloads bring whatever their clients
chose. So a request counts with no more bytes than at least k people's requests reach (`reach`, and the step that follows
from it), and what is told of a group's bytes is a multiple of 2 (k - 1) times as much. Then k - 1 requests more or fewer, of
whatever files, are less than half a step. The step goes by what k people read alone: a file that fewer read changes neither it nor,
by more than any other file, the bytes.

Figures that are rounded one by one tell more where they are added up: of three that add up, all at their uttermost, each would be
known exactly. So the groups of a partition are rounded to add up to what is told of all of it, and then what the sum
leaves for one of them is no less than what its own step does.
"""

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, Measure, run_starts


def reach(holder: Codes, holders: int, person: Codes, requests: Measure, size: Measure, people: int) -> Measure:
    """How many bytes a request of each of (holders,) may count with: the `people`-th largest, over people, of what each one's largest
    request brings; 0 where there are fewer people.

    Per row (n,): `holder`, a code from 0 on, `person`, a code below zero where there is none, `requests`, at least one, and `size`,
    their bytes."""
    found = np.zeros(holders, np.int64)
    known = np.flatnonzero(person >= 0)
    if not known.size:
        return found
    order = known[np.lexsort((person[known], holder[known]))]
    starts = run_starts(holder[order], person[order])
    largest = np.maximum.reduceat(-(-size[order] // requests[order]), starts)
    of = holder[order][starts]
    order = np.lexsort((-largest, of))
    of, largest = of[order], largest[order]
    first = run_starts(of)
    enough = np.diff(first, append=of.size) >= people
    found[of[first[enough]]] = largest[first[enough] + people - 1]
    return found


def step_for(reached: int, people: int) -> int:
    """The step for requests that bring so many bytes at the most: a 1, 2 or 5 with noughts."""
    least = 2 * (people - 1) * reached
    power = 1
    while power * 10 < least:
        power *= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def most_of_a_request(step: Measure, people: int) -> Measure:
    """How many bytes a request counts with at the most, by the step."""
    return np.asarray(step // (2 * (people - 1)), np.int64)


def rounded(value: Measure, step: Measure, coin: NDArray[np.float64]) -> Measure:
    """Each (n,) `value` as the multiple of its step below or above it; `coin` in [0, 1) decides, in proportion to how near they are.
    A multiple stays as it is."""
    below = value // step * step
    return np.asarray(below + (coin < (value - below) / step) * step, np.int64)


def rounded_to(value: Measure, step: Measure, partition: Codes, total: Measure, coin: NDArray[np.float64]) -> Measure:
    """The same, so that the values of each `partition` (n,), which have one step, add up to its `total` (partitions,), as nearly as
    they can: to it where that is the sum of its values, rounded."""
    below = value // step * step
    rest = (value - below) / step
    short = total - np.bincount(partition, below, total.size).astype(np.int64)
    # Those that round up by the coin come first; a multiple of its step never does.
    order = np.lexsort((coin - rest, rest == 0, partition))
    starts = run_starts(partition[order])
    rank = np.arange(order.size) - np.repeat(starts, np.diff(starts, append=order.size))
    up = np.zeros(order.size, bool)
    up[order] = rank < np.rint(short[partition[order]] / step[order])
    return np.asarray(below + (up & (rest > 0)) * step, np.int64)
