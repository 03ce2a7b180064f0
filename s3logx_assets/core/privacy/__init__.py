"""The two release policies: `compatible`, and `strict` with the attacker that it is held against.

    compatible.py   a threshold and rounding, cell by cell
    strict.py       groups of people: what of a period may be told, and in which groups
    trees.py        how days, files and regions are put together into coarser groups
    byte_steps.py   how exactly figures may be told that are no sums of safe groups: bytes, and requests that were no downloads
    released.py     what is released: sums of what was told
    late.py         what came to a date after it was told
    attack.py       what someone who has all releases can work out
    truth.py        whether that tells of anybody

Values in, values out. Where releases and what was released lie does not belong here.
"""
