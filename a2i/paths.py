"""Where the package's own files lie."""

from pathlib import Path

PACKAGE = Path(__file__).parent
# Inside a wheel the configuration travels in the package; in a checkout it stands beside it.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
MINI_CAPTIONER = PACKAGE / "assets" / "captioner"
MINI_PAINTER = PACKAGE / "assets" / "painter"
