"""compress: a run that export takes, the same bytes again and after a stop, and no run beyond the budget."""

import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch

from compress.gates import Budget
from compress.layers import DEFAULT, as_matrix, find
from compress.report import CompressionReport, from_json
from compress.sparsity.collection import collect
from compress.sparsity.settings import SparseGPT
from pipelines import artefacts, cli, compression
from pipelines.cohort import open_cohort
from pipelines.compress import Compression, settings
from pipelines.compression import Adapter, OneShot, Work
from pipelines.export import read_run
from tests.docs import ROOT
from tests.faults.kill import digests

CONFIG = """method:
  class_path: pipelines.compression.OneShot
  init_args: {settings: {refit_steps: 4}, tokens: 512}
budget: {auroc_drop: 1.0}
gate_split: train
bootstrap: 20
"""
SHUFFLING = """method: {class_path: tests.pipelines.test_compress.Shuffle}
gate_split: train
bootstrap: 20
"""


class Shuffle:
    """A compression that leaves nothing of what was learnt."""

    def compress(self, work: Work) -> CompressionReport:
        """Shuffle the weights of each layer."""
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in work.network.parameters():
                if weight.dim() > 1:
                    weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=draw)].view_as(weight))
        return CompressionReport("shuffle", {}, ())


def run(chain, folder, config, *rest, name="small"):
    """Run the verb in this process and return its exit code."""
    path = folder / "config.yaml"
    path.write_text(config)
    return cli.main(["compress", str(chain.tuned), str(chain.cohort), str(folder / name), "--config", str(path), *rest])


@pytest.fixture(scope="module")
def small(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    before = digests(chain.tuned)
    assert run(chain, folder, CONFIG) == 0
    assert digests(chain.tuned) == before, "the run given stays as it is"
    return folder / "small"


def test_a_run_that_export_reads(chain, small):
    read = read_run(small)
    layers = find(read.network)
    assert len(layers) == 4 + 5
    for module in layers.values():
        assert int((as_matrix(module) == 0).sum()) == as_matrix(module).numel() // 2
    told = read.manifest["compression"]
    assert (told["method"], told["sparsity"], told["settings"]["refit_steps"]) == ("sparsegpt", 0.5, 4)
    assert told["from"] == artefacts.digest(chain.tuned / artefacts.MANIFEST)
    assert not (small / "blocks").exists()


def test_the_report_tells_layers_sizes_and_paired_quality(small):
    content = json.loads((small / "compression.json").read_text())
    report = from_json(content["compression"])
    assert report.sizes["model before"].raw == report.sizes["model after"].raw
    assert report.sizes["layers after"].packed < 0.6 * report.sizes["layers before"].packed
    assert all(0 < layer.error < 1 for layer in report.layers)
    macro = {row["metric"]: row for row in content["quality"]["scores"] if row["outcome"] == "macro"}
    change = macro["auroc_over_dense"]
    assert change["lower"] <= change["value"] <= change["upper"]
    assert content["quality"]["breaches"] == []
    assert "auroc_change" in content["quality"]["worst_subgroup"]


def test_the_same_bytes_again_and_after_a_stop(chain, small, tmp_path, monkeypatch):
    told = []

    def stop(line):
        told.append(line)
        if line.startswith("encoder.0"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compression, "say", stop)
        assert run(chain, tmp_path, CONFIG) == cli.STOPPED
    partial = artefacts.partial(tmp_path / "small")
    assert len(list((partial / "blocks").glob("*.npz"))) == 1
    assert run(chain, tmp_path, CONFIG) == 0
    assert digests(tmp_path / "small") == digests(small)


def test_shuffled_weights_are_refused(chain, tmp_path, capsys):
    assert run(chain, tmp_path, SHUFFLING) == cli.BAD_INPUT
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("anamnesis compress: auroc_drop: mean auroc went from")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "small.refused.json"}
    assert json.loads((tmp_path / "small.refused.json").read_text())["quality"]["breaches"]
    assert run(chain, tmp_path, SHUFFLING, "--no-gate") == 0
    assert not (tmp_path / "small.refused.json").exists()


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (("--method.init_args.settings.sparsity", "1.5"), "sparsity is 1.5"),
        (("--method.init_args.split", "held_out"), "calibration data come from the split train alone"),
        (("--method.init_args.layers", "[encoder.9]"), "nearest: encoder.0"),
        (("--gate_split", "nowhere"), "no split nowhere"),
        (("--something", "1"), "unrecognized arguments"),
        (("--method.class_path", "nothing.Here"), "config.yaml"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(chain, tmp_path, capsys, rest, told):
    assert run(chain, tmp_path, CONFIG, *rest) == cli.BAD_INPUT
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("anamnesis compress: ")
    assert told in error
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}


def test_a_pretrained_run_is_refused(chain, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = [str(path) for path in (chain.pretrained, chain.cohort, tmp_path / "out")]
    assert cli.main(["compress", *words, "--config", str(tmp_path / "config.yaml")]) == cli.BAD_INPUT
    assert "only pretrained" in capsys.readouterr().err


def test_a_budget_that_cannot_be_held_is_told_before_anything_is_done(chain, tmp_path, capsys):
    assert run(chain, tmp_path, CONFIG, "--budget.least_positives", "100000") == cli.BAD_INPUT
    error = capsys.readouterr().err.strip()
    assert error.startswith("anamnesis compress: no outcome has 100000 positives there")
    assert "--no-gate" in error


def test_the_shipped_file_holds_the_defaults_and_other_files_are_read():
    folder = ROOT / "configs" / "compress"
    made = settings(folder / "sparsegpt.yaml", [])
    assert made == Compression(method=OneShot(layers=list(DEFAULT)))
    assert settings(folder / "sparsegpt-2of4.yaml", []).method.settings.groups == (2, 4)
    assert settings(folder / "sparsegpt-4bit.yaml", []).method.settings.bits == 4


def test_every_key_stands_on_the_page_of_yaml_files():
    page = (ROOT / "docs" / "reference" / "yaml.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"`([a-z_]+)`", page.split("\n## Compression\n")[1].split("\n## ")[0]))
    for kind in (SparseGPT, OneShot, Budget, Compression):
        assert {field.name for field in fields(kind)} <= shown, kind.__name__


def wider(content, extra):
    """Return a batch with more padding at the end of each row, and more moments that ask nothing."""

    def pad(tensor):
        return torch.nn.functional.pad(tensor, (0, extra))

    batch = content.batch
    named = {name: pad(getattr(batch, name)) for name in ("token", "segment", "visit", "age_days")}
    moments = type(content.moments)(*(pad(part) for part in content.moments))
    return content._replace(batch=batch._replace(**named), moments=moments)


def test_padding_adds_nothing_to_a_layers_inputs(chain, tmp_path):
    network = read_run(chain.tuned).network
    work = Work(network, open_cohort(chain.cohort), tmp_path)
    batches = OneShot(tokens=256, samples=60).batches(work)
    found = []
    for given in (batches, [wider(content, 5) for content in batches]):
        adapter = Adapter()
        with torch.no_grad():
            layers = find(network, ("@blocks", "time.*", "query_time.*"))
            found.append(collect(network, given, layers, forward=adapter.forward, token_mask=adapter.token_mask))
    tokens = sum(int((content.batch.segment > 0).sum()) for content in batches)
    questions = sum(int((content.moments.segment > 0).sum()) for content in batches)
    for name, hessian in found[0].items():
        other = found[1][name]
        record = name.startswith(("encoder.", "time.")) or ".key_value" in name
        outcomes = 1 if name.startswith("query_time.") else 3
        assert hessian.tokens == other.tokens == (tokens if record else questions * outcomes), name
        scale = float(hessian.gram.diagonal().max())
        np.testing.assert_allclose(hessian.gram, other.gram, rtol=1e-4, atol=1e-5 * scale)
