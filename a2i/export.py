"""`python -m a2i.export captioner=RUN to=FOLDER|hub:OWNER/NAME`: a trained captioner, ready for others, with a model card.

What is written is a captioner folder, so that it loads wherever a2i is installed, without what training needs; its README.md is
a model card in the Hub's format, and a few sounds lie beside it as examples.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from a2i import hub
from a2i.command_line import entry_point
from a2i.compose import check_out, checked, plain
from a2i.machine import begin_program
from a2i.model_card import SOUNDS, Example, card
from a2i.names import EMBEDDED, HUB_ID, MINI, PLACE, is_folder, name_of
from a2i.paths import MINI_CAPTIONER

if TYPE_CHECKING:
    from a2i.captioner import Captioner

TO_HUB = "hub:"
MADE = ("bell", "rain", "birdsong")  # examples that a2i makes, where none are named
LARGEST = 5_000_000  # bytes of an example


@dataclass(frozen=True)
class ExportSettings:
    """The settings of `conf/export.yaml`, checked; that file tells what each is."""

    captioner: dict[str, Any]
    to: str
    licence: str | None
    language: str
    trained_on: list[str] | None
    scores: str | None
    sounds: list[str] | None
    private: bool
    again: bool

    def __post_init__(self) -> None:
        if not is_folder(self.captioner):
            raise ValueError(
                f"got captioner={name_of(self.captioner)}, which is no folder; expected a run folder or a captioner folder"
            )
        if self.to.startswith(TO_HUB):
            if not HUB_ID.fullmatch(self.repository or ""):
                raise ValueError(f"got to={self.to}; expected a folder, or {TO_HUB}OWNER/NAME")
        else:
            check_out(self.to, "to")

    @property
    def repository(self) -> str | None:
        """Of the Hub; None for a folder."""
        return self.to.removeprefix(TO_HUB) if self.to.startswith(TO_HUB) else None


def check(settings: dict[str, Any]) -> ExportSettings:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `to`.
    """
    for key, what in (("captioner", "a run folder or a captioner folder"), ("to", f"a folder, or {TO_HUB}OWNER/NAME")):
        if settings.get(key) is None:
            raise ValueError(f"no {key} given; expected {key}={what} (--help tells more)")
    several = {key: [settings[key]] for key in ("sounds", "trained_on") if isinstance(settings[key], str)}
    return checked(ExportSettings, settings | several)


def export(settings: ExportSettings) -> str:
    """Write a captioner and its card to a folder, or to the Hub.

    Returns:
        the folder, or the page on the Hub.

    Raises:
        FileNotFoundError: there is no captioner, or a sound or the scores are not there.
        ValueError: the captioner can't be loaded, or something does not fit it.
        FileExistsError: there is something at the place already, and `again` is false.
        OSError: it can't be written, or the Hub does not take it.
    """
    from a2i.captioner import Captioner
    from a2i.captioner.folder import licence

    source = captioner_of(settings.captioner[PLACE["captioner"]])
    chosen = settings.licence or licence(source)
    if settings.repository is None:
        _check_free(Path(settings.to), source, settings.again)
    else:
        if chosen is None:
            raise ValueError(
                f"{source}: its card names no licence; expected licence= as the Hub names it, such as cc-by-4.0 (what the"
                " training data asks for) or mit"
            )
        _check_hub(settings.repository, settings.private, settings.again)
    captioner = Captioner.load(source)
    parent = Path(settings.to).absolute().parent if settings.repository is None else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as temporary:
        part = Path(temporary) / "captioner"
        examples = _examples(captioner, settings.sounds, Path(temporary) / "made")
        _copy(source, part, examples)
        text = card(
            settings.repository or Path(settings.to).name,
            source,
            captioner,
            examples,
            licence=chosen,
            language=settings.language,
            repository=settings.repository,
            trained_on=settings.trained_on,
            scores=settings.scores,
            examples_are_made=settings.sounds is None,
        )
        (part / "README.md").write_text(text, encoding="utf-8")
        if settings.repository is not None:
            return _upload(part, settings.repository, settings.private, settings.again)
        from a2i.captioner.folder import exchange

        place = Path(settings.to)
        exchange(part, place.resolve())
    return str(place)


def captioner_of(source: str) -> Path:
    """The captioner folder of a run, or the folder itself; `mini` is the one that comes with a2i.

    Raises:
        FileNotFoundError: there is none.
    """
    from a2i.captioner.folder import SETTINGS_FILE, standing

    if source in (MINI, EMBEDDED):
        return MINI_CAPTIONER
    folder = Path(source).expanduser()
    for place in (standing(folder), standing(folder / "captioner")):
        if (place / SETTINGS_FILE).is_file():
            return place
    if (folder / "checkpoints").is_dir():
        raise FileNotFoundError(
            f"{folder}: a run without a captioner, which training writes at its end; go on with it: python -m a2i.train"
            f" resume={folder}"
        )
    raise FileNotFoundError(f"{folder}: no captioner there; expected a run folder or a captioner folder")


def _check_free(place: Path, source: Path, again: bool) -> None:
    from a2i.captioner.folder import SETTINGS_FILE

    if place.resolve() == source.resolve():
        raise ValueError(f"got to={place}, which is the captioner itself; expected another folder")
    if not place.exists() or not any(place.iterdir()):
        return
    if not (place / SETTINGS_FILE).is_file():
        raise FileExistsError(f"{place}: holds something other than a captioner; expected an empty or new folder")
    if not again:
        raise FileExistsError(f"{place}: holds a captioner already; expected another to=, or again=true to replace it")


def _check_hub(repository: str, private: bool, again: bool) -> None:
    """Find out what would keep the Hub from taking it, before a model is loaded.

    Raises:
        OSError: there is no token, the Hub can't be reached, or it has something under that name and `again` is false, or
            something that everybody sees and `private` is true.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    asked_for = hub.is_offline() and not hub.went_offline()
    reason = "HF_HUB_OFFLINE=1 keeps this from being sent" if asked_for else hub.unreachable()
    if reason is not None:
        raise OSError(f"to={TO_HUB}{repository}: {reason}; to=FOLDER writes it here")
    if get_token() is None:
        raise OSError(
            f"to={TO_HUB}{repository}: the Hub has to know who sends it: {hub.LOG_IN} with a token that may write"
        )
    try:
        found = hub.asked(repository)
    except hub.HubError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError) and not isinstance(error.__cause__, GatedRepoError):
            return  # new, or private and another's, which is said when it is made
        raise OSError(f"to={TO_HUB}{repository}: {error}") from error
    if private and not found.private:
        raise FileExistsError(
            f"{repository}: the Hub has it as a public repository, which it stays; expected another name, private=false, or"
            " that you make it private on its page first"
        )
    if found.files - {".gitattributes"} and not again:
        raise FileExistsError(
            f"{repository}: the Hub has files under that name; expected another name, or again=true to put these in their"
            " place (the old ones stay in its history)"
        )


def _upload(folder: Path, repository: str, private: bool, again: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message="A captioner, by a2i.export",
            delete_patterns="*" if again else None,  # what was there before, in the same commit
        )
    except hub.failures() as error:
        raise OSError(f"to={TO_HUB}{repository}: the Hub did not take it ({hub.why(error)})") from error
    return str(made)


def _copy(source: Path, part: Path, examples: Sequence[Example]) -> None:
    """The captioner's own files, and nothing else that lies in its folder; and the examples."""
    from a2i.captioner.folder import LEXICON_FILE, SETTINGS_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE

    (part / SOUNDS).mkdir(parents=True) if examples else part.mkdir(parents=True)
    for name in (SETTINGS_FILE, WEIGHTS_FILE, LEXICON_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, part / name)
    shutil.copytree(source / TOKENIZER_FOLDER, part / TOKENIZER_FOLDER)
    for each in examples:
        shutil.copyfile(each.file, part / SOUNDS / each.name)


def _examples(captioner: "Captioner", sounds: list[str] | None, folder: Path) -> list[Example]:
    """The sounds that were named, or some that a2i makes, captioned.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is too large to lie beside weights, can't be read, or has another's name.
    """
    from a2i.captioner.batching import caption_many

    files = _made(folder) if sounds is None else [Path(sound).expanduser() for sound in sounds]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such sound; expected files in sounds=")
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file}: {file.stat().st_size:,} bytes; expected examples of at most {LARGEST:,}")
    if len({file.name for file in files}) < len(files):
        raise ValueError(f"got sounds={','.join(map(str, files))}; expected no two of the same name")
    found = []
    for file, result in zip(files, caption_many(captioner, files), strict=True):
        if isinstance(result, Exception):
            raise ValueError(f"{file}: can't be captioned ({result})") from result
        found.append(Example(file, file.name, result.candidates[0].caption))
    return found


def _made(folder: Path) -> list[Path]:
    from a2i.data.foley.recipe import FoleySettings, wav_of

    folder.mkdir()
    files = []
    for name in MADE:
        settings = FoleySettings(seed=1, alone=1.0, mixed=0.0, sequence=0.0, sources=(name,), max_seconds=5.5)
        file = folder / f"{name}.wav"
        file.write_bytes(wav_of(settings, "test", 0))
        files.append(file)
    return files


@entry_point("export")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    print(f"captioner in {(place := export(settings))}")
    name = settings.repository or place
    print(f"try it: python -m a2i.infer audio=FILE captioner={name} image=none")


def program() -> None:
    """The console script."""
    begin_program()
    main()


if __name__ == "__main__":
    program()
