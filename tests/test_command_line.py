"""What arguments mean, what errors say, how programs end."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from a2i.command_line import arguments, entry_point
from a2i.command_line import composed as composed_of
from a2i.compose import plain
from a2i.paths import CONF
from a2i.plugins import choices

NAMES = [
    "01 A pug struggles to breathe 1_14_2008.wav",
    "Rain, wind & thunder (take 2).wav",
    "it's raining.wav",
    "a=b.wav",
    "50% [loud] {very}.wav",
    "[brackets].wav",
    "[list]",
    "{key:value}",
    "dollar ${HOME} $x.wav",
    "${oc.env:HOME}/x.wav"[:14] + " x.wav",
    r"back\slash.wav",
    r"escaped\, comma\ blank.wav",
    r"ends with \\",
    r"both \${x} '\' ",
    "Ünï çödé 雨.wav",
    "null and void.wav",
    " blanks at both ends ",
    "007",
    "1e5",
    "1_000",
    "a,b",
    "range(1,3)",
    "~x.wav",
]
FREE = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40)
# Of what the grammars of Hydra and OmegaConf give a meaning, more often than chance would.
GRAMMAR = st.text(st.sampled_from("ab1.,:;=+~@$ {}[]()'\"\\|*?-_#e"), min_size=1, max_size=12)


def composed(name: str, *argv: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, arguments(argv, name, "audio" if name == "infer" else None))


def arrives(value: str) -> object:
    """What the program is given as `out`; as Hydra composes it, but quicker."""
    (argument,) = arguments([f"out={value}"], "infer")
    config = OmegaConf.create({"out": None, "seed": 0})
    OmegaConf.update(config, "out", OverridesParser.create().parse_override(argument).value())
    return plain(config)["out"]


def is_hydras(name: str) -> bool:
    quotes = name[0] in "'\"" and name[-1] == name[0] and len(name) > 1
    return name.lower() in ("null", "true", "false") or quotes or (name.startswith("${") and name.endswith("}"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_exists_arrives_letter_by_letter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert str(arrives(name)) == name
    (argument,) = arguments([f"out={name}"], "infer")
    assert arguments([argument], "infer") == [argument], "what was understood is not understood anew"
    assert plain(composed("infer", name))["audio"] == name, "and so without a key"
    assert plain(composed("infer", name, "other"))["audio"] == [name, "other"]


@example("???")
@given(FREE | GRAMMAR)
def test_any_file_that_exists_arrives_letter_by_letter(name: str) -> None:
    if name in (".", "..") or is_hydras(name):
        return
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            try:
                Path(name).touch()
            except OSError:  # too long in bytes
                return
            assert str(arrives(name)) == (name if name != "???" else "./???")  # bare, it is a setting without a value
        finally:
            os.chdir(before)


@given(FREE | GRAMMAR)
def test_any_path_in_a_folder_that_exists_arrives_letter_by_letter(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        try:
            Path(path).touch()
        except OSError:
            return
        assert arrives(path) == path


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("null", None),
        ("NULL", None),
        ("true", True),
        ("False", False),
        ("3", 3),
        ("-2.5", -2.5),
        ("1e5", 1e5),
        ("'a b'", "a b"),
        ('"null"', "null"),
        ("[a.wav,b.wav]", ["a.wav", "b.wav"]),
        ("[1,[x,null]]", [1, ["x", None]]),
        ("{a:1,b:[2]}", {"a": 1, "b": [2]}),
        ("${seed}", 0),
        ("${seed}/x", "0/x"),
        ("", ""),
        (r"a\,b", "a,b"),
        ("str(3)", "3"),
    ],
)
def test_hydras_own_values_stay(value: str, meant: object) -> None:
    assert arrives(value) == meant


PLAIN = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN
    | st.text(st.characters(codec="ascii", exclude_characters="\0$"))
    .filter(lambda text: not text.startswith("~"))  # which is the home folder
    .map(lambda text: QuotedString(text, Quote.double)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=2),
    max_leaves=6,
)


@given(VALUES)
def test_any_value_of_hydras_arrives_as_hydra_means_it(value: Any) -> None:
    text = Override._get_value_element_as_str(value)
    assert arguments([f"out={text}"], "infer") == [f"out={text}"]
    assert arrives(text) == Override._convert_value(value)


@pytest.mark.parametrize("name", ["null", "true", "'quoted'", "${seed}"])
def test_hydras_own_values_stay_whatever_exists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    assert arguments([f"out={name}"], "infer") == [f"out={name}"]


def test_numbers_stay_numbers_beside_folders_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep makes folders that are called 0, 1, 2."""
    monkeypatch.chdir(tmp_path)
    Path("1").mkdir()
    assert composed("infer", "audio=x", "seed=1").seed == 1


def test_no_key_is_special() -> None:
    assert plain(composed("train", "loader.cache=null"))["loader"]["cache"] is None
    assert plain(composed("train", "loader.cache=my cache (2)"))["loader"]["cache"] == "my cache (2)"
    assert plain(composed("train", "+new=a (b)"))["new"] == "a (b)"
    published = "model/encoder=panns_cnn14", "model.encoder.pretrained=Cnn14_16k_mAP=0.438.pth"
    assert plain(composed("train", *published))["model"]["encoder"]["pretrained"] == "Cnn14_16k_mAP=0.438.pth"


@pytest.mark.parametrize(
    "text",
    [
        "a.wav,b.wav",
        "my folder (2)",
        r"C:\x\y (1).wav",
        r"C:\x\(1)\a, b.wav",
        r"C:\new\folder",
        r"\\server\share\x.wav",
        "~nobody-of-that-name/x.wav",
        "[unclosed",
        "choice(a,b)",
    ],
)
def test_what_the_grammar_cant_read_is_the_text_itself(text: str) -> None:
    assert arrives(text) == text


@pytest.mark.parametrize("text", ["12e4567", "0012345", "1_000", "nan", "v1.0", "main", "'12e4567'"])
def test_a_revision_is_text(text: str) -> None:
    given = [f"captioner_revision={text}", f"image.revision={text}", "seed=12"]
    config = plain(composed("infer", *given))
    assert config["captioner_revision"] == config["image"]["revision"] == text.strip("'")
    assert config["seed"] == 12
    sweep = arguments(["--multirun", f"captioner_revision={text},main"], "infer")[1]
    read = OverridesParser.create().parse_override(sweep).value().list
    assert [getattr(each, "text", each) for each in read] == [text.strip("'"), "main"]


def test_home_is_expanded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "a home (mine)"
    (home / "~").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert arrives("~/new (1)") == str(home / "new (1)")
    assert arrives("~") == str(home)
    assert arrives("'~/x'") == f"{home}/x", "wherever a value comes from"
    monkeypatch.chdir(tmp_path)
    Path("~x.wav").touch()
    assert arrives("~x.wav") == "~x.wav"
    assert arrives("~y.wav") == "~y.wav", "no user of that name"


def test_sweeps_over_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert arguments(["-m", "data.root=A,B", "seed=0,1"], "train") == ["--multirun", "data.root=A,B", "seed=0,1"]
    assert arguments(["data.root=A,B", "-m", "seed=1"], "train") == ["--multirun", "data.root=A,B", "seed=1"]
    for name in ("one (1)", "two (2)"):
        Path(name).mkdir()
    assert arguments(["-m", "data.root=one (1),two (2)"], "train")[1] == "data.root='one (1)','two (2)'"
    assert arguments(["-m", "data.root=one (1),none (2)"], "train")[1] == "data.root='one (1)','none (2)'"
    Path("A,B").mkdir()
    assert arguments(["-m", "data.root=A,B"], "train") == ["--multirun", "data.root='A,B'"]
    assert arguments(["-m", r"data.root=C:\a,D:\b"], "train")[1] == r"data.root=C:\a,D:\b"


def test_sounds_need_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(composed("infer", "dog.wav"))["audio"] == "dog.wav"
    config = plain(composed("infer", "a.wav", "seed=3", "b, c.wav", "image=none"))
    assert (config["audio"], config["seed"], config["image"]) == (["a.wav", "b, c.wav"], 3, {})
    assert arguments(["--cfg", "job", "--config-dir", "X", "dog.wav", "--info", "all"], "infer", "audio") == [
        *("--cfg=job", "--config-dir=X", "--info=all"),
        "audio='dog.wav'",
    ]
    with pytest.raises(ValueError, match=r"got dog\.wav beside audio="):
        arguments(["audio=a.wav", "dog.wav"], "infer", "audio")
    with pytest.raises(ValueError, match=r"'seed' without a key; expected key=value; did you mean seed=VALUE"):
        arguments(["dog.wav", "seed", "7"], "infer", "audio")
    monkeypatch.chdir(tmp_path)
    Path("-1.wav").touch()
    assert arguments(["-1.wav", "-m"], "infer", "audio") == ["--multirun", "audio='./-1.wav'"]
    Path("seed=1").mkdir()  # as a sweep may make it
    assert arguments(["dog.wav", "seed=1"], "infer", "audio") == ["seed=1", "audio='dog.wav'"]


@pytest.mark.parametrize(
    ("name", "argument", "hint"),
    [
        ("train", "ast_gpt2", "did you mean experiment=ast_gpt2 or model=ast_gpt2?"),
        ("train", "finished", "did you mean resume=finished?"),
        ("train", "folder of sounds", "did you mean data=folder data.root=folder of sounds?"),
        ("train", "experimnt", "did you mean experiment=VALUE?"),
        ("evaluate", "folder of sounds", "did you mean captioner=folder of sounds?"),
        ("evaluate", "table.csv", "did you mean captions=table.csv?"),
        ("prepare", "foley", "did you mean data=foley?"),
        ("prepare", "entirely else", "--help shows what there is"),
    ],
)
def test_elsewhere_what_was_probably_meant_is_said(
    name: str, argument: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder of sounds").mkdir()
    Path("table.csv").touch()
    Path("finished").mkdir()
    Path("finished/overrides.yaml").touch()
    with pytest.raises(ValueError, match="without a key") as raised:
        arguments([argument], name)
    assert hint in str(raised.value)


def test_a_folder_chosen_as_picture_model(tmp_path: Path) -> None:
    folder = tmp_path / "my painter"
    folder.mkdir()
    assert arguments([f"image={folder}"], "infer") == ["image=folder", f"image.model='{folder}'"]
    assert arguments(["image=mini", "image=nonsense"], "infer") == ["image=mini", "image=nonsense"]
    assert {"mini", "none", "stable_diffusion", "folder"} <= set(choices("image"))


def test_no_choice_is_none_where_there_is_none() -> None:
    assert arguments(["image=null", "logger=null"], "evaluate") == ["image=none", "logger=none"]
    assert arguments(["experiment=null"], "train") == ["experiment=null"]
    with pytest.raises(ValueError, match=r"got data=null; expected data=audiocaps\|clotho\|"):
        arguments(["data=null"], "train")


def test_a_group_that_was_taken_out_is_named() -> None:
    for group, expected in (("captioner", r".*mini\|.*qwen2_audio\|.*"), ("image", r"flux2_klein\|.*mini\|none\|.*")):
        with pytest.raises(ValueError, match=rf"got no {group}; expected {group}={expected}$"):
            composed_of("infer", {"audio": "dog.wav"}, [f"~{group}"])


def test_captioner_and_image_take_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name, a folder, a Hub id; several of them in a sweep."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine (1)", "a", "a,b", "mini"):
        Path(name).mkdir()
    for key, setting in (("captioner", "folder"), ("image", "model")):
        for value, meant in (
            ("mini", [f"{key}=mini"]),
            ("./mini", [f"{key}=folder", f"{key}.{setting}='./mini'"]),
            ("mine (1)", [f"{key}=folder", f"{key}.{setting}='mine (1)'"]),
            ("'mine (1)'", [f"{key}=folder", f"{key}.{setting}='mine (1)'"]),
            ("a,b", [f"{key}=folder", f"{key}.{setting}='a,b'"]),
            ("owner/name", [f"{key}=folder", f"{key}.{setting}='owner/name'"]),
            ("a/nam", [f"{key}=a/nam"]),  # there is a folder a, and nothing of that name in it
            ("mni", [f"{key}=mni"]),
        ):
            assert arguments([f"{key}={value}"], "infer") == meant
        assert arguments(["-m", f"{key}=a,mine (1)"], "infer")[1:] == [
            f"{key}=folder",
            f"{key}.{setting}='a','mine (1)'",
        ]
    assert arguments(["-m", "captioner=mini,a"], "infer")[1:] == ["captioner=folder", "captioner.folder='embedded','a'"]
    assert arguments(["-m", "image=mini,none"], "infer")[1:] == ["image=mini,none"]
    assert arguments(["captioner=null"], "infer") == ["captioner=mini"]
    assert arguments(["captioner=null"], "evaluate") == []
    with pytest.raises(ValueError, match=r"got audio_language\.dtype=; .* now: captioner\.dtype="):
        arguments(["captioner=qwen2_audio", "audio_language.dtype=float32"], "infer")


def test_plain_values_pass_through_no_grammar() -> None:
    awkward = "a=b, (c) ${HOME} \\\\${x} '.wav"
    given = {"audio": [awkward, "${seed}"], "out": awkward, "image": "none", "seed": 3, "decoding.num_beams": 2}
    settings = composed_of("infer", given, ["batch_size=2"])
    assert (settings["audio"], settings["out"], settings["seed"]) == ([awkward, "${seed}"], awkward, 3)
    assert (settings["image"], settings["batch_size"], settings["decoding"]["num_beams"]) == ({}, 2, 2)
    assert composed_of("prepare", {"data": "folder", "data.root": awkward})["data"]["root"] == awkward
    for wrong, said in (({"sead": 1}, "did you mean seed"), ({"data": "cloto"}, "did you mean clotho")):
        with pytest.raises(ValueError, match=said):
            composed_of("evaluate", wrong)
    with pytest.raises(FileNotFoundError, match=r"got mni.*did you mean mini"):
        composed_of("infer", {"captioner": "mni"})
    for group in ("captioner", "image"):
        for blank in ("", " "):
            with pytest.raises(ValueError, match=rf"^{group}= is empty; expected .* Is a variable unset\?"):
                composed_of("infer", {group: blank})


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *argv: str, task: object = print
) -> tuple[int, str]:
    """The exit status of an entry point and what it printed to stderr; `task` in place of its work."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"] if name == "train" else []
    first = [*quiet, "hydra.run.dir=.", "hydra.output_subdir=null"]
    monkeypatch.setattr(sys, "argv", [f"a2i.{name}", *first, *argv])

    def work(config: DictConfig) -> object:
        return task(config)  # type: ignore[operator]

    status = 0
    try:
        entry_point(name, "audio" if name == "infer" else None)(work)()
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    assert "HYDRA_FULL_ERROR" not in os.environ
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("train", "sead=1", "there is no setting sead here; did you mean seed?"),
        ("train", "batch_size=4", "did you mean loader.batch_size?"),
        ("train", "lr=1", "did you mean training.optimizer.lr?"),
        ("train", "data.rot=x", "did you mean data.root"),
        ("train", "modle=mini", "did you mean model?"),
        ("train", "model/encodr=cnn", "did you mean model/encoder"),
        ("train", "experiment=mni", "got experiment=mni; expected one of act, "),
        ("train", "experiment=mni", "did you mean mini"),
        ("train", "experiment=mini,gru", "for several, a sweep: -m"),
        ("train", "model/encoder=cnn", "got model/encoder=cnn, which is called model/encoder=panns_cnn10 now"),
        ("train", "experiment=open_ends", "which is called experiment=study/open_ends now"),
        ("infer", "decoding.beams=3", "did you mean decoding.num_beams"),
        ("infer", "image=stable_difusion", "did you mean stable_diffusion?"),
        ("infer", "captioner=qwen_audio", "did you mean qwen2_audio?"),
        (
            "infer",
            "image=./no/folder",
            "got image=./no/folder; expected one of flux2_klein, flux_schnell, mini, none, sana_sprint,",
        ),
        (
            "infer",
            "captioner=models/captionr",
            "; models is a folder here, and has no captionr; expected one of ",
        ),
        ("infer", "captioner=", "captioner= is empty; expected one of "),
        ("infer", "image=' '", "Is a variable unset?"),
        ("infer", "experiment=mini", "infer has no such group; its groups are captioner, decoding, image, style\n"),
        ("infer", "model/encoder=ast", "got model/encoder=; infer has no such group"),
        ("infer", "experimnt=mini", "there is no setting experimnt here (--help shows all)"),
        ("train", "decoding=as_saved", "experiment, sweep; did you mean model.decoding or training.decoding?"),
        ("train", "loader.prepared=states", "got loader.prepared, which is called loader.inputs now"),
        ("evaluate", "captoner=x", "did you mean captioner"),
        ("prepare", "data=floey", "did you mean foley?"),
        ("prepare", "data..root=x", "got data..root=x; expected key=value"),
        ("prepare", "+waveforms=1", "waveforms is there already; change it with waveforms=VALUE"),
        ("prepare", "~nothing", "there is no setting nothing here"),
    ],
)
def test_hydras_errors_are_one_clear_line(
    name: str,
    argument: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    status, printed = run(monkeypatch, capsys, name, argument)
    assert (status, len(printed.splitlines())) == (2, 2), printed
    assert printed.startswith("error: ")
    assert said in printed


def test_how_programs_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def fails(error: BaseException) -> object:
        def task(_: DictConfig) -> None:
            raise error

        return task

    assert run(monkeypatch, capsys, "prepare", task=lambda _: None) == (0, "")
    status, printed = run(monkeypatch, capsys, "prepare", task=fails(ValueError("got 3;\nexpected 4")))
    assert (status, printed.splitlines()[0]) == (2, "error: got 3; expected 4")
    status, printed = run(monkeypatch, capsys, "prepare", task=fails(KeyboardInterrupt()))
    assert (status, printed) == (130, "\ninterrupted\n")
    status, printed = run(monkeypatch, capsys, "prepare", task=fails(FileNotFoundError("data/x: nothing there")))
    assert f"data/x: nothing there (relative paths begin in {tmp_path})" in printed
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "error: no space left on the disk" in run(monkeypatch, capsys, "prepare", task=fails(full))[1]
    (tmp_path / "a file").touch()
    status, printed = run(monkeypatch, capsys, "train", "hydra.run.dir=a file/below", task=lambda _: None)
    assert (status, len(printed.splitlines())) == (2, 2), printed
    assert "a file" in printed


def test_of_a_sweep_all_failed_jobs_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []

    def task(config: DictConfig) -> None:
        seen.append(config.data.seed)
        print(f"job {config.data.seed}", file=sys.stderr)
        if config.data.seed == 1:
            raise ValueError("got 1; expected another")
        if config.data.seed == 2:
            sys.exit(1)

    argv = (
        "-m",
        "data=foley",
        "waveforms=false",
        "data.seed=0,1,2,3",
        "hydra.sweep.dir=sweep",
        "hydra.sweeper.max_batch_size=2",
    )
    status, printed = run(monkeypatch, capsys, "prepare", *argv, task=task)
    assert (status, seen) == (1, [0, 1, 2, 3])
    lines = [line for line in printed.splitlines() if line.strip() and "HYDRA_FULL" not in line]
    told = "job 1 (data.seed=1): got 1; expected another"
    assert lines[:5] == ["job 0", "job 1", f"error: {told}", "job 2", lines[4]]
    assert "ended with the exit status 1" in lines[4]
    assert lines[6] == "2 of the sweep's jobs failed:"
    assert lines[7] == told


@pytest.mark.parametrize("entry", ["train", "evaluate", "infer", "prepare"])
def test_help_helps(entry: str) -> None:
    """Shown with the commands that people type, and without loading torch."""
    code = (
        f"import runpy, sys; sys.argv = ['a2i.{entry}', '--help']\n"
        f"try: runpy.run_module('a2i.{entry}', run_name='__main__')\n"
        "finally: assert not {'torch', 'transformers', 'diffusers', 'lightning'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python -m a2i.{entry}" in done.stdout
    assert "plugins=NAME|FOLDER allows parts from outside" in done.stdout
