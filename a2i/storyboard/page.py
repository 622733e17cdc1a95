"""Storyboard → `storyboard.html`: a player, a timeline, and the scenes with their pictures, which light up as it plays."""

import base64
import stat
from dataclasses import dataclass
from pathlib import Path

from a2i.errors import one_line
from a2i.report.media import embed_picture
from a2i.report.page import HERE as REPORT
from a2i.report.page import fill
from a2i.storyboard import Scene, Storyboard, clock
from a2i.storyboard.sound import mp3, write_mp3
from a2i.storyboard.told import Tell, nobody
from a2i.whole import not_written, whole, write_text

HERE = Path(__file__).parent
PAGE, SOUND = "storyboard.html", "storyboard.mp3"
EMBEDDED = 300.0  # seconds of the longest recording that the page itself holds: 3 MB
# Pixels of a picture's sides on the page, by the number of scenes up to which they are used: a page has 15 MB or less.
SIDES = ((100, 512), (400, 256), (1 << 62, 128))
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)  # seconds between ticks
TICKS = 8  # at most
LAST_TICK = 90.0  # percent: the text of a later one would stand beyond the end


@dataclass(frozen=True)
class Card:
    """A scene as the page shows it.

    Attributes:
        scene: itself.
        picture: data URI; None without a picture.
        note: why a picture that should be there is not; None otherwise.
        time: when it begins and ends.
    """

    scene: Scene
    picture: str | None
    note: str | None
    time: str


def write_page(storyboard: Storyboard, folder: Path, tell: Tell = nobody) -> Path:
    """Write the page, which works opened from disk and asks no network for anything.

    The sound of a recording of at most five minutes lies in the page; that of a longer one beside it, in `storyboard.mp3`.

    Returns:
        `storyboard.html`.

    Raises:
        OSError: it can't be written.
    """
    path = folder / PAGE
    player, note = _player(storyboard, folder, tell)
    side = next(side for most, side in SIDES if len(storyboard.scenes) <= most)
    cards = []
    for scene in storyboard.scenes:
        cards.append(_card(scene, side))
        tell("pictures of the page", len(cards), len(storyboard.scenes))
    facts = {
        "length": clock(storyboard.seconds),
        "scenes": f"{len(cards):,}",
        "captioner": storyboard.captioner,
        "pictures": storyboard.image_model or "none",
    } | ({"seed": str(storyboard.seed)} if storyboard.image_model else {})
    text = fill(
        [HERE, REPORT],
        "storyboard.html.j2",
        ["page.css", "storyboard.css"],
        "storyboard.js",
        {},
        title=storyboard.source.name,
        facts=facts,
        cards=cards,
        seconds=storyboard.seconds,
        ticks=ticks(storyboard.seconds),
        player=player,
        notes=[said for said in (storyboard.warning, note) if said],
        # `file:` and 'self' are this folder, opened from disk or served.
        media_sources="data:" if player is None or player.startswith("data:") else "file: 'self'",
    )
    write_text(path, text)
    return path


def _player(storyboard: Storyboard, folder: Path, tell: Tell) -> tuple[str | None, str | None]:
    """What the player plays; None, and why, where the recording can't be read again."""
    source, seconds = storyboard.source, storyboard.seconds
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            return None, "No sound: the recording came through a pipe, and can be read once only."
        if seconds <= EMBEDDED:
            return f"data:audio/mpeg;base64,{base64.b64encode(mp3(source, seconds, tell)).decode('ascii')}", None
    except (OSError, ValueError) as error:
        return None, f"No sound: {one_line(error)}"
    try:
        with whole(folder / SOUND) as partial:
            write_mp3(source, partial, seconds, tell)
    except ValueError as error:
        return None, f"No sound: {one_line(error)}"
    except OSError as error:
        raise not_written(folder / SOUND, error) from error
    return SOUND, None


def _card(scene: Scene, side: int) -> Card:
    time = f"{clock(scene.start)} to {clock(scene.end)}"
    try:
        return Card(scene, embed_picture(scene.image, side) if scene.image else None, None, time)
    except (OSError, ValueError) as error:
        return Card(scene, None, f"No picture: {one_line(error)}", time)


def ticks(seconds: float) -> list[tuple[float, str]]:
    """Ticks of a time axis from 0 to `seconds`: place in percent, and text such as `1:30`."""
    step = next((step for step in STEPS if seconds / step <= TICKS), STEPS[-1])
    places = [(round(100 * place / seconds, 2), clock(place)) for place in range(0, int(seconds) + 1, step)]
    return [(at, text) for at, text in places if at <= LAST_TICK]
