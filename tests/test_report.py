import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import tone
from PIL import Image

from a2i.features import LogMel
from a2i.report import ClipRow, DifferenceRow, ScoreRow, SystemScores, figures, media, write_comparison, write_report
from a2i.report.clips import best_and_worst

EVIL = '<script>window.stolen = 1</script> & "quoted" <img src=x onerror="window.stolen = 2">'


class Page(HTMLParser):
    """A page's elements, and the text in each cell of its tables."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, "not every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self.open):
            return
        self.text.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def rows(tmp_path: Path) -> list[ClipRow]:
    """Seven clips: one whose text is HTML, one without scores, one whose sound is not there."""
    made = []
    for index in range(7):
        sound = tmp_path / f"sound {index}.wav"
        soundfile.write(sound, tone(300.0 * (index + 1), 1.0 + index / 4, 22_050), 22_050)
        made.append(
            ClipRow(
                file_name=f"clip {index}.wav",
                caption=f"A tone of {index}." if index != 3 else EVIL,
                candidates=[f"A tone of {index}.", f"A whistle of {index}."],
                references=[f"Somebody plays {index}.", f"Number {index} sounds."],
                scores={
                    "cider_d": None if index == 5 else index * 7 % 5 + index / 100,
                    "bertscore_f1": 0.9 - index / 50,
                },
                audio=sound if index != 6 else tmp_path / "gone.wav",
                image=Image.new("RGB", (64, 64), (index * 30, 90, 90)),
                confidence=index / 7,
            )
        )
    return made


SCORES = [
    ScoreRow("cider_d", 1.9, 1.2, 2.6, None, {"library": "aac-metrics 0.5.4", "n": 4}),
    ScoreRow("bertscore_f1", 0.84, 0.8, 0.88, None, {"model": "small", "idf": False}),
    ScoreRow("spice", None, missing="needs a download that is not here"),
    ScoreRow("vocabulary", 1234),
]


def uri(value: str | None) -> bytes:
    assert value is not None
    head, content = value.split(",", 1)
    assert re.fullmatch(r"data:(audio/mpeg|image/webp);base64", head)
    return base64.b64decode(content, validate=True)


def clips_table(page: Page) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in page.tables[-1]]


def test_all_is_there(rows: list[ClipRow], tmp_path: Path) -> None:
    provenance = {"system": "tiny", "versions": {"torch": "2.11"}, "made": "2025-01-02"}
    page = Page(write_report(tmp_path / "new" / "report.html", "A title", SCORES, rows, provenance))
    text = " ".join("".join(page.text).split())
    for expected in ("A title", "tiny", "torch 2.11", "2025-01-02", "aac-metrics 0.5.4", "idfno"):
        assert expected in text
    scores = {row[0].strip(): " ".join(" ".join(row[1:]).split()) for row in page.tables[0][1:]}
    assert scores["CIDEr-D"].startswith("1.900 1.200 to 2.600")
    assert scores["SPICE"] == "not computed: needs a download that is not here"
    assert scores["vocabulary"] == "1,234"
    table = clips_table(page)
    assert table[0] == ["Clip", "Caption", "Picture", "References", "CIDEr-D", "BERTScore F1", "confidence"]
    assert len(table) == 8
    assert table[3][0].startswith("clip 2.wav")
    assert table[3][1] == "A tone of 2. 1 other candidate A whistle of 2."
    assert table[3][3:] == ["Somebody plays 2.Number 2 sounds.", "4.020", "0.860", "0.286"]
    assert table[6][4] == "–"
    assert len(page.all("figure")) == 3
    assert {button.get("data-order") for button in page.all("button")} == {"best", "worst", None}


def test_text_is_escaped(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(
        write_report(tmp_path / "r.html", EVIL, [(EVIL, 0.5, 0.1, 0.9, None, {EVIL: EVIL})], rows, {EVIL: EVIL})
    )  # type: ignore[list-item]
    assert len(page.all("script")) == 1
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert clips_table(page)[4][1].startswith(EVIL)


def test_asks_no_network(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Title", SCORES, rows, {"see": "https://example.org"}))
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "poster", "action")
    ]
    assert len(links) == 6 * 2 + 7
    assert all(link is not None and link.startswith("data:") for link in links)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "url(" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_sounds_and_pictures_come_back(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}))
    players = page.all("audio")
    assert len(players) == 6
    for index, player in enumerate(players):
        samples, rate = soundfile.read(io.BytesIO(uri(player["src"])))
        assert (rate, samples.ndim) == (16_000, 1)
        assert len(samples) == round((1.0 + index / 4) * 16_000)
        loudest = np.abs(np.fft.rfft(samples)).argmax() / (len(samples) / rate)
        assert loudest == pytest.approx(300.0 * (index + 1), abs=2)
    images = page.all("img")
    assert len(images) == 6 + 7
    assert all(image["alt"] for image in images)
    pictures = [image for image in images if image.get("class") == "picture"]
    assert Image.open(io.BytesIO(uri(pictures[2]["src"]))).size == (64, 64)
    assert "gone.wav: no such file" in clips_table(page)[7][0]


def test_same_values_same_bytes(rows: list[ClipRow], tmp_path: Path) -> None:
    settings = {"a": {"of", "several", "words"}}
    first = write_report(tmp_path / "1.html", "Title", SCORES, rows, settings)
    second = write_report(tmp_path / "2.html", "Title", SCORES, rows, settings)
    assert first.read_bytes() == second.read_bytes()
    assert not list(tmp_path.glob(".*.part"))


def test_media_of_the_best_and_the_worst(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, columns=["bertscore_f1"], media_clips=4))
    table = clips_table(page)
    assert [index for index, row in enumerate(table[1:]) if "Picture: not on this page" in row[0]] == [2, 3, 4]
    assert f"Sound: {rows[2].audio}" in table[3][0]
    assert "4 of 7 clips can be heard and seen here: those with the greatest and the least BERTScore F1" in " ".join(
        "".join(page.text).split()
    )
    assert len([row for row in page.all("tr") if "data-embedded" in row]) == 4


def test_without_sound_or_media(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, embed_audio=False))
    assert not page.all("audio")
    assert len(page.all("img")) == 6 + 7
    assert f"Sound: {rows[1].audio}" in clips_table(page)[2][0]
    page = Page(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, media_clips=0))
    assert not page.all("audio") + page.all("img")


def test_clips_with_nothing_but_captions(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Title", [], [ClipRow("a.wav", "", [], ["A tone."])], {}))
    assert clips_table(page) == [["Clip", "Caption", "References"], ["a.wav", "an empty caption", "A tone."]]


def test_part_of_a_file_and_a_long_one(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([tone(500.0, 30.0), tone(2000.0, 32.0)]), 16_000)
    whole = media.embed_sound(path, None, None, LogMel())
    part = media.embed_sound(path, 29.5, 31.0, LogMel())
    assert (whole.seconds, whole.cut) == (60.0, True)
    assert (part.seconds, part.cut) == (1.5, False)
    assert part.ticks[:2] == [(0.0, "0"), (33.33, "0.5 s")]
    picture = np.asarray(Image.open(io.BytesIO(uri(part.spectrogram))).convert("L")).astype(float)
    assert picture.shape[0] == 128
    assert picture.shape[1] <= media.WIDTH
    rows_of_energy = picture.argmax(axis=0)
    # The tone goes up after a third of the time, and high frequencies are above.
    assert rows_of_energy[: len(rows_of_energy) // 4].mean() > rows_of_energy[len(rows_of_energy) // 2 :].mean() + 20


def test_the_shortest_sounds_have_a_place(tmp_path: Path) -> None:
    for samples in (1, 100, 1600):
        path = tmp_path / f"{samples}.wav"
        soundfile.write(path, tone(440.0, samples / 16_000), 16_000)
        sound = media.embed_sound(path, None, None, LogMel())
        assert len(soundfile.read(io.BytesIO(uri(sound.player)))[0]) == samples


def test_transparent_pictures_and_broken_ones(tmp_path: Path) -> None:
    Image.new("RGBA", (600, 300), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    picture = Image.open(io.BytesIO(uri(media.embed_picture(tmp_path / "clear.png"))))
    assert (picture.size, picture.getpixel((5, 5))) == ((256, 128), (255, 255, 255))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png: can't be read as a picture"):
        media.embed_picture(tmp_path / "broken.png")
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        media.embed_picture(tmp_path / "none.png")


def comparison(rows: list[ClipRow], path: Path, **settings: Any) -> Path:
    """The clips against the same ones with other captions and scores."""
    pairs = []
    for row in rows:
        gain = (int(row.file_name[5]) - 3) / 10
        scores = {name: None if value is None else value + gain for name, value in row.scores.items()}
        pairs.append(
            (row, ClipRow(row.file_name, "Another " + row.caption, [], row.references, scores, image=row.image))
        )
    second = SystemScores(
        "second", [ScoreRow("cider_d", 2.0, 1.4, 2.6), ScoreRow("bertscore_f1", math.nan)], {"seed": 2}
    )
    differences = [
        DifferenceRow("cider_d", 0.1, 0.05, 0.2, 0.0004),
        DifferenceRow("bertscore_f1", None, missing="no pairs"),
    ]
    first = SystemScores("first & oldest", SCORES, {"seed": 1})
    return write_comparison(path, "Two", first, second, differences, pairs, **settings)


def test_comparison(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(comparison(rows, tmp_path / "c.html"))
    scores = {row[0].strip(): [" ".join(cell.split()) for cell in row[1:]] for row in page.tables[0][1:]}
    assert scores["CIDEr-D"][0] == "1.900 1.200 to 2.600"
    assert scores["CIDEr-D"][3] == "+0.100 better +0.050 to +0.200"
    assert scores["CIDEr-D"][-1] == "< 0.001"
    assert scores["BERTScore F1"][1] == "not computed"
    assert scores["BERTScore F1"][3] == "not computed: no pairs"
    assert scores["SPICE"][0].endswith("needs a download that is not here")
    table = clips_table(page)
    assert table[0] == ["Clip", "first & oldest", "second", "References", "CIDEr-D", "BERTScore F1"]
    assert table[1][2] == "Another A tone of 0."
    assert table[1][4] == "−0.300 0.000 → −0.300"
    assert table[4][2].startswith("Another <script>")
    assert table[6][4] == "– – → –"
    assert len(page.all("audio")) == 6
    assert len(page.all("img")) == 6 + 14
    assert len(page.all("script")) == 1


def test_less_can_be_better(rows: list[ClipRow], tmp_path: Path) -> None:
    page = Page(comparison(rows, tmp_path / "c.html", lower_is_better={"cider_d"}))
    assert "+0.100 worse" in " ".join("".join(page.text).split())
    assert [head.get("data-name") for head in page.all("th") if head.get("data-better") == "lower"] == ["cider_d"]


def test_what_does_not_fit_is_refused(rows: list[ClipRow], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no rows"):
        write_report(tmp_path / "r.html", "Title", SCORES, [], {})
    with pytest.raises(ValueError, match=r"got columns fluency; expected .* cider_d, bertscore_f1, confidence"):
        write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, columns=["fluency"])
    systems = SystemScores("a", []), SystemScores("b", [])
    with pytest.raises(ValueError, match=r"got clip 0\.wav beside clip 1\.wav"):
        write_comparison(tmp_path / "c.html", "Title", *systems, [], [(rows[0], rows[1])])
    assert not list(tmp_path.glob("*.html"))


def test_bars_and_histograms() -> None:
    bar, none = figures.bars([(0.5, 0.25, 0.75), (None, None, None)])
    assert none is None
    assert bar == figures.Bar((0.0, 1.0), 0.0, 50.0, 25.0, 75.0)
    assert figures.bars([(3.0, 2.0, 4.0)])[0] == figures.Bar((0.0, 5.0), 0.0, 60.0, 40.0, 80.0)
    assert figures.bars([(-0.1, -0.15, 0.05)], symmetric=True)[0] == figures.Bar((-0.2, 0.2), 50.0, 25.0, 12.5, 62.5)
    assert figures.histogram("none", []) is None
    whole = figures.histogram("words", [3, 3, 5])
    assert whole is not None
    assert (whole.counts, whole.edges) == ([2, 0, 1], [2.5, 3.5, 4.5, 5.5])
    same = figures.histogram("same", [0.5] * 9)
    assert same is not None
    assert (sum(same.counts), same.mean_at) == (9, 50.0)


def test_figures_for_reading() -> None:
    read = [figures.number(value) for value in (0.12345, -2.5, 31.416, 1234.5, 7, None)]
    assert read == ["0.123", "−2.500", "31.42", "1,234", "7", "–"]
    assert figures.number(0.5, sign=True) == "+0.500"
    assert [figures.p_value(value) for value in (0.00001, 0.04, None)] == ["< 0.001", "0.040", "–"]
    assert figures.words({"a": [1, True], "b": None}) == "a 1, yes, b none"
    assert figures.time_ticks(30.0) == [(0.0, "0"), *((round(100 * t / 30, 2), f"{t} s") for t in range(5, 31, 5))]


def test_best_and_worst() -> None:
    values = [0.1, None, 0.9, 0.5, 0.2, 0.8]
    assert best_and_worst([values], 4) == [0, 2, 4, 5]
    assert best_and_worst([values], 3) == [0, 2, 4]
    assert best_and_worst([values], None) == [0, 2, 4, 5, 3, 1]
    assert best_and_worst([values], 0) == []
    assert best_and_worst([values, [3, 1, 3, 2, 0, 3]], 4) == [0, 4, 2, 5]
    assert best_and_worst([[None, None, None]], 2) == [0, 1]


def test_real_recordings(real_data: Path, tmp_path: Path) -> None:
    paths = sorted((real_data / "clotho" / "evaluation").glob("*.wav"))
    rows = [ClipRow(path.name, path.stem, [], [path.stem], {"length": len(path.stem)}, path) for path in paths]
    path = write_report(tmp_path / "r.html", "Clotho", [], rows, {})
    players = Page(path).all("audio")
    for one, player in zip(paths, players, strict=True):
        samples = soundfile.read(io.BytesIO(uri(player["src"])))[0]
        assert len(samples) / 16_000 == pytest.approx(soundfile.info(one).duration, abs=1e-3)
    assert path.stat().st_size < 5 * 160_000


def names_shown(page: Any) -> list[str]:
    return page.locator("#table tbody .file:visible").all_inner_texts()


@pytest.mark.browser
def test_a_browser_shows_and_orders(rows: list[ClipRow], opened: Any, tmp_path: Path) -> None:
    page = opened(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, columns=["cider_d"]))
    assert page.locator("#message").inner_text() == "Showing 7 of 7 clips."
    button = page.locator("#table thead button", has_text="CIDEr-D")
    down = ["clip 2.wav", "clip 4.wav", "clip 6.wav", "clip 1.wav", "clip 3.wav", "clip 0.wav", "clip 5.wav"]
    for key, order, expected in (("Enter", "descending", down), ("Space", "ascending", [*down[-2::-1], "clip 5.wav"])):
        button.press(key)
        assert names_shown(page) == expected
        assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == order
    assert page.locator("#message").inner_text() == "Showing 7 of 7 clips, ordered by CIDEr-D, ascending."
    # A score that was not shown comes with its button.
    head = page.locator("#table th", has_text="BERTScore F1")
    assert not head.is_visible()
    page.get_by_role("button", name="Worst first by BERTScore F1").click()
    assert head.is_visible()
    assert names_shown(page) == [f"clip {index}.wav" for index in reversed(range(7))]
    assert page.locator("[aria-pressed=true]").get_attribute("aria-label") == "Worst first by BERTScore F1"


@pytest.mark.browser
def test_a_browser_finds_and_decodes(rows: list[ClipRow], opened: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", "Title", SCORES, rows, {}, columns=["cider_d"], media_clips=4)
    page = opened(path)
    page.locator("#search").fill("WHISTLE number 4")
    assert names_shown(page) == ["clip 4.wav"]
    assert page.locator("#message").inner_text() == "Showing 1 of 1 clips found of 7."
    page.locator("#search").fill("")
    page.locator("#embedded").check()
    assert names_shown(page) == ["clip 0.wav", "clip 2.wav", "clip 3.wav", "clip 4.wav"]
    length = (
        page.locator("audio")
        .nth(1)
        .evaluate(
            "audio => new Promise((done, fail) => { audio.onloadedmetadata = () => done(audio.duration);"
            " audio.onerror = () => fail(audio.error.message); audio.preload = 'metadata'; audio.load(); })"
        )
    )
    assert length == pytest.approx(1.5, abs=0.1)
    widths = page.locator("img:visible").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) == 8
    assert min(widths) >= 64


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_compares(scheme: str, rows: list[ClipRow], opened: Any, tmp_path: Path) -> None:
    page = opened(comparison(rows, tmp_path / "c.html"), color_scheme=scheme)
    page.get_by_role("button", name="Greatest gain first by BERTScore F1").click()
    assert names_shown(page) == [f"clip {index}.wav" for index in reversed(range(7))]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture = Image.open(io.BytesIO(page.screenshot(path=tmp_path / f"{scheme}.png"))).convert("L")
    ground = float(np.median(np.asarray(picture)))
    assert ground > 200 if scheme == "light" else ground < 60


@pytest.mark.browser
def test_a_browser_opens_a_thousand_clips(opened: Any, tmp_path: Path) -> None:
    rows = [ClipRow(f"{index}.wav", f"caption {index}", [], ["reference"], {"m": index}) for index in range(1045)]
    page = opened(write_report(tmp_path / "r.html", "Title", [], rows, {}))
    assert page.locator("#message").inner_text() == "Showing 50 of 1,045 clips."
    assert len(names_shown(page)) == 50
    page.get_by_role("button", name="Show more").click()
    assert len(names_shown(page)) == 100
    page.get_by_role("button", name="Best first by m").click()
    assert names_shown(page) == [f"{index}.wav" for index in range(1044, 994, -1)]
    page.get_by_role("button", name="Show all").click()
    assert len(names_shown(page)) == 1045
    assert not page.locator("#more").is_visible()


@pytest.mark.browser
def test_without_a_script_all_is_shown(rows: list[ClipRow], browser: Any, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_report(tmp_path / "r.html", "Title", SCORES, rows, {}).as_uri())
    assert len(names_shown(page)) == 7
    assert not page.locator("#controls").is_visible()
    context.close()


@pytest.mark.browser
def test_a_browser_draws_all_of_it(rows: list[ClipRow], opened: Any, tmp_path: Path) -> None:
    """Every picture is decoded, nothing stands beyond the window's edge, and the screenshot has something on it."""
    rows = [replace(row, human_image=Image.new("RGB", (32, 32), (0, 200, 90))) for row in rows]
    for path in (write_report(tmp_path / "r.html", "Title", SCORES, rows, {}), comparison(rows, tmp_path / "c.html")):
        page = opened(path)
        count = page.evaluate(
            "async () => { const all = [...document.images]; all.forEach(image => image.loading = 'eager');"
            " await Promise.all(all.map(image => image.decode()));"
            " return all.filter(image => image.naturalWidth > 0).length; }"
        )
        assert count == len(Page(path).all("img")) >= 20
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
        page.locator("#table .human img").first.scroll_into_view_if_needed()
        shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(shot, axis=0)) > 500, "spectrograms and pictures have many colours"
        assert (np.abs(shot - np.array([0, 200, 90])).max(axis=1) < 12).sum() > 5_000
