"""How each core expectation of Great Expectations is judged on a file that does not fit into memory.

Names only, so that a pipeline can be checked when it is loaded: importing Great Expectations takes seconds.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The ways to judge an expectation."""

    ROWS = "rows"
    """Row by row, or by the schema alone: chunk by chunk, and the chunks' answers added up."""
    LEAST = "least"
    GREATEST = "greatest"
    """By one extreme: the chunk that holds it answers for the file."""
    COUNT = "count"
    """By the number of rows alone."""
    WHOLE = "whole"
    """By columns that must be seen whole: they are kept on disk meanwhile and judged one expectation at a time."""
    REFUSED = "refused"
    """Asks for another table or a query, which a file does not have."""


_BY_KIND: dict[Kind, tuple[str, ...]] = {
    Kind.ROWS: (
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_pair_values_to_be_in_set",
        "expect_column_to_exist",
        "expect_column_type_to_be",
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_be_null",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_multicolumn_sum_to_equal",
        "expect_multicolumn_values_to_be_equal",
        "expect_select_column_values_to_be_unique_within_record",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    ),
    Kind.LEAST: ("expect_column_min_to_be_between",),
    Kind.GREATEST: ("expect_column_max_to_be_between",),
    Kind.COUNT: ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"),
    Kind.WHOLE: (
        "expect_column_distinct_values_to_be_in_set",
        "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set",
        "expect_column_kl_divergence_to_be_less_than",
        "expect_column_mean_to_be_between",
        "expect_column_median_to_be_between",
        "expect_column_most_common_value_to_be_in_set",
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_quantile_values_to_be_between",
        "expect_column_stdev_to_be_between",
        "expect_column_sum_to_be_between",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_outliers",
        "expect_compound_columns_to_be_unique",
    ),
    Kind.REFUSED: (
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    ),
}
KINDS: dict[str, Kind] = {name: kind for kind, names in _BY_KIND.items() for name in names}


def kind_of(expectation: str) -> Kind | None:
    """How an expectation is judged; None for a name that Great Expectations does not have."""
    return KINDS.get(expectation)


def remedy_for(expectation: str) -> str:
    """Why a suite may not hold an expectation and what to write instead, or "" if it may."""
    kind = kind_of(expectation)
    if kind is Kind.REFUSED:
        return (
            "asks for a second table or a query, and a file has neither; express it on the file's own columns, "
            "for example with expect_table_row_count_to_be_between or expect_column_values_to_be_in_set"
        )
    if kind is None:
        return "is no core expectation of Great Expectations; correct its name or remove it"
    return ""
