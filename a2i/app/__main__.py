"""`python -m a2i.app`: a web page on this machine, for sounds, captions and pictures."""

import signal
import sys
import threading

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from a2i.app.settings import AppSettings, check, free_port
from a2i.command_line import INTERRUPTED, entry_point
from a2i.compose import plain
from a2i.image_settings import is_mini_painter
from a2i.infer import say
from a2i.machine import begin_program


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
    from a2i.app.server import serving  # here: --help and a wrong setting need not wait for torch
    from a2i.loading import load

    a2i = load(settings, say)

    for name in ("SIGTERM", "SIGHUP"):  # else the sounds would stay; SIGHUP comes from a terminal that is closed
        if (number := getattr(signal, name, None)) is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with serving(a2i, settings, port, "none" if is_mini_painter(settings.image) else style) as address:
        if settings.is_for_others:
            say(f"note: host={settings.host} lets every machine of the network use the page, without a password")
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
