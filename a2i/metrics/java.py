"""The caption metrics that are Java programs: the Penn Treebank tokenizer, METEOR and SPICE.

pycocoevalcap 1.2 carries them (SPICE but for Stanford CoreNLP's models). They are started here because aac-metrics refuses
a Java newer than 13.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2i.metrics.parts import INSTALL, MissingError, Parts, Score, Tally, Tokens, library

_FETCH_SPICE = "python -m pycocoevalcap.spice.get_stanford_models"
_SPICE = ("spice-1.0.jar", "lib/stanford-corenlp-3.6.0.jar", "lib/stanford-corenlp-3.6.0-models.jar")
# The COCO tools' list; they also name the brackets, but in upper case, and so leave '-lrb-' and its kin in.
_PUNCTUATION = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}


def treebank(texts: Sequence[str], parts: Parts) -> list[str]:
    """The Penn Treebank tokens of each text, in lower case, a space between, without punctuation."""
    jar = coco_folder("tokenizer") / "stanford-corenlp-3.4.1.jar"
    options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options]
    lines = _run(program, parts, "".join(f"{text}\n" for text in texts)).split("\n")[:-1]
    if len(lines) != len(texts):
        raise MissingError(f"the Penn Treebank tokenizer gave {len(lines)} lines for {len(texts)} captions")
    return [" ".join(token for token in line.split() if token not in _PUNCTUATION) for line in lines]


def meteor(tokens: Tokens, parts: Parts) -> Score:
    """METEOR 1.5; of all captions together, the score of their added counts."""
    jar = coco_folder("meteor") / "meteor-1.5.jar"
    with start_java(["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"], parts) as process:

        def write(*fields: str) -> None:
            # An empty caption, the last field, leaves a space after the divider: without it METEOR would take the last
            # reference for the caption.
            print(*(text.replace("|||", "") for text in fields), sep=" ||| ", file=process.stdin, flush=True)

        def read() -> str:
            return process.stdout.readline().strip() if process.stdout else ""

        counts = []
        for caption, group in zip(tokens.predicted, tokens.references, strict=True):
            write("SCORE", *group, caption)
            counts.append(read())
        write("EVAL", *counts)
        clips = [float(read()) for _ in counts]
        corpus = float(read())
    settings = {**library("pycocoevalcap"), "meteor": "1.5", "options": "-l en -norm"}
    table = np.array([line.split() for line in counts], float)
    whole = (table[:, 20] == 1) & (table[:, 21:23] == table[:, 0:2]).all(axis=1)
    table[whole, 20] = 0  # METEOR, too, counts no chunk where all is matched in one
    return Score.of(clips, settings, corpus, Tally(table, meteor_of))


def meteor_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """METEOR 1.5 of added counts, with its parameters for English (Denkowski & Lavie 2014, table 1).

    Args:
        sums: (S, 23) as the Java program prints them: words of caption and reference, function words of both; matched
            content words of both and function words of both by exact form, stem, synonym, paraphrase; chunks, and matched
            words of both.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    matched = sums[:, 4:20].reshape(-1, 4, 2, 2)  # (S, stage, content or function, caption or reference)
    found = np.einsum("skwt,k,w->st", matched, [1.0, 0.6, 0.8, 0.6], [delta, 1 - delta])
    length, function = sums[:, 0:2], sums[:, 2:4]
    chunks, words = sums[:, 20], sums[:, 21:23]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (found / (delta * (length - function) + (1 - delta) * function)).T
        mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
        fragments = chunks / words.mean(axis=1)
    return np.nan_to_num(mean * (1 - gamma * fragments**beta))


def spice(tokens: Tokens, parts: Parts) -> Score:
    """SPICE 1.0; of all captions together, the mean."""
    folder = Path(parts.spice_folder).expanduser() if parts.spice_folder else coco_folder("spice")
    for jar in _SPICE:
        if not (folder / jar).is_file():
            raise MissingError(f"SPICE needs {folder / jar}, of Stanford CoreNLP 3.6.0; {_FETCH_SPICE} downloads it")
    captions = enumerate(zip(tokens.predicted, tokens.references, strict=True))
    items = [{"image_id": i, "test": caption, "refs": group} for i, (caption, group) in captions]
    with tempfile.TemporaryDirectory() as temporary:
        source, result = Path(temporary, "captions.json"), Path(temporary, "scores.json")
        source.write_text(json.dumps(items), encoding="utf-8")
        # No -cache: what it stores parses with reaches into Java's own classes, which Java 16 and newer refuse.
        command = ["-Xmx8G", "-jar", str(folder / "spice-1.0.jar"), str(source), "-out", str(result)]
        _run([*command, "-subset", "-silent"], parts)
        found = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(result.read_text("utf-8"))}
    clips = np.array([found[i] for i in range(len(items))], dtype=np.float64)
    if not np.isfinite(clips).all():
        raise MissingError(f"SPICE gave no number for caption {int(np.isfinite(clips).argmin())}")
    return Score.of(clips, {**library("pycocoevalcap"), "spice": "1.0"}, clips.mean())


def _run(arguments: Sequence[str], parts: Parts, given: str = "") -> str:
    """What a Java program prints for what it is given."""
    with start_java(arguments, parts) as process:
        printed, _ = process.communicate(given)
        if process.returncode:
            raise ValueError(f"it ended with status {process.returncode}")
    return printed


@contextmanager
def start_java(arguments: Sequence[str], parts: Parts) -> Iterator[subprocess.Popen[str]]:
    """A Java program that has ended when the block has, however the block ends; `MissingError` where it fails."""
    program = shutil.which(parts.java)
    if program is None:
        raise MissingError(
            f"it runs on Java, and there is no {parts.java!r}: install Java 8 or newer, or say where it is"
        )
    # A language with a decimal comma would write its numbers so, and they could not be read.
    command = [program, "-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8", *arguments]
    with tempfile.TemporaryFile() as errors:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        try:
            process = subprocess.Popen(command, **pipes, encoding="utf-8", env={**os.environ, "LC_ALL": "C"})
        except OSError as error:
            raise MissingError(f"{program} cannot be run: {error}") from error
        start = time.monotonic()
        timer = Timer(parts.java_seconds, process.kill)
        timer.start()
        try:
            with process:  # closes its pipes, and waits for its end
                try:
                    yield process
                finally:
                    process.kill()
        except (OSError, ValueError) as error:  # a pipe that broke, or an answer that is no number
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").splitlines()
            told = [line.strip() for line in said if "Exception" in line or "Error" in line] or [str(error)]
            if time.monotonic() - start > parts.java_seconds:
                told = [f"it took longer than {parts.java_seconds:g} s"]
            raise MissingError(f"a Java program failed ({program}): {told[0]}") from error
        finally:
            timer.cancel()


def coco_folder(part: str) -> Path:
    """A part of pycocoevalcap: `tokenizer`, `meteor` or `spice`. It is not imported."""
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(f"pycocoevalcap is not installed: {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations))) / part
