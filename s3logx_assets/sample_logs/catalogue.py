"""What the sample archive holds: datasets, their object keys, sizes and versions.

Path shapes are those of public archives (BIDS trees, NWB files, Zarr chunks, a few loose keys at
the root). Who asks for a key, and how a log line looks, does not belong here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from s3logx_assets.sample_logs.randomness import (
    VERSION_LETTERS,
    Floats,
    Ints,
    Pieces,
    make_rng,
    pieces,
    random_texts,
    zipf_steps,
)

BIDS, NWB, ZARR, LOOSE = range(4)
# Repeated over the datasets: about half BIDS, a third NWB, the rest Zarr.
_FAMILIES = (BIDS, NWB, BIDS, BIDS, ZARR, NWB, BIDS, NWB, BIDS, BIDS, NWB, ZARR)

_LOOSE_KEYS = (
    ("index.html", 5_120),
    ("robots.txt", 68),
    ("favicon.ico", 15_086),
    ("README.md", 3_871),
    ("catalogue.json.gz", 1_482_113),
)
# S3 logs a key URL-encoded twice, the request line shows it encoded once.
_ENCODED_NAMES = (
    "Session%20notes%20(v2).txt",
    "sub-01_acq-na%C3%AFve_T1w.nii.gz",
    "figures/overview%20%26%20methods.png",
    "stimuli/%E9%9F%B3%E5%A3%B0_01.wav",
    "code/fit+plot.py",
)
_PROBES = (
    ".env",
    ".git/config",
    "wp-login.php",
    "wp-content/plugins/hellopress/wp_filemanager.php",
    "admin/config.php",
    "phpinfo.php",
    "backup.sql",
    "sitemap.xml",
    "apple-touch-icon.png",
    "vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
)


@dataclass(frozen=True)
class Catalogue:
    """All keys, dataset by dataset; dataset `i` owns the shares in [i, i + 1) of `key_steps`.

    `keys` are as logged, `paths` as in a request line, `sizes` in bytes; `ok_blocks` is each key's
    block of a complete download. `family` is per dataset, the last dataset being the loose keys.
    """

    names: list[bytes]
    family: npt.NDArray[np.int64]
    dataset_steps: Floats
    keys: list[bytes]
    paths: list[bytes]
    sizes: Ints
    key_steps: Floats
    get_requests: Pieces
    head_requests: Pieces
    ok_blocks: Pieces
    versions: Pieces
    missing_requests: Pieces


@lru_cache(maxsize=1)
def build_catalogue(seed: int, datasets: int) -> Catalogue:
    """`datasets` datasets with some 300 keys each, the most popular first, and the loose keys."""
    rng = make_rng(seed, 1)
    names: list[str] = []
    families: list[int] = []
    keys: list[str] = []
    sizes: list[int] = []
    steps: list[Floats] = []
    for rank in range(datasets):
        family = _FAMILIES[rank % len(_FAMILIES)]
        number = int(rng.random() * 6_000) * 10 + rank % 10
        name = f"ds{number % 6_900:06d}" if family == BIDS else f"{number % 1_500:06d}"
        while name in names:
            name = name[:-4] + f"{(int(name[-4:]) + 7) % 10_000:04d}"
        # Popular datasets tend to be the larger ones.
        scale = (0.5 + rng.random()) * (1.0 + 3.0 / (rank + 1))
        shaped = list(_FAMILY_KEYS[family](name, scale, rng))
        names.append(name)
        families.append(family)
        keys += [key for key, _ in shaped]
        sizes += [size for _, size in shaped]
        steps.append(rank + _shuffled_zipf(len(shaped), rng))
    names.append("")
    families.append(LOOSE)
    keys += [key for key, _ in _LOOSE_KEYS]
    sizes += [size for _, size in _LOOSE_KEYS]
    steps.append(datasets + zipf_steps(len(_LOOSE_KEYS), 1.0, 1.0))

    # `+` stays as it is; every `%` of a request line is `%25` in the key.
    paths = [key.encode("ascii") for key in keys]
    logged = [path.replace(b"%", b"%25") for path in paths]
    versioned = random_texts(rng, len(keys), 32, VERSION_LETTERS, prefix=b" ")
    has_version = rng.random(len(keys)) < 0.6
    shares = np.append(zipf_steps(datasets, 0.9, 1.5) * 0.994, 1.0)
    return Catalogue(
        names=[name.encode("ascii") for name in names],
        family=np.array(families, dtype=np.int64),
        dataset_steps=shares,
        keys=logged,
        paths=paths,
        sizes=np.array(sizes, dtype=np.int64),
        key_steps=np.concatenate(steps),
        get_requests=pieces(b' REST.GET.OBJECT %b "GET /%b' % pair for pair in zip(logged, paths, strict=True)),
        head_requests=pieces(b' REST.HEAD.OBJECT %b "HEAD /%b' % pair for pair in zip(logged, paths, strict=True)),
        ok_blocks=pieces(b"200 - %d %d " % (size, size) for size in sizes),
        versions=pieces(
            text if versioned_key else b" -" for text, versioned_key in zip(versioned, has_version, strict=True)
        ),
        missing_requests=_missing_requests(paths, rng),
    )


def _shuffled_zipf(count: int, rng: np.random.Generator) -> Floats:
    weights = 1.0 / (np.arange(count) + 5.0) ** 0.8
    weights = weights[np.argsort(rng.random(count), kind="stable")]
    return np.asarray(np.cumsum(weights) / weights.sum())


def _missing_requests(paths: list[bytes], rng: np.random.Generator) -> Pieces:
    """Keys that nobody stored: probes of scanners first, then stale links and empty chunks."""
    missing = [probe.encode("ascii") for probe in _PROBES]
    for position in (rng.random(300) * len(paths)).astype(int).tolist():
        path = paths[position]
        stem, _, last = path.rpartition(b"/")
        missing.append(stem + b"/9" + last if b".zarr/" in path else path + b".old")
    return pieces(b' REST.GET.OBJECT %b "GET /%b' % (path.replace(b"%", b"%25"), path) for path in missing)


def _skewed_size(rng: np.random.Generator, typical: int, spread: float) -> int:
    """Bytes around a typical size; a sum of uniforms in the exponent stands in for a log-normal."""
    shift = float(rng.random(4).sum()) - 2.0
    return max(1, int(typical * 2.0 ** (2.5 * spread * shift)))


def _bids_keys(name: str, scale: float, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """An OpenNeuro-like tree."""
    size = partial(_skewed_size, rng)
    for file, typical in (
        ("dataset_description.json", 900),
        ("participants.tsv", 2_500),
        ("participants.json", 1_800),
        ("README", 4_000),
        ("CHANGES", 600),
    ):
        yield f"{name}/{file}", size(typical, 0.4)
    yield f"{name}/sourcedata/{_ENCODED_NAMES[int(rng.random() * 5)]}", size(90_000, 0.8)
    electric = rng.random() < 0.3
    sessions = 1 + int(rng.random() * 2.4)
    task = ("rest", "nback", "faces", "effortmixedgambles", "music")[int(rng.random() * 5)]
    for subject in range(1, 2 + int(18 * scale)):
        for session in range(1, sessions + 1):
            ses, in_ses = ("", "") if sessions == 1 else (f"_ses-{session:02d}", f"/ses-{session:02d}")
            stem = f"sub-{subject:02d}{ses}"
            root = f"{name}/sub-{subject:02d}{in_ses}"
            if electric:
                run = f"{root}/eeg/{stem}_task-{task}"
                yield f"{run}_eeg.set", size(6_000_000, 0.5)
                yield f"{run}_eeg.fdt", size(180_000_000, 0.6)
                yield f"{run}_channels.tsv", size(1_900, 0.2)
                yield f"{run}_events.tsv", size(24_000, 0.6)
                continue
            yield f"{root}/anat/{stem}_T1w.nii.gz", size(9_000_000, 0.3)
            yield f"{root}/anat/{stem}_T1w.json", size(1_500, 0.2)
            for run_number in (1, 2):
                run = f"{root}/func/{stem}_task-{task}_run-{run_number:02d}"
                yield f"{run}_bold.nii.gz", size(60_000_000, 0.6)
                yield f"{run}_bold.json", size(1_900, 0.2)
                yield f"{run}_events.tsv", size(6_000, 0.6)


def _nwb_keys(name: str, scale: float, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """A DANDI-like flat dataset of large files."""
    size = partial(_skewed_size, rng)
    yield f"{name}/dandiset.yaml", size(9_000, 0.5)
    kind = ("ecephys", "behavior+ophys", "ecephys+image", "icephys")[int(rng.random() * 4)]
    for subject in range(1, 2 + int(40 * scale)):
        animal = f"sub-{'MWR'[subject % 3]}{300 + 7 * subject}"
        for session in range(1 + int(rng.random() * 5)):
            day = 20_210_101 + 100 * int(rng.random() * 12) + int(rng.random() * 28)
            stem = f"{name}/{animal}/{animal}_ses-{day}T{9 + session:02d}1500_{kind}"
            yield f"{stem}.nwb", size(400_000_000, 1.4)
            if rng.random() < 0.1:
                yield f"{stem}/external_file_0.mp4", size(90_000_000, 0.7)


def _zarr_keys(name: str, scale: float, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """Images in chunks: each a little object of its own."""
    size = partial(_skewed_size, rng)
    yield f"{name}/dandiset.yaml", size(7_000, 0.4)
    for subject in range(1, 2 + int(3 * scale)):
        if subject % 2:
            store = f"{name}/sub-{subject}/sub-{subject}_sample-1_stain-NeuN_SPIM.ome.zarr"
        else:
            store = f"{name}/sub-{subject}/lfp.zarr"
        yield f"{store}/.zattrs", size(3_000, 0.3)
        yield f"{store}/.zgroup", 24
        for level in range(3):
            yield f"{store}/{level}/.zarray", size(420, 0.1)
            side = 8 >> level
            for y in range(side):
                for x in range(side):
                    chunk = f"{store}/{level}/0/{y}/{x}" if subject % 2 else f"{store}/{level}/{y}.{x}"
                    yield chunk, size(400_000, 0.7)


_FAMILY_KEYS = {BIDS: _bids_keys, NWB: _nwb_keys, ZARR: _zarr_keys}
