"""How exactly bytes may be told: in steps so wide that no file that few people read in a group can be told from its bytes.

The sizes of open data are known to everyone. From the exact bytes of a group and the number of its requests it can often be
worked out which files were read in it, and some of them few people have read. So the bytes of a group are told as a multiple of a
step, rounded up or down by a keyed coin, and always so that they could be those of the same group without any one such file:
with its requests for another file of the group instead. The other file is a smaller one, so that the bytes become fewer by no more
than this file's own, or, for the smallest of all, the next larger one. What is told is less than one step away from the truth.

Groups that add up to something that is told more exactly do not hide behind their own steps: what all others leave for them is
as exact as the sum. So in every partition the two largest groups have steps as wide as any, and can make good what another
group might swing to.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, Measure, joint_key, run_starts, summed_runs


class Swing(NamedTuple):
    """By how many bytes each of (groups,) groups could be less, or more, without one of the files that few people read."""

    less: Measure
    more: Measure


def swing(
    group: Codes, groups: int, file: Codes, person: Codes, requests: Measure, size: Measure, people: int
) -> Swing:
    """What the rare files of each group come to: those that fewer than `people` people read in it.

    Per row (n,): `group` and `file`, codes from 0 on, `person`, a code below zero where there is none, `requests`, at least
    one, and `size`, their bytes. What a request for a file brings is taken from the rows that have most of it.
    """
    result = Swing(np.zeros(groups, np.int64), np.zeros(groups, np.int64))
    if not group.size:
        return result
    cell = joint_key([(group, groups), (file, int(file.max()) + 1)])
    order = np.lexsort((person, cell))
    cell, group, person = cell[order], group[order], person[order]
    starts = run_starts(cell)
    requests, size = requests[order], size[order]
    of_file = np.maximum.reduceat(-(-size // requests), starts)
    requests, size = summed_runs([requests, size], starts)
    is_new = np.zeros(cell.size, np.int64)
    is_new[run_starts(cell, person)] = 1
    rare = np.add.reduceat(is_new * (person >= 0), starts) < people
    group = group[starts]
    np.maximum.at(result.less, group[rare], size[rare])

    smallest = np.lexsort((of_file, group))
    group, of_file = group[smallest], of_file[smallest]
    first = run_starts(group)
    first = first[np.diff(first, append=group.size) > 1]
    first = first[rare[smallest[first]]]
    result.more[group[first]] = requests[smallest[first]] * (of_file[first + 1] - of_file[first])
    return result


def balanced(swings: Swing, partition: Codes, size: Measure) -> Swing:
    """The same with the two groups of the most bytes in each partition swinging as far as any of its groups, both ways.

    `partition` (groups,) is each group's, `size` its bytes. A partition of one group is its own sum, and stays.
    """
    less, more = swings.less.copy(), swings.more.copy()
    order = np.lexsort((-size, partition))
    starts = run_starts(partition[order])
    count = np.diff(starts, append=order.size)
    several = count > 1
    if several.any():
        farthest = np.maximum.reduceat(np.maximum(less, more)[order], starts)[several]
        for place in (0, 1):
            groups = order[starts[several] + place]
            less[groups], more[groups] = farthest, farthest
    return Swing(less, more)


def step_for(less: int, more: int) -> int:
    """The step for a group that could swing so far: a 1, 2 or 5 with noughts; 1, so exact, for one that cannot."""
    least = 2 * max(less, more) + 1
    power = 1
    while power * 10 < least:
        power *= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def told_bytes(size: Measure, step: Measure, swings: Swing, coin: NDArray[np.float64]) -> Measure:
    """The bytes to tell of each group: the multiple of its step below or above its (n,) `size`. `coin` in [0, 1) decides, in
    proportion to how near they are, where either would be less than a step from all that the group could swing to; one
    of the two always is."""
    below = size // step * step
    rest = size - below
    may_rise = rest > swings.less
    may_fall = step - rest > swings.more
    up = may_rise & (~may_fall | (coin < rest / step))
    return np.asarray(below + up * step, np.int64)
