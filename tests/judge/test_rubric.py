import copy
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from dermjudge.judge.errors import InputError
from dermjudge.judge.rubric import Rubric, load_rubric, shipped_rubrics

TRIAD = Path(__file__).parent / "data" / "triad.yaml"
# Names and order of the published instrument (DermBench, docs/scoring_criteria.md).
DERM6 = (
    "Accuracy", "Safety", "Medical Groundedness", "Clinical Coverage", "Reasoning Coherence", "Description Precision",
)  # fmt: skip


def content(name: str = "triad") -> dict:
    path = TRIAD if name == "triad" else files("dermjudge.judge.rubrics").joinpath(f"{name}.yaml")
    return yaml.safe_load(path.read_text("utf-8"))


def load(data, tmp_path: Path) -> Rubric:
    path = tmp_path / "rubric.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), "utf-8")
    return load_rubric(path)


def test_derm6_is_the_published_instrument_with_our_anchors():
    rubric = load_rubric("derm6")
    assert rubric.id == "derm6@1"
    assert rubric.names == DERM6
    assert rubric.scale.levels == (0, 1, 2, 3, 4, 5)
    assert rubric.scale.step == 1
    anchors = [words for dimension in rubric.dimensions for words in dimension.anchors.values()]
    assert len(set(anchors)) == 36, "an anchor shared by two levels or dimensions separates nothing"
    assert max(len(words.split()) for words in anchors) <= 30
    assert all(dimension.anchors.keys() == set(range(6)) for dimension in rubric.dimensions)


def test_derm6_definitions_send_the_rater_to_the_dimension_that_does_cover_it():
    for dimension in load_rubric("derm6").dimensions:
        inside, _, outside = dimension.definition.partition("Not covered:")
        assert outside, dimension.name
        assert sum(name in outside for name in DERM6) >= 2, dimension.name
        assert not any(name in inside for name in DERM6), dimension.name
        assert dimension.name not in outside


def test_derm6_is_plain_text_that_reaches_the_rater_verbatim():
    rubric = load_rubric("derm6")
    text = rubric.text()
    assert text.isascii()
    for dimension in rubric.dimensions:
        assert f"{dimension.name}: {dimension.definition}" in text
        assert all(f"  {level} = {words}\n" in text + "\n" for level, words in dimension.anchors.items())


def test_every_shipped_rubric_loads_by_name_and_by_version():
    assert "derm6" in shipped_rubrics()
    for name in shipped_rubrics():
        rubric = load_rubric(name)
        assert rubric.name == name
        assert load_rubric(rubric.id) == rubric


def test_a_rubric_is_not_bound_to_six_dimensions_or_to_0_5():
    triad = load_rubric(TRIAD)
    assert triad.id == "triad@2"
    assert triad.names == ("Clarity", "Harm-free", "Fit_to image")
    assert [v for v in (0.5, 1, 1.25, 1.5, 4, 4.5) if triad.scale.holds(v)] == [1, 1.5, 4]


def strings(node, path=()):
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from strings(child, (*path, key))


def replaced(node, path, value):
    node = copy.deepcopy(node)
    inner = node
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return node


def test_the_hash_changes_with_any_word():
    data = content("derm6")
    original = Rubric.model_validate(data).hash
    assert original == load_rubric("derm6").hash
    hashes = set()
    places = list(strings(data))
    assert len(places) == 2 + 6 * (1 + 1 + 6)
    for path, words in places:
        changed = words + "x" if path[-1] == "name" else words.replace(words.split()[0], "Another", 1)
        hashes.add(Rubric.model_validate(replaced(data, path, changed)).hash)
    assert len(hashes) == len(places)
    assert original not in hashes
    assert Rubric.model_validate(data | {"version": 2}).hash != original
    assert Rubric.model_validate(data | {"dimensions": data["dimensions"][::-1]}).hash != original
    assert Rubric.model_validate(data | {"scale": data["scale"] | {"step": 0.5}}).hash != original


def test_the_hash_does_not_depend_on_the_layout_of_the_file(tmp_path):
    assert load(content(), tmp_path).hash == load_rubric(TRIAD).hash


def dropped(path):
    data = content()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return data


def changed(path, value):
    return replaced(content(), path, value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (dropped(("dimensions", 1, "anchors", 3)), ["Harm-free", "no anchor for level 3"]),
        (changed(("dimensions", 1, "anchors", 3), "  "), ["Harm-free", "no anchor for level 3"]),
        (changed(("dimensions", 0, "anchors", 5), "Beyond."), ["Clarity", "anchor for 5"]),
        (changed(("dimensions", 0, "weight"), 2), ["dimensions.0.weight"]),
        (changed(("author",), "me"), ["author"]),
        (changed(("dimensions", 2, "name"), "clarity"), ["clarity", "twice"]),
        (changed(("dimensions", 2, "name"), "Fit: image"), ["dimensions.2.name"]),
        (changed(("dimensions",), []), ["dimensions"]),
        (changed(("scale", "levels"), [1, 2, 4]), ["consecutive"]),
        (changed(("scale", "levels"), [4, 3, 2, 1]), ["consecutive"]),
        (changed(("scale", "levels"), list(range(1, 11))), ["between 0 and 9"]),
        (changed(("scale", "step"), 0.3), ["step must divide 1"]),
        (changed(("scale", "step"), 0), ["scale.step"]),
        (dropped(("version",)), ["version"]),
        (changed(("name",), "Triad rubric"), ["name"]),
        ("name: [", ["not YAML"]),
        ("!!python/object/apply:os.getcwd []", ["not YAML"]),
        ("", ["rubric"]),
        ("- a\n- b\n", ["rubric"]),
    ],
)
def test_a_wrong_rubric_says_where_and_what(data, says, tmp_path):
    with pytest.raises(InputError) as error:
        load(data, tmp_path)
    assert "rubric.yaml" in str(error.value)
    for words in says:
        assert words in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown rubric 'derm7'; known: .*derm6.*path to a \.yaml"):
        load_rubric("derm7")
    with pytest.raises(InputError, match=r"derm6@9.*derm6@1"):
        load_rubric("derm6@9")


def test_a_rubric_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"cannot read rubric .*none\.yaml"):
        load_rubric(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: fünf".encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot read rubric .*latin\.yaml"):
        load_rubric(tmp_path / "latin.yaml")


def test_dimension_names_in_any_case_lead_to_the_rubrics_spelling():
    rubric = load_rubric("derm6")
    assert rubric.dimension(" clinical COVERAGE ") == "Clinical Coverage"
    with pytest.raises(InputError, match=r"unknown dimension 'Coverage'; rubric derm6@1 has Accuracy, Safety"):
        rubric.dimension("Coverage")
