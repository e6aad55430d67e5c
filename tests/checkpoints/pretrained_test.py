"""Names, files and run directories, told apart; what ships is what its record says."""

import hashlib
import json

import pytest

from lapjax import Localizer
from lapjax.checkpoints import pretrained
from lapjax.errors import LapjaxError, TermsWarning


def test_a_path_that_exists_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = next(iter(pretrained.files()))
    assert pretrained.find(first) == pretrained.files()[first]
    (tmp_path / first).mkdir()
    assert pretrained.find(first).is_dir() and str(pretrained.find(first)) == first


def test_no_name_is_the_default():
    assert pretrained.find(None) == pretrained.files()[pretrained.DEFAULT]


def test_no_such_thing():
    with pytest.raises(LapjaxError, match="no file or run directory face-69, .*: did you mean 'face-68'?"):
        pretrained.find("face-69")
    with pytest.raises(LapjaxError, match="no shipped model of that name: there are .*face-68"):
        pretrained.find("runs/a")
    with pytest.raises(LapjaxError, match="^3 is no file"):
        pretrained.find(3)


def test_every_file_is_as_its_record_says():
    assert pretrained.files().keys() == pretrained.list_pretrained().keys()
    for name, said in pretrained.list_pretrained().items():
        content = pretrained.files()[name].read_bytes()
        assert said["bytes"] == len(content) and said["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_sizes_that_were_promised():
    sizes = [path.stat().st_size for path in pretrained.files().values()]
    for most in (100_000, 400_000, 1_000_000):
        assert any(size <= most for size in sizes)
    assert max(sizes) <= 1_000_000


@pytest.mark.parametrize("name", pretrained.files())
def test_terms_are_told_on_load(name, recwarn):
    said = pretrained.list_pretrained()[name]
    if said["terms"] is None:
        Localizer.load(name)
        assert not recwarn.list
        return
    with pytest.warns(TermsWarning, match="research") as told:
        locate = Localizer.load(name)
    assert str(told[0].message) == f"{name}: {said['terms']}" and told[0].filename == __file__
    assert locate.card.provenance["terms"] == said["terms"] and locate.card.name == name


def test_the_record_is_plain_json():
    assert json.loads(json.dumps(pretrained.list_pretrained())) == pretrained.list_pretrained()
