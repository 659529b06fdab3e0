"""Compile a data contract to Great Expectations suites, one a table.

| in the contract                                | expectation                         |
|------------------------------------------------|-------------------------------------|
| required: true                                 | values not null                     |
| unique: true                                   | values unique                       |
| logicalTypeOptions minimum / maximum           | values between                      |
| logicalTypeOptions minLength / maxLength       | value lengths between               |
| logicalTypeOptions pattern                     | values match regex                  |
| quality invalidValues, validValues, mustBe 0   | values in set                       |
| quality rowCount, mustBeGreaterThan n          | table row count at least n + 1      |
| quality custom, engine greatExpectations       | the expectation it names            |

Anything else in `quality` is refused: a rule that is not checked is not a rule.
"""

from datetime import datetime
from typing import Any

from open_data_contract_standard.model import (
    DataQuality,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)

from data_contracts.errors import ConfigError


def compile_suites(contract: OpenDataContractStandard) -> dict[str, Any]:
    """{table name: great_expectations ExpectationSuite}; each expectation's meta names its rule.

    Raises:
        ConfigError: a quality rule that has no counterpart.
    """
    import great_expectations as gx

    suites = {}
    for table in contract.schema_ or []:
        suite = gx.ExpectationSuite(name=f"{contract.id}.{table.name}.{contract.version}")
        for expectation in _table_expectations(table):
            suite.add_expectation(expectation)
        suites[str(table.name)] = suite
    return suites


def _table_expectations(table: SchemaObject) -> list[Any]:
    found = [_table_rule(table, quality) for quality in table.quality or []]
    for column in table.properties or []:
        found += _column_expectations(str(table.name), column)
    return found


def _column_expectations(table: str, column: SchemaProperty) -> list[Any]:
    from great_expectations import expectations as gxe

    name = str(column.name)
    options = column.logicalTypeOptions or {}

    def rule(what: str) -> dict[str, Any]:
        return {"column": name, "meta": {"rule": f"{table}.{name}: {what}"}}

    found: list[Any] = []
    if column.required:
        found.append(gxe.ExpectColumnValuesToNotBeNull(**rule("missing")))
    if column.unique:
        found.append(gxe.ExpectColumnValuesToBeUnique(**rule("not unique")))
    if (bounds := _bounds(options, "minimum", "maximum")) is not None:
        low, high = bounds
        what = rule(f"not {_range(low, high)}")
        if column.logicalType in ("date", "timestamp"):
            low, high = (value and datetime.fromisoformat(value) for value in bounds)
        found.append(gxe.ExpectColumnValuesToBeBetween(min_value=low, max_value=high, **what))
    if (bounds := _bounds(options, "minLength", "maxLength")) is not None:
        low, high = bounds
        found.append(
            gxe.ExpectColumnValueLengthsToBeBetween(
                min_value=low, max_value=high, **rule(f"length not {_range(low, high)}")
            )
        )
    if "pattern" in options:
        pattern = options["pattern"]
        found.append(
            gxe.ExpectColumnValuesToMatchRegex(regex=pattern, **rule(f"does not match {pattern}"))
        )
    found += [_column_rule(table, name, quality) for quality in column.quality or []]
    return found


def _bounds(options: dict[str, Any], low: str, high: str) -> tuple[Any, Any] | None:
    return (options.get(low), options.get(high)) if low in options or high in options else None


def _range(low: Any, high: Any) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"


def _column_rule(table: str, column: str, quality: DataQuality) -> Any:
    from great_expectations import expectations as gxe

    meta = {"rule": f"{table}.{column}: {quality.name or quality.metric}"}
    values = (quality.arguments or {}).get("validValues")
    if quality.metric == "invalidValues" and quality.mustBe == 0 and values:
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, meta=meta)
    return _custom_rule(quality, meta, column=column)


def _table_rule(table: SchemaObject, quality: DataQuality) -> Any:
    from great_expectations import expectations as gxe

    meta = {"rule": f"{table.name}: {quality.name or quality.metric}"}
    if quality.metric == "rowCount" and quality.mustBeGreaterThan is not None:
        return gxe.ExpectTableRowCountToBeBetween(
            min_value=int(quality.mustBeGreaterThan) + 1, meta=meta
        )
    return _custom_rule(quality, meta)


def _custom_rule(quality: DataQuality, meta: dict[str, str], **target: str) -> Any:
    """`type: custom`: `implementation` is {expectation: ExpectSomething, its arguments ...}."""
    from great_expectations import expectations as gxe

    implementation = quality.implementation
    if quality.engine in ("greatExpectations", "great-expectations") and isinstance(
        implementation, dict
    ):
        options = dict(implementation)
        expectation = getattr(gxe, str(options.pop("expectation", "")), None)
        if expectation is not None:
            return expectation(meta=meta, **target, **options)
    raise ConfigError(
        f"the contract's quality rule {meta['rule']!r} cannot be checked",
        "use invalidValues with validValues and mustBe 0, rowCount with mustBeGreaterThan,"
        " or type: custom with engine: greatExpectations",
    )
