"""The campaign in its short form: what a few seconds allow of each attack, and of the builds that it must notice as broken."""

from pathlib import Path

import pytest

from s3logx_tests.torture.attack import Attack, Break, Campaign, intact
from s3logx_tests.torture.attacks import ATTACKS

# Quick enough for every day.
_QUICK = (
    "crash: the first openings of the history",
    "crash: killed at any moment, local store",
    "input: cut at every byte",
    "input: keys for a shell, paths",
    "leaks: errors that quote",
    "doors: the UI on this machine alone",
    "doors: requirements pinned by hash",
    "doors: no shell",
    "doors: parsers are linear",
)
# Minutes even in their short form, most of them waits for what a dead run has locked; or a file system of their own.
_LONG = (
    "crash: killed at every step, store in a bucket",
    "crash: killed at any moment, store in a bucket",
    "crash: two runs at once, store in a bucket",
    "restarts: terminated from the UI",
    "restarts: daemon and webserver",
    "disk: a full file system",
    "services: buckets out of order",
)


def _cases() -> list[object]:
    found: list[object] = []
    for attack in ATTACKS:
        marks = () if attack.name in _QUICK else (pytest.mark.servers,)
        if attack.name not in _LONG:
            found.append(pytest.param(attack, None, id=attack.name, marks=marks))
            fault = attack.breaks[0]
            found.append(pytest.param(attack, fault, id=f"{attack.name} - {fault.name}", marks=pytest.mark.servers))
    return found


@pytest.mark.parametrize(("attack", "fault"), _cases())
def test_an_attack_does_no_harm_but_to_a_broken_build(attack: Attack, fault: Break | None, tmp_path: Path) -> None:
    toll = attack.run(Campaign(tmp_path / "work", short=True, sabotage=intact if fault is None else fault.apply))
    assert toll.tries
    assert bool(toll.harm) == (fault is not None), toll


def test_every_attack_has_a_name_of_its_own_and_a_break() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    assert all(attack.breaks for attack in ATTACKS)
    assert {*_QUICK, *_LONG} <= set(names)
