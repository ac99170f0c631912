"""Variants of arms: a field missing or wrong, fewer pictures, worse pictures."""

import math
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from dermjudge.benchmarks import synthetic
from dermjudge.benchmarks.arms import ARMS, VARIANTS, WITH_CONTEXT, WITH_PICTURES, check_arms, parse_arm
from dermjudge.benchmarks.candidates import plan
from dermjudge.benchmarks.context_edits import FIELDS, contradict, without
from dermjudge.benchmarks.context_fields import contradictions, find_field
from dermjudge.benchmarks.degraded_pictures import DOSES, KINDS, degrade, degraded_path, sent, source_path
from dermjudge.judge.calls import pictures
from dermjudge.judge.calls.pictures import PictureSettings
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image

GIRL = ("A 7-year-old girl presents with a 3-week history of an itchy rash on the left forearm. She has a family "
        "history of atopic eczema.")  # fmt: skip
OLD = "62F with a 3-month-old lesion on her back, no history of skin cancer."
FACTS = "Age: 55. Sex: male. Site: face. Size: 5 mm. Duration: one to four weeks. Skin cancer before: yes."
MADE = "45-year-old female, left scalp. Reported: bleeding."


def case(context, **tags):
    return Case("c1", (Image("a.png"),), context=context, tags=tags)


@pytest.mark.parametrize(
    ("context", "field", "left"),
    [
        (GIRL, "age", GIRL.replace("7-year-old girl", "female")),
        (GIRL, "sex", GIRL.replace("girl", "child").replace("She", "The patient")),
        (GIRL, "site", GIRL.replace(" on the left forearm", "")),
        (GIRL, "duration", GIRL.replace("a 3-week history of ", "")),
        (GIRL, "history", GIRL.partition(" She")[0]),
        (OLD, "age", OLD.replace("62", "")),
        (OLD, "duration", OLD.replace("3-month-old ", "")),
        (OLD, "site", OLD.replace(" on her back", "")),
        (FACTS, "age", FACTS.replace("Age: 55. ", "")),
        (FACTS, "sex", FACTS.replace("Sex: male. ", "")),
        (FACTS, "site", FACTS.replace("Site: face. ", "")),
        (FACTS, "duration", FACTS.replace("Duration: one to four weeks. ", "")),
        (FACTS, "history", FACTS.replace(" Skin cancer before: yes.", "")),
        (MADE, "age", "female, left scalp. Reported: bleeding."),
        (MADE, "sex", "45-year-old patient, left scalp. Reported: bleeding."),
        (MADE, "site", "45-year-old female. Reported: bleeding."),
        (MADE, "history", "45-year-old female, left scalp."),
    ],
)
def test_a_field_goes_with_the_words_that_name_it(context, field, left):
    edit = without(case(context), field)
    assert not edit.problem and edit.text == left and edit.was
    assert not find_field(case(context), field, edit.text)


@pytest.mark.parametrize(
    ("context", "field", "wrong"),
    [
        (GIRL, "sex", GIRL.replace("girl", "boy").replace("She", "He")),
        (OLD, "sex", OLD.replace("62F", "62M").replace("her", "his")),
        (OLD, "history", OLD.replace("no history", "a history")),
        (FACTS, "sex", FACTS.replace(": male", ": female")),
        (FACTS, "history", FACTS.replace("yes", "no")),
        (MADE, "history", MADE.replace("bleeding", "no bleeding")),
    ],
)
def test_what_is_contradicted_in_one_way_only(context, field, wrong):
    assert contradict(case(context), field, 3).text == wrong


@pytest.mark.parametrize("context", [GIRL, OLD, FACTS, MADE])
@pytest.mark.parametrize("field", ["age", "sex", "site", "duration"])
def test_a_contradiction_is_of_another_band_or_region_and_depends_on_seed_and_case(context, field):
    true = {m.means for m in find_field(case(context), field)}
    edits = [contradict(case(context), field, seed) for seed in range(40)]
    assert edits == [contradict(case(context), field, seed) for seed in range(40)]
    if context == MADE and field == "duration":
        assert {edit.problem for edit in edits} == {"no duration was found in the context"}
        return
    for edit in edits:
        now = {m.means for m in find_field(case(context), field, edit.text)}
        assert not edit.problem and now and not now & true and edit.was != edit.now
        if field != "sex":
            assert now <= set(contradictions()[field][next(iter(true))]["contradicted_by"])
    assert len({edit.text for edit in edits}) > (1 if field != "sex" else 0)


def test_a_wrong_age_takes_man_and_boy_with_it():
    told = {contradict(case("A 70-year-old man."), "age", seed).text for seed in range(30)}
    assert all(re.fullmatch(r"An? \d+-year-old boy\.", text) for text in told)
    assert all(re.search(r"\d+-year-old woman p", contradict(case(GIRL), "age", seed).text) for seed in range(9))


def test_what_the_tags_tell_cannot_be_drawn():
    tagged = Case("c", (Image("a.png", body_site="thigh"),), context="A rash on the palm.", tags={"site": "scalp"})
    for seed in range(30):
        edit = contradict(tagged, "site", seed)
        assert edit.problem or not {"head", "lower_limb", "hand"} & {
            m.means for m in find_field(tagged, "site", edit.text)
        }
    assert "several ages" in contradict(case("A 45-year-old.", age=7), "age").problem
    assert find_field(case("Spots on the philtrum.", site="philtrum"), "site")[0].means == "?"
    assert "no table" in contradict(case("Spots on the philtrum.", site="philtrum"), "site").problem


@pytest.mark.parametrize(
    ("context", "field", "why"),
    [
        ("Itchy rash.", "age", "no age"),
        ("It came back, on the other hand nothing else.", "site", "no site"),
        ("A pregnant woman.", "sex", "pregnant"),
        ("A rash for 3 weeks, itching for 2 days, a boy of his mother.", "sex", "mother"),
        ("Age: 45.", "age", "nothing is left"),
    ],
)
def test_what_cannot_be_taken_out_is_said(context, field, why):
    edit = without(case(context), field)
    assert why in edit.problem and edit.text == context


def test_what_cannot_be_contradicted_is_said():
    for context, field, why in (
        ("A rash for 3 weeks, fever for 2 years.", "duration", "several durations"),
        ("A woman and a man.", "sex", "both sexes"),
        ("A 200-year-old.", "age", "of no band"),
        ("Reported: odd smell.", "history", "no table"),
    ):
        edit = contradict(case(context), field)
        assert why in edit.problem and edit.text == context


@given(st.text(max_size=120), st.sampled_from(FIELDS), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_an_edit_and_no_edit_is_silent(text, field, seed):
    for told in (text, f"{text} 45-year-old woman, left scalp, for 3 weeks, history of {text}"):
        for edit in (without(case(told), field), contradict(case(told), field, seed)):
            assert (edit.text == told) == bool(edit.problem)


def test_every_synthetic_case_loses_its_fields_or_is_skipped_and_flagged():
    for one in synthetic.make(40, seed=3).cases:
        for field in ("age", "sex", "site", "history"):
            for kind in ("missing", "wrong"):
                view = ARMS[f"image_context-{kind}:{field}"](one, (), 1)
                assert not view.problem and view.context not in (one.context, None) and view.images == one.images
                assert f"{'without' if kind == 'missing' else 'with wrong'} {field}: '" in view.flags[-1]
        skipped = ARMS["text_only-missing:duration"](one, (), 1)
        assert skipped.problem == "no duration was found in the context" and not skipped.images


def test_names_are_read_in_one_place_and_unknown_ones_are_listed():
    assert parse_arm("image_only-blur:2")[1:4] == ("image_only", "blur", "2")
    for name in ("image_only-missing:age", "text_only-blur:1", "image_only-blur:5", "image_only-images:0",
                 "image_only-", "image_context-wrong:name", "blur:2", "image_only-blur",
                 "image_only-blur:²"):  # fmt: skip
        with pytest.raises(InputError, match=r"image_only, image_context, text_only; .*-wrong:age.*-blur:1\|2\|3\|4"):
            check_arms([name])
        with pytest.raises(InputError):
            ARMS[name]
    names = [f"{b}-{kind}:{v}" for kind, (bases, values, _) in VARIANTS.items() for b in bases for v in values]
    assert check_arms(names) == tuple(names)
    many = Case("c", tuple(Image(f"{k}.png") for k in range(20)), context=FACTS)
    for name in names:
        view = ARMS[name](many, (), 0)
        assert not view.problem and view.flags
        assert (name in WITH_PICTURES) == bool(view.images) and (name in WITH_CONTEXT) == (view.context is not None)


def test_fewer_pictures_are_drawn_by_seed_and_case():
    many = [Case(f"c{k}", tuple(Image(f"{k}-{i}.png") for i in range(5))) for k in range(60)]
    show = ARMS["image_only-images:2"]
    assert [show(c, (), 0) for c in many] == [show(c, (), 0) for c in reversed(many)][::-1]
    places = [[c.images.index(i) for i in show(c, (), 0).images] for c in many]
    assert all(len(p) == 2 and p == sorted(p) for p in places)
    assert np.bincount(np.ravel(places), minlength=5).min() > 8
    assert places != [[c.images.index(i) for i in show(c, (), 1).images] for c in many]
    assert "no more than 5" in ARMS["image_only-images:5"](many[0], (), 0).problem
    assert show(many[0], (), 0).flags[-1].endswith("of 5")


def test_variants_go_through_the_plan_of_a_run():
    system = SimpleNamespace(name="s", asking=SimpleNamespace(max_images=None, over_images="skip"))
    cases = [Case("a", (Image("a.png"),), context=FACTS), Case("b", (Image("b.png"),), context="Itchy.")]
    items = plan(cases, [system], ["image_context-missing:age", "image_only-blur:2"], 1)
    assert [bool(item.view.problem) for item in items] == [False, False, True, False]
    assert items[1].view.images[0].path == "degraded:blur:2/a.png" and items[1].view.context is None


def photo(size=(200, 150), seed=0):
    rng = np.random.default_rng(seed)
    coarse = Pillow.fromarray(rng.integers(40, 220, (12, 16, 3), dtype=np.uint8)).resize(
        size, Pillow.Resampling.BICUBIC
    )
    noise = rng.normal(0, 12, (size[1], size[0], 3))
    return Pillow.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def psnr(one, other):
    error = np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)
    return 10 * math.log10(255**2 / error)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "crop"])
def test_a_higher_dose_leaves_less(kind, seed):
    whole = photo(seed=seed)
    kept = [psnr(whole, degrade(whole, kind, dose)) for dose in DOSES]
    assert all(a > b + 0.3 for a, b in pairwise(kept)) and kept[0] < 45


def test_a_stop_halves_the_light():
    grey = Pillow.new("RGB", (4, 4), (188, 188, 188))  # half of full light, on the sRGB curve
    assert degrade(grey, "dark", 1).getpixel((0, 0)) == (137, 137, 137)  # a quarter


def test_crops_lie_within_each_other_at_one_corner():
    for salt in (b"a", b"b", b"c", b"d", b"e"):
        whole = photo()
        cut = [np.asarray(whole), *(np.asarray(degrade(whole, "crop", dose, salt)) for dose in DOSES)]
        for large, small in pairwise(cut):
            (h, w), (y, x) = small.shape[:2], (large.shape[0] - small.shape[0], large.shape[1] - small.shape[1])
            corners = [large[:h, :w], large[y:, :w], large[:h, x:], large[y:, x:]]
            assert h * w < large.shape[0] * large.shape[1] and any(np.array_equal(small, c) for c in corners)
        assert cut[-1].shape[:2] == (60, 80)


def test_unknown_degradations_are_refused():
    for kind, dose in (("haze", 1), ("blur", 0), ("blur", 5)):
        with pytest.raises(InputError, match="blur, dark, low_resolution, jpeg, crop"):
            degrade(photo(), kind, dose)


def test_a_degraded_picture_is_sent_by_its_own_path_only(tmp_path):
    (tmp_path / "images").mkdir()
    photo().save(tmp_path / "images" / "a.png")
    plain, worse = "images/a.png", degraded_path("images/a.png", "blur", 3)
    assert source_path(worse) == source_path(plain) == plain
    settings = PictureSettings(100, 90)
    assert sent(tmp_path, plain, settings) == pictures.sent(tmp_path, plain, settings)
    found = sent(tmp_path, worse, settings)
    assert found == sent(tmp_path, worse, settings) and found.sha256 != sent(tmp_path, plain, settings).sha256
    hashes = {sent(tmp_path, degraded_path(plain, k, d), settings).sha256 for k in KINDS for d in DOSES}
    assert len(hashes) == len(KINDS) * len(DOSES)
    with pytest.raises(InputError, match="URLs and drive letters"):
        pictures.sent(tmp_path, worse, settings)  # what does not know degraded paths never sends the plain picture
    for bad in ("degraded:blur:9/images/a.png", "degraded:blur/images/a.png", "degraded:blur:1/../a.png"):
        with pytest.raises(InputError):
            sent(tmp_path, bad, settings)
