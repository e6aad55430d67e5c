"""A network as one NumPy file comes back as it was, or says what is wrong with the file."""

import numpy as np
import pytest
import tiny

from lapjax.checkpoints.npz import read_weights, write_weights
from lapjax.checkpoints.run import load_run
from lapjax.errors import LapjaxError


@pytest.mark.parametrize("model", [tiny.FAST, tiny.POSTER])
def test_there_and_back(tmp_path, model):
    config, variables = tiny.config("x.npz", model=vars(model)), tiny.variables(model)
    path = tmp_path / "new" / "a.npz"
    write_weights(path, variables, config=config, scheme=tiny.EYES, step=7, info={"terms": "none"})
    back = load_run(path)
    tiny.assert_same(back.variables, variables)
    assert (back.config, back.scheme, back.step, back.info) == (config, tiny.EYES, 7, {"terms": "none"})
    assert back.calibration is None and back.terms == "none"
    with pytest.raises(LapjaxError, match="holds one model"):
        load_run(path, which="last")


def test_other_files(tmp_path):
    with pytest.raises(LapjaxError, match="cannot read .*no.npz: No such file"):
        read_weights(tmp_path / "no.npz")
    pack = tiny.write_pack(tmp_path)
    with pytest.raises(LapjaxError, match="holds lapjax-pack 1: it has no weights"):
        load_run(pack)
    whole = tmp_path / "whole.npz"
    known = {"config": tiny.config(pack), "scheme": tiny.EYES, "step": 1, "info": {}}
    write_weights(whole, tiny.variables(tiny.FAST), **known)
    (tmp_path / "half.npz").write_bytes(whole.read_bytes()[:2000])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("half.npz", "other.npz"):
        with pytest.raises(LapjaxError, match="not a file of lapjax's weights"):
            read_weights(tmp_path / name)
