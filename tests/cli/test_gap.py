"""`gap` on two small SYNTHETIC benchmarks."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from dermjudge.benchmarks import synthetic
from dermjudge.cli.gap_verb import gap
from dermjudge.judge.errors import InputError
from dermjudge.judge.tables import write_narratives, write_ratings

app = typer.Typer()
app.command()(gap)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two SYNTHETIC benchmarks; under image_only stands what the system that misreads says (alder -> cedar)."""
    home = tmp_path_factory.mktemp("gap")
    found = []
    for name, seed in (("public", 1), ("local", 2)):
        made = synthetic.generate(home / name, 70, seed=seed)
        texts = [replace(n, system="m") for n in made.narratives if n.system == "alder"]
        texts += [replace(n, system="m", arm="image_only") for n in made.narratives if n.system == "cedar"]
        write_narratives(texts, home / f"{name}.jsonl")
        rated = [replace(r, system="m") for r in made.ratings if r.system == "alder" and r.rater == "expert-1"]
        rated += [replace(r, system="m", arm="image_only") for r in made.ratings if r.system == "cedar"
                  and r.rater in ("expert-1", "expert-2")]  # fmt: skip
        write_ratings(rated, home / f"{name}-ratings.jsonl")
        found += [home / name, home / f"{name}.jsonl", home / f"{name}-ratings.jsonl"]
    return found


def call(folders, *more):
    public, theirs, _, local, ours, _ = map(str, folders)
    told = [public, local, "--public-narratives", theirs, "--local-narratives", ours, "--least", "8", *more]
    return CliRunner().invoke(app, told, catch_exceptions=False)


def test_table_and_json_say_the_same_and_that_it_is_synthetic(folders):
    told = call(folders, "--k", "1,3", "--resamples", "200")
    assert told.exit_code == 0 and told.stdout.startswith("SYNTHETIC: synthetic, synthetic.")
    found = json.loads(call(folders, "--json", "--resamples", "200").stdout)
    rows = {(r["measure"], r["local_arm"], r["system"]): r for r in found["rows"]}
    names = {"top_1", "top_3", "lenient_1", "lenient_3", "sensitivity", "specificity"}
    assert {key[0] for key in rows} == names and {key[1] for key in rows} == {"image_only", "image_context"}
    assert found["synthetic"] == ["synthetic", "synthetic"] and found["arm"] == "image_only"
    row = rows["top_1", "image_only", "m"]
    assert row["gap"]["value"] == pytest.approx(row["mix"]["value"] + row["within"]["value"])
    assert f"{row['public']['value']:.2f} [{row['public']['low']:.2f}, {row['public']['high']:.2f}]" in told.stdout
    context = next(d for d in found["context"]["deltas"] if (d["measure"], d["system"]) == ("top_1", "m"))
    better = rows["top_1", "image_context", "m"]["local"]["value"] - row["local"]["value"]
    assert context["difference"]["value"] == pytest.approx(better) and better > 0  # alder sees, cedar misreads


def test_overall_scores_of_a_judge_are_compared_where_both_have_them(folders):
    more = ("--public-ratings", str(folders[2]), "--local-ratings", str(folders[5]), "--resamples", "200")
    found = json.loads(call(folders, *more, "--judge", "expert-1", "--json").stdout)
    row = next(r for r in found["rows"] if (r["measure"], r["local_arm"]) == ("overall", "image_only"))
    assert 0 < row["public"]["value"] < 5 and row["public"]["n"] < 70  # some ratings are missing
    with pytest.raises(InputError, match="several raters, expert-1, expert-2"):
        call(folders, *more)
    with pytest.raises(InputError, match="no rating by 'x'; there are expert-1, expert-2"):
        call(folders, *more, "--judge", "x")
    with pytest.raises(InputError, match="only if both sides"):
        call(folders, *more[:2])


def test_bad_depths_are_refused(folders):
    for bad in ("0", "a", "", "1,,3"):
        with pytest.raises(InputError, match="--k takes whole numbers"):
            call(folders, "--k", bad)
