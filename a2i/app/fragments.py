"""What was heard and drawn, as pieces of HTML. All text is escaped: a file may have any name."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from a2i.app.drawing import Picture
from a2i.app.hearing import Look
from a2i.app.scenes import Board
from a2i.app.telling import Progress
from a2i.captioner.batching import CaptionResult
from a2i.licences import restriction
from a2i.report.figures import time_ticks
from a2i.storyboard import clock

KINDS = {".html": "text/html", ".vtt": "text/vtt", ".srt": "application/x-subrip"}  # of what can be saved


def length(seconds: float) -> str:
    """A length for reading: `5.2 seconds`, `3:05 minutes`, `10 minutes`."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + (" second" if seconds == 1 else " seconds")
    return f"{clock(seconds)} minutes" if seconds % 60 else f"{seconds / 60:g} minute" + ("" if seconds == 60 else "s")


def status(progress: Progress) -> str:
    """How far the work is, with a bar where that is known."""
    bar = (
        f'<progress value="{progress.done}" max="{progress.total}" aria-label="{escape(progress.doing)}"></progress>'
        if progress.total
        else ""
    )
    return f"<p>{escape(progress.doing)} …</p>{bar}"


def note(text: str) -> str:
    """A line about what was done."""
    return f"<p>{escape(text)}</p>"


def error(text: str) -> str:
    """What was wrong; a screen reader says it at once."""
    return f'<p class="error" role="alert">{escape(text)}</p>'


def sound(look: Look) -> str:
    """Player, waveform and spectrogram of a sound."""
    name = escape(look.name)
    part = f", of which this is the beginning of {length(look.shown)}" if look.shown < look.seconds else ""
    points = [
        f"{column} {-high:.3f}V{max(-low, -high + 0.02):.3f}" for column, (low, high) in enumerate(_extremes(look))
    ]
    ticks = "".join(f'<span style="left:{at}%">{escape(text)}</span>' for at, text in time_ticks(look.shown) if at < 97)
    return f"""<figure class="sound">
<figcaption>{name}, {length(look.seconds)}{part}</figcaption>
<audio controls src="{look.player}" aria-label="{name}"></audio>
<svg role="img" aria-label="Waveform of {name}" viewBox="0 -1 {len(look.highs)} 2" preserveAspectRatio="none">
<path d="M{"M".join(points)}" /></svg>
<img src="{_uri(look.spectrogram)}" alt="Spectrogram of {name}: time from left to right, high frequencies at the top" />
<div class="ticks" aria-hidden="true">{ticks}</div>
</figure>"""


def heard(found: CaptionResult, licence: str | None) -> str:
    """Caption, confidence and warning."""
    best, said = found.candidates[0], restriction(licence)
    lines = [
        f'<p class="caption">{escape(best.caption)}</p>',
        f"<p>{best.confidence:.0%} sure{f'; this caption is {escape(said)}' if said else ''}</p>",
    ]
    if found.warning:
        lines.append(f'<p class="warning">Heard, but: {escape(found.warning)}</p>')
    return "\n".join(lines)


def board(made: Board, caption_licence: str | None, picture_licence: str | None) -> str:
    """The scenes of a long recording: when, what is heard, and its picture."""
    storyboard, restrictions = made.storyboard, [restriction(caption_licence)]
    restrictions += [restriction(picture_licence)] if any(made.pictures) else []
    cards = []
    for scene, picture in zip(storyboard.scenes, made.pictures, strict=True):
        image = f'<img src="{_data("image/png", picture)}" alt="{escape(scene.caption)}" />' if picture else ""
        cards.append(
            f"<li><figure>{image}<figcaption><strong>{clock(scene.start)} to {clock(scene.end)}</strong>"
            f" {escape(scene.caption)} ({scene.confidence:.0%} sure)</figcaption></figure></li>"
        )
    links = " ".join(
        f'<a href="{_data(KINDS[Path(name).suffix], content)}" download="{escape(name)}">Save {escape(name)}</a>'
        for name, content in made.files.items()
    )
    said = next(filter(None, restrictions), None)
    lines = [
        f'<p class="caption">A storyboard of {len(cards)} scene{"" if len(cards) == 1 else "s"}</p>',
        f"<p>{escape(said).capitalize()}.</p>" if said else "",
        f'<p class="warning">Heard, but: {escape(storyboard.warning)}</p>' if storyboard.warning else "",
        f'<ol class="pictures">{"".join(cards)}</ol><p class="files">{links}</p>',
    ]
    return "\n".join(lines)


def pictures(drawn: Sequence[Picture], style: str, licence: str | None) -> str:
    """A grid of pictures; each one's text for those who can't see it is its caption."""
    items = []
    for each in drawn:
        uri = _data("image/png", each.png)
        remarks = [f"Seed {each.seed}", f"style {style}"]
        remarks += ["black, since the safety checker refused it"] if each.flagged else []
        remarks += [said] if (said := restriction(licence)) else []
        items.append(
            f'<li><figure><img src="{uri}" alt="{escape(each.caption)}" />'
            f"<figcaption>{escape(', '.join(remarks))} "
            f'<a href="{uri}" download="a2i-{each.seed}.png">Save<span class="unseen"> the picture of seed {each.seed}</span>'
            "</a></figcaption></figure></li>"
        )
    if not items:
        return ""
    unseen = drawn[0].unseen_tokens
    left_out = (
        f'<p class="warning">The picture model did not read the caption\'s end ({unseen} tokens).</p>' if unseen else ""
    )
    return f'<ul class="pictures">{"".join(items)}</ul>{left_out}'


def _extremes(look: Look) -> list[tuple[float, float]]:
    return list(zip(look.lows.tolist(), look.highs.tolist(), strict=True))


def _uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=60)
    return _data("image/webp", file.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
