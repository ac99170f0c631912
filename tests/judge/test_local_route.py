"""A local candidate: real transformers models of tiny size, in batches, with and without pictures and adapter."""

import io

import pytest
from PIL import Image as Pillow

pytest.importorskip("torch")

from dermjudge.judge.calls.chat import Picture, Reply, Request
from dermjudge.judge.calls.local_route import LocalRoute
from dermjudge.judge.errors import InputError
from dermjudge.judge.rubric import load_rubric
from tests import tiny


def picture(colour):
    data = io.BytesIO()
    Pillow.new("RGB", (40, 30), colour).save(data, "JPEG")
    return Picture(data.getvalue(), "image/jpeg", f"{colour}")


RED, BLUE = picture((200, 30, 30)), picture((20, 20, 200))


def ask(key, *content, **settings):
    return Request(key, content, settings={"max_tokens": 12, "temperature": 0.0, **settings})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.idefics3(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def route(base):
    return LocalRoute(base, batch_size=4)


def texts(replies):
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [reply.text for reply in replies]


def test_batches_answer_as_single_requests_do(route):
    requests = [ask("a", RED, "Describe the lesion"), ask("b", "Triage"), ask("c", RED, BLUE, "scaly lesion on palm"),
                ask("d", BLUE, "Diagnosis of a much longer request than the others of this batch are")]  # fmt: skip
    together = route.answer(requests)
    assert texts(together) == [texts(route.answer([request]))[0] for request in requests]
    for reply in together:
        assert reply.finish_reason in ("length", "stop") and reply.model == route.name
        assert reply.input_tokens > 0 and 0 < reply.output_tokens <= 12
    assert together[0].input_tokens < together[2].input_tokens  # two pictures


def test_llava_takes_several_pictures(tmp_path):
    llava = LocalRoute(tiny.llava(tmp_path / "llava"))
    assert len(texts(llava.answer([ask("a", RED, BLUE, "x"), ask("b", RED, RED, "y"), ask("c", "z")]))) == 3


def test_special_tokens_in_a_context_stay_text(route):
    special = next(token for token in route.encoder.special if "image" in token)
    plain, odd = route._encode(ask("a", "x")), route._encode(ask("a", f"x {special} {{}} <|im_end|>"))
    tokenizer = route.encoder.tokenizer
    count = tokenizer.convert_tokens_to_ids(special)
    assert odd.ids.count(count) == plain.ids.count(count)
    assert f"{special} {{}} <|im_end|>" in tokenizer.decode(odd.ids)
    (reply,) = route.answer([ask("a", RED, f"x {special}")])
    assert isinstance(reply, Reply)


def test_draws_follow_from_seed_and_key(route):
    def draw(key, seed):
        return texts(route.answer([ask(key, "lesion", temperature=5.0, seed=seed)]))[0]

    assert draw("a", 1) == draw("a", 1)
    assert len({draw("a", 1), draw("a", 2), draw("b", 1)}) == 3


def test_an_adapter_changes_the_answer(base, route, tmp_path):
    adapter = tiny.adapter(base, tmp_path / "lora", load_rubric("derm6"), scale=3.0)
    tuned = LocalRoute(base, adapter, name="tuned")
    requests = [ask(f"{k}", RED, word) for k, word in enumerate(("Describe", "Triage", "Diagnosis", "palm"))]
    assert tuned.name == "tuned" and tuned.signature["adapter"] and tuned.signature != route.signature
    assert texts(tuned.answer(requests)) != texts(route.answer(requests))
    with pytest.raises(InputError, match="belongs to another base"):
        LocalRoute(tiny.idefics3(tmp_path / "other", seed=3), adapter)


def test_what_does_not_fit_is_an_input_error_of_its_own(route, monkeypatch):
    monkeypatch.setattr(route, "limit", 60)
    good, long, odd = route.answer([ask("a", "x"), ask("b", "word " * 200), ask("c", "x", frequency_penalty=1)])
    assert isinstance(good, Reply)
    assert isinstance(long, InputError) and "the model takes 60" in str(long)
    assert isinstance(odd, InputError) and "frequency_penalty" in str(odd)


def test_unsafe_and_missing_folders(base, tmp_path):
    with pytest.raises(InputError, match="no model folder"):
        LocalRoute(tmp_path / "none")
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="safetensors"):
        LocalRoute(tmp_path / "x")
    (tmp_path / "x" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="can run code"):
        LocalRoute(tmp_path / "x")
