"""How exactly bytes may be told: in steps so wide that no file that few people read in a group can be told from its bytes.

The sizes of open data are known to everyone. From the exact bytes of a group and the number of its requests it can often be
worked out which files were read in it, and some of them few people have read. So the bytes of a group are told as a multiple of a step
of at least twice the most that any such file adds to it, rounded up or down by a keyed coin; never so that the same group
without that file would be outside of what was told. What is told is less than one step away from the truth.
"""

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, Measure, joint_key, run_starts, summed_runs


def rare_bytes(group: Codes, groups: int, file: Codes, person: Codes, size: Measure, people: int) -> Measure:
    """The most bytes that one file which fewer than `people` people read adds to each of (groups,) groups.

    Per row (n,): `group` and `file`, codes from 0 on, `person`, a code below zero where there is none, and `size`, bytes.
    """
    counted = (person >= 0) & (size > 0)
    group, file, person, size = group[counted], file[counted], person[counted], size[counted]
    most = np.zeros(groups, np.int64)
    if not group.size:
        return most
    cell = joint_key([(group, groups), (file, int(file.max()) + 1)])
    order = np.lexsort((person, cell))
    cell, person, group, size = cell[order], person[order], group[order], size[order]
    each = run_starts(cell, person)
    cell, group, (size,) = cell[each], group[each], summed_runs([size], each)
    starts = run_starts(cell)
    of_cell = np.diff(starts, append=cell.size)
    (sums,) = summed_runs([size], starts)
    rare = of_cell < people
    np.maximum.at(most, group[starts][rare], sums[rare])
    return most


def step_for(rare: int) -> int:
    """The step for a group to which the files that few people read add at most `rare` bytes each: a 1, 2 or 5 with noughts;
    1, so exact, where there are none."""
    least = 2 * rare
    power = 1
    while power * 10 < least:
        power *= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def told_bytes(size: Measure, step: Measure, rare: Measure, coin: NDArray[np.float64]) -> Measure:
    """The bytes to tell of each group: the multiple of its step below or above its (n,) `size`. `coin` in [0, 1) decides, in
    proportion to how near they are; but up only where the group without its `rare` bytes would still be within a step."""
    below = size // step * step
    rest = size - below
    up = (rest > rare) & (coin < rest / step)
    return np.asarray(below + up * step, np.int64)
