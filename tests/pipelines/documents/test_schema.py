"""Reading documents: MAUD's files as released, LegalBench's rows, and one's own."""

import csv
import json

import polars as pl
import pytest

from pipelines.documents import catalogue, schema
from pipelines.documents.schema import DOCUMENTS, MAUD, NONE, RARE, read

ROWS = [
    ("main", "contract_0", 'a "long",\r\npassage', "Yes", "1", "Point", NONE, "No-Shop", "10.10", "Deal"),
    ("main", "contract_0", "other", "<OTHER>", "0", "Items", "Item A", "MAE", "25-0", "MAE"),
    ("rare_answers", RARE, "edited", "Item A", "1", "Items", "Item A", "MAE", "25-0", "MAE"),
]


def write_maud(folder, rows=ROWS, names=("train", "dev", "test")):
    for name in names:
        with (folder / f"MAUD_{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(MAUD)
            writer.writerows(rows)


def test_maud_csv_trio(tmp_path):
    write_maud(tmp_path)
    found = read(tmp_path).collect()
    assert found.schema == DOCUMENTS
    assert found["split"].to_list() == ["train"] * 3 + ["dev"] * 3 + ["test"] * 3
    first = found.row(0, named=True)
    # As released: line ends and quotes inside a passage, an id that a number would lose its zero of.
    assert first["text"] == 'a "long",\r\npassage'
    assert first["id"] == "10.10"
    assert first["label"] == 1
    assert first["group_id"] == "contract_0"
    assert first["document_id"].startswith("contract_0#")
    assert first["origin"] == "MAUD_train.csv row 1"
    assert found["group_id"][2] == RARE
    assert found["document_id"].n_unique() == 3


def test_ids_survive_a_round_trip(tmp_path):
    write_maud(tmp_path, names=("train",))
    held = read(tmp_path).collect()
    for name, write in (("a.csv", held.write_csv), ("b.parquet", held.write_parquet), ("c.jsonl", held.write_ndjson)):
        write(tmp_path / name)
        again = read(tmp_path / name).collect()
        assert again["id"].to_list() == ["10.10", "25-0", "25-0"]
        assert again.equals(held), name


def test_legalbench(shared_data):
    folder = shared_data("legalbench_maud")
    held = read(folder).collect()
    questions = catalogue.legalbench(folder / schema.SHEET)
    assert len(held) == len(questions.questions) == 34
    assert sorted(questions.num_options.tolist()) == [2] * 18 + [3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 7, 7, 8, 9, 9, 10]
    assert held["answer"].null_count() == 0
    place = questions.place()
    for task, label, answer in held.select("id", "label", "answer").iter_rows():
        assert questions.questions[place[task]].options[label] == answer
    words = [len(text.split()) for text in held["text"]]
    assert (min(words), max(words)) == (21, 946)
    # Three tasks are asked of one passage: they are one group.
    assert held["group_id"].n_unique() == held["text"].n_unique() < 34


def test_letters_need_their_sheet(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"task": "t", "index": "0", "answer": "A", "text": "x"}))
    with pytest.raises(ValueError, match="which say what the letters mean"):
        read(tmp_path / "rows.jsonl").collect()
    (tmp_path / schema.SHEET).write_text(json.dumps({"task": "u", "readme": "no options"}))
    with pytest.raises(ValueError, match="page of u lists no options"):
        read(tmp_path / "rows.jsonl").collect()
    sheet = {"task": "u", "readme": "```text\nQuestion: q?\n```\n```text\nOptions:\nA: x\nB: y\n```"}
    (tmp_path / schema.SHEET).write_text(json.dumps(sheet))
    with pytest.raises(ValueError, match="no options for task t"):
        read(tmp_path / "rows.jsonl").collect()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "document_id,text\nx,y\n", "no column group_id, id, answer; found document_id, text"),
        ("a.csv", "contract_name,text\nx,y\n", "no column data_type, answer"),
        ("a.jsonl", '{"id": 10.10}\n', "id in line 1 is a number; expected a string"),
        ("a.jsonl", "[1]\n", "line 1 is no object"),
        ("a.jsonl", '{"id": "1"}\nno json\n', "line 2 is no JSON"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("a.txt", "x", "unknown kind of file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name).collect()
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no documents"):
        read(tmp_path)


def test_own_rows_are_filled(tmp_path):
    rows = [{"document_id": "n1", "group_id": "p1", "text": "x", "id": "smoking", "answer": "never"}]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    held = read(tmp_path / "notes.jsonl").collect()
    assert held.schema == DOCUMENTS
    row = held.row(0, named=True)
    assert (row["subquestion"], row["data_type"], row["split"], row["label"]) == (NONE, "main", None, None)
    asked = catalogue.checked(
        [catalogue.Question(id="smoking", text_type="social", question="Smokes?", options=("current", "never"))]
    )
    full = catalogue.complete(held.lazy(), asked).collect().row(0, named=True)
    assert (full["text_type"], full["label"], full["answer"]) == ("social", 1, "never")
    by_label = held.with_columns(pl.lit(None, pl.String).alias("answer"), pl.lit(0, pl.Int64).alias("label"))
    assert catalogue.complete(by_label.lazy(), asked).collect()["answer"].to_list() == ["current"]
