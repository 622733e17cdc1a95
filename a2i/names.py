"""What `captioner=` and `image=` take alike: a name in the configuration, a folder, or the id of a Hub repository."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from a2i import plugins
from a2i.errors import one_line

CAPTIONER, PAINTER = "a2i.captioner.model.Captioner", "a2i.diffusion.Painter"  # the targets that a place belongs to
PLACE = {"captioner": "folder", "image": "model"}  # the setting of each group that holds a folder or a Hub id
MINI, EMBEDDED = "mini", "embedded"  # the models that come with a2i: their name, and their place
MISSING = "???"  # stands in the configuration for a value that the user must give
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def named_settings(group: str, name: str | Path) -> dict[str, Any] | None:
    """The settings that the configuration has under a name, with what they refer to, such as variables of the environment;
    None where it has no such name.

    Args:
        group: `captioner` or `image`.
        name: such as `mini`.

    Raises:
        ValueError: a setting has no value, or refers to what is not there.
    """
    settings = _read(group, name)
    if missing := [key for key, value in (settings or {}).items() if value == MISSING]:
        raise ValueError(
            f"got {group}={name}, where {', '.join(missing)} has no value ({MISSING}); expected a folder, a Hub id, or"
            f" settings with one, such as {{'{missing[0]}': …}}"
        )
    return settings


def _read(group: str, name: str | Path) -> dict[str, Any] | None:
    """`named_settings`, with `???` where a value is missing."""
    file = plugins.chosen(group, name) if isinstance(name, str) and name in plugins.choices(group) else None
    if file is None:
        return None
    from omegaconf import OmegaConf  # here: reading a name needs it, and knowing the names does not
    from omegaconf.errors import OmegaConfBaseException

    try:
        settings: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"got {group}={name}: {one_line(error)} ({file})") from error
    return settings


def chosen_settings(group: str, source: str | Path) -> dict[str, Any]:
    """The settings of a captioner or picture model.

    Args:
        group: `captioner` or `image`.
        source: name in the configuration, folder, or Hub id.

    Raises:
        FileNotFoundError: it is none of these.
        ValueError: as `named_settings`.
    """
    if (settings := named_settings(group, source)) is not None:
        return settings
    template: dict[str, Any] = _read(group, "folder") or {}
    return template | {PLACE[group]: str(folder_or_hub_id(source, group))}


def with_revision(captioner: dict[str, Any] | None, revision: str | None) -> dict[str, Any] | None:
    """A captioner's settings with the revision that `captioner_revision=` asks for, of a model on the Hub.

    Raises:
        ValueError: there is none to ask for: the captioner is a folder, comes with a2i, or is none at all.
    """
    if revision is None:
        return captioner
    place = (captioner or {}).get(PLACE["captioner"] if is_folder(captioner or {}) else "model")
    if not isinstance(place, str) or not HUB_ID.fullmatch(place) or os.path.exists(os.path.expanduser(place)):
        raise ValueError(
            f"got captioner_revision={revision} with {place or 'no captioner'}, which is not on the Hub; expected it with a Hub"
            " id: captioner=OWNER/NAME"
        )
    return {**(captioner or {}), "revision": str(revision)}


def is_place(source: str | Path) -> bool:
    """Whether a text is a path that exists, or can be a Hub id."""
    place = os.path.expanduser(source)
    if os.path.exists(place):
        return True
    # Where there is a folder of the first name, the second is what is mistyped.
    return isinstance(source, str) and bool(HUB_ID.fullmatch(source)) and not Path(source).parent.exists()


def folder_or_hub_id(source: str | Path, group: str) -> Path | str:
    """The folder of that path, or the Hub id as it is. A typo is answered without the network.

    Raises:
        ValueError: the text is blank, which would mean the working folder.
        FileNotFoundError: it can be neither.
    """
    if isinstance(source, str) and not source.strip():
        raise ValueError(
            f"{group}= is empty; expected one of {', '.join(offered(group))}, a folder (. for this one), or a Hub id"
            " (OWNER/NAME). Is a variable unset?"
        )
    place = Path(source).expanduser()
    if place.exists() or (isinstance(source, Path) and place.parent.exists()):
        return place
    if isinstance(source, str) and is_place(source):
        return source
    near = get_close_matches(str(source), offered(group), 1)
    hint = f"; did you mean {near[0]}?" if near else plugins.offer(group, str(source))
    raise FileNotFoundError(
        f"got {source}{lacking(source) or ', which is no folder here'}; expected one of {', '.join(offered(group))}, a folder,"
        f" or a Hub id (OWNER/NAME){hint}"
    )


def offered(group: str) -> list[str]:
    """The choices of a group that a message offers: without `folder`, which means nothing until its place is given."""
    return [name for name in plugins.choices(group) if group not in PLACE or name != "folder"]


def lacking(source: str | Path) -> str:
    """What is said of a path whose folder exists and that doesn't, as a part of a message; empty for any other."""
    place = Path(source).expanduser()
    named = len(place.parts) > 1 and place.parent.is_dir() and not place.exists()
    return f"; {place.parent} is a folder here, and has no {place.name}" if named else ""


def is_folder(captioner: Mapping[str, Any]) -> bool:
    """Whether settings name a captioner folder, or the Hub id of one: a plug-in's may have a `folder` of another kind."""
    return captioner.get("_target_") == CAPTIONER


def deciding_captioner(captioner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what an audio-language model or its like says, for the record of results: one that came later
    counts where it changes something, so that captions from before still count as made."""
    return {name: value for name, value in captioner.items() if (name, value) != ("load_in_4bit", False)}


def is_mini(captioner: Mapping[str, Any]) -> bool:
    """Whether settings are those of the captioner that comes with a2i."""
    return is_folder(captioner) and captioner.get(PLACE["captioner"]) in (MINI, EMBEDDED)


def name_of(captioner: Mapping[str, Any]) -> str:
    """What a captioner is called: the folder or Hub id that its settings hold, behind `@` the revision; `mini` for the one
    that comes with a2i."""
    if is_mini(captioner):
        return MINI
    name = str(captioner.get(PLACE["captioner"] if is_folder(captioner) else "model", "captioner"))
    revision = captioner.get("revision") if is_folder(captioner) else None
    return name if revision is None else f"{name}@{revision}"
