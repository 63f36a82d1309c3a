"""Saves things with torch and reads them back with `read_tree`."""

from __future__ import annotations

import pytest
import torch

from deadneuron.checkpoints.files.reading import read_tree

FORMS = [pytest.param(True, id="zip"), pytest.param(False, id="legacy")]


def save(thing, path, as_zip=True):
    torch.save(thing, path, _use_new_zipfile_serialization=as_zip)
    return path


def saved(thing, folder, as_zip=True, **options):
    """The thing as `read_tree` gives it."""
    return read_tree(save(thing, folder / "file.pt", as_zip), **options).root
