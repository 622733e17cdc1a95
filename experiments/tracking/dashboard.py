"""The W&B workspace in which a2i's runs read well: what a training run and an evaluation log, in sections.

    python experiments/tracking/dashboard.py ENTITY [--project a2i]         # saves it; needs a W&B account
    python experiments/tracking/dashboard.py ENTITY --json workspace.json   # writes its definition; asks no network

Needs the package wandb-workspaces: pip install "a2i[dashboard]".
"""

import argparse
from pathlib import Path

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

STEP = "trainer/global_step"
CURVES = {
    "Validation": {
        "BERTScore": ["val/bertscore_f1", "val/bertscore_precision", "val/bertscore_recall"],
        "Caption metrics": ["val/cider_d", "val/rouge_l", "val/bleu_4"],
        "Cross-entropy (nats per token)": ["train/loss", "val/loss"],
        "Does it say the same to all?": ["val/distinct_captions", "val/repetition"],
        "Words": ["val/vocabulary", "val/mean_words"],
    },
    "Training": {
        "Cross-entropy (nats per token)": ["train/loss"],
        "Cross-entropy of labels (nats a clip)": ["train/label_loss"],
        "Learning rates": ["train/rate_encoder", "train/rate_decoder", "train/rate_new"],
    },
}
# Of `python -m a2i.evaluate … logger=wandb`; a bar for each run.
BARS = {
    "BERTScore F1": "test/bertscore_f1",
    "CIDEr-D": "test/cider_d",
    "METEOR": "test/meteor",
    "ROUGE-L": "test/rouge_l",
    "BLEU-4": "test/bleu_4",
    "Distinct captions, share": "test/distinct",
    "First word valid, share": "test/first_word_valid",
    "CLIPScore": "test/clip_score",
    "Lost by the captioner": "test/blame_captioner",
    "Conveyed by the painter": "test/blame_conveyed",
}
TABLES = {"Clips": ["test/clips", "val/captions"], "Scores": ["test/scores", "compare/differences"]}
PICTURES = ["test/intervals"]


def workspace(entity: str, project: str = "a2i") -> ws.Workspace:
    """Build the workspace, without asking the network.

    Args:
        entity: W&B user or team.
        project: that the runs are logged to: `logger.wandb.project`.
    """
    sections = [
        ws.Section(name="Evaluation", is_open=True, panels=[
            *(wr.BarPlot(title=title, metrics=[metric]) for title, metric in BARS.items()),
            wr.MediaBrowser(title="Scores and intervals", media_keys=PICTURES),
        ]),
        *(ws.Section(name=name, is_open=name == "Validation", panels=[
            wr.LinePlot(title=title, x=STEP, y=metrics) for title, metrics in curves.items()
        ]) for name, curves in CURVES.items()),
        *(ws.Section(name=name, is_open=name == "Clips", panels=[
            wr.WeavePanelSummaryTable(table_name=table) for table in tables
        ]) for name, tables in TABLES.items()),
    ]  # fmt: skip
    return ws.Workspace(entity=entity, project=project, name="a2i", sections=sections)


def definition(entity: str, project: str = "a2i") -> str:
    """The workspace as the JSON that W&B would be sent."""
    return workspace(entity, project)._to_model().model_dump_json(by_alias=True, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("entity", help="W&B user or team")
    parser.add_argument("--project", default="a2i")
    parser.add_argument("--json", type=Path, help="write the definition to this file, and save nothing on W&B")
    asked = parser.parse_args()
    if asked.json is not None:
        asked.json.write_text(definition(asked.entity, asked.project) + "\n", encoding="utf-8")
        print(f"definition in {asked.json}")
        return
    print(workspace(asked.entity, asked.project).save().url)


if __name__ == "__main__":
    main()
