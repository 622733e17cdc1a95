from pathlib import Path

from PIL import Image

from a2i.training.curves import plot_curves, read_metrics


def test_curves_go_on_over_all_starts_of_a_run(tmp_path: Path) -> None:
    for version, rows in ((0, ["0,0,3.0,", "0,4,,2.5"]), (1, ["1,5,2.0,"]), (10, ["2,9,1.0,"])):
        folder = tmp_path / "metrics" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/loss", *rows]) + "\n")
    curves = read_metrics(tmp_path)
    assert curves == {"train/loss": [(0, 3.0), (5, 2.0), (9, 1.0)], "val/loss": [(4, 2.5)]}
    path = plot_curves(tmp_path)
    assert path is not None
    with Image.open(path) as image:
        assert image.width > 300


def test_nothing_to_plot(tmp_path: Path) -> None:
    assert plot_curves(tmp_path) is None
