import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from dermjudge.evaluators.multiplicity import adjust
from dermjudge.judge.errors import InputError

P = [0.001, 0.2, 0.03, 0.03, 0.9, 0.012, 0.0]


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")])
def test_against_statsmodels(ours, theirs):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert adjust(P, ours) == pytest.approx(multitest.multipletests(P, method=theirs)[1].tolist(), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_against_scipy(p):
    assert adjust(p, "bh") == pytest.approx(false_discovery_control(p, method="bh").tolist(), abs=1e-12)
    assert adjust(p, "by") == pytest.approx(false_discovery_control(p, method="by").tolist(), abs=1e-12)


def test_no_test_is_not_counted():
    assert adjust([0.01, None, 0.04], "holm") == [0.02, None, 0.04]
    assert adjust([None]) == [None]
    assert adjust([]) == []


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="holm, bh, by"):
        adjust([0.1], "bonferroni")
    with pytest.raises(InputError, match=r"1\.5"):
        adjust([0.1, 1.5])
    with pytest.raises(InputError, match="nan"):
        adjust([np.nan])
