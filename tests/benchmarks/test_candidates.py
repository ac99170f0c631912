"""Generation over a real server on loopback: what is sent, what each failure becomes, what a resume asks again."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks import generation
from dermjudge.benchmarks.candidates import Limits, generate, plan
from dermjudge.benchmarks.estimates import estimate_run
from dermjudge.benchmarks.open_systems import make_systems
from dermjudge.benchmarks.systems import Asking
from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.judge.calls import pictures as sent_pictures
from dermjudge.judge.calls.kept import Kept
from dermjudge.judge.calls.prices import Price
from dermjudge.judge.calls.retry import RetryPolicy
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.tables import read_narratives
from dermjudge.judge.verify import verify_run
from tests.fault_server import FaultServer

FAST = RetryPolicy(first=0.01, seed=1)
ANSWER = ("<think>melanoma? no</think>Findings: scaly plaques {item} {{}}.\n\nDifferential diagnosis:\n1. Psoriasis\n"
          "2. Tinea corporis\n3. Possible eczema\n\nFinal diagnosis: Psoriasis\nTriage: routine")  # fmt: skip
OBJECT = {
    "narrative": "Scaly plaques.",
    "differential": [{"diagnosis": "Psoriasis", "confidence": 0.8}, {"diagnosis": "Eczema", "confidence": 0.15}],
    "final_diagnosis": "Psoriasis",
    "triage": "routine",
}


def say(item, prompt):
    return ANSWER.replace("{item}", item)


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: every list of answers is synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def make_cases(root, count, pictures=1, context="item=c{k}"):
    cases = []
    for k in range(count):
        names = [f"{k}-{n}.png" for n in range(pictures)]
        for n, name in enumerate(names):
            Pillow.new("RGB", (40, 30), (k * 5 % 256, n * 30, 40)).save(root / name)
        cases.append(Case(f"c{k}", tuple(map(Image, names)), context=context.format(k=k), diagnosis=("psoriasis",)))
    return cases


def server(answer=say, **behaviour):
    running = FaultServer(answer=answer, retry_after="0", **behaviour)
    running.bodies = []
    return running


def named(name, running, model="tiny"):
    return f"{name}=endpoint:{running.url}#{model}"


def run(cases, specs, out, root, *, asking=None, in_flight=4, prices=None, **options):
    systems = make_systems(specs, asking=asking or Asking(), in_flight=in_flight, policy=FAST, prices=prices,
                           arm=options.get("arms", ["image_only"])[0])  # fmt: skip
    return generate(cases, systems, out, root=root, **options)


def narratives(folder):
    return {n.key: n for n in read_narratives(folder / "narratives.jsonl")}


def absent(folder):
    return [json.loads(line) for line in (folder / "not_written.jsonl").read_text().splitlines()]


# What is sent


def contents(running):
    """Per request the parts of the user's turn."""
    found = [json.loads(body)["messages"][0]["content"] for body in running.bodies]
    return [[{"type": "text", "text": part}] if isinstance(part, str) else part for part in found]


def test_each_arm_sends_what_it_shows_and_nothing_else(tmp_path):
    cases = make_cases(tmp_path, 2, pictures=8, context="item=c{k} SECRET {{pictures}} %s")
    with server() as one:
        done = run(cases, [named("a", one)], tmp_path / "run", tmp_path,
                   arms=["image_only", "image_context", "text_only"])  # fmt: skip
        assert done.complete and done.states == {"a": {"written": 6}}
        seen = Counter()
        for parts in contents(one):
            pictures = sum(part["type"] == "image_url" for part in parts)
            text = parts[-1]["text"]
            assert "psoriasis" not in text.lower() and parts[-1]["type"] == "text"
            assert ("SECRET {pictures} %s" in text) == ("SECRET" in text)
            seen[pictures, "SECRET" in text] += 1
        assert seen == {(8, False): 2, (8, True): 2, (0, True): 2}
    for narrative in narratives(tmp_path / "run").values():
        assert len(narrative.provenance["pictures"]) == (0 if narrative.arm == "text_only" else 8)


def test_what_stands_in_a_narrative(tmp_path):
    cases = make_cases(tmp_path, 1)
    price = {"tiny": Price(input_per_million=1, output_per_million=2)}
    with server() as one:
        run(cases, [named("a", one)], tmp_path / "run", tmp_path, asking=Asking({"max_tokens": 77}), prices=price)
        (body,) = map(json.loads, one.bodies)
    (narrative,) = narratives(tmp_path / "run").values()
    assert body["temperature"] == 0.0 and body["max_tokens"] == 77 and body["model"] == "tiny"
    assert narrative.text.startswith("<think>melanoma? no</think>Findings") and "melanoma" not in narrative.judged
    assert [c.name for c in narrative.differential] == ["Psoriasis", "Tinea corporis", "possible eczema"]
    assert (narrative.triage, narrative.finish_reason, narrative.sample) == ("routine", "stop", 0)
    origin = narrative.provenance
    assert origin["model"] == "tiny" and origin["model_returned"] == "tiny" and origin["fingerprint"] == "fp_1"
    assert origin["final_diagnosis"] == "Psoriasis"
    assert origin["prompt"].startswith("narrative:") and origin["settings"] == {"temperature": 0.0, "max_tokens": 77}
    assert origin["cost"] == pytest.approx((origin["input_tokens"] + 2 * origin["output_tokens"]) / 1e6)
    assert len(origin["pictures"][0]) == 64 and origin["read"] == "parser" and origin["state"] == "written"


def test_an_unknown_price_is_none(tmp_path):
    with server() as one:
        done = run(make_cases(tmp_path, 2), [named("a", one)], tmp_path / "run", tmp_path)
    assert {n.provenance["cost"] for n in narratives(tmp_path / "run").values()} == {None}
    assert done.spent["a"]["money"] is None and done.spent["a"]["calls"] == 2 and done.spent["a"]["tokens"] > 0


def test_the_record_scores_as_its_text_does(tmp_path):
    """Filled fields change nothing for the scorer that would read the text itself."""
    cases = make_cases(tmp_path, 3)
    with server() as one:
        run(cases, [named("a", one)], tmp_path / "run", tmp_path)
    filled = list(narratives(tmp_path / "run").values())
    bare = [Narrative(n.case_id, n.system, n.text) for n in filled]
    a, b = (score_diagnosis(cases, texts) for texts in (filled, bare))
    assert repr(a) == repr(b) or str(a) == str(b)


def test_samples_are_drawn_with_seeds_of_their_own(tmp_path):
    cases = make_cases(tmp_path, 1)
    with server() as one:
        done = run(cases, [named("a", one)], tmp_path / "run", tmp_path, samples=3, asking=Asking({"seed": 10}))
        assert sorted(json.loads(body)["seed"] for body in one.bodies) == [10, 11, 12]
        assert {json.loads(body)["temperature"] for body in one.bodies} == {1.0}
    assert done.planned == 3 and {key[3] for key in narratives(tmp_path / "run")} == {0, 1, 2}
    with pytest.raises(InputError, match="temperature 0"), server() as one:
        run(cases, [named("a", one)], tmp_path / "r2", tmp_path, samples=2, asking=Asking({"temperature": 0}))


def test_image_budgets(tmp_path):
    cases = [*make_cases(tmp_path, 1, pictures=8), Case("few", (Image("0-0.png"),))]
    how = {"a": Asking(max_images=2, over_images="first"), "b": Asking(max_images=2), "": Asking()}
    with server() as one:
        done = run(cases, [named(name, one) for name in "abc"], tmp_path / "run", tmp_path, asking=how)
        sizes = Counter(sum(part["type"] == "image_url" for part in parts) for parts in contents(one))
        texts = [parts[-1]["text"] for parts in contents(one) if len(parts) == 3]
    assert sizes == {2: 1, 8: 1, 1: 3} and "2 pictures of the case (of 8) are attached." in texts[0]
    assert done.complete and done.states == {
        "a": {"written": 2},
        "b": {"written": 1, "skipped": 1},
        "c": {"written": 2},
    }
    (row,) = absent(tmp_path / "run")
    assert (row["system"], row["state"]) == ("b", "skipped") and "8 pictures and this candidate takes 2" in row[
        "reason"
    ]
    cut = narratives(tmp_path / "run")["c0", "a", "image_only", 0]
    assert cut.provenance["flags"] == ["the first 2 of 8 pictures shown"]


def test_a_picture_is_encoded_once_whatever_the_number_of_candidates(tmp_path, monkeypatch):
    """With room for few pictures and candidates of unlike speed, since nobody runs far ahead."""
    cases, made = make_cases(tmp_path, 24, pictures=4), Counter()
    encode = sent_pictures._encode
    monkeypatch.setattr(generation, "SHELF", 44)
    monkeypatch.setattr(sent_pictures, "_kept", Kept(8, lambda picture: 1))
    monkeypatch.setattr(sent_pictures, "_encode", lambda p, s: made.update([p.tobytes()[:12]]) or encode(p, s))
    with server() as fast, server(latency=0.05) as slow:
        specs = [named("fast", fast), named("slow", slow), named("third", fast)]
        done = run(cases, specs, tmp_path / "run", tmp_path, arms=["image_only", "image_context"])
    assert done.complete and done.planned == 144
    assert set(made.values()) == {1} and len(made) == 96


# What each failure becomes


def test_every_ending_is_a_state(tmp_path):
    modes = {"c1": "refusal", "c2": "filter_400", "c3": "filter_200", "c4": "truncated", "c5": "thinking",
             "c6": "400", "c7": "500", "c8": "malformed", "c9": "null", "c10": "wrong_model"}  # fmt: skip

    def answer(item, prompt):
        return {"c11": "  \u200b", "c12": "<think>so</think>", "c13": "I'm sorry, but I can't assist with that.",
                "c14": "An odd rash."}.get(item, say(item, prompt))  # fmt: skip

    cases = [*make_cases(tmp_path, 15), Case("c15", (Image("gone.png"),), context="item=c15"),
             Case("c16", context="x")]  # fmt: skip
    with server(answer, sticky=modes) as one:
        done = run(cases, [named("a", one)], tmp_path / "run", tmp_path, arms=["image_context"])
        calls = Counter(line["item"] for line in one.log)
    assert not done.complete and sum(done.states["a"].values()) == done.planned == 17
    found = {k[0]: n.provenance["state"] for k, n in narratives(tmp_path / "run").items()}
    assert found == {"c0": "written", "c1": "refused", "c2": "filtered", "c3": "filtered", "c4": "truncated",
                     "c5": "truncated", "c11": "empty", "c12": "empty", "c13": "refused", "c14": "written"}  # fmt: skip
    missing = {row["case_id"]: (row["state"], row["reason"]) for row in absent(tmp_path / "run")}
    assert missing["c6"] == ("api_error", "bad_request (status 400)")
    assert missing["c7"][0] == missing["c8"][0] == missing["c9"][0] == missing["c10"][0] == "api_error"
    assert missing["c10"][1].startswith("wrong_model") and "gone.png" in missing["c15"][1]
    assert missing["c15"][0] == "input_error" and missing["c16"] == ("skipped", "the case has no picture")
    assert (calls["c6"], calls["c1"], calls["c2"], calls["c8"]) == (1, 1, 1, 3)
    texts = narratives(tmp_path / "run")
    by_case = {key[0]: n for key, n in texts.items()}
    assert by_case["c2"].finish_reason == by_case["c3"].finish_reason == "content_filter"
    assert by_case["c1"].finish_reason == "refusal" and by_case["c1"].text == "I cannot help with that."
    assert by_case["c4"].finish_reason == "length" and by_case["c4"].differential == ()
    assert by_case["c5"].provenance["reasoning"] == "Let me see" and by_case["c5"].text == ""
    assert verify_run(tmp_path / "run").ok


def test_a_denied_candidate_ends_and_the_others_go_on(tmp_path):
    cases = make_cases(tmp_path, 12)
    with server() as good, server(sticky={"*": "401"}) as bad:
        specs = [named("bad", bad), named("good", good)]
        done = run(cases, specs, tmp_path / "run", tmp_path)
        assert done.states == {"bad": {"api_error": 12}, "good": {"written": 12}}
        assert len(bad.log) == 1 and not done.complete and "HTTP 401" in done.stopped["bad"]
        assert all(row["reason"].startswith("denied") for row in absent(tmp_path / "run"))
        # with the key put right, only that candidate is asked again
        object.__setattr__(bad.behaviour, "sticky", {})
        again = run(cases, specs, tmp_path / "run", tmp_path)
        assert again.complete and again.resumed == 12 and len(good.log) == 12 and len(bad.log) == 13
    assert again.states == {"bad": {"written": 12}, "good": {"written": 12}} and again.spent["bad"]["calls"] == 12
    assert absent(tmp_path / "run") == [] and verify_run(tmp_path / "run").ok


def test_a_candidate_that_never_answers_leaves_its_rest_undone(tmp_path):
    cases = make_cases(tmp_path, 40)
    with server() as good, server(sticky={"*": "400"}) as bad:
        done = run(cases, [named("bad", bad), named("good", good)], tmp_path / "run", tmp_path)
    assert done.states["good"] == {"written": 40} and not done.complete
    assert 20 <= done.states["bad"]["api_error"] < 40 and done.missing == 40 - done.states["bad"]["api_error"]
    assert "in a row" in done.stopped["bad"]


def test_budget_is_shared_and_spans_sessions(tmp_path):
    cases = make_cases(tmp_path, 10)
    with server() as one:
        specs = [named("a", one), named("b", one)]
        done = run(cases, specs, tmp_path / "run", tmp_path, limits=Limits(calls=8), in_flight=2)
        assert len(one.log) <= 8 and done.missing == 20 - len(one.log) and set(done.stopped) == {"a", "b"}
        before = len(one.log)
        run(cases, specs, tmp_path / "run", tmp_path, limits=Limits(calls=8), in_flight=2)
        assert before <= len(one.log) <= 8
        assert run(cases, specs, tmp_path / "run", tmp_path, in_flight=2).complete and len(one.log) == 20
        with pytest.raises(InputError, match="that of a, b is unknown"):
            run(cases, specs, tmp_path / "money", tmp_path, limits=Limits(money=1.0))
        assert not (tmp_path / "money").exists()
        price = {"tiny": Price(input_per_million=1000, output_per_million=1000)}
        paid = run(cases, specs, tmp_path / "money", tmp_path, limits=Limits(money=12), prices=price, in_flight=1)
        assert 0 < sum(s["money"] for s in paid.spent.values()) <= 12 and not paid.complete


def test_a_changed_question_is_refused(tmp_path):
    cases = make_cases(tmp_path, 2)
    with server() as one:
        run(cases, [named("a", one)], tmp_path / "run", tmp_path)
        for change, field in (({"structured": True}, "prompt"), ({"asking": Asking({"top_p": 0.5})}, "top_p"),
                              ({"arms": ["text_only"]}, "arms"), ({"seed": 1}, "seed")):  # fmt: skip
            with pytest.raises(InputError, match=field):
                run(cases, [named("a", one)], tmp_path / "run", tmp_path, **change)
        Pillow.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "1-0.png")
        with pytest.raises(InputError, match="pictures"):
            run(cases, [named("a", one)], tmp_path / "run", tmp_path)
        assert len(one.log) == 2


def test_bad_plans(tmp_path):
    cases = make_cases(tmp_path, 2)
    with server() as one:
        systems = make_systems([named("a", one)])
        for bad in (dict(cases=[]), dict(systems=[]), dict(samples=0), dict(arms=[]), dict(cases=[cases[0], cases[0]])):
            with pytest.raises(InputError):
                plan(**{"cases": cases, "systems": systems, "arms": ["image_only"], "samples": 1, **bad})
        with pytest.raises(InputError, match="two candidates are called 'a'"):
            make_systems([named("a", one), named("A", one)])
    for text in ("gpt-4o", "endpoint:http://x", "=endpoint:http://x#y", "http://x#y", "local:"):
        with pytest.raises(InputError, match="the forms are"):
            make_systems([text])
    with pytest.raises(InputError, match="no candidate is called 'z'"):
        make_systems([f"a=endpoint:{one.url}#m"], asking={"z": Asking()})


def test_what_was_spent_on_a_narrative_adds_up_over_sessions(tmp_path):
    cases = make_cases(tmp_path, 2)
    with server(script={"c1": ["400", "429", "500"]}) as one:
        how = {"arms": ["image_context"]}
        first = run(cases, [named("a", one)], tmp_path / "run", tmp_path, **how)
        second = run(cases, [named("a", one)], tmp_path / "run", tmp_path, **how)
    assert first.states == {"a": {"written": 1, "api_error": 1}} and second.states == {"a": {"written": 2}}
    assert (first.spent["a"]["calls"], second.spent["a"]["calls"]) == (2, 5)


# Structured answers


def test_structured_answers_are_asked_for_and_read_strictly(tmp_path):
    good = json.dumps(OBJECT)
    odd = {**OBJECT, "final_diagnosis": "Eczema", "differential": OBJECT["differential"][::-1]}
    said = {
        "c0": good, "c1": f"<think>{{}}</think>\n{good}", "c2": f"Sure: {good}", "c3": good[:-1],
        "c4": json.dumps({**OBJECT, "triage": "now"}), "c5": json.dumps({**OBJECT, "extra": 1}),
        "c6": good.replace("0.8", "NaN"), "c7": good.replace("0.8", "80"), "c8": good.replace('"0.15"', "x"),
        "c9": good.replace('"triage"', '"narrative"'), "c10": json.dumps({**OBJECT, "differential": []}),
        "c11": json.dumps({**odd, "differential": odd["differential"]}), "c12": "I cannot assist with that request.",
        "c13": json.dumps({**OBJECT, "differential": ["Psoriasis"]}), "c14": f"hm</think>{good}", "c15": "[1]",
    }  # fmt: skip
    cases = make_cases(tmp_path, len(said))
    with server(lambda item, prompt: said[item]) as one:
        done = run(cases, [named("a", one)], tmp_path / "run", tmp_path, arms=["image_context"], structured=True)
        body = json.loads(one.bodies[0])
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["narrative", "differential", "final_diagnosis", "triage"]
    assert body["response_format"]["json_schema"]["strict"] is True and schema["additionalProperties"] is False
    found = {key[0]: n for key, n in narratives(tmp_path / "run").items()}
    states = {name: n.provenance["state"] for name, n in found.items()}
    assert {name for name, state in states.items() if state == "written"} == {"c0", "c1", "c8", "c11", "c14"}
    assert states["c12"] == "refused" and done.states["a"]["unparsable"] == 10 and done.complete
    first = found["c0"]
    assert [(c.name, c.weight) for c in first.differential] == [("Psoriasis", 0.8), ("Eczema", 0.15)]
    assert first.triage == "routine" and first.provenance["read"] == "schema" and first.provenance["answer"] == good
    assert first.text.startswith("Scaly plaques.\n") and "1. Psoriasis (0.800)" in first.text
    assert "Triage: routine" in first.text and "{" not in first.text
    assert len(found["c11"].provenance["flags"]) == 1 or len(found["c11"].provenance["flags"]) == 2
    assert found["c2"].text == said["c2"] and found["c2"].differential == ()


# Recorded narratives beside models


def test_a_classifier_and_clinicians_in_the_same_run(tmp_path):
    cases = make_cases(tmp_path, 3)
    (tmp_path / "net.csv").write_text("case_id,psoriasis,eczema\nc0,0.9,0.1\nc1,0.2,0.8\nC2 ,0,0\n")
    (tmp_path / "study.csv").write_text(
        "case_id,reader,text,arm\nc0,dr-a,Likely psoriasis.,image_context\n"
        "c1,dr-b,I cannot diagnose this.,image_context\n"
    )
    with server() as one:
        specs = [named("vlm", one), f"replay:{tmp_path / 'net.csv'}", f"replay:{tmp_path / 'study.csv'}"]
        done = run(cases, specs, tmp_path / "run", tmp_path, arms=["image_only", "image_context"])
        again = run(cases, specs, tmp_path / "run", tmp_path, arms=["image_only", "image_context"])
        assert len(one.log) == 6
        with pytest.raises(InputError, match="holds narratives of the arm image_context"):
            run(cases, specs[2:], tmp_path / "r2", tmp_path, arms=["text_only"])
    assert done.states == again.states == {
        "vlm": {"written": 6}, "net": {"written": 2, "empty": 1},
        "dr-a": {"written": 1, "skipped": 2}, "dr-b": {"refused": 1, "skipped": 2},
    }  # fmt: skip
    found = narratives(tmp_path / "run")
    assert found["c1", "net", "image_only", 0].differential[0] == ("eczema", 0.8)
    assert found["c0", "dr-a", "image_context", 0].differential[0].name == "psoriasis"
    assert again.complete and again.resumed == 15 and done.spent["net"] == {"calls": 0, "tokens": 0, "money": 0.0}


# What it would cost


def test_the_estimate_names_what_is_left(tmp_path):
    cases = make_cases(tmp_path, 6, pictures=2)
    with server(sticky={"c1": "400"}) as one:
        specs = [named("a", one), named("b", one, "other")]
        prices = {"tiny": Price(input_per_million=3, output_per_million=15)}
        systems = make_systems(
            specs, prices=prices, asking={"": Asking({"max_tokens": 100}), "b": Asking(max_images=1)}
        )
        arms = {"root": tmp_path, "arms": ["image_context"]}
        first, second = estimate_run(cases, systems, tmp_path / "run", **arms)
        assert (first["planned"], first["done"], first["calls"], first["pictures"]) == (6, 0, 6, 12)
        assert first["output_tokens"] == 600 and first["cached"] == 0
        assert first["cost"] == pytest.approx((first["input_tokens"] * 3 + 600 * 15) / 1e6)
        assert second["skipped"] == 6 and second["calls"] == 0 and second["cost"] is None
        assert not (tmp_path / "run").exists() and one.log == []
        done = run(
            cases, specs[:1], tmp_path / "run", tmp_path, arms=["image_context"], asking=Asking({"max_tokens": 100})
        )
        used = sum(n.provenance["output_tokens"] for n in narratives(tmp_path / "run").values())
        assert done.states["a"] == {"written": 5, "api_error": 1} and used < 600
        (row,) = estimate_run(cases, systems[:1], tmp_path / "run", **arms)
        assert (row["done"], row["calls"], row["cached"]) == (5, 1, round(5 / 6, 4))
