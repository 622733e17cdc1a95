# The lines of run.py: bash, each in an empty folder with the made inputs in `in/`. What begins with `= ` is always shown.
# First what all of them may use.
SMALL=(experiment=mini data=folder data.root=in/data trainer=cpu logger=csv bertscore=null trainer.max_epochs=1
  'model.encoder.channels=[4,8]' model.tokenizer.vocab_size=300 loader.batch_size=2 loader.num_workers=0
  'model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}' trainer.enable_model_summary=false loader.augment=null)
infer() { python -m a2i.infer "$@"; }
caption() { python -m a2i.infer image=none "$@"; }
train() { python -m a2i.train "${SMALL[@]}" "$@"; }
evaluate() { python -m a2i.evaluate 'metrics=[rouge_l]' bootstrap_samples=0 "$@"; }
captioned() { evaluate captioner=$MINI data=folder "$@"; }
rows() { echo "= $(cat "$1" 2>/dev/null | wc -l) rows in $1"; }
show() { sed "s/^/= /"; }
heard() { python -c '
import sys
from a2i import audio
for path in sys.argv[1:]:
    try: print("heard of", path, round(len(audio.load(path, 16000)) / 16000, 1), "s")
    except Exception as error: print("heard of", path, "error:", error)' "$@"; }

### 1 length: seconds heard; true: 8 of each, 16 of two, 70 of the long
heard in/lost/*

### 1 more: 70 s of FLAC whose header says 700
caption audio=in/lost/says_more.flac

### 1 cut: half of a file
caption audio=in/cut

### 1 pipe: sound from a pipe
ffmpeg -v error -i in/rain.wav -f wav - | caption audio=/dev/stdin

### 1 cases: recordings of such kinds
caption audio="$A2I_REAL_DATA/cases"

### 2 channels: rain: plain, antiphase, one channel of eight
caption audio=in/channels

### 3 arrays: 16-bit integers, and the same as floats
python -c '
import soundfile
from a2i import AudioToImage
a2i = AudioToImage.load(image=None)
for dtype in ("int16", "float32"):
    for more in ({}, {"sampling_rate": 16000}):
        x = soundfile.read("in/rain.wav", dtype=dtype)[0]
        for array, name in ((x, dtype), (x.astype(float), dtype + " as float64")):
            try: print(name, more, a2i(array, **more).caption, "heard")
            except Exception as error: print(name, more, type(error).__name__, "error:", error)'

### 4 soft: a bell 20 dB softer, and silence
caption audio=in/soft

### 5 folder: 8 formats, a linked folder with one more, ._x.wav, a text
caption audio=in/tree

### 5 pattern: one sound below a loop of links
caption audio='in/loop/**/*.wav'

### 5 unset: audio=$UNSET in a folder with sounds
cp in/rain.wav .; caption audio=$UNSET

### 6 again: 12 sounds done; the same again, killed at its first word or change
caption audio=in/many/twelve > log 2>&1; rows out/results.jsonl
caption audio=in/many/twelve > log 2>&1 & while kill -0 $! 2>/dev/null && [ $(wc -l < out/results.jsonl) = 12 ]
do sleep 0.05; done; kill -9 $! 2>/dev/null; wait $!; tail -1 log | show; rows out/results.jsonl

### 6 second: another sound, the default out=
caption audio=in/rain.wav; caption audio=in/bell.wav; rows out/results.jsonl

### 6 two: two at once into one folder, 12 sounds and 6 others
caption audio=in/many/twelve > a 2>&1 & caption audio=in/made > b 2>&1; wait; tail -qn 1 a b; cat a b | grep waiting; rows out/results.jsonl; python -c '
import json
found, broken = set(), 0
for line in open("out/results.jsonl"):
    try: found.add(json.loads(line)["audio"])
    except ValueError: broken += 1
print("= rows of", len(found), "sounds,", broken, "broken lines")'

### 7 unreadable: one of four test clips is no sound
cp -r in/data data; echo no sound > data/12.wav; captioned data.root=data out=o; echo "= exit status $?"; rows o/captions.csv

### 7 wordless: one reference is '...'
cp -r in/data data; sed -i 's/^13.wav,.*/13.wav,...,test/' data/captions.csv; captioned data.root=data out=o
echo "= exit status $?"; rows o/captions.csv; rows o/captions.jsonl

### 7 against: against= a table of other clips
printf 'file_name,caption_predicted,caption_1\nx.wav,A dog.,A dog.\n' > other.csv
captioned data.root=in/data against=other.csv out=o; echo "= exit status $?"; rows o/captions.jsonl

### 7 Ctrl-C: Ctrl-C after 15 s of 400 clips
timeout -s INT 15 python -m a2i.evaluate captioner=$MINI data=folder data.root=in/400 batch_size=1 out=o
echo "= exit status $?"; rows o/captions.csv; rows o/captions.jsonl

### 8 kill: killed when last.ckpt is written over, TMPDIR on another disk; then resumed
mkdir -p /dev/shm/robustness; export TMPDIR=/dev/shm/robustness; BIG='model.decoder.config={n_embd:512,n_layer:6,n_head:2,n_positions:60}'
train "$BIG" hydra.run.dir=r > log 2>&1; last() { ls -Al --full-time r/checkpoints | grep last; }; before=$(last)
python -m a2i.train resume=r trainer.max_epochs=3 > log 2>&1 & while kill -0 $! 2>/dev/null && [ "$(last)" = "$before" ]
do :; done; kill -9 $! 2>/dev/null; wait $!; ls -Al --time-style=+ r/checkpoints | cut -c24- | show
python -m a2i.train resume=r trainer.max_epochs=3 2>&1 | tail -3; echo "= exit status ${PIPESTATUS[0]}"; rm -f $TMPDIR/tmp*

### 8 unreadable: last.ckpt cut to 1,000 bytes after two epochs, resumed
train trainer.max_epochs=2 hydra.run.dir=r > log 2>&1; truncate -s 1000 r/checkpoints/last.ckpt
python -m a2i.train resume=r trainer.max_epochs=3 2>&1

### 8 full: a temporary folder of 64 kB
mkdir t; mount -t tmpfs -o size=64k none t; TMPDIR=$PWD/t train hydra.run.dir=r; code=$?; umount t; exit $code

### 9 nan: a learning rate of 1e30; then infer with what came of it
train trainer.max_epochs=2 training.optimizer.lr=1e30 hydra.run.dir=r; echo "= train: exit status $?"
ls r/captioner | show
caption audio=in/rain.wav captioner=r/captioner; echo "= exit status $?, rows with NaN: $(grep -c NaN out/results.jsonl)"

### 10 second: two runs started in one second
train > a 2>&1 & train > b 2>&1; wait; ls -d runs/*/* | show; tail -qn 1 a b | show

### 10 resume: two resume= of one run
train hydra.run.dir=r > log 2>&1; for i in a b; do python -m a2i.train resume=r trainer.max_epochs=12 > $i 2>&1 & done
wait; grep -h "^error" a b; grep -c "^captioner in" a b | show

### 11 terminal: a name that an ASCII terminal can't show, and another after it
mkdir s; cp in/rain.wav s/ä.wav; cp in/rain.wav s/ö.wav; PYTHONIOENCODING=ascii caption audio=s; c=$?; rows out/results.jsonl; exit $c

### 12 long: a name of 255 bytes, with a picture
mkdir s; cp in/rain.wav s/$(printf 'x%.0s' {1..251}).wav; infer audio=s | tail -1; ls out | cut -c1-3,245- | show

### 13 column: a column name twice
printf 'file_name,caption_predicted,caption_1,caption_1\nx.wav,A dog.,A dog barks.,Rain falls.\n' > t.csv; evaluate captions=t.csv out=o

### 13 nan: the text nan as caption and reference
printf 'file_name,caption_predicted,caption_1\nx.wav,nan,nan\ny.wav,A dog.,A cat runs.\n' > t.csv; evaluate captions=t.csv out=o | grep rouge_l | show

### 14 cache: loader.cache=false
train loader.cache=false hydra.run.dir=r; ls -d false | show

### 14 sweep: -m data.root=A,B
cp -r in/data A; cp -r in/data B; python -m a2i.train -m "${SMALL[@]}" data.root=A,B hydra.sweep.dir=r; ls -d r/*/captioner | show

### 15 bare: infer FILE
infer in/rain.wav image=none

### 15 image: image=null
infer audio=in/rain.wav image=null

### 15 out: out=null
infer audio=in/rain.wav out=null

### 15 epochs: trainer.max_epochs=0
train trainer.max_epochs=0

### 15 batch: loader.batch_size=2.5
train loader.batch_size=2.5

### 15 metrics: training.metrics=[blue]
train training.metrics=[blue]

### 15 readonly: a read-only folder
mkdir o; mount -t tmpfs -o ro none o; caption audio=in/rain.wav out=o; code=$?; umount o; exit $code

### 15 full: a full disk, 12 pictures
mkdir o; mount -t tmpfs -o size=60k none o; infer audio=in/many/twelve out=o; code=$?; umount o; exit $code

### 15 tilde: ~x.wav
cp in/rain.wav '~x.wav'; caption audio='~x.wav'

### 15 root: data=folder without a root
python -m a2i.train experiment=mini data=folder

### 16 early: a bad file, a wordless reference, METEOR monitored without Java
cp -r in/data data; echo no sound > data/2.wav; sed -i 's/^9.wav,.*/9.wav,...,val/' data/captions.csv
PATH=$(dirname $(which python)) train data.root=data training.metrics=[meteor] monitor=val/meteor

### 17 silent: a W&B key, and a server that takes connections and never answers
python -c 'import socket, time; s = socket.create_server(("127.0.0.1", 8937)); time.sleep(300)' & server=$!
unset WANDB_MODE; export WANDB_API_KEY=$(printf 'a1%.0s' {1..20}) WANDB_BASE_URL=http://127.0.0.1:8937
timeout -s INT 150 python -m a2i.train "${SMALL[@]}" logger=wandb hydra.run.dir=r; code=$?; kill $server; exit $code

### 17 refused: the same, and a port where nobody listens
unset WANDB_MODE; export WANDB_API_KEY=$(printf 'a1%.0s' {1..20}) WANDB_BASE_URL=http://127.0.0.1:9
timeout -s INT 150 python -m a2i.train "${SMALL[@]}" logger=wandb hydra.run.dir=r

### 17 csv: the same run without W&B
train hydra.run.dir=r

### 18 semicolon: a table with semicolons
cp -r in/data data; sed -i 's/,/;/g' data/captions.csv; train data.root=data

### 18 tab: a table with tabs
cp -r in/data data; sed -i 's/,/\t/g' data/captions.csv; train data.root=data

### 18 commas: rows of commas at the end
cp -r in/data data; printf ',,\n,,\n' >> data/captions.csv; train data.root=data

### 18 backslash: paths with backslashes
mkdir data; cp -r in/data data/s; mv data/s/captions.csv data; sed -i '2,$s/^/s\\/' data/captions.csv; train data.root=data

### 18 list: a list beside its sounds, with a comment; an .m3u
mkdir s; cp in/rain.wav in/bell.wav s; printf '# two\nrain.wav\nbell.wav\n' > s/list.txt
printf '#EXTM3U\n#EXTINF:8,Rain\nrain.wav\n' > s/list.m3u; caption audio=s/list.txt; caption audio=s/list.m3u

### 18 sweep: a sweep of three, the first and last fail
cp -r in/data A; python -m a2i.train -m "${SMALL[@]}" data.root=nowhere,A,neither hydra.sweep.dir=r; ls -d r/*/captioner | show

### 19 getuid: no os.getuid, as on Windows
python -c '
import os, runpy, sys
del os.getuid
sys.argv[1:] = ["data=foley", "data.n_train=1", "data.n_val=1", "data.n_test=1", "data.root=f", "cache=c"]
runpy.run_module("a2i.prepare", run_name="__main__")'

### busy: one sound beside a program that keeps each core busy
for i in 1 2; do (while :; do :; done) & done; caption audio=in/rain.wav; code=$?; kill %1 %2; exit $code

### busy alone: the same without that program
caption audio=in/rain.wav

### 20 decoder: experiment=gru model/encoder=cnn model/decoder=gpt2, then infer
python -m a2i.train experiment=gru model/encoder=cnn_mini model/decoder=gpt2 model.decoder.pretrained=in/gpt2 \
  model.decoder.revision=null data=folder data.root=in/data trainer=cpu logger=csv bertscore=null \
  trainer.max_epochs=1 hydra.run.dir=r loader.num_workers=0; caption audio=in/rain.wav captioner=r/captioner

### 20 mini: experiment=mini model/decoder=gpt2, then infer
python -m a2i.train experiment=mini model/decoder=gpt2 model.decoder.pretrained=in/gpt2 model.decoder.revision=null \
  data=folder data.root=in/data trainer=cpu logger=csv bertscore=null trainer.max_epochs=1 hydra.run.dir=r \
  loader.num_workers=0 loader.augment=null; caption audio=in/rain.wav captioner=r/captioner

### 21 planted: resume= of a folder whose overrides.yaml would copy a file
train hydra.run.dir=r > log 2>&1; python - <<'E'
import pathlib, yaml
path = pathlib.Path("r/overrides.yaml")
planted = "+hydra.callbacks.x={_target_: shutil.copy, src: in/rain.wav, dst: planted}"
path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), planted]))
E
python -m a2i.train resume=r; ls planted | show

### 21 record: a finished run resumed with another batch size: is its config.yaml the same?
train hydra.run.dir=r > log 2>&1; cp r/config.yaml before; python -m a2i.train resume=r loader.batch_size=3 trainer.max_epochs=2
echo "= exit status $?"; cmp before r/config.yaml && echo "= config.yaml as before"

### 22 limit: 8 batches, trainer.limit_train_batches=0.5, 2 epochs, a linear schedule; then without the limit
for limit in 0.5 1.0; do train loader.batch_size=1 trainer.limit_train_batches=$limit trainer.max_epochs=2 training.schedule=linear \
  training.warmup=0 trainer.log_every_n_steps=1 hydra.run.dir=r$limit > log 2>&1 || tail -1 log
python - $limit <<'E'
import sys, torch
kept = torch.load(f"r{sys.argv[1]}/checkpoints/last.ckpt", weights_only=True)
rate, first = kept["optimizer_states"][0]["param_groups"][0]["lr"], kept["lr_schedulers"][0]["base_lrs"][0]
print(kept["global_step"], "steps heard in 2 epochs; the learning rate ends at", round(100 * rate / first), "%")
E
done

### 23 minute: a minute of m4a
caption audio=in/minute.m4a

### 23 hour: an hour of m4a
caption audio=in/hour.m4a

### 24 precision: precision=float32 under mixed precision: nats a token from plain float32
python - <<'E'
import torch
from a2i import AudioToImage, audio
a2i = AudioToImage.load(image=None, device="cpu")
def told(): return a2i.captioner.caption([audio.load("in/rain.wav", a2i.captioner.sampling_rate)], num_beams=1, num_candidates=1, precision="float32")[0][0]
plain = told()
with torch.autocast("cpu", torch.bfloat16): mixed = told()
print("heard", plain.caption, "|", mixed.caption, "| apart:", abs(plain.log_probability - mixed.log_probability))
E

### 25 pictures: evaluate of a.wav, a~2.wav, b/a.wav with pictures
mkdir -p d/b; cp in/rain.wav d/a.wav; cp in/bell.wav d/a~2.wav; cp in/siren.wav d/b/a.wav
printf 'file_name,caption,split\na.wav,Rain falls.,test\na~2.wav,A bell rings.,test\nb/a.wav,A siren.,test\n' > d/captions.csv
captioned data.root=d image=mini out=o | tail -1; (cd o/pictures; find . -name '*.png') | show

### 25 leaves: a table that names ../secret.wav
mkdir d; cp in/rain.wav secret.wav; printf 'file_name,caption_predicted,caption_1\n../secret.wav,Rain.,Rain falls.\n' > t.csv
evaluate captions=t.csv audio=d out=o; echo "= sounds in the report: $(grep -c data:audio o/report.html)"

### 25 schedules: two of the schedules that were offered
for kind in cosine_with_min_lr warmup_stable_decay
do train training.schedule=$kind hydra.run.dir=$kind > log 2>&1; echo "= $kind: exit status $?, $(grep -i error log | tail -1 | cut -c1-160)"; done

### 25 kernels: a captioner folder that asks for attn_implementation
cp -r $MINI c; sed -i 's/"n_embd": 128/"n_embd": 128, "attn_implementation": "someone\/kernel"/' c/*.json
caption audio=in/rain.wav captioner=c

### 25 beams: decoding.num_beams=true
caption audio=in/rain.wav decoding.num_beams=true

### 25 temperature: decoding.temperature=nan
caption audio=in/rain.wav decoding.temperature=nan decoding.do_sample=true decoding.num_beams=1

### 25 std: a captioner folder whose features have std=0
cp -r $MINI c; sed -i 's/"std": [0-9.]*/"std": 0.0/' c/*.json; grep -h '"std"' c/*.json; caption audio=in/rain.wav captioner=c

### 25 saving: killed at the first weight of a captioner written over another
python - <<'E'
import os, signal, subprocess, sys
code = '''
import os, signal, safetensors.torch, a2i.captioner
try: import a2i.captioner.folder as folder
except ImportError: import a2i.captioner_folder as folder
from a2i.captioner import Captioner
c = Captioner.load("c")
def killed(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
for module in (safetensors.torch, a2i.captioner, folder):
    for name in ("save_file", "save"):
        if callable(getattr(module, name, None)) and not isinstance(getattr(module, name), type): setattr(module, name, killed)
c.save("c")
'''
import shutil
shutil.copytree(os.environ["MINI"], "c")
code = subprocess.run([sys.executable, "-c", code]).returncode
print("heard", code)
sys.exit(code != -signal.SIGKILL)
E
[ $? = 0 ] || { echo "= it was not killed while it saved"; exit 1; }
ls -d c* c/* | show; caption audio=in/rain.wav captioner=c

### 25 locks: lock files left in the temporary folder
mkdir t; export TMPDIR=$PWD/t; train data=foley data.n_train=4 data.n_val=4 data.n_test=1 data.root=f hydra.run.dir=r; ls t | show

### 10000 done: 10,000 files in a folder: found; then infer, with a row for each there already
caption audio=in/many/10000/00000.wav > log; python - <<'E'
import json, os, time
try: from a2i.audio.inputs import find_sounds
except ImportError: from a2i.infer import find_sounds
began = time.perf_counter()
found = find_sounds("in/many/10000")
print("=", len(found), "found in", round(time.perf_counter() - began, 2), "s")
row = json.loads(open("out/results.jsonl").read())
with open("out/results.jsonl", "w") as file:
    for path in found:  # the file's name as the row has it too, where there is one
        mark = {**row.get("audio_file", {}), "name": row.get("audio_file", {}).get("name", "").replace("00000", path.stem)}
        file.write(json.dumps({**row, "audio": str(path), "audio_file": mark}) + "\n")
E
TIMEFORMAT="= %R s"; time timeout 60 python -m a2i.infer image=none audio=in/many/10000 | tail -1; rows out/results.jsonl
