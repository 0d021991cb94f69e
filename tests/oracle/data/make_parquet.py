"""Makes tests/golden/data/parquet/: small files as pyarrow and Hugging Face's datasets write them, and their rows.

    pip install pyarrow==26.0.1
    python tests/oracle/data/make_parquet.py

rows.json holds, for each file, its rows as pyarrow reads them back, without the fields that are null and without pictures.
"""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "golden" / "data" / "parquet"

TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())])
CONVERSATIONS = pa.table({
    "id": pa.array([1, 2, 3, 4], pa.int64()),
    "messages": pa.array([
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ünïcode? 日本\n\"quoted\""},
         {"role": "assistant", "content": "Yes", "weight": 0}, {"role": "user", "content": "And?"},
         {"role": "assistant", "content": "No", "weight": 1}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "c" * 300}],
    ], pa.list_(TURN)),
    "score": pa.array([0.5, None, 2.0, -1.25], pa.float64()),
    "tags": pa.array([["x", "y"], [], None, ["z"]], pa.list_(pa.string())),
})
TEXT = pa.table({"text": pa.array([f"document {i} " * (i % 5 + 1) for i in range(50)]),
                 "large": pa.array([f"L{i}" for i in range(50)], pa.large_string()),
                 "kept": pa.array([i % 3 == 0 for i in range(50)])})
BROKEN = pa.table({"text": pa.array(["good", None, "good again"]), "n": pa.array([1, 2, 3])})
ALPACA = pa.table({"instruction": ["Add.", "Say hi."], "input": ["1 2", ""], "output": ["3", "hi"]})

# Roles as dictionaries, long strings, calls in some messages alone, contents of parts, and a column that is no text.
CALL = {"id": "c1", "type": "function", "function": {"name": "rain", "arguments": '{"city": "Oslo"}'}}
CALLS = pa.table({
    "messages": pa.array([
        [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
         {"role": "tool", "content": "yes", "tool_call_id": "c1"}, {"role": "assistant", "content": "It rains."}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "tool_calls": []}]],
        pa.large_list(pa.struct([
            ("role", pa.dictionary(pa.int8(), pa.string())), ("content", pa.large_string()), ("tool_call_id", pa.string()),
            ("tool_calls", pa.list_(pa.struct([("id", pa.string()), ("type", pa.string()), ("function", pa.struct(
                [("name", pa.string()), ("arguments", pa.string())]))])))]))),
    "tools": ["[]", None],
    "picture": pa.array([b"\xff\xd8", b"\x00"], pa.binary()),
})
PARTS = pa.Table.from_pylist([{"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
                               "completion": [{"role": "assistant", "content": [{"type": "text", "text": "c"}]}]}])
SHAREGPT = pa.Table.from_pylist([
    {"conversations": [{"from": "human", "value": f"q{i}", "weight": None}, {"from": "gpt", "value": f"a{i}", "weight": 1.0},
                       {"from": "human", "value": "more", "weight": None}, {"from": "gpt", "value": "b", "weight": i % 2}],
     "system": "S" if i % 2 else None} for i in range(5)])


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, table, options in (
            ("conversations", CONVERSATIONS, {"compression": "snappy"}),
            ("text", TEXT, {"compression": "zstd", "row_group_size": 7, "data_page_version": "2.0"}),
            ("broken", BROKEN, {"compression": "none", "use_dictionary": False}),
            ("alpaca", ALPACA, {"compression": "gzip"}),
            ("calls", CALLS, {"compression": "zstd", "row_group_size": 1}),
            ("parts", PARTS, {"compression": "snappy", "data_page_version": "2.0"}),
            ("sharegpt", SHAREGPT, {"compression": "snappy", "row_group_size": 2})):
        pq.write_table(table, FOLDER / f"{name}.parquet", **options)
        table = pq.read_table(FOLDER / f"{name}.parquet")
        rows[name] = [without_nulls(row) for row in table.select([c for c in table.column_names if c != "picture"]).to_pylist()]
    (FOLDER / "rows.json").write_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
