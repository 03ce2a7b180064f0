"""The logs that are measured on: made once by the project's own generator, and used again."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from s3logx_assets.sample_logs import UPSTREAM_BENCHMARK, SampleSpec, ensure

_LINES = SampleSpec(days=1, total_bytes=600_000_000, layout="flat", plain=True)

# `small` and `sparse` hold the lines of `large`, in other files.
_SPECS = {
    "large": replace(_LINES, files=8),
    "small": replace(_LINES, files=20_000),
    "sparse": replace(_LINES, files=20_000, file_days=2_000, layout="date"),
    "upstream": UPSTREAM_BENCHMARK,
    "huge": replace(_LINES, total_bytes=4_000_000_000, files=40),
    "month": replace(_LINES, days=30, files=3_000, layout="date"),
}
_WARM_UP = replace(_LINES, total_bytes=2_000_000, files=4)


@dataclass(frozen=True, slots=True)
class BenchData:
    """Folders of sample logs below one folder, `scale` times their full size."""

    root: Path
    scale: float

    def logs(self, name: str) -> Path:
        """The folder of that name, made if need be."""
        folder = self._folder(name)
        spec = _WARM_UP if name == "warm-up" else scaled(_SPECS[name], self.scale)
        free = shutil.disk_usage(self.root).free
        if not folder.exists() and free < 2 * (spec.total_bytes or 0):
            raise RuntimeError(f"{self.root} has {free / 1e9:.1f} GB left, too little for the logs of {name!r}")
        ensure(spec, folder)
        return folder

    def remove(self, name: str) -> None:
        """Deletes a folder that is too big to keep."""
        folder = self._folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.stamp.json").unlink(missing_ok=True)

    def _folder(self, name: str) -> Path:
        return self.root / (name if self.scale == 1 or name == "warm-up" else f"{name}-{self.scale:g}")


def scaled(spec: SampleSpec, scale: float) -> SampleSpec:
    """The same with so many times the bytes and, where they are many, the files and dates."""

    def times(number: int) -> int:
        return max(1, round(number * scale)) if number > 100 else number

    return replace(
        spec,
        total_bytes=times(spec.total_bytes or 0),
        files=times(spec.files),
        file_days=times(spec.file_days) if spec.file_days else None,
        days=times(spec.days),
    )
