"""`python -m a2i.app`: a web page on this machine, for sounds, captions and pictures."""

import signal
import sys
import threading
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from a2i.app.settings import AppSettings, check, free_port
from a2i.command_line import INTERRUPTED, entry_point
from a2i.compose import plain
from a2i.image_settings import NO_STYLE, is_mini_painter
from a2i.infer import say
from a2i.machine import begin_program
from a2i.names import MINI, is_mini

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage


def load(settings: AppSettings) -> "AudioToImage":
    """Load both models, and say which and under what licence.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a model does not fit or can't be loaded.
    """
    from a2i.models import licence_line  # here: --help and a wrong setting need not wait for torch
    from a2i.pipeline import AudioToImage

    for line in (licence_line("captioner", settings.captioner), licence_line("image", settings.image or {})):
        if line:
            say(line)
    if settings.style and is_mini_painter(settings.image):
        say(f"note: {NO_STYLE}")
    captioner = MINI if is_mini(settings.captioner) else settings.captioner
    a2i = AudioToImage.load(captioner, settings.image or None, settings.device)
    a2i.captioner.decoding_with(**settings.decoding)
    return a2i


def serve(settings: AppSettings, style: str) -> None:
    """Serve the page until Ctrl-C, or until the system ends the program.

    Args:
        settings: checked.
        style: name of the pictures' style.

    Raises:
        ValueError: the port is taken, or a model can't be loaded.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    port = free_port(settings.host, settings.port)  # before models are loaded
    a2i = load(settings)
    from a2i.app.server import serving

    with serving(a2i, settings, port, "none" if is_mini_painter(settings.image) else style) as address:
        if settings.is_for_others:
            say(f"note: host={settings.host} lets every machine of the network use the page, without a password")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the sounds would stay
        say(f"the page is at {address}; Ctrl-C stops it")
        threading.Event().wait()


@entry_point("app")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    try:
        serve(settings, HydraConfig.get().runtime.choices["style"])
    except KeyboardInterrupt:
        say("")
        say("stopped; no sound is left", error=True)
        sys.exit(INTERRUPTED)


def program() -> None:
    """The console script."""
    begin_program()
    main()


if __name__ == "__main__":
    program()
