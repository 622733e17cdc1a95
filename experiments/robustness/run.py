"""What strangers meet: each line is a command, run; the table says how it ended. See README.md for what came of it.

    python experiments/robustness/run.py                    # those that take a minute or two together
    python experiments/robustness/run.py all                # every line
    python experiments/robustness/run.py 6 9 "8 kill"       # some: numbers, or numbers with the word behind them

What runs is the code of this checkout. For that of an older one, with the inputs and lines of this:

    git worktree add ../older COMMIT
    PYTHONPATH=../older python experiments/robustness/run.py

FFmpeg's program and Linux are expected; the lines about full and read-only disks mount one, which takes root. Where
`A2I_REAL_DATA` is set, the recordings in its folder `cases` are captioned too.
"""

import csv
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
SAID = re.compile(
    r"^=|sure\)|error|warning|skipped|heard|done|waiting|before it|can't be reached|offline|left out|exit status"
)
QUICK = ("1 length", "1 cut", "1 pipe", "2", "3", "4", "5", "6 second", "11", "13", "15 bare", "15 out", "25 beams")


def read_lines() -> tuple[str, list[tuple[str, str, str]]]:
    """What all lines may use; and of each its number with a word, what it does, and its command."""
    prelude, *parts = re.split(
        r"^### ", (Path(__file__).parent / "lines.sh").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    heads = [part.partition("\n") for part in parts]
    return prelude, [(*head.split(": ", 1), command) for head, _, command in heads]  # type: ignore[misc]


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def joined(parts: list[Path], path: Path) -> None:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def make_inputs(root: Path) -> None:
    """All that the lines read, made here."""
    for name in ("made", "lost", "cut", "channels", "soft", "tree/more", "elsewhere", "loop", "many/twelve", "data"):
        (root / name).mkdir(parents=True)
    (root / "many" / "10000").mkdir()
    (root / "400").mkdir()
    command = [sys.executable, "-m", "a2i.data.foley", str(root / "made"), "--count", "6", "--seed", "1", "--alone"]
    subprocess.run(command, check=True, capture_output=True)
    sounds = {}
    for path in sorted((root / "made").glob("*.wav")):
        sound = soundfile.read(path, dtype="float32")[0]
        sounds[path.stem] = np.resize(sound, 8 * RATE)
        soundfile.write(root / f"{path.stem}.wav", sounds[path.stem], RATE)
    rain, bell = root / "rain.wav", root / "bell.wav"

    lost = root / "lost"
    ffmpeg("-i", rain, "-q:a", "5", "-write_xing", "0", lost / "vbr.mp3")
    parts = root / "parts"
    parts.mkdir()
    for ending, more in (("ogg", ["-c:a", "libvorbis"]), ("opus", []), ("flac", []), ("mp3", [])):
        for source in (rain, bell):
            ffmpeg("-i", source, *more, parts / f"{source.stem}.{ending}")
        joined([parts / f"rain.{ending}", parts / f"bell.{ending}"], lost / f"two.{ending}")
    header = bytearray(rain.read_bytes())
    header[40:44] = bytes(4)
    (lost / "says_0.wav").write_bytes(header)
    ffmpeg("-stream_loop", "8", "-i", rain, "-t", "70", lost / "says_more.flac")
    flac = bytearray((lost / "says_more.flac").read_bytes())
    length = 700 * RATE
    flac[22:26] = length.to_bytes(4, "big")
    (lost / "says_more.flac").write_bytes(flac)

    ffmpeg("-i", rain, "-movflags", "+faststart", parts / "rain.m4a")
    ffmpeg("-i", rain, parts / "rain.webm")
    for name in ("rain.flac", "rain.ogg", "rain.mp3", "rain.m4a", "rain.webm"):
        whole = (parts / name).read_bytes()
        (root / "cut" / f"cut{Path(name).suffix}").write_bytes(whole[: len(whole) // 2])
    (root / "cut" / "cut.wav").write_bytes(rain.read_bytes()[: rain.stat().st_size // 2])

    silent = np.zeros_like(sounds["rain"])
    stereo = np.stack([sounds["rain"], -sounds["rain"]], 1)
    eight = np.stack([sounds["rain"] if index == 5 else silent for index in range(8)], 1)
    for name, sound in (("plain", sounds["rain"]), ("antiphase", stereo), ("one_of_eight", eight)):
        soundfile.write(root / "channels" / f"{name}.wav", sound, RATE)
    soundfile.write(root / "soft" / "bell.wav", 0.1 * sounds["bell"], RATE)
    soundfile.write(root / "soft" / "silence.wav", silent, RATE)

    for ending in ("wav", "mkv", "mov", "3gp", "wv", "mp2", "m4b"):
        more = ["-f", "mp4"] if ending == "m4b" else ["-c:a", "aac"] if ending == "3gp" else []
        ffmpeg("-i", rain, *more, root / "tree" / f"rain.{ending}")
    shutil.copy(rain, root / "tree" / "more" / "below.wav")
    shutil.copy(rain, root / "elsewhere" / "linked.wav")
    (root / "tree" / "link").symlink_to("../elsewhere")
    (root / "tree" / "._rain.wav").write_bytes(b"\0\5\26\7" + bytes(60))
    (root / "tree" / "notes.txt").write_text("notes")
    shutil.copy(rain, root / "loop" / "one.wav")
    (root / "loop" / "again").symlink_to(".")

    for index in range(12):
        os.link(rain, root / "many" / "twelve" / f"{index:02}.wav")
    for index in range(10_000):
        os.link(rain, root / "many" / "10000" / f"{index:05}.wav")
    for index in range(400):
        os.link(rain, root / "400" / f"{index:03}.wav")
    write_captions(root / "400", [(f"{index:03}.wav", "test") for index in range(400)])
    for index in range(16):
        sound = sounds[sorted(sounds)[index % len(sounds)]][index * 1000 :][:RATE]
        soundfile.write(root / "data" / f"{index}.wav", sound, RATE)
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    write_captions(root / "data", [(f"{index}.wav", split) for index, split in enumerate(splits)])

    ffmpeg("-stream_loop", "10", "-i", rain, "-t", "60", "-b:a", "32k", root / "minute.m4a")
    ffmpeg("-stream_loop", "-1", "-i", rain, "-t", "3600", "-b:a", "32k", root / "hour.m4a")
    make_gpt2(root / "gpt2")


SENTENCES = ["Rain falls.", "A bell is ringing.", "Birds sing in a forest.", "A clock ticks slowly.", "Thunder rolls."]


def write_captions(folder: Path, clips: list[tuple[str, str]]) -> None:
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = [[name, SENTENCES[index % 5], split] for index, (name, split) in enumerate(clips)]
        csv.writer(file).writerows([["file_name", "caption", "split"], *rows])


def make_gpt2(folder: Path) -> None:
    """A checkpoint as the Hub has them, with random weights and a tokenizer of its own."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    folder.mkdir()
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(SENTENCES, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    learnt.save_model(str(folder))
    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=80, bos_token_id=end, eos_token_id=end
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def run_line(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, float, float, str]:
    """Exit status, seconds, peak MB of its largest process, and what it printed."""
    log = folder / "output"
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    return process.returncode, seconds, used.ru_maxrss / 1024, log.read_text(errors="replace")


def said(text: str) -> str:
    """What matters of a command's output."""
    lines = [line.strip() for line in re.split(r"[\n\r]", text) if line.strip()]
    traced = sum("Traceback (most" in line for line in lines)
    told = [line for line in lines if SAID.search(line)] or lines[-1:]
    told = [
        line
        for line in told
        if not re.search(r"HYDRA_FULL_ERROR|^using|wandb|WANDB offline the small|^Set the env", line)
    ]
    told = [line[:300] for line in told[:12] + ([f"… {len(told)} lines"] if len(told) > 12 else [])]
    return (f"{traced} TRACEBACKS, {len(lines)} lines: {lines[-1][:300]} / " if traced else "") + " / ".join(told)


def main() -> None:
    wanted = sys.argv[1:]
    prelude, lines = read_lines()
    chosen = [
        line
        for want in wanted or QUICK
        for line in lines
        if want == "all" or re.match(rf"{re.escape(want)}\b", line[0])
    ]
    code = os.environ.get("PYTHONPATH") or str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(Path(code).resolve()), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"},
        **{"WANDB_MODE": "offline", "WANDB_SILENT": "true", "COLUMNS": "200"},
        "MINI": str(Path(code).resolve() / "a2i" / "assets" / "captioner"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    work = Path(tempfile.mkdtemp(prefix="robustness-"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # In a process of its own: what it takes would be counted as that of each line's processes, which begin as copies of this.
    making = multiprocessing.Process(target=make_inputs, args=(work / "in",))
    making.start()
    making.join()
    if making.exitcode:
        sys.exit("error: the inputs could not be made")
    print("| line | what is done | exit status | seconds | MB | said |\n|---|---|---|---|---|---|", flush=True)
    for name, what, command in chosen:
        if "A2I_REAL_DATA" in command and not os.environ.get("A2I_REAL_DATA"):
            continue
        folder = work / name.replace(" ", "_")
        folder.mkdir()
        (folder / "in").symlink_to(work / "in")
        status, seconds, megabytes, text = run_line(prelude + command, folder, environment)
        told = said(text).replace(str(work), "…").replace("|", "/")
        print(f"| {name} | {what} | {status} | {seconds:.1f} | {megabytes:.0f} | {told} |", flush=True)
    print(f"what each printed: {work}")


if __name__ == "__main__":
    main()
