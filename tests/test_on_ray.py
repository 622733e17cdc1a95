"""The engine on Ray: without it what is pure, and on two nodes, emulated here, all that takes processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import pyarrow.parquet
import pytest
import soundfile
from conftest import listen_to_ctrl_c, tone
from pretended_work import Pretended
from s3_store import s3_store

from a2i.on_ray import LOADS, Attempts, RaySettings, _Captioner, actors_of
from a2i.parts import Parts, Plan, key
from a2i.results import RowSettings

ALWAYS = ["engine=ray", "device=cpu"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"actors": 0}, "ray.actors=0; expected null"),
        ({"cpus": 0}, "ray.cpus=0; expected a number above 0"),
        ({"gpus": 1.5}, "ray.gpus=1.5; expected 0, a share"),
        ({"rows": 0}, "ray.rows=0; expected a whole number"),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RaySettings(**given)


def test_actors_have_room_and_work() -> None:
    there = {"CPU": 8.0, "GPU": 2.0}
    assert actors_of(RaySettings(), there, 100) == 8
    assert actors_of(RaySettings(cpus=3), there, 100) == 2
    assert actors_of(RaySettings(gpus=0.5), there, 100) == 4
    assert actors_of(RaySettings(gpus=1, actors=1), there, 100) == 1
    assert actors_of(RaySettings(actors=50), there, 100) == 8
    assert actors_of(RaySettings(), there, 3) == 3
    assert actors_of(RaySettings(), {}, 3) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["engine=spark"], "got engine=spark; expected local or ray"),
        ([*ALWAYS, "storyboard=true"], "got storyboard=true with engine=ray"),
        ([*ALWAYS, "workers=2"], "got workers=2 with engine=ray; expected ray.actors=2"),
        (["engine=ray", "device=cuda"], "got device=cuda with ray.gpus=0; expected ray.gpus=1"),
        (["out=s3://bucket/out"], "got an address as out= with engine=local"),
        ([*ALWAYS, "ray.actors=two"], "got ray.actors='two'"),
        ([*ALWAYS, f"seed={2**63}"], "whose results hold none from 2^63 on"),
    ],
)
def test_bad_settings_end_in_a_clear_line(sounds: Path, given: list[str], message: str, tmp_path: Path) -> None:
    done = programs.run("infer", f"audio={sounds}", f"out={tmp_path / 'out'}", *given)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]


class Here(_Captioner):
    """Counts attempts in this process, which is the tests'."""

    def _begin_process(self) -> None:
        pass

    def _begin(self, name: str) -> int:
        return self._attempts.begin(name)

    def _end(self, *names: str) -> None:
        self._attempts.end(*names)


def test_a_sound_that_ends_processes_becomes_an_error(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """As if one had died with all in hand, and another with the second alone."""
    from a2i.command_line import composed
    from a2i.infer import _settings_of, _work_of, check

    made = check(
        composed("infer", {"audio": str(sounds), "captioner": captioner_folder, "image": "none", "device": "cpu"})
    )
    parts, files = Parts(str(tmp_path)), sorted(sounds.glob("*.wav"))
    plan = Plan.of(files, parts, RowSettings("a", None), False, 8, 1)
    assert (plan.sounds, plan.left, plan.groups) == (3, 3, 1)
    attempts = Attempts()
    attempts.begin("group 0")
    attempts.begin(f"sound {key(files[1])}")
    actor = Here(_work_of(made, _settings_of(made)), parts, 1, attempts, 1)
    answer = actor({"group": [0]})
    assert answer["failure"] == [""]
    rows = json.loads(answer["rows"][0])
    assert [Path(row["audio"]) for row in rows] == files
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert "ended twice, perhaps for want of memory" in rows[1]["error"]
    assert pyarrow.parquet.read_table(tmp_path / "rows")["error"].to_pylist() == [row["error"] for row in rows]
    assert attempts.begin("group 0") == 0


def test_actors_that_load_at_once_are_not_taken_for_dead_ones(tmp_path: Path) -> None:
    parts, attempts, work = Parts(str(tmp_path)), Attempts(), Pretended()
    sound = tmp_path / "a.wav"
    sound.touch()
    Plan.of([sound], parts, work.settings, False, 1, 1)
    for _ in range(LOADS):
        attempts.begin("load")
    assert "ended one after another" in Here(work, parts, 1, attempts, 1)({"group": [0]})["failure"][0]
    assert Here(work, parts, 1, attempts, 8)({"group": [0]})["failure"] == [""]


# --- On two nodes


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with s3_store() as told:
        yield told


@pytest.fixture(scope="module")
def cluster(store: dict[str, str]) -> Iterator[Any]:
    """Ray on two nodes of a core each."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)  # Ray's own ends a training in the midst of a step
    sizes = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=sizes)
    made.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, before)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(out / "rows").to_pylist()


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    soundfile.write(folder / "0.wav", tone(300.0, 0.1), 16_000)
    for index in range(1, count):
        os.link(folder / "0.wav", folder / f"{index}.wav")
    return folder


@pytest.mark.long
def test_the_same_as_the_local_engine(
    cluster: Any, sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    (sounds / "broken.mp3").write_text("no sound")
    asked = [
        f"audio={sounds}",
        f"captioner={captioner_folder}",
        f"image={painter_folder}",
        "image.steps=1",
        "device=cpu",
    ]
    assert programs.run("infer", *asked, f"out={tmp_path / 'local'}").returncode == 1
    asked += ["engine=ray", f"ray.address={cluster.address}", "ray.rows=1", f"out={tmp_path / 'ray'}"]
    done = programs.run("infer", *asked)
    assert done.returncode == 1, done.stderr
    assert "3 of 4 done, 1 failed" in done.stdout
    assert done.stderr == ""  # nothing that Ray says
    local = {
        row["audio"]: row for row in map(json.loads, (tmp_path / "local" / "results.jsonl").read_text().splitlines())
    }
    found = {row["audio"]: row for row in rows_of(tmp_path / "ray")}
    assert found.keys() == local.keys()
    differ = {"image", "seconds", "audio_file"}
    for audio, row in found.items():
        assert {name: row[name] for name in local[audio].keys() - differ} == {
            name: local[audio][name] for name in local[audio].keys() - differ
        }
        assert row["audio_file"]["sha256"] == local[audio]["audio_file"]["sha256"]
        if row["error"] is None:
            assert Path(row["image"]).read_bytes() == Path(local[audio]["image"]).read_bytes()
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == ["pictures", "rows"]
    (sounds / "broken.mp3").unlink()
    again = programs.run("infer", *asked)
    assert "3 of 3 done, 3 of them already before" in again.stdout
    assert len(rows_of(tmp_path / "ray")) == 4


@pytest.mark.long
def test_sounds_and_results_in_a_bucket(
    cluster: Any, sounds: Path, captioner_folder: Path, painter_folder: Path
) -> None:
    import s3fs

    bucket = s3fs.S3FileSystem(skip_instance_cache=True)
    bucket.mkdir("sounds")
    bucket.put(f"{sounds}/", "sounds/in/", recursive=True)
    asked = [f"captioner={captioner_folder}", f"image={painter_folder}", "image.steps=1", *ALWAYS]
    asked += [f"ray.address={cluster.address}", "out=s3://sounds/results"]
    manifest = "audio\nlow.wav\ns3://sounds/in/high.wav\ns3://gone/a.wav\n"
    bucket.pipe("sounds/in/all.csv", manifest.encode())
    done = programs.run("infer", "audio=s3://sounds/in/all.csv", *asked)
    assert done.returncode == 1, done.stderr
    assert "s3://gone/a.wav: there is no such bucket, folder or file" in done.stdout
    assert "2 of 3 done, 1 failed; results in s3://sounds/results/rows" in done.stdout
    assert "nobody" not in done.stdout + done.stderr
    bucket.invalidate_cache()
    (part,) = bucket.glob("sounds/results/rows/*")
    with bucket.open(part) as file:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    done_rows = [row for row in rows if row["error"] is None]
    assert {row["audio"] for row in done_rows} == {"s3://sounds/in/low.wav", "s3://sounds/in/high.wav"}
    for row in done_rows:
        assert row["image"].startswith("s3://sounds/results/pictures/")
        assert bucket.cat(row["image"])[:4] == b"\x89PNG"
    lost = programs.run("infer", "audio=s3://lost/", *asked)
    assert lost.returncode == 2
    assert lost.stderr.splitlines()[0] == "error: s3://lost/: there is no such bucket, folder or file"
    lost = programs.run("infer", f"audio={sounds}", *asked[:-1], "out=s3://lost/out")
    assert lost.returncode == 2
    assert lost.stderr.startswith("error: s3://lost/out: ")
    assert len(lost.stderr.splitlines()) == 2


def during(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act once, as soon as something is so."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not condition():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.long
def test_a_kill_and_then_a_node_that_dies_lose_nothing(cluster: Any, captioner_folder: Path, tmp_path: Path) -> None:
    """Every row is there once: those of the killed run, and those of the one that goes on and loses a node."""
    folder, out = many(tmp_path / "many", 24), tmp_path / "out"
    asked = [f"audio={folder}", f"captioner={captioner_folder}", "image=none", *ALWAYS, f"out={out}"]
    asked += [f"ray.address={cluster.address}", "ray.rows=1"]
    command = [sys.executable, "-m", "a2i.infer", *asked]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=listen_to_ctrl_c) as process:
        during(
            lambda: process.poll() is not None or len([*out.glob("rows/part-000001-*")]) >= 4,
            lambda: process.send_signal(signal.SIGKILL),
        ).join()
    assert process.returncode == -signal.SIGKILL
    before = {row["audio"]: row for row in rows_of(out)}
    assert 0 < len(before) < 24
    node = cluster.list_all_nodes()[-1]
    dying = during(
        lambda: len([*out.glob("rows/part-000002-*")]) >= 3,
        lambda: cluster.remove_node(node, allow_graceful=False),
    )
    done = programs.run("infer", *asked)
    dying.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"24 of 24 done, {len(before)} of them already before" in done.stdout
    rows = rows_of(out)
    assert sorted(row["audio"] for row in rows) == sorted(map(str, folder.iterdir()))
    assert {row["audio"]: row for row in rows if row["audio"] in before} == before
    assert [path.name for path in out.iterdir()] == ["rows"]


@pytest.mark.long
def test_ray_started_here_is_reached_from_this_machine_alone() -> None:
    code = """
from a2i.on_ray import RaySettings, _need_ray, _running
_need_ray(is_here=True)
with _running(RaySettings()):
    import ray
    print(*(node["NodeManagerAddress"] for node in ray.nodes()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "127.0.0.1\n", done.stderr
    assert done.stderr == ""
