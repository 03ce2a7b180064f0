"""The Dagster UI as someone sees it who opens it for the first time, over an archive of sample logs with an Inventory.

The pages are Dagster's own, so the tests look for what this project puts there: groups, words, figures, pictures; and, as for
every page, that nothing on them asks anything of another machine.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import dagster as dg
import pytest
from dagster import serialize_value
from playwright.sync_api import Locator, Page, expect

from s3logx_assets.sample_logs import SampleSpec
from s3logx_tests.browser.visits import Screen, Visit
from s3logx_tests.inventories import Row, write_inventory
from s3logx_tests.platform import DAILY, Platform
from s3logx_tests.sampled import sampled_platform

Visits = Callable[..., Visit]
ROOT = Path(__file__).parents[2]
# Up to today, as an archive in use has them: Dagster plots the newest partitions.
FIRST = datetime.now(UTC).date() - timedelta(days=11)
SPEC = SampleSpec(first_date=FIRST, days=12, lines=6_000, files=72, datasets=8, layout="date")
DAY = str(FIRST + timedelta(days=4))
SNAPSHOT = "2025-03-20T01-00Z"
# The whole graph needs a wide screen, and has the names of the assets alone; a group's has more.
WIDE, TALL, WIDEST = Screen(1600, 1000), Screen(1600, 2000), Screen(2300, 1400)
GROUPS = ("sources", "extract", "addresses", "usage", "summaries", "publish")
ASSETS = ("log_inventory", *DAILY, "summaries", "totals", "statistics", "publication")
# What Dagster keeps of a partition's materialisation, as its event log has it.
MOST_METADATA = 20_000
_PATIENCE = 120
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Everything made over sample logs, made before the first visit."""
    folder = tmp_path_factory.mktemp("ui")
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "deploy/local/dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        inventory = {"S3LOGX_INVENTORY": str(folder / "inventory"), "S3LOGX_INVENTORY_PREFIX": "logs/"}
        found = sampled_platform(folder, instance, SPEC, **inventory)
        logs = folder / "logs"
        rows = [
            Row(f"logs/{path.relative_to(logs)}", path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())  # noqa: S324
            for path in sorted(logs.rglob("*"))
            if path.is_file()
        ]
        write_inventory(folder / "inventory", [rows], snapshot=SNAPSHOT)
        instance.add_dynamic_partitions("inventory_snapshot", [SNAPSHOT])
        assert found.materialize("log_inventory", SNAPSHOT).success
        assert found.materialize("statistics").success
        yield found


@pytest.fixture(scope="module")
def ui(platform: Platform) -> Iterator[str]:
    """The address of Dagster's web server over that."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    passed = {
        name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH") if name in os.environ
    }
    command = [
        str(Path(sys.executable).parent / "dagster-webserver"),
        "-w",
        "workspace.yaml",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with (platform.folder / "ui.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**passed, **platform.environment}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/server_info", process)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        assert process.poll() is None, "the web server ended by itself"
        assert time.monotonic() < deadline, f"the web server did not answer in {_PATIENCE} s"
        try:
            with urlopen(address, timeout=5) as answer:  # noqa: S310
                assert json.load(answer)["dagster_version"]
            return
        except (URLError, OSError):
            time.sleep(0.2)


def open_page(found: Visit, address: str, words: str) -> Page:
    """A page of the UI, when it shows these words and all its answers have come."""
    found.page.set_default_timeout(30_000)
    found.page.goto(address)
    expect(found.page.get_by_text(words, exact=True).last).to_be_visible()
    found.page.wait_for_load_state("networkidle")
    return found.page


def open_partition(found: Visit, ui: str, asset: str, key: str) -> Page:
    """The page of a partition of an asset."""
    return open_page(found, f"{ui}/assets/{asset}?view=partitions&partition={key}", "in_short")


def entry(page: Page, label: str) -> Locator:
    """The row of a label among the metadata: the label, what it says."""
    name = page.locator("td:first-child").filter(has_text=re.compile(f"^{label}$"))
    return page.locator("tr").filter(has=name)


def show_picture(page: Page, label: str) -> None:
    """Sees that a picture is one. Unless it is very small, it stands behind a click."""
    row = entry(page, label)
    expect(row).to_be_visible()
    behind = row.get_by_text("[Show Markdown]")
    if behind.count():
        behind.click()
    image = page.locator("img[src^='data:image/svg+xml']").last
    expect(image).to_be_visible()
    assert image.evaluate("each => each.decode().then(() => each.naturalWidth)") == 640
    assert image.get_attribute("alt")


def places(page: Page, names: Sequence[str]) -> list[float]:
    """How far to the right each of these boxes of the graph stands."""
    found = []
    for name in names:
        boxes = [each.bounding_box() for each in page.get_by_text(name, exact=True).all()]
        found.append(max(box["x"] for box in boxes if box is not None))
    return found


def test_the_graph_goes_from_left_to_right(visit: Visits, ui: str) -> None:
    page = open_page(found := visit(WIDEST), f"{ui}/asset-groups", "publish")
    found.picture("ui-groups")
    assert page.get_by_text("sources", exact=True).count()
    order = places(page, GROUPS[1:])  # the sources stand beside what reads them, the statistics
    assert order == sorted(set(order))

    expanded = ",".join(f"global@global:{name}" for name in GROUPS)
    open_page(found, f"{ui}/asset-groups?expanded={expanded}", "publication")
    found.picture("ui-graph")
    order = places(
        page, ("extracted_logs", "ip_indexes", "ip_regions", "daily_usage", "summaries", "totals", "publication")
    )
    assert order == sorted(set(order))
    assert all(page.get_by_text(name, exact=True).count() for name in ASSETS)

    open_page(found, f"{ui}/locations/s3logx_assets/asset-groups/addresses", "ip_regions")
    for words in ("Parquet", "100% filled", "1 / 1 Passed"):
        expect(page.get_by_text(words).first).to_be_visible()
    found.picture("ui-group")


def test_an_asset_says_what_it_is_and_plots_its_figures(visit: Visits, ui: str) -> None:
    words = "One row per successful GET of a log date, addresses sealed, and the ledger of its log files."
    page = open_page(found := visit(TALL), f"{ui}/assets/extracted_logs", words)
    for words in ("gawk", "Parquet", "archive-data", "Freshness policy", "The key exactly as logged"):
        expect(page.get_by_text(words).first).to_be_visible()
    for code in ("s3logx_assets/assets/extract.py", "awk/extract.awk"):
        expect(page.get_by_text(code).first).to_be_visible()
    found.picture("ui-asset")
    page.get_by_text("Plots", exact=True).click()
    for label in ("records", "rejected_share", "dagster/partition_row_count"):
        expect(page.get_by_text(label, exact=True).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
    found.picture("ui-plots")


def test_a_date_says_how_its_records_went_and_who_asked(visit: Visits, ui: str) -> None:
    page = open_partition(found := visit(Screen(1600, 1400)), ui, "extracted_logs", DAY)
    expect(entry(page, "rejected_by_reason")).to_contain_text("█")
    expect(entry(page, "skipped_by_rule")).to_contain_text("operation")
    expect(entry(page, "records")).to_contain_text(re.compile("[1-9]"))
    found.picture("ui-extracted_logs")
    open_partition(found, ui, "ip_regions", DAY)
    show_picture(page, "requesters_map")
    found.picture("ui-ip_regions-map")


def test_it_shows_how_complete_the_archive_is(visit: Visits, ui: str) -> None:
    page = open_partition(found := visit(TALL), ui, "log_inventory", SNAPSHOT)
    expect(entry(page, "files_by_date")).to_contain_text("one bar per day")
    show_picture(page, "files_chart")
    found.picture("ui-log_inventory")
    open_page(found, f"{ui}/assets/statistics", "in_short")
    expect(entry(page, "share_extracted")).to_contain_text(re.compile("1$"))
    show_picture(page, "completeness_chart")
    found.picture("ui-statistics")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_scope_has_its_days_as_bars_and_a_map(visit: Visits, ui: str, scheme: str) -> None:
    page = open_partition(found := visit(WIDE, scheme), ui, "summaries", "archive")
    expect(entry(page, "requests_by_day")).to_contain_text("one bar per day")
    found.picture(f"ui-summaries-{scheme}")
    show_picture(page, "requests_chart")
    found.picture(f"ui-summaries-chart-{scheme}")
    open_partition(found, ui, "totals", "archive")
    show_picture(page, "requests_map")
    found.picture(f"ui-totals-map-{scheme}")


def test_what_is_kept_of_a_partition_is_small_and_leads_with_a_sentence(platform: Platform) -> None:
    sizes: dict[str, int] = {}
    for asset in ASSETS:
        page = platform.instance.fetch_materializations(dg.AssetKey(asset), limit=1000)
        assert not page.has_more
        for record in page.records:
            found = record.asset_materialization
            assert found is not None
            sizes[asset] = max(sizes.get(asset, 0), len(serialize_value(found)))
            assert next(iter(found.metadata)) == "in_short", asset
    assert sizes.keys() == set(ASSETS)
    assert {asset: size for asset, size in sizes.items() if size >= MOST_METADATA} == {}
