"""Loads a captioner and a picture model: by name, folder, Hub id or settings."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from a2i import hub, plugins
from a2i.captioner import Captioner
from a2i.captioner.folder import CARD_FILE, LEXICON_FILE, SETTINGS_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE, licence
from a2i.captioner.protocols import CaptionModel
from a2i.diffusion import Painter, PictureModel
from a2i.image_settings import named_style, styled
from a2i.names import (
    EMBEDDED,
    MINI,
    PLACE,
    chosen_settings,
    folder_or_hub_id,
    is_mini,
    name_of,
    named_settings,
    offered,
    with_revision,
)
from a2i.paths import MINI_CAPTIONER

if TYPE_CHECKING:
    from a2i.captioner.pretrained import PretrainedCaptioner

IN_FOLDER = [SETTINGS_FILE, WEIGHTS_FILE, LEXICON_FILE, CARD_FILE, f"{TOKENIZER_FOLDER}/*"]


def load_captioner(
    captioner: "str | Path | dict[str, Any] | CaptionModel",
    device: torch.device,
    dtype: str | None = None,
    revision: str | None = None,
) -> CaptionModel:
    """Load a captioner; one that is loaded already is given back.

    Args:
        captioner: name in `conf/captioner`, captioner folder, Hub id of one, settings as such a file holds them, or captioner.
        device: to load it to.
        dtype: `float32`, `bfloat16` or, for what is no captioner folder, `float16`; None for the captioner's own.
        revision: of a captioner on the Hub: branch, tag or commit; None for what its settings say, else the newest.

    Raises:
        FileNotFoundError: there is no such name, folder or repository, or no captioner in it.
        ValueError: the settings don't fit, or the captioner can't be loaded.
    """
    if isinstance(captioner, str | Path):
        captioner = chosen_settings("captioner", captioner)
    if not isinstance(captioner, dict):
        _refuse_dtype(dtype, "captioner")
        if revision is not None:
            raise ValueError(
                f"got captioner_revision={revision} with a captioner that is loaded already; expected None"
            )
        return captioner
    captioner = with_revision(captioner, revision) or {}
    kinds: dict[Any, Callable[..., CaptionModel]] = {
        f"{Captioner.__module__}.Captioner": _from_folder,
        "a2i.captioner.audio_language.AudioLanguageCaptioner": _audio_language,
        "a2i.captioner.whisper.WhisperCaptioner": _whisper,
    }
    settings = captioner | ({} if dtype is None else {"dtype": dtype})
    target = settings.pop("_target_", None)
    made: Any = kinds.get(target) or plugins.part(target)
    if made is None:
        raise ValueError(
            f"got a captioner with _target_={target!r}; expected {' or '.join(kinds)}{plugins.not_allowed(str(target))}: build"
            " any other and give the object"
        )
    try:
        return made(device=device, **settings)
    except TypeError as error:
        raise ValueError(f"{target}: {error}; expected settings as in conf/captioner") from error


def load_painter(
    image: str | Path | dict[str, Any] | PictureModel | None,
    device: torch.device,
    dtype: str | None = None,
    style: str | dict[str, Any] | None = None,
) -> PictureModel | None:
    """Load a picture model; one that is loaded already is given back, and None, `none` or no settings at all are none.

    Args:
        image: name in `conf/image`, local folder or Hub id in diffusers' format, `Painter`'s arguments, or picture model.
        device: to load it to.
        dtype: of the weights: `float32`, `bfloat16`, `float16`, or None for the settings' own.
        style: name in `conf/style`, or settings as such a file holds them; the embedded model draws without.

    Raises:
        FileNotFoundError: there is no such name or folder.
        ValueError: the settings don't fit, or the model can't be loaded.
    """
    if isinstance(image, str | Path):
        named = named_settings("image", image)
        image = {"model": str(folder_or_hub_id(image, "image"))} if named is None else named
    if image is None or image == {}:
        return None
    if not isinstance(image, dict):
        _refuse_dtype(dtype, "picture model")
        if named_style(style):
            raise ValueError(f"got style={style} with a picture model that is loaded already; expected none")
        return image
    settings = styled(image, named_style(style)) | ({} if dtype is None else {"dtype": dtype})
    expected = f"{Painter.__module__}.Painter"
    target = settings.pop("_target_", expected)
    made: Any = Painter if target == expected else plugins.part(target)
    if target == expected and settings.get("licence") is None:
        settings["licence"] = licence_of("image", settings)
    if made is None:
        raise ValueError(
            f"got a picture model with _target_={target!r}; expected {expected}{plugins.not_allowed(str(target))}: build any"
            " other and give the object"
        )
    try:
        return made(**settings, device=device)
    except TypeError as error:
        raise ValueError(f"{target}: {error}; expected its arguments") from error


def licence_of(group: str, settings: dict[str, Any]) -> str | None:
    """The licence of a model's weights, before anything of it is downloaded or loaded; None where it is not known yet.

    Args:
        group: `captioner` or `image`.
        settings: as `conf/<group>` has them.
    """
    place = settings.get(PLACE[group], settings.get("model"))
    own = str(settings.get("_target_", "a2i.")).startswith("a2i.")  # what a plug-in's settings mean is not known
    if not own or settings.get("licence") is not None or not isinstance(place, str):
        return settings.get("licence")
    if group == "captioner" and place in (MINI, EMBEDDED):
        return licence(MINI_CAPTIONER)
    if (folder := Path(place).expanduser()).is_dir():
        return licence(folder)
    try:
        found = hub.look_up(place, settings.get("revision"))
    except hub.HubError:
        return None  # loading it says why it can't be had
    return found.licence if found else None


def licence_line(group: str, settings: dict[str, Any]) -> str | None:
    """What is shown of a model before its first use, which may be a download of gigabytes; None without a known licence."""
    known = licence_of(group, settings)
    if known is None:
        return None
    if group == "captioner":
        return f"captions by {'a2i-mini-captioner' if is_mini(settings) else name_of(settings)}, licence: {known}"
    model = settings.get("model", "the painter")
    return f"pictures by {'a2i-mini-painter' if model == EMBEDDED else model}, licence: {known}"


def captioner_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a captioner: `mini` or `embedded` for that which comes with a2i, a path, or a Hub id to download.

    Args:
        source: as above.
        revision: of a Hub id: branch, tag or commit; None for the newest.

    Raises:
        FileNotFoundError: there is no such folder or repository.
    """
    if source in (MINI, EMBEDDED):
        return MINI_CAPTIONER
    place = folder_or_hub_id(source, "captioner")
    return _download(place, revision) if isinstance(place, str) else place


def _from_folder(
    folder: str | Path, device: torch.device, dtype: str | None = None, revision: str | None = None
) -> Captioner:
    place = captioner_folder(folder, revision)
    try:
        captioner = Captioner.load(place, device)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, or one of {', '.join(offered('captioner'))}") from error
    if dtype not in (None, "float32", "bfloat16"):
        raise ValueError(f"got dtype={dtype} for the captioner in {place}; expected float32 or bfloat16")
    captioner.decoding = captioner.decoding_with(precision=dtype)
    if place not in (Path(folder).expanduser(), MINI_CAPTIONER):  # downloaded: not called after its place in the cache
        captioner.name = str(folder) if revision is None else f"{folder}@{revision}"
    return captioner


# Not before they are asked for: they take a second of their own to import.
def _audio_language(**settings: Any) -> "PretrainedCaptioner":
    from a2i.captioner.audio_language import AudioLanguageCaptioner

    return AudioLanguageCaptioner(**settings)


def _whisper(**settings: Any) -> "PretrainedCaptioner":
    from a2i.captioner.whisper import WhisperCaptioner

    return WhisperCaptioner(**settings)


def _download(repository: str, revision: str | None) -> Path:
    """A captioner folder of the Hub, from the cache where it is there already."""
    from huggingface_hub import snapshot_download

    try:
        hub.look_up(repository, revision, SETTINGS_FILE)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=IN_FOLDER))
    except (*hub.failures(), ValueError) as error:
        raise FileNotFoundError(
            f"{repository}: no such folder here, and could not load it from the Hub ({hub.why(error)});"
            f" expected a captioner folder, the Hub id of one, or one of {', '.join(offered('captioner'))}"
        ) from error


def _refuse_dtype(dtype: str | None, what: str) -> None:
    if dtype is not None:
        raise ValueError(
            f"got dtype={dtype} with a {what} that is loaded already; expected dtype=None, or a name to load"
        )
