"""The leakage guard: what is shared is found whatever it is called, what is not passes, and the card says both."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from dermjudge.benchmarks.synthetic import generate
from dermjudge.cli.held_apart import check_held_apart
from dermjudge.judge.benchmark import load_benchmark, write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.links import series_of
from dermjudge.judge.records import Case, Image
from dermjudge.training.config import Recipe
from dermjudge.training.known_overlaps import KNOWN, known_overlap
from dermjudge.training.leakage import Alike, check_apart, check_splits, data_names, sides

RECIPE = Recipe.model_validate({"name": "t", "data": {}, "sft": {"steps": 1, "batch": 1, "rate": 0.1}})


def picture(seed: int, size: int = 64) -> Pillow.Image:
    """Smooth noise: pictures of two seeds are unlike, a copy of one is like it."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Pillow.fromarray(small).resize((size, size), Pillow.Resampling.BICUBIC)


def encoded(image: Pillow.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bench(folder, cases, name="ward", pictures=None, source="a hospital"):
    return write_benchmark(
        folder, name=name, version="1", licence="CC0-1.0", source=source, cases=cases, images=pictures or {}
    )


def pair(tmp_path, one: dict, other: dict, **names):
    """Two benchmarks of one case each."""
    a = bench(tmp_path / "a", [Case(**({"id": "a1", "split": "train", "source": "ward"} | one))])
    b = bench(tmp_path / "b", [Case(**({"id": "b1", "source": "ward"} | other))], **({"name": "clinic"} | names))
    return a, b


def test_a_split_that_shares_patients_or_lesions_with_another_is_refused(tmp_path):
    good = [Case("a", patient_id="p1", split="train"), Case("b", patient_id="p2", split="test"), Case("c")]
    (entry,) = check_splits(bench(tmp_path / "good", good), "train")
    assert entry["splits"] == {"test": 1} and entry["compared"]["patients"] == [1, 1]
    assert entry["no_patient"] == [0, 0] and entry["cases"] == entry["trained_cases"] == 1
    assert len(entry["cases_sha256"]) == 64
    shared = [Case("a", patient_id="P1 ", split="train"), Case("b", patient_id="p1", split="test")]
    with pytest.raises(InputError, match=r"1 patients\n.*'p1' .trained: a, evaluated: b"):
        check_splits(bench(tmp_path / "patient", shared), "train")
    lesion = [Case("a", lesion_id="l1", split="train"), Case("b", lesion_id="L1", split="validation")]
    with pytest.raises(InputError, match="1 lesions"):
        check_splits(bench(tmp_path / "lesion", lesion), "train")
    numbered = [
        Case("a", patient_id="p", lesion_id="1", split="train"),
        Case("b", patient_id="q", lesion_id="1", split="test"),
    ]
    assert check_splits(bench(tmp_path / "numbered", numbered), "train")[0]["compared"]["lesions"] == [1, 1]
    assert check_splits(bench(tmp_path / "whole", [Case("a"), Case("b")]), "") == []


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ({"patient_id": "p1"}, {"patient_id": "P1"}, "patients"),
        ({"lesion_id": "l1"}, {"lesion_id": "l1", "patient_id": "p"}, "lesions"),
        ({"id": "x"}, {"id": "X"}, "cases"),
        ({"tags": {"image": "f/one.jpg"}}, {"tags": {"image": "g/one.png"}}, "files"),
        # numbers that are known the world over, whatever the source
        ({"patient_id": "IP_1234567"}, {"patient_id": "ip_1234567", "source": "other"}, "patients"),
        ({"lesion_id": "HAM_0000118", "patient_id": "1"},
         {"lesion_id": "HAM_0000118", "patient_id": "2", "source": "other"}, "lesions"),
        ({"id": "ISIC_0024306"}, {"tags": {"image": "t/isic_0024306_downsampled.jpg"}, "source": "other"}, "files"),
    ],
)  # fmt: skip
def test_what_is_shared_for_certain_cannot_be_allowed(tmp_path, one, other, kind):
    a, b = pair(tmp_path, one, other)
    for allow in ("", "we know"):
        with pytest.raises(InputError, match=f"1 {kind}(.|\n)*take these cases out"):
            check_apart(a, "train", b, allow=allow)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ({"patient_id": "7"}, {"patient_id": "7", "source": "other"}, "patient"),
        ({"patient_id": "7", "source": ""}, {"patient_id": "7", "source": ""}, "patient"),
        ({"tags": {"series": "acne-cystic"}}, {"tags": {"series": "Acne-cystic"}, "source": "other"}, "series"),
        ({"tags": {"series": "acne-cystic"}}, {"tags": {"series": "acne-cystic"}}, "series"),
    ],
)
def test_what_may_be_chance_wants_a_reason_that_goes_into_the_card(tmp_path, one, other, kind):
    a, b = pair(tmp_path, one, other)
    with pytest.raises(InputError, match="--allow-overlap REASON"):
        check_apart(a, "train", b)
    with pytest.raises(InputError):
        check_apart(a, "train", b, allow="  ")
    entry = check_apart(a, "train", b, allow="numbered from one in both")
    assert entry["allowed"] == "numbered from one in both" and entry["suspected"][0][0] == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "1"}, {"id": "1", "source": "other"}),
        ({"lesion_id": "1", "patient_id": "a"}, {"lesion_id": "1", "patient_id": "b"}),
        ({"tags": {"image": "1.jpg"}}, {"tags": {"image": "1.jpg"}, "source": "other"}),
        ({"patient_id": ""}, {"patient_id": ""}),
    ],
)
def test_what_is_in_every_data_set_is_no_overlap(tmp_path, one, other):
    entry = check_apart(*pair(tmp_path, one, other)[:1], "train", load_benchmark(tmp_path / "b"))
    assert "allowed" not in entry and "suspected" not in entry


def test_names_of_data_sets_that_are_known_to_overlap(tmp_path):
    for mine, theirs in (
        ("SkinCoT", "DermBench"), ("dermbench", "Kaggle DermNet (23 classes)"), ("DermCoT-3000", "dermbench_test"),
        ("skin_cap", "DDI"), ("isic_2018", "HAM10000"), ("BCN20000", "ISIC 2019"),
    ):  # fmt: skip
        assert known_overlap(mine, theirs) == known_overlap(theirs, mine) != ""
    for mine, theirs in (("additional", "SkinCAP"), ("DermBench", "DermBench"), ("PAD-UFES-20", "DermBench"), ("", "")):
        assert known_overlap(mine, theirs) == ""
    assert len({known.why for known in KNOWN}) == len(KNOWN)
    a = bench(tmp_path / "a", [Case("x", split="train", source="SkinCoT")], name="ours")
    b = bench(tmp_path / "b", [Case("y", source="DermBench")], name="DermBench")
    with pytest.raises(InputError, match=r"made from DermNet pictures.*trained: SkinCoT, evaluated: DermBench"):
        check_apart(a, "train", b)
    assert check_apart(a, "train", b, allow="none of the 4,000 was kept")["suspected"][0][0] == "data set"


def test_what_the_start_was_trained_on_counts_too(tmp_path):
    card = {
        "base": "b",
        "trained_on": {"source": "mine"},
        "start": {"base": "b", "trained_on": {"source": "DermCoT 1"}},
    }
    assert data_names(card) == ["b", "mine", "b", "DermCoT 1"]
    a, b = pair(tmp_path, {}, {}, name="dermbench")
    check_apart(a, "train", b)
    with pytest.raises(InputError, match="DermCoT 1"):
        check_apart(a, "train", b, names=data_names(card))


def test_the_same_file_is_found_under_another_name(tmp_path):
    data = encoded(picture(1))
    a = bench(tmp_path / "a", [Case("a1", (Image("images/a.png"),), split="train")], pictures={"images/a.png": data})
    b = bench(tmp_path / "b", [Case("b1", (Image("images/b.png"),))], name="clinic", pictures={"images/b.png": data})
    with pytest.raises(InputError, match=r"the same file.*trained: images/a.png, evaluated: images/b.png"):
        check_apart(a, "train", b)


@pytest.mark.parametrize("how", ["jpeg", "half", "mirror", "other"])
def test_a_copy_is_found_by_its_pixels_and_another_picture_is_none(tmp_path, how):
    mine = {f"images/{k}.png": encoded(picture(k)) for k in range(6)}
    bench(tmp_path / "a", [Case(f"a{k}", (Image(p),), split="train") for k, p in enumerate(mine)], pictures=mine)
    made = {
        "jpeg": encoded(picture(3), "JPEG", quality=50),
        "half": encoded(picture(3).resize((32, 32))),
        "mirror": encoded(picture(3).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)),
        "other": encoded(picture(99)),
    }[how]
    bench(tmp_path / "b", [Case("b", (Image("images/b.img"),))], name="clinic", pictures={"images/b.img": made})
    if how == "other":
        (entry,) = check_held_apart(tmp_path / "a", RECIPE, [tmp_path / "b"])
        assert entry["compared"]["pictures"] == [6, 1] and "8 bits of 64" in entry["rule"] and entry["unread"] == 0
        return
    with pytest.raises(InputError, match=r"1 pictures\n.*trained: images/3.png, evaluated: images/b.img"):
        check_held_apart(tmp_path / "a", RECIPE, [tmp_path / "b"], "it cannot be")


def test_the_other_splits_of_the_folder_that_is_trained_on_may_be_named(tmp_path):
    same = {"images/1.png": encoded(picture(1)), "images/2.png": encoded(picture(1), "PNG", compress_level=1)}
    cases = [
        Case("a", (Image("images/1.png"),), patient_id="p", split="train"),
        Case("b", (Image("images/2.png"),), patient_id="q", split="test"),
    ]
    folder = bench(tmp_path / "a", cases, pictures=same)
    assert [len(side) for side in sides(folder, "train", load_benchmark(tmp_path / "a"))] == [1, 1]
    with pytest.raises(InputError, match="the same pixels"):
        check_held_apart(tmp_path / "a", RECIPE, [tmp_path / "a"])
    with pytest.raises(InputError, match="no other split"):
        sides(folder, "", folder)


def test_a_reason_without_a_folder_is_refused_and_none_is_no_check(tmp_path):
    with pytest.raises(InputError, match="--not-in"):
        check_held_apart(tmp_path, RECIPE, [], "why")
    assert check_held_apart(tmp_path, RECIPE, []) == []


def test_synthetic_patients_of_two_seeds_are_strangers_and_of_one_are_not(tmp_path):
    for name, cases, seed in (("one", 12, 1), ("two", 8, 2), ("again", 6, 1)):
        generate(tmp_path / name, cases, seed)
    one, two, again = (load_benchmark(tmp_path / name) for name in ("one", "two", "again"))
    assert check_apart(one, "train", two)["compared"]["patients"][0] > 1
    with pytest.raises(InputError, match="patients"):
        check_apart(one, "", again)


def test_series_are_names_without_their_number_but_not_schemes():
    cases = [Case(str(k), tags={"image": f"f/{stem}.jpg"}) for k, stem in enumerate(
        ["acne-cystic-53", "acne-cystic-54", "psoriasis_2", "ISIC_0024306", "nevus", "IMG_0001"])]  # fmt: skip
    assert series_of(cases) == ["acne-cystic", "acne-cystic", "psoriasis", "", "", ""]
    assert series_of([Case(f"x_{k}", (Image(f"images/x_{k}.png"),)) for k in range(40)]) == [""] * 40


ids = st.sampled_from(["", "p1", "P1", "p2", "7", "IP_0000001"])
some_cases = st.lists(st.tuples(ids, ids, st.sampled_from(["", "ward", "other"])), min_size=1, max_size=5)


@given(some_cases, some_cases)
def test_what_passes_shares_no_patient_under_one_source_and_neither_side_matters(tmp_path_factory, one, other):
    def make(rows, letter):
        cases = [Case(f"{letter}{k}", (), p, q, "train", source=s) for k, (p, q, s) in enumerate(rows)]
        return bench(tmp_path_factory.mktemp("b") / letter, cases, name=letter)

    def outcome(a, b, allow):
        try:
            return check_apart(a, "train", b, allow=allow)["compared"]["patients"]
        except InputError:
            return None

    a, b = make(one, "a"), make(other, "b")
    for allow in ("", "a reason"):
        forth, back = outcome(a, b, allow), outcome(b, a, allow)
        assert (forth is None) == (back is None) and (forth is None or forth == back[::-1])
    mine, theirs = ({(p.casefold(), s) for p, _, s in rows if p and s} for rows in (one, other))
    if mine & theirs:
        assert outcome(a, b, "a reason") is None
    if {p.casefold() for p, _, _ in one if p} & {p.casefold() for p, _, _ in other if p}:
        assert outcome(a, b, "") is None


def test_alike_pictures_are_listed_once(tmp_path):
    a, b = pair(tmp_path, {}, {})
    alike = Alike([("images/1.png", "images/2.png", "the same pixels")], 1, 1, 0, "rule")
    with pytest.raises(InputError, match="shares with clinic: 1 pictures"):
        check_apart(a, "train", b, alike=alike)
    both = {"images/1.png": encoded(picture(1))}
    for name in ("c", "d"):
        bench(tmp_path / name, [Case(name, (Image("images/1.png"),), split="train")], name, both)
    with pytest.raises(InputError, match="shares with d: 1 pictures"):
        check_held_apart(tmp_path / "c", RECIPE, [tmp_path / "d"])
