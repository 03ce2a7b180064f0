"""The attack on memory in its short form."""

from pathlib import Path

import pytest

from s3logx_tests.torture.attack import Attack, Campaign
from s3logx_tests.torture.memory import ATTACKS

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_date_larger_than_memory_works(attack: Attack, tmp_path: Path) -> None:
    toll = attack.run(Campaign(tmp_path / "intact", short=True))
    assert not toll.harm, toll


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_broken_build_is_noticed(attack: Attack, tmp_path: Path) -> None:
    for number, fault in enumerate(attack.breaks):
        toll = attack.run(Campaign(tmp_path / str(number), short=True, sabotage=fault.apply))
        assert toll.harm, fault.name
