from edge.table import table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "LONGER"), [("xyz", "1"), ("", "23")], width=80, wrapped=()) == "A    LONGER\nxyz  1\n     23"


def test_the_widest_column_is_wrapped_first_and_no_line_is_too_long() -> None:
    rows = [("short", "word " * 12, "other " * 4), ("x", "y", "z")]
    text = table(("ONE", "TWO", "THREE"), rows, width=50, wrapped=(1, 2))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[1].startswith("short  word word")
    assert lines[-1].split() == ["x", "y", "z"]
    assert lines[0].index("TWO") == lines[1].index("word")
    assert lines[0].index("THREE") == lines[1].index("other")


def test_a_table_that_cannot_be_narrower_is_whole_all_the_same() -> None:
    text = table(("ONE", "TWO"), [("a" * 30, "b" * 30)], width=20, wrapped=(1,))
    assert text.count("a") == text.count("b") == 30


def test_device_names_are_not_torn_at_their_hyphens() -> None:
    text = table(("ID", "X"), [("usb-046d_Webcam-index0", "y " * 30)], width=60, wrapped=(0, 1))
    assert "usb-046d_Webcam-index0" in text
