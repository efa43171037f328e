import csv

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.text_tables import csv_reader, csv_text

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\r",; '))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcde"), CELL, min_size=1), min_size=1))
def test_tables_are_read_as_they_were_written(rows):
    reader = csv_reader(csv_text(rows), csv.DictReader)
    columns = [name for row in rows for name in row]
    assert reader.fieldnames == sorted(set(columns), key=columns.index)
    # A row of nothing but one empty cell is written as "", which is no blank line.
    assert list(reader) == [{name: row.get(name, "") for name in reader.fieldnames} for row in rows]
