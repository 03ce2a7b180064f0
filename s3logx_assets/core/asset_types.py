"""Asset types: classes of files by the ending of their path, as an archive's weekly report divides its traffic.

A type is a name and its suffixes. The longest suffix that a path ends with decides, whatever its case; what none fits
is of the last type, `Miscellaneous`. Suffixes are compared with the path as logged, so a Zarr store, which is one asset,
ends in `.zarr`. What is counted by type does not belong here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import SettingsError

OTHER = "Miscellaneous"
MAX_TYPES = 50

_NAME = re.compile(r"[^\W_][\w &()+./-]{0,59}")
_SUFFIX = re.compile(r"\.[!-:<-~]{1,59}")
_HELP = (
    "names with their suffixes, such as `Video=.mp4,.avi;Tables=.csv,.tsv`, or the path of a JSON file such as "
    '{"Video": [".mp4", ".avi"]}'
)


@dataclass(frozen=True)
class AssetTypes:
    """Types by name, each with its suffixes, lower case and beginning with a dot. `parse_asset_types` makes it."""

    suffixes: tuple[tuple[str, tuple[str, ...]], ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The types in the order of the setting, and last the one of all other paths."""
        return (*(name for name, _ in self.suffixes), OTHER)

    @cached_property
    def digest(self) -> str:
        """Changes whenever some path may be of another type."""
        return text_digest("asset types/v1", json.dumps(self.suffixes))

    def classify(self, paths: pa.Array) -> NDArray[np.int64]:
        """Paths (n,) string without nulls -> the place of each one's type in `names`, (n,)."""
        longest = max(len(suffix) for _, own in self.suffixes for suffix in own)
        # Many paths have few ends; in simple case mapping a character stays one.
        ends = pc.utf8_slice_codeunits(paths, -longest).dictionary_encode()
        lower = pc.utf8_lower(ends.dictionary)
        place = np.full(len(lower), len(self.suffixes), np.int64)
        shortest_first = sorted(
            ((suffix, number) for number, (_, suffixes) in enumerate(self.suffixes) for suffix in suffixes),
            key=lambda each: len(each[0]),
        )
        for suffix, number in shortest_first:  # so that a longer one has the last word
            place[pc.ends_with(lower, suffix).to_numpy(zero_copy_only=False)] = number
        return np.asarray(place[ends.indices.to_numpy()])


def asset_types(suffixes: Mapping[str, Sequence[str]]) -> AssetTypes:
    """The types of this mapping from names to suffixes.

    Raises SettingsError for a name or suffix that is not legal, for a suffix of two types and for more than 50 types.
    """
    types = []
    for name, own in suffixes.items():
        if not _NAME.fullmatch(name) or name in (OTHER, "week_start") or name != name.strip():
            raise _wrong(f"the name {name!r} is not legal: letters, digits and blanks, at most 60, not {OTHER}")
        if not own or not all(isinstance(suffix, str) and _SUFFIX.fullmatch(suffix) for suffix in own):
            raise _wrong(f"a suffix of {name!r} is not legal: a dot, then visible ASCII characters")
        types.append((name, tuple(sorted({suffix.lower() for suffix in own}))))
    every = [suffix for _, own in types for suffix in own]
    twice = sorted({suffix for suffix in every if every.count(suffix) > 1})
    if twice:
        raise _wrong(f"the suffix {twice[0]!r} belongs to two types")
    if not 1 <= len(types) <= MAX_TYPES:
        raise _wrong(f"there are {len(types)} types, not 1 to {MAX_TYPES}")
    return AssetTypes(tuple(types))


def parse_asset_types(text: str) -> AssetTypes:
    """The types that a setting `Name=.suffix,.suffix;Name=.suffix` or a JSON object of the same speaks of. Raises
    SettingsError."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            raise _wrong("the JSON is not valid") from None
        if not all(isinstance(own, list) for own in found.values()):
            raise _wrong("the JSON is not an object of lists")
        return asset_types(found)
    suffixes: dict[str, list[str]] = {}
    for part in text.strip().strip(";").split(";"):
        name, equals, own = part.partition("=")
        if not equals or name.strip() in suffixes:
            raise _wrong(f"{part!r} has no `=`, or its name comes twice")
        suffixes[name.strip()] = [suffix.strip() for suffix in own.split(",")]
    return asset_types(suffixes)


def _wrong(what: str) -> SettingsError:
    return SettingsError(f"S3LOGX_ASSET_TYPES: {what}; it must be {_HELP}")


# Of neuroscience archives: recordings of the brain's activity, volumes and images of it, films of behaviour. Magnetic
# resonance images count as microscopy does: as imaging of tissue, the only class for images there is.
DEFAULT = asset_types(
    {
        "Neurophysiology": (
            *(".nwb", ".nwb.zarr", ".edf", ".bdf", ".set", ".fdt", ".vhdr", ".vmrk", ".eeg", ".cnt", ".mff", ".fif"),
            *(".ds", ".sqd", ".abf", ".smr", ".smrx", ".plx", ".pl2", ".nev", ".ns5", ".ns6", ".rhd", ".rhs", ".mefd"),
        ),
        "Microscopy": (
            *(".zarr", ".ome.zarr", ".ngff", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.btf", ".btf", ".nd2"),
            *(".czi", ".lif", ".oib", ".oif", ".svs", ".ndpi", ".ims", ".jp2", ".nii", ".nii.gz", ".mgz", ".dcm"),
        ),
        "Video": (".mp4", ".avi", ".mov", ".mkv", ".wmv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv"),
    }
)
