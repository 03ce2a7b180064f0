"""The sample log generator: repeatable, of the shape asked for, true to what it says of itself."""

import gzip
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from s3logx_assets.core.errors import SettingsError, SourceError
from s3logx_assets.core.log_lines import Record, Rejected, Skipped, parse_record, split_records
from s3logx_assets.sample_logs import (
    HARD_VERDICTS,
    LAYOUTS,
    SAMPLE_FIRST_DATE,
    UPSTREAM_BENCHMARK,
    Layout,
    SampleSpec,
    SampleSummary,
    addresses_in,
    ensure,
    generate,
)
from s3logx_assets.sample_logs.__main__ import main, parse_size
from s3logx_assets.sample_logs.hard import DUPLICATE_LINE, Victim, make_hard_line

SMALL = SampleSpec(lines=4_000, days=8, files=90)
NAME = r"20\d\d-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-F]{16}"

# Written without a look at any parser: fields by position, for lines without odd quotes.
ORDINARY = re.compile(
    rb"[0-9a-f]{64} openscience \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    rb"(?P<ip>[0-9a-f.:]+|-) (?:| ?[!-~]+) ?[0-9A-Z]{16} (?P<operation>[A-Z0-9]+\.[A-Z_.]+) "
    rb'(?P<key>[!-~]+) (?:-|".*?") (?P<status>\d{3}|-) (?:-|[A-Za-z]+) (?P<sent>\d+|-) '
    rb'(?P<size>\d+|-) (?:\d+|-) (?:\d+|-) (?:-|"[^"]*") (?:-|"[^"]*")(?P<tail>(?: [!-~]+)+)'
)


def read(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def log_files(folder: Path) -> list[Path]:
    """In byte order of name, whatever the folders."""
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.name)


def snapshot(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime) for path in log_files(folder)}


def all_lines(folder: Path) -> list[bytes]:
    return [line for path in log_files(folder) for line in split_records(read(path))]


def judge(folder: Path) -> Counter[str]:
    """What the reference parser makes of every line, duplicates within a log date counted apart."""
    verdicts: Counter[str] = Counter()
    contents: dict[str, set[bytes]] = defaultdict(set)
    rows: dict[str, set[bytes]] = defaultdict(set)
    for path in log_files(folder):
        content, log_date = read(path), path.name[:10]
        records = list(split_records(content))
        if content in contents[log_date]:
            verdicts["duplicate"] += len(records)
            continue
        contents[log_date].add(content)
        for record in records:
            match parse_record(record):
                case Skipped(rule):
                    verdicts[f"skipped: {rule}"] += 1
                case Rejected(reason):
                    verdicts[f"rejected: {reason}"] += 1
                case Record():
                    is_known = record in rows[log_date]
                    verdicts["duplicate" if is_known else "extracted"] += 1
                    rows[log_date].add(record)
    return verdicts


@pytest.fixture(scope="module")
def default_logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    folder = tmp_path_factory.mktemp("default") / "logs"
    return folder, generate(SampleSpec(), folder)


@pytest.fixture(scope="module")
def plain_lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("plain") / "logs"
    generate(SampleSpec(plain=True, lines=20_000, files=20), folder)
    return all_lines(folder)


def test_same_options_give_same_names_bytes_and_times(tmp_path: Path) -> None:
    first = generate(SMALL, tmp_path / "a")
    second = generate(SMALL, tmp_path / "b")
    assert first == second
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_another_seed_gives_other_names_and_lines(tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "a")
    generate(replace(SMALL, seed=2), tmp_path / "b")
    assert not snapshot(tmp_path / "a").keys() & snapshot(tmp_path / "b").keys()
    common = set(all_lines(tmp_path / "a")) & set(all_lines(tmp_path / "b"))
    assert common <= {b""}


def test_the_summary_counts_what_is_there(default_logs: tuple[Path, SampleSummary]) -> None:
    folder, summary = default_logs
    files = log_files(folder)
    assert summary.files == len(files) == 601
    assert summary.bytes == sum(path.stat().st_size for path in files)
    assert summary.lines == len(all_lines(folder)) == sum(summary.verdicts.values())
    assert 60_000 <= summary.lines <= 60_600


def test_the_reference_parser_agrees_with_every_verdict(
    default_logs: tuple[Path, SampleSummary],
) -> None:
    folder, summary = default_logs
    assert judge(folder) == Counter(summary.verdicts)
    assert all(summary.hard[name] >= 3 for name in HARD_VERDICTS)


def test_verdicts_hold_for_small_and_uneven_shapes(tmp_path: Path) -> None:
    for number, spec in enumerate(
        (
            SampleSpec(lines=1, days=3, files=5),
            SampleSpec(lines=40, days=1, files=40, seed=5),
            SampleSpec(lines=9_000, days=1, files=1, seed=6),
            SampleSpec(lines=700, days=9, files_per_day=13, seed=7),
        )
    ):
        summary = generate(spec, tmp_path / str(number))
        assert judge(tmp_path / str(number)) == Counter(summary.verdicts), spec


@pytest.mark.parametrize("name", [name for name in HARD_VERDICTS if name != DUPLICATE_LINE])
def test_hard_lines_get_the_verdict_that_they_are_meant_for(name: str) -> None:
    victim = Victim(
        head=b"owner bucket [05/Mar/2025:10:11:12 +0000] 192.0.2.7 - 0123456789ABCDEF",
        key=b"ds000001/sub-01/anat/sub-01_T1w.nii.gz",
        path=b"ds000001/sub-01/anat/sub-01_T1w.nii.gz",
        size=1_234,
        tail=b" - aGVsbG8= - TLS_AES_128_GCM_SHA256 - bucket.s3.amazonaws.com TLSv1.3 - - -\n",
    )
    # A real owner is long, which is what the torn head is torn from.
    victim = replace(victim, head=b"7" * 64 + victim.head[5:])
    line = make_hard_line(name, victim)
    assert line.endswith(b"\n")
    outcome = parse_record(line[:-1])
    match outcome:
        case Skipped(rule):
            found = f"skipped: {rule}"
        case Rejected(reason):
            found = f"rejected: {reason}"
        case Record():
            found = "extracted"
    assert found == HARD_VERDICTS[name]


def test_every_plain_line_has_the_documented_shape(plain_lines: list[bytes]) -> None:
    matches = [ORDINARY.fullmatch(line) for line in plain_lines]
    assert all(matches)
    tails = Counter(len(match["tail"].split()) for match in matches if match)
    # Tail fields from the object version (18) on: 18, 24, 25, 26 or 27 fields in all.
    assert set(tails) == {1, 7, 8, 9, 10}
    assert tails[1] < 0.02 * len(plain_lines) < tails[10]


def test_operations_and_statuses_are_believably_mixed(plain_lines: list[bytes]) -> None:
    matches = [match for match in map(ORDINARY.fullmatch, plain_lines) if match]
    total = len(matches)
    operations = Counter(match["operation"].decode() for match in matches)
    assert operations["REST.GET.OBJECT"] > 0.65 * total
    assert {
        "REST.HEAD.OBJECT",
        "REST.GET.BUCKET",
        "REST.PUT.OBJECT",
        "S3.EXPIRE.OBJECT",
        "BATCH.DELETE.OBJECT",
        "WEBSITE.GET.OBJECT",
    } <= operations.keys()
    gets = [match for match in matches if match["operation"] == b"REST.GET.OBJECT"]
    statuses = Counter(match["status"].decode() for match in gets)
    assert {"200", "206", "304", "403", "404", "416", "500", "503"} == set(statuses)
    assert statuses["200"] > statuses["206"] > statuses["404"] > statuses["416"]
    complete = [match["sent"] == match["size"] for match in gets if match["status"] == b"200"]
    assert 0.85 < sum(complete) / len(complete) < 0.99


def test_lines_hold_the_awkward_ordinary_things(plain_lines: list[bytes]) -> None:
    text = b"\n".join(plain_lines)
    for awkward in (
        b'HTTP/2.0" 200',
        b'HTTP/2" 200',
        b'HTTP/1.0" 200',
        b'.json" 200',
        b'filename%3D"',
        b"X-Amz-Signature=",
        b"%2520",
        b".zarr/0/0/1/",
        b"+0000] - AmazonS3 ",
        b"  arn:aws:iam::",
    ):
        assert awkward in text, awkward
    assert re.search(rb"\+0000\] [0-9a-f.:]+  [0-9A-Z]{16} ", text), "no empty requester"


def test_popularity_is_skewed_and_requesters_return(plain_lines: list[bytes]) -> None:
    gets = [
        match
        for match in map(ORDINARY.fullmatch, plain_lines)
        if match and match["operation"] == b"REST.GET.OBJECT" and match["status"] == b"200"
    ]
    keys = {match["key"] for match in gets}
    datasets = Counter(match["key"].partition(b"/")[0] for match in gets).most_common()
    assert len(keys) > 2_000
    assert len(datasets) > 25
    assert datasets[0][1] > 10 * datasets[len(datasets) // 2][1] / 3
    days: dict[bytes, set[bytes]] = defaultdict(set)
    for line in plain_lines:
        fields = line.split(b" ", 5)
        days[fields[4]].add(fields[2][:12])
    assert sum(len(seen) > 1 for seen in days.values()) > 0.3 * len(days)


def test_files_are_named_after_their_events_and_some_events_are_late(
    default_logs: tuple[Path, SampleSummary],
) -> None:
    folder, _ = default_logs
    late = 0
    for path in log_files(folder):
        assert re.fullmatch(NAME, path.name)
        named = datetime.strptime(path.name[:19], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
        assert path.stat().st_mtime == named.timestamp()
        for record in split_records(read(path)):
            outcome = parse_record(record)
            if isinstance(outcome, Record):
                assert outcome.requested_at < named
                late += (named.date() - outcome.requested_at.date()) >= timedelta(days=1)
    assert late > 50


def test_dates_grow_with_quiet_weekends_and_one_burst(
    default_logs: tuple[Path, SampleSummary],
) -> None:
    folder, summary = default_logs
    lines: Counter[date] = Counter()
    for path in log_files(folder):
        lines[date.fromisoformat(path.name[:10])] += read(path).count(b"\n")
    expected = [SAMPLE_FIRST_DATE + timedelta(days=day) for day in range(14)]
    assert sorted(lines) == expected
    assert (summary.first_date, summary.last_date) == (expected[0], expected[-1])
    burst = max(lines, key=lambda day: lines[day])
    others = sorted(count for day, count in lines.items() if day != burst)
    assert lines[burst] > 2 * others[-1]
    assert lines[date(2025, 3, 8)] < lines[date(2025, 3, 7)] < lines[date(2025, 3, 14)]


def test_odd_files_are_there_by_default_and_not_in_plain(
    default_logs: tuple[Path, SampleSummary], tmp_path: Path
) -> None:
    folder, summary = default_logs
    raw = [path.read_bytes() for path in log_files(folder)]
    assert summary.odd_files["gzip"] == sum(c.startswith(b"\x1f\x8b") for c in raw) > 0
    assert summary.odd_files["duplicate"] == len(raw) - len(set(raw)) == 1
    assert summary.odd_files["unended"] == sum(not c.endswith(b"\n") for c in raw if not c.startswith(b"\x1f\x8b"))
    plain = generate(replace(SMALL, plain=True), tmp_path / "plain")
    assert (plain.files, plain.lines) == (SMALL.files, SMALL.lines)
    assert not plain.hard
    assert not plain.odd_files
    assert all(path.read_bytes().endswith(b"\n") for path in log_files(tmp_path / "plain"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "logs"
    generate(replace(SMALL, layout=layout), out)
    shapes = {
        "flat": NAME,
        "date": rf"(\d{{4}}/\d\d/\d\d)/{NAME}",
        "account": rf"\d{{12}}/us-east-2/openscience/(\d{{4}}/\d\d/\d\d)/{NAME}",
    }
    found: Counter[str] = Counter()
    for path in log_files(out):
        relative = path.relative_to(out).as_posix()
        for shape, pattern in shapes.items():
            match = re.fullmatch(pattern, relative)
            if match:
                found[shape] += 1
                assert not match.groups() or match[1].replace("/", "-") == path.name[:10]
    assert sum(found.values()) == len(log_files(out))
    assert set(found) == (set(shapes) if layout == "mixed" else {layout})


def test_plain_lines_do_not_depend_on_how_they_are_shared_out(tmp_path: Path) -> None:
    """Benchmarks compare few files with many: the lines must be the same, byte for byte."""
    base = SampleSpec(plain=True, days=1, total_bytes=3_000_000, files=2, layout="flat")
    shapes = {
        "few": base,
        "many": replace(base, files=900),
        "per_day": replace(base, files_per_day=31),
        "dates": replace(base, files=450, file_days=150, layout="date"),
    }
    lines, dates, files = {}, {}, {}
    for name, spec in shapes.items():
        files[name] = generate(spec, tmp_path / name).files
        lines[name] = sorted(all_lines(tmp_path / name))
        dates[name] = {path.name[:10] for path in log_files(tmp_path / name)}
    assert lines["few"] == lines["many"] == lines["per_day"] == lines["dates"]
    assert files == {"few": 2, "many": 900, "per_day": 31, "dates": 450}
    assert {name: len(days) for name, days in dates.items()} == {
        "few": 1,
        "many": 1,
        "per_day": 1,
        "dates": 150,
    }


def test_bytes_are_met_closely(tmp_path: Path) -> None:
    summary = generate(SampleSpec(total_bytes=5_000_000, files=10), tmp_path / "logs")
    assert summary.bytes == pytest.approx(5_000_000, rel=0.05)


def test_the_upstream_shape_scaled_down(tmp_path: Path) -> None:
    assert (UPSTREAM_BENCHMARK.files, UPSTREAM_BENCHMARK.days) == (21_264, 2_016)
    assert UPSTREAM_BENCHMARK.total_bytes == 79_000_000
    out = tmp_path / "logs"
    options = ["--like-upstream-benchmark", "--days", "42", "--files", "443", "--bytes", "1.6MB"]
    assert main([str(out), *options]) == 0
    paths = log_files(out)
    assert len(paths) == 443
    assert len({path.name[:10] for path in paths}) == 42
    assert all(re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{NAME}", str(p.relative_to(out))) for p in paths)
    assert sum(path.stat().st_size for path in paths) == pytest.approx(1_600_000, rel=0.05)


def test_addresses_are_varied_and_seldom_reserved(
    default_logs: tuple[Path, SampleSummary],
) -> None:
    folder, _ = default_logs
    addresses = addresses_in(folder)
    assert len(addresses) > 1_000
    reserved = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
    uses: Counter[str] = Counter()
    for line in all_lines(folder):
        fields = line.split(b" ", 5)
        if len(fields) > 5 and fields[4].decode("ascii", "replace") in addresses:
            uses[fields[4].decode()] += 1
    reserved_uses = 0
    for text, packed in addresses.items():
        address = ip_address(text)
        assert len(packed) == 16
        assert ip_address(packed) == address or packed[12:] == address.packed
        if any(address in network for network in reserved):
            reserved_uses += uses[text]
        else:
            assert address.is_global
    assert 0 < reserved_uses < 0.05 * sum(uses.values())
    assert 0.1 < sum(":" in text for text in addresses) / len(addresses) < 0.4
    networks = {packed[:8] for text, packed in addresses.items() if ":" in text}
    assert len(networks) < sum(":" in text for text in addresses), "no shared /64"


def test_addresses_of_a_folder_written_by_hand(tmp_path: Path) -> None:
    head = b"owner bucket [05/Mar/2025:10:11:12 +0000] %b - ID REST.GET.OBJECT key\n"
    plain = head % b"192.0.2.9" + head % b"-" + head % b"300.1.2.3"
    (tmp_path / "sub").mkdir()
    (tmp_path / "one").write_bytes(plain)
    (tmp_path / "sub" / "two").write_bytes(gzip.compress(head % b"2001:db8::5"))
    assert addresses_in(tmp_path) == {
        "192.0.2.9": bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 9]),
        "2001:db8::5": bytes.fromhex("20010db8000000000000000000000005"),
    }


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    kept = tmp_path / "logs" / "kept"
    kept.write_text("mine")
    with pytest.raises(SourceError, match="not empty"):
        generate(SMALL, tmp_path / "logs")
    with pytest.raises(SourceError, match="--force"):
        ensure(SMALL, tmp_path / "logs")
    with pytest.raises(SourceError, match="not a folder"):
        generate(SMALL, kept)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert [path.name for path in log_files(tmp_path)] == ["kept"]
    ensure(SMALL, tmp_path / "logs", force=True)
    assert kept.read_text() == "mine"
    assert len(log_files(tmp_path / "logs")) == SMALL.files + 2


def test_the_command_is_repeatable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "logs"
    arguments = [str(out), "--lines", "500", "--days", "2", "--files", "10"]
    assert main(arguments) == 0
    before = snapshot(out)
    inode = log_files(out)[0].stat().st_ctime_ns
    assert main(arguments) == 0
    assert "already holds" in capsys.readouterr().out
    assert log_files(out)[0].stat().st_ctime_ns == inode
    assert main([*arguments, "--seed", "2"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert snapshot(out) == before
    assert main([*arguments, "--seed", "2", "--force"]) == 0
    assert main(arguments) == main([*arguments, "--seed", "2"]) == 0
    assert before.items() <= snapshot(out).items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "logs.stamp.json"]


def test_an_interrupted_generation_is_done_again(tmp_path: Path) -> None:
    out, stamp = tmp_path / "logs", tmp_path / "logs.stamp.json"
    ensure(SMALL, out)
    whole = snapshot(out)
    noted = json.loads(stamp.read_text())
    noted["generated"][0]["complete"] = False
    stamp.write_text(json.dumps(noted))
    for path in log_files(out)[40:]:
        path.unlink()
    log_files(out)[0].write_bytes(b"half")
    assert ensure(SMALL, out) is not None
    assert snapshot(out) == whole
    assert ensure(SMALL, out) is None


def test_a_stamp_without_its_folder_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs.stamp.json").write_text("not even JSON")
    assert ensure(SMALL, tmp_path / "logs") is not None
    for path in log_files(tmp_path / "logs"):
        path.unlink()
    for folder in sorted((tmp_path / "logs").rglob("*"), reverse=True):
        folder.rmdir()
    assert ensure(SMALL, tmp_path / "logs") is not None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"days": 0}, "days"),
        ({"lines": -5}, "lines"),
        ({"total_bytes": 0}, "total_bytes"),
        ({"files": 0}, "files"),
        ({"layout": "nested"}, "layout"),
        ({"seed": -1}, "seed"),
        ({"datasets": 1}, "datasets"),
        ({"days": 10**9}, "days"),
        ({"first_date": date(1970, 1, 1)}, "first_date"),
        ({"file_days": 10}, "file_days"),
        ({"file_days": 10, "plain": True}, "file_days"),
    ],
)
def test_senseless_options_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        replace(SampleSpec(), **changes)  # type: ignore[arg-type]


def test_the_command_line_refuses_with_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s3logx_assets.sample_logs", str(tmp_path / "logs")]
    refused = subprocess.run([*command, "--days", "0"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "days is 0" in refused.stderr
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("600MB", 600_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("79kb", 79_000),
        ("12", 12),
        ("12B", 12),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "12XB", "-3MB", "1e6", "5 M B"])
def test_senseless_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
