"""The folder of a checkpoint: what it may hold before a fit begins."""

import pytest
from checkpoints import contents, refused

import infimum
from infimum import CheckpointError


@pytest.mark.parametrize("left", [(), ("evaluations.bin",), ("checkpoint.json.part",)])
def test_killed_before_it_began(skewed, tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    infimum.fit(skewed, "meanfield", checkpoint=tmp_path, draws=200)
    assert set(contents(tmp_path)) == {"evaluations.bin", "checkpoint.json"}


def test_what_is_no_checkpoint_is_left_alone(skewed, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    refused("is not empty, and holds no checkpoint", tmp_path, skewed, "meanfield")
    file = tmp_path / "thesis.tex"
    with pytest.raises(CheckpointError, match="is a file, expected a folder"):
        infimum.fit(skewed, "meanfield", checkpoint=file)
    with pytest.raises(TypeError, match="checkpoint is 3, expected the path of a folder"):
        infimum.fit(skewed, "meanfield", checkpoint=3)
    with pytest.raises(ValueError, match="budget is -1"):
        infimum.fit(skewed, budget=-1, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()
