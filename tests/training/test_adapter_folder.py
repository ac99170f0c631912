"""What an adapter folder holds: enough to serve it anywhere, checked when it is loaded, and nothing of this machine."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from huggingface_hub import ModelCard, metadata_load  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForImageTextToText  # noqa: E402

from dermjudge.judge.backends import open_judge  # noqa: E402
from dermjudge.judge.backends.folder import base_name, base_revision, part_hash, settings_hash  # noqa: E402
from dermjudge.judge.benchmark import write_benchmark  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.records import Case, Narrative  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.training.adapter_folder import data_facts, examples_hash, refuse_strangers, save_adapter  # noqa: E402
from dermjudge.training.card import add_calibration, card_text, update_card  # noqa: E402
from dermjudge.training.config import Recipe  # noqa: E402
from dermjudge.training.examples import Example  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")


def example(case="a", text="Diagnosis: psoriasis", gold=3.0, critique="", context="") -> Example:
    scores = np.full(6, gold)
    return Example(Case(case, context=context, split="train"), Narrative(case, "s", text), scores, np.eye(6), critique)


EXAMPLES = [example(), example("b", "Diagnosis: melanoma", float("nan"))]


def recipe(**fields) -> Recipe:
    given_ = {"name": "ward", "data": {"folder": "in/a"}, "sft": {"steps": 1, "batch": 1, "rate": 0.1}, "seed": 7}
    return Recipe.model_validate(given_ | fields)


def write(base: Path, out: Path, plan: Recipe, source="ward 1, 2 cases") -> Path:
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=2, target_modules=r"^(?!.*vision).*\.(q_proj|v_proj)$", task_type="CAUSAL_LM")
    return save_adapter(get_peft_model(model, lora), out, plan, base, RUBRIC, EXAMPLES, False, source)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapter")
    base = tiny.idefics3(root / "base")
    data = {"folder": str(root / "data"), "ratings": str(root / "more" / "r.csv")}
    return base, write(base, root / "judge", recipe(base=str(base), data=data, rubric=str(root / "r.yaml")))


@pytest.fixture
def copies(made, tmp_path):
    """Base and adapter that a test may spoil."""
    return tuple(Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in made)


def opened(base, adapter):
    return open_judge(f"local:{base}+{adapter}", RUBRIC)


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_the_folder_holds_safetensors_json_and_a_readme_and_no_path_of_this_machine(made):
    base, judge = made
    assert {f.name for f in judge.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "judge.json", "README.md", "decision.json",
        "decision_template.jinja",
    }  # fmt: skip
    for file in judge.iterdir():
        assert str(judge.parent).encode() not in file.read_bytes(), file
    assert json.loads((judge / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not list(judge.parent.glob(".*"))


def test_the_card_says_all_that_is_needed_to_serve_and_to_trust_it(made):
    base, judge = made
    card = json.loads((judge / "judge.json").read_text())
    assert card["order"] == "scores" and card["seed"] == 7 and card["base_revision"] is None
    assert card["images"] == {"longest_edge": 0, "tiles": False} and card["max_images"] == 1
    assert [card[f"{part}_hash"] for part in ("config", "tokenizer", "processor")] == [
        part_hash(base, part) for part in ("config", "tokenizer", "processor")
    ]
    assert card["trained_on"]["hash"] == examples_hash(EXAMPLES) and card["trained_on"]["narratives"] == 2
    assert {"dermjudge", "python", "torch", "transformers", "peft", "tokenizers"} <= set(card["software"])
    assert opened(*made).card == card


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("tokenizer_config.json", lambda c: c.update(padding_side="left"), "another tokenizer.*tokenizer.json"),
        ("processor_config.json", lambda c: c.update(image_seq_len=3), "another processor.*chat_template.jinja"),
        ("config.json", lambda c: c["text_config"].update(rms_norm_eps=0.1), "another config"),
    ],
)
def test_a_base_with_other_settings_is_refused_by_name(copies, file, change, words):
    base, judge = copies
    opened(base, judge)
    edit(base / file, change)
    with pytest.raises(InputError, match=words):
        opened(base, judge)


def test_a_changed_chat_template_or_vocabulary_is_refused(copies):
    base, judge = copies
    template = base / "chat_template.jinja"
    before = template.read_text()
    template.write_text(before + " ")
    with pytest.raises(InputError, match="another processor"):
        opened(base, judge)
    template.write_text(before)
    (base / "tokenizer.json").write_text((base / "tokenizer.json").read_text() + "\n")
    with pytest.raises(InputError, match="another tokenizer"):
        opened(base, judge)


def test_who_wrote_a_config_and_how_it_is_laid_out_does_not_count(copies):
    base, judge = copies
    for file in ("config.json", "tokenizer_config.json"):
        edit(base / file, lambda c: c.update(transformers_version="9", _name_or_path="elsewhere"))
    opened(base, judge)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("format", 2, "update dermjudge"),
        ("order", "both", "there are scores, critique"),
        ("rubric_hash", "0", "can score no other"),
        ("template", "0", "another prompt template"),
        ("base_weights", "0", "belongs to a base with weights 0"),
        ("adapter_sha256", "0", "not the file that its card describes"),
        ("calibration_sha256", "0", "calibration.json is missing"),
    ],
)
def test_what_the_card_says_is_checked(copies, field, value, words):
    base, judge = copies
    edit(judge / "judge.json", lambda card: card.update({field: value}))
    with pytest.raises(InputError, match=words):
        opened(base, judge)


def test_the_base_to_take_is_named_with_its_revision(copies):
    base, judge = copies
    edit(judge / "judge.json", lambda card: card.update(base="org/model", base_revision="f" * 40, base_weights="0"))
    with pytest.raises(InputError, match=f"org/model at revision {'f' * 40}"):
        opened(base, judge)


def test_a_card_of_an_earlier_version_loads_as_before(copies):
    base, judge = copies
    new = (
        "config_hash",
        "tokenizer_hash",
        "processor_hash",
        "adapter_sha256",
        "order",
        "images",
        "seed",
        "base_revision",
    )

    def older(card):
        for field in new:
            del card[field]
        del card["trained_on"]["hash"]

    signature = opened(base, judge).signature
    edit(judge / "judge.json", older)
    assert opened(base, judge).signature == {**signature, "images": None}  # as the processor itself has it
    edit(base / "config.json", lambda c: c["text_config"].update(rms_norm_eps=0.1))
    opened(base, judge)
    assert card_text(json.loads((judge / "judge.json").read_text())).startswith("---\nlibrary_name: peft")


@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_a_card_that_cannot_be_read_is_told(copies, content):
    (copies[1] / "judge.json").write_text(content)
    with pytest.raises(InputError, match="copy the folder anew"):
        opened(*copies)


def test_a_base_in_the_hub_s_cache_is_called_by_its_name_and_revision(made, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--org--a-model" / "snapshots" / commit
    shutil.copytree(made[0], place)
    assert (base_name(place), base_revision(place)) == ("org/a-model", commit)
    judge = write(place, tmp_path / "judge", recipe(base=str(place)))
    config = json.loads((judge / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/a-model", commit)
    assert metadata_load(judge / "README.md")["base_model"] == "org/a-model"
    assert str(tmp_path) not in (judge / "judge.json").read_text()
    opened(place, judge)


def test_the_revision_is_read_where_a_download_or_a_config_says_it(tmp_path):
    assert base_revision(tmp_path) is None and base_name(tmp_path) == tmp_path.name
    (tmp_path / "config.json").write_text(json.dumps({"_commit_hash": "a" * 40}))
    assert base_revision(tmp_path) == "a" * 40
    record = tmp_path / ".cache/huggingface/download/config.json.metadata"
    record.parent.mkdir(parents=True)
    record.write_text("b" * 40 + "\netag\n1.0\n")
    assert base_revision(tmp_path) == "b" * 40
    record.write_text("main\n")
    assert base_revision(tmp_path) == "a" * 40


def test_the_readme_is_a_model_card_with_its_metrics(made, tmp_path):
    judge = Path(shutil.copytree(made[1], tmp_path / "judge"))
    assert "model-index" not in metadata_load(judge / "README.md")
    mae = {"value": 0.4, "low": 0.3, "high": 0.5}
    rows = {"Accuracy": {"n": 80, "mae_judge": mae, "spearman_experts": 0.9}, "Safety": {"n": 0, "mae_judge": None}}
    critiques = {"whole": {"named": mae | {"n": 60}, "false": mae | {"n": 70}}}
    found = {"narratives": 80, "patients": 20, "seed": 9, "dimensions": rows, "targets": [], "critiques": critiques}
    update_card(judge, {"figures": found})
    text = (judge / "README.md").read_text()
    assert "name 0.40 [0.30, 0.50] of 60 planted faults; 0.40 [0.30, 0.50] of 70 claims are false" in text
    data = ModelCard.load(judge / "README.md").data
    assert (data.library_name, data.base_model, data.pipeline_tag) == ("peft", "base", "image-text-to-text")
    assert data.license is None and data.model_name == "ward"
    assert [(r.metric_type, r.metric_value, r.metric_name.split(":")[0]) for r in data.eval_results] == [
        ("mae", 0.4, "Accuracy"),
        ("spearmanr", 0.9, "Accuracy"),
    ]
    assert all("SYNTHETIC" in r.dataset_name and "n=80" in r.metric_name for r in data.eval_results)


def test_the_readme_says_the_data_s_licence_its_start_and_what_it_was_held_apart_from(made, tmp_path):
    judge = Path(shutil.copytree(made[1], tmp_path / "judge"))
    bench = write_benchmark(
        tmp_path / "data", name="ward", version="1", licence="CC BY-NC 4.0", source="s",
        cases=[Case("a", split="train"), Case("b", split="test")],
    )  # fmt: skip
    facts = data_facts(bench)
    assert facts["splits"] == {"test": 1, "train": 1} and facts["cases_sha256"] == bench.hashes["cases.jsonl"]
    apart = {"benchmark": "clinic|x", "version": "2", "cases": 3, "compared": {"patients": [2, 3]},
             "allowed": "numbered from 1", "suspected": [["patient", "1"]], "no_patient": [4, 0]}  # fmt: skip
    start = {"name": "embedded", "trained_on": {"source": "synthetic 1"}}
    update_card(judge, {"data": facts, "held_apart": [apart], "start": start})
    text = (judge / "README.md").read_text()
    assert "Licence of the data: CC BY-NC 4.0; cases by split: test 1, train 1." in text
    assert "Went on from judge `embedded`, trained on: synthetic 1." in text
    assert "- clinic\\|x 2, 3 cases: nothing shared among patients 2/3 (trained/evaluated). No patient is" in text
    assert "named by 4/0 cases" in text and "Pictures were not compared." in text
    assert "**1 suspected overlaps were allowed: numbered from 1**" in text


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_whatever_names_are_given_the_front_matter_stays_whole(made, name, base, source):
    card = json.loads((made[1] / "judge.json").read_text())
    card |= {"name": name, "base": base, "trained_on": card["trained_on"] | {"source": source}, "notes": [name]}
    text = card_text(card)
    _, front, body = text.split("---\n", 2)
    assert set(yaml.safe_load(front)) <= {"library_name", "base_model", "license", "pipeline_tag", "tags"}
    assert body.startswith("\n# Judge `") and len(body.splitlines()) == len(body.split("\n")) - 1
    text.encode()


def test_a_judge_that_goes_on_from_another_says_what_that_had_seen(made, tmp_path):
    base, before = made
    card = json.loads((write(base, tmp_path / "next", recipe(start=str(before))) / "judge.json").read_text())
    assert card["start"]["trained_on"]["source"] == "ward 1, 2 cases" and card["recipe"]["start"] == "judge"
    card = json.loads((write(base, tmp_path / "more", recipe(start="embedded")) / "judge.json").read_text())
    assert card["start"]["name"] == "embedded"


def test_what_was_learnt_from_is_hashed_whatever_its_order(made):
    assert examples_hash(EXAMPLES) == examples_hash(EXAMPLES[::-1])
    seen = {examples_hash([e]) for e in (
        example(), example("c"), example(text="x"), example(gold=2.0), example(critique="c"), example(context="c"),
        example(gold=float("nan")))}  # fmt: skip
    assert len(seen) == 7 and examples_hash([example()]) != examples_hash([example(), example()])


def test_a_calibration_travels_with_the_judge_and_does_not_move_its_signature(copies, tmp_path):
    from dermjudge.evaluators.calibration_record import Calibration

    base, judge = copies
    opened_ = opened(base, judge)
    fields = dict(rubric=RUBRIC.id, signature="", population="", date="", data_hash="", levels=(0.0, 5.0), settings={})
    record = tmp_path / "c.json"
    before = settings_hash(judge)
    for name in (opened_.name, "local:other@00000000"):
        Calibration(judge=name, dimensions=(), notes=(), **fields).save(record)
        if name == opened_.name:
            add_calibration(judge, record)
        else:
            with pytest.raises(InputError, match="calibrates judge"):
                add_calibration(judge, record)
    assert settings_hash(judge) == before and opened(base, judge).signature == opened_.signature
    assert "## Calibration" in (judge / "README.md").read_text()
    (judge / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match="not the file"):
        opened(base, judge)


def test_nothing_but_a_judge_is_written_over(tmp_path):
    refuse_strangers(tmp_path / "new")
    refuse_strangers(tmp_path)
    (tmp_path / "judge.json").write_text("{}")
    refuse_strangers(tmp_path)
    (tmp_path / "judge.json").rename(tmp_path / "thesis.docx")
    with pytest.raises(InputError, match=re.escape("nothing is written over")):
        refuse_strangers(tmp_path)
