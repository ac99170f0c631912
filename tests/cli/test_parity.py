"""`merge` and `parity`: the judge that comes with the package, beside servers on loopback that run a real model."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import threading
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("transformers", minversion="5.23")
pytest.importorskip("aiohttp")
from aiohttp import web  # noqa: E402
from PIL import Image as Pillow  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from dermjudge.benchmarks import synthetic  # noqa: E402
from dermjudge.cli import output  # noqa: E402
from dermjudge.cli.main import main  # noqa: E402
from dermjudge.cli.parity import Agreement, compare  # noqa: E402
from dermjudge.judge.backends import embedded_folder  # noqa: E402
from dermjudge.judge.backends.served import read_slot  # noqa: E402
from dermjudge.judge.calls.chat import TokenChance  # noqa: E402
from dermjudge.judge.records import Score  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from tests.benchmarks.test_real_models import served  # noqa: E402

RUBRIC = load_rubric("derm6")
TOLERANCE = "0.001"  # float32; seen: 4e-6
LISTED = "0.01"  # where 20 tokens are listed: levels that are not among them count as 0; seen: 1.2e-3


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "bench"
    synthetic.generate(folder, 3, seed=41)
    return folder


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """The embedded judge and the text-only one, each as a merged folder in float32."""
    home = tmp_path_factory.mktemp("merged")
    for judge in ("embedded", "embedded-text-only"):
        assert run("merge", judge, "--out", home / judge, "--dtype", "float32") == output.OK
    return home


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


class Server:
    """A server in the OpenAI format, as vLLM answers: it continues a begun answer and lists the likeliest tokens.

    `names`: "ids" as vLLM names tokens on request, "texts" as others do; `mode`: "none" lists no probabilities,
    "refuse" takes no request for them, "deaf" begins an answer of its own.
    """

    def __init__(self, folder, names="ids", mode=""):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor, self.names, self.mode, self.asked = AutoProcessor.from_pretrained(folder), names, mode, []

    async def complete(self, request):
        body = await request.json()
        self.asked.append(body)
        if self.mode == "refuse":
            return web.json_response({"error": {"message": "unknown parameter top_logprobs"}}, status=400)
        assert body["max_tokens"] == 1 and body["continue_final_message"] and not body["add_generation_prompt"]
        pictures, messages = [], []
        for message in body["messages"]:
            parts = []
            for part in message["content"]:
                if part["type"] == "image_url":
                    data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
                    pictures.append(Pillow.open(io.BytesIO(data)).convert("RGB"))
                    part = {"type": "image"}
                parts.append(part)
            messages.append({"role": message["role"], "content": parts})
        kept = messages[:1] if self.mode == "deaf" else messages
        text = self.processor.apply_chat_template(kept, tokenize=False, continue_final_message=True)
        inputs = self.processor(text=[text], images=[pictures] if pictures else None, return_tensors="pt")
        with torch.inference_mode():
            chances = self.model(**inputs).logits[0, -1].log_softmax(-1)
        top = chances.topk(body["top_logprobs"])
        listed = [{"token": self.name(i), "logprob": v} for v, i in zip(*map(torch.Tensor.tolist, top), strict=True)]
        choice = {"message": {"role": "assistant", "content": "5"}, "finish_reason": "length", "index": 0}
        if self.mode != "none":
            choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
        return web.json_response({"model": body["model"], "choices": [choice]})

    def name(self, token):
        return f"token_id:{token}" if self.names == "ids" else self.processor.tokenizer.decode([token])


@contextmanager
def serving(server):
    """Its URL; it runs in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found = {}

    async def start():
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", server.complete)
        found["runner"] = web.AppRunner(app)
        await found["runner"].setup()
        site = web.TCPSite(found["runner"], "127.0.0.1", 0)
        await site.start()
        found["port"] = site._server.sockets[0].getsockname()[1]
        ready.set()

    def work():
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(found["runner"].cleanup())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{found['port']}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_adapter_merged_and_decision_pipeline_agree(bench, capsys):
    assert run("parity", bench, "--limit", 3, "--tolerance", TOLERANCE, "--json") == output.OK
    found = json.loads(capsys.readouterr().out)
    assert found["narratives"] == 3 and found["failed"] == [] and found["reference"] == "adapter"
    rows = {(row["way"], row["dimension"]): row for row in found["agreement"]}
    assert set(rows) == {(way, name) for way in ("merged", "decision") for name in RUBRIC.names}
    assert all(row["n"] == 3 and row["missing"] == 0 and row["worst"] < 1e-3 for row in rows.values())


@pytest.mark.parametrize("names", ["ids", "texts"])
def test_a_server_that_lists_probabilities_gives_the_same_scores(bench, merged, capsys, names):
    server = Server(merged / "embedded", names)
    with serving(server) as url:
        code = run("parity", bench, "--limit", 2, "--tolerance", LISTED, "--merged", merged / "embedded",
                   "--endpoint", f"{url}#judge")  # fmt: skip
    told = capsys.readouterr().out
    assert code == output.OK and "2 narratives; all within 0.01" in told
    assert sum(line.startswith("endpoint") for line in told.splitlines()) == 6
    assert len(server.asked) == 12  # one call of one token per slot
    ends = [body["messages"][1]["content"][0]["text"] for body in server.asked]
    assert {end.rstrip().rpartition("\n")[2] for end in ends} == {f"{name}:" for name in RUBRIC.names}
    assert not any(sign.isdigit() for end in ends for sign in end)  # no level stands in a prompt


def test_another_adapter_on_the_server_fails(bench, merged, capsys):
    with serving(Server(merged / "embedded-text-only")) as url:
        code = run(
            "parity", bench, "--limit", 2, "--merged", merged / "embedded", "--endpoint", f"{url}#judge", "--json"
        )
    found = json.loads(capsys.readouterr().out)
    assert code == output.GATE and found["failed"] == ["endpoint"]


def test_another_merged_folder_fails(bench, merged, tmp_path, capsys):
    """One whose adapter is half as strong, and one that takes no picture."""
    weak = shutil.copytree(embedded_folder() / "judge", tmp_path / "weak")
    weights = load_file(weak / "adapter_model.safetensors")
    save_file({k: v / 2 if "lora_B" in k else v for k, v in weights.items()}, weak / "adapter_model.safetensors")
    card = json.loads((weak / "judge.json").read_text())
    (weak / "judge.json").write_text(json.dumps({k: v for k, v in card.items() if k != "adapter_sha256"}))
    other = f"local:{embedded_folder() / 'base'}+{weak}"
    assert run("merge", other, "--out", tmp_path / "merged") == output.OK
    capsys.readouterr()
    assert run("parity", bench, "--limit", 2, "--merged", tmp_path / "merged") == output.GATE
    assert "over 0.05: decision, merged" in capsys.readouterr().out
    assert run("parity", bench, "--limit", 2, "--merged", merged / "embedded-text-only") == output.USAGE
    assert "this judge takes 0" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["none", "refuse"])
def test_a_server_without_probabilities_is_refused_in_one_line_and_nothing_is_sampled(bench, merged, capsys, mode):
    server = Server(merged / "embedded", mode=mode)
    with serving(server) as url:
        code = run("parity", bench, "--limit", 2, "--merged", merged / "embedded", "--endpoint", f"{url}#judge")
    told = capsys.readouterr()
    assert code == output.USAGE and told.out == "" and len(server.asked) == 1
    assert len(told.err.strip().splitlines()) == 1 and "nothing is sampled in their place" in told.err


def test_a_server_that_does_not_continue_the_answer_fails(bench, merged, capsys):
    with serving(Server(merged / "embedded", mode="deaf")) as url:
        code = run(
            "parity", bench, "--limit", 2, "--merged", merged / "embedded", "--endpoint", f"{url}#judge", "--json"
        )
    found = json.loads(capsys.readouterr().out)
    assert code == output.GATE and found["failed"] == ["endpoint"]


@pytest.mark.slow
def test_transformers_serve_gives_the_scores_and_its_chat_is_refused(bench, merged, capsys):
    folder = merged / "embedded"
    with served(folder) as url:
        code = run("parity", bench, "--limit", 2, "--tolerance", TOLERANCE, "--merged", folder, "--serve",
                   f"{url}#{folder}")  # fmt: skip
        assert code == output.OK and "serve" in capsys.readouterr().out
        assert run("parity", bench, "--limit", 2, "--merged", folder, "--endpoint", f"{url}#{folder}") == output.USAGE
        assert "refuses to list token log-probabilities" in capsys.readouterr().err


def test_nothing_is_sent_to_another_machine_unasked(bench, capsys):
    assert run("parity", bench, "--endpoint", "https://judge.example/v1#m") == output.USAGE
    assert "nothing is sent to judge.example" in capsys.readouterr().err
    assert run("parity", bench, "--judge", "litellm:openai/x") == output.USAGE
    assert "does not run here" in capsys.readouterr().err


def test_comparing_counts_what_is_missing_and_passes_nothing_without_a_number():
    def scores(*values):
        return [{name: Score(v, "scored" if v is not None else "unparsable") for name in RUBRIC.names} for v in values]

    row = compare("x", scores(1.0, 2.0, None, 4.0), scores(1.5, 2.0, 3.0, None), RUBRIC)[0]
    assert row == Agreement("x", "Accuracy", 2, 0.25, 0.5, 1)
    assert not row.within(9) and row._replace(missing=0).within(0.5) and not row._replace(missing=0).within(0.4)
    nothing = compare("x", scores(None), scores(3.0), RUBRIC)[0]
    assert nothing == Agreement("x", "Accuracy", 0, None, None, 0) and not nothing.within(9)


def test_a_slot_is_read_over_its_levels_only():
    names = {"0": 0, "1": 1, "token_id:7": 1}
    score = read_slot(TokenChance("1", -1.0, (("1", -1.0), ("0", -2.0), (" 1", -1.5))), names, (0, 1))
    assert score.mass == pytest.approx(0.50321, abs=1e-5) and score.value == pytest.approx(0.73106, abs=1e-5)
    assert read_slot(TokenChance("x", -0.1, (("x", -0.1), ("1", -3.0))), names, (0, 1)).state == "unparsable"
    assert read_slot(TokenChance("1", 0.0, (("1", 0.0), ("token_id:7", 0.0))), names, (0, 1)).state == "unparsable"
