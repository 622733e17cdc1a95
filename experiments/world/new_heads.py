"""Give a trained captioner heads that read as the configuration says now: what it hears with and writes with stays.

    A2I_REAL_DATA=FOLDER python experiments/world/new_heads.py RUN/captioner --keep FOLDER --out CAPTIONER

Teaches the head that tells keywords, and the network that tells two, from the recordings that the experiment does not hold out.
What the encoder makes of all recordings (`states.pt`, as for `cross_validate.py --keep`), and what is read of mixed ones
(`mixed.pt`), is kept in a folder, and read from there the next time.
"""

import argparse
import os
from pathlib import Path

import hydra
import torch
from ship_captioner import recordings
from states import fit_head, kept_states, what_is_read

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.compose import build, plain
from a2i.paths import CONF
from a2i.training.several import heard_by_part, learn_several
from a2i.whole import whole


def with_new_bridge(captioner: Captioner) -> KeywordBridge:
    """Put into a captioner the bridge of `experiment=world`, with random heads."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        model = plain(hydra.compose("train", ["experiment=world"]))["model"]
    old = captioner.bridge
    assert isinstance(old, KeywordBridge)
    reads = {"halves": model["halves"], "window": model["keyword_window"], "bands": model["encoder"]["bands"]}
    bridge = KeywordBridge(captioner.encoder.width, old.embedding.out_features, **(old.settings | reads))
    bridge.embedding.load_state_dict(old.embedding.state_dict())
    captioner.bridge = bridge.eval()
    return bridge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--keep", type=Path, required=True, help="folder for states.pt and mixed.pt")
    parser.add_argument("--out", type=Path, required=True, help="folder for the captioner with new heads")
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    arguments.keep.mkdir(parents=True, exist_ok=True)
    captioner = Captioner.load(arguments.captioner).eval()
    bridge = with_new_bridge(captioner)
    config, unmixed = recordings(captioner, "loader.augment.mix=0")
    states = kept_states(arguments.keep / "states.pt", captioner, config, unmixed)
    config, datamodule = recordings(captioner, held_out=True)
    halves = [what_is_read(bridge, half) for half in states]
    # A made sound that is drawn for another split is no recording.
    learnt = [clip for clip in datamodule.clips["train"] if clip.name in halves[0]]
    offset = fit_head(bridge, halves, learnt, config["training"])
    augment, mixed = build(config["training"]["augment"]), arguments.keep / "mixed.pt"
    reads = f"{bridge.settings['window']} {bridge.settings['bands']} {sorted(clip.name for clip in learnt)}"
    if not mixed.exists():
        torch.manual_seed(config["seed"])
        with whole(mixed) as partial:
            torch.save((reads, heard_by_part(captioner, bridge, datamodule, augment, 1)), partial)
    before, heard = torch.load(mixed, weights_only=True)
    if before != reads:
        raise SystemExit(f"{mixed}: was read in another way, or of other recordings; delete it, or name another --keep")
    smoothing = config["training"]["label_smoothing"]
    learn_several(captioner, datamodule, augment, config["seed"], "cpu", 1, True, smoothing, offset, heard)
    captioner.save(arguments.out, "# New heads\n")


if __name__ == "__main__":
    main()
