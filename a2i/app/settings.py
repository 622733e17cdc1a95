"""The settings of `conf/app.yaml`, checked before a model is loaded."""

import errno
import socket
from dataclasses import dataclass
from typing import Any

from a2i.compose import check_decoding, checked
from a2i.image_settings import styled
from a2i.names import with_revision

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LIMITS = {"port": (1, 65_535), "max_seconds": (1, 36_000), "max_megabytes": (1, 10_000), "queue": (1, 1_000)}


@dataclass(frozen=True)
class AppSettings:
    """The settings of `conf/app.yaml`.

    Attributes:
        captioner: settings as `conf/captioner` has them.
        image: settings as `conf/image` has them, with the style's prompts; empty or None for captions alone.
        style: settings as `conf/style` has them; empty or None for none.
        decoding: changes of the captioner's decoding settings, by name; None leaves one as it is.
        host: address that the page is served at.
        port: of that address; None for any free one.
        max_seconds: of a sound.
        max_megabytes: of a sound file, of 10^6 bytes.
        queue: captions and drawings that wait at most.
        device: None for the best one there is.
    """

    captioner: dict[str, Any]
    image: dict[str, Any] | None
    style: dict[str, Any] | None
    decoding: dict[str, Any]
    host: str
    port: int | None
    max_seconds: int
    max_megabytes: int
    queue: int
    device: str | None

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"got {name}={value}; expected a whole number from {least:,} to {most:,}")

    @property
    def is_for_others(self) -> bool:
        """Whether other machines can reach the page."""
        return self.host not in LOOPBACK


def check(settings: dict[str, Any]) -> AppSettings:
    """Check what can be checked before a model is loaded.

    Args:
        settings: composed from `conf/app.yaml`, as plain containers.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
    """
    captioner = with_revision(settings["captioner"], settings.get("captioner_revision"))
    image = styled(settings["image"], settings["style"])
    made = checked(AppSettings, settings | {"captioner": captioner, "image": image})
    check_decoding(made.decoding)
    return made


def free_port(host: str, port: int | None) -> int:
    """The port, or a free one for None.

    Raises:
        ValueError: another program has the port, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that closed a minute ago is free
        try:
            found.bind((host, port or 0))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL or port is None:
                raise ValueError(f"got host={host} ({error.strerror}); expected an address of this machine") from error
            raise ValueError(
                f"port {port} of {host} can't be had ({error.strerror}); expected a free one: port={_next(port)}, or"
                " port=null for any"
            ) from error
        return int(found.getsockname()[1])


def _next(port: int) -> int:
    return port + 1 if port < LIMITS["port"][1] else port - 1
