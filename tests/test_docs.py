"""The documentation site builds without a warning, asks nothing of other machines, and its commands are real."""

import contextlib
import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
from commands import ROOT, Command, Newcomer, commands, follow, write_files

from a2i.__main__ import _parsed, _parser
from a2i.data.foley.__main__ import parse
from a2i.plugins import choices

pytest.importorskip("mkdocs", reason="needs the extra docs")
import yaml

DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Those that are written by hand, in the order of the site."""
    names = re.findall(r"[\w/]+\.md", str(CONFIG["nav"]))
    return [DOCS / name for name in names if (DOCS / name).is_file()]


COMMANDS = [(page, command) for page in pages() for command in commands(page)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.long
def test_it_has_every_page_program_and_experiment(site: Path) -> None:
    for page in pages():
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    reference = (site / "reference" / "programs.html").read_text(encoding="utf-8")
    for word in (
        "a2i train",
        "a2i doctor",
        "label_smoothing",
        "experiment=ast_gpt2_best",
        "model/encoder=crnn_mini",
    ):
        assert word in reference
    assert "${" not in "".join(re.findall(r"<p>.*?</p>", reference))
    for page in ROOT.glob("experiments/*/README.md"):
        assert (site / page.parent.relative_to(ROOT) / "index.html").is_file()
    assert not list(site.rglob("*.py"))


@pytest.mark.long
def test_it_takes_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are its own; links that a person follows are not taken."""
    for page in site.rglob("*.html"):
        taken = re.findall(
            r"<(?:script|img|iframe|link)[^>]*?(?:src|href)=\"?([^\" >]+)", page.read_text(encoding="utf-8")
        )
        assert [place for place in taken if place.startswith(("http", "//"))] == [], page


def test_every_page_is_in_the_sites_order() -> None:
    assert sorted(pages()) == sorted(DOCS.rglob("*.md"))


@pytest.mark.long
@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: str(value)[-60:])
def test_its_commands_can_be_read(
    page: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs compose their settings, and no option or choice is unknown; nothing is run."""
    arguments = [word for word in command.arguments if not word.startswith("plugins=")]
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    if command.words[0] == "make":
        assert f"\n{command.words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif command.entry == "data.foley":
        assert parse(arguments)
    elif command.entry == "infer":
        options, overrides = _parsed(_parser(), arguments)
        assert options["audio"]
        assert options.get("image", "mini") in choices("image")
        assert programs.run("infer", *overrides, "audio=x", "--cfg", "job").returncode == 0
    elif command.entry != "doctor":
        own = [word for word in arguments if word not in ("-m", "model/encoder=frames")]
        for folder in [word.partition("=")[2] for word in own if word.startswith(("captioner=runs", "against=runs"))]:
            (tmp_path / folder).mkdir(parents=True)
        if "-m" in arguments:  # the first of each setting's values
            own = [word.partition(",")[0] if word.count("[") == 0 else word for word in own]
        done = programs.run(command.entry, *own, "--cfg", "job")
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("less", [True, False], ids=["less", "as_printed"])
def test_its_commands_run_in_its_order(less: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page, by one person."""
    monkeypatch.delenv("A2I_REAL_DATA", raising=False)
    newcomer = Newcomer(tmp_path / "a2i")
    for page in pages():
        follow(newcomer, page, less=less)


@pytest.mark.long
def test_the_plug_in_of_the_tutorial_is_one(tmp_path: Path) -> None:
    """Its encoder keeps padding out of the states of real frames, and its experiment composes."""
    (tutorial,) = [page for page in pages() if page.stem == "encoder"]
    write_files(tutorial, tmp_path)
    code = (
        "import sys, torch, a2i.plugins; a2i.plugins.use('my_package')\n"
        "from my_package import FrameEncoder\n"
        "encoder, log_mel, mask = FrameEncoder(), torch.randn(1, 9, 64), torch.ones(1, 9, dtype=torch.bool)\n"
        "alone = encoder(log_mel[:, :5], mask[:, :5])[0]\n"
        "mask[:, 5:] = False\n"
        "assert torch.allclose(encoder(log_mel, mask)[0][:, :5], alone)\n"
        "from a2i.command_line import composed\n"
        "config = composed('train', {}, ['experiment=mini_crnn'])\n"
        "assert config['model']['encoder']['_target_'].endswith('CRNNEncoder'), config['model']['encoder']\n"
        "assert config['name'] == 'mini_crnn'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class Server(http.server.ThreadingHTTPServer):
    """Takes all that a page asks for at once: with the usual five in its queue, a browser is reset now and then."""

    request_queue_size = 128


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Of a server on this machine that has the site."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with Server(("127.0.0.1", 0), handler) as server, contextlib.redirect_stderr(None):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390], ids=["wide", "narrow"])
def test_a_browser_shows_it_and_finds_words(opened: Any, address: str, width: int) -> None:
    page = opened(f"{address}/index.html", viewport={"width": width, "height": 900})
    assert page.title() == "a2i"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture = page.locator("article img").first
    assert picture.evaluate("image => image.naturalWidth") > 0
    if width > 1000:
        box = page.locator("input.md-search__input")
        box.click()
        box.press_sequentially("encoder")  # what fills it at once is not heard
        page.wait_for_selector(".md-search-result__item a")
        page.keyboard.press("Escape")
    page.wait_for_load_state("networkidle")  # what is broken off is a complaint
    page.goto(f"{address}/reference/programs.html")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
