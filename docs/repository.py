"""What the site takes from the repository when it is built: the settings of each program, and the pages of experiments/."""

import contextlib
import io
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from a2i import __main__ as a2i
from a2i import doctor
from a2i.data.foley import __main__ as foley

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
PROGRAMS = [name for name in a2i.PROGRAMS if (CONF / f"{name}.yaml").is_file()]
PLAIN: dict[str, Callable[[list[str]], Any]] = {"doctor": doctor.main, "data.foley": foley.main}  # without settings
GROUPS = (
    "data",
    "model",
    "model/encoder",
    "model/decoder",
    "captioner",
    "image",
    "style",
    "experiment",
    "trainer",
    "logger",
)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures of `experiments/`, and the page that the programs themselves tell."""
    for path in sorted(ROOT.glob("experiments/**/*")):
        if path.suffix in (".md", ".png"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    files.append(File.generated(config, "reference/programs.md", content=programs()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In pages of `experiments/`, name the files of the repository that the site does not have, in place of linking them."""
    here = page.file.src_uri
    if not here.startswith("experiments/"):
        return markdown

    def shown(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), link[2]))
        if "://" in link[2] or files.get_file_from_path(target) is not None:
            return link[0]
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{here} links to {link[2]}, which is not there")
        return f"`{target}`" if link[1].strip("`") in target else f"{link[1]} (`{target}`)"

    return LINK.sub(shown, markdown)


def programs() -> str:
    """The page on the programs: what each one's `--help` says, and its settings with their comments."""
    page = [
        "# Programs and their settings",
        "Each program is a word of the `a2i` command: `a2i train …` is short for `python -m a2i.train …`. `--help` after any"
        " of them says more. [The Tab key](completion.md) completes what you type.",
        "## a2i",
        _block("text", a2i._parser().format_help()),
    ]
    for name in PROGRAMS:
        text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
        own, _, hydras = text.partition("\nhydra:")
        usage = re.split(r"\n[^\n]*:\n\n\S*\$", yaml.safe_load("hydra:" + hydras)["hydra"]["help"]["template"])[0]
        settings = re.sub(r"(?ms)^defaults:.*?(?=^\S)", "", own).partition("\n")[2]
        page += [f"## a2i {name}", _block("text", usage), f"Its settings, as `conf/{name}.yaml` holds them:"]
        page += [_block("yaml", settings)]
    for name, main in PLAIN.items():
        page += [f"## {'a2i ' if name in a2i.PROGRAMS else 'python -m a2i.'}{name}", _block("text", _help(main))]
    page += ["## Choices", "Each is a small file below `conf/`. On the command line write `NAME=CHOICE`."]
    for group in GROUPS:
        page += [f"### {group}", "\n".join(f"- `{group}={path.stem}`{_first(path)}" for path in _choices(group))]
    return "\n\n".join(page) + "\n"


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _help(main: Callable[[list[str]], Any]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(["--help"])
    return said.getvalue()


def _choices(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def _first(path: Path) -> str:
    """What the file says of itself in its first lines."""
    comment = next(iter(re.findall(r"(?:^# (?!@).*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)), "")
    return f": {' '.join(comment.replace('# ', '').split())}" if comment else ""
