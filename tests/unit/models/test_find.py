"""From the `model:` line to a folder, with the hub's refusals as sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tunebook.errors import ModelError
from tunebook.models import find
from tunebook.models.find import find_model


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (GatedRepoError, ["gated", "HF_TOKEN", "terms"]),
        (RepositoryNotFoundError, ["not on the hub", "HF_TOKEN"]),
        (RevisionNotFoundError, ["no revision", "'v9'"]),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, refusal: type[Exception], expected: list[str]
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        # Built without its response: which HTTP library the hub client uses is its own affair.
        raise refusal.__new__(refusal)

    monkeypatch.setattr(find, "snapshot_download", refuse)
    with pytest.raises(ModelError) as caught:
        find_model("org/model@v9")
    for word in expected:
        assert word in str(caught.value)


def test_a_model_with_its_own_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModelForCausalLM": "x.Y"}}')
    with pytest.raises(ModelError, match="brings its own Python code"):
        find_model(str(tmp_path))


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter"):
        find_model(str(tmp_path))


def test_the_embedded_model_is_where_its_name_says() -> None:
    assert (find_model("tunebook/tiny") / "tokenizer.json").is_file()
