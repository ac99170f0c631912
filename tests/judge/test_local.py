"""The local judge on real, tiny transformers models with real PEFT adapters."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image as Pillow  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from dermjudge.judge.backends import local, open_judge  # noqa: E402
from dermjudge.judge.backends.base import Question  # noqa: E402
from dermjudge.judge.backends.bases import load_processor  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.prompt import render  # noqa: E402
from dermjudge.judge.records import Case, Narrative  # noqa: E402
from dermjudge.judge.rubric import Dimension, Rubric, Scale, load_rubric  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")
TEXTS = (
    "Findings: red lesion. Diagnosis: psoriasis.",
    "blue",
    "Triage: urgent. " * 12,
    "scaly round lesion on the palm",
)


@pytest.fixture(scope="module", params=["idefics3", "llava"])
def folders(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    base = getattr(tiny, request.param)(folder / "base")
    return base, tiny.adapter(base, folder / "adapter", RUBRIC)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.idefics3(tmp_path_factory.mktemp("one") / "base")


@pytest.fixture(scope="module")
def judge(base, tmp_path_factory):
    folder = tiny.adapter(base, tmp_path_factory.mktemp("two") / "adapter", RUBRIC)
    judge = local.LocalJudge(base, folder, RUBRIC, name="tiny")
    judge.model.float()
    judge.dtype = torch.float32
    return judge


def ask(judge, texts=TEXTS, colour=(200, 60, 50), pictures=True, rubric=RUBRIC):
    questions = []
    for k, text in enumerate(texts):
        prompt = render(Case("c", context="left palm"), Narrative("c", f"s{k}", text), rubric, judge.form)
        questions.append(Question(str(k), prompt, (Pillow.new("RGB", (32, 32), colour),) if pictures else ()))
    return questions


def read(judge, questions):
    """Expected values whatever the mass: a random model puts little on the levels, and must then not score."""
    encoded = [judge.encoder.encode(q.prompt, q.pictures) for q in questions]
    with torch.inference_mode():
        logits = local.slot_logits(judge.model, judge.encoder.batch(encoded))
        return local.read_slots(logits, judge.levels.cpu(), judge.values.cpu())


def test_scores_come_from_one_pass_on_each_architecture(folders):
    base, adapter = folders
    judge = local.LocalJudge(base, adapter, RUBRIC, name="tiny")
    answers = judge.answer(ask(judge))
    assert len(answers) == len(TEXTS)
    for answer in answers:
        assert list(answer.scores) == list(RUBRIC.names)
        for score in answer.scores.values():
            assert sum(score.distribution) == pytest.approx(1, abs=1e-3)
            assert 0 < score.mass < 1


def test_padding_side_and_batch_do_not_change_what_is_read(folders):
    base, adapter = folders
    judge = local.LocalJudge(base, adapter, RUBRIC, name="tiny")
    judge.model.float()
    single = torch.cat([read(judge, [q])[0] for q in ask(judge)])
    for side in ("right", "left"):
        judge.encoder.tokenizer.padding_side = side
        together, distribution, mass = read(judge, ask(judge))
        assert torch.allclose(together, single, atol=2e-4), side
        assert torch.allclose(together, distribution @ judge.values, atol=1e-6)
    assert single.std(0).max() > 1e-3  # texts are told apart


def test_the_picture_reaches_the_scores(judge):
    red, blue = read(judge, ask(judge))[0], read(judge, ask(judge, colour=(10, 20, 220)))[0]
    assert (red - blue).abs().max() > 1e-4


def test_a_model_never_trained_for_slots_ends_unparsable_and_not_at_the_middle(base):
    fresh = local.LocalJudge(base, None, RUBRIC, name="untrained")
    fresh.limit = None
    for answer in fresh.answer(ask(fresh)):
        for score in answer.scores.values():
            assert score.value is None and score.state == "unparsable"
            assert "floor 0.5" in score.reason and score.mass < 0.5


def test_numbers_that_are_not_finite_become_a_state(judge, monkeypatch):
    monkeypatch.setattr(local, "slot_logits", lambda model, batch: torch.full((len(TEXTS), 6, 420), float("nan")))
    assert {s.state for a in judge.answer(ask(judge)) for s in a.scores.values()} == {"unparsable"}


def test_expected_value_is_exact_on_known_logits():
    logits = torch.full((1, 1, 10), -1e9)
    logits[0, 0, 3], logits[0, 0, 4], logits[0, 0, 9] = 0.0, 0.0, 0.0
    expected, distribution, mass = local.read_slots(logits, torch.tensor([[2, 3, 4]]), torch.tensor([0.0, 1.0, 2.0]))
    assert expected.item() == pytest.approx(1.5) and mass.item() == pytest.approx(2 / 3)
    assert distribution[0, 0].tolist() == pytest.approx([0, 0.5, 0.5])


def test_pictures_and_none_in_one_batch(judge):
    mixed = [*ask(judge, TEXTS[:2]), *ask(judge, TEXTS[2:], pictures=False)]
    answers = judge.answer(mixed)
    alone = judge.answer([mixed[3]])[0]
    for name in RUBRIC.names:
        assert answers[3].scores[name].distribution == pytest.approx(alone.scores[name].distribution, abs=1e-4)


SPECIALS = ("<image>", "<eos>", "<bos>", "<pad>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(SPECIALS), st.text(max_size=12)), max_size=8))
def test_foreign_text_makes_no_special_token_and_loses_no_character(judge, pieces):
    text = "".join(pieces).encode("utf-8", "replace").decode()
    ids = judge.encoder.plain(text)
    assert not set(ids) & set(judge.encoder.tokenizer.all_special_ids)
    assert judge.encoder.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("special", SPECIALS)
def test_template_tokens_stay_where_they_are(judge, special):
    clean = judge.encoder.encode(ask(judge, ["red lesion"])[0].prompt, [Pillow.new("RGB", (32, 32))]).ids
    hostile = judge.encoder.encode(
        ask(judge, [f"red {special} lesion {special}"])[0].prompt, [Pillow.new("RGB", (32, 32))]
    ).ids
    marks = [i for i in clean if i in judge.encoder.tokenizer.all_special_ids]
    assert [i for i in hostile if i in judge.encoder.tokenizer.all_special_ids] == marks


def test_another_rubric_or_template_is_refused(base, tmp_path):
    adapter = tiny.adapter(base, tmp_path / "a", RUBRIC)
    other = RUBRIC.model_copy(update={"version": 2})
    with pytest.raises(InputError, match="can score no other"):
        local.LocalJudge(base, adapter, other, name="x")
    tiny.adapter(base, tmp_path / "b", RUBRIC, template="old")
    with pytest.raises(InputError, match="another prompt template"):
        local.LocalJudge(base, tmp_path / "b", RUBRIC, name="x")


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    other = tiny.idefics3(tmp_path / "other", seed=5)  # same shape, other weights
    with pytest.raises(InputError, match="belongs to a base"):
        open_judge(f"local:{other}+{tiny.adapter(base, tmp_path / 'a', RUBRIC)}", RUBRIC)


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "x.pt", "x.pkl", "model.py"])
def test_files_that_can_run_code_are_refused(base, tmp_path, name):
    folder = shutil.copytree(base, tmp_path / "copy")
    (folder / name).write_bytes(b"not loaded")
    with pytest.raises(InputError, match=r"only \*.safetensors"):
        local.LocalJudge(folder, None, RUBRIC, name="x")


def test_code_of_its_own_is_refused(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(InputError, match="auto_map"):
        local.LocalJudge(folder, None, RUBRIC, name="x")


def test_a_text_longer_than_the_model_takes_is_an_input_error(judge, monkeypatch):
    monkeypatch.setattr(judge, "limit", 60)
    long, short = judge.answer(ask(judge, ["red " * 400, "x"]))
    assert {s.state for s in long.scores.values()} == {"input_error"}
    assert "60" in next(iter(long.scores.values())).reason


def test_three_dimensions_on_one_to_four(base, tmp_path):
    triad = Rubric(
        name="triad",
        version=1,
        scale=Scale(levels=(1, 2, 3, 4)),
        dimensions=tuple(
            Dimension(name=name, definition="d", anchors={k: "a" for k in (1, 2, 3, 4)})
            for name in ("Left", "Right", "Red")
        ),
    )
    judge = local.LocalJudge(base, tiny.adapter(base, tmp_path / "a", triad), triad, name="x")
    answer = judge.answer(ask(judge, ["red"], rubric=triad))[0]
    assert list(answer.scores) == ["Left", "Right", "Red"] and len(answer.scores["Red"].distribution) == 4


def test_a_text_only_judge_is_shown_no_picture(base, tmp_path):
    adapter = tiny.adapter(base, tmp_path / "a", RUBRIC, blind=True)
    judge = local.LocalJudge(base, adapter, RUBRIC, name="x")
    one, other = judge.answer(ask(judge)), judge.answer(ask(judge, colour=(1, 2, 250)))
    assert [a.scores for a in one] == [a.scores for a in other]


def test_far_texts_and_pictures_are_flagged(base, tmp_path):
    folder = tiny.adapter(
        base, tmp_path / "a", RUBRIC, domain={"tokens_per_word": 3.0, "words": 50, "picture_distance": 1}
    )
    save_file({"mean": torch.zeros(64), "whiten": torch.eye(64) * 1e3}, folder / "domain.safetensors")
    judge = local.LocalJudge(base, folder, RUBRIC, name="x")
    near, far = judge.answer(ask(judge, ["red lesion on the left palm", "Ωξψζ χθφδ"], pictures=False))
    assert near.flags == ()
    assert far.flags == ("text out of domain",)
    assert "picture out of domain" in judge.answer(ask(judge, ["red"]))[0].flags


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_an_adapter_is_merged_as_in_float32_however_the_base_was_stored(base, tmp_path, stored, monkeypatch):
    monkeypatch.setattr(local, "_fast_bf16", lambda: True)
    model = local.AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    (tmp_path / "base").mkdir()
    model.to(stored).save_pretrained(tmp_path / "base")
    load_processor(base).save_pretrained(tmp_path / "base")
    adapter = tiny.adapter(tmp_path / "base", tmp_path / "adapter", RUBRIC)
    loaded = []
    real = local.AutoModelForImageTextToText.from_pretrained
    monkeypatch.setattr(
        local.AutoModelForImageTextToText,
        "from_pretrained",
        lambda *a, **kw: loaded.append(kw["dtype"]) or real(*a, **kw),
    )
    found = local.LocalJudge(tmp_path / "base", adapter, RUBRIC, name="tiny").model.state_dict()
    assert loaded == [stored]  # half the memory where it can be had
    wide = local.PeftModel.from_pretrained(real(tmp_path / "base", dtype=torch.float32), str(adapter))
    expected = wide.merge_and_unload().to(torch.bfloat16).state_dict()
    assert all(found[name].equal(expected[name]) for name in expected)
    plain = real(tmp_path / "base", dtype=torch.bfloat16).state_dict()
    assert any(not found[name].equal(plain[name]) for name in plain)


@pytest.mark.parametrize(("batch_size", "rows"), [(32, 8), (4, 2), (3, 8)])
def test_rows_keep_their_answers_however_they_are_run_together(base, tmp_path, monkeypatch, batch_size, rows):
    monkeypatch.setattr(local, "_fast_bf16", lambda: False)
    adapter = tiny.adapter(base, tmp_path / "adapter", RUBRIC)
    alone = local.LocalJudge(base, adapter, RUBRIC, name="tiny", critique=True)
    alone.words = 12
    texts = ["red " * (1 + 7 * k % 11) for k in range(11)]
    questions = [ask(alone, [text], pictures=k % 3 != 0)[0] for k, text in enumerate(texts)]
    expected = [alone.answer([question])[0] for question in questions]
    together = local.LocalJudge(base, adapter, RUBRIC, name="tiny", critique=True, batch_size=batch_size)
    together.words, together.rows = 12, rows
    for mine, theirs in zip(together.answer(questions), expected, strict=True):
        assert mine.text == theirs.text
        for name in RUBRIC.names:
            assert mine.scores[name].mass == pytest.approx(theirs.scores[name].mass, rel=1e-4)


def test_the_same_judge_writes_without_being_loaded_again(judge):
    writer = judge.writing()
    assert writer.model is judge.model and not judge.critique and writer.critique
    said, quiet = writer.answer(ask(judge)), judge.answer(ask(judge))
    assert any(answer.text for answer in said) and not any(answer.text for answer in quiet)
    assert [a.scores for a in said] == [a.scores for a in quiet]
    assert writer.signature["critique"] and not judge.signature["critique"]


def test_critique_on_demand_leaves_the_scores_alone(base, tmp_path):
    adapter = tiny.adapter(base, tmp_path / "a", RUBRIC)
    plain = local.LocalJudge(base, adapter, RUBRIC, name="x")
    talking = local.LocalJudge(base, adapter, RUBRIC, name="x", critique=True)
    assert [a.scores for a in plain.answer(ask(plain))] == [a.scores for a in talking.answer(ask(talking))]
    assert plain.signature != talking.signature


SAID = "Accuracy - shape wrong | round | say red\nSafety - no fault"


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A tiny base that has learnt by heart to write a critique of its own per text, then "Scores:" and fours.

    The last text of TEXTS it ends without scores.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from dermjudge.judge.backends.encoding import Encoder

    base = tiny.idefics3(tmp_path_factory.mktemp("writer") / "base", seed=3)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    encoder = Encoder(AutoProcessor.from_pretrained(base), RUBRIC)
    encoder.tokenizer.padding_side = "right"
    rows, end = [], [encoder.tokenizer.eos_token_id]
    for k, text in enumerate(TEXTS):
        prompt = render(Case("c", context="left palm"), Narrative("c", f"s{k}", text), RUBRIC, "bound")
        picture = [Pillow.new("RGB", (32, 32), (200, 60, 50))]
        said = encoder.said(SAID + f" {k}" * k)
        plain = encoder.encode(prompt, picture)
        whole = encoder.encode(prompt, picture, said)
        begin = len(encoder.before(plain))
        if k == len(TEXTS) - 1:  # it ends before it comes to the scores
            ids = [*whole.ids[:begin], *said[: -len(encoder.fixed("\nScores:\n"))], *end]
            rows.append((whole._replace(ids=ids, slots=[0] * 6), begin, []))
        else:
            rows.append((whole, begin, whole.slots))
    batch = encoder.batch([row for row, _, _ in rows])
    batch.pop("slots")
    labels = torch.full_like(batch["input_ids"], -100)
    for i, (row, begin, slots) in enumerate(rows):
        labels[i, begin : len(row.ids)] = batch["input_ids"][i, begin : len(row.ids)]
        for k, slot in enumerate(slots):
            if slot + 1 < labels.shape[1]:
                labels[i, slot + 1] = encoder.levels[k][4]  # the level is read where the next token would stand
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(90):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(base)
    return base


def writing(base, folder, **card):
    adapter = tiny.adapter(base, folder, RUBRIC, scale=0.0, order="critique", **card)
    judge = local.LocalJudge(base, adapter, RUBRIC, name="writer")
    judge.model.float()
    judge.dtype = torch.float32
    return judge


def test_critique_first_then_the_slots_behind_it(writer, tmp_path):
    judge = writing(writer, tmp_path / "a")
    answers = judge.answer(ask(judge))
    for k, answer in enumerate(answers[:-1]):
        assert answer.text == SAID + f" {k}" * k
        assert answer.critique == {"Accuracy": "shape wrong | round | say red", "Safety": "no fault" + f" {k}" * k}
        assert {s.state for s in list(answer.scores.values())[:5]} == {"scored"}
        assert [s.value for s in list(answer.scores.values())[:5]] == pytest.approx([4] * 5, abs=0.2)
    assert judge.signature["order"] == "critique" and judge.signature["critique"] is True


def test_no_score_without_its_line(writer, tmp_path):
    judge = writing(writer, tmp_path / "a")
    stopped = judge.answer(ask(judge))[-1]
    assert {(s.value, s.state) for s in stopped.scores.values()} == {(None, "unparsable")}
    assert stopped.critique["Safety"] == "no fault 3 3 3"
    short = writing(writer, tmp_path / "b", critique_tokens=10)
    cut = short.answer(ask(short))[0]
    assert {(s.value, s.state) for s in cut.scores.values()} == {(None, "truncated")}
    assert "after 10 tokens" in cut.scores["Safety"].reason and SAID.startswith(cut.text)


def test_a_critique_does_not_depend_on_its_neighbours(writer, tmp_path):
    judge = writing(writer, tmp_path / "a")
    together, questions = judge.answer(ask(judge)), ask(judge)
    for question, answer in zip(questions, together, strict=True):
        alone = judge.answer([question])[0]
        assert alone.text == answer.text
        for name, score in alone.scores.items():
            assert score.distribution == pytest.approx(answer.scores[name].distribution, abs=1e-3) or not score.mass
    assert judge.encoder.tokenizer.padding_side == load_processor(writer).tokenizer.padding_side


def test_room_for_the_critique_is_asked_for(writer, tmp_path, monkeypatch):
    judge = writing(writer, tmp_path / "a")
    monkeypatch.setattr(judge, "limit", 256)
    answer = judge.answer(ask(judge))[0]
    assert {s.state for s in answer.scores.values()} == {"input_error"}
    assert "256 for its critique" in answer.scores["Safety"].reason
    with pytest.raises(InputError, match="scores, critique"):
        local.LocalJudge(writer, tiny.adapter(writer, tmp_path / "b", RUBRIC, order="both"), RUBRIC, name="x")


def test_words_stand_between_prompt_and_slots(judge):
    question = ask(judge, ["red"])[0]
    plain = judge.encoder.encode(question.prompt, question.pictures)
    words = judge.encoder.said("Safety - no fault <eos>")
    whole = judge.encoder.encode(question.prompt, question.pictures, words)
    before = judge.encoder.before(plain)
    assert whole.ids == before + words + plain.ids[len(before) :] and judge.encoder.before(whole) == before + words
    assert whole.slots == [slot + len(words) for slot in plain.slots]
    text = judge.encoder.tokenizer.decode(words, clean_up_tokenization_spaces=False)
    assert text == "Critique: Safety - no fault <eos>\nScores:\n"
    assert judge.encoder.tokenizer.eos_token_id not in words
