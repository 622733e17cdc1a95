"""The page: what is on it, and what happens when something is dropped, pressed or chosen."""

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from a2i.app import fragments
from a2i.app.drawing import LAST_SEED, LONGEST_CAPTION, MOST_PICTURES, Picture, draw
from a2i.app.hearing import MOST_CANDIDATES, Look, hear
from a2i.app.scenes import Board
from a2i.app.sessions import Sessions
from a2i.app.telling import Progress, Stopped, Teller
from a2i.captioner.batching import CaptionResult
from a2i.errors import with_kind
from a2i.licences import restriction
from a2i.pipeline import AudioToImage
from a2i.storyboard import clock

STOPPED = "Stopped."
NOT_BEGUN = "Not begun: the notice at the top of the page says why. If the page is busy, try again in a minute."
FOUND = "Captions found, the likeliest first"
LISTENERS = 2  # sounds that are heard at once; pictures are drawn one by one
# Shown to nobody but this page.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = QUIET | {"queue": False}


@dataclass(frozen=True)
class Limits:
    """What the page takes: the longest sound in seconds, and the largest file in 10^6 bytes."""

    seconds: int
    megabytes: int


class Page:
    """What happens on the page.

    Args:
        a2i: hears and draws.
        sessions: of the open pages.
        examples: sounds to try, by name.
        limits: of a sound.
        decoding: changes of the captioner's decoding settings, by name.
        style: name of the pictures' style.
    """

    def __init__(
        self,
        a2i: AudioToImage,
        sessions: Sessions,
        examples: dict[str, Path],
        limits: Limits,
        decoding: dict[str, Any],
        style: str,
    ) -> None:
        self.a2i, self.sessions, self.examples, self.limits = a2i, sessions, examples, limits
        self.decoding, self.style = decoding, style

    def build(self) -> gr.Blocks:
        """The page itself."""
        drawing = self.a2i.painter is not None
        with gr.Blocks(title="a2i: hear and draw", analytics_enabled=False) as page:
            gr.HTML(f"<h1>Hear and draw</h1><p>{self._introduction()}</p>")
            gr.HTML("<h2>1. A sound</h2>")
            with gr.Row():
                with gr.Column():
                    file = gr.File(label="Drop a sound file, or choose one", elem_id="file")
                with gr.Column():
                    microphone = gr.Audio(
                        sources=["microphone"],
                        type="filepath",
                        label="Or record one",
                        elem_id="microphone",
                        editable=False,
                    )
            gr.HTML("<p>Or try one of these, which a2i has made itself:</p>")
            with gr.Row():
                tries = {name: gr.Button(name.capitalize(), size="sm", min_width=90) for name in self.examples}
            count = gr.Slider(1, MOST_CANDIDATES, 3, step=1, label="Captions to find", elem_id="candidates")
            gr.HTML("<h2>2. What is heard</h2>")
            look, heard = gr.HTML(fragments.note("Nothing yet."), elem_id="look"), gr.HTML(elem_id="heard")
            choice = gr.Radio([], label=FOUND, visible=False, elem_id="choice")
            gr.HTML("<h2>3. A picture</h2>", visible=drawing)
            caption = gr.Textbox(
                label="Caption to draw: as it was heard, or as you write it", lines=2, max_length=LONGEST_CAPTION,
                elem_id="caption", visible=drawing,
            )  # fmt: skip
            with gr.Row(visible=drawing):
                seed = gr.Number(0, label="Seed: another one, another picture", precision=0, minimum=0,
                                 maximum=LAST_SEED - MOST_PICTURES, elem_id="seed")  # fmt: skip
                number = gr.Slider(1, MOST_PICTURES, 1, step=1, label="Pictures", elem_id="number")
            paint = gr.Button("Draw", variant="primary", elem_id="draw", visible=drawing)
            pictures = gr.HTML(elem_id="pictures")
            with gr.Row(elem_id="progress"):
                status = gr.HTML(elem_id="status")
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", scale=0, min_width=120)
            gr.HTML(f"<footer>{self._about()}</footer>")
            sound = gr.State(None)

            listened = [status, stop, look, heard, choice, caption, pictures]
            hearing: dict[str, Any] = {"concurrency_limit": LISTENERS, "concurrency_id": "hear"} | QUIET
            starts = [file.upload(self.take, file, [sound, file, status], **AT_ONCE)]
            starts += [
                microphone.stop_recording(self.take_recording, microphone, [sound, microphone, status], **AT_ONCE)
            ]
            for name, button in tries.items():
                starts.append(button.click(self._example(name), None, [sound, status], **AT_ONCE))
            queued = [start.success(self.hear, [sound, count], listened, **hearing) for start in starts]
            choice.input(lambda chosen: chosen, choice, caption, **AT_ONCE)
            queued.append(paint.click(
                self.draw, [caption, seed, number], [status, stop, pictures],
                concurrency_limit=1, concurrency_id="draw", **QUIET,
            ))  # fmt: skip
            for each in queued:  # what is begun tells its errors itself
                each.failure(lambda: fragments.error(NOT_BEGUN), None, status, **AT_ONCE)
            stop.click(self.stop, None, None, **AT_ONCE)
            page.unload(self.end)
        return page

    def take_recording(self, sound: str | None, request: gr.Request) -> tuple[str | None, None, str]:
        """A sound was recorded; Gradio's recorder still asks for the file."""
        return self.take(sound, request, "later")

    def take(self, sound: str | None, request: gr.Request, delete: str = "now") -> tuple[str | None, None, str]:
        """A sound was dropped."""
        if sound is None:
            return None, None, fragments.error("No sound came; record or drop it again.")
        try:
            place = self.sessions.take(_session(request), Path(sound), delete)
            return str(place), None, fragments.status(Progress("Waiting"))
        except FileNotFoundError:
            return None, None, fragments.error("The sound is gone already; drop it again.")

    def _example(self, name: str) -> Callable[[gr.Request], tuple[str, str]]:
        def take(request: gr.Request) -> tuple[str, str]:
            place = self.sessions.take(_session(request), self.examples[name], "never")
            return str(place), fragments.status(Progress("Waiting"))

        return take

    def hear(self, sound: str | None, candidates: int, request: gr.Request) -> Iterator[list[Any]]:
        """Show a sound and what is heard; then it is deleted."""
        if sound is None or not Path(sound).exists():  # `take` has said why; or a newer one took its place
            return
        session, path = _session(request), Path(sound)
        nothing = [gr.skip(), "", "", gr.Radio([], visible=False), "", ""]
        yield [fragments.status(Progress("Waiting")), *nothing]

        def work(teller: Teller) -> None:
            try:
                hear(teller, self.a2i, path, candidates, self.limits.seconds, self.decoding)
            finally:  # here, since nobody may listen to the end
                self.sessions.forget(path)

        for told, line in self._told(session, work, path):
            running, same = gr.Button(interactive=told is not None), gr.skip()
            if isinstance(told, CaptionResult | Board):
                yield [line, running, same, *self._heard(told), same]
            else:
                yield [line, running, fragments.sound(told) if isinstance(told, Look) else same, *[same] * 4]

    def _heard(self, found: CaptionResult | Board) -> tuple[str, gr.Radio, str]:
        """What is shown of it, the captions to choose from, and the first of them."""
        heard, painter = self.a2i.captioner.licence, self.a2i.painter
        if isinstance(found, CaptionResult):
            choices = [(f"{each.caption} ({each.confidence:.0%} sure)", each.caption) for each in found.candidates]
            label = FOUND
            shown = fragments.heard(found, heard)
        else:
            scenes: dict[str, str] = {}
            for scene in found.storyboard.scenes:
                scenes.setdefault(scene.caption, f"{clock(scene.start)}: {scene.caption}")
            choices = [(reads, caption) for caption, reads in scenes.items()]
            label = "Scenes, to draw one of them again"
            shown = fragments.board(found, heard, painter.licence if painter else None)
        first = choices[0][1]
        return shown, gr.Radio(choices, value=first, label=label, visible=True), first

    def draw(self, caption: str, seed: float | None, number: int, request: gr.Request) -> Iterator[list[Any]]:
        """Draw a caption, and show each picture as soon as it is there."""
        drawn: list[Picture] = []
        licence = self.a2i.painter.licence if self.a2i.painter else None

        def work(teller: Teller) -> None:
            draw(teller, self.a2i, caption, int(seed or 0), number)

        yield [fragments.status(Progress("Waiting")), gr.Button(interactive=True), ""]
        for told, line in self._told(_session(request), work):
            grid = gr.skip()
            if isinstance(told, Picture):
                drawn.append(told)
                grid = fragments.pictures(drawn, self.style, licence)
            yield [line, gr.Button(interactive=told is not None), grid]

    def _told(
        self, session: str, work: Callable[[Teller], None], sound: Path | None = None
    ) -> Iterator[tuple[Any | None, str]]:
        """What work tells, each with the line that says how far it is; at the end None, with how it ended. Of work that newer
        work of the same page stopped there is no end: the page belongs to the newer."""
        line, end, teller = "", fragments.note("Done."), self.sessions.begin(session, sound)
        try:
            for told in teller.told(work):
                line = fragments.status(told) if isinstance(told, Progress) else line
                yield told, line
        except Stopped:
            end = fragments.note(STOPPED)
        except Exception as error:
            if not isinstance(error, OSError | ValueError):
                traceback.print_exc(file=sys.stderr)
            # A file's place on this machine is nobody's business.
            end = fragments.error(with_kind(error).replace(f"{sound.parent}/" if sound else "\0", ""))
        finally:  # also where nobody listens to the end
            is_newest = self.sessions.is_over(session, teller)
        if is_newest:
            yield None, end

    def stop(self, request: gr.Request) -> None:
        """The user pressed Stop."""
        self.sessions.stop(_session(request))

    def end(self, request: gr.Request) -> None:
        """The page was closed."""
        self.sessions.end(_session(request))

    def _introduction(self) -> str:
        limits = f"at most {self.limits.megabytes:,} MB and {fragments.length(self.limits.seconds)}"
        return (
            f"Give a sound ({limits}). Its caption says what is heard. Choose or change the caption, and draw it."
            f" A recording of more than {fragments.length(self.a2i.captioner.longest)} becomes a storyboard."
            " Nothing leaves the machine that serves this page, and the sound is deleted as soon as it is heard."
        )

    def _about(self) -> str:
        lines = [_licensed("Captions", self.a2i.name, self.a2i.captioner.licence)]
        if self.a2i.painter is not None:
            lines.append(_licensed("Pictures", self.a2i.painter.name, self.a2i.painter.licence))
        return "".join(lines)


def _licensed(what: str, model: str, licence: str | None) -> str:
    said = restriction(licence)
    return fragments.note(f"{what} by {model}, licence: {licence or 'not known'}{f' ({said})' if said else ''}.")


def _session(request: gr.Request) -> str:
    return str(request.session_hash)
