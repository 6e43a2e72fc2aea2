"""Tasks of a corrected data set, checked by Label Studio's own SDK."""

from __future__ import annotations

import io

import numpy as np
import orjson
import pytest

from service.exports.corrected.class_table import class_table
from service.exports.corrected.decisions import reviewed_decisions
from service.exports.corrected.files import write_label_studio
from service.exports.corrected.table import Layout
from service.exports.label_studio import labelling_config
from service.exports.options import export_options
from service.queries.view import View
from tests.exports.corrected.standings import review, verdicts
from tests.runs.temp_runs import temp_runs

# The SDK of Label Studio warns of its own use of pydantic when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")


@pytest.mark.parametrize("names", [{}, {"from_name": "animal", "to_name": "sound", "data_key": "text"}])
def test_the_label_to_use_is_the_annotation(names: dict[str, str]) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    reviews = verdicts({"0": review("ada", "wrong", 1), "1": review("ada", "exclude")})
    with temp_runs() as runs:
        runs.create(class_names=["cat", "dog"])
        runs.put(np.float32([[1, 0]] * 3), [0] * 3, ["0", "1", "2"], attributes={"text": ["wow", "mew", None]})

        def write(view: View) -> tuple[bytes, str]:
            file, options = io.BytesIO(), export_options(view, None, 0, 0, names)
            write_label_studio(file, class_table(view, reviewed_decisions(reviews), Layout()), options)
            return file.getvalue(), labelling_config(("cat", "dog"), options)

        content, config = runs.ask(write)
    tasks, checked = orjson.loads(content), interface(config)
    labels = [[region["value"]["choices"] for one in task["annotations"] for region in one["result"]] for task in tasks]
    assert labels == [[["dog"]], [], [["cat"]]]
    # An example without the attribute is shown by its id.
    assert [task["data"]["text"] for task in tasks] == ["wow", "mew", "2"]
    for task in tasks:
        # `validate_task` of this SDK calls `validate_annotation` without an argument.
        assert checked.validate_task({"data": task["data"]})
        for annotation in task["annotations"]:
            assert checked.validate_annotation(annotation)
