"""Death while a snapshot of the S3 Inventory is stored and the statistics are told: the one before serves on, and the next
run stores it whole."""

import shutil
from contextlib import suppress

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.assets.inventory import KEY, dates_of, is_stored, newest_stored, rows_of, stored_snapshots
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.inventory import DATES
from s3logx_tests.inventories import write_inventory_of
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.crash import at_once, counted, one_of_each
from s3logx_tests.torture.steps import Count, Die, Step

_STEPS = ("inventory", "statistics")
_OLD, _NEW = "2025-03-09T01-00Z", "2025-03-10T01-00Z"


def at_every_step(campaign: Campaign) -> Toll:
    """Killed before each step; every one of the older snapshot's rows can be read then."""
    inventory = campaign.folder / "inventory"
    model = Archive(
        campaign.folder / "model",
        days=2,
        files=2,
        lines=25,
        S3LOGX_LAG_DAYS="0",
        S3LOGX_INVENTORY=str(inventory),
        S3LOGX_INVENTORY_PREFIX="logs/",
    )
    write_inventory_of(model.folder / "logs", inventory, _OLD)
    assert model.run(steps=("dates", *_STEPS)) == 0
    model.deliver(model.days[0], 5)
    write_inventory_of(model.folder / "logs", inventory, _NEW)
    calm = model.copied(campaign.folder / "calm")
    count = Count(calm.folder / "steps")
    assert calm.start(doom=count, steps=_STEPS).end() == 0
    expected = _listed(calm)
    assert list(expected) == [_OLD, _NEW]
    steps = one_of_each(count.steps, campaign) if campaign.short else count.steps

    def one(step: Step) -> Toll:
        archive = model.copied(campaign.folder / f"step-{step}")
        child = archive.start(campaign.sabotage, Die(step), _STEPS)
        child.end()
        left = len(child.orphans())
        torn = _torn(archive, expected)
        again = archive.start(campaign.sabotage, steps=_STEPS)
        failed = again.end() != 0
        found: dict[str, object] = {}
        with suppress(StoreError):
            found = _listed(archive)
        lost = sum(found.get(snapshot) != expected[snapshot] for snapshot in expected)
        toll = Toll(1, lost + torn, len(found.keys() - expected.keys()), archive.leaks(), left + failed)
        toll += Toll(manual=len(again.orphans()) + len(archive.left_behind()))
        shutil.rmtree(archive.folder)
        return toll

    return at_once(one, steps, f"{len(steps)} steps: {counted(steps)}")


def _listed(archive: Archive) -> dict[str, object]:
    """Each snapshot that is stored, its dates and their rows. Raises StoreError."""
    found: dict[str, object] = {}
    store = archive.store
    for snapshot in stored_snapshots(store):
        if is_stored(store, snapshot):
            dates, record = dates_of(store, snapshot)
            rows = [rows_of(store, snapshot, row).to_pylist() for row in dates.to_pylist()]
            found[snapshot] = (dates.to_pylist(), record, rows)
    return found


def _torn(archive: Archive, expected: dict[str, object]) -> int:
    """How many snapshots are stored and are not what they should be, and whether the newest is none of them."""
    try:
        found = _listed(archive)
        newest = newest_stored(archive.store)
    except StoreError:
        return 1
    wrong = [snapshot for snapshot in found if found[snapshot] != expected[snapshot]]
    return len(wrong) + (_OLD not in found) + (newest not in (_OLD, _NEW))


def _counts_early() -> None:
    """A snapshot counts as stored before its rows are there."""
    genuine = TableStore.write_groups

    def write_groups(self, asset, partition, schema, groups, record, sections=None, part="part-0"):  # type: ignore[no-untyped-def]
        if asset == KEY and part == "part-0":
            early = {"data_version": "", "created": "2025-03-10T01:00:00+00:00", "with_versions": True}
            self.write(asset, partition, DATES.empty_table(), early, part="dates")
        genuine(self, asset, partition, schema, groups, record, sections, part)

    TableStore.write_groups = write_groups  # type: ignore[method-assign]


ATTACKS = (
    Attack(
        "inventory: killed at every step",
        at_every_step,
        (Break("a snapshot counts before its rows are there", _counts_early),),
    ),
)
