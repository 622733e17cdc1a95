"""Clotho: recordings of 15 to 30 s, 44.1 kHz, five captions each (Drossos, Lipping and Virtanen, ICASSP 2020)."""

import csv
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from a2i.data import Clip
from a2i.data import download as web
from a2i.data.folder import MissingRecordingsError, locate, named_place, position, read_table

logger = logging.getLogger(__name__)

CAPTION_COLUMNS = tuple(f"caption_{number}" for number in range(1, 6))
OFFICIAL_SPLITS = {"train": "development", "val": "validation", "test": "evaluation"}
V1_VAL_SHARE = 0.1
ZENODO = "https://zenodo.org/records/{record}/files/{name}?download=1"
RECORDS = {"v1": 3490684, "v2": 4743815, "v2.1": 4783391}

# Number of recordings, then the MD5 of the archive, the captions and the metadata. The numbers of v1 are those of its
# caption tables, the others those in the documentation of aac-datasets. The checksums are those that aac-datasets
# (Labbeti/aac-datasets, src/aac_datasets/datasets/functional/clotho.py) checks; soundata's dcase23_task6a has the same
# for v2.1, and those of the v1 captions were compared with the files themselves.
_EVALUATION = (1045, "4569624ccadf96223f19cb59fe4f849f", "1b16b9e57cf7bdb7f13a13802aeb57e2",
               "13946f054d4e1bf48079813aac61bf77")  # fmt: skip
FILES: dict[str, dict[str, tuple[int, str, str, str]]] = {
    "v1": {
        "development": (2893, "e3ce88561b317cc3825e8c861cae1ec6", "dd568352389f413d832add5cf604529f",
                        "582c18ee47cebdbe33dce1feeab53a56"),
        "evaluation": _EVALUATION,
    },
    "v2": {
        "development": (3839, "eda144a5e05a60e6d2e37a65fc4720a9", "800633304e73d3daed364a2ba6069827",
                        "5fdc51b4c4f3468ff7d251ea563588c9"),
        "validation": (1045, "0475bfa5793e80f748d32525018ebada", "3109c353138a089c7ba724f27d71595d",
                       "f69cfacebcd47c4d8d30d968f9865475"),
        "evaluation": _EVALUATION,
    },
    "v2.1": {
        "development": (3839, "c8b05bc7acdb13895bb3c6a29608667e", "d4090b39ce9f2491908eebf4d5b09bae",
                        "170d20935ecfdf161ce1bb154118cda5"),
        "validation": (1045, "7dba730be08bada48bd15dc4e668df59", "5879e023032b22a2c930aaa0528bead4",
                       "2e010427c56b1ce6008b0f03f41048ce"),
        "evaluation": _EVALUATION,
    },
}  # fmt: skip
BYTES_A_RECORDING = round(22.5 * 44_100 * 2)  # the middle of 15 to 30 s, 16 bits


def read_split(
    csv_path: Path, folder: Path, advice: str = "put them there, under the names in the table"
) -> list[Clip]:
    """Every row of a Clotho-style caption table (file_name, caption_1 … caption_5) as a clip in `folder`.

    Raises:
        FileNotFoundError: there is no such table; or (`MissingRecordingsError`) recordings are missing, and which.
        ValueError: with the row's number: an empty caption, a name that came before, a missing column.
    """
    csv_path, folder = Path(csv_path), Path(folder)
    rows: dict[str, int] = {}
    places: dict[Path, int] = {}
    captions = []
    for number, cells in read_table(csv_path, ("file_name", *CAPTION_COLUMNS)):
        name = cells["file_name"]
        place = named_place(folder, name, f"{csv_path}, row {number}")
        if place in places:
            raise ValueError(
                f"{csv_path}, row {number}: {name!r} is already in row {places[place]}; remove one of them"
            )
        empty = [column for column in CAPTION_COLUMNS if not cells[column].strip()]
        if empty:
            raise ValueError(f"{csv_path}, row {number}: {name!r} has no text in {', '.join(empty)}; five are expected")
        rows[name] = places[place] = number
        captions.append(tuple(cells[column].strip() for column in CAPTION_COLUMNS))
    paths = locate(rows, folder, advice)
    return [Clip(name, paths[name], texts) for name, texts in zip(rows, captions, strict=True)]


class Clotho:
    """Clotho in its official layout: ``root/development/*.wav``, ``root/clotho_captions_development.csv`` and so on.

    ``"train"``, ``"val"`` and ``"test"`` are the development, validation and evaluation splits; those names are taken
    too. Version 1 has no validation split: a fixed tenth of its development split, by a hash of the file name, is
    ``"val"`` and the rest ``"train"``.

    Args:
        root: the folder.
        version: ``"v1"``, ``"v2"`` or ``"v2.1"`` (which mends broken recordings of v2).
        download: whether `prepare` fetches what is missing from Zenodo (6.5 GB for v2, and as much again unpacked).
        splits: the official splits that `prepare` downloads and checks; None for all.
    """

    def __init__(
        self,
        root: str | Path,
        version: str = "v2.1",
        download: bool = False,
        splits: str | Sequence[str] | None = None,
    ) -> None:
        if version not in FILES:
            raise ValueError(f"unknown version {version!r} of Clotho; expected one of {', '.join(FILES)}")
        self.root, self.version, self.download = Path(root), version, download
        chosen = [splits] if isinstance(splits, str) else splits or FILES[version]
        self.splits = list(dict.fromkeys(self._official(split) for split in chosen))

    def prepare(self) -> None:
        """Fetch what is missing if `download` is set, and check that tables and recordings of `splits` are there."""
        if self.download:
            self._fetch()
        for official in self.splits:
            self._read(official)
            self._warn_of_other_version(official)

    def clips(self, split: str) -> list[Clip]:
        """The clips of a split, in the table's order.

        Raises:
            FileNotFoundError: the table or recordings are missing, and which.
            ValueError: the split is unknown or not in this version, or the table can't be read.
        """
        clips = self._read(self._official(split))
        return [clip for clip in clips if self._belongs(clip.name, split)]

    def metadata(self, split: str) -> list[dict[str, str]]:
        """The rows of the official metadata table: file_name, keywords, sound_id, sound_link, start_end_samples,
        manufacturer, license. The table is in ISO-8859-1, unlike the captions."""
        path = self.root / f"clotho_metadata_{self._official(split)}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"no metadata table at {path}; {self._advice}")
        with path.open(encoding="ISO-8859-1", newline="") as file:
            return [row for row in csv.DictReader(file) if self._belongs(row["file_name"], split)]

    @property
    def _advice(self) -> str:
        record = f"https://zenodo.org/records/{RECORDS[self.version]}"
        return f"set data.download=true, or put there what {record} has (recordings unpacked)"

    def _official(self, split: str) -> str:
        official = OFFICIAL_SPLITS.get(split, split)
        if split == "val" and "validation" not in FILES[self.version]:
            return "development"
        if official not in FILES[self.version]:
            known = ", ".join([*OFFICIAL_SPLITS, *FILES[self.version]])
            raise ValueError(f"Clotho {self.version} has no split {split!r}; expected one of {known}")
        return official

    def _belongs(self, name: str, split: str) -> bool:
        if "validation" in FILES[self.version] or split not in ("train", "val"):
            return True
        return (position(name) < V1_VAL_SHARE) == (split == "val")

    def _table(self, official: str) -> Path:
        return self.root / f"clotho_captions_{official}.csv"

    def _read(self, official: str) -> list[Clip]:
        if not self._table(official).is_file():
            raise FileNotFoundError(f"no caption table at {self._table(official)}; {self._advice}")
        return read_split(self._table(official), self.root / official, self._advice)

    def _warn_of_other_version(self, official: str) -> None:
        md5 = hashlib.md5(self._table(official).read_bytes(), usedforsecurity=False).hexdigest()
        if md5 != FILES[self.version][official][2]:
            versions = [version for version, files in FILES.items() if official in files and files[official][2] == md5]
            whose = f"that of {versions[0]}" if versions else "no official one"
            logger.warning("%s is not the table of Clotho %s but %s", self._table(official), self.version, whose)

    def _fetch(self) -> None:
        def fetch(name: str, md5: str) -> Path:
            return web.fetch(self._url(name), self.root / name, md5)

        web.require_extra()
        self.root.mkdir(parents=True, exist_ok=True)
        incomplete = []
        for official in self.splits:
            _, _, captions, metadata = FILES[self.version][official]
            fetch(f"clotho_captions_{official}.csv", captions)
            fetch(f"clotho_metadata_{official}.csv", metadata)
            try:
                self._read(official)
            except MissingRecordingsError:
                incomplete.append(official)
        archives = {official: f"clotho_audio_{official}.7z" for official in incomplete}
        if archives:
            to_come = [self._bytes_to_come(official, name) for official, name in archives.items()]
            unpacked = sum(FILES[self.version][official][0] * BYTES_A_RECORDING for official in archives)
            what = f"Clotho {self.version} ({', '.join(archives)}; {sum(to_come) / 1e9:.1f} GB to download)"
            web.require_space(self.root, unpacked + max(to_come), what)  # each archive is removed once unpacked
        for official, name in archives.items():
            archive = fetch(name, FILES[self.version][official][1])
            web.unpack(archive, self.root / official)
            self._read(official)
            archive.unlink()

    def _url(self, name: str) -> str:
        return ZENODO.format(record=RECORDS[self.version], name=name)

    def _bytes_to_come(self, official: str, name: str) -> int:
        archive = self.root / name
        here = [path for path in (archive, web.part_of(archive, FILES[self.version][official][1])) if path.exists()]
        return max(0, web.remote_size(self._url(name)) - sum(path.stat().st_size for path in here))
