"""The restart for huge pages happens once, where it helps, and changes nothing else."""

import os
import platform
import sys

import pytest

from lapjax.cpu import with_huge_pages


@pytest.fixture
def restarts(monkeypatch):
    """The calls of os.execv, on what looks like Linux with glibc and no tunables."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    return calls


@pytest.mark.parametrize(
    "argv",
    [["python", "-m", "lapjax", "train"], ["/bin/python", "-X", "dev", "bin/lapjax", "train", "--seed=1"]],
)
def test_restarts_as_it_was_called(restarts, monkeypatch, argv):
    monkeypatch.setattr(sys, "orig_argv", argv)
    with_huge_pages()
    assert restarts == [(sys.executable, [sys.executable, *argv[1:]])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_restarts_once(restarts):
    with_huge_pages()
    with_huge_pages()
    assert len(restarts) == 1


def test_other_tunables_stay(restarts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    with_huge_pages()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=3:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("value", ["glibc.malloc.hugetlb=0", "glibc.malloc.check=3:glibc.malloc.hugetlb=2"])
def test_a_choice_already_made_stands(restarts, monkeypatch, value):
    monkeypatch.setenv("GLIBC_TUNABLES", value)
    with_huge_pages()
    assert not restarts and os.environ["GLIBC_TUNABLES"] == value


@pytest.mark.parametrize(
    ("system", "libc"), [("darwin", ""), ("win32", ""), ("linux", "musl"), ("linux", "")]
)
def test_elsewhere_nothing_happens(restarts, monkeypatch, system, libc):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    with_huge_pages()
    assert not restarts and not os.environ["GLIBC_TUNABLES"]
