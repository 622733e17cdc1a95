"""Where the package's own files lie."""

from pathlib import Path

PACKAGE = Path(__file__).parent
# Inside a wheel the configuration travels in the package; in a checkout it stands beside it.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
MINI_CAPTIONER = PACKAGE / "assets" / "captioner"
MINI_PAINTER = PACKAGE / "assets" / "painter"
# What `captioner=` knows by name, a file each. As long as `captioner` is a plain setting of the programs, Hydra lets no group
# have that name.
CAPTIONERS = CONF / "captioner" if (CONF / "captioner").is_dir() else CONF / "audio_language"
AUDIO_LANGUAGE_MODELS = sorted(file.stem for file in CAPTIONERS.glob("*.yaml") if file.stem != "mini")
