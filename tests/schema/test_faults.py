"""Errors of invalid requests: the detail and the place that they name."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from service.errors import InvalidConfigError, InvalidLogitError, InvalidRequestError
from service.schema.faults import fault, request_fault, validation_fault
from service.schema.json_values import JsonObject


class TestFault:
    def test_in_a_cell_of_a_batch(self) -> None:
        error = fault(InvalidLogitError, "logit NaN", "logits", batch=0, row=17, column=3)
        assert type(error) is InvalidLogitError
        assert error.detail == "batch 0, row 17, column 3: logit NaN"
        assert error.errors == [{"loc": ["batches", 0, "logits", 17, 3], "msg": "logit NaN"}]

    @pytest.mark.parametrize(("element", "text"), [([5], "5"), ([5, 6], "[5, 6]")])
    def test_in_an_element_of_a_row(self, element: list[int], text: str) -> None:
        error = fault(InvalidLogitError, "logit NaN", "logits", batch=0, row=17, element=element, column=3)
        assert error.detail == f"batch 0, row 17, element {text}, column 3: logit NaN"
        assert error.errors[0]["loc"] == ["batches", 0, "logits", 17, *element, 3]

    def test_detail_may_say_more_than_the_item(self) -> None:
        error = fault(InvalidRequestError, "missing", "targets", batch=2, detail="targets missing")
        assert error.detail == "batch 2: targets missing"
        assert error.errors == [{"loc": ["batches", 2, "targets"], "msg": "missing"}]

    def test_outside_of_batches(self) -> None:
        error = fault(InvalidRequestError, "unknown field 'x'", "query", "fields")
        assert error.detail == "unknown field 'x'"
        assert error.errors == [{"loc": ["query", "fields"], "msg": "unknown field 'x'"}]


class Request(BaseModel):
    model_config = {"extra": "forbid", "strict": True}

    config: dict[str, int] = {}
    top_k: int = 0


def validation_error(value: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Request.model_validate(value)
    return caught.value


class TestValidationErrors:
    def test_each_is_an_item_behind_the_prefix(self) -> None:
        error = validation_fault(InvalidRequestError, validation_error({"top_k": "x" * 200, "colour": 1}), "body")
        assert [item["loc"] for item in error.errors] == [["body", "top_k"], ["body", "colour"]]
        assert error.errors[1]["msg"] == "unknown field 'colour'"
        assert error.detail.endswith("(and 1 more)")
        assert "x" * 100 in error.detail
        assert "x" * 101 not in error.detail

    def test_a_loc_has_no_branches_of_unions(self) -> None:
        class Item(BaseModel):
            id: str | int
            per_class: Literal["equal"] | dict[str, Annotated[int, Field(ge=0)]]

        with pytest.raises(ValidationError) as caught:
            Item.model_validate({"id": 1.5, "per_class": {"str": -1}})
        error = validation_fault(InvalidRequestError, caught.value)
        assert [item["loc"] for item in error.errors] == [["id"], ["id"], ["per_class"], ["per_class", "str"]]

    def test_the_detail_of_a_whole_request_has_no_place(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Request.model_validate(3)
        error = validation_fault(InvalidRequestError, caught.value)
        assert error.errors[0]["loc"] == []
        assert error.detail == error.errors[0]["msg"]

    def test_are_listed_up_to_a_number(self) -> None:
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(dict[str, int]).validate_python({f"{number:06}" * 100: "x" for number in range(1000)})
        error = validation_fault(InvalidRequestError, caught.value)
        assert [len(item["loc"]) for item in error.errors] == [1] * 100
        assert all(len(str(item["loc"][0])) == 100 for item in error.errors)
        assert error.detail.endswith("(and 999 more)")

    def test_are_of_the_configuration_if_all_are(self) -> None:
        assert type(request_fault(validation_error({"config": {"gamma": "2"}}))) is InvalidConfigError
        assert type(request_fault(validation_error({"config": {"gamma": "2"}, "top_k": "3"}))) is InvalidRequestError


def test_json_object_is_a_type_that_pydantic_validates() -> None:
    value = {"a": [1, 2.5, None, {"b": True}], "c": "text"}
    assert TypeAdapter(JsonObject).validate_python(value) == value
