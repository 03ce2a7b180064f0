"""All attacks, in the order of the table; what takes longest by itself comes first, since others go on beside it."""

from s3logx_tests.torture import (
    crash,
    disk,
    doors,
    inputs,
    inventory,
    leaks,
    load,
    memory,
    outages,
    restarts,
    services,
    sharing,
)
from s3logx_tests.torture.attack import Attack

ATTACKS: tuple[Attack, ...] = (
    *load.ATTACKS,
    *crash.ATTACKS,
    *restarts.ATTACKS,
    *sharing.ATTACKS,
    *inventory.ATTACKS,
    *disk.ATTACKS,
    *memory.ATTACKS,
    *inputs.ATTACKS,
    *services.ATTACKS,
    *outages.ATTACKS,
    *leaks.ATTACKS,
    *doors.ATTACKS,
)
