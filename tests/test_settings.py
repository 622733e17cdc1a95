"""Every value is checked before work begins, with its full name."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import hydra
import pytest
from test_configs import EXPERIMENTS

from a2i import infer, prepare
from a2i.command_line import arguments
from a2i.compose import plain
from a2i.data import DataSet
from a2i.data.labelled import HoldOut
from a2i.evaluate import settings as evaluate
from a2i.fitting import fitting
from a2i.paths import CONF
from a2i.training.settings import check

CHECKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{"infer": infer.check, "evaluate": evaluate.check, "prepare": prepare.check}
}


def composed(name: str, *argv: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra.compose(name, arguments(argv, name, "audio")))  # type: ignore[no-any-return]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_passes(experiment: str) -> None:
    check(composed("train", f"experiment={experiment}"))


@pytest.mark.parametrize("trainer", sorted(path.stem for path in (CONF / "trainer").glob("*.yaml")))
def test_every_trainer_passes(trainer: str) -> None:
    check(composed("train", "experiment=mini", f"trainer={trainer}", "logger=wandb"))


@pytest.mark.parametrize(
    "address",
    [
        "https://me:HIDDEN-WORD@host/shards",
        "https://HIDDEN-WORD@host/shards",
        "https://host/shards?X-Amz-Signature=HIDDEN-WORD",
        "gs://bucket/shards?token=HIDDEN-WORD",
    ],
)
def test_no_secret_gets_into_a_record(address: str) -> None:
    """A run keeps its settings in its folder and with W&B, an evaluation beside its captions."""
    train = composed("train", "experiment=mini", "data=shards", "data.root=s3://bucket/shards")
    test = composed("evaluate", "captioner=mini", "data=shards", "data.root=s3://bucket/shards")
    check(train)
    evaluate.check(test)
    train["data"]["root"] = address
    test["data"] = {"_target_": "a2i.data.combined.Combined", "sources": {"mine": {"roots": [address]}}}
    for name, checked, settings in (("data.root", check, train), ("data.sources.mine.roots", evaluate.check, test)):
        with pytest.raises(ValueError, match=f"got {name}=.*/shards, an address with a password, key or sig") as raised:
            checked(settings)
        assert "HIDDEN" not in str(raised.value)


@pytest.mark.parametrize(
    "argument",
    [
        *("trainer.max_epochs=0", "trainer.max_epochs=-5", "trainer.max_epochs=2.5", "trainer.max_epochs=many"),
        *("trainer.max_epochs=true", "trainer.max_steps=0", "trainer.max_steps=-2", "trainer.precision=blue"),
        *("trainer.check_val_every_n_epoch=0", "trainer.accumulate_grad_batches=0", "trainer.devices=1.5"),
        *("loader.batch_size=2.5", "loader.batch_size=0", "loader.batch_size=true", "loader.batch_size=null"),
        *("loader.val_batch_size=0", "loader.num_workers=-1", "loader.num_workers=2.0", "loader.captions=some"),
        *("loader.inputs=mel", "loader.cache=[a]", "loader.cache=false", "loader.cache=true"),
        *("training.metrics=[blue]", "training.metrics=bleu_4", "training.metrics=[1]"),
        *("training.optimizer.lr=nan", "training.optimizer.lr=0", "training.optimizer.lr=-1"),
        *("training.optimizer.lr='x'", "training.optimizer.lr=null", "training.optimizer.lr=1,2"),
        *("training.optimizer.weight_decay=-1", "training.warmup=1.5", "training.warmup=yes"),
        *("training.label_smoothing=1", "training.encoder_rate=-1", "training.freeze_encoder=1"),
        *("training.decoding.num_beams=2.0", "training.augment.frequency_width=a", "training.decoding=3"),
        *("seed=abc", "seed=null", "seed=-1", "seed=1.0", "patience=0", "patience=1.5", "table_clips=-1", "name=[a]"),
        *("model.encoder.dropout=a lot", "model.encoder.channels=32", "model.encoder.channels=[a]"),
        *("model.decoder.config=3", "model.tokenizer.max_tokens=0", "model.tokenizer.vocab_size=many"),
        *("model.keywords=2", "model.features.num_mel_bins=a", "model.decoding.num_beams=true"),
        *("bertscore.num_layers=1.5", "bertscore.idf=3", "data.n_train=many", "data.root=null"),
        "matmul_precision=low",
    ],
)
def test_what_does_not_fit_a_run_is_said_with_its_full_name(argument: str) -> None:
    key, _, value = argument.partition("=")
    key = "training.optimizer" if "weight_decay" in key else key  # torch itself says so
    config = composed("train", "experiment=mini", argument)
    with pytest.raises(ValueError, match="expected") as raised:
        check(config)
    message = str(raised.value)
    assert key in message, message
    assert value.strip("'[]") in message, message
    assert "\n" not in message


def test_annotations_are_what_values_are_held_against() -> None:
    def made(
        count: int,
        share: float,
        flag: bool,
        name: str,
        path: str | Path | None = None,
        names: list[str] | None = None,
        pair: tuple[int, int] = (0, 0),
        table: dict[str, int] | None = None,
        either: bool | str = False,
        bare: int = None,  # type: ignore[assignment]  # noqa: RUF013
        rows: HoldOut | None = None,
        sources: dict[str, DataSet] | None = None,
        left: Collection[int] = (),
    ) -> None: ...

    assert fitting(made, {"count": 3, "share": 2, "flag": False, "name": "x"}) == {
        **{"count": 3, "share": 2},
        **{"flag": False, "name": "x"},
    }
    assert fitting(made, {"name": 2024, "path": 7, "either": 1}) == {"name": "2024", "path": "7", "either": "1"}
    assert fitting(made, {"pair": [1, 2], "bare": None, "names": ["a"], "table": {"a": 1}})["pair"] == (1, 2)
    whole = {
        "rows": {"column": "fold", "values": [4, "b"]},
        "sources": {"esc10": {"_target_": "some.DataSet"}},
        "left": [1, 2],
    }
    assert fitting(made, whole) == whole
    for values, expected in (
        ({"count": 2.0}, "a whole number"),
        ({"count": True}, "a whole number"),
        ({"count": None}, "a whole number"),
        ({"count": "1,2"}, "-m for a sweep"),
        ({"share": float("nan")}, "a number"),
        ({"share": True}, "a number"),
        ({"flag": 1}, "true or false"),
        ({"name": True}, "text"),
        ({"name": None}, "text"),
        ({"path": []}, "text or a path or null"),
        ({"names": "a"}, "a list of text each or null"),
        ({"names": ["a", None]}, "a list of text each"),
        ({"pair": [1]}, "a list"),
        ({"pair": [1, "b"]}, "a list"),
        ({"table": {"a": "b"}}, "a dictionary of a whole number each"),
        ({"rows": {"column": "fold"}}, "{column: text, values: a list}"),
        ({"rows": {"column": ["a", "b"], "values": [4]}}, "{column: text, values: a list}"),
        ({"rows": {"column": "fold", "values": 4}}, "{column: text, values: a list}"),
        ({"sources": {"esc10": "many"}}, "a dictionary of DataSets, each with its _target_ or null"),
        ({"sources": {"esc10": {"root": "without _target_"}}}, "a dictionary of DataSets, each with its _target_"),
        ({"left": {"a": 1}}, "a list"),
        ({"cuont": 1}, "did you mean part.count?"),
    ):
        with pytest.raises(ValueError, match=r"^got part\.") as raised:
            fitting(made, values, "part.")
        assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *(("infer", argument) for argument in ("out=null", "out=''", "captioner.folder=[a]", "seed=abc", "seed=true")),
        *(("infer", argument) for argument in ("batch_size=0", "picture_batch=2.5", "audio={a:1}")),
        *(
            ("infer", argument)
            for argument in ("audio=null", "audio=", "audio=[]", "image.steps=2.5", "image.model=[a]")
        ),
        *(("evaluate", argument) for argument in ("out=null", "bootstrap_samples=true", "bootstrap_samples=-1")),
        *(("evaluate", argument) for argument in ("batch_size=0", "split=null", "captioner=null")),
        *(("evaluate", argument) for argument in ("report.clips=-1", "report.sounds=maybe", "data.download=3")),
        *(("prepare", argument) for argument in ("splits=train", "splits=null", "splits=[[a]]", "splits=[]")),
        *(("prepare", argument) for argument in ("workers=-1", "features=0", "features=many", "waveforms=3")),
        *(("prepare", argument) for argument in ("cache=true", "waveforms=false", "data.root=[a]")),
    ],
)
def test_what_does_not_fit_elsewhere_is_said_with_its_full_name(name: str, argument: str) -> None:
    key = argument.partition("=")[0]
    given = {"infer": ["audio=a.wav"], "evaluate": ["captioner=mini"], "prepare": []}[name]
    settings = composed(name, *([] if key == "captioner" else given), argument)
    with pytest.raises(ValueError, match="expected") as raised:
        CHECKS[name](settings)
    assert key in str(raised.value)
    assert "\n" not in str(raised.value)
